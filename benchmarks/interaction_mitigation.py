"""Slider epsilon to redrawn page, in Chromium: p50 and p95 of 10 moves, to benchmarks/interaction_mitigation.json.

    python benchmarks/interaction_mitigation.py

Time runs from the key press to the browser's next frame after both the guarantee and the curve have changed. Every step
is new to the server: the moves go once along the slider, so nothing that is measured was kept from a move before.
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

MOVES = 10

WATCH = """
() => new Promise(done => {
  const curve = () => [...document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line')]
    .map(path => path.getAttribute('d')).join();
  const card = () => document.querySelector('.mi-card')?.textContent;
  const before = [curve(), card()];
  let pressed = null;
  document.addEventListener('keydown', () => { pressed = performance.now(); }, {capture: true, once: true});
  const look = () => {
    if (pressed !== null && curve() !== before[0] && card() !== before[1])
      requestAnimationFrame(() => done(performance.now() - pressed));
    else requestAnimationFrame(look);
  };
  look();
  window.__watching = true;
})
"""


def move(page: Page, key: str) -> float:
    """Milliseconds of one move."""
    page.get_by_role("slider").first.focus()
    page.evaluate(f"() => {{ window.__watching = false; window.__moved = ({WATCH})(); }}")
    page.wait_for_function("window.__watching")
    page.keyboard.press(key)
    return float(page.evaluate("window.__moved"))


def main() -> None:
    address = "mitigation?N=10000&epsilon=0.05"
    times: dict[str, list[float]] = {}
    for name, more in (("label head", ""), ("aligned", "&mechanism=moment-oneshot")):
        with running() as url, open_page(f"{url}/{address}{more}", 1280, 800, "light") as page:
            move(page, "ArrowRight")  # the first one loads what it needs
            times[name] = [move(page, "ArrowRight") for _ in range(MOVES)]
    result = {
        "what": "milliseconds from key press on the epsilon slider to the redrawn Mitigation page, each step new",
        "moves": MOVES,
        **{
            name: {
                "p50_ms": round(float(np.percentile(found, 50)), 1),
                "p95_ms": round(float(np.percentile(found, 95)), 1),
                "all_ms": [round(t, 1) for t in found],
            }
            for name, found in times.items()
        },
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    text = json.dumps(result, indent=1) + "\n"
    (ROOT / "benchmarks" / "interaction_mitigation.json").write_text(text, encoding="utf-8")
    for name in times:
        print(f"{name}: p50 {result[name]['p50_ms']} ms, p95 {result[name]['p95_ms']} ms of {MOVES}")


if __name__ == "__main__":
    main()
