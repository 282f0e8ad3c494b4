#!/usr/bin/env python3
"""Holds the Kubernetes manifests against the schemas of Kubernetes, offline, and against each other: `./dev check`.

    check_manifests.py KUSTOMIZE KUBERNETES_VALIDATE

Renders every overlay. Exit status: 0 all is sound, 1 something is not, each thing on a line.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
# Of the Prometheus operator; their groups of rules are held against deploy/prometheus/rules.yml.
WITHOUT_SCHEMA = {"PrometheusRule", "ServiceMonitor"}
SECONDS_OF_THE_DRAIN = 5  # what --drain-timeout has beyond --max-call-seconds
DEFAULT_MAX_CALL = 30


def arguments_of(container: dict) -> dict[str, str]:
    return dict(argument.lstrip("-").split("=", 1) for argument in container["args"])


def problems_of_pods(overlay: str, deployment: dict) -> list[str]:
    found = []
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    flags = arguments_of(container)
    needed = float(flags["drain-delay"]) + float(flags.get("max-call-seconds", DEFAULT_MAX_CALL)) + SECONDS_OF_THE_DRAIN
    if pod["terminationGracePeriodSeconds"] < needed:
        found.append(f"the grace period is shorter than delay, longest call and drain: {needed:g} s")
    if deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        found.append("a rollout takes pods away before new ones are ready")
    restricted = {
        "runAsNonRoot": pod["securityContext"].get("runAsNonRoot") is True,
        "seccompProfile": pod["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": container["securityContext"].get("allowPrivilegeEscalation") is False,
        "readOnlyRootFilesystem": container["securityContext"].get("readOnlyRootFilesystem") is True,
        "capabilities": container["securityContext"].get("capabilities") == {"drop": ["ALL"]},
        "automountServiceAccountToken": pod.get("automountServiceAccountToken") is False,
    }
    found += [f"{name} is not as restricted pods have it" for name, well in restricted.items() if not well]
    resources = container["resources"]
    if overlay != "local":
        if resources["requests"] != resources["limits"] or not resources["limits"]["cpu"].isdigit():
            found.append("requests are not limits, or processors not whole")
    elif "cpu" in resources["limits"]:
        found.append("local limits the processor")
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        if container[probe]["httpGet"]["path"] != path:
            found.append(f"{probe} does not ask {path}")
    return found


def problems_together(objects: list[dict]) -> list[str]:
    """Names and labels by which objects find each other."""
    found = []
    by_kind: dict[str, list[dict]] = {}
    for one in objects:
        by_kind.setdefault(one["kind"], []).append(one)
    (deployment,) = by_kind["Deployment"]
    pod_labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    selectors = [(s, s["spec"]["selector"]) for s in by_kind["Service"]]
    selectors += [(p, p["spec"]["selector"]["matchLabels"]) for p in by_kind["PodDisruptionBudget"]]
    selectors += [(p, p["spec"]["podSelector"]["matchLabels"]) for p in by_kind["NetworkPolicy"]]
    for owner, labels in selectors:
        if not labels.items() <= pod_labels:
            found.append(f"{owner['kind']} {owner['metadata']['name']} selects no pod")
    for service in by_kind["Service"]:
        if not {port["targetPort"] for port in service["spec"]["ports"]} <= ports:
            found.append(f"Service {service['metadata']['name']} has a port that pods have not")
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        if scaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
            found.append("the autoscaler scales nothing")
        if "replicas" in deployment["spec"]:
            found.append("each apply would undo what the autoscaler did: no replicas beside it")
    for monitor in by_kind.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        if not any(wanted <= service["metadata"]["labels"].items() for service in by_kind["Service"]):
            found.append("the ServiceMonitor selects no Service")
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    for rule in by_kind.get("PrometheusRule", []):
        if rule["spec"] != rules:
            found.append("the PrometheusRule has not the groups of deploy/prometheus/rules.yml")
    return found


def problems_of_compose() -> list[str]:
    """What the laptop's services mount is there, and Prometheus and Grafana find what they are given."""
    folder = ROOT / "deploy/compose"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    found = [f"compose mounts {mount}, which is not there" for mount in mounts if not (folder / mount).exists()]
    context = folder / services["headlight"]["build"]["context"]
    if not (context / "Dockerfile").exists():
        found.append("compose builds where there is no Dockerfile")
    source = yaml.safe_load((folder / "grafana/datasource.yaml").read_text())["datasources"][0]
    host, port = source["url"].removeprefix("http://").split(":")
    if host not in services or not any(one.endswith(f":{port}") for one in services[host]["ports"]):
        found.append(f"Grafana asks {source['url']}, where nothing listens")
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    target = scraped["static_configs"][0]["targets"][0].split(":")
    if target[0] not in services or not any(one.endswith(f":{target[1]}") for one in services[target[0]]["ports"]):
        found.append(f"Prometheus scrapes {':'.join(target)}, where nothing listens")
    return found


def problems_of_schema(validate: str, text: str) -> list[str]:
    scratch = ROOT / "build/manifests.yaml"
    scratch.write_text(text)
    done = subprocess.run([validate, "--strict", scratch], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    known = re.compile(rf"Couldn't find schema for kind ({'|'.join(WITHOUT_SCHEMA)}) ")
    return [line for line in said if not line.startswith("INFO") and not known.search(line)]


def main(kustomize: str, validate: str) -> int:
    problems = []
    for overlay in sorted(path.parent for path in OVERLAYS.glob("*/kustomization.yaml")):
        built = subprocess.run([kustomize, "build", overlay], capture_output=True, text=True, check=False)
        if built.returncode != 0:
            problems.append(f"{overlay.name}: {built.stderr.strip()}")
            continue
        objects = [one for one in yaml.safe_load_all(built.stdout) if one]
        (deployment,) = (one for one in objects if one["kind"] == "Deployment")
        found = problems_of_schema(validate, built.stdout) + problems_of_pods(overlay.name, deployment)
        problems += [f"{overlay.name}: {problem}" for problem in found + problems_together(objects)]
        print(f"{overlay.name}: {len(objects)} objects")
    problems += problems_of_compose()
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
