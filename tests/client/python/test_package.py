"""The wheel, the stubs in it, and the runtimes they load on."""

import filecmp
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import headlight
import pytest
from conftest import LONG, PACKAGE, ROOT

STUBS = PACKAGE / "src" / "headlight" / "v1"
# One of everything, from whatever `headlight` the interpreter finds; prints where that is and what it runs on.
PROGRAM = """
import asyncio, sys
import headlight, numpy as np
from google.protobuf import __version__ as protobuf
query = np.random.default_rng(0).standard_normal((1, 2, 6, 4))
with headlight.Client(sys.argv[1]) as client:
    answer = client.attend(query, query, query, causal="top_left", maps=True, tokens="a b c d e f", scale=0.5)
    assert np.allclose(answer.maps[1].weights.sum(axis=1), 1, atol=1e-5)
    assert answer.execution.algorithm in ("naive", "flash") and answer.execution.verification is None
    assert answer.execution.total.total_seconds() > 0 and "<figure" in answer._repr_html_()
    assert client.trace_stack("induction", "Mr and Mrs Potter").bets[0].token
    assert "gRPC" in client.get_server_info().library_versions
    try:
        client.attend(query, query, query, head_size=3)
    except headlight.InvalidArgumentError as error:
        assert error.violations[0].field == "options.head_size" and error.request_id
async def twin():
    async with headlight.AsyncClient(sys.argv[1]) as client:
        try:
            await client.attend(query, query, query, head_size=3)
        except headlight.InvalidArgumentError as error:
            assert error.violations[0].field == "options.head_size" and error.request_id
        return await client.attend(query, query, query, causal="top_left", scale=0.5)
assert np.array_equal(asyncio.run(twin()).output, answer.output)
print(headlight.__file__, headlight.__version__, protobuf)
"""


@dataclass
class Runtime:
    """Versions to install beside the wheel; none: what pip finds."""

    name: str
    pins: tuple[str, ...] = ()
    protobuf: str = ""


# The oldest on this Python have no wheels for newer ones.
OLDEST = Runtime("oldest", ("protobuf==4.21.1", "grpcio==1.51.1", "googleapis-common-protos==1.56.4", "numpy==1.23.5"),
                 "4.21.1")  # fmt: skip
MIDDLE = Runtime("middle", ("protobuf==5.29.6", "grpcio==1.71.2"), "5.29.6")
NEWEST = Runtime("newest")


def clean_environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEADLIGHT", "VIRTUAL"))
    }


