"""From the ready line to the exit code: flags, environment, ports, deadlines, cancelling and SIGTERM."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import grpc
import make
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rpc_errors import failure_of, refusal_of
from server_process import BINARY, NO_LIMITS, READY, Server, environment, run_server, wait_until
from wire import FLASH, NAIVE, service_grpc, service_pb

IDLE_WITHIN = 0.1  # seconds from the end of a call to idle workers
HEALTH = health_pb2.HealthCheckResponse


def info_of(server: Server) -> service_pb.GetServerInfoResponse:
    return server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)


def endless(algorithm: int = FLASH) -> service_pb.AttendRequest:
    """A small message that is many seconds of work, or a gigabyte of grid and some seconds."""
    naive = make.seeded(tokens=6144, width=1024, heads=8)
    request = naive if algorithm == NAIVE else make.seeded(tokens=16384, width=1024, heads=16)
    request.options.algorithm = algorithm
    request.outputs.omit_output = True
    request.outputs.log_sum_exp = True
    return request


def lasting(server: Server, seconds: float) -> service_pb.AttendRequest:
    """A call of about this long on this machine as busy as it is now."""
    probe = make.seeded(tokens=1024, width=512, heads=8)
    server.attend(probe)
    began = time.monotonic()
    flops = server.attend(probe).execution.flops
    rate = flops / (time.monotonic() - began)
    tokens = int((seconds * rate / (4 * 512)) ** 0.5)
    return make.seeded(tokens=max(1024, min(tokens, 16384)), width=512, heads=8)


def is_busy(server: Server) -> bool:
    """With a call: workers may still be leaving the warm-up."""
    metrics = server.metrics()
    return all(metrics.value(f"headlight_{name}") > 0 for name in ("memory_reserved_bytes", "workers_busy"))


def submit(client: ThreadPoolExecutor, server: Server, request: service_pb.AttendRequest) -> Future:
    """A call that workers are at."""
    wait_until(lambda: server.held() == 0)
    call = client.submit(server.attend, request, 60)
    wait_until(lambda: is_busy(server), interval=0)
    return call


def assert_idle_soon(server: Server) -> None:
    """From 100 ms after now on no worker computes, and then nothing is held either."""
    time.sleep(IDLE_WITHIN)
    at_once = server.metrics()
    time.sleep(0.1)
    later = server.metrics()
    computed = [m.value("headlight_worker_busy_seconds_total") for m in (at_once, later)]
    assert computed[1] - computed[0] < 0.002, "workers still computed"
    assert later.value("headlight_workers_busy") == 0
    wait_until(lambda: server.held() == 0)


# Starting.


def test_one_ready_line_with_the_real_ports(start) -> None:
    server = start("--threads=1")
    for address in (server.address, server.http):
        host, port = address.split(":")
        assert host == "127.0.0.1" and int(port) > 0
    assert info_of(server).threads == 1
    server.terminate()
    rest_of_stdout = server.process.stdout.read()
    assert rest_of_stdout == ""
    assert server.wait() == 0


def test_environment_variables_stand_for_flags(start) -> None:
    variables = {
        "HEADLIGHT_LISTEN": "127.0.0.1:0",
        "HEADLIGHT_HTTP": "127.0.0.1:0",
        "HEADLIGHT_WEB": "127.0.0.1:0",
        "HEADLIGHT_THREADS": "3",
        "HEADLIGHT_CPU_TARGET": "baseline",
        "HEADLIGHT_MAX_RECEIVE_BYTES": "123456",
        "HEADLIGHT_LOG_LEVEL": "off",
    }
    server = start(env=variables, defaults=False)
    info = info_of(server)
    assert info.threads == 3
    assert info.cpu_target == "baseline"
    assert {limit.name: limit.value for limit in info.limits}["max_receive_bytes"] == 123456
    assert server.page("/readyz")[0] == 200
    assert server.stderr() == ""


def test_a_flag_goes_before_the_environment(start) -> None:
    server = start("--threads=1", env={"HEADLIGHT_THREADS": "3", "HEADLIGHT_LISTEN": "192.0.2.1:1"})
    assert info_of(server).threads == 1
    assert server.address.startswith("127.0.0.1:")


@pytest.mark.parametrize("flag", ["--http=", "--web="])
def test_a_port_can_be_switched_off(start, flag) -> None:
    others = [f"{name}127.0.0.1:0" for name in ("--http=", "--web=") if name != flag]
    server = start("--threads=1", "--listen=127.0.0.1:0", *others, flag, defaults=False)
    ready = READY.match(server.ready_line)
    assert (ready["http"] is None) == (flag == "--http=")
    assert (ready["web"] is None) == (flag == "--web=")
    assert info_of(server).threads == 1


def test_an_empty_variable_switches_a_port_off(start) -> None:
    off = {"HEADLIGHT_HTTP": "", "HEADLIGHT_WEB": ""}
    server = start("--threads=1", "--listen=127.0.0.1:0", env=off, defaults=False)
    ready = READY.match(server.ready_line)
    assert ready["http"] is None and ready["web"] is None


def test_silent_connections_do_not_hold_up_probes(start) -> None:
    server = start("--threads=1")
    host, port = server.http.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(40)]
    try:
        began = time.monotonic()
        assert server.page("/livez")[0] == 200
        assert time.monotonic() - began < 1
    finally:
        for connection in silent:
            connection.close()


def test_several_listeners_one_of_them_a_unix_socket(start, tmp_path) -> None:
    path = tmp_path / "headlight.sock"
    server = start("--threads=1", f"--listen=unix:{path}", "--listen=127.0.0.1:0")
    socket_address, third = READY.match(server.ready_line)["also"].split(",")
    assert socket_address == f"unix:{path}"
    with grpc.insecure_channel(third, options=NO_LIMITS) as channel:
        stub = service_grpc.AttentionServiceStub(channel)
        assert stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=5).threads == 1
    assert info_of(server).threads == 1
    with grpc.insecure_channel(f"unix:{path}", options=NO_LIMITS) as channel:
        stub = service_grpc.AttentionServiceStub(channel)
        assert stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=5).threads == 1


def test_a_unix_socket_alone(start, tmp_path) -> None:
    path = f"unix:{tmp_path / 'headlight.sock'}"
    server = start("--threads=1", f"--listen={path}", "--http=127.0.0.1:0", "--web=", defaults=False)
    assert server.address == path
    assert server.attend(make.canary()).HasField("output")


@pytest.mark.parametrize("flag", ["--listen", "--http", "--web"])
def test_a_port_in_use(flag) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = {"--listen": "127.0.0.1:0", "--http": "127.0.0.1:0", "--web": "", flag: address}
        ended = run_server(*[f"{name}={value}" for name, value in ports.items()])
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert address in line and flag in line and "in use" in line


@pytest.mark.parametrize("flag", ["--listen=nowhere", "--listen=127.0.0.1", "--http=1:2:3", "--http=127.0.0.1:99999", "--web=here"])
def test_an_address_that_is_none(flag) -> None:
    others = ["--http=127.0.0.1:0"] if flag.startswith("--listen") else ["--listen=127.0.0.1:0"]
    ended = run_server(*others, flag)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert flag.partition("=")[0] in line


@pytest.mark.parametrize(
    "flag", ["--no-such-flag", "--threads=many", "--threads=-1", "--drain-delay=-1", "--drain-delay=nan", "--max-call-seconds=nan", "--log-level=loud", "word", "--listen=unix:", "--listen=unix:" + "x" * 108, "--auth-token-file=", "--memory-budget-bytes=1"]
)
def test_a_bad_flag(flag) -> None:
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", flag)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert flag.partition("=")[0] in line


def test_too_few_threads() -> None:
    under = ["prlimit", "--nproc=6:6"]
    if os.geteuid() == 0:  # whom nothing limits: as another, who may yet read what root alone may
        under += ["setpriv", "--reuid=65433", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    flags = ["--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web="]
    ended = subprocess.run([*under, BINARY, *flags], env=environment(), capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert "threads can be had" in line and "pids.max" in line and "--threads" in line


def test_a_bad_variable() -> None:
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", env={"HEADLIGHT_THREADS": "many"})
    assert ended.returncode != 0
    assert "--threads" in ended.stderr


def test_an_empty_path_does_not_switch_authentication_off() -> None:
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", env={"HEADLIGHT_AUTH_TOKEN_FILE": ""})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "HEADLIGHT_AUTH_TOKEN_FILE" in ended.stderr


def test_the_address_that_cannot_be_listened_on_is_named(tmp_path) -> None:
    taken = "unix:/nonexistent/dir/socket"
    ended = run_server("--listen=127.0.0.1:0", f"--listen={taken}", "--http=127.0.0.1:0", "--web=")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"cannot listen on {taken}" in ended.stderr


def test_a_live_unix_socket_is_not_taken_away(start, tmp_path) -> None:
    address = f"unix:{tmp_path}/socket"
    first = start("--listen=127.0.0.1:0", f"--listen={address}")
    ended = run_server("--listen=127.0.0.1:0", f"--listen={address}", "--http=127.0.0.1:0", "--web=")
    assert ended.returncode == 1 and f"{address}: in use" in ended.stderr
    with grpc.insecure_channel(address) as channel:
        stub = service_grpc.AttentionServiceStub(channel)
        assert stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10).threads > 0
    # What a server left behind that did not end well is no hindrance.
    first.process.kill()
    first.wait()
    assert start(f"--listen={address}").ready_line


def test_help_names_every_flag_and_its_variable() -> None:
    ended = run_server("--help")
    assert ended.returncode == 0
    for name in ("listen", "http", "threads", "cpu-target", "reflection", "drain-delay", "drain-timeout", "log-level"):
        assert f"--{name}" in ended.stdout
        assert f"HEADLIGHT_{name.upper().replace('-', '_')}" in ended.stdout


# Deadlines and cancelling.


@pytest.fixture
def busy_call(server) -> Iterator[Callable[..., grpc.Future]]:
    """Starts a long call and returns it when workers are at it. In the end the server is as usable as ever."""
    calls = []

    def start_call(algorithm: int, timeout: float | None = None) -> grpc.Future:
        wait_until(lambda: server.held() == 0)
        calls.append(server.stub.Attend.future(endless(algorithm), timeout=timeout))
        wait_until(lambda: is_busy(server))
        return calls[-1]

    yield start_call
    for call in calls:
        call.cancel()


def ended_calls(server: Server) -> float:
    codes = ("Cancelled", "DeadlineExceeded")
    metrics = server.metrics()
    return sum(metrics.value("grpc_server_handled_total", grpc_method="Attend", grpc_code=code) for code in codes)


@pytest.mark.parametrize("algorithm", [NAIVE, FLASH], ids=["naive", "flash"])
def test_a_cancelled_call_frees_the_workers(server, canary, busy_call, algorithm) -> None:
    before, cancelled = ended_calls(server), server.metrics().value("headlight_cancelled_total", cause="client")
    call = busy_call(algorithm)
    time.sleep(0.2)
    assert not call.done()
    call.cancel()
    assert_idle_soon(server)
    wait_until(lambda: ended_calls(server) == before + 1)
    metrics = server.metrics()
    assert metrics.value("headlight_cancelled_total", cause="client") == cancelled + 1
    assert metrics.value("headlight_wasted_flops_total", cause="client") > 0
    assert metrics.value("headlight_cancel_latency_seconds_count") > 0
    canary()


@pytest.mark.parametrize("algorithm", [NAIVE, FLASH], ids=["naive", "flash"])
def test_a_passed_deadline_frees_the_workers(start, algorithm) -> None:
    server = start("--threads=2", "--max-wait-seconds=1000", "--max-call-seconds=1000")
    request = lasting(server, 1)
    request.options.algorithm = algorithm
    predicted = server.stub.PlanAttention(make.plan_of(request), timeout=10).predicted.ToNanoseconds() / 1e9
    shorter = lasting(server, 0.1)
    # Alone it would meet its deadline, behind shorter calls that come later it cannot.
    call = server.stub.Attend.future(request, timeout=predicted * 1.5)
    others = [server.stub.Attend.future(shorter) for _ in range(60)]
    assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    for other in others:
        other.cancel()
    assert_idle_soon(server)
    wait_until(lambda: server.held() == 0)
    # Whether the server looks at its clock or hears of the client's first is chance.
    assert server.metrics().value("headlight_cancelled_total") >= 1
    assert server.metrics().value("headlight_wasted_flops_total") > 0
    assert server.attend(make.canary()).HasField("output")


def test_a_lost_connection_frees_the_workers(server, canary) -> None:
    wait_until(lambda: server.held() == 0)
    with server.new_channel() as channel:
        call = service_grpc.AttentionServiceStub(channel).Attend.future(endless())
        wait_until(lambda: is_busy(server))
    assert_idle_soon(server)
    assert call.code() == grpc.StatusCode.CANCELLED
    canary()


def test_many_calls_cancelled_at_every_moment(server, canary) -> None:
    for delay in [0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016] * 3:
        call = server.stub.Attend.future(endless())
        time.sleep(delay)
        call.cancel()
    assert_idle_soon(server)
    canary()


def test_a_short_call_does_not_wait_for_a_long_one(server, busy_call) -> None:
    call = busy_call(FLASH)
    began = time.monotonic()
    server.attend(make.canary())
    assert time.monotonic() - began < 1
    assert not call.done()


def test_a_verification_can_be_cancelled(server, rng, canary) -> None:
    """Few queries: attention takes milliseconds, and the rows in double precision a second."""
    request = make.qkv(rng, make.Sizes(heads=16, tokens=64, keys=16384, size=32))
    request.outputs.verify_rows = 64
    before = ended_calls(server)
    call = server.stub.Attend.future(request, timeout=60)
    wait_until(lambda: server.metrics().value("headlight_queue_length") == 1)
    time.sleep(0.15)
    assert not call.done()
    call.cancel()
    assert_idle_soon(server)
    wait_until(lambda: ended_calls(server) == before + 1)
    canary()


def test_a_compare_can_be_cancelled(server, canary) -> None:
    request = make.seeded(tokens=4096, width=1024, heads=16)
    same = service_pb.CompareAlgorithmsRequest.FromString(request.SerializeToString())
    wait_until(lambda: server.held() == 0)
    call = server.stub.CompareAlgorithms.future(same)
    wait_until(lambda: is_busy(server))
    time.sleep(0.1)
    call.cancel()
    assert_idle_soon(server)
    canary()


# Ending.


def test_sigterm_idle(start) -> None:
    server = start("--threads=1")
    assert server.attend(make.canary()).HasField("output")
    began = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    assert time.monotonic() - began < 3


def test_sigint_ends_it_as_well(start) -> None:
    server = start("--threads=1")
    os.kill(server.process.pid, 2)
    assert server.wait() == 0


def test_sighup_ends_nothing(start) -> None:
    """Whoever has renewed a certificate may send it."""
    server = start("--threads=1")
    os.kill(server.process.pid, signal.SIGHUP)
    wait_until(lambda: "SIGHUP" in server.stderr())
    assert server.attend(make.canary()).HasField("output")
    server.terminate()
    assert server.wait() == 0


def test_descriptors_that_run_out_are_told_and_end_its_life(start) -> None:
    """gRPC takes no connection any more then, so somebody has to start the server anew."""
    server = start("--threads=1", under=("prlimit", "--nofile=30:60"))
    host, port = server.address.rsplit(":", 1)
    assert server.page("/livez")[0] == 200
    silent = [socket.create_connection((host, int(port))) for _ in range(80)]
    wait_until(lambda: "no descriptor is left" in server.stderr())
    for connection in silent:
        connection.close()
    wait_until(lambda: "descriptors" in server.page("/livez")[1])
    assert server.page("/livez")[0] == 503


def test_a_server_at_rest_has_few_threads(start) -> None:
    """Containers have a limit of them."""
    server = start("--threads=1")
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) < 40


def test_sigterm_during_a_call_lets_it_complete(start) -> None:
    server = start("--threads=2")
    request = lasting(server, 1.5)
    with ThreadPoolExecutor(1) as client:
        call = submit(client, server, request)
        assert not call.done()
        server.terminate()
        server.terminate()
        wait_until(lambda: server.page("/readyz")[0] == 503)
        under_way = not call.done()
        answer = call.result(60)
    assert under_way, "the call ended before anything could be seen"
    assert list(answer.output.shape) == [answer.output.shape[0], 512]
    assert server.wait(30) == 0


def test_no_new_call_is_taken_while_it_drains(start) -> None:
    server = start("--threads=2")
    request = lasting(server, 1.5)
    with ThreadPoolExecutor(1) as client:
        call = submit(client, server, request)
        server.terminate()
        wait_until(lambda: server.page("/readyz")[0] == 503)
        for late in (server.attend, server.compare):
            refused = refusal_of(partial(late, make.canary()), grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert refused.retry_seconds > 0
            assert 0 < refused.pushback_ms <= refused.retry_seconds * 1000
        with server.new_channel() as channel:
            late_stub = service_grpc.AttentionServiceStub(channel)
            assert failure_of(lambda: late_stub.Attend(make.canary(), timeout=5)).code == grpc.StatusCode.UNAVAILABLE
        assert call.result(60).HasField("output")
    assert server.wait(30) == 0


def test_a_large_answer_arrives_whole_though_the_server_ends(start) -> None:
    server = start("--threads=2", "--drain-timeout=20")
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == HEALTH.SERVING
    request = make.seeded(tokens=2048, width=64, heads=4)
    request.outputs.maps.append(make.full_map())
    want = make.bits(server.attend(request))
    with ThreadPoolExecutor(1) as client:
        call = submit(client, server, request)
        server.terminate()
        assert make.bits(call.result(30)) == want
    assert len(want) > 4 * 2048 * 2048 * 4
    assert server.wait(30) == 0


def test_drain_delay_serves_on_but_not_ready(start) -> None:
    server = start("--threads=1", "--drain-delay=1.5")
    health = health_pb2_grpc.HealthStub(server.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service="headlight.v1.AttentionService"), timeout=10)
    assert next(watch).status == HEALTH.SERVING
    server.terminate()
    assert next(watch).status == HEALTH.NOT_SERVING
    watch.cancel()
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == HEALTH.NOT_SERVING
    status, text = server.page("/readyz")
    assert status == 503 and "draining" in text
    assert server.page("/livez")[0] == 200
    metrics = server.metrics()
    assert (metrics.value("headlight_ready"), metrics.value("headlight_draining")) == (0, 1)
    assert server.attend(make.canary()).HasField("output")
    assert server.wait(10) == 0


def test_a_watcher_does_not_hold_up_the_end(start) -> None:
    """Load balancers keep a Watch open for as long as they live."""
    server = start("--threads=1", "--drain-timeout=4")
    health = health_pb2_grpc.HealthStub(server.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == HEALTH.SERVING
    server.terminate()
    assert next(watch).status == HEALTH.NOT_SERVING
    began = time.monotonic()
    assert server.wait(10) == 0
    assert time.monotonic() - began < 3


def test_an_open_reflection_stream_does_not_hold_up_the_end(start) -> None:
    server = start("--threads=1", "--drain-timeout=4")

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        time.sleep(6)

    stream = reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo(questions())
    assert next(stream).HasField("list_services_response")
    server.terminate()
    assert server.wait(10) == 0


def test_a_drain_that_takes_too_long_is_cut_off(start) -> None:
    server = start("--threads=2", "--drain-timeout=0.3", "--max-call-seconds=1000")
    call = server.stub.Attend.future(endless())
    wait_until(lambda: is_busy(server))
    server.terminate()
    failure = refusal_of(call.result, grpc.StatusCode.UNAVAILABLE, "DRAIN_ABORTED")
    assert failure.retry_seconds > 0
    assert server.wait(10) == 3


def test_the_process_ends_soon_after_its_last_call(start) -> None:
    """gRPC may sleep up to ten seconds in a poller of its own when it shuts down, about every other time."""
    for _ in range(4):
        server = start("--threads=2")
        server.attend(make.seeded(tokens=512, width=256, heads=8))
        time.sleep(0.5)
        server.terminate()
        began = time.monotonic()
        assert server.wait(15) == 0
        assert time.monotonic() - began < 5
