"""The web port: calls by the Connect protocol, who may make them, and clients that do not behave."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import make
import numpy as np
import pytest
from certificates import Authority
from google.protobuf import json_format
from rpc_errors import failure_of
from server_process import Server, run_server, wait_until
from wire import service_pb

ATTEND = "/headlight.v1.AttentionService/Attend"
INFO = "/headlight.v1.AttentionService/GetServerInfo"
JSON, PROTO = "application/json", "application/proto"
TOKEN = "a-token-for-the-web-port"
MIB = 1 << 20


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> dict:
        return json.loads(self.body)


def ask(server: Server, path: str, body: bytes = b"{}", *, method: str = "POST", tls=None, **headers: str) -> Answer:
    """`headers` with _ for -."""
    host, port = server.web.rsplit(":", 1)
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    connection = kind(host, int(port), timeout=60, **({"context": tls} if tls else {}))
    sent = {"content-type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with contextlib.closing(connection):
        connection.request(method, path, body if method == "POST" else None, sent)
        return Answer(connection.getresponse())


def without_times(answer: service_pb.AttendResponse) -> bytes:
    answer.ClearField("execution")
    return answer.SerializeToString(deterministic=True)


def raw(server: Server, sent: bytes, patience: float = 30) -> bytes:
    """All that comes back on a connection of its own until the server closes it."""
    host, port = server.web.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        connection.sendall(sent)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)


def serial_of(server: Server, trusting: ssl.SSLContext) -> str:
    host, port = server.web.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as plain, trusting.wrap_socket(plain, server_hostname=host) as tls:
        return tls.getpeercert()["serialNumber"]


# Calls.


def test_json_and_proto_answer_what_grpc_answers(server, rng) -> None:
    request = make.embeddings(rng)
    request.outputs.maps.append(make.full_map(heads=[0]))
    over_grpc = without_times(server.attend(request))
    proto = ask(server, ATTEND, request.SerializeToString(), content_type=PROTO)
    assert (proto.status, proto.headers["content-type"]) == (200, PROTO)
    assert without_times(service_pb.AttendResponse.FromString(proto.body)) == over_grpc
    text = json_format.MessageToJson(request).encode()
    answered = ask(server, ATTEND, text, content_type="application/json; charset=utf-8", connect_protocol_version="1")
    assert (answered.status, answered.headers["content-type"]) == (200, JSON)
    assert without_times(json_format.Parse(answered.body, service_pb.AttendResponse())) == over_grpc


def test_an_error_is_that_of_grpc_with_its_details(server) -> None:
    request = make.canary()
    request.options.query_heads = 1000
    failure = failure_of(lambda: server.attend(request))
    answer = ask(server, ATTEND, request.SerializeToString(), content_type=PROTO)
    assert (answer.status, answer.headers["content-type"]) == (400, JSON)
    assert (answer.json["code"], answer.json["message"]) == ("invalid_argument", failure.message)
    details = {detail["type"]: detail for detail in answer.json["details"]}
    assert details["google.rpc.ErrorInfo"]["debug"]["reason"] == failure.reason
    fields = [v["field"] for v in details["google.rpc.BadRequest"]["debug"]["fieldViolations"]]
    assert fields == [field for field, _ in failure.violation_list]
    assert "=" not in details["google.rpc.BadRequest"]["value"]
    assert b"query_heads" in base64.b64decode(details["google.rpc.BadRequest"]["value"] + "==")


@pytest.mark.parametrize(
    ("status", "code", "path", "body", "headers"),
    [
        (400, "invalid_argument", ATTEND, b"{", {}),
        (400, "invalid_argument", ATTEND, b"", {}),
        (400, "invalid_argument", ATTEND, b'{"optionz": 1}', {}),
        (400, "invalid_argument", ATTEND, b"[" * 33 + b"]" * 33, {}),
        (400, "invalid_argument", INFO, b"{}", {"connect_protocol_version": "2"}),
        (400, "invalid_argument", INFO, b"{}", {"connect_timeout_ms": "12345678901"}),
        (400, "invalid_argument", INFO, b"{}", {"connect_timeout_ms": "-1"}),
        (501, "unimplemented", INFO, b"{}", {"content_encoding": "gzip"}),
        (404, "not_found", "/headlight.v1.LayerService/GetLayer", b'{"name": "nobody"}', {}),
        (429, "resource_exhausted", ATTEND, b'"' + b"x" * (8 * MIB), {}),
        (504, "deadline_exceeded", ATTEND, json_format.MessageToJson(make.seeded(2048, 256, 4)).encode(), {"connect_timeout_ms": "1"}),
    ],
)  # fmt: skip
def test_refusals(server, status, code, path, body, headers) -> None:
    answer = ask(server, path, body, **headers)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["message"]


def test_what_is_no_call(server) -> None:
    assert ask(server, INFO, method="GET").status == 405
    assert ask(server, "/headlight.v1.AttentionService/Nothing").status == 404
    assert ask(server, "/headlight.v1.LayerService/UploadLayer").status == 404  # no unary one
    kind = ask(server, INFO, content_type="text/plain")
    assert kind.status == 415 and JSON in kind.headers["accept-post"]
    assert ask(server, "/../../etc/passwd", method="GET").status == 404
    assert ask(server, "/" + "a" * 5000, method="GET").status == 404
    assert ask(server, "/index.html", b"").status == 405


def test_one_connection_carries_many_calls(server) -> None:
    host, port = server.web.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    for _ in range(20):
        connection.request("POST", INFO, b"{}", {"content-type": JSON})
        assert json.loads(connection.getresponse().read())["threads"] > 0
    parts = (b'{"name"', b": ", b'"demo"}')
    connection.request("POST", "/headlight.v1.LayerService/GetLayer", iter(parts), {"content-type": JSON}, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["layer"]["queryHeads"] == 3
    connection.close()


def test_a_client_is_told_to_go_on_with_its_body(server) -> None:
    head = f"POST {INFO} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\nContent-Length: 2\r\n"
    host, port = server.web.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert b"200 OK" in b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_call_over_http_is_a_call(start) -> None:
    """It is counted, logged by its identity, and its refusal carries what a client needs to come again."""
    server = start("--threads=1")
    answer = ask(server, INFO, x_request_id="mine")
    assert answer.headers["x-request-id"] == "mine"
    metrics = server.metrics()
    assert metrics.value("grpc_server_handled_total", grpc_method="GetServerInfo", grpc_code="OK") == 1
    call = make.seeded(tokens=4096, width=512, heads=8).SerializeToString()
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: ask(server, ATTEND, call, content_type=PROTO), range(16)))
    busy = [answer for answer in answers if answer.status == 429]
    assert busy and all(answer.status in (200, 429) for answer in answers)
    assert int(busy[0].headers["retry-after"]) >= 1
    assert busy[0].json["code"] == "resource_exhausted"
    assert any(detail["type"] == "google.rpc.RetryInfo" for detail in busy[0].json["details"])
    wait_until(lambda: server.held() == 0)


def test_a_client_that_goes_away_cancels_its_call(start) -> None:
    server = start("--threads=1", "--max-call-seconds=1000", "--max-wait-seconds=1000")
    body = make.seeded(tokens=16384, width=512, heads=8).SerializeToString()
    host, port = server.web.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST {ATTEND} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {PROTO}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    wait_until(lambda: server.metrics().value("headlight_workers_busy") == 1)
    began = time.monotonic()
    connection.close()
    wait_until(lambda: server.held() == 0, interval=0.01)
    assert time.monotonic() - began < 1
    wait_until(lambda: server.metrics().value("grpc_server_handled_total", grpc_method="Attend", grpc_code="Cancelled") == 1)


def test_a_connection_older_than_grpc_lets_them_become(start) -> None:
    server = start("--threads=1", "--max-connection-age=0.5", "--max-connection-age-grace=0.1", "--max-connection-idle=0.5")
    for _ in range(6):
        assert ask(server, INFO).status == 200
        time.sleep(0.4)


def test_a_drain_lets_an_answer_leave(start) -> None:
    server = start("--threads=1", "--max-wait-seconds=100")
    body = make.seeded(tokens=4096, width=512, heads=8).SerializeToString()
    with ThreadPoolExecutor(1) as client:
        call = client.submit(ask, server, ATTEND, body, content_type=PROTO)
        wait_until(lambda: server.metrics().value("headlight_workers_busy") == 1)
        server.terminate()
        assert call.result().status == 200
    assert server.wait(10) == 0


# Who may call.


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),
        (200, {"host": "localhost:1"}),
        (200, {"host": "[::1]"}),
        (200, {"host": "192.0.2.7"}),
        (200, {"host": "localhost:80", "origin": "http://localhost:80"}),
        (200, {"sec_fetch_site": "same-origin"}),
        (403, {"host": "evil.example"}),
        (403, {"host": "localhost.evil.example"}),
        (403, {"host": "127.0.0.1.evil.example"}),
        (403, {"host": ""}),
        (403, {"origin": "http://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"host": "localhost:80", "origin": "https://localhost:80"}),
        (403, {"host": "localhost:80", "origin": "http://localhost:81"}),
        (403, {"sec_fetch_site": "cross-site"}),
        (403, {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate"}),
    ],
)
def test_strangers_are_refused(server, status, headers) -> None:
    answer = ask(server, INFO, **headers)
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("status", "name"), [(200, "localhost:1"), (403, "evil.example"), (403, "evil@127.0.0.1")])
def test_a_targets_host_goes_before_the_headers(server, status, name) -> None:
    """RFC 9112, 3.2.2: a target as a proxy is asked for it."""
    assert ask(server, f"http://{name}{INFO}", host="127.0.0.1").status == status


def test_pages_may_be_linked_to_and_not_read(server) -> None:
    assert ask(server, "/", method="GET", sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200
    assert ask(server, "/", method="GET", sec_fetch_site="cross-site", sec_fetch_mode="no-cors").status == 403
    assert ask(server, "/", method="GET", host="evil.example").status == 403
    page = ask(server, "/", method="GET")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_listed_origins_and_hosts_may_call(start) -> None:
    server = start("--threads=1", "--web-origins=https://page.example", "--web-hosts=Headlight.example")
    allowed = {"origin": "https://page.example", "sec_fetch_site": "cross-site"}
    answer = ask(server, INFO, **allowed)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://page.example")
    assert answer.headers["vary"] == "Origin"
    preflight = ask(server, INFO, method="OPTIONS", access_control_request_method="POST", **allowed)
    assert (preflight.status, preflight.headers["access-control-allow-methods"]) == (204, "POST")
    assert "connect-protocol-version" in preflight.headers["access-control-allow-headers"]
    assert ask(server, INFO, method="OPTIONS", origin="https://other.example").status == 403
    assert ask(server, INFO, host="headlight.example:8080").status == 200


def test_tokens_are_asked_for(start, tmp_path) -> None:
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    server = start("--threads=1", f"--auth-token-file={tmp_path / 'tokens'}")
    refused = ask(server, INFO)
    assert (refused.status, refused.json["code"]) == (401, "unauthenticated")
    assert ask(server, INFO, authorization=f"Bearer {TOKEN}").status == 200
    ended = run_server("--listen=127.0.0.1:0", "--http=", "--web=0.0.0.0:0", f"--auth-token-file={tmp_path / 'tokens'}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "--web" in ended.stderr and "--tls-certificate" in ended.stderr


def test_what_belongs_to_grpc_cannot_be_sent(server) -> None:
    """A header that gRPC would take as its own, or refuse to send, changes nothing."""
    odd = {"grpc_timeout": "1n", "grpc_encoding": "gzip", "te": "trailers", "x_odd": "caf\u00e9", "x_bin": "x", "a_bin": "?!"}
    assert ask(server, INFO, **odd).status == 200
    assert ask(server, INFO, x_large="y" * 9000).status in (400, 429)


def test_tls_with_certificates_that_are_renewed(start, tmp_path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("first").write("server")
    server = start("--threads=1", f"--tls-certificate={certificate}", f"--tls-key={key}", ready=True)
    trusting = ssl.create_default_context(cafile=str(authority.path))
    assert ask(server, INFO, tls=trusting).status == 200
    serial = serial_of(server, trusting)
    authority.issue("second").write("server")
    wait_until(lambda: serial_of(server, trusting) != serial, 20, 0.2)
    assert ask(server, INFO, tls=trusting).status == 200
    answer = raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200" not in answer


# Clients that do not behave.


def test_silent_and_slow_browsers_do_not_keep_others_out(server) -> None:
    host, port = server.web.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        rude = [stack.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(200)]
        for connection in rude[::2]:
            connection.sendall(b"POST / HTTP/1.1\r\nX: ")
        began = time.monotonic()
        assert ask(server, INFO).status == 200
        assert time.monotonic() - began < 20
    wait_until(lambda: server.held() == 0)


def test_a_head_without_end_is_cut_off(server) -> None:
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000))
    with contextlib.suppress(OSError):
        assert b"200 OK" not in raw(server, sent)
    assert ask(server, INFO).status == 200


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (400, ["Content-Length: 2", "Content-Length: 40"]),
        (400, ["Content-Length: 2", "Transfer-Encoding: chunked"]),
        (400, ["Content-Length: abc"]),
        (400, ["Content-Length: 2,2"]),
        (400, ["Content-Length: 2", "Host: other"]),
        (501, ["Transfer-Encoding: xchunked"]),
    ],
)
def test_a_body_whose_end_is_in_doubt_is_refused(server, status, lines) -> None:
    """And what follows is not read as a request."""
    head = [f"POST {INFO} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines, "", "{}"]
    inner = "GET /main.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(server, ("\r\n".join(head) + inner).encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_body_where_none_is_read_ends_the_connection(server, method) -> None:
    inner = "GET /main.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = f"{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(inner)}\r\n\r\n"
    assert raw(server, (head + inner).encode()).count(b"HTTP/1.1") == 1


def test_a_call_without_a_body_is_answered_at_once(server) -> None:
    began = time.monotonic()
    head = f"POST {INFO} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\nConnection: close\r\n\r\n"
    answer = raw(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.lower().count(b"connection: close") == 1
    assert time.monotonic() - began < 5


def test_a_target_as_a_proxy_sends_it(server) -> None:
    head = "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b"<!doctype html>" in raw(server, head.encode()).lower()


def test_a_body_that_is_refused_is_not_asked_for(server) -> None:
    head = f"POST {INFO} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n"
    answer = raw(server, f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 429 ")


def test_a_message_that_is_none(server) -> None:
    answer = ask(server, ATTEND, b"\xff\xff", content_type=PROTO)
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    assert "headlight.v1.AttendRequest" in answer.json["message"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST " + ATTEND.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\nContent-Length: -1\r\n\r\n",
        b"POST " + ATTEND.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST " + ATTEND.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/proto\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\0" * 3000,
    ],
)
def test_what_is_no_http(server, sent) -> None:
    host, port = server.web.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection, contextlib.suppress(OSError):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1 << 16)
        assert b" 200 " not in answer.split(b"\r\n")[0]
    assert ask(server, INFO).status == 200


def test_an_error_carries_its_calls_identity(server) -> None:
    wrong = ask(server, ATTEND, x_request_id="mine")
    assert wrong.status == 400 and wrong.headers["x-request-id"] == "mine"
