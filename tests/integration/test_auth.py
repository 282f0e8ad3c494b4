"""Who may call: tokens from a file, names in client certificates, and what stays open to everybody."""

import subprocess
from collections.abc import Callable
from functools import partial

import grpc
import make
import pytest
from certificates import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from raw_http2 import RawConnection
from rpc_errors import failure_of, refusal_of
from server_process import CLI, NO_LIMITS, Server, environment, run_server, wait_until
from wire import service_grpc, service_pb

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
FIRST, SECOND, THIRD = ("first-token-of-the-tests", "second-token-of-the-tests", "third-token-of-the-tests")
SERVICE = service_pb.DESCRIPTOR.services_by_name["AttentionService"]


def bearing(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# of the tests\n{FIRST}\n\n  {SECOND}  \n")
    return path


@pytest.fixture
def guarded(start, tokens) -> Server:
    return start("--threads=1", f"--auth-token-file={tokens}", "--log-level=debug")


def ask(server: Server, metadata=None) -> service_pb.GetServerInfoResponse:
    return server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), metadata=metadata, timeout=10)


def refuse(call: Callable[[], object]) -> None:
    refusal_of(call, UNAUTHENTICATED, "UNAUTHENTICATED")


def test_every_method_wants_a_token(guarded) -> None:
    for method in SERVICE.methods:
        call = guarded.channel.unary_unary(f"/{SERVICE.full_name}/{method.name}")
        refuse(partial(call, make.canary().SerializeToString() if method.name == "Attend" else b"", timeout=10))
    metrics = guarded.metrics()
    assert metrics.value("headlight_errors_total", reason="unauthenticated") == len(SERVICE.methods)
    assert metrics.value("grpc_server_handled_total", grpc_code="Unauthenticated") == len(SERVICE.methods)
    assert metrics.value("headlight_worker_busy_seconds_total") >= 0
    for token in (FIRST, SECOND):
        answer = guarded.stub.Attend(make.canary(), metadata=bearing(token), timeout=10)
        assert answer.HasField("output")


@pytest.mark.parametrize(
    "metadata",
    [
        bearing(THIRD),
        bearing(FIRST[:-1]),
        bearing(FIRST + "x"),
        bearing(""),
        bearing("# of the tests"),
        [("authorization", FIRST)],
        [("authorization", f"Basic {FIRST}")],
        [("x-authorization", f"Bearer {FIRST}")],
        bearing(FIRST) + bearing(FIRST),
    ],
    ids=["other", "shorter", "longer", "empty", "comment", "bare", "basic", "elsewhere", "twice"],
)
def test_what_is_no_token(guarded, metadata) -> None:
    refuse(lambda: ask(guarded, metadata))
    log = guarded.stderr()
    assert FIRST not in log and SECOND not in log and THIRD not in log


def test_the_scheme_is_written_as_one_likes(guarded) -> None:
    assert ask(guarded, [("authorization", f"bearer {FIRST}")]).threads == 1


def test_health_is_for_everybody(guarded) -> None:
    health = health_pb2_grpc.HealthStub(guarded.channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=5)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    assert guarded.page("/readyz")[0] == 200


def test_reflection_wants_a_token_too(guarded) -> None:
    def services(metadata=None) -> list[str]:
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
        (answer,) = stub.ServerReflectionInfo(asked, metadata=metadata, timeout=10)
        return [service.name for service in answer.list_services_response.service]

    assert failure_of(services).code == UNAUTHENTICATED
    assert SERVICE.full_name in services(bearing(SECOND))


def test_a_unix_socket_wants_a_token_too(start, tokens, tmp_path) -> None:
    path = f"unix:{tmp_path}/headlight.sock"
    start("--threads=1", f"--auth-token-file={tokens}", f"--listen={path}")
    with grpc.insecure_channel(path, options=NO_LIMITS) as channel:
        stub = service_grpc.AttentionServiceStub(channel)
        info = partial(stub.GetServerInfo, service_pb.GetServerInfoRequest(), timeout=10)
        refuse(info)
        assert info(metadata=bearing(FIRST)).threads == 1


