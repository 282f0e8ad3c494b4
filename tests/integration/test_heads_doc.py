"""The tour of docs/heads.md: every command runs, and every line of output that is shown there is printed."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass

import pytest
from server_process import CLI, ROOT, Server

TOUR = (ROOT / "docs/heads.md").read_text(encoding="utf-8")
STEP = re.compile(r"^<!-- test -->\n```sh\n(?P<commands>.*?)^```\n```text\n(?P<output>.*?)^```\n", re.M | re.S)


@dataclass
class Step:
    commands: list[str]
    output: list[str]


STEPS = [Step(m["commands"].splitlines(), m["output"].splitlines()) for m in STEP.finditer(TOUR)]


def test_every_command_of_the_tour_is_tested() -> None:
    assert len(STEPS) == TOUR.count("```sh\n") >= 8
    assert all(step.commands and step.output for step in STEPS)


@pytest.fixture(scope="module")
def guide():
    server = Server("--threads=2", "--allow-layer-uploads")
    yield server
    server.close()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.commands[0].removeprefix("headlight "))
def test_the_tour(guide, step) -> None:
    printed = ""
    for command in step.commands:
        words = shlex.split(command)
        assert words[0] == "headlight"
        environment = {**os.environ, "HEADLIGHT_ADDRESS": guide.address}
        run = subprocess.run([CLI, *words[1:]], env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, f"{command}: {run.stderr}"
        printed += run.stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    for line in step.output:
        assert any(shown.startswith(line) for shown in lines), f"{line!r} is not in\n{printed}"
