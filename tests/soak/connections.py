"""Scenarios of clients that hold what they were given: connections, streams, half of a message, an answer unread."""

import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import h2.events
import make
import server_process
from make import MIB, bomb
from raw_http2 import RawConnection
from scene import Scene, descriptors, eventually, judge_given_back, resident, small, status_of
from server_process import Server
from wire import service_pb

ATTEND = "/headlight.v1.AttentionService/Attend"
INFO = "/headlight.v1.AttentionService/GetServerInfo"
# How gRPC and we call what cannot be read, and what makes no sense.
INVALID = ("INVALID_ARGUMENT", "INTERNAL", "UNIMPLEMENTED")
NO_PINGS = "--keepalive-time=0"  # these clients read nothing while they hold what they have
STREAMS = 250  # open on a connection, below the server's 256
HERE = Path(__file__).resolve().parent


def framed(body: bytes) -> bytes:
    return struct.pack(">BI", 0, len(body)) + body


def is_answered(server: Server) -> bool:
    with server.new_channel() as channel:
        call = channel.unary_unary(ATTEND)
        return call(small(), timeout=60) != b""


def answered_raw(connection: RawConnection, stream: int) -> bool:
    """Whether this stream ends with the status OK."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not connection.closed:
        for event in connection.events:
            if isinstance(event, h2.events.TrailersReceived) and event.stream_id == stream:
                return dict(event.headers).get("grpc-status") == "0"
        connection.read(1)
    return False


def gone(scene: Scene, server: Server, before: int, seconds: float) -> None:
    """Descriptors of connections that are no more are given back."""
    eventually(lambda: descriptors(server) <= before, seconds)
    scene.promise("descriptors left", max(descriptors(server) - before, 0))


def streams(scene: Scene) -> None:
    """Calls that are opened and never completed: as many as a connection may hold, on some connections."""
    connections = scene.count(40, 4)
    with scene.server(NO_PINGS) as server, ExitStack() as stack:
        before, before_mib = descriptors(server), resident(server)
        opened = []
        for _ in range(connections):
            connection = stack.enter_context(RawConnection(server.address))
            connection.wait_for(h2.events.RemoteSettingsChanged)
            opened.append((connection, [connection.open(ATTEND) for _ in range(STREAMS)]))
            connection.flush()
            for stream in opened[-1][1]:
                connection.send(stream, framed(small())[:20])
        scene.tell("streams opened", connections * STREAMS)
        scene.promise("another client is answered", float(is_answered(server)), 1)
        taken = 1024 * (resident(server) - before_mib) / (connections * STREAMS)
        scene.at_most("resident for each", taken, 32, "KiB")
        answered = 0
        for connection, on_it in opened:
            connection.send(on_it[-1], framed(small())[20:])
            connection.http.end_stream(on_it[-1])
            connection.flush()
            answered += answered_raw(connection, on_it[-1])
        scene.promise("of the last on each connection, completed then: unanswered", connections - answered)
        stack.close()
        gone(scene, server, before, 60)


def streams_unasked(scene: Scene) -> None:
    """A client that never takes note of the bound on streams, on one connection."""
    count = scene.count(10_000, 1000)
    with scene.server(NO_PINGS) as server:
        before, connection = resident(server), RawConnection(server.address)
        with connection:
            opened, closed = 0, False
            try:
                for opened in range(1, count + 1):  # noqa: B007
                    connection.open(ATTEND)
                    if opened % 100 == 0:
                        connection.flush()
            except OSError:
                closed = True
            scene.promise("another client is answered", float(is_answered(server)), 1)
            scene.tell("streams opened", opened)
            scene.tell("the connection was closed for it", float(closed))
            scene.at_most("resident more", resident(server) - before, 320, "MiB")


def connections(scene: Scene) -> None:
    """Many connections, each of which is answered once and stays."""
    count = scene.count(1000, 50)
    with scene.server(NO_PINGS) as server, ExitStack() as stack:
        before, before_mib, answered = descriptors(server), resident(server), 0
        for _ in range(count):
            answered += stack.enter_context(RawConnection(server.address)).call(INFO, b"") == 0
        scene.tell("connections", count)
        scene.promise("connections unanswered", count - answered)
        scene.promise("connections that did not stay", max(count - descriptors(server) + before, 0))
        scene.promise("another client is answered", float(is_answered(server)), 1)
        scene.at_most("resident for each", 1024 * (resident(server) - before_mib) / count, 128, "KiB")
        scene.tell("threads meanwhile", status_of(server, "Threads"))
        stack.close()
        gone(scene, server, before, 60)


def half_open(scene: Scene) -> None:
    """Clients that fall silent: before a word, after the greeting, within a message, and with an answer unread."""
    each = scene.count(50, 10)
    flags = "--handshake-timeout=1", "--keepalive-time=1", "--keepalive-timeout=1"
    with scene.server(*flags) as server, ExitStack() as stack:
        before, (host, port) = descriptors(server), server.address.rsplit(":", 1)
        map_of_all = make.seeded(tokens=256, width=64, heads=4)
        map_of_all.outputs.maps.append(make.full_map())
        for _ in range(each):
            stack.enter_context(socket.create_connection((host, int(port))))
            stack.enter_context(RawConnection(server.address))
            for body, part in ((small(), 20), (map_of_all.SerializeToString(), None)):
                connection = stack.enter_context(RawConnection(server.address))
                stream = connection.open(ATTEND)
                connection.send(stream, framed(body)[:part])
                if part is None:
                    connection.http.end_stream(stream)
                    connection.flush()
        scene.tell("silent connections", 4 * each)
        scene.promise("another client is answered", float(is_answered(server)), 1)
        gone(scene, server, before, 60)  # while all these sockets are still open here


def slow_readers(scene: Scene) -> None:
    """Clients that read 64 KiB a second of large answers. More of them than the budget has room for."""
    budget_mib, readers = 128, 24
    request = make.seeded(tokens=1024, width=64, heads=4)
    request.outputs.maps.append(make.full_map())
    answer_mib = 4 * 1024 * 1024 * 4 / MIB
    # What is sent is held twice for a moment: as a message, and as bytes.
    flags = f"--memory-budget-bytes={budget_mib * MIB}", "--max-wait-seconds=1000"
    with scene.server(*flags, peak_mib=2 * budget_mib + 64) as server, ExitStack() as stack:
        slow = []
        for _ in range(readers):
            connection = stack.enter_context(RawConnection(server.address))
            stream = connection.open(ATTEND)
            connection.send(stream, framed(request.SerializeToString()))
            connection.http.end_stream(stream)
            connection.flush()
            slow.append((connection, stream))
        begun = read_slowly(slow, scene.seconds)
        scene.tell("answers of", answer_mib, "MiB")
        scene.at_least("readers that have some of one", begun, 1)
        scene.tell("reserved meanwhile", server.metrics().value("headlight_memory_reserved_bytes") / MIB, "MiB")
        scene.promise("another client is answered", float(is_answered(server)), 1)


def read_slowly(slow: list[tuple[RawConnection, int]], seconds: float) -> int:
    """Takes 64 KiB from each a second. Returns how many gave something."""
    end, begun = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        for connection, stream in slow:
            connection.read(0.001)
            taken = sum(e.flow_controlled_length for e in connection.events if isinstance(e, h2.events.DataReceived))
            connection.events.clear()
            if taken:
                begun.add(stream and id(connection))
                connection.http.acknowledge_received_data(taken, stream)
                connection.flush()
        time.sleep(min(1, max(end - time.monotonic(), 0)))
    return len(begun)


def killed(scene: Scene, what: str, request: bytes, peak_mib: float) -> None:
    """Client processes that are killed in the middle, some at a time."""
    rng, killed_clients = random.Random(1), 0
    path = os.pathsep.join([str(Path(server_process.__file__).parent), str(HERE)])
    with scene.server(peak_mib=peak_mib) as server:
        before, end = descriptors(server), time.monotonic() + scene.seconds / 2
        while killed_clients == 0 or time.monotonic() < end:
            command = [sys.executable, "-B", str(HERE / "rude_client.py"), what, server.address]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            clients = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **pipes) for _ in range(3)]
            for client in clients:
                client.stdin.write(request)
                client.stdin.close()
            began = [client.stdout.readline() for client in clients]
            time.sleep(rng.uniform(0, 0.05))
            for client in clients:
                client.kill()
                client.wait()
                client.stdout.close()
            killed_clients += began.count(b"began\n")
        scene.tell("clients killed", killed_clients)
        scene.promise("another client is answered", float(is_answered(server)), 1)
        gone(scene, server, before, 60)


def killed_mid_upload(scene: Scene) -> None:
    killed(scene, "upload", random.Random(1).randbytes(4 * MIB), peak_mib=512)


def killed_mid_download(scene: Scene) -> None:
    request = make.seeded(tokens=1024, width=64, heads=4)
    request.outputs.maps.append(make.full_map())
    killed(scene, "download", request.SerializeToString(), peak_mib=512)


def gzip_bomb(scene: Scene) -> None:
    """Gzip of zeros: of 4 MiB, and of as much as a message may hold."""
    with scene.server(peak_mib=64) as server:
        end, calls, refused = time.monotonic() + scene.seconds, 0, 0
        with RawConnection(server.address) as connection:
            while calls == 0 or time.monotonic() < end:
                for mebibytes in (4, scene.count(256, 4)):
                    body = bomb(mebibytes, 31)
                    refused += connection.call(ATTEND, body, {"grpc-encoding": "gzip"}, compressed=True) == 12
                    calls += 1
        scene.tell("bombs", calls)
        scene.promise("bombs not refused", calls - refused)


def garbage(mebibytes: int) -> bytes:
    return random.Random(1).randbytes(mebibytes * MIB)


def wrong_shape(mebibytes: int) -> bytes:
    request = service_pb.AttendRequest()
    request.query_key_value.query.f32_le = bytes(mebibytes * MIB)
    request.query_key_value.query.shape.extend([1, 1, 7, 8])
    return request.SerializeToString()


def cut_off(mebibytes: int) -> bytes:
    return wrong_shape(mebibytes)[: -MIB // 2]


def invalid_bodies(scene: Scene) -> None:
    """Large bodies that are no request, or no sane one."""
    size = scene.count(60, 8)
    bodies = [make_body(size) for make_body in (garbage, wrong_shape, cut_off)]
    # Two at a time: gRPC's buffer, the message that is read from it, and as much that was freed and is kept.
    with scene.server(peak_mib=3 * 2 * size + 64) as server:
        before, channels = resident(server), [server.new_channel() for _ in range(2)]
        end, codes, mib = time.monotonic() + scene.seconds, Counter(), []
        while not mib or time.monotonic() < end:
            for body in bodies:
                calls = [channel.unary_unary(ATTEND).future(body, timeout=120) for channel in channels]
                codes.update(call.code().name for call in calls)
            mib.append(resident(server))
        for channel in channels:
            channel.close()
        scene.at_least(f"bodies of {size} MiB", codes.total(), 2 * scene.seconds)
        for code, count in codes.items():
            scene.tell(f"of them {code}", count)
        scene.promise("ended otherwise", codes.total() - sum(codes[code] for code in INVALID))
        scene.at_most("resident more than halfway, at the end", mib[-1] - mib[len(mib) // 2], 2 * size, "MiB")
        judge_given_back(scene, server, before)


SCENARIOS = {
    "streams": (streams, 20),
    "streams_unasked": (streams_unasked, 10),
    "connections": (connections, 20),
    "half_open": (half_open, 15),
    "slow_readers": (slow_readers, 20),
    "killed_mid_upload": (killed_mid_upload, 20),
    "killed_mid_download": (killed_mid_download, 20),
    "gzip_bomb": (gzip_bomb, 5),
    "invalid_bodies": (invalid_bodies, 30),
}
