"""One server for all cases; counts what passed, and writes the report where it is asked to."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import stubs

stubs.generate()

from collections.abc import Iterator

import pytest
import report
from server_process import Server

RESULTS = pytest.StashKey[report.Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-report", action="store_true", help="write docs/conformance.md from this run")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = report.Results()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server("--threads=2")
    yield running
    running.close()


@pytest.fixture
def results(request: pytest.FixtureRequest) -> report.Results:
    """Where a case writes how far off it was."""
    return request.config.stash[RESULTS]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.stash[RESULTS].errors:
        for line in report.counts(config.stash[RESULTS]):
            terminalreporter.write_line(line)
    if config.getoption("--write-report"):
        report.PATH.write_text(report.page(config.stash[RESULTS]), encoding="utf-8")
        terminalreporter.write_line(f"wrote {report.PATH.relative_to(report.ROOT)}")
