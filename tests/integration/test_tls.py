"""TLS as clients see it: versions, client certificates, certificates renewed while calls run, and bad configurations."""

import os
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import grpc
import make
import pytest
from certificates import Authority, Pair
from cryptography import x509
from rpc_errors import failure_of
from server_process import CLI, NO_LIMITS, Server, environment, run_server, wait_until
from wire import service_grpc, service_pb

OWN = [*NO_LIMITS, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(start, authority) -> Callable[..., Server]:
    """Starts servers with the certificate `server` of the authority."""

    def start_one(*flags: str) -> Server:
        certificate, key = authority.issue().write("server")
        return start("--threads=1", f"--tls-certificate={certificate}", f"--tls-key={key}", *flags)

    return start_one


def channel_to(server: Server, authority: Authority, client: Pair | None = None) -> grpc.Channel:
    pair = (client.key_pem, client.certificate_pem) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), *pair)
    return grpc.secure_channel(server.address, credentials, options=OWN)


def attends(channel: grpc.Channel) -> bool:
    with channel:
        answer = service_grpc.AttentionServiceStub(channel).Attend(make.canary(), timeout=10)
    return answer.HasField("output")


def refused(channel: grpc.Channel) -> bool:
    with channel:
        stub = service_grpc.AttentionServiceStub(channel)
        failure = failure_of(lambda: stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=5))
    return failure.code == grpc.StatusCode.UNAVAILABLE


def handshake(server: Server, authority: Authority, least=None, most=None) -> tuple[str, x509.Certificate]:
    """Version and certificate of a handshake by OpenSSL."""
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = least or context.minimum_version, most or context.maximum_version
    if most is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            assert wrapped.selected_alpn_protocol() == "h2"
            return wrapped.version(), x509.load_der_x509_certificate(wrapped.getpeercert(binary_form=True))


def test_calls_are_encrypted_and_plaintext_is_not_answered(secure, authority, canary) -> None:
    server = secure()
    assert attends(channel_to(server, authority))
    assert refused(server.new_channel())
    canary()


def test_a_client_with_another_authority_does_not_trust_it(secure, tmp_path) -> None:
    assert refused(channel_to(secure(), Authority(tmp_path, "other")))


def test_tls_1_2_and_newer(secure, authority) -> None:
    server = secure()
    version = ssl.TLSVersion
    assert handshake(server, authority, most=version.TLSv1_2)[0] == "TLSv1.2"
    assert handshake(server, authority, least=version.TLSv1_3)[0] == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="EOF|ALERT|alert"):
        handshake(server, authority, least=version.TLSv1, most=version.TLSv1_1)


def test_client_certificates_are_required_and_verified(secure, authority, tmp_path) -> None:
    server = secure(f"--tls-client-ca={authority.path}")
    assert attends(channel_to(server, authority, authority.issue("somebody", names=())))
    assert refused(channel_to(server, authority))
    stranger = Authority(tmp_path, "stranger").issue("somebody", names=())
    assert refused(channel_to(server, authority, stranger))
    assert refused(channel_to(server, authority, authority.issue("late", days=-0.01, names=())))


def test_a_unix_socket_stays_plain(secure, authority, tmp_path) -> None:
    server = secure(f"--listen=unix:{tmp_path}/headlight.sock")
    assert attends(channel_to(server, authority))
    assert attends(grpc.insecure_channel(f"unix:{tmp_path}/headlight.sock", options=OWN))


# Renewal.


def replace(pair: Pair, name: str = "server") -> None:
    """As tools renew certificates: each file at once, one after the other."""
    for path in pair.write("new"):
        os.replace(path, path.with_stem(name))


def test_certificates_are_renewed_under_load(secure, authority) -> None:
    server = secure()
    kept = channel_to(server, authority)
    failures: list[Exception] = []
    calls = 0
    stop = threading.Event()

    def call_on_new_connections() -> None:
        nonlocal calls
        while not stop.is_set():
            try:
                assert attends(channel_to(server, authority))
                calls += 1
            except (grpc.RpcError, AssertionError) as error:
                failures.append(error)

    load = threading.Thread(target=call_on_new_connections)
    load.start()
    try:
        for days in (20, 10):
            renewed = authority.issue(days=days)
            replace(renewed)
            wait_until(lambda: handshake(server, authority)[1] == renewed.certificate, 20)
            assert server.metrics().value("headlight_tls_certificate_expiry_timestamp_seconds") == renewed.expiry
    finally:
        stop.set()
        load.join()
    assert not failures and calls > 0
    assert attends(kept)
    wait_until(lambda: server.stderr().count("the TLS certificate changed and is in use") == 2)


