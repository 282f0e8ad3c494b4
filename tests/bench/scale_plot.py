#!/usr/bin/env python3
"""Draws what `./dev bench scale --json FILE` measured: time and memory over T, both axes logarithmic.

Usage: scale_plot.py REPORT.json PLOT.svg. Python's standard library is all it needs. The plot follows the reader's
light or dark scheme by CSS of its own.
"""

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 900, 430
# Of each of the two panels: left edge, top edge, width, height.
LEFT, TOP, ACROSS, DOWN, GAP = 70, 62, 350, 300, 90
MIB = 1 << 20
STYLE = """
  svg { color-scheme: light dark; font: 13px system-ui, sans-serif; --text: #1f2328; --quiet: #59636e; --grid: #d1d9e0;
    --paper: #ffffff; --flash: #0969da; --naive: #bc4c00; }
  @media (prefers-color-scheme: dark) { svg { --text: #e6edf3; --quiet: #9198a1; --grid: #3d444d; --paper: #0d1117;
    --flash: #58a6ff; --naive: #f0883e; } }
  .paper { fill: var(--paper); } text { fill: var(--text); } .tick { fill: var(--quiet); font-size: 12px; }
  .title { font-size: 15px; font-weight: 600; } .grid { stroke: var(--grid); stroke-width: 1; }
  .guide { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 2 5; fill: none; }
  .flash { stroke: var(--flash); } .naive { stroke: var(--naive); stroke-dasharray: 7 4; }
  .line { fill: none; stroke-width: 2.5; } .dot { fill: var(--paper); stroke-width: 2; stroke-dasharray: none; }
"""

Series = list[tuple[float, float]]


class Panel:
    """A pair of logarithmic axes: tokens by powers of two across, powers of ten upward."""

    def __init__(self, left: float, title: str, series: dict[str, Series], unit: str) -> None:
        self.left, self.title, self.series, self.unit = left, title, series, unit
        tokens = [x for points in series.values() for x, _ in points]
        values = [y for points in series.values() for _, y in points]
        self.x_range = math.log2(min(tokens)), math.log2(max(tokens))
        self.y_range = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(self, tokens: float) -> float:
        low, high = self.x_range
        return self.left + ACROSS * (math.log2(tokens) - low) / max(high - low, 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return TOP + DOWN * (1 - (math.log10(value) - low) / max(high - low, 1))

    def draw(self) -> list[str]:
        return [*self.axes(), *self.guide(), *(part for name in self.series for part in self.curve(name))]

    def axes(self) -> list[str]:
        right, bottom = self.left + ACROSS, TOP + DOWN
        parts = [text(self.left, TOP - 14, self.title, "title")]
        for power in range(self.y_range[0], self.y_range[1] + 1):
            y = self.y(10.0**power)
            parts.append(f'<path class="grid" d="M{self.left:.1f} {y:.1f}H{right:.1f}"/>')
            parts.append(text(self.left - 8, y + 4, self.unit_of(power), "tick", "end"))
        for power in range(round(self.x_range[0]), round(self.x_range[1]) + 1):
            x = self.x(2.0**power)
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            parts.append(text(x, bottom + 18, f"{2**power:,}", "tick", "middle"))
        parts.append(text(self.left + ACROSS / 2, bottom + 40, "tokens T", "", "middle"))
        return parts

    def unit_of(self, power: int) -> str:
        if self.unit == "s":
            for name, exponent in (("s", 0), ("ms", -3), ("µs", -6)):
                if power >= exponent:
                    return f"{10 ** (power - exponent)} {name}"
        return f"{10**power if power >= 0 else 10.0**power:g} {self.unit}"

    def guide(self) -> list[str]:
        """Time exactly as T², memory exactly as T, from the first point of flash."""
        (first, start), (last, _) = self.series["flash"][0], self.series["flash"][-1]
        exponent = 2 if self.unit == "s" else 1
        top = 10.0 ** self.y_range[1]
        last = min(last, first * (top / start) ** (1 / exponent))
        end = start * (last / first) ** exponent
        ends = f"M{self.x(first):.1f} {self.y(start):.1f}L{self.x(last):.1f} {self.y(end):.1f}"
        return [f'<path class="guide" d="{ends}"/>']

    def curve(self, name: str) -> list[str]:
        points = [(self.x(x), self.y(y)) for x, y in self.series[name]]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dots = [f'<circle class="dot {name}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
        return [f'<path class="line {name}" d="M{path}"/>', *dots]


def text(x: float, y: float, what: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(what)}</text>'


def legend() -> list[str]:
    parts = []
    entries = (
        ("line flash", "flash"),
        ("line naive", "naive"),
        ("guide", "from the first point of flash with T² and with T"),
    )
    for place, (style, label) in enumerate(entries):
        x = LEFT + place * 100
        parts.append(f'<path class="{style}" d="M{x} 18h28"/>')
        parts.append(text(x + 36, 22, label))
    return parts


def memory_of(point: dict[str, Any]) -> float:
    return float(point["input_bytes"] + point["output_bytes"] + point["workspace_bytes"]) / MIB


def plot(report: dict[str, Any]) -> str:
    """The report as an SVG document."""
    names = [name for name in ("flash", "naive") if report[name]]
    times = {name: [(p["tokens"], p["median_seconds"]) for p in report[name]] for name in names}
    memory = {name: [(p["tokens"], memory_of(p)) for p in report[name]] for name in names}
    machine = report["machine"]
    threads = report["threads"]
    caption = (
        f"{machine['processor']}, {machine['cpu_target']}, {threads} thread{'s' if threads > 1 else ''}; "
        "float32, 8 heads of 64, no mask"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{summary(report)}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        *legend(),
        *Panel(LEFT, "Time of a call", times, "s").draw(),
        *Panel(LEFT + ACROSS + GAP, "Memory of a call: input, output, workspace", memory, "MiB").draw(),
        text(WIDTH - 20, HEIGHT - 8, caption, "tick", "end"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def summary(report: dict[str, Any]) -> str:
    last = report["flash"][-1]
    what = f"flash: {last['median_seconds']:.3g} s and {memory_of(last):.0f} MiB at {last['tokens']} tokens"
    return escape(f"Time and memory of a call over the number of tokens; {what}", quote=True)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    Path(arguments[1]).write_text(plot(json.loads(Path(arguments[0]).read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
