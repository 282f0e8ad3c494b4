"""Scenarios of streamed calls: answers that are read slowly or not at all, clients that fall silent, and that vanish."""

import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing

import grpc
import h2.events
import make
import numpy as np
from connections import NO_PINGS, framed, is_answered
from make import MIB, Sizes
from raw_http2 import ENDS, RawConnection
from scene import Scene, eventually, resident
from server_process import Server
from streams import COMMIT, assemble, attend_streamed, chunk_of, chunks_of, header_of, messages_of
from wire import F32, KINDS, service_grpc, service_pb

STREAM = "/headlight.v1.AttentionService/AttendStream"
Message = service_pb.AttendStreamRequest
RESULTS_MIB = 16


def wide() -> service_pb.AttendRequest:
    """Small inputs and 16 MiB of results, which are computed in a moment."""
    return make.qkv(np.random.default_rng(1), Sizes(heads=8, tokens=4096, keys=16, size=1, value_size=128))


class Reader:
    """A client that sends a whole stream at once, and takes what comes when it is told to."""

    def __init__(self, server: Server, request: service_pb.AttendRequest):
        self.connection = RawConnection(server.address)
        self.data = bytearray()
        self._stream = self.connection.open(STREAM)
        self.connection.send(self._stream, b"".join(framed(m.SerializeToString()) for m in messages_of(request)))
        self.connection.http.end_stream(self._stream)
        self.connection.flush()

    def take(self, seconds: float = 0.001) -> bool:
        """At most the 64 KiB of HTTP/2's window. Returns whether that was the end."""
        self.connection.read(seconds)
        came, self.connection.events = self.connection.events, []
        for event in came:
            if isinstance(event, h2.events.DataReceived):
                self.data += event.data
                self.connection.http.acknowledge_received_data(event.flow_controlled_length, self._stream)
        self.connection.flush()
        return self.connection.closed or any(isinstance(event, ENDS) for event in came)

    def rest(self) -> service_pb.AttendResponse:
        """What all of it is, once the rest was taken."""
        while not self.take(10):
            pass
        messages, at = [], 0
        while at < len(self.data):
            _, size = struct.unpack_from(">BI", self.data, at)
            messages.append(service_pb.AttendStreamResponse.FromString(bytes(self.data[at + 5 : at + 5 + size])))
            at += 5 + size
        return assemble(messages)


def stream_slow_reader(scene: Scene) -> None:
    """Answers that are read at 64 KiB a second: beside the results, which wait there, two messages each are held, and
    some MiB for all."""
    count, request = int(scene.count(8, 2)), wide()
    held_mib = count * (RESULTS_MIB + request.ByteSize() / MIB)
    with scene.server(NO_PINGS, peak_mib=held_mib + 2 * count + 64) as server, ExitStack() as stack:
        before, most = resident(server), 0.0
        readers = [Reader(server, request) for _ in range(count)]
        for reader in readers:
            stack.enter_context(reader.connection)
        end = time.monotonic() + scene.seconds
        while time.monotonic() < end or not all(reader.data for reader in readers):
            for reader in readers:
                reader.take()
            most = max(most, resident(server))
            time.sleep(scene.count(1, 0.05))
        scene.tell("results of each", RESULTS_MIB, "MiB")
        scene.tell("of them read", min(len(reader.data) for reader in readers) / MIB, "MiB")
        scene.promise("another client is answered", float(is_answered(server)), 1)
        scene.at_most("resident beside inputs and results, each", (most - before - held_mib) / count, 2 + 4 / count, "MiB")
        answers = [make.bits(reader.rest()) for reader in readers[:2]]
        wanted = make.bits(server.attend(request))
        scene.promise("answers with wrong bits, read on", sum(answer != wanted for answer in answers))


def ended(server: Server, code: str) -> float:
    labels = {"grpc_method": "AttendStream", "grpc_code": code}
    return server.metrics().value("grpc_server_handled_total", **labels)


def stream_unread(scene: Scene) -> None:
    """Answers that nobody reads, on connections that stay: the idle limit ends them."""
    count, idle, request = int(scene.count(16, 4)), scene.count(2, 0.5), wide()
    with scene.server(NO_PINGS, f"--max-stream-idle={idle}", peak_mib=1024) as server, ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(Reader(server, request).connection)
        began = time.monotonic()
        scene.promise("another client is answered", float(is_answered(server)), 1)
        eventually(lambda: ended(server, "DeadlineExceeded") == count, 60)
        scene.at_most("ended after", time.monotonic() - began, idle + 1.5, "s")
        scene.promise("ended otherwise, or not", count - ended(server, "DeadlineExceeded"))
        eventually(lambda: server.held() == 0, 5)
        scene.promise("held while the connections stay", server.held())


def of_a_gibibyte() -> Message:
    """A header that declares so much: Q and K of 256 MiB, V of 512."""
    message = Message()
    for name, size in (("query", 64), ("key", 64), ("value", 128)):
        spec = getattr(message.header.call.query_key_value, name)
        spec.shape[:], spec.kind = [1, 8, 131_072, size], KINDS[F32]
    window = message.header.call.options.mask.window
    window.left = window.right = 1000
    return message


