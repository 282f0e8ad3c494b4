#!/usr/bin/env python3
"""Has a real API server check every overlay, strictly, without keeping anything: part of `./dev test --long`.

    strict.py GO

Brings up etcd and an API server in a network namespace of their own, as root. The kinds of Prometheus' operator come from
its own definitions. Exit status: 0 all is taken and what is broken is refused, 1 not so, each thing on a line.
"""

import json
import signal
import sys
from pathlib import Path

import binaries
from kube import Kube, StepFailed
from local import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KINDS = ("servicemonitors", "prometheusrules")
# What a server must refuse, or the check says nothing: a merge patch of each overlay's Deployment.
BROKEN = {
    "a field that does not exist": {"spec": {"replicaz": 2}},
    "a port beyond 65535": {"spec": {"template": {"spec": {"containers": [{"name": "x", "ports": [{"containerPort": 70000}]}]}}}},
    "a selector of other labels": {"spec": {"selector": {"matchLabels": {"app": "other"}}}},
}


def definitions(go: str) -> list[Path]:
    found = json.loads(binaries.run(go, Path("/"), "mod", "download", "-json", OPERATOR))["Dir"]
    return [Path(found) / f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml" for kind in KINDS]


def taken(kube: Kube, *arguments: str, given: str | None = None) -> str:
    """Empty: it is taken. Else why not."""
    try:
        kube("apply", "--dry-run=server", "--validate=strict", *arguments, given=given)
    except StepFailed as failure:
        return str(failure)
    return ""


def merged(one: object, patch: object) -> object:
    if not isinstance(one, dict) or not isinstance(patch, dict):
        return patch
    return {**one, **{key: merged(one.get(key), value) for key, value in patch.items()}}


def problems_of(kube: Kube) -> list[str]:
    found = []
    for overlay in sorted(path.parent for path in (ROOT / "deploy/kubernetes/overlays").glob("*/kustomization.yaml")):
        problem = taken(kube, "-k", str(overlay))
        found += [f"{overlay.name}: {problem}"] if problem else []
        print(f"{overlay.name}: {'refused' if problem else 'taken'}")
    kube("create", "deployment", "sound", "--image=sound")
    sound = kube.read("deployment", "sound")
    sound = {key: sound[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "broken"}}
    for what, patch in BROKEN.items():
        if not taken(kube, "-f", "-", given=json.dumps(merged(sound, patch))):
            found.append(f"{what} is taken")
    print(f"{len(BROKEN)} broken objects tried")
    return found


def main(go: str) -> int:
    # Ended from outside it goes the way of Ctrl-C, and takes the cluster down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    programs = binaries.need(go, ["etcd", "kube-apiserver", "kubectl"])
    cluster = LocalCluster(ROOT / "build/cluster", programs)
    try:
        cluster.start(None, control_plane_only=True)
        kube = Kube(cluster.kubectl, "default")
        for definition in definitions(go):
            kube("apply", "--server-side", "-f", str(definition))
        for kind in KINDS:
            kube("wait", "--for=condition=Established", f"crd/{kind}.monitoring.coreos.com", "--timeout=30s")
        problems = problems_of(kube)
    except (RuntimeError, StepFailed) as failure:
        problems = [str(failure)]
    finally:
        cluster.stop()
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
