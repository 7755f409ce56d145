"""Slider N to redrawn chart, in Chromium: p50 and p95 of 20 moves, written to benchmarks/interaction.json.

    python benchmarks/interaction.py

Time runs from the key press on the slider to the browser's next frame after the chart's line at the chosen N has moved.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from driven import open_page, running  # noqa: E402

MOVES = 20

# The line at the chosen N is the first shape of the chart; its place is the sign that the chart was drawn again.
WATCH = """
() => new Promise(done => {
  const line = () => document.querySelector('.js-plotly-plot .shapelayer path')?.getAttribute('d');
  const before = line();
  let pressed = null;
  document.addEventListener('keydown', () => { pressed = performance.now(); }, {capture: true, once: true});
  const look = () => {
    if (pressed !== null && line() !== before) requestAnimationFrame(() => done(performance.now() - pressed));
    else requestAnimationFrame(look);
  };
  look();
  window.__watching = true;
})
"""


def move(page: Page, key: str) -> float:
    """Milliseconds of one move."""
    page.get_by_role("slider").focus()
    page.evaluate(f"() => {{ window.__watching = false; window.__moved = ({WATCH})(); }}")
    page.wait_for_function("window.__watching")
    page.keyboard.press(key)
    return float(page.evaluate("window.__moved"))


def main() -> None:
    with running() as url, open_page(f"{url}/risk", 1280, 800, "light") as page:
        for key in ("ArrowRight", "ArrowLeft"):  # the first draw of a chart loads it
            move(page, key)
        times = [move(page, "ArrowRight" if (i // 5) % 2 == 0 else "ArrowLeft") for i in range(MOVES)]
    result = {
        "what": "milliseconds from key press on the N slider to the redrawn chart, Risk by pool size, all models",
        "moves": MOVES,
        "p50_ms": round(float(np.percentile(times, 50)), 1),
        "p95_ms": round(float(np.percentile(times, 95)), 1),
        "all_ms": [round(t, 1) for t in times],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    (ROOT / "benchmarks" / "interaction.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"slider to chart: p50 {result['p50_ms']} ms, p95 {result['p95_ms']} ms of {MOVES}")


if __name__ == "__main__":
    main()
