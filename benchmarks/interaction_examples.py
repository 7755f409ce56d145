"""Slider epsilon on Examples beside a bare page, in Chromium: p50 and p95 of 20 moves of each, taken in turn.

    python benchmarks/interaction_examples.py

Time runs from the key press to the browser's next frame after the *after* list and the picture under it have changed.
The bare page is a slider and a plotly line of as many points, and nothing else; it is measured on the same machine in
the same minute, a move of one after a move of the other. To benchmarks/interaction_examples.json.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from driven import ARGUMENTS, let_in, running  # noqa: E402

MOVES = 20
BARE = """
import plotly.graph_objects as go
import streamlit as st
st.title("Bare")
n = st.select_slider("n", list(range(1, 16)), value=3, key="n")
line = go.Scatter(x=list(range(1, 25)), y=[n / x for x in range(1, 25)])
st.plotly_chart(go.Figure(line, layout={"yaxis": {"range": [0, 16]}}), key="line")
"""

WATCH = """
() => new Promise(done => {
  const after = [...document.querySelectorAll('*')].map(one => one.shadowRoot).filter(Boolean)
    .map(root => root.querySelector('.list')).filter(Boolean).at(-1);  // sought once: looking must cost nothing
  const list = () => after?.textContent ?? '';
  const lines = () => [...document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line')]
    .map(path => path.getAttribute('d')).join();
  const before = [list(), lines()];
  const listed = before[0] !== '';
  let pressed = null;
  document.addEventListener('keydown', () => { pressed = performance.now(); }, {capture: true, once: true});
  const look = () => {
    if (pressed !== null && lines() !== before[1] && (!listed || list() !== before[0]))
      requestAnimationFrame(() => done(performance.now() - pressed));
    else requestAnimationFrame(look);
  };
  look();
  window.__watching = true;
})
"""


def move(page: Page, name: str, key: str) -> float:
    """Milliseconds of one move of a slider."""
    page.get_by_role("slider", name=name).focus()
    page.evaluate(f"() => {{ window.__watching = false; window.__moved = ({WATCH})(); }}")
    page.wait_for_function("window.__watching")
    page.keyboard.press(key)
    return float(page.evaluate("window.__moved"))


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    let_in(page.context, url)
    page.goto(url)
    page.wait_for_selector(".js-plotly-plot .scatterlayer path.js-line", timeout=60_000)
    page.wait_for_load_state("networkidle")
    return page


def main() -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("No Chromium on this machine. Install it with: sudo apt-get install chromium")
    script = Path(tempfile.mkdtemp()) / "bare.py"
    script.write_text(BARE, encoding="utf-8")
    times: dict[str, list[float]] = {"examples": [], "bare page": []}
    with running() as url, running(script) as bare_url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = opened(browser, f"{url}/examples?second=@mitigation&epsilon=0.1")
        bare = opened(browser, bare_url)
        for i in range(-2, MOVES):  # the first two load what they need
            key = "ArrowRight" if (i // 10) % 2 == 0 else "ArrowLeft"
            found = {"examples": move(page, "Budget", key), "bare page": move(bare, "n", key)}
            if i >= 0:
                for name, value in found.items():
                    times[name].append(value)
        browser.close()
    result = {
        "what": "milliseconds from key press on the epsilon slider over the after list to the redrawn list and picture",
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
    (ROOT / "benchmarks" / "interaction_examples.json").write_text(text, encoding="utf-8")
    for name in times:
        print(f"{name}: p50 {result[name]['p50_ms']} ms, p95 {result[name]['p95_ms']} ms of {MOVES}")


if __name__ == "__main__":
    main()
