"""The programs of client/examples, built and run as their READMEs say, on the golden vectors, on spoiled ones and on
spoiled streams.

They are copied to build/examples first, in the tree's own layout, so that nothing is left in the tree and what they
install is there the next time. Heavy ones, whose READMEs say so, are tested with HEADLIGHT_LONG alone.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import stubs

stubs.generate()

from relay import Chunks, Relay, flip_a_bit, last_piece_first, swap_two_pieces
from server_process import ROOT, Server

TREE = ROOT / "build" / "examples"
COUNT = len(list((ROOT / "tests/golden").glob("*.json")))
GOLDEN_VECTORS = os.environ.get("HEADLIGHT_GOLDEN_VECTORS", str(ROOT / "build/release/tests/golden-vectors"))
LONG = "HEADLIGHT_LONG" in os.environ
# The name of each, and what it needs beside what `./dev test` installs.
LANGUAGES = {
    "cpp": ("C++", []),
    "go": ("Go", ["go", "protoc"]),
    "java": ("Java", ["java", "mvn"]),
    "node": ("Node", ["node", "npm"]),
    "python": ("Python", ["python3"]),
    "rust": ("Rust", ["cargo", "protoc"]),
    "shell": ("Shell", ["curl", "jq"]),
    "typescript": ("TypeScript", ["node", "npm", "protoc"]),
}
LONG_NEEDS = {"cpp": ["cmake", "ninja", "protoc"], "shell": ["go"]}
BLOCK = re.compile(r"^<!-- test: (\S+) -->\n```sh\n(.*?)^```", re.M | re.S)
GRPC, WEB, FILES = "127.0.0.1:50051", "127.0.0.1:8080", "../../../tests/golden/"
STREAMED = "rotary: streamed, the same bits: true"
# The Go that `./dev test` installs goes before an older one.
ENVIRONMENT = {**os.environ, "PATH": f"{ROOT / 'build/venv-go/bin'}:{os.environ['PATH']}"}


@dataclass(frozen=True)
class Example:
    """A folder of client/examples; `long`: those blocks of its README that are heavy."""

    language: str
    long: bool

    def commands(self, kind: str) -> list[str]:
        """What a block of the README says, a command each."""
        text = (ROOT / "client/examples" / self.language / "README.md").read_text(encoding="utf-8")
        wanted = f"{kind}-long" if self.long else kind
        blocks = [code.replace("\\\n", "") for name, code in BLOCK.findall(text) if name == wanted]
        return [line for block in blocks for line in block.splitlines()]

    def streams(self) -> bool:
        return any(GRPC in command for command in self.commands("run"))

    def sh(self, command: str, seconds: float) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=TREE / "client/examples" / self.language, env=ENVIRONMENT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
        )  # fmt: skip


EXAMPLES = [e for e in (Example(name, long) for name in LANGUAGES for long in (False, True)) if e.commands("run")]


@cache
def build(example: Example) -> str:
    """Builds it, once. Returns what is missing on this machine, or nothing."""
    name, needs = LANGUAGES[example.language]
    for tool in needs + (LONG_NEEDS.get(example.language, []) if example.long else []):
        if shutil.which(tool, path=ENVIRONMENT["PATH"]) is None:
            return f"{name}: no {tool}"
    for command in example.commands("build"):
        ended = example.sh(command, 1200)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}"
    return ""


@pytest.fixture(scope="session", autouse=True)
def tree() -> None:
    """Sources as they are now beside what was built before."""
    for folder in ("proto", "client/cpp", "server/service/rpc_details", "tests/golden"):
        shutil.rmtree(TREE / folder, ignore_errors=True)
        shutil.copytree(ROOT / folder, TREE / folder)
    # What READMEs call build/release is the build that is tested.
    (TREE / "build").mkdir(exist_ok=True)
    (TREE / "build" / "release").unlink(missing_ok=True)
    (TREE / "build" / "release").symlink_to(Path(GOLDEN_VECTORS).parents[1])
    made = (ROOT / "client/examples/.gitignore").read_text(encoding="utf-8").split("\n")
    ignored = shutil.ignore_patterns("build", *(line.rstrip("/").removeprefix("go/") for line in made if line))
    shutil.copytree(ROOT / "client/examples", TREE / "client/examples", dirs_exist_ok=True, ignore=ignored)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server("--threads=2")
    yield running
    running.terminate()
    assert running.wait() == 0, running.stderr()
    running.close()


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    between = Relay(server.address)
    yield between
    between.close()


Run = Callable[..., list[subprocess.CompletedProcess]]


@pytest.fixture
def run(server: Server) -> Run:
    """Runs an example's commands on the golden files of a folder; calls over gRPC may go to another address."""

    def run_on(
        example: Example, folder: Path = TREE / "tests/golden", address: str = server.address
    ) -> list[subprocess.CompletedProcess]:
        if missing := build(example):
            pytest.skip(missing)
        commands = example.commands("run")
        assert all(FILES in command and (GRPC in command or WEB in command) for command in commands)
        places = {GRPC: address, WEB: server.web, FILES: f"{folder}/"}
        for default, actual in places.items():
            commands = [command.replace(default, actual) for command in commands]
        return [example.sh(command, 120) for command in commands]

    return run_on