def test_tokens_change_while_it_serves(guarded, tokens) -> None:
    tokens.write_text(f"{SECOND}\n{THIRD}\n")
    wait_until(lambda: "the file of tokens changed and is in use" in guarded.stderr(), 10)
    assert ask(guarded, bearing(SECOND)).threads == ask(guarded, bearing(THIRD)).threads == 1
    refuse(lambda: ask(guarded, bearing(FIRST)))
    tokens.write_text("short\n")
    wait_until(lambda: "cannot be used" in guarded.stderr(), 10)
    assert ask(guarded, bearing(THIRD)).threads == 1
    assert "short" not in guarded.stderr() and THIRD not in guarded.stderr()


@pytest.mark.parametrize("text, word", [(None, "cannot read"), ("# none\n", "no token"), ("a b\n", "line 1")])
def test_a_file_without_tokens_refuses_to_start(tmp_path, text, word) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text)
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", f"--auth-token-file={path}")
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "--auth-token-file" in line and word in line


def test_metadata_that_grpc_cannot_print_does_no_harm(guarded) -> None:
    """gRPC 1.51's own processors of metadata abort on the first."""
    headers = {"grpclb_client_stats": "x", "lb-cost-bin": "AAAA", "grpc-previous-rpc-attempts": "x", "te": "deflate"}
    for name, value in headers.items():
        with RawConnection(guarded.address) as connection:
            status = connection.call(f"/{SERVICE.full_name}/GetServerInfo", b"", {name: value})
            assert status != 0
    assert ask(guarded, bearing(FIRST)).threads == 1


def test_names_in_client_certificates(start, tokens, tmp_path) -> None:
    from cryptography import x509

    authority = Authority(tmp_path)
    certificate, key = authority.issue().write("server")
    flags = [f"--tls-certificate={certificate}", f"--tls-key={key}", f"--tls-client-ca={authority.path}"]
    names = "--auth-client-names=alice,bob.example"
    clients = {
        "alice": authority.issue("alice", names=()),
        "bob": authority.issue("bob", names=[x509.DNSName("bob.example")]),
        "mallory": authority.issue("mallory", names=[x509.DNSName("alice.example")]),
    }

    def info(server: Server, client: str, metadata=None) -> service_pb.GetServerInfoResponse:
        pair = clients[client]
        credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), pair.key_pem, pair.certificate_pem)
        with grpc.secure_channel(server.address, credentials, options=NO_LIMITS) as channel:
            stub = service_grpc.AttentionServiceStub(channel)
            return stub.GetServerInfo(service_pb.GetServerInfoRequest(), metadata=metadata, timeout=10)

    alone = start("--threads=1", names, *flags)
    with_tokens = start("--threads=1", names, *flags, f"--auth-token-file={tokens}")
    for server in (alone, with_tokens):
        for client in ("alice", "bob"):
            assert info(server, client).threads == 1
        refuse(lambda: info(server, "mallory"))
    refuse(lambda: info(alone, "mallory", bearing(FIRST)))
    assert info(with_tokens, "mallory", bearing(FIRST)).threads == 1


def test_the_command_line_brings_a_token(guarded, tmp_path) -> None:
    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        command = [CLI, "info", f"--address={guarded.address}", *arguments]
        return subprocess.run(command, env=environment(env), capture_output=True, text=True, timeout=30)

    file = tmp_path / "token"
    file.write_text(f"{FIRST}\n")
    assert run(f"--token-file={file}").returncode == 0
    assert run(env={"HEADLIGHT_TOKEN": SECOND}).returncode == 0
    without = run()
    assert without.returncode == 3
    assert "UNAUTHENTICATED" in without.stderr and "--token-file" in without.stderr
    wrong = run(env={"HEADLIGHT_TOKEN": THIRD})
    assert wrong.returncode == 3 and THIRD not in wrong.stderr
