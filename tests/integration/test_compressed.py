"""Compressed messages: refused before they are inflated."""

import re
from pathlib import Path

import grpc
import make
import pytest
from rpc_errors import failure_of
from server_process import Server

INFLATED = 100 << 20  # zeros: on the wire a thousandth of that


def peak_bytes(server: Server) -> int:
    """The most memory that the server ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)[1]) << 10


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_it_is_refused_and_not_inflated(start, algorithm) -> None:
    server = start("--threads=1")
    before = peak_bytes(server)
    attend = server.channel.unary_unary("/headlight.v1.AttentionService/Attend")
    failure = failure_of(lambda: attend(bytes(INFLATED), timeout=60, compression=algorithm))
    assert failure.code == grpc.StatusCode.UNIMPLEMENTED and "disabled" in failure.message
    assert peak_bytes(server) - before < INFLATED // 4
    assert server.attend(make.canary()).HasField("output")
