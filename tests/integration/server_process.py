"""The server's binary as a process: started on free ports, asked over gRPC and HTTP, ended by its process id."""

import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
from wire import service_grpc, service_pb

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("HEADLIGHT_SERVER", str(ROOT / "build/release/bin/headlight-server"))
WITH_FAULTS = os.environ.get(
    "HEADLIGHT_SERVER_WITH_FAULTS", str(ROOT / "build/release/tests/headlight-server-with-faults")
)
CLI = os.environ.get("HEADLIGHT_CLI", str(ROOT / "build/release/bin/headlight"))
# Sanitizers keep what is freed for a while: how much memory is resident says little then.
SANITIZED = os.environ.get("HEADLIGHT_SANITIZE", "") != ""
README_EXAMPLE = os.environ.get("HEADLIGHT_README_EXAMPLE", str(ROOT / "build/release/tests/readme-example"))
READY = re.compile(r"^ready grpc=(?P<grpc>\S+)(?: http=(?P<http>\S+))?(?: web=(?P<web>\S+))?(?: also=(?P<also>\S+))?$")
NO_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would configure the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADLIGHT_", "GRPC_"))}
    return {**kept, **(extra or {})}


def run_server(*flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """A server that is expected to end by itself."""
    return subprocess.run([BINARY, *flags], env=environment(env), capture_output=True, text=True, timeout=20)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class Server:
    """A running server. Ports are free ones unless the flags or the environment say otherwise. `under`: what stands
    before the binary on its command line. `ready`: whether to wait until it is."""

    def __init__(
        self,
        *flags: str,
        env: dict[str, str] | None = None,
        defaults: bool = True,
        under: tuple[str, ...] = (),
        binary: str = BINARY,
        ready: bool = True,
    ):
        ports = ["--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=127.0.0.1:0"] if defaults else []
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*under, binary, *ports, *flags],
            env=environment(env), stdout=subprocess.PIPE, stderr=self._stderr, text=True,
        )  # fmt: skip
        self._channel: grpc.Channel | None = None
        if ready:
            self._read_addresses()

    def _read_addresses(self) -> None:
        self.ready_line = self._read_line(20)
        ready = READY.match(self.ready_line)
        if ready is None:
            self.process.kill()
            self.process.wait(10)
            raise RuntimeError(f"no ready line but {self.ready_line!r}; stderr: {self.stderr()}")
        self.address: str = ready["grpc"]
        self.http: str | None = ready["http"]
        self.web: str | None = ready["web"]

    def _read_line(self, seconds: float) -> str:
        readable, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().rstrip("\n") if readable else ""

    def stderr(self) -> str:
        """All that it has written there."""
        self._stderr.seek(0)
        return self._stderr.read().decode()

    def new_channel(self, options: list[tuple[str, object]] | None = None) -> grpc.Channel:
        """A connection of its own."""
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        return grpc.insecure_channel(self.address, options=[*NO_LIMITS, *own, *(options or [])])

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = self.new_channel()
        return self._channel

    @property
    def stub(self) -> service_grpc.AttentionServiceStub:
        return service_grpc.AttentionServiceStub(self.channel)

    def attend(self, request: service_pb.AttendRequest, timeout: float = 120) -> service_pb.AttendResponse:
        return self.stub.Attend(request, timeout=timeout)

    def compare(self, request: service_pb.AttendRequest, timeout: float = 120) -> service_pb.CompareAlgorithmsResponse:
        """The two requests have the same fields with the same numbers."""
        same = service_pb.CompareAlgorithmsRequest.FromString(request.SerializeToString())
        return self.stub.CompareAlgorithms(same, timeout=timeout)

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the HTTP port."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> "Metrics":
        status, text = self.page("/metrics")
        assert status == 200, f"/metrics answered {status}"
        return Metrics(text)

    def held(self) -> float:
        """Calls that wait, workers that compute and bytes taken for them, added up: 0 at rest."""
        metrics = self.metrics()
        names = ("queue_length", "workers_busy", "workspace_bytes", "memory_reserved_bytes")
        return sum(metrics.value(f"headlight_{name}") for name in names)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 10) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self._channel is not None:
            self._channel.close()
        if self.process.poll() is None:
            self.terminate()
            try:
                self.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
        self.process.stdout.close()
        self._stderr.close()


class Metrics:
    """One scrape."""

    def __init__(self, text: str):
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        self.samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                sample = SAMPLE.match(line)
                assert sample is not None, f"no sample of the text format: {line!r}"
                labels = dict(LABEL.findall(sample["labels"] or ""))
                self.samples.append((sample["name"], labels, float(sample["value"])))

    def value(self, name: str, /, **labels: str) -> float:
        """The sum over the samples of this name that have these labels; there is at least one."""
        found = [v for n, given, v in self.samples if n == name and labels.items() <= given.items()]
        assert found, f"no sample {name} with {labels}"
        return sum(found)


def wait_until(condition, seconds: float = 5, interval: float = 0.005) -> float:
    """Waits until it holds; returns how long that took."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"did not come to hold within {seconds} s"
        time.sleep(interval)
    return time.monotonic() - began
