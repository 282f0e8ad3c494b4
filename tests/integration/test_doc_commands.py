"""Commands that docs show beside a server of their own: each block runs in a folder that has the files it names."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from safetensors_file import file_of
from server_process import CLI, ROOT, Server

PAGES = ("layers.md", "operating.md", "web.md")
BLOCK = re.compile(r"^<!-- test: commands -->\n```sh\n(?P<code>.*?)^```\n", re.M | re.S)
BLOCKS = [
    pytest.param(page, found["code"].splitlines(), id=f"{page}-{number}")
    for page in PAGES
    for number, found in enumerate(BLOCK.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")))
]
# What stands for a place on the reader's machine.
GRPC, NAMED, WEB, LAYERS = "0.0.0.0:50051", "headlight.example:50051", "127.0.0.1:8080", "/srv/layers"


def encoder(width: int = 24) -> bytes:
    """Two layers by BERT's names."""
    random = np.random.default_rng(0)
    names = ("self.query", "self.key", "self.value", "output.dense")
    return file_of({
        f"encoder.layer.{layer}.attention.{name}.weight": random.standard_normal((width, width)).astype(np.float32)
        for layer in range(2)
        for name in names
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """With every file that a block names."""
    layers = tmp_path / "layers"
    layers.mkdir()
    for path in (tmp_path / "minilm.safetensors", layers / "one.safetensors"):
        path.write_bytes(encoder())
    (layers / "one.json").write_text('{"num_attention_heads": 12}')
    Authority(tmp_path).issue().write("server")
    return tmp_path


class Session:
    """Runs commands one after the other; a server goes on beside those that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server = folder, None

    def sh(self, command: str) -> str:
        environment = dict(os.environ)
        if self.server is not None:
            command = command.replace(NAMED, self.server.address.replace("127.0.0.1", "localhost"))
            command = command.replace(WEB, self.server.web or WEB)
            environment["HEADLIGHT_ADDRESS"] = self.server.address
        command = re.sub(r"\bheadlight (?=[a-z])", f"{shlex.quote(CLI)} ", command)
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
        return run.stdout

    def serve(self, command: str) -> None:
        words = shlex.split(command.replace(GRPC, "127.0.0.1:0").replace(LAYERS, str(self.folder / "layers")))[1:]
        paths = [str(self.folder / word) if (self.folder / word).is_file() else word for word in words]
        self.server = Server("--threads=1", *paths)


def test_pages_show_commands() -> None:
    assert len(BLOCKS) == 5


@pytest.mark.parametrize(("page", "commands"), BLOCKS)
def test_the_pages_commands(server, folder, page, commands) -> None:
    session = Session(folder)
    own = any(command.startswith("headlight-server") for command in commands)
    if not own:
        session.server = server
    try:
        for command in commands:
            if command.startswith("headlight-server"):
                session.serve(command)
                assert "headlight demo" in "".join(commands) or session.sh("headlight layers list")
            else:
                assert session.sh(command) or ">" in command
    finally:
        if own and session.server is not None:
            session.server.close()
