#!/usr/bin/env python3
"""The dashboard as a picture: `./dev dashboard`.

Starts a server and a real Prometheus with the shipped rules, calls the server in every way for some minutes, and draws
each panel of deploy/grafana/headlight.json from what Prometheus has seen. Grafana itself is not needed.

Exit status: 0 every panel has data, or is about limits that are not set here; 1 one has none; 2 called wrongly.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
import stubs  # noqa: E402

stubs.generate()
import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from prometheus_process import Prometheus, dashboard, expression_of, mixed_load  # noqa: E402
from server_process import Server  # noqa: E402

COLUMNS, ROW_INCHES = 24, 0.34
STEPS = 240  # points of a curve
FACTORS = {"bytes": (1 << 20, "MiB"), "Bps": (1 << 20, "MiB/s"), "flops": (1e9, "GFLOP/s"), "percentunit": (0.01, "%")}


def curves(prometheus: Prometheus, panel: dict, seconds: float) -> list[tuple[str, list[float], list[float]]]:
    """Legend, times from the start and values of each series."""
    found = []
    for target in panel["targets"]:
        for series in prometheus.query_range(expression_of(target, "15s"), seconds, max(seconds / STEPS, 1)):
            legend = target["legendFormat"]
            for label, value in series["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            points = [(float(at), float(value)) for at, value in series["values"]]
            found.append((legend, [at for at, _ in points], [value for _, value in points]))
    return found


def draw_panel(axes: plt.Axes, panel: dict, found: list[tuple[str, list[float], list[float]]]) -> None:
    factor, unit = FACTORS.get(panel["fieldConfig"]["defaults"]["unit"], (1, panel["fieldConfig"]["defaults"]["unit"]))
    axes.set_title(panel["title"], loc="left", fontsize=8, fontweight="bold")
    axes.tick_params(labelsize=6)
    axes.set_ylabel("" if unit == "none" else unit, fontsize=6)
    if not found:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, fontsize=8)
        return
    began = min(times[0] for _, times, _ in found)
    for legend, times, values in found:
        axes.plot([(at - began) / 60 for at in times], [v / factor for v in values], linewidth=0.9, label=legend)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=5, loc="upper left", framealpha=0.6, ncols=2 if len(found) > 4 else 1)


def draw(prometheus: Prometheus, seconds: float, path: Path) -> list[str]:
    """Returns the titles of panels without data."""
    board, empty = dashboard(), []
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(16, height * ROW_INCHES), layout="none")
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - place["y"] / height
        if panel["type"] == "row":
            figure.text(0.01, top - 0.9 / height, panel["title"], fontsize=10, fontweight="bold")
            continue
        box = (left + 0.035, top - (place["h"] - 1.2) / height, place["w"] / COLUMNS - 0.05, (place["h"] - 2.6) / height)
        found = curves(prometheus, panel, seconds)
        if not found:
            empty.append(panel["title"])
        draw_panel(figure.add_axes(box), panel, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return empty


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev dashboard", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2, help="of load (2)")
    parser.add_argument("--out", type=Path, default=ROOT / "build/dashboard.svg", help="SVG or PNG (build/dashboard.svg)")
    options = parser.parse_args()
    if not 0 < options.minutes <= 1440:
        parser.error("--minutes is above 0 and at most 1440")
    if options.out.suffix not in (".svg", ".png"):
        parser.error("--out ends in .svg or .png")
    return options


def main() -> int:
    options = parse()
    seconds = 60 * options.minutes
    server = Server()
    prometheus = Prometheus(server)
    try:
        with mixed_load(server):
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                print(f"\r{left:5.0f} s of load to go", end="", file=sys.stderr, flush=True)
                time.sleep(min(left, 1))
        print("\r", end="", file=sys.stderr)
        empty = draw(prometheus, seconds, options.out)
    finally:
        prometheus.close()
        server.close()
    print(f"{len(dashboard()['panels'])} panels and rows drawn in {options.out}; without data: {', '.join(empty) or 'none'}")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