def spoil(folder: Path, change: Callable[[dict], bool]) -> int:
    """Writes all golden files with a change to the folder; returns how many it left alone."""
    alone = 0
    for path in sorted((ROOT / "tests/golden").glob("*.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        alone += not change(golden)
        (folder / path.name).write_text(json.dumps(golden), encoding="utf-8")
    return alone


def move(golden: dict, tensor: dict | None) -> bool:
    """Moves one number of a tensor, the last finite one, by more than the tolerance allows. False: there is no tensor."""
    if tensor is None:
        return False
    values = tensor["f32Values"]["values"]
    at = max(i for i, value in enumerate(values) if not isinstance(value, str))
    values[at] += 2.5 * golden["tolerance"]
    return True


def move_output(golden: dict) -> bool:
    """The output, or a field of the error."""
    if "error" in golden:
        golden["error"]["fields"][-1] += "_not"
        return True
    return move(golden, golden["expected"]["output"])


def move_other(golden: dict) -> bool:
    """What there is beside the output, or the error's code."""
    if "error" in golden:
        golden["error"]["code"] = "NOT_FOUND"
        return True
    expected = golden["expected"]
    maps = expected.get("maps", [{}])
    return move(golden, expected.get("logSumExp") or expected.get("headOutputs") or maps[0].get("weights"))


def expect_answer_for_refusal(golden: dict) -> bool:
    """An error where there is an answer, and an answer where there is an error."""
    if "error" in golden:
        del golden["error"]
        golden |= {"expected": {}, "tolerance": 1}
    else:
        del golden["expected"]
        golden["error"] = {"code": "INVALID_ARGUMENT", "fields": []}
    return True


def name_of(example: Example) -> str:
    return example.language + ("-long" if example.long and Example(example.language, False) in EXAMPLES else "")


TESTED = [e for e in EXAMPLES if LONG or not e.long]
of_each = pytest.mark.parametrize("example", TESTED, ids=name_of)
of_each_that_streams = pytest.mark.parametrize("example", [e for e in TESTED if e.streams()], ids=name_of)


@of_each
def test_golden(run: Run, example: Example) -> None:
    assert COUNT >= 4
    for command, ended in zip(example.commands("run"), run(example), strict=True):
        assert ended.returncode == 0, ended.stdout
        assert ended.stdout.splitlines()[-1] == f"golden check passed: {COUNT} of {COUNT}", ended.stdout
        assert ended.stdout.lower().splitlines().count(STREAMED) == (GRPC in command), ended.stdout


@of_each_that_streams
def test_streamed_in_any_order(run: Run, relay: Relay, example: Example) -> None:
    """The output comes in small chunks, the last one first."""
    relay.change = last_piece_first
    for ended in (runs := run(example, address=relay.address)):
        assert ended.returncode == 0, ended.stdout
        assert STREAMED in ended.stdout.lower(), ended.stdout
    assert relay.changed == len(runs)


@of_each_that_streams
@pytest.mark.parametrize("change", [flip_a_bit, swap_two_pieces])
def test_spoiled_stream(run: Run, relay: Relay, example: Example, change: Callable[[Chunks], Chunks]) -> None:
    """A streamed output that is not the unary one, by one bit or by the places of its bytes, is seen."""
    relay.change = change
    for ended in (runs := run(example, address=relay.address)):
        assert ended.returncode != 0, ended.stdout
        assert STREAMED.replace("true", "false") in ended.stdout.lower(), ended.stdout
        assert f"golden check failed: {COUNT - 1} of {COUNT}" in ended.stdout, ended.stdout
    assert relay.changed == len(runs)


@of_each
@pytest.mark.parametrize("change", [move_output, move_other, expect_answer_for_refusal])
def test_spoiled(run: Run, example: Example, change: Callable[[dict], bool], tmp_path: Path) -> None:
    """A number that is off by 2.5 tolerances, a wrong field or code: each is seen."""
    alone, count = spoil(tmp_path, change), len(list(tmp_path.iterdir()))
    assert alone < count
    for ended in run(example, tmp_path):
        assert ended.returncode != 0, ended.stdout
        assert f"golden check failed: {alone} of {count}" in ended.stdout, ended.stdout


def test_every_example_is_tested() -> None:
    folders = {path.name for path in (ROOT / "client/examples").iterdir() if path.is_dir()}
    assert folders == set(LANGUAGES) == {example.language for example in EXAMPLES}


def test_spoiled_vectors_are_seen(tmp_path: Path) -> None:
    """The maker's own check."""
    alone = spoil(tmp_path, move_output)
    files = sorted(map(str, tmp_path.iterdir()))
    ended = subprocess.run([GOLDEN_VECTORS, "--check", *files], capture_output=True, text=True, timeout=60, check=False)
    assert alone == 0 and ended.returncode == 1
    assert all(file in ended.stderr for file in files)


def test_service_config() -> None:
    """The examples' is the one that docs/clients.md recommends."""
    document = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    recommended = re.search(r"^<!-- test: json -->\n```json\n(.*?)^```", document, re.M | re.S)[1]
    assert (ROOT / "client/examples/service_config.json").read_text(encoding="utf-8") == recommended


@pytest.mark.skipif(not LONG, reason="takes minutes: run with ./dev test --long")
def test_the_readmes_grpcurl(server) -> None:
    """What is shown there, by the grpcurl of the shell's example."""
    example = Example("shell", True)
    if missing := build(example):
        pytest.skip(missing)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ((_, command),) = [block for block in BLOCK.findall(readme) if block[0] == "grpcurl"]
    assert GRPC in command
    ended = example.sh(f"PATH=$PWD/bin:$PATH\n{command.replace(GRPC, server.address)}", 60)
    assert ended.returncode == 0 and '"weights"' in ended.stdout, ended.stdout
