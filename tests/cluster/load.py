"""A pod that calls the server until it is deleted (client/load.py), and what it says of its calls."""

import json
from dataclasses import dataclass, field

from kube import Kube, StepFailed, is_ready, until


@dataclass
class Counts:
    """Calls since a moment, and failures by gRPC code."""

    made: int = 0
    large: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    last: str = ""

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {code}" for code, count in self.failed.items())
        of_large = f" ({self.large} of 1 MiB tensors)" if self.large else ""
        return f"{self.made} calls{of_large}, {self.failures} failed" + (f": {kinds}; {self.last}" if kinds else "")


class Load:
    """Calls under way. One thread each for `small`, `large`, `heavy` calls."""

    def __init__(self, kube: Kube, name: str, image: str, *arguments: str):
        self._kube = kube
        self.name = name
        kube.apply(client_pod(name, image, ["dns:///headlight-headless:50051", *arguments]))
        until(f"pod {name} ready", lambda: is_ready(kube.read("pod", name)))
        until("its first calls", lambda: self._total().made > 0)
        self._before = self._total()

    def _total(self) -> Counts:
        lines = self._kube("logs", self.name, "--tail=1").splitlines()
        if not lines:
            return Counts()
        try:
            seen = json.loads(lines[0])
        except ValueError as error:
            raise StepFailed(f"pod {self.name} says: {lines[0]}") from error
        return Counts(sum(seen["made"].values()), seen["made"].get("large", 0), seen["failed"], seen["last"])

    def since(self) -> Counts:
        """What came of calls since this was last asked."""
        now, before = self._total(), self._before
        self._before = now
        failed = {code: count - before.failed.get(code, 0) for code, count in now.failed.items()}
        failed = {code: count for code, count in failed.items() if count}
        return Counts(now.made - before.made, now.large - before.large, failed, now.last if failed else "")

    def until_made(self, calls: int, seconds: float = 120) -> None:
        until(f"{calls} calls", lambda: self._total().made - self._before.made >= calls, seconds)

    def stop(self) -> None:
        self._kube("delete", "pod", self.name, "--grace-period=2", check=False)


def client_pod(name: str, image: str, arguments: list[str], labels: dict[str, str] | None = None) -> dict:
    """Allowed to call by the NetworkPolicy, and as restricted as the server's pods."""
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"headlight.dev/client": "true"} if labels is None else labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
