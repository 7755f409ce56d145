"""Each page of the menu cold and on a second visit, in Chromium, beside a bare page: to benchmarks/first_paint.json.

    python benchmarks/first_paint.py [--pages risk,exposure] [--times 5] [--out benchmarks/first_paint.json]

Cold: a new server and a new browser each time; the browser goes there as soon as the server says that it is well. The
second visit is the same address in a new tab of the same browser. The bare page is a script with one title and one
plotly chart, served by the same Streamlit with the same settings, compressed as ours is, without our door: what stands
before a page is ours to answer for. Pages take turns, and after every third comes the bare page.

Milliseconds run from the navigation to the frame in which the answer, and the main picture, first stand on the page:
`answer` and `picture` of PAGES. Bytes are what the browser received, over HTTP as sent and over the WebSocket.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import driven
from playwright.sync_api import Browser, BrowserContext

BARE = """
import plotly.graph_objects as go
import streamlit as st
st.title("Bare")
line = go.Scatter(x=list(range(1, 25)), y=[1 / x for x in range(1, 25)])
st.plotly_chart(go.Figure(line, layout={"height": 400}), key="line")
"""
TITLE, CHART = "h1", ".js-plotly-plot .main-svg .trace, .js-plotly-plot .main-svg .shapelayer path"
PAGES = {
    "start": (".le-big", CHART),
    "examples": (".list .cards", ".box canvas"),
    "risk": (".le-big", CHART),
    "missing-match": (".le-big", CHART),
    "exposure": (".le-big", CHART),
    "mitigation": (".mi-card", CHART),
    "frontier": (".fm-answer", ".fm-table"),
    "play": (".pl-say", ".box canvas"),
    "report": (".rp-answer", ".rp-none"),
    "methods": (TITLE, ".me-words"),
    "data": (TITLE, ".le-cannot"),
}
"""Of each page of the menu: what has its answer, and what is its main picture."""
KINDS = ("answer", "picture")
BARE_AFTER = 3
"""Pages between two measurements of the bare page."""
Visits = tuple[dict[str, float], dict[str, float]]
"""The first visit and the second."""

WATCH = """
([answer, picture]) => {
  const wanted = {answer, picture}, seen = {};
  window.__seen = seen;
  const roots = () => {
    const main = document.querySelector('[data-testid=stMainBlockContainer]');
    return main ? [main, ...[...main.querySelectorAll('[data-testid=stBidiComponentRegular] *, [data-testid] *')]
      .map(one => one.shadowRoot).filter(Boolean)] : [];
  };
  const look = () => {
    const left = Object.keys(wanted).filter(name => !(name in seen));
    if (!left.length) return;
    const among = roots();
    for (const name of left)
      if (among.some(root => root.querySelector(wanted[name]))) seen[name] = performance.now();
    requestAnimationFrame(look);
  };
  look();
}
"""


def visit(context: BrowserContext, url: str, wanted: Sequence[str]) -> dict[str, float]:
    """Milliseconds to the answer and the picture, and bytes, of one navigation in a tab of its own."""
    page = context.new_page()
    sent = {"http": 0.0, "socket": 0.0}
    network = context.new_cdp_session(page)
    network.send("Network.enable")

    def received(kind: str, amount: float) -> None:
        sent[kind] += amount

    network.on("Network.loadingFinished", lambda told: received("http", told["encodedDataLength"]))
    page.on("websocket", lambda ws: ws.on("framereceived", lambda payload: received("socket", len(payload))))
    page.add_init_script(f"({WATCH})({json.dumps(list(wanted))})")
    page.goto(url, wait_until="commit")
    page.wait_for_function("() => window.__seen?.answer && window.__seen?.picture", timeout=120_000)
    seen = page.evaluate("window.__seen")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'", timeout=60_000
    )
    page.close()
    return {**{kind: float(seen[kind]) for kind in KINDS}, "bytes": sum(sent.values()), "socket": sent["socket"]}


def cold(browser: Browser, script: Path, path: str, wanted: Sequence[str]) -> Visits:
    """(first visit, second visit) of a new browser to a new server."""
    with driven.running(script) as url:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        driven.let_in(context, url)
        found = visit(context, url + path, wanted), visit(context, url + path, wanted)
        context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", default=",".join(PAGES), help="which, by their files in pages/")
    parser.add_argument("--times", type=int, default=5, help="cold starts of each page")
    parser.add_argument("--out", type=Path, default=driven.ROOT / "benchmarks" / "first_paint.json")
    asked = parser.parse_args()
    bare = Path(tempfile.mkdtemp()) / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    app = driven.ROOT / "app.py"
    before = os.getloadavg()
    names = asked.pages.split(",")
    ours, bares = {name: list[Visits]() for name in names}, list[Visits]()
    with driven.browsing() as browser:
        for turn in range(asked.times):
            for place, name in enumerate(names):
                ours[name].append(cold(browser, app, f"/{'' if name == 'start' else name}", PAGES[name]))
                if place % BARE_AFTER == 0:
                    bares.append(cold(browser, bare, "", (TITLE, CHART)))
            result = {
                "schema": 1,
                "what": "milliseconds from navigation to answer and main picture, medians; bytes received",
                "times": turn + 1,
                "bare_times": len(bares),
                "load": {"before": round(before[0], 1), "after": round(os.getloadavg()[0], 1)},
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                **{visit: compared(ours, bares, place) for place, visit in enumerate(("cold", "second"))},
            }
            asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(result), flush=True)


def compared(ours: Mapping[str, Sequence[Visits]], bares: Sequence[Visits], place: int) -> dict[str, Any]:
    """Of the first (0) or second (1) visit: the bare page, each of ours, and how many times the bare page that is."""
    bare = [one[place] for one in bares]
    found: dict[str, Any] = {"bare": middle(bare)}
    for name, visits in ours.items():
        ones = [one[place] for one in visits]
        found[name] = middle(ones) | {f"{kind}_times_bare": ratio(kind, ones, bare) for kind in KINDS}
    return found


def middle(visits: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians."""
    return {key: round(statistics.median(each[key] for each in visits)) for key in visits[0]}


def ratio(kind: str, ours: Sequence[dict[str, float]], bare: Sequence[dict[str, float]]) -> float:
    """Ours over the bare page's picture: it has nothing else to answer with. Of the medians."""
    return round(middle(ours)[kind] / middle(bare)["picture"], 2)


if __name__ == "__main__":
    main()
