"""Fixtures: the stubs, one server that most tests share, and a way to start others."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import stubs

stubs.generate()

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import make
import numpy as np
import pytest
from server_process import BINARY, Server
from wire import ALGORITHM_NAMES, ALGORITHMS


def pytest_configure(config: pytest.Config) -> None:
    if not Path(BINARY).is_file():
        raise pytest.UsageError(f"there is no server at {BINARY}: build it, or set HEADLIGHT_SERVER to where it is")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of all tests that do not change it. Afterwards it must still end well."""
    # However slow the machine is: tests that want a long call get one.
    running = Server("--threads=2", "--max-call-seconds=100000", "--max-wait-seconds=1000")
    yield running
    assert running.process.poll() is None, f"the shared server died: {running.stderr()}"
    running.terminate()
    assert running.wait() == 0, running.stderr()
    running.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    started: list[Server] = []

    def start_one(*flags: str, **options) -> Server:
        started.append(Server(*flags, **options))
        return started[-1]

    yield start_one
    for one in started:
        one.close()


@pytest.fixture(params=ALGORITHMS, ids=ALGORITHM_NAMES)
def algorithm(request: pytest.FixtureRequest) -> int:
    """The server's choice, naive, flash."""
    return request.param


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def canary(server: Server) -> Callable[[], None]:
    """Asserts that a fixed call still has the answer, bit by bit, that it had at first."""
    request = make.canary()
    before = make.bits(server.attend(request))

    def check() -> None:
        assert make.bits(server.attend(request)) == before

    return check
