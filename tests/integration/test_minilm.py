"""A real model's heads (tests/minilm), where what they need is installed: some gigabytes."""

import os
import subprocess
from pathlib import Path

import pytest
from server_process import BINARY, ROOT

PYTHON = Path(ROOT) / "build/venv-minilm/bin/python"


@pytest.mark.skipif(not PYTHON.is_file(), reason="a trained encoder of 72 heads: `./dev minilm` installs what it needs")
def test_a_real_models_heads_are_its_own() -> None:
    run = subprocess.run(
        [PYTHON, "-B", "-m", "pytest", "-q", "--tb=short", "-c", ROOT / "tests/minilm/pytest.ini", ROOT / "tests/minilm"],
        env={**os.environ, "HEADLIGHT_SERVER": BINARY},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
