"""All scenarios by name."""

import traceback
from collections.abc import Callable
from typing import NamedTuple

import connections
import lasting
import layers
import load
import overload
import streamed
from scene import Scene


class Scenario(NamedTuple):
    run: Callable[[Scene], None]
    share: int  # of the whole time


SCENARIOS = {
    name: Scenario(*scenario)
    for part in (overload, connections, streamed, lasting, layers)
    for name, scenario in part.SCENARIOS.items()
}


def run(name: str, seconds: float, quick: bool, crew: load.Crew) -> Scene:
    """Runs one; an error in it is a figure that is not met."""
    scene = Scene(seconds, quick, crew)
    try:
        SCENARIOS[name].run(scene)
    except Exception:
        traceback.print_exc()
        scene.promise("ended with an error", 1)
    return scene
