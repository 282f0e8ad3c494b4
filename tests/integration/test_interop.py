"""gRPC's interoperability cases: the Go implementation's client against gRPC as our server sets it up."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from certificates import Authority
from server_process import ROOT

# All of doc/interop-test-descriptions.md (gRPC) that this client has, but for those of Google's credentials, of name
# lookup and of ORCA's load reports.
CASES = [
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
    "timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
    "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
]  # fmt: skip
CLIENT = ROOT / "build" / "protocol-suites" / "interop-client"
pytestmark = pytest.mark.skipif(not CLIENT.exists(), reason="no interop-client: ./dev test builds it from Go's modules")


@pytest.fixture(scope="module", params=["plain", "TLS"])
def client(request, tmp_path_factory) -> Iterator[list[str]]:
    """The client's command line against a server."""
    server, flags = [os.environ["HEADLIGHT_INTEROP_SERVER"]], []
    if request.param == "TLS":
        folder = tmp_path_factory.mktemp("interop")
        authority = Authority(folder)
        server += map(str, authority.issue().write("server"))
        flags = ["-use_tls", "-use_test_ca", f"-ca_file={authority.path}"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        yield [str(CLIENT), "-server_host=localhost", f"-server_port={port}", *flags]
        process.terminate()


@pytest.mark.parametrize("case", CASES)
def test_interoperability(client, case) -> None:
    run = subprocess.run([*client, f"-test_case={case}"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
