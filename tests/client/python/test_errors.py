"""Failures: of a real server, and of one that fails on purpose."""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import headlight
import numpy as np
import pytest
from certificates import Authority
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from headlight import errors
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import attention_service_pb2_grpc as attention_grpc
from server_process import Server, free_port, wait_until

StatusCode = grpc.StatusCode
QUERY = np.ones((1, 2, 3, 4), np.float32)
LARGE = np.ones((1, 16, 512, 128), np.float32)  # 4 MiB: beyond gRPC's own limits


class Failing(attention_grpc.AttentionServiceServicer):
    """Fails with these codes and trailers one after the other; then sends the query back."""

    def __init__(self) -> None:
        self.failures: deque[tuple[StatusCode, list[tuple[str, str | bytes]]]] = deque()
        self.calls: list[dict[str, str]] = []
        self.called = Event()  # set by the first call
        self.answer = Event()  # what calls wait for
        self.answer.set()

    def Attend(self, request, context):  # noqa: N802
        self.calls.append(dict(context.invocation_metadata()))
        self.seconds = context.time_remaining()
        self.called.set()
        self.answer.wait(20)
        if self.failures:
            code, trailers = self.failures.popleft()
            context.set_trailing_metadata(trailers)
            context.abort(code, "not now")
        return attention_pb.AttendResponse(output=request.query_key_value.query)


@pytest.fixture
def failing() -> Iterator[Failing]:
    service = Failing()
    running = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    attention_grpc.add_AttentionServiceServicer_to_server(service, running)
    service.address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield service
    service.answer.set()
    running.stop(None).wait()


def attend(service: Failing, query: np.ndarray = QUERY, **options) -> headlight.Attention:
    with headlight.Client(service.address, spread_over_replicas=False, **options) as client:
        return client.attend(query, query, query)


async def attend_async(service: Failing, query: np.ndarray = QUERY, **options) -> headlight.Attention:
    async with headlight.AsyncClient(service.address, spread_over_replicas=False, **options) as client:
        return await client.attend(query, query, query)


def attend_by_asyncio(*arguments, **options) -> headlight.Attention:
    return asyncio.run(attend_async(*arguments, **options))


def call_server_info(address: str, **options) -> headlight.Answer:
    with headlight.Client(address, **options) as client:
        return client.get_server_info()


def call_server_info_by_asyncio(address: str, **options) -> headlight.Answer:
    async def run() -> headlight.Answer:
        async with headlight.AsyncClient(address, **options) as client:
            return await client.get_server_info()

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("attend", [attend, attend_by_asyncio], ids=["client", "asyncio"])
PUSHBACK = "grpc-retry-pushback-ms"


def test_violations(client) -> None:
    with pytest.raises(headlight.InvalidArgumentError) as caught:
        client.attend(QUERY, QUERY, QUERY[:, :, :2], head_size=9)
    error = caught.value
    assert [one.field for one in error.violations] == ["options.head_size", "query_key_value.value.shape"]
    assert "expected [1, 2, 3, Dv]" in error.violations[1].description and error.violations[0].reason == ""
    assert (error.code, error.reason, error.domain) == (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "headlight.v1")
    assert error.metadata["violations"] == "2" and error.retry_after is None
    assert isinstance(error, ValueError) and isinstance(error.__cause__, grpc.RpcError)
    assert "query_key_value.value.shape" in str(error)


def test_request_id(server) -> None:
    """That of the call in the server's log, or the caller's own."""
    with headlight.Client(server.address, metadata=[("x-request-id", "mine")]) as client:
        with pytest.raises(headlight.NotFoundError) as caught:
            client.get_layer("nobody")
    assert caught.value.request_id == "mine"


def test_deadline(client) -> None:
    """It can be met by no means, or the server says at once how long it would take."""
    with pytest.raises(TimeoutError) as caught:
        client.attend(LARGE, LARGE, LARGE, deadline=1e-4)
    assert isinstance(caught.value, headlight.DeadlineExceededError)


def attend_within(service: Failing, deadline: float) -> headlight.Attention:
    with headlight.Client(service.address, spread_over_replicas=False) as client:
        return client.attend(QUERY, QUERY, QUERY, deadline=deadline)


def attend_within_by_asyncio(service: Failing, deadline: float) -> headlight.Attention:
    async def run() -> headlight.Attention:
        async with headlight.AsyncClient(service.address, spread_over_replicas=False) as client:
            return await client.attend(QUERY, QUERY, QUERY, deadline=deadline)

    return asyncio.run(run())


BOTH_WITHIN = pytest.mark.parametrize("within", [attend_within, attend_within_by_asyncio], ids=["client", "asyncio"])


