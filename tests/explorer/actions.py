"""What a person does on the page, and what they see."""

import csv
import io
import math

import numpy as np
from playwright.sync_api import Page


def line(page: Page) -> str:
    """The sentence about the lit row."""
    return page.inner_text("#line").strip()


def cell(page: Page, row: int, key: int) -> tuple[float, float]:
    """Where a cell's middle is in the window."""
    page.locator("#map").scroll_into_view_if_needed()
    frame = page.locator("#map").bounding_box()
    box = page.evaluate(
        "(async () => { const { matrix } = await import('/main.js'); return { ...matrix.box, cell: matrix.cell }; })()"
    )
    x = frame["x"] + box["left"] + (key + 0.5) * box["cell"]["width"]
    y = frame["y"] + box["top"] + (row + 0.5) * box["cell"]["height"]
    return x, y


def lit_row(page: Page) -> int:
    """The row that is not dimmed: the one whose pixels the overlay leaves alone. -1: none."""
    return page.evaluate(
        """(async () => {
          const { matrix } = await import('/main.js');
          const { left, top } = matrix.box;
          const scale = matrix.over.width / matrix.size.width;
          const copy = new OffscreenCanvas(matrix.over.width, matrix.over.height);
          const pen = copy.getContext('2d', { willReadFrequently: true });
          pen.drawImage(matrix.over, 0, 0);
          const x = Math.round((left + matrix.cell.width * 0.5) * scale);
          const column = pen.getImageData(x, 0, 1, matrix.over.height).data;
          const seen = Array.from({ length: matrix.map.rows }, (_, row) =>
            column[4 * Math.round((top + (row + 0.5) * matrix.cell.height) * scale) + 3]);
          const dark = seen.filter((alpha) => alpha > 0).length;
          return dark === seen.length - 1 ? seen.indexOf(0) : -1;
        })()"""
    )


def unfold(page: Page, part: str) -> None:
    """Opens an experiment."""
    details = page.locator(f"details[data-part={part}]")
    if details.get_attribute("open") is None:
        details.locator("summary").click()


def download(page: Page, what: str) -> bytes:
    """The bytes of an export."""
    unfold(page, "take")
    with page.expect_download() as found:
        page.click(f"[data-take={what}]")
    with open(found.value.path(), "rb") as file:
        return file.read()


def numbers(page: Page) -> tuple[list[str], list[str], np.ndarray]:
    """The map as the CSV export has it: keys, rows, values."""
    table = list(csv.reader(io.StringIO(download(page, "csv").decode())))
    values = [[-math.inf if text == "-Infinity" else float(text) for text in row[1:]] for row in table[1:]]
    return table[0][1:], [row[0] for row in table[1:]], np.array(values, np.float64)