def test_a_bad_renewal_keeps_the_old_one_and_is_logged_once(secure, authority) -> None:
    server = secure(f"--tls-client-ca={authority.path}")
    somebody = authority.issue("somebody", names=())
    good, _ = authority.issue(), None
    replace(good)
    served = lambda: server.metrics().value("headlight_tls_certificate_expiry_timestamp_seconds")  # noqa: E731
    wait_until(lambda: served() == good.expiry, 10)
    folder = authority.path.parent
    reasons = ["not that of the certificate", "no certificate in PEM form", "cannot read"]
    other = authority.issue(days=5)
    spoils = [
        lambda: (folder / "server.key").write_bytes(other.key_pem),
        lambda: (folder / "server.pem").write_text("nothing of the kind"),
        lambda: (folder / "server.pem").unlink(),
    ]
    for spoil, reason in zip(spoils, reasons, strict=True):
        spoil()
        wait_until(lambda: reason in server.stderr(), 10)
        assert attends(channel_to(server, authority, somebody))
        assert served() == good.expiry
    errors = [line for line in server.stderr().splitlines() if "cannot be used" in line]
    assert len(errors) == len(reasons)
    assert "PRIVATE KEY" not in server.stderr()
    replace(other)
    wait_until(lambda: served() == other.expiry, 10)
    assert attends(channel_to(server, authority, somebody))


def test_without_tls_no_certificate_expires(server) -> None:
    assert server.metrics().value("headlight_tls_certificate_expiry_timestamp_seconds") == 0


# Configurations that cannot be.


@pytest.mark.parametrize(
    "flags, code, word",
    [
        (["--tls-certificate=server.pem"], 2, "--tls-key"),
        (["--tls-key=server.key"], 2, "--tls-certificate"),
        (["--tls-client-ca=authority.pem"], 2, "--tls-certificate"),
        (["--tls-certificate=server.pem", "--tls-key=missing.key"], 1, "missing.key: No such file"),
        (["--tls-certificate=.", "--tls-key=server.key"], 1, "cannot read .: not a regular file"),
        (["--tls-certificate=server.key", "--tls-key=server.key"], 1, "no certificate"),
        (["--tls-certificate=server.pem", "--tls-key=server.pem"], 1, "no private key"),
        (["--tls-certificate=server.pem", "--tls-key=other.key"], 1, "not that of the certificate"),
        (["--tls-certificate=server.pem", "--tls-key=server.key", "--tls-client-ca=server.key"], 1, "client authorities"),
        (["--auth-client-names=somebody"], 2, "--tls-client-ca"),
    ],
)
def test_a_configuration_that_cannot_be(authority, flags, code, word) -> None:
    folder = authority.path.parent
    authority.issue().write("server")
    authority.issue().write("other")
    paths = [flag if "names" in flag else flag.replace("=", f"={folder}/") for flag in flags]
    ended = run_server("--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--web=", *paths)
    assert ended.returncode == code
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert word.replace("read .", f"read {folder}/.") in line.replace(f"{folder}/missing", "missing")


# The command line.


def run_cli(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([CLI, *arguments], env=environment(env), capture_output=True, text=True, timeout=30)


def test_the_command_line_speaks_tls(secure, authority) -> None:
    server = secure(f"--tls-client-ca={authority.path}")
    certificate, key = authority.issue("somebody", names=()).write("somebody")
    address, own = f"--address={server.address}", [f"--tls-certificate={certificate}", f"--tls-key={key}"]
    assert run_cli("demo", address, f"--tls-ca={authority.path}", *own).returncode == 0
    variables = {"HEADLIGHT_TLS_CA": authority.path, "HEADLIGHT_TLS_CLIENT_CERTIFICATE": certificate,
                 "HEADLIGHT_TLS_CLIENT_KEY": key}  # fmt: skip
    ended = run_cli("health", address, env={name: str(path) for name, path in variables.items()})
    assert (ended.returncode, ended.stdout) == (0, "SERVING\n")
    assert run_cli("info", address, "--tls", *own, "--timeout=1").returncode == 4
    assert run_cli("info", address, "--timeout=1").returncode == 4
    half = run_cli("info", address, f"--tls-ca={authority.path}", own[0])
    assert half.returncode == 2 and "go together" in half.stderr
    missing = run_cli("info", address, f"--tls-ca={Path(authority.path).with_name('missing.pem')}")
    assert missing.returncode == 2 and "missing.pem" in missing.stderr
