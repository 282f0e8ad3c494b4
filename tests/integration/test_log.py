"""What the log says of calls: a line of JSON each, within a rate, and nothing of what was computed on."""

import fcntl
import json
import os
import re
import signal
import subprocess

import grpc
import make
import pytest
from rpc_errors import failure_of
from server_process import BINARY, READY, Server, environment, wait_until
from wire import service_grpc, service_pb

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def lines(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.stderr().splitlines() if line.startswith("{")]


def line_of(server: Server, request_id: str) -> dict:
    found: list[dict] = []

    def is_there() -> bool:
        found[:] = [line for line in lines(server) if line["request_id"] == request_id]
        return bool(found)

    wait_until(is_there)
    (line,) = found
    return line


def test_a_call_has_a_line_with_its_shape_and_times(start) -> None:
    server = start()
    request = make.canary()
    metadata = (("x-request-id", "order-7"), ("traceparent", TRACE), ("x-secret", "s3cret"))
    answer, call = server.stub.Attend.with_call(request, metadata=metadata, timeout=30)
    assert dict(call.initial_metadata())["x-request-id"] == "order-7"
    line = line_of(server, "order-7")
    assert (line["event"], line["method"], line["code"], line["traceparent"]) == ("call", "Attend", "OK", TRACE)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["request_bytes"], line["response_bytes"]) == (request.ByteSize(), answer.ByteSize())
    assert line["algorithm"] == "flash" and line["shape"]["query_heads"] == request.options.query_heads
    assert 0 < line["stage_seconds"]["attend"] <= line["seconds"] < 30
    assert "s3cret" not in server.stderr()


def test_a_call_that_fails_has_its_reason(start) -> None:
    server = start()
    wrong = make.canary()
    wrong.options.query_heads = 100_000
    with pytest.raises(grpc.RpcError) as failed:
        server.stub.Attend(wrong, metadata=(("x-request-id", "wrong-1"),), timeout=10)
    assert dict(failed.value.trailing_metadata())["x-request-id"] == "wrong-1"
    assert not failed.value.initial_metadata(), "clients do not try again what had headers"
    line = line_of(server, "wrong-1")
    assert (line["code"], line["reason"], line["response_bytes"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST", 0)
    assert "shape" not in line


def test_an_id_is_made_where_none_is_sent_or_it_is_odd(start) -> None:
    server = start()
    for metadata in ((), (("x-request-id", "a b"),), (("x-request-id", "x" * 200),)):
        call = server.stub.GetServerInfo.with_call(
            service_pb.GetServerInfoRequest(), metadata=(*metadata, ("traceparent", "00-odd")), timeout=10
        )[1]
        made = dict(call.initial_metadata())["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{16}", made)
        assert "traceparent" not in line_of(server, made)


def test_a_flood_is_bounded_and_counted(start) -> None:
    server = start("--log-calls-per-second=5")
    calls = [server.stub.GetServerInfo.future(service_pb.GetServerInfoRequest(), timeout=30) for _ in range(400)]
    for call in calls:
        call.result()
    failure_of(lambda: server.attend(service_pb.AttendRequest()))  # the flood does not hide it
    wait_until(lambda: any(line["method"] == "Attend" for line in lines(server)))

    def heard_of() -> int:
        server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
        of_flood = [line for line in lines(server) if line["method"] == "GetServerInfo"]
        assert len(of_flood) <= 100
        return sum(1 + line.get("suppressed", 0) for line in of_flood)

    wait_until(lambda: heard_of() > 400, interval=0.1)


@pytest.mark.parametrize("flag", ["--log-level=warn", "--log-calls-per-second=0"])
def test_lines_of_calls_can_be_left_out(start, flag) -> None:
    server = start(flag)
    server.attend(make.canary())
    server.terminate()
    assert server.wait() == 0
    assert lines(server) == []


def test_messages_are_counted(start) -> None:
    server = start()
    before = server.metrics().value("headlight_log_messages_total", level="info")
    server.attend(make.canary())
    wait_until(lambda: server.metrics().value("headlight_log_messages_total", level="info") == before + 1)


def test_statusz_says_what_goes_on(start) -> None:
    server = start()
    server.attend(make.canary())
    failure_of(lambda: server.attend(service_pb.AttendRequest()))
    status, page = server.page("/statusz")
    assert status == 200
    assert "<td>ready</td>" in page and server.address in page
    assert re.search(r"<td>Attend</td><td>2</td><td>1</td><td>1</td>", page)
    assert "<td>INVALID_REQUEST</td><td>1</td>" in page
    assert "<td>max_tokens</td><td>16384</td>" in page


def test_nobody_who_reads_holds_nobody_up() -> None:
    """stderr is a pipe that is full: calls are answered, and SIGTERM ends the server as ever."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    flags = ["--listen=127.0.0.1:0", "--http=", "--web=", "--log-calls-per-second=100000"]
    with subprocess.Popen([BINARY, *flags], stderr=writer, stdout=subprocess.PIPE, text=True, env=environment()) as server:
        try:
            ready = READY.match(server.stdout.readline().strip())
            with grpc.insecure_channel(ready["grpc"]) as channel:
                stub = service_grpc.AttentionServiceStub(channel)
                for _ in range(3000):
                    stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
                server.send_signal(signal.SIGTERM)
                assert server.wait(10) == 0
        finally:
            server.kill()
            os.close(writer)
            os.close(reader)
