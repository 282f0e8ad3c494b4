"""The listener's settings: what they bound, what they cut off, and what compression may not do."""

import re
import socket
import struct
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


def code_of(server: Server, headers: dict[str, str]) -> int | None:
    """Of a small call with these headers on a connection of its own."""
    with RawConnection(server.address) as connection:
        return connection.call(ATTEND, make.seeded(tokens=4, width=8, heads=1).SerializeToString(), headers)


@pytest.mark.parametrize("timeout", ["2000000H", "2100000H", "2562047H", "99999999H"])
def test_a_deadline_in_the_far_future_is_none(server, timeout) -> None:
    """2562047 hours are the longest Duration of Go."""
    assert code_of(server, {"grpc-timeout": timeout}) == 0


def test_answers_that_nobody_reads_shut_nobody_out(start) -> None:
    """A client without a window gets no byte of any answer."""
    server = start("--threads=2", "--max-calls=4")
    request = make.seeded(tokens=4, width=8, heads=1).SerializeToString()
    with RawConnection(server.address) as connection:
        connection.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        for _ in range(12):
            stream = connection.open(ATTEND)
            connection.flush()
            connection.send(stream, struct.pack(">BI", 0, len(request)) + request)
            connection.http.end_stream(stream)
            connection.flush()
            wait_until(lambda: server.metrics().value("headlight_queue_length") == 0)
        assert server.held() > 0, "unread answers hold their memory"
        assert server.attend(make.canary()).HasField("output")
    wait_until(lambda: server.held() == 0)


def test_metadata_beyond_the_limit_is_refused_before_the_limit_was_acknowledged(server, canary) -> None:
    assert code_of(server, {"x-some": "a" * 6_000}) == 0
    for length in (10_000, 200_000):
        # Where the acknowledgement was quicker, gRPC cuts the call off itself.
        assert code_of(server, {"x-some": "a" * length}) in (3, 8, None)
    canary()
