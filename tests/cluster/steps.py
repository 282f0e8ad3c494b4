"""What the manifests promise, each seen on a cluster. A step returns what it saw, or raises StepFailed."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from kube import APP, Kube, StepFailed, is_ready, restarts, until
from load import Counts, Load

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Test:
    """What the steps share. `calls`: how many a rollout must not fail."""

    kube: Kube
    overlay: Path
    image: str
    next_image: str
    client_image: str
    calls: int
    load: Load | None = None

    def start_load(self, attempts: int = 1) -> None:
        if self.load:
            self.load.stop()
        kinds = ("--small=2", "--large=1", "--heavy=1")
        self.load = Load(self.kube, "load", self.client_image, *kinds, f"--attempts={attempts}")


def must(is_so: bool, what: str) -> None:
    if not is_so:
        raise StepFailed(what)


def without_failures(counts: Counts, least: int) -> str:
    must(counts.made >= least, f"only {counts.made} calls were made, {least} wanted")
    must(counts.failures == 0, str(counts))
    return str(counts)


def patch(kube: Kube, *operations: dict) -> None:
    kube("patch", "deployment", "headlight", "--type=json", "-p", json.dumps(operations))


def at(path: str, value: object, op: str = "replace") -> dict:
    return {"op": op, "path": f"/spec/template/spec/{path}", "value": value}


def arguments(kube: Kube) -> list[str]:
    return kube.read("deployment", "headlight")["spec"]["template"]["spec"]["containers"][0]["args"]


def deploy(test: Test) -> str:
    """The overlay `local` in a namespace that takes restricted pods only."""
    kube = test.kube
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    labels |= {"headlight.dev/test": "true"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace, "labels": labels}})
    until("the service account", lambda: "default" in kube("get", "serviceaccounts", "-o", "name"))
    began = time.monotonic()
    kube("apply", "--validate=strict", "-k", str(test.overlay))
    kube.rolled_out()
    ready = kube.ready_pods()
    must(len(ready) == 2, f"{len(ready)} pods are ready")
    nodes = {pod["spec"]["nodeName"] for pod in ready}
    return f"2 pods ready on {len(nodes)} nodes after {time.monotonic() - began:.0f} s"


def refuses_others(test: Test) -> str:
    """The namespace's level is in force: a pod that may become root is not taken."""
    asked = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}}
    asked["spec"] = {"containers": [{"name": "root", "image": test.client_image}]}
    command = [*test.kube.command, "--namespace", test.kube.namespace, "apply", "-f", "-"]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    must(done.returncode != 0 and "restricted" in done.stderr, f"a pod of root's was taken: {done.stdout}")
    return "a pod that may become root is refused, ours are not"


def balances(test: Test) -> str:
    test.start_load()
    test.load.until_made(200)
    served = {}
    for pod in test.kube.ready_pods():
        samples = test.kube.metrics(pod["metadata"]["name"])
        served[pod["metadata"]["name"]] = sum(
            value for name, value in samples.items()
            if name.startswith("grpc_server_handled_total{") and '"Attend"' in name and '"OK"' in name
        )  # fmt: skip
    must(all(served.values()), f"not every pod was called: {served}")
    counts = without_failures(test.load.since(), 200)
    return f"{counts}; by pod {', '.join(f'{count:.0f}' for count in served.values())}"


def roll_out(test: Test, image: str) -> None:
    before = {pod["metadata"]["uid"] for pod in test.kube.pods()}
    test.kube("set", "image", "deployment/headlight", f"headlight={image}")
    test.kube.rolled_out()
    after = test.kube.ready_pods()
    must(not before & {pod["metadata"]["uid"] for pod in after}, "old pods are left")
    images = {pod["spec"]["containers"][0]["image"] for pod in after}
    must(images == {image}, f"the new pods run {images}")


def rolls_out(test: Test) -> str:
    """Rollouts of two images in turn, until thousands of calls were made while one went on: none of them fails."""
    total = Counts()
    rollouts = 0
    test.load.since()
    while total.made < test.calls and rollouts < 20:
        roll_out(test, test.image if rollouts % 2 else test.next_image)
        rollouts += 1
        counts = test.load.since()
        total = Counts(total.made + counts.made, total.large + counts.large, counts.failed, counts.last)
        must(counts.failures == 0, f"in rollout {rollouts}: {counts}")
    must(total.large > 0, "no large call was made")
    return f"{without_failures(total, test.calls)}, within {rollouts} rollouts"


