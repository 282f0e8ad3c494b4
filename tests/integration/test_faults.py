"""What the server does where something within it waits, fails or lacks memory: fault points (server/faults/fault.h)."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import make
import numpy as np
import pytest
from rpc_errors import failure_of, parse
from server_process import BINARY, WITH_FAULTS, Server, free_port, wait_until
from streams import COMMIT, MIB, assemble, attend_streamed, chunks_of, header_of, messages_of
from wire import service_pb

POINTS = ("accept", "ticket", "phase", "unit", "encode")
CALLS = {"unary": Server.attend, "streamed": attend_streamed}


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


@pytest.fixture(params=CALLS.values(), ids=CALLS.keys())
def attend(request) -> Callable[..., service_pb.AttendResponse]:
    """Makes a call, by either RPC."""
    return request.param


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
def test_a_failure_ends_the_call_alone(faulty, calm, attend, point, fault, reason) -> None:
    server, bits = calm
    faulty.set(f"{point}={fault}")
    assert failure_of(lambda: attend(server, make.canary())).reason == reason
    wait_until(lambda: "purpose" in server.stderr() or fault == "bad_alloc")  # the log is written by a thread of its own
    faulty.set("")
    assert_well(server, bits)


def test_calls_that_fail_at_random_leave_the_others_as_they_are(faulty, attend) -> None:
    server = faulty.start("--max-wait-seconds=100")
    bits = make.bits(server.attend(make.canary()))
    faulty.set("seed=5 " + " ".join(f"{p}=bad_alloc@0.04" for p in POINTS[:3]) + " unit=error@0.02 encode=2ms@0.3")
    seen = set()

    def call(_: int) -> None:
        try:
            answer = attend(server, make.canary())
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


def begin_unary(server: Server) -> grpc.Future:
    return server.stub.Attend.future(make.canary())


def begin_streamed(server: Server) -> grpc.Future:
    return server.stub.AttendStream(messages_of(make.canary()))


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("begin", [begin_unary, begin_streamed])
def test_a_call_cancelled_at_every_edge_leaves_nothing(faulty, calm, begin, point) -> None:
    server, bits = calm
    for when in (0.0, 0.005, 0.02):
        faulty.set(f"{point}=inf")
        call = begin(server)
        time.sleep(0.03)
        call.cancel()
        time.sleep(when)
        faulty.set("")
        assert_well(server, bits)


@pytest.mark.parametrize("point", POINTS)
def test_a_deadline_that_passes_at_an_edge_is_kept(faulty, calm, attend, point) -> None:
    server, bits = calm
    faulty.set(f"{point}=300ms")
    assert failure_of(lambda: attend(server, make.canary(), timeout=0.1)).code == grpc.StatusCode.DEADLINE_EXCEEDED
    faulty.set("")
    assert_well(server, bits)


# Streams.


def large(tokens: int = 1024) -> service_pb.AttendRequest:
    """A call of several chunks, of whose rows some are sent while others are computed."""
    return make.qkv(np.random.default_rng(3), make.Sizes(heads=8, tokens=tokens, size=64))


@pytest.mark.parametrize(("fault", "code"), [("error", "INTERNAL"), ("bad_alloc", "RESOURCE_EXHAUSTED")])
def test_a_failure_after_results_were_sent_is_the_status(faulty, calm, fault, code) -> None:
    """The client has read rows by then; it is told that the others do not come."""
    server, bits = calm
    faulty.set("unit=2ms")
    call = server.stub.AttendStream(messages_of(large(4096)), timeout=60)
    assert next(call).HasField("acceptance")
    while not next(call).HasField("chunk"):
        pass
    faulty.set(f"unit={fault}")
    assert failure_of(lambda: list(call)).code.name == code
    faulty.set("")
    assert_well(server, bits)


def unread(server: Server, channel: grpc.Channel) -> grpc.Call:
    """A stream that computes, with a message on its way that the client does not yet take."""
    call = type(server.stub)(channel).AttendStream(messages_of(large(4096)), timeout=60)
    assert next(call).HasField("acceptance")
    time.sleep(1)
    return call


def test_a_client_that_reads_late_is_told_why_its_call_failed(faulty, calm) -> None:
    server, bits = calm
    faulty.set("unit=2ms")
    with server.new_channel([("grpc.http2.bdp_probe", 0)]) as channel:
        call = unread(server, channel)
        faulty.set("unit=error")
        wait_until(lambda: server.held() == 0)
        assert failure_of(lambda: list(call)).reason == "INTERNAL"
    faulty.set("")
    assert_well(server, bits)


def test_a_call_that_failed_waits_for_its_reader_no_longer_than_the_idle_limit(faulty) -> None:
    server = faulty.start("--max-stream-idle=2", "--drain-timeout=20")
    faulty.set("unit=2ms")
    with server.new_channel([("grpc.http2.bdp_probe", 0)]) as channel:
        call = unread(server, channel)
        faulty.set("unit=error")
        wait_until(lambda: server.held() == 0)
        server.terminate()
        assert server.wait(10) == 0
        assert failure_of(lambda: list(call)).code == grpc.StatusCode.CANCELLED


def test_progress_comes_though_workers_stand_still(faulty, calm) -> None:
    server, bits = calm
    faulty.set("encode=1200ms")
    came = list(server.stub.AttendStream(messages_of(make.canary()), timeout=60))
    assert sum(message.HasField("progress") for message in came) >= 2
    assert make.bits(assemble(came)) == bits
    faulty.set("")
    assert_well(server, bits)


@pytest.mark.parametrize("point", POINTS)
def test_many_streams_that_go_away_at_an_edge_leave_nothing(faulty, calm, point) -> None:
    """Some are cancelled, of others the connection is lost."""
    server, bits = calm
    faulty.set(f"{point}=20ms")
    channels = [server.new_channel() for _ in range(4)]
    stubs = [type(server.stub)(channel) for channel in channels]
    calls = [stubs[i % 4].AttendStream(messages_of(large(64), None, 40_000)) for i in range(24)]
    time.sleep(0.05)
    for call in calls[::2]:
        call.cancel()
    for channel in channels:
        channel.close()
    faulty.set("")
    assert_well(server, bits)


def test_a_stream_that_lacks_memory_at_its_commit(faulty, calm) -> None:
    """Its inputs are there by then, and are given back with all else."""
    server, bits = calm
    request = large()
    stream = iter([header_of(request), *chunks_of(request), COMMIT])
    faulty.set("ticket=bad_alloc")
    failure = failure_of(lambda: list(server.stub.AttendStream(stream, timeout=60)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED")
    assert server.metrics().value("headlight_memory_reserved_bytes") < MIB
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
