"""Fixtures: a server, a client of it from the sources, and environments of their own for the wheel."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ["MPLBACKEND"] = "Agg"

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "client" / "python"
# The package first: the helpers of the integration tests find headlight.v1 in it, and need no stubs of their own.
sys.path[:0] = [str(PACKAGE / "src"), str(ROOT / "tests" / "integration")]

import headlight
import numpy as np
import pytest
from server_process import Server

LONG = pytest.mark.skipif(not os.environ.get("HEADLIGHT_LONG"), reason="takes minutes: run with ./dev test --long")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of all tests."""
    running = Server("--threads=2", "--allow-layer-uploads", "--max-call-seconds=100000", "--max-wait-seconds=1000")
    yield running
    running.close()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[headlight.Client]:
    """To that server."""
    with headlight.Client(server.address) as made:
        yield made


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers each time."""
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, built by hatchling as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=PACKAGE, check=True, timeout=60)
    (made,) = folder.iterdir()
    return made
