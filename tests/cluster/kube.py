"""kubectl from Python, and what the steps wait for."""

import json
import subprocess
import time
from collections.abc import Callable

APP = "app.kubernetes.io/name=headlight"


class StepFailed(Exception):
    """What a step found that should not be."""


def until(what: str, is_so: Callable[[], bool], seconds: float = 60) -> float:
    """Waits; returns how long it took."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            raise StepFailed(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)
    return time.monotonic() - began


class Kube:
    """A cluster, and the namespace of the test in it. `command`: kubectl with what it needs to find the cluster."""

    def __init__(self, command: list[str], namespace: str):
        self.command = command
        self.namespace = namespace

    def __call__(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        command = [*self.command, "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise StepFailed(f"kubectl {' '.join(arguments[:3])}: {(done.stderr or done.stdout).strip()[-400:]}")
        return done.stdout

    def apply(self, *objects: dict) -> None:
        self("apply", "-f", "-", given="\n---\n".join(json.dumps(one) for one in objects))

    def read(self, *arguments: str) -> dict:
        return json.loads(self("get", *arguments, "-o", "json"))

    def pods(self, selector: str = APP) -> list[dict]:
        """Those that are not ending."""
        items = self.read("pods", "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, selector: str = APP) -> list[dict]:
        return [pod for pod in self.pods(selector) if is_ready(pod)]

    def rolled_out(self, seconds: int = 180) -> None:
        """Waits for a rollout's end, the last old pod's too."""
        self("rollout", "status", "deployment/headlight", f"--timeout={seconds}s")
        wanted = self.read("deployment", "headlight")["spec"]["replicas"]
        until("the old pods' end", lambda: len(self.read("pods", "-l", APP)["items"]) == wanted, seconds)

    def metrics(self, pod: str) -> dict[str, float]:
        """Samples by name with labels, as a pod tells them."""
        text = self("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9464/proxy/metrics")
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def is_ready(pod: dict) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def restarts(pod: dict) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))
