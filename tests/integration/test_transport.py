"""The listener's settings: what they bound, what they cut off, and what compression may not do."""

import re
import socket
import time
from pathlib import Path

import grpc
import h2.events
import h2.settings
import make
import pytest
from make import MIB, bomb
from raw_http2 import RawConnection
from rpc_errors import failure_of
from server_process import ROOT, SANITIZED, Server, run_server, wait_until
from wire import service_pb

ATTEND = "/headlight.v1.AttentionService/Attend"
INFO = "/headlight.v1.AttentionService/GetServerInfo"
OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 0, 8, 12


def peak_bytes(server: Server) -> int:
    """The most memory that was resident since the start."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


# Compression.


@pytest.mark.parametrize("encoding, wbits", [("gzip", 31), ("deflate", 15)])
@pytest.mark.parametrize("mebibytes", [4, 256])
def test_a_compressed_message_is_refused_and_never_inflated(server, canary, encoding, wbits, mebibytes) -> None:
    body = bomb(mebibytes, wbits)
    assert len(body) < mebibytes * MIB / 500
    before = peak_bytes(server)
    with RawConnection(server.address) as connection:
        for _ in range(2):
            assert connection.call(ATTEND, body, {"grpc-encoding": encoding}, compressed=True) == UNIMPLEMENTED
    assert peak_bytes(server) - before < 64 * MIB
    canary()


def test_compression_that_is_asked_for_does_inflate(start) -> None:
    """The control: memory shows what a bomb would do, and the flag lets it."""
    server = start("--threads=1", "--compression=true")
    before = peak_bytes(server)
    with RawConnection(server.address) as connection:
        assert connection.call(ATTEND, bomb(256, 31), {"grpc-encoding": "gzip"}, compressed=True) == RESOURCE_EXHAUSTED
    assert peak_bytes(server) - before > 200 * MIB


def test_a_client_that_compresses_learns_why(server) -> None:
    call = lambda: server.stub.Attend(make.canary(), compression=grpc.Compression.Gzip, timeout=10)  # noqa: E731
    failure = failure_of(call)
    assert failure.code == grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in failure.message


def test_a_message_called_compressed_without_a_name_is_not_inflated(server, canary) -> None:
    before = peak_bytes(server)
    with RawConnection(server.address) as connection:
        for headers in ({}, {"grpc-encoding": "identity"}, {"grpc-encoding": "zstd"}):
            assert connection.call(ATTEND, bomb(256, 31), headers, compressed=True) not in (None, OK)
    assert peak_bytes(server) - before < 64 * MIB
    canary()


# Bounds.


def test_bounds_are_told_and_held(start) -> None:
    server = start("--threads=1", "--max-concurrent-streams=7", "--max-metadata-bytes=4096")
    info = server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
    limits = {limit.name: limit.value for limit in info.limits}
    assert limits["max_concurrent_streams"] == 7
    assert limits["max_metadata_bytes"] == 4096
    with RawConnection(server.address) as connection:
        connection.wait_for(h2.events.RemoteSettingsChanged)
        remote = connection.http.remote_settings
        assert remote[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] == 7
        assert connection.call(INFO, b"", {"x-some": "a" * 3000}) == OK
        assert connection.call(INFO, b"", {"x-some": "a" * 5000}) in (None, RESOURCE_EXHAUSTED)


def test_defaults_of_bounds(server) -> None:
    info = server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
    limits = {limit.name: limit.value for limit in info.limits}
    assert limits["max_metadata_bytes"] == 8192
    assert limits["max_concurrent_streams"] == 256
    assert server.metrics().value("headlight_limit", name="max_concurrent_streams") == 256


def test_large_messages_beyond_the_memory_of_grpc_are_cut_off(start) -> None:
    server = start("--threads=1", "--grpc-memory-bytes=16777216")
    request = service_pb.AttendRequest()
    request.query_key_value.query.f32_le = bytes(64 * MIB)
    body, before = request.SerializeToString(), peak_bytes(server)
    channels = [server.new_channel() for _ in range(4)]
    calls = [channel.unary_unary(ATTEND).future(body, timeout=60) for channel in channels]
    for call in calls:
        # Or the connection is closed.
        assert call.exception().code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    for channel in channels:
        channel.close()
    assert peak_bytes(server) - before < 128 * MIB or SANITIZED

    def serves() -> bool:
        """A connection that comes too soon is closed as well, which clients try again."""
        try:
            return server.attend(make.canary()).HasField("output")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return False

    wait_until(serves)
    assert server.process.poll() is None


# Connections that end.


def ending(address: str, seconds: float) -> float:
    """How long a connection without calls lasts."""
    began = time.monotonic()
    with RawConnection(address) as connection:
        connection.wait_for(h2.events.ConnectionTerminated, seconds=seconds)
        return time.monotonic() - began


@pytest.mark.parametrize("flag", ["--max-connection-idle=0.3", "--max-connection-age=0.3"])
def test_a_connection_is_ended_after_its_time(start, flag) -> None:
    server = start("--threads=1", flag)
    ending(server.address, 10)
    assert server.attend(make.canary()).HasField("output")


def test_a_call_outlives_the_age_of_its_connection(start) -> None:
    server = start("--threads=1", "--max-connection-age=0.2")
    request = make.seeded(tokens=4096, width=512, heads=8)
    began = time.monotonic()
    while time.monotonic() - began < 1.5:
        assert server.attend(request).HasField("output")


def test_a_silent_client_is_asked_and_then_dropped(start) -> None:
    server = start("--threads=1", "--keepalive-time=1", "--keepalive-timeout=0.5")
    with RawConnection(server.address) as connection:
        connection.wait_for(h2.events.SettingsAcknowledged)
        # Reads nothing more and so acknowledges no ping.
        connection.socket.settimeout(10)
        pings = b""
        while data := connection.socket.recv(65536):
            pings += data
        assert b"\x00\x00\x08\x06\x00" in pings  # the head of a PING frame


def test_a_handshake_has_an_end(start) -> None:
    server = start("--threads=1", "--handshake-timeout=0.3")
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as silent:
        while silent.recv(65536):
            pass


# Flags.


def flags_of_help() -> dict[str, str]:
    """Flag to environment variable."""
    options = run_server("--help").stdout.split("\n  --")[1:]
    flags = {"--" + option.split()[0]: re.search(r"\(Env:(\w+)\)", option) for option in options}
    return {flag: variable[1] for flag, variable in flags.items() if variable is not None}


def test_every_flag_is_documented_with_its_variable() -> None:
    table = (ROOT / "docs/operating.md").read_text()
    documented = dict(re.findall(r"^\| `(--[a-z-]+)` \| `(HEADLIGHT_\w+)` \|", table, re.M))
    offered = flags_of_help()
    assert offered == documented
    for flag, variable in offered.items():
        assert variable == "HEADLIGHT_" + flag[2:].upper().replace("-", "_")


def test_channelz_is_served_where_it_is_asked_for(start, server) -> None:
    path = "/grpc.channelz.v1.Channelz/GetServers"
    off = failure_of(lambda: server.channel.unary_unary(path)(b"", timeout=5))
    assert off.code == grpc.StatusCode.UNIMPLEMENTED
    on = start("--threads=1", "--channelz=true")
    assert on.channel.unary_unary(path)(b"", timeout=5) != b""


def test_a_port_is_shared_where_it_is_asked_for(start) -> None:
    first = start("--threads=1", "--reuse-port=true")
    second = start("--threads=1", "--reuse-port=true", f"--listen={first.address}", "--http=127.0.0.1:0", defaults=False)
    assert second.address == first.address
