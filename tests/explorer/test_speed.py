"""How smooth it is. Figures are told, not held: machines are shared."""

import numpy as np
import pytest
from actions import cell

# Frames' lengths while the pointer goes over the map, as requestAnimationFrame tells them.
WATCH = """() => { window.frames_ = []; let last = performance.now(); window.watching_ = true;
  const tick = (now) => { window.frames_.push(now - last); last = now; if (window.watching_) requestAnimationFrame(tick); };
  requestAnimationFrame(tick); }"""


@pytest.mark.parametrize("fragment", ["#source=long&tokens=512", "#source=long&tokens=16384"])
def test_hovering_over_512_x_512(open_page, fragment, capsys):
    page = open_page(fragment, viewport={"width": 1280, "height": 1400})
    rows = page.evaluate("(async () => (await import('/main.js')).matrix.map.rows)()")
    assert rows == 512
    (left, top), (right, bottom) = cell(page, 0, 0), cell(page, 511, 511)
    page.evaluate(WATCH)
    lit = set()
    for step in range(240):
        share = step / 239
        page.mouse.move(left + (right - left) * share, top + (bottom - top) * (0.5 + 0.5 * np.sin(step / 9)))
        if step % 40 == 0:
            lit.add(page.inner_text("#line"))
    frames = np.array(page.evaluate("() => { window.watching_ = false; return window.frames_.slice(2); }"))
    assert len(lit) > 3, "the pointer lit rows"
    p50, p95 = np.percentile(frames, [50, 95])
    work = page.evaluate(
        """(async () => { const { matrix } = await import('/main.js'); const began = performance.now();
          for (let row = 0; row < 512; ++row) matrix.light({ row, key: row, locked: false });
          return (performance.now() - began) / 512; })()"""
    )
    with capsys.disabled():
        print(
            f"\n{fragment}: {len(frames)} frames, median {p50:.1f} ms, p95 {p95:.1f} ms; lighting a row {work:.2f} ms"
        )
