"""Fixtures: a server with its web port, Chromium, and a page that must not complain."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

import stubs

stubs.generate()

import grpc
import pytest
import server_process
from headlight.v1 import analysis_service_pb2_grpc, attention_service_pb2_grpc
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = os.environ.get("HEADLIGHT_CHROMIUM", "/usr/bin/chromium")
# Playwright sees a violation of the page's policy only if the page tells it.
TELL_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
)


class Server(server_process.Server):
    """A server of one's own, that can be stopped. `web` is its page's address with the scheme."""

    def __init__(self, *flags: str, web: str = "127.0.0.1:0"):
        super().__init__("--listen=127.0.0.1:0", "--http=127.0.0.1:0", f"--web={web}", *flags, defaults=False)
        self.web = f"http://{self.web}"


class Given:
    """A server that somebody else runs: HEADLIGHT_WEB is its page's address, HEADLIGHT_GRPC its gRPC address."""

    def __init__(self, web: str):
        self.web = web.rstrip("/")
        self.address = os.environ.get("HEADLIGHT_GRPC", "127.0.0.1:50051")

    def close(self) -> None:
        """It is not ours."""


@pytest.fixture(scope="session")
def server() -> Iterator[Server | Given]:
    """The server of all tests that do not change it."""
    given = os.environ.get("HEADLIGHT_WEB")
    running = Given(given) if given else Server("--max-call-seconds=100000", "--max-wait-seconds=1000")
    yield running
    running.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    if not Path(server_process.BINARY).is_file():
        pytest.skip("no binary to start a server of one's own: set HEADLIGHT_SERVER")
    started: list[Server] = []

    def start_one(*flags: str, **options) -> Server:
        started.append(Server(*flags, **options))
        return started[-1]

    yield start_one
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def channel(server) -> Iterator[grpc.Channel]:
    """gRPC's way to the same server."""
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=unlimited) as made:
        yield made


@pytest.fixture
def attention(channel):
    """Over gRPC."""
    return attention_service_pb2_grpc.AttentionServiceStub(channel)


@pytest.fixture
def analysis(channel):
    """Over gRPC."""
    return analysis_service_pb2_grpc.AnalysisServiceStub(channel)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Root may not use its sandbox."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Browser, server) -> Iterator[Callable[..., Page]]:
    """Opens the page at a fragment and waits for its first picture. Afterwards nothing may have complained, but for
    `expected`: parts of messages that the test is about."""
    complaints: list[str] = []
    allowed: list[str] = []
    contexts = []

    def open_one(
        fragment: str = "", *, web: str | None = None, expected: tuple[str, ...] = (), ready: bool = True, **options
    ) -> Page:
        allowed.extend(expected)
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20000)
        page.add_init_script(TELL_VIOLATIONS)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{web or server.web}/{fragment}")
        if ready:
            page.wait_for_selector("#picture:not([hidden]):not(.stale)")
        return page

    yield open_one
    for context in contexts:
        context.close()
    left = [text for text in complaints if not any(part in text for part in allowed)]
    assert left == [], left


@pytest.fixture
def page(open_page) -> Page:
    """The first picture: the demo's sentence."""
    return open_page()
