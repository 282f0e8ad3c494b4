"""docs/tutorial.md and docs/how-to.md: their programs run as they stand there, and print what stands below them."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PACKAGE, ROOT
from server_process import CLI

BLOCK = re.compile(
    r"^<!-- test: (?P<kind>\w+) -->\n```\w+\n(?P<code>.*?)^```\n(?:\n```\n(?P<output>.*?)^```\n)?", re.M | re.S
)
HERE = "127.0.0.1:50051"
END = "\N{SYMBOL FOR RECORD SEPARATOR}"


@dataclass
class Block:
    kind: str
    code: str
    output: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [Block(found["kind"], found["code"], found["output"] or "") for found in BLOCK.finditer(text)]


def printed(codes: list[str], folder: Path, address: str) -> list[str]:
    """What each of the blocks prints, one after the other in one Python."""
    program = folder / "program.py"
    whole = "".join(f"{code}\nprint({END!r})\n" for code in codes)
    program.write_text(whole.replace(HERE, address), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE / "src")}
    run = subprocess.run(
        [sys.executable, program], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.split(f"{END}\n")[:-1]


@pytest.mark.parametrize(("page", "least"), [("tutorial.md", 12), ("how-to.md", 12)])
def test_the_pages_programs(server, tmp_path, page, least) -> None:
    session = [block for block in blocks(page) if block.kind == "python"]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    marked = [block for block in blocks(page) if block.kind in ("python", "torch")]
    assert len(marked) == text.count("```python\n") and len(session) >= least
    assert printed([block.code for block in session], tmp_path, server.address) == [block.output for block in session]


def test_the_packages_own_page(server, tmp_path) -> None:
    """On PyPI a comment is not shown."""
    (block,) = blocks("../client/python/README.md")
    assert printed([block.code], tmp_path, server.address) == [""]
    assert (tmp_path / "attention.html").stat().st_size > 1000


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: ./dev test --long installs it")
def test_the_pages_pytorch(server, tmp_path) -> None:
    (block,) = [block for block in blocks("how-to.md") if block.kind == "torch"]
    begin = next(block for block in blocks("how-to.md") if block.kind == "python")
    assert printed([begin.code, block.code], tmp_path, server.address)[1] == block.output
    (block,) = [block for block in blocks("clients.md") if block.kind == "torch"]
    tensors = f"import os\nimport torch\nos.environ['HEADLIGHT_ADDRESS'] = {server.address!r}\n"
    tensors += "query, key, value = torch.randn(3, 1, 2, 5, 4)"
    shape = "print(tuple(output.shape), tuple(weights.shape))"
    assert printed([tensors, block.code, shape], tmp_path, server.address)[2] == "(1, 2, 5, 4) (1, 2, 5, 5)\n"


def test_the_pages_shell(server, tmp_path) -> None:
    (block,) = [block for block in blocks("how-to.md") if block.kind == "sh"]
    code = block.code.replace("build/release/bin/headlight", CLI)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HEADLIGHT_ADDRESS": server.address}
    command = ["bash", "-euo", "pipefail", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert block.output and all(line in run.stdout for line in block.output.splitlines())
    assert (tmp_path / "out.npy").exists()
