"""docs/clients.md: its service config, options and retry in Python, as they stand there, against a server that fails on
purpose; and the Python package's example."""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import make
import numpy as np
import pytest
from rpc_errors import failure_of
from server_process import ROOT, Server
from test_readme import BLOCK, DEFAULT_ADDRESS, run
from wire import service_grpc, service_pb, tensor

StatusCode = grpc.StatusCode
TEXT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
FULL, GONE = StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE
LARGE = service_pb.AttendRequest()  # 4 MiB: far more than gRPC keeps for a retry by default
LARGE.query_key_value.query.CopyFrom(tensor(np.ones((1024, 1024), np.float32)))


def block(kind: str) -> str:
    (code,) = [found["code"] for found in BLOCK.finditer(TEXT) if found["kind"] == kind]
    return code


class Failing(service_grpc.AttentionServiceServicer):
    """Fails with these codes, and pushbacks if any, one after the other; then sends back what it was sent."""

    def __init__(self) -> None:
        self.failures: deque[tuple[StatusCode, str]] = deque()
        self.calls = 0

    def Attend(self, request, context):  # noqa: N802
        self.calls += 1
        if self.failures:
            code, pushback = self.failures.popleft()
            if pushback:
                context.set_trailing_metadata([("grpc-retry-pushback-ms", pushback)])
            context.abort(code, "not now")
        return service_pb.AttendResponse(output=request.query_key_value.query)


@pytest.fixture
def failing() -> Iterator[Failing]:
    service = Failing()
    limits = [("grpc.max_receive_message_length", -1)]
    running = grpc.server(ThreadPoolExecutor(2), options=limits)
    service_grpc.add_AttentionServiceServicer_to_server(service, running)
    service.address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield service
    running.stop(None).wait()


@pytest.fixture
def client(tmp_path: Path, monkeypatch) -> Iterator[Callable]:
    """What the page's Python defines when it is run with an address and, where given, another service config."""
    channels = []

    def run(address: str, config: str = block("json")) -> dict:
        (tmp_path / "service_config.json").write_text(config, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        code = block("python")
        assert DEFAULT_ADDRESS in code
        names: dict = {}
        exec(compile(code.replace(DEFAULT_ADDRESS, address), "clients.md", "exec"), names)  # noqa: S102
        channels.append(names["channel"])
        return {**names, "attend": service_grpc.AttentionServiceStub(names["channel"]).Attend}

    yield run
    for channel in channels:
        channel.close()


def test_a_real_server(client, server: Server) -> None:
    """It is healthy under the name in the service config."""
    page = client(server.address)
    assert make.bits(page["call"](page["attend"], make.canary())) == make.bits(server.attend(make.canary()))


def test_unavailable_is_retried_with_a_real_tensor(client, failing) -> None:
    failing.failures.extend([(GONE, ""), (GONE, "30"), (GONE, "")])
    page = client(failing.address)
    assert page["call"](page["attend"], LARGE).output == LARGE.query_key_value.query
    assert failing.calls == 4


def test_by_default_a_real_tensor_is_never_retried(failing) -> None:
    """What the page says of gRPC; a small request is."""
    options = [("grpc.service_config", block("json")), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(failing.address, options=options) as channel:
        attend = service_grpc.AttentionServiceStub(channel).Attend
        failing.failures.append((GONE, ""))
        assert failure_of(lambda: attend(LARGE, timeout=20)).code == GONE
        assert failing.calls == 1
        failing.failures.append((GONE, ""))
        attend(service_pb.AttendRequest(), timeout=20)
        assert failing.calls == 3


def test_full_is_retried_when_the_server_says_so(client, failing) -> None:
    failing.failures.extend([(FULL, "200"), (FULL, "1")])
    page = client(failing.address)
    began = time.monotonic()
    assert page["call"](page["attend"], LARGE).output == LARGE.query_key_value.query
    assert time.monotonic() - began >= 0.2
    assert failing.calls == 3


@pytest.mark.parametrize("pushback", ["", "-1"])
def test_full_is_not_retried_otherwise(client, failing, pushback) -> None:
    failing.failures.append((FULL, pushback))
    page = client(failing.address)
    assert failure_of(lambda: page["call"](page["attend"], LARGE)).code == FULL
    assert failing.calls == 1


@pytest.mark.parametrize("code", [FULL, GONE], ids=["full", "gone"])
def test_it_gives_up(client, failing, code) -> None:
    failing.failures.extend([(code, "1")] * 10)
    page = client(failing.address)
    assert failure_of(lambda: page["call"](page["attend"], LARGE)).code == code
    assert failing.calls == 4


def test_it_does_not_wait_beyond_the_deadline(client, failing) -> None:
    failing.failures.append((FULL, "60000"))
    page = client(failing.address)
    assert failure_of(lambda: page["call"](page["attend"], LARGE, seconds=20)).code == FULL
    assert failing.calls == 1


def test_a_policy_with_full_in_it_would_retry_without_pushback(client, failing) -> None:
    """Why the code is not in the list."""
    config = json.loads(block("json"))
    config["methodConfig"][-1]["retryPolicy"]["retryableStatusCodes"].append("RESOURCE_EXHAUSTED")
    failing.failures.append((FULL, ""))
    client(failing.address, json.dumps(config))["attend"](LARGE, timeout=20)
    assert failing.calls == 2


def test_the_python_package(server: Server, tmp_path: Path) -> None:
    """In a process of its own: the package has the contract's messages, as these tests have."""
    code = block("package")
    assert DEFAULT_ADDRESS in code
    program = code.replace(DEFAULT_ADDRESS, server.address)
    output = run([sys.executable, "-c", program], tmp_path, PYTHONPATH=str(ROOT / "client/python/src"))
    assert "float32 (128, 128) flash" in output and "     it |░░░░░░█░░░|" in output
    assert "['options.head_size']" in output and "4 answers" in output
    assert (tmp_path / "attention.html").stat().st_size > 0
