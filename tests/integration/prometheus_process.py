"""A real Prometheus beside servers of ours, with the configuration that is shipped; and load of every kind for them."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import make
from server_process import ROOT, Server, free_port, wait_until
from wire import service_pb

SHIPPED = ROOT / "deploy/prometheus"
FOLDER = Path(os.environ.get("HEADLIGHT_PROMETHEUS", str(ROOT / "build/prometheus/usr/bin")))
PROMTOOL, BINARY = FOLDER / "promtool", FOLDER / "prometheus"


def promtool(*arguments: str, text: str = "", cwd: Path = SHIPPED) -> subprocess.CompletedProcess:
    return subprocess.run([PROMTOOL, *arguments], input=text, capture_output=True, text=True, cwd=cwd, timeout=60)


class Prometheus:
    """Scrapes a server every second and evaluates the shipped rules as often. Ended by close."""

    def __init__(self, server: Server):
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        shutil.copy(SHIPPED / "rules.yml", folder)
        config = (SHIPPED / "prometheus.yml").read_text()
        changes = (r"headlight:9464", server.http), (r"_interval: 15s", "_interval: 1s")
        for was, becomes in changes:
            config, count = re.subn(was, becomes, config)
            assert count, f"the shipped configuration has no {was}"
        (folder / "prometheus.yml").write_text(config)
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [BINARY, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.address}", "--log.level=warn"],
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_until(self._is_ready, seconds=30, interval=0.1)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"Prometheus ended: {Path(self._log.name).read_text()}"
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _ask(self, path: str, **parameters: str | float) -> list[dict]:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{parameters['query']}: {json.load(error)['error']}") from None

    def query(self, expression: str) -> list[dict]:
        """Series with their last value. ValueError: what is wrong with the expression."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, seconds: float, step: float) -> list[dict]:
        """Series with their values over the last seconds."""
        now = time.time()
        return self._ask("query_range", query=expression, start=now - seconds, end=now, step=step)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        self._folder.cleanup()


def dashboard() -> dict:
    return json.loads((ROOT / "deploy/grafana/headlight.json").read_text())


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expression_of(target: dict, rate_interval: str) -> str:
    """As Grafana would send it, for all jobs."""
    return target["expr"].replace("$__rate_interval", rate_interval).replace("$job", ".*")


def one_call(server: Server, rng: random.Random) -> None:
    """Of any kind: large, small, with maps, compared, planned, wrong, given up, too late."""
    tokens = rng.choice((16, 64, 128, 256, 512, 1024))
    request = make.seeded(tokens=tokens, width=128, heads=4)
    kind = rng.randrange(12)
    if kind == 0:
        request.outputs.maps.append(make.full_map(heads=[0]))
    elif kind == 1:
        request.options.algorithm = make.options_pb.ALGORITHM_NAIVE
    elif kind == 2:
        server.compare(make.seeded(tokens=32, width=64, heads=2))
        return
    elif kind == 3:
        server.stub.PlanAttention(service_pb.PlanAttentionRequest(), timeout=10)
    elif kind == 4:
        request.options.query_heads = 100_000
    elif kind == 5:
        call = server.stub.Attend.future(make.seeded(tokens=4096, width=128, heads=4), timeout=60)
        time.sleep(rng.uniform(0.002, 0.05))
        call.cancel()
        return
    elif kind == 6:
        server.attend(make.seeded(tokens=2048, width=128, heads=4), timeout=rng.uniform(0.005, 0.1))
        return
    elif kind == 7:
        server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
        server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10)
    server.attend(request, timeout=60)


@contextlib.contextmanager
def mixed_load(server: Server, clients: int = 4) -> Iterator[None]:
    """Clients that call without end until the block ends. Failures of calls are part of it."""
    ended = threading.Event()

    def client(seed: int) -> None:
        rng = random.Random(seed)
        while not ended.is_set():
            with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
                one_call(server, rng)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
