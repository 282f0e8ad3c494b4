"""docs/errors.md against the contract: every reason, when it happens and what to do."""

import re

import grpc
from server_process import ROOT
from wire import reason_pb

ROW = re.compile(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (.+?) \| (.+?) \|$", re.M)
ROWS = ROW.findall((ROOT / "docs" / "errors.md").read_text(encoding="utf-8"))
PREFIX = "ERROR_REASON_"


def test_every_reason_is_told_once() -> None:
    names = [name.removeprefix(PREFIX) for name in reason_pb.ErrorReason.keys()]
    assert sorted(reason for _, reason, _, _ in ROWS) == sorted(set(names) - {"UNSPECIFIED"})


def test_codes_are_those_of_grpc() -> None:
    assert {code for code, _, _, _ in ROWS} <= {code.name for code in grpc.StatusCode}