def fails_without_drain(test: Test) -> str:
    """That the check above can fail: pods that end at once, calls or not, cost calls."""
    kept = arguments(test.kube)
    undrained = [one for one in kept if not one.startswith("--drain-delay")] + ["--drain-delay=0", "--drain-timeout=0.001"]
    patch(test.kube, at("containers/0/args", undrained), at("terminationGracePeriodSeconds", 1))
    test.kube.rolled_out()
    without_failures(test.load.since(), 1)  # the pods that ended here still drained
    for _ in range(3):
        # Now the undrained ones end.
        test.kube("rollout", "restart", "deployment/headlight")
        test.kube.rolled_out()
        counts = test.load.since()
        if counts.failures:
            break
    must(counts.failures > 0, f"calls survive without a drain: the check could not fail ({counts})")
    patch(test.kube, at("containers/0/args", kept), at("terminationGracePeriodSeconds", 45))
    test.kube.rolled_out()
    test.load.since()
    return f"with the drain switched off: {counts}"


def undoes_a_bad_rollout(test: Test) -> str:
    before = {pod["metadata"]["uid"] for pod in test.kube.ready_pods()}
    test.load.since()
    patch(test.kube, at("containers/0/args/-", "--no-such-flag=1", "add"))
    crashed = lambda: any(restarts(pod) > 0 for pod in test.kube.pods())  # noqa: E731
    until("the new pod's failure", crashed, 60)
    must(before <= {pod["metadata"]["uid"] for pod in test.kube.ready_pods()}, "old pods left for one that never was ready")
    test.kube("rollout", "undo", "deployment/headlight")
    test.kube.rolled_out()
    must(before == {pod["metadata"]["uid"] for pod in test.kube.ready_pods()}, "not the same pods as before")
    return f"the old pods served on, and are left after the undo; {without_failures(test.load.since(), 100)}"


# Where a pod ends before its follower is there, a client looks the name up too early and knows the other pod alone; when
# that one ends, too, it is the retry policy that carries it over.
ATTEMPTS = 4


def budget_of_disruptions(test: Test) -> str:
    test.start_load(ATTEMPTS)
    pods = [pod["metadata"]["name"] for pod in test.kube.ready_pods()]
    said = []
    for pod in pods[:2]:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": test.kube.namespace}}
        path = f"/api/v1/namespaces/{test.kube.namespace}/pods/{pod}/eviction"
        command = [*test.kube.command, "create", "--raw", path, "-f", "-"]
        done = subprocess.run(command, input=json.dumps(eviction), capture_output=True, text=True, check=False)
        said.append((done.returncode, done.stderr))
    must(said[0][0] == 0, f"the first eviction is refused: {said[0][1]}")
    must(said[1][0] != 0 and "disruption budget" in said[1][1], f"the second eviction is not refused: {said[1]}")
    until("two ready pods again", lambda: len(test.kube.ready_pods()) == 2, 90)
    test.kube.rolled_out()
    return f"of two evictions the second is refused; {without_failures(test.load.since(), 1)}"