@BOTH_WITHIN
@pytest.mark.parametrize("deadline", [0, -1, -100, -math.inf, math.nan])
def test_a_deadline_is_above_0(failing, within, deadline) -> None:
    with pytest.raises(ValueError, match="the deadline is not above 0"):
        within(failing, deadline)
    assert failing.calls == []


@BOTH_WITHIN
@pytest.mark.parametrize("deadline", [1e10, 1e12, 1e300, math.inf])
def test_a_deadline_may_be_far(failing, within, deadline) -> None:
    """Further than gRPC can count."""
    assert np.array_equal(within(failing, deadline).output, QUERY)


@BOTH_WITHIN
def test_a_deadline_that_passes_between_attempts(failing, within, monkeypatch) -> None:
    """There is no attempt after it, though the wait that was asked for was shorter."""
    failing.failures.extend([(StatusCode.RESOURCE_EXHAUSTED, [(PUSHBACK, "1")])])
    sleep, sleep_async = time.sleep, asyncio.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(0.6 if seconds == 0.001 else seconds))
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep_async(0.6 if seconds == 0.001 else seconds))
    with pytest.raises(headlight.DeadlineExceededError, match="passed before the call") as caught:
        within(failing, 0.5)
    assert caught.value.code == StatusCode.DEADLINE_EXCEEDED and len(failing.calls) == 1


def test_nobody_there() -> None:
    with headlight.Client(f"127.0.0.1:{free_port()}", max_attempts=1, deadline=5) as client:
        with pytest.raises(headlight.UnavailableError) as caught:
            client.get_server_info()
    assert caught.value.reason == "" and caught.value.request_id == ""


