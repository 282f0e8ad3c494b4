"""The fault suite's scenarios, a moment each: what they promise on any machine. `./dev soak` judges figures too."""

import sys
from collections.abc import Iterator

import pytest
from server_process import ROOT

sys.path.insert(0, str(ROOT / "tests/soak"))

from load import Crew
from scenarios import SCENARIOS, run

SECONDS = 0.3
BRIEFLY = [name for name in SCENARIOS if name != "overload_2x"]  # as overload_10x, but milder


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    made = Crew(processes=False)
    yield made
    made.close()


@pytest.mark.parametrize("name", BRIEFLY)
def test_scenario(crew, name) -> None:
    scene = run(name, SECONDS, quick=True, crew=crew)
    if scene.skipped:
        pytest.skip(scene.skipped)
    assert scene.figures
    assert [figure for figure in scene.figures if figure.met is False] == []