def drains_a_node(test: Test) -> str:
    test.start_load(ATTEMPTS)
    here = test.kube.read("pod", "load")["spec"]["nodeName"]
    nodes = {pod["spec"]["nodeName"] for pod in test.kube.ready_pods()} - {here}
    if not nodes:
        # Both came to one node: one of them moves.
        test.kube("rollout", "restart", "deployment/headlight")
        test.kube.rolled_out()
        nodes = {pod["spec"]["nodeName"] for pod in test.kube.ready_pods()} - {here}
    must(bool(nodes), "no pod is on another node than the load's")
    node = nodes.pop()
    test.load.since()
    began = time.monotonic()
    test.kube("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
    took = time.monotonic() - began
    until("two ready pods elsewhere", lambda: len(test.kube.ready_pods()) == 2, 90)
    test.load.until_made(500)
    left = {pod["spec"]["nodeName"] for pod in test.kube.ready_pods()}
    test.kube("uncordon", node)
    must(node not in left, f"pods are left on {node}")
    seen = without_failures(test.load.since(), 500)
    test.start_load()
    return f"drained in {took:.0f} s; {seen}"


def scale_on(test: Test, metric: str, wanted: tuple[str, ...]) -> str:
    """The autoscaler of the production overlay, with less room above and these kinds of its metrics: it leaves idle pods
    as they are, and brings one for heavy calls."""
    test.load.stop()
    scaler = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/production/horizontal-pod-autoscaler.yaml").read_text())
    scaler["spec"]["maxReplicas"] = 3
    scaler["spec"]["metrics"] = [one for one in scaler["spec"]["metrics"] if one["type"] in wanted]
    test.kube.apply(scaler)
    heavy = None
    try:
        time.sleep(30)
        must(test.kube.read("deployment", "headlight")["spec"]["replicas"] == 2, "idle pods were scaled")
        heavy = Load(test.kube, "heavy", test.client_image, "--heavy=6")
        more = lambda: test.kube.read("deployment", "headlight")["spec"]["replicas"] > 2  # noqa: E731
        took = until("more replicas than two", more, 150)
        events = test.kube.read("events", "--field-selector=reason=SuccessfulRescale")["items"]
        said = max(events, key=lambda event: event["lastTimestamp"])["message"]
        must(metric in said, f"something else scaled it: {said}")
        until("three ready pods", lambda: len(test.kube.ready_pods()) == 3, 90)
    finally:
        if heavy:
            heavy.stop()
        test.kube("delete", "hpa", "headlight")
        test.kube("scale", "deployment/headlight", "--replicas=2")
        test.kube.rolled_out()
        test.start_load()
    return f"idle for 30 s: 2 replicas; then from 2 replicas to 3 in {took:.0f} s: {said}"


def scales_out(test: Test) -> str:
    """By the backlog alone: the processor's use, of the quarter that a test's pod asks for, would always be first."""
    served = test.kube("get", "apiservices", "-o", "name")
    must("custom.metrics.k8s.io" in served, "the cluster serves no custom metrics: docs/operating.md says what to install")
    return scale_on(test, "headlight_backlog_seconds", ("Pods",))


def falls_back_to_the_processor(test: Test) -> str:
    """Without the adapter of custom metrics the processor's use decides alone."""
    service = "v1beta2.custom.metrics.k8s.io"
    kept = test.kube.read("apiservice", service)
    test.kube("delete", "apiservice", service)
    try:
        return scale_on(test, "cpu", ("Pods", "Resource"))
    finally:
        test.kube.apply({key: kept[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": service}})
    

def refuses_before_it_dies(test: Test) -> str:
    """A memory limit that the load would exceed: calls are refused, the pod lives."""
    kept = test.kube.read("deployment", "headlight")["spec"]["template"]["spec"]["containers"][0]["resources"]
    limit = {**kept, "requests": {**kept["requests"], "memory": "128Mi"}, "limits": {**kept.get("limits", {}), "memory": "128Mi"}}
    patch(test.kube, at("containers/0/resources", limit))
    test.kube.rolled_out()
    test.load.since()
    flood = Load(test.kube, "flood", test.client_image, "--large=16", "--pause=0", f"--attempts={ATTEMPTS}")
    try:
        flood.until_made(300, 300)
        counts = flood.since()
    finally:
        flood.stop()
    pods = test.kube.ready_pods()
    died = {pod["metadata"]["name"]: restarts(pod) for pod in pods if restarts(pod)}
    must(not died and len(pods) == 2, f"pods died: {died or [p['metadata']['name'] for p in pods]}")
    refused = counts.failed.get("RESOURCE_EXHAUSTED", 0)
    must(refused > 0, f"nothing was refused: {counts}")
    must(refused == counts.failures, f"not all failures are refusals: {counts}")
    must(counts.made > refused, "nothing was served")
    causes: dict[str, float] = {}
    for pod in pods:
        for name, value in test.kube.metrics(pod["metadata"]["name"]).items():
            if name.startswith("headlight_admission_total") and '"refused"' in name and value:
                causes[name.split('reason="')[1].split('"')[0]] = causes.get(name.split('reason="')[1].split('"')[0], 0) + value
    patch(test.kube, at("containers/0/resources", kept))
    test.kube.rolled_out()
    test.load.since()
    by_cause = ", ".join(f"{value:.0f} for {cause}" for cause, value in causes.items())
    return f"at 128 MiB: {counts.made} large calls, {refused} refused ({by_cause}), no pod restarted"


def policy_lets_clients_alone(test: Test) -> str:
    import network_policy
    from load import client_pod

    kube = test.kube
    kube.apply(client_pod("stranger", test.client_image, ["dns:///headlight-headless:50051", "--small=1", "--pause=0.5"], {}))
    try:
        until("the stranger's pod", lambda: is_ready(kube.read("pod", "stranger")))
        until("its first calls", lambda: '"made": {"small"' in kube("logs", "stranger", "--tail=1"))
        closed = network_policy.enforce(kube)
        must(closed == 2, f"the policy closes {closed} pods off")
        kube("delete", "pod", "stranger", "--grace-period=1")
        kube.apply(client_pod("stranger", test.client_image, ["dns:///headlight-headless:50051", "--small=1", "--pause=0.5"], {}))
        until("the stranger's pod", lambda: is_ready(kube.read("pod", "stranger")))
        test.load.since()
        test.load.until_made(200)
        until("the stranger's first calls", lambda: '"made": {"small"' in kube("logs", "stranger", "--tail=1"))
        said = json.loads(kube("logs", "stranger", "--tail=1"))
        must(said["failed"].get("UNAVAILABLE", 0) == said["made"]["small"], f"a stranger's calls came through: {said}")
        time.sleep(10)  # probes go on
        must(len(kube.ready_pods()) == 2, "pods are not ready: the probes do not come through")
        return f"a pod without the label: {said['made']['small']} calls, none came through; clients: {test.load.since()}"
    finally:
        network_policy.forget()
        kube("delete", "pod", "stranger", "--grace-period=1", check=False)