def then_silent(messages: Iterable[Message], over: threading.Event) -> Iterator[Message]:
    yield from messages
    over.wait()


def reserved(server: Server) -> float:
    return server.metrics().value("headlight_memory_reserved_bytes")


def stream_silence(scene: Scene) -> None:
    """1 GiB is declared, 1 MiB sent, and then nothing."""
    idle = scene.count(2, 0.5)
    flags = f"--max-stream-idle={idle}", f"--memory-budget-bytes={4 << 30}", "--max-call-seconds=1000000"
    sent = [of_a_gibibyte(), chunk_of(service_pb.STREAMED_TENSOR_QUERY, 0, bytes(MIB))]
    with scene.server(*flags, peak_mib=64) as server:
        end, before, seen = time.monotonic() + scene.seconds, resident(server), Counter()
        took, least, left, most = [], float("inf"), 0.0, 0.0
        while not took or time.monotonic() < end:
            over = threading.Event()
            call = server.stub.AttendStream(then_silent(sent, over), timeout=600)
            next(call)
            began, least = time.monotonic(), min(least, reserved(server) / MIB)
            seen["answered"] += is_answered(server)
            most = max(most, resident(server) - before)
            seen[call.code().name] += 1
            took.append(time.monotonic() - began)
            over.set()
            eventually(lambda: reserved(server) == 0, 5)
            left = max(left, reserved(server))
        scene.tell("times", len(took))
        scene.promise("times that another client was not answered", len(took) - seen["answered"])
        scene.promise("ended otherwise than by the idle limit", len(took) - seen["DEADLINE_EXCEEDED"])
        scene.promise("times that less was reserved than declared", float(least < 1024))
        scene.promise("reserved afterwards", left)
        scene.at_most("ended after, at most", max(took), idle + 1, "s")
        scene.at_least("ended after, at least", min(took), idle - 0.1, "s")
        scene.at_most("resident more, of 1 GiB declared", most, 16, "MiB")


class Dropper:
    """Opens streams and leaves them at random points: by cancelling, or with the connection."""

    def __init__(self, server: Server, seed: int):
        self._server, self._random = server, random.Random(seed)
        request = make.qkv(np.random.default_rng(1), Sizes(heads=8, tokens=512, size=64))
        self._header, self._chunks = header_of(request), list(chunks_of(request, None, MIB // 4))

    def drop(self) -> None:
        choice, over = self._random, threading.Event()
        point = choice.choice(("opened", "header", "chunks", "commit", "results"))
        some = self._chunks[: choice.randrange(len(self._chunks))]
        sent = {"opened": [], "header": [self._header], "chunks": [self._header, *some]}
        vanishes = choice.random() < 0.25
        channel = self._server.new_channel() if vanishes else self._server.channel
        messages = sent.get(point, [self._header, *self._chunks, COMMIT])
        call = service_grpc.AttentionServiceStub(channel).AttendStream(then_silent(messages, over), timeout=120)
        if point != "opened" and choice.random() < 0.5:
            next(call)
        if point == "results":
            for _ in range(choice.randint(1, 4)):
                next(call, None)
        time.sleep(choice.choice((0, 0.001, 0.01)) * choice.random())
        channel.close() if vanishes else call.cancel()
        over.set()


def stream_open_and_drop(scene: Scene) -> None:
    """Opened, and left before the header, after it, among chunks, after the commit, while results come."""
    count = int(scene.count(1000, 60))
    with scene.server("--max-wait-seconds=1000", peak_mib=256) as server:
        dropper, mib = Dropper(server, 1), []
        for number in range(count):
            dropper.drop()
            if (number + 1) % (count // 5) == 0:
                eventually(lambda: server.held() == 0, 30)
                mib.append(resident(server))
        metrics = server.metrics()
        begun, over = (metrics.value(f"grpc_server_{name}_total", grpc_method="AttendStream") for name in ("started", "handled"))
        scene.tell("streams that came to the server", begun)
        scene.tell("of them completed before they were left", ended(server, "OK"))
        scene.promise("streams that have not ended", begun - over)
        scene.at_most("resident more than after a fifth of them", mib[-1] - mib[0], 16, "MiB")
        wanted = make.bits(server.attend(make.canary()))
        scene.promise("streamed canary, wrong bits", float(make.bits(attend_streamed(server, make.canary())) != wanted))
    with closing(Server("--max-wait-seconds=1000")) as server:
        dropper = Dropper(server, 2)
        for _ in range(count // 5):
            dropper.drop()
        server.terminate()  # waits for calls that are open
        scene.promise("exit status at once after such streams", server.wait(30))


SCENARIOS = {
    "stream_slow_reader": (stream_slow_reader, 20),
    "stream_unread": (stream_unread, 5),
    "stream_silence": (stream_silence, 10),
    "stream_open_and_drop": (stream_open_and_drop, 30),
}