def test_token(tmp_path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("s" * 32)
    guarded = Server(f"--auth-token-file={tokens}")
    try:
        with headlight.Client(guarded.address) as client, pytest.raises(headlight.UnauthenticatedError):
            client.attend(QUERY, QUERY, QUERY)
        with headlight.Client(guarded.address, token="s" * 32) as client:
            assert client.attend(QUERY, QUERY, QUERY).output.shape == QUERY.shape
    finally:
        guarded.close()


@pytest.mark.parametrize("connect", [call_server_info, call_server_info_by_asyncio], ids=["client", "asyncio"])
def test_tls(tmp_path, connect) -> None:
    """Both sides with a certificate; not without the client's, and not to a server that somebody else signed."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue().write("server")
    guarded = Server(f"--tls-certificate={certificate}", f"--tls-key={key}", f"--tls-client-ca={authority.path}")
    own, roots = authority.issue("caller"), authority.path.read_bytes()
    stranger = Authority(tmp_path, "stranger").path.read_bytes()
    try:
        tls = headlight.Tls(roots, own.certificate_pem, own.key_pem)
        assert connect(guarded.address, tls=tls).version == headlight.__version__
        for wrong in (headlight.Tls(roots), headlight.Tls(stranger, own.certificate_pem, own.key_pem)):
            with pytest.raises(headlight.HeadlightError):
                connect(guarded.address, tls=wrong, max_attempts=1, deadline=5)
    finally:
        guarded.close()


@BOTH
def test_every_call_has_a_deadline(failing, attend) -> None:
    """A minute, unless the client says otherwise."""
    attend(failing)
    assert 50 < failing.seconds < 62  # gRPC rounds it on the wire
    attend(failing, deadline=9)
    assert 5 < failing.seconds < 10


def test_replicas(server) -> None:
    """Calls go to both in turn, and none fails when one of them drains."""
    other = Server("--threads=1")
    calls = lambda one: one.metrics().value("grpc_server_handled_total", grpc_method="GetServerInfo")  # noqa: E731
    try:
        before = calls(server)
        with headlight.Client(f"ipv4:{server.address},{other.address}") as client:
            wait_until(lambda: client.get_server_info() and calls(other) > 0 and calls(server) > before)
            for _ in range(20):
                client.get_server_info()
            assert calls(server) - before >= 10 and calls(other) >= 10
            other.terminate()
            for _ in range(50):
                client.attend(QUERY, QUERY, QUERY)
            assert other.wait() == 0
    finally:
        other.close()


def test_what_a_server_refuses_as_it_drains_is_tried_again() -> None:
    """By gRPC, which tries nothing again that came with headers."""
    draining = Server("--threads=1", "--max-call-seconds=1000")
    attempts = lambda: draining.metrics().value("grpc_server_started_total", grpc_method="Attend")  # noqa: E731
    try:
        endless = headlight.SeededEmbeddings(1, 16384, 256), headlight.SeededWeights(1)
        with ThreadPoolExecutor(1) as calls, headlight.Client(draining.address, spread_over_replicas=False) as client:
            long = calls.submit(client.attend_embeddings, *endless, query_heads=16, deadline=1000)
            wait_until(lambda: draining.metrics().value("headlight_memory_reserved_bytes") > 0)
            draining.terminate()
            wait_until(lambda: draining.page("/readyz")[0] == 503)
            with (
                headlight.Client(draining.address, spread_over_replicas=False, max_attempts=2) as late,
                pytest.raises(headlight.UnavailableError, match="DRAINING"),
            ):
                late.attend(QUERY, QUERY, QUERY)
            assert attempts() == 3
            client.close()
            assert long.exception() is not None
    finally:
        draining.close()


@BOTH
def test_unavailable_is_retried_by_grpc(failing, attend) -> None:
    """With a message beyond gRPC's own limits."""
    failing.failures.extend([(StatusCode.UNAVAILABLE, [(PUSHBACK, "1")])] * 3)
    assert np.array_equal(attend(failing, LARGE).output, LARGE)
    assert len(failing.calls) == 4


@BOTH
def test_full_is_retried_when_the_server_says_so(failing, attend) -> None:
    failing.failures.extend([(StatusCode.RESOURCE_EXHAUSTED, [(PUSHBACK, "150")])])
    began = time.monotonic()
    assert np.array_equal(attend(failing, token="t", metadata=[("own", "1")]).output, QUERY)
    assert time.monotonic() - began >= 0.15
    assert [(call["authorization"], call["own"]) for call in failing.calls] == [("Bearer t", "1")] * 2


@BOTH
@pytest.mark.parametrize(("trailers", "options"), [
    ([], {}), ([(PUSHBACK, "-1")], {}), ([(PUSHBACK, "60000")], {"deadline": 20}), ([(PUSHBACK, "1")], {"max_attempts": 1}),
])  # fmt: skip
def test_full_is_not_retried_otherwise(failing, attend, trailers, options) -> None:
    """Nor beyond the deadline."""
    failing.failures.append((StatusCode.RESOURCE_EXHAUSTED, trailers))
    with pytest.raises(headlight.ResourceExhaustedError) as caught:
        attend(failing, **options)
    assert len(failing.calls) == 1
    assert (caught.value.retry_after is None) == (trailers in ([], [(PUSHBACK, "-1")]))


def test_it_gives_up(failing) -> None:
    failing.failures.extend([(StatusCode.RESOURCE_EXHAUSTED, [(PUSHBACK, "1")])] * 9)
    with pytest.raises(headlight.ResourceExhaustedError):
        attend(failing, max_attempts=3, deadline=math.inf)
    assert len(failing.calls) == 3


CLOSED = pytest.raises(headlight.CancelledError, match="the client is closed")


def test_calls_of_a_closed_client(server) -> None:
    client = headlight.Client(server.address)
    assert client.get_server_info()
    for _ in range(2):
        client.close()
        for call in (client.get_server_info, lambda: client.upload_layer(b"", "late")):
            with CLOSED as caught:
                call()
            assert caught.value.code == StatusCode.CANCELLED


def test_calls_of_a_closed_client_by_asyncio(server) -> None:
    async def run() -> None:
        client = headlight.AsyncClient(server.address)
        assert await client.get_server_info()
        for _ in range(2):
            await client.close()
            for call in (client.get_server_info, lambda: client.upload_layer(b"", "late")):
                with CLOSED as caught:
                    await call()
                assert caught.value.code == StatusCode.CANCELLED

    asyncio.run(run())


def test_closing_ends_calls(failing) -> None:
    failing.answer.clear()
    client = headlight.Client(failing.address, spread_over_replicas=False)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.attend, QUERY, QUERY, QUERY)
        assert failing.called.wait(20)
        client.close()
        with CLOSED:
            call.result(20)


def test_closing_ends_calls_by_asyncio(failing) -> None:
    """Their tasks are not cancelled, though gRPC says so; one that is stays so."""
    failing.answer.clear()

    async def run() -> None:
        client = headlight.AsyncClient(failing.address, spread_over_replicas=False)
        calls = [asyncio.ensure_future(client.attend(QUERY, QUERY, QUERY)) for _ in range(3)]
        assert await asyncio.to_thread(failing.called.wait, 20)
        calls.append(asyncio.ensure_future(client.attend(QUERY, QUERY, QUERY)))
        await asyncio.sleep(0)  # that one has only begun
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        calls[1].cancel()
        await client.close()
        if sys.version_info >= (3, 11):
            with pytest.raises(asyncio.CancelledError):
                await calls[1]
        for call in calls[2:]:
            with CLOSED:
                await call
            assert not call.cancelled()

    asyncio.run(run())


