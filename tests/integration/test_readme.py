"""The README's examples, run as they stand there."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from server_process import CLI, README_EXAMPLE, ROOT, Server

README = (ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else ""
DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_WEB = "127.0.0.1:8080"
DEFAULT_CLI = "build/release/bin/headlight"
BLOCK = re.compile(
    r"^<!-- test: (?P<kind>\w+) -->\n```(?P<language>\w+)\n(?P<code>.*?)^```\n(?:\n```\n(?P<output>.*?)^```\n)?",
    re.M | re.S,
)


@dataclass
class Example:
    """A fenced block that is marked for a test, and the output that stands below it, if any does."""

    language: str
    code: str
    output: str
    line: int


def examples(kind: str) -> list[Example]:
    """The blocks of a kind; one that is empty where there is none, so that its test fails."""
    found = [
        Example(m["language"], m["code"], m["output"] or "", README[: m.start()].count("\n") + 1)
        for m in BLOCK.finditer(README)
        if m["kind"] == kind
    ]
    return found or [Example(kind, "", "", 0)]


def name_of(example: Example) -> str:
    return f"line_{example.line}"


def run(command: list[str], folder: Path, **env: str) -> str:
    """What the command prints; it must end well."""
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def assert_shows(output: str, example: Example) -> None:
    for line in example.output.splitlines():
        assert line.strip() in output


@pytest.mark.parametrize("example", examples("python"), ids=name_of)
def test_python(server: Server, tmp_path: Path, example: Example) -> None:
    assert example.language == "python" and example.code, "README.md has no Python example to test"
    assert DEFAULT_ADDRESS in example.code
    script = tmp_path / "example.py"
    script.write_text(example.code.replace(DEFAULT_ADDRESS, server.address), encoding="utf-8")
    output = run([sys.executable, str(script)], tmp_path, PYTHONPATH=str(ROOT / "client/python/src"))
    assert output
    assert_shows(output, example)


@pytest.mark.parametrize("example", examples("sh"), ids=name_of)
def test_sh(server: Server, example: Example) -> None:
    assert example.language == "sh" and example.code, "README.md has no sh example to test"
    commands = example.code.replace("\\\n", " ").splitlines()
    assert all(command.startswith(f"{DEFAULT_CLI} ") for command in commands), "only the command line is run here"
    code = example.code.replace(f"{DEFAULT_CLI} ", f"'{CLI}' ")
    output = run(["bash", "-euo", "pipefail", "-c", code], ROOT, HEADLIGHT_ADDRESS=server.address)
    assert output
    assert_shows(output, example)


@pytest.mark.parametrize("example", examples("curl"), ids=name_of)
def test_curl(server: Server, example: Example) -> None:
    assert DEFAULT_WEB in example.code, "README.md has no curl example to test"
    code = example.code.replace(DEFAULT_WEB, server.web)
    assert_shows(run(["bash", "-euo", "pipefail", "-c", code], ROOT), example)


@pytest.mark.parametrize("example", examples("cpp"), ids=name_of)
def test_cpp(server: Server, tmp_path: Path, example: Example) -> None:
    """Built by CMake from the README, with the address taken from the environment."""
    assert example.language == "cpp" and example.code, "README.md has no C++ example to test"
    assert examples("cpp") == [example], "CMake builds the first only"
    assert Path(README_EXAMPLE).is_file(), f"{README_EXAMPLE} is not built"
    output = run([README_EXAMPLE], tmp_path, HEADLIGHT_ADDRESS=server.address)
    assert output
    assert_shows(output, example)
