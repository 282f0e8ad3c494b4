"""Heatmaps as HTML that loads nothing and needs no script, as text, and by matplotlib."""

from __future__ import annotations

import html
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import matplotlib.axes

MOST_CELLS = 48  # drawn per side; larger maps are shrunk, each cell the largest of its block
MOST_FIGURES = 32
_TEXT_ROWS, _TEXT_COLUMNS = 16, 32
_SHADES = " ░▒▓█"

# A radio button for each map; the one that is checked shows its figure. Where styles are taken away all are shown.
_STYLE = """<style>
.headlight{font:13px sans-serif}.headlight input{position:absolute;opacity:0}
.headlight label{display:inline-block;padding:2px 8px;margin:2px;border:1px solid #888;border-radius:3px;cursor:pointer}
.headlight input:focus-visible+label{outline:2px solid #1d4ed8}
.headlight figure{display:none;margin:6px 0;overflow:auto}
.headlight table{border-collapse:collapse}.headlight th{font-weight:normal;padding:0 4px;white-space:pre}
.headlight tbody th{text-align:right}.headlight thead th{padding:0;vertical-align:bottom}
.headlight thead th span{writing-mode:vertical-rl}
.headlight td{width:14px;min-width:14px;height:14px;padding:0;border:1px solid #8883}
.headlight td{background:rgba(29,78,216,var(--w))}
.headlight tr:hover th,.headlight td:hover{outline:1px solid currentColor}
"""


@dataclass(frozen=True)
class Figure:
    """One map: NaN where there is no number, -inf where a pair is forbidden."""

    title: str
    cells: np.ndarray  # [rows, keys] float32
    rows: Sequence[str]
    keys: Sequence[str]


def labels(tokens: Sequence[str], begin: int, end: int) -> list[str]:
    """Of begin .. end - 1: tokens, or numbers where there are none."""
    return [tokens[i] if i < len(tokens) else str(i) for i in range(begin, end)]


def _blocks(names: Sequence[str], cuts: np.ndarray) -> list[str]:
    ends = [*cuts[1:], len(names)][: len(cuts)]  # there are no cuts where there are no names
    return [names[b] if e - b == 1 else f"{names[b]} … {names[e - 1]}" for b, e in zip(cuts, ends, strict=True)]


def shrink(figure: Figure, rows: int, columns: int) -> Figure:
    """The figure with at most so many cells a side, each the largest of its block."""
    height, width = figure.cells.shape
    row_cuts = np.arange(min(rows, height)) * height // min(rows, height)
    column_cuts = np.arange(min(columns, width)) * width // min(columns, width)
    cells = np.fmax.reduceat(np.fmax.reduceat(figure.cells, row_cuts, axis=0), column_cuts, axis=1)
    return Figure(figure.title, cells, _blocks(figure.rows, row_cuts), _blocks(figure.keys, column_cuts))


def shares(cells: np.ndarray) -> np.ndarray:
    """Each cell as a shade, 0..1: from 0, or the least number below it, to the largest."""
    finite = np.isfinite(cells)
    low = min(0.0, cells.min(initial=0, where=finite))
    high = cells.max(initial=low, where=finite)
    return np.where(finite, cells - low, 0) / (high - low or 1)


def _table(figure: Figure) -> str:
    small = shrink(figure, MOST_CELLS, MOST_CELLS)
    columns = [html.escape(name) for name in small.keys]
    lines = [f"<thead><tr><th></th>{''.join(f'<th><span>{name}</span></th>' for name in columns)}</tr></thead><tbody>"]
    for name, row, shade in zip(small.rows, small.cells, shares(small.cells), strict=True):
        spoken = html.escape(name)
        if np.isfinite(row).any():
            best = int(np.argmax(np.where(np.isfinite(row), row, -np.inf)))
            spoken += f" attends most to {columns[best]} ({row[best]:.2f})"
        cells = [f'<td style="--w:{w:.2f}" title="{v:.3g}"></td>' for v, w in zip(row, shade, strict=True)]
        lines.append(f'<tr><th title="{spoken}">{html.escape(name)}</th>{"".join(cells)}</tr>')
    return f"<table>{''.join(lines)}</tbody></table>"


def _caption(figure: Figure) -> str:
    height, width = figure.cells.shape
    largest = figure.cells.max(initial=0, where=np.isfinite(figure.cells))
    text = f"{figure.title}: rows look at columns, darkest {largest:.3g}"
    if max(height, width) > MOST_CELLS:
        text += f"; {height} × {width} weights, a cell is the largest of its block"
    return f"<figcaption>{html.escape(text)}</figcaption>"


def fragment(figures: Sequence[Figure]) -> str:
    """A piece of HTML for a notebook; empty where there is no figure."""
    shown = figures[:MOST_FIGURES]
    if not shown:
        return ""
    name = f"headlight-{uuid.uuid4().hex[:12]}"  # several of them may stand on one page
    switches, drawn, rules = [], [], []
    for number, figure in enumerate(shown):
        own = f"{name}-{number}"
        checked = " checked" if number == 0 else ""
        switches.append(f'<input type="radio" name="{name}" id="{own}"{checked}>')
        switches.append(f'<label for="{own}">{html.escape(figure.title)}</label>')
        drawn.append(f'<figure class="{own}">{_caption(figure)}{_table(figure)}</figure>')
        rules.append(f"#{own}:checked~.{own}{{display:block}}#{own}:checked+label{{background:#1d4ed8;color:#fff}}")
    left_out = f"<p>the first {len(shown)} of {len(figures)} maps</p>" if len(figures) > len(shown) else ""
    return f'{_STYLE}{"".join(rules)}</style><div class="headlight">{"".join(switches)}{left_out}{"".join(drawn)}</div>'


def page(body: str) -> str:
    """A whole page."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Headlight</title>\n<body>{body}</body></html>\n'
    )


def text(figure: Figure) -> list[str]:
    """Lines that show the figure in shades of characters."""
    small = shrink(figure, _TEXT_ROWS, _TEXT_COLUMNS)
    levels = np.ceil(shares(small.cells) * (len(_SHADES) - 1)).astype(int)
    width = max(len(name) for name in small.rows)
    lines = [
        f"{name:>{width}} |{''.join(_SHADES[level] for level in row)}|"
        for name, row in zip(small.rows, levels, strict=True)
    ]
    return [f"{figure.title}:", *lines]


def plot(figure: Figure, ax: matplotlib.axes.Axes | None) -> matplotlib.axes.Axes:
    """Draws on `ax`, or on a figure of its own."""
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(layout="constrained")
    cells = np.where(np.isfinite(figure.cells), figure.cells, np.nan)
    if not cells.size:  # matplotlib has no axis without a length
        cells = np.full((max(len(figure.rows), 1), max(len(figure.keys), 1)), np.nan)
    image = ax.imshow(cells, cmap="Blues", aspect="auto")
    ax.figure.colorbar(image, ax=ax)
    ax.set(title=figure.title, xlabel="key", ylabel="query")
    if len(figure.rows) <= MOST_CELLS and len(figure.keys) <= MOST_CELLS:
        ax.set_xticks(range(len(figure.keys)), figure.keys, rotation=90)
        ax.set_yticks(range(len(figure.rows)), figure.rows)
    return ax