def run_program(python: Path | str, address: str, **extra: str) -> list[str]:
    """What it prints, in words; warnings are errors, but those of other people's packages."""
    flags = ["-W", "error:::headlight", "-c", PROGRAM, address]
    ended = subprocess.run(
        [python, *flags], env={**clean_environment(), **extra}, capture_output=True, text=True, timeout=120, cwd="/"
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def test_wheel(wheel, server, tmp_path) -> None:
    """It has the package, its types and its stubs, nothing else, and works where nothing of the sources is."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"headlight-{headlight.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        archive.extractall(tmp_path)
    sources = {path.relative_to(PACKAGE / "src").as_posix() for path in (PACKAGE / "src").rglob("*") if path.is_file()}
    expected = {name for name in sources if name.startswith("headlight/") and "/." not in name and "__pyc" not in name}
    assert {name for name in names if not name.startswith(info)} == expected
    assert {"headlight/py.typed", "headlight/v1/attention_service_pb2.pyi"} <= names
    assert "Requires-Python: >=3.10" in metadata and "Requires-Dist: protobuf<8,>=4.21.1" in metadata
    for implementation in ("upb", "python"):
        extra = {"PYTHONPATH": str(tmp_path), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
        where, version, _ = run_program(sys.executable, server.address, **extra)
        assert where.startswith(str(tmp_path)) and version == headlight.__version__


def test_sdist_is_whole(tmp_path) -> None:
    """A wheel can be built from it."""
    build = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=PACKAGE, check=True, timeout=60)
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "README.md", "src/headlight/client.py", "src/headlight/v1/tensor_pb2.py"} <= names
    assert not any(name.startswith("examples") for name in names)


def test_stubs_are_of_the_contract(tmp_path) -> None:
    """What is checked in is what Debian's protoc 3.21 makes of proto/ now."""
    made = subprocess.run([PACKAGE / "make-stubs", tmp_path], capture_output=True, text=True, timeout=60)
    if made.returncode == 77:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    fresh = {path.name for path in (tmp_path / "headlight/v1").iterdir()}
    kept = {path.name for path in STUBS.iterdir() if path.is_file()} - {"__init__.py"}
    assert fresh == kept, "run client/python/make-stubs"
    _, differ, errors = filecmp.cmpfiles(tmp_path / "headlight/v1", STUBS, sorted(fresh), shallow=False)
    assert (differ, errors) == ([], []), "run client/python/make-stubs"


def make_environment(folder: Path, *arguments: str) -> Path:
    """Its python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], env=clean_environment(), check=True, timeout=900)
    return folder / "bin" / "python"


@LONG
@pytest.mark.parametrize("runtime", [OLDEST, MIDDLE, NEWEST], ids=lambda runtime: runtime.name)
def test_runtimes(wheel, server, tmp_path, runtime) -> None:
    """The wheel, installed by pip in a clean environment with the oldest, a middle and the newest protobuf."""
    if runtime is OLDEST and sys.version_info >= (3, 12):
        pytest.skip("grpcio 1.51 has no wheel for Python 3.12")
    python = make_environment(tmp_path / "venv", str(wheel), *runtime.pins)
    where, version, protobuf = run_program(python, server.address)
    assert where.startswith(str(tmp_path)) and version == headlight.__version__
    assert protobuf == runtime.protobuf or (runtime is NEWEST and int(protobuf.split(".")[0]) >= 7)


@LONG
def test_notebook(wheel, server, tmp_path) -> None:
    """The example, executed by nbconvert in an environment of its own, shows the heatmap."""
    python = make_environment(tmp_path / "venv", f"{wheel}[notebook,plot,pandas]")
    notebook = PACKAGE / "examples" / "attention.ipynb"
    environment = {**clean_environment(), "HEADLIGHT_ADDRESS": server.address, "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [python, "-m", "nbconvert", "--execute", "--to", "html", "--output-dir", tmp_path, notebook]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "attention.html").read_text(encoding="utf-8")
    assert page.count('<figure class="headlight-') >= 3 + 8, "the demo's three heads, and eight of the stack"
    assert "it attends most to because (0.80)" in page and 'type="radio"' in page
    assert "image/png" in page or "data:image/png" in page, "plot()"
    assert "key_token" in page, "to_dataframe()"


@LONG
def test_types(wheel, tmp_path) -> None:
    """A type checker sees methods, keywords and answers of the installed wheel, finds wrong ones, and none in itself."""
    python = make_environment(tmp_path / "venv", str(wheel), "mypy==2.4.1")
    program = tmp_path / "program.py"
    program.write_text(
        "import headlight\nimport numpy as np\n"
        "with headlight.Client() as client:\n"
        "    array = np.ones((1, 1, 2, 4), np.float32)\n"
        '    reveal_type(client.attend(array, array, array, causal="top_left").output)\n'
        '    client.attend(array, array, array, causal="top")\n'
        "    client.attend(array, array, array, quary_heads=2)\n"
    )
    ended = subprocess.run([python, "-m", "mypy", program], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert ended.stdout.count(" error: ") == 2, ended.stdout
    assert "numpy.ndarray" in ended.stdout and 'Unexpected keyword argument "quary_heads"' in ended.stdout
    assert ":6: error" in ended.stdout and ":7: error" in ended.stdout
    sources = sorted(path for path in (PACKAGE / "src/headlight").glob("*.py"))
    flags = ["--ignore-missing-imports", "--follow-imports=silent"]
    ended = subprocess.run([python, "-m", "mypy", *flags, *sources], capture_output=True, text=True, timeout=300,
                           cwd=tmp_path)  # fmt: skip
    assert ended.returncode == 0, ended.stdout
