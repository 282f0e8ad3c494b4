#!/usr/bin/env python3
"""Tries the manifests on a real Kubernetes, and prints what came of each step: `./dev cluster-test`."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import binaries
import images
import local_metrics
import steps
from kube import Kube, StepFailed
from local import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/cluster"
NAMESPACE = "headlight-test"
# Step, what it does, and whether it needs a cluster that is the test's own.
STEPS = [
    ("deploy", steps.deploy, False),
    ("restricted", steps.refuses_others, False),
    ("round_robin", steps.balances, False),
    ("rollout", steps.rolls_out, False),
    ("negative_control", steps.fails_without_drain, False),
    ("bad_rollout", steps.undoes_a_bad_rollout, False),
    ("disruption_budget", steps.budget_of_disruptions, False),
    ("node_drain", steps.drains_a_node, True),
    ("autoscaler_backlog", steps.scales_out, False),
    ("autoscaler_processor", steps.falls_back_to_the_processor, True),
    ("memory_limit", steps.refuses_before_it_dies, False),
    ("network_policy", steps.policy_lets_clients_alone, True),
]
NEEDED = ("deploy", "round_robin")  # what other steps build upon


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev cluster-test", description=__doc__, epilog="`./dev help cluster-test` says more."
    )
    parser.add_argument("--go", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--parse-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", metavar="STEP,...", help=f"some steps: {', '.join(s for s, _, _ in STEPS)}")
    parser.add_argument("--calls", type=int, default=3000, help="calls that a rollout must not fail (default: %(default)s)")
    parser.add_argument("--load", default="", metavar="COMMAND", help="brings the archive {} of images to the user's cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster and the namespace as they are at the end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts")
    arguments = parser.parse_args()
    arguments.only = [one for one in arguments.only.split(",") if one]
    unknown = set(arguments.only) - {name for name, _, _ in STEPS}
    if arguments.calls < 1:
        parser.error("--calls: at least 1")
    if unknown:
        parser.error(f"there is no step {', '.join(sorted(unknown))}")
    return arguments


def overlay() -> Path:
    """The overlay `local` with the image that was built, in the namespace of the test."""
    folder = FOLDER.with_name("cluster-overlay")
    folder.mkdir(parents=True, exist_ok=True)
    name, _, tag = images.SERVER.rpartition(":")
    relative = os.path.relpath(ROOT / "deploy/kubernetes/overlays/local", folder)
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"namespace: {NAMESPACE}\nresources: [{relative}]\nimages: [{{name: {name}, newTag: {tag}}}]\n"
    )
    return folder


def own_cluster(arguments: argparse.Namespace, archive: Path, stack: ExitStack) -> Kube:
    if os.geteuid() != 0:
        sys.exit("cluster: a cluster of its own needs root (network namespaces); or set KUBECONFIG")
    programs = binaries.need(arguments.go, list(binaries.PROGRAMS))
    cluster = LocalCluster(FOLDER, programs)
    if not arguments.keep:
        stack.callback(cluster.stop)
    began = time.monotonic()
    cluster.start(archive)
    local_metrics.serve(cluster)
    print(f"cluster: Kubernetes {binaries.KUBERNETES}, two nodes, ready after {time.monotonic() - began:.0f} s", flush=True)
    if arguments.keep:
        print(f"cluster: kept; {shlex.join(cluster.kubectl)}", flush=True)
    return Kube(cluster.kubectl, NAMESPACE)


def users_cluster(arguments: argparse.Namespace, archive: Path, stack: ExitStack) -> Kube:
    if arguments.load:
        subprocess.run([part.replace("{}", str(archive)) for part in shlex.split(arguments.load)], check=True)
    kube = Kube(["kubectl"], NAMESPACE)
    if not arguments.keep:
        stack.callback(lambda: kube("delete", "namespace", NAMESPACE, "--timeout=120s", check=False))
    return kube


def run_steps(test: steps.Test, wanted: list[str], own: bool) -> list[dict]:
    verdicts = []
    for name, step, needs_own in STEPS:
        if wanted and name not in wanted and name not in NEEDED:
            continue
        began = time.monotonic()
        verdict = "skipped" if needs_own and not own else "passed"
        said = "only on a cluster of the test's own" if verdict == "skipped" else ""
        if verdict == "passed":
            try:
                said = step(test)
            except StepFailed as failure:
                verdict, said = "FAILED", str(failure)
        seconds = round(time.monotonic() - began, 1)
        verdicts.append({"step": name, "verdict": verdict, "seconds": seconds, "said": said})
        print(f"{verdict:8}{name:22}{seconds:6.1f} s  {said}", flush=True)
        if verdict == "FAILED" and name in NEEDED:
            break
    return verdicts


def main() -> int:
    arguments = parse()
    if arguments.parse_only:
        return 0
    own = not os.environ.get("KUBECONFIG")
    # Ended from outside it goes the way of Ctrl-C, and takes the cluster down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    archive = FOLDER.with_name("cluster-images.tar")
    with ExitStack() as stack:
        try:
            print("cluster: making the images of the test", flush=True)
            images.build_all(archive)
            kube = (own_cluster if own else users_cluster)(arguments, archive, stack)
        except (RuntimeError, StepFailed) as failure:
            print(f"cluster: {failure}", file=sys.stderr)
            if own:
                print(f"cluster: logs are in {FOLDER}-logs", file=sys.stderr)
            return 1
        test = steps.Test(kube, overlay(), images.SERVER, images.NEXT, images.CLIENT, arguments.calls)
        verdicts = run_steps(test, arguments.only, own)
    if arguments.json:
        arguments.json.write_text(json.dumps({"kubernetes": binaries.KUBERNETES, "steps": verdicts}, indent=2) + "\n")
    failed = [one["step"] for one in verdicts if one["verdict"] == "FAILED"]
    passed = sum(one["verdict"] == "passed" for one in verdicts)
    print(f"cluster: {passed} of {len(verdicts)} steps passed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
