"""gRPC spoken by hand: what no gRPC library would send, and what libraries do not show."""

import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

ENDS = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)


class RawConnection:
    """One HTTP/2 connection with at most one call at a time; `events` is all that came."""

    def __init__(self, address: str):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.http = h2.connection.H2Connection(config)
        self.events: list[h2.events.Event] = []
        self.closed = False
        self.http.initiate_connection()
        self.flush()

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def flush(self) -> None:
        try:
            self.socket.sendall(self.http.data_to_send())
        except ConnectionError:
            pass  # what the server said before it closed can still be read

    def read(self, seconds: float) -> None:
        """What comes next, if anything does so soon."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return
        except ConnectionError:
            data = b""
        self.closed = not data
        if data:
            try:
                self.events += self.http.receive_data(data)
                self.flush()
            except (h2.exceptions.ProtocolError, ConnectionError):  # what comes after a GOAWAY or a reset
                self.closed = True

    def wait_for(self, *kinds: type, seconds: float = 10) -> h2.events.Event | None:
        """The first event of these kinds; none where the connection was closed without it."""
        end = time.monotonic() + seconds
        while True:
            found = [event for event in self.events if isinstance(event, kinds)]
            if found or self.closed:
                return found[0] if found else None
            assert time.monotonic() < end, f"none of {kinds} within {seconds} s"
            self.read(end - time.monotonic())

    def send(self, stream: int, data: bytes) -> None:
        """All of it, as the windows allow; gives up when the server has answered."""
        while data and not self.closed and not any(isinstance(event, ENDS) for event in self.events):
            size = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size, len(data))
            if size == 0:
                self.read(5)
                continue
            try:
                self.http.send_data(stream, data[:size])
            except h2.exceptions.StreamClosedError:
                return
            self.flush()
            data = data[size:]

    def open(self, path: str, headers: dict[str, str] | None = None) -> int:
        """Begins a call, which `flush` sends, and returns its stream."""
        stream = self.http.get_next_available_stream_id()
        fixed = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
                 "content-type": "application/grpc"}  # fmt: skip
        self.http.send_headers(stream, [*fixed.items(), *(headers or {}).items()])
        return stream

    def call(self, path: str, body: bytes, headers: dict[str, str] | None = None, compressed: bool = False) -> int | None:
        """The status of a unary call with this message; none where the connection was lost."""
        self.events.clear()
        stream = self.open(path, headers)
        self.flush()
        self.send(stream, struct.pack(">BI", compressed, len(body)) + body)
        if not self.closed and stream in self.http.streams and self.http.streams[stream].open:
            self.http.end_stream(stream)
            self.flush()
        self.wait_for(*ENDS)
        for event in self.events:
            if isinstance(event, (h2.events.TrailersReceived, h2.events.ResponseReceived)):
                fields = dict(event.headers)
                if "grpc-status" in fields:
                    return int(fields["grpc-status"])
        return None
