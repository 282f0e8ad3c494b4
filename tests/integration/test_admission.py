"""What is taken and what is refused: by cost, deadline, waiting, memory and priority, and what a plan says of it."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import make
import pytest
from rpc_errors import RpcFailure, failure_of, parse, refusal_of
from server_process import Server, wait_until
from wire import service_pb

OVERLOADED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED")
TOO_EXPENSIVE = (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_EXPENSIVE")


def plan(server: Server, request: service_pb.AttendRequest) -> service_pb.PlanAttentionResponse:
    return server.stub.PlanAttention(make.plan_of(request), timeout=10)


def refusals(server: Server, reason: str) -> float:
    return server.metrics().value("headlight_admission_total", decision="refused", reason=reason)


def heavy(tokens: int = 8192, heads: int = 8) -> service_pb.AttendRequest:
    """A small message that is a long call."""
    request = make.seeded(tokens=tokens, width=64 * heads, heads=heads)
    request.outputs.omit_output = True
    request.outputs.log_sum_exp = True
    return request


def outcome(server: Server, request: service_pb.AttendRequest) -> RpcFailure | None:
    """How a call fails; None: it does not."""
    try:
        server.attend(request, 60)
    except grpc.RpcError as error:
        return parse(error)
    return None


def assert_asks_to_come_back(failure: RpcFailure, cause: str) -> None:
    assert (failure.code, failure.reason) == OVERLOADED
    assert failure.metadata["cause"] == cause
    assert failure.retry_seconds > 0
    assert failure.pushback_ms == pytest.approx(failure.retry_seconds * 1000, abs=2)


def test_overload_is_refused_and_what_was_taken_is_done(start) -> None:
    server = start("--threads=2", "--max-wait-seconds=0.3")
    bits = make.bits(server.attend(make.canary()))
    request = make.seeded(tokens=1024, width=512, heads=8)
    with ThreadPoolExecutor(24) as clients:
        failures = list(clients.map(lambda _: outcome(server, request), range(240)))
    refused = [failure for failure in failures if failure is not None]
    assert refused and len(refused) < len(failures)
    for failure in refused:
        assert_asks_to_come_back(failure, "wait")
    # Those who were refused together do not come back together.
    assert len({failure.retry_seconds for failure in refused}) > len(refused) / 2
    assert refusals(server, "wait") == len(refused)
    metrics = server.metrics()
    assert metrics.value("headlight_admission_total", decision="admitted") == len(failures) - len(refused) + 1
    wait_until(lambda: server.metrics().value("headlight_queue_length") == 0)
    assert server.metrics().value("headlight_memory_reserved_bytes") == 0
    assert make.bits(server.attend(make.canary())) == bits


def test_short_calls_pass_while_long_ones_are_refused(start) -> None:
    server = start("--threads=2", "--max-wait-seconds=0.2", "--max-call-seconds=100000")
    call = server.stub.Attend.future(heavy(16384))
    wait_until(lambda: server.metrics().value("headlight_queue_length") == 1)
    assert server.metrics().value("headlight_backlog_seconds") > 0.2
    assert plan(server, heavy(16384)).admission == service_pb.ADMISSION_FORECAST_REFUSED
    assert_asks_to_come_back(failure_of(lambda: server.attend(heavy(16384))), "wait")
    small = make.seeded(tokens=64, width=128, heads=2)
    assert plan(server, small).admission != service_pb.ADMISSION_FORECAST_REFUSED
    for _ in range(20):
        server.attend(small)
    assert not call.done()
    call.cancel()


def taking(server: Server, seconds: float) -> service_pb.AttendRequest:
    """A call that the server itself, as it was calibrated, expects to last about so long. Of many heads: on a fast
    machine 8 would take more tokens than one message may have."""
    tokens, heads = 8192, 16
    for _ in range(4):
        predicted = plan(server, heavy(tokens, heads)).predicted.ToNanoseconds() / 1e9
        tokens = int(tokens * (seconds / predicted) ** 0.5)
    return heavy(tokens, heads)


def test_batch_calls_are_shed_first(start) -> None:
    server = start("--threads=1", "--max-wait-seconds=8", "--max-call-seconds=100000")
    request = taking(server, 6)
    call = server.stub.Attend.future(request, timeout=60)
    wait_until(lambda: server.metrics().value("headlight_queue_length") == 1)
    # Another such call would wait for six of the eight seconds that it may, a batch call for more than half of them.
    assert plan(server, request).admission == service_pb.ADMISSION_FORECAST_QUEUED
    request.priority = service_pb.PRIORITY_BATCH
    assert plan(server, request).admission == service_pb.ADMISSION_FORECAST_REFUSED
    assert_asks_to_come_back(failure_of(lambda: server.attend(request)), "wait")
    call.cancel()


def test_a_deadline_that_cannot_be_met_is_refused_at_once(server, canary) -> None:
    before = refusals(server, "deadline")
    began = time.monotonic()
    failure = failure_of(lambda: server.attend(heavy(16384), 0.3))
    assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert failure.reason == "DEADLINE_EXCEEDED", failure.message
    assert time.monotonic() - began < 0.3
    assert refusals(server, "deadline") == before + 1
    canary()


def test_a_call_longer_than_any_may_be(start) -> None:
    server = start("--threads=1", "--max-call-seconds=0.2")
    failure = refusal_of(lambda: server.attend(heavy()), *TOO_EXPENSIVE)
    assert "at most 0.2 s a call" in failure.violations["self_attention"]
    assert plan(server, heavy()).admission == service_pb.ADMISSION_FORECAST_REFUSED
    assert plan(server, heavy()).predicted.ToNanoseconds() > 0.2e9
    assert server.attend(make.canary()).HasField("output")


def test_memory_is_a_budget_of_all_calls(start) -> None:
    request = make.seeded(tokens=4096, width=512, heads=8)
    needs = plan(start("--threads=1"), request)
    one = needs.flash_bytes + needs.response_bytes
    server = start("--threads=1", f"--memory-budget-bytes={one * 3 // 2}", "--max-wait-seconds=1000", "--max-call-seconds=100000")
    call = server.stub.Attend.future(request, timeout=60)
    wait_until(lambda: server.metrics().value("headlight_memory_reserved_bytes") > 0)
    assert_asks_to_come_back(failure_of(lambda: server.attend(request)), "memory")
    assert server.attend(make.canary()).HasField("output")
    assert call.result().HasField("output")
    # An answer holds its memory until gRPC has let go of it, which may be after its client has it.
    wait_until(lambda: server.metrics().value("headlight_memory_reserved_bytes") == 0)
    assert server.attend(request).HasField("output")
    too_small = start("--threads=1", f"--memory-budget-bytes={one // 2}", "--max-call-seconds=100000")
    refusal_of(lambda: too_small.attend(request), *TOO_EXPENSIVE)


def test_calls_are_counted(start) -> None:
    server = start("--threads=1", "--max-calls=1", "--max-call-seconds=100000")
    call = server.stub.Attend.future(heavy(16384))
    wait_until(lambda: server.metrics().value("headlight_queue_length") == 1)
    assert_asks_to_come_back(failure_of(lambda: server.attend(make.canary())), "calls")
    # What does not compute is answered.
    assert server.stub.GetDemo(service_pb.GetDemoRequest(), timeout=10).tokens
    call.cancel()
    wait_until(lambda: server.metrics().value("headlight_queue_length") == 0)
    assert server.attend(make.canary()).HasField("output")


def test_estimates_follow_what_calls_take(start) -> None:
    server = start("--threads=1")
    request = make.seeded(tokens=1024, width=512, heads=8)
    for _ in range(12):
        server.attend(request)
    predicted = plan(server, request).predicted.ToNanoseconds() / 1e9
    answer = server.attend(request).execution
    taken = answer.total.ToNanoseconds() / 1e9
    assert predicted / 5 < taken < predicted * 5
    assert server.metrics().value("headlight_cost_estimate_ratio_count", algorithm="flash") == 13
