"""What the server does where something within it waits, fails or lacks memory: fault points (server/faults/fault.h)."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import make
import pytest
from rpc_errors import failure_of, parse
from server_process import BINARY, WITH_FAULTS, Server, free_port, wait_until
from wire import service_pb

POINTS = ("accept", "ticket", "phase", "unit", "encode")


class Faulty:
    """A server and the file that says what goes wrong in it."""

    def __init__(self, path: Path, start: Callable[..., Server]):
        self._path, self._start = path, start
        self.set("")

    def set(self, faults: str) -> None:
        following = self._path.with_suffix(".next")
        following.write_text(faults)
        os.replace(following, self._path)

    def start(self, *flags: str, **options) -> Server:
        variables = {"HEADLIGHT_FAULT_FILE": str(self._path)}
        return self._start("--threads=2", *flags, binary=WITH_FAULTS, env=variables, **options)


@pytest.fixture
def faulty(tmp_path, start) -> Faulty:
    return Faulty(tmp_path / "faults", start)


@pytest.fixture
def calm(faulty) -> tuple[Server, bytes]:
    """A server without faults so far, and what it answers the canary."""
    server = faulty.start()
    return server, make.bits(server.attend(make.canary()))


def assert_well(server: Server, bits: bytes) -> None:
    """Nothing is held, and the canary is what it was."""
    wait_until(lambda: server.held() == 0)
    assert make.bits(server.attend(make.canary())) == bits
    assert server.page("/livez")[0] == 200


def test_the_server_that_is_shipped_has_no_fault_points() -> None:
    assert b"HEADLIGHT_FAULT_FILE" not in Path(BINARY).read_bytes()
    assert b"HEADLIGHT_FAULT_FILE" in Path(WITH_FAULTS).read_bytes()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("fault", "reason"), [("error", "INTERNAL"), ("bad_alloc", "SERVER_OVERLOADED")])
def test_a_failure_ends_the_call_alone(faulty, calm, point, fault, reason) -> None:
    server, bits = calm
    faulty.set(f"{point}={fault}")
    assert failure_of(lambda: server.attend(make.canary())).reason == reason
    wait_until(lambda: "purpose" in server.stderr() or fault == "bad_alloc")  # the log is written by a thread of its own
    faulty.set("")
    assert_well(server, bits)


def test_calls_that_fail_at_random_leave_the_others_as_they_are(faulty) -> None:
    server = faulty.start("--max-wait-seconds=100")
    bits = make.bits(server.attend(make.canary()))
    faulty.set("seed=5 " + " ".join(f"{p}=bad_alloc@0.04" for p in POINTS[:3]) + " unit=error@0.02 encode=2ms@0.3")
    seen = set()

    def call(_: int) -> None:
        try:
            answer = server.attend(make.canary())
        except grpc.RpcError as error:
            seen.add(parse(error).reason)
        else:
            seen.add("OK")
            assert make.bits(answer) == bits

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(call, range(400)))
    assert seen == {"OK", "INTERNAL", "SERVER_OVERLOADED"}
    faulty.set("")
    assert_well(server, bits)


@pytest.mark.parametrize("point", POINTS)
def test_a_call_cancelled_at_every_edge_leaves_nothing(faulty, calm, point) -> None:
    server, bits = calm
    for when in (0.0, 0.005, 0.02):
        faulty.set(f"{point}=inf")
        call = server.stub.Attend.future(make.canary())
        time.sleep(0.03)
        call.cancel()
        time.sleep(when)
        faulty.set("")
        assert_well(server, bits)


@pytest.mark.parametrize("point", POINTS)
def test_a_deadline_that_passes_at_an_edge_is_kept(faulty, calm, point) -> None:
    server, bits = calm
    faulty.set(f"{point}=300ms")
    assert failure_of(lambda: server.attend(make.canary(), 0.1)).code == grpc.StatusCode.DEADLINE_EXCEEDED
    faulty.set("")
    assert_well(server, bits)


# Life.


def test_liveness_fails_where_a_worker_hangs_though_the_other_works(faulty) -> None:
    server = faulty.start()
    faulty.set("encode=inf")
    call = server.stub.Attend.future(make.canary())
    wait_until(lambda: server.metrics().value("headlight_workers_busy") == 1)
    began = time.monotonic()
    assert server.page("/livez")[0] == 200
    wait_until(lambda: server.page("/livez")[0] == 503, seconds=30, interval=0.5)
    assert time.monotonic() - began > 10
    assert "worker" in server.page("/livez")[1]
    faulty.set("")
    assert call.result(10).HasField("output")
    wait_until(lambda: server.page("/livez")[0] == 200)  # the answer is there before the worker has ended its step


@pytest.mark.parametrize("point", ["unit", "encode"])
def test_a_call_that_hangs_cannot_keep_the_process(faulty, point) -> None:
    server = faulty.start("--drain-timeout=0.5")
    faulty.set(f"{point}=inf")
    call = server.stub.Attend.future(make.canary())
    wait_until(lambda: server.metrics().value("headlight_workers_busy") > 0)
    server.terminate()
    assert server.wait(10) == 3
    assert call.code() == grpc.StatusCode.UNAVAILABLE


def start_cold(faulty: Faulty) -> Server:
    """A server whose warm-up waits. It says where it listens only when it is ready, so it is told."""
    faulty.set("warm_up=inf")
    ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    server = faulty.start(f"--listen={ports[0]}", f"--http={ports[1]}", "--web=", defaults=False, ready=False)
    server.address, server.http = ports
    grpc.channel_ready_future(server.channel).result(10)
    return server


def test_not_ready_until_it_is_warm(faulty) -> None:
    server = start_cold(faulty)
    status, text = server.page("/readyz")
    assert status == 503 and "warming" in text
    assert server.page("/livez")[0] == 200
    assert server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=5).threads == 2
    refused = failure_of(lambda: server.attend(make.canary(), 5))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
    assert refused.retry_seconds > 0
    faulty.set("")
    wait_until(lambda: server.page("/readyz")[0] == 200)
    assert server.attend(make.canary()).HasField("output")


def test_sigterm_in_the_warm_up_ends_it_before_it_is_ready(faulty) -> None:
    server = start_cold(faulty)
    server.terminate()
    time.sleep(0.1)
    faulty.set("")
    assert server.wait(10) == 0
    assert server.process.stdout.read() == "", "it said that it was ready"
