"""The examples of docs/semantics.md, run as they stand there, each behind the page's setup."""

import re
import sys
from pathlib import Path

import pytest
import stubs
from server_process import ROOT, Server
from test_readme import BLOCK, DEFAULT_ADDRESS, run

TEXT = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
SYSTEMS = ["PyTorch", "ONNX", "FlashAttention", "Transformers"]


def codes(text: str, kind: str) -> list[str]:
    return [block["code"] for block in BLOCK.finditer(text) if block["kind"] == kind]


def section(title: str) -> str:
    """What stands below a heading of the third level."""
    found = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S)
    return found[1] if found else ""


@pytest.mark.parametrize("system", SYSTEMS)
def test_example(server: Server, tmp_path: Path, system: str) -> None:
    (setup,) = codes(TEXT, "setup")
    (example,) = codes(section(system), "python")
    assert DEFAULT_ADDRESS in setup and "assert " in example
    script = tmp_path / "example.py"
    script.write_text(f"{setup}\n\n{example}".replace(DEFAULT_ADDRESS, server.address), encoding="utf-8")
    assert run([sys.executable, str(script)], tmp_path, PYTHONPATH=str(stubs.FOLDER)).startswith(system)


def test_every_example_is_run() -> None:
    assert len(codes(TEXT, "python")) == len(SYSTEMS)