def test_closing_ends_the_wait_for_another_attempt(failing) -> None:
    failing.failures.extend([(StatusCode.RESOURCE_EXHAUSTED, [(PUSHBACK, "500")])])
    client = headlight.Client(failing.address, spread_over_replicas=False)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.attend, QUERY, QUERY, QUERY)
        assert failing.called.wait(20)
        time.sleep(0.2)
        client.close()
        with CLOSED:
            call.result(20)
    assert len(failing.calls) == 1


def test_details(failing) -> None:
    """All that a status can carry; what is unknown is passed over."""
    details = [
        error_details_pb2.ErrorInfo(reason="SERVER_OVERLOADED", domain="headlight.v1", metadata={"cause": "wait"}),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
        error_details_pb2.Help(),
    ]
    status = status_pb2.Status(code=StatusCode.RESOURCE_EXHAUSTED.value[0])
    for detail in details:
        status.details.append(any_pb2.Any())
        status.details[-1].Pack(detail)
    failing.failures.append((StatusCode.RESOURCE_EXHAUSTED, [("grpc-status-details-bin", status.SerializeToString())]))
    with pytest.raises(headlight.ResourceExhaustedError) as caught:
        attend(failing, deadline=1)
    error = caught.value
    assert (error.reason, error.metadata, error.retry_after) == ("SERVER_OVERLOADED", {"cause": "wait"}, 1.5)
    assert str(error) == "SERVER_OVERLOADED: not now (come back in 1.5 s)"


@pytest.mark.parametrize("code", [code for code in StatusCode if code != StatusCode.OK], ids=lambda code: code.name)
def test_every_code_has_a_class(failing, code) -> None:
    failing.failures.extend([(code, [])] * 4)
    with pytest.raises(headlight.HeadlightError) as caught:
        attend(failing, max_attempts=1)
    assert caught.value.code == code and caught.value.message == "not now"
    assert (type(caught.value) is errors.HeadlightError) == (code not in errors._CLASSES)


CLIENTS = pytest.mark.parametrize("client", [headlight.Client, headlight.AsyncClient], ids=["client", "asyncio"])


@CLIENTS
@pytest.mark.parametrize("options", [
    {"deadline": 0}, {"deadline": math.nan}, {"max_attempts": 6}, {"max_message_bytes": 0}, {"max_message_bytes": 2**31},
    {"token": "a b"}, {"tls": headlight.Tls(private_key=b"key")}, {"address": ""}, {"metadata": [("Upper", "a")]},
    {"metadata": {"": "a"}}, {"metadata": {"key": "a\n"}}, {"metadata": {"key": "é"}},
])  # fmt: skip
def test_options_out_of_range(client, options) -> None:
    with pytest.raises(ValueError):
        client(**options)
    with pytest.raises(TypeError):
        client(deadlin=1)


@CLIENTS
@pytest.mark.parametrize(("options", "says"), [
    ({"address": None}, "the address is a text"), ({"address": 50051}, "the address is a text"),
    ({"deadline": "9"}, "the deadline is a number"), ({"max_attempts": 2.5}, "max_attempts is an integer"),
    ({"max_message_bytes": 1e9}, "max_message_bytes is an integer"), ({"token": None}, "the token is a text"),
    ({"tls": True}, "tls is a headlight.Tls"), ({"metadata": ["key"]}, "metadata is a dict"),
    ({"metadata": "ab"}, "metadata is a dict"), ({"metadata": {"key": 1}}, "'key' of metadata takes a text"),
    ({"metadata": {"key-bin": "a"}}, "'key-bin' of metadata takes bytes"),
])  # fmt: skip
def test_options_of_another_kind(client, options, says) -> None:
    with pytest.raises(TypeError, match=says):
        client(**options)


def test_certificates_are_bytes() -> None:
    with pytest.raises(TypeError, match="roots of Tls takes the bytes of a PEM file"):
        headlight.Tls("roots.pem")


@pytest.mark.parametrize("metadata", [
    {"one": "1", "two-bin": b"\xff"}, [("one", b"1"), ["two-bin", b"\xff"]], iter([("one", "1"), ("two-bin", b"\xff")]),
], ids=["dict", "pairs", "iterator"])  # fmt: skip
def test_metadata(failing, metadata) -> None:
    """It goes with each attempt."""
    failing.failures.extend([(StatusCode.RESOURCE_EXHAUSTED, [(PUSHBACK, "1")])])
    attend(failing, metadata=metadata)
    assert [(call["one"], call["two-bin"]) for call in failing.calls] == [("1", b"\xff")] * 2
