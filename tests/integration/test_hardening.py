"""What the linker and the compiler left in the server's binary."""

import re
import subprocess
from pathlib import Path

import pytest
from server_process import BINARY


def readelf(*options: str) -> str:
    return subprocess.run(["readelf", "-W", *options, BINARY], capture_output=True, text=True, check=True).stdout


def test_it_is_loaded_anywhere() -> None:
    assert re.search(r"Type:\s+DYN", readelf("-h"))
    assert re.search(r"\(FLAGS_1\).*\bPIE\b", readelf("-d"))


def test_its_tables_are_read_only_once_it_runs() -> None:
    assert "GNU_RELRO" in readelf("-l")
    assert re.search(r"\(FLAGS_1\).*\bNOW\b", readelf("-d"))


def test_its_stack_holds_no_code_and_is_guarded() -> None:
    stack = re.search(r"GNU_STACK.*", readelf("-l"))[0]
    assert stack.split()[-2] == "RW"
    assert "__stack_chk_fail" in readelf("--dyn-syms")


def test_calls_of_libc_are_checked() -> None:
    cache = Path(BINARY).resolve().parents[1] / "CMakeCache.txt"
    if not cache.is_file() or "CMAKE_BUILD_TYPE:STRING=Release" not in cache.read_text():
        pytest.skip("only a release build is fortified")
    assert re.search(r"\b__\w+_chk\b", readelf("--dyn-syms").replace("__stack_chk_fail", ""))
