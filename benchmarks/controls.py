"""Every control of every page to its effect, in Chromium, beside a bare page: to benchmarks/controls.json.

    python benchmarks/controls.py [--pages risk,exposure] [--moves 20] [--out benchmarks/controls.json]

Controls are found on the page: sliders, groups of buttons, switches, select boxes, number boxes and tabs of the main
block, at the addresses of PAGES, a one-shot head that is computed at each move among them. Each is moved there and
back. Time runs from the press of a key or a button to the last change of the page that it brings: the run is over and
nothing changes for QUIET. The bare page is a slider and a plotly line and nothing else; a move of it follows each move
of a control. What changes nothing, such as a switch of what is not shown, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import driven
import numpy as np
from interaction_examples import BARE
from playwright.sync_api import Browser, Locator, Page
from playwright.sync_api import Error as PlaywrightError

PAGES = {
    "start": "",
    "examples": "examples",
    "examples, one-shot head": "examples?second=@mitigation&mechanism=moment-oneshot&epsilon=0.1",
    "risk": "risk",
    "risk, models compared": "risk?tab=compare",
    "risk, same findings": "risk?tab=decoys",
    "missing-match": "missing-match",
    "exposure": "exposure",
    "exposure, groups": "exposure?list=groups",
    "mitigation": "mitigation",
    "mitigation, one-shot head": "mitigation?mechanism=moment-oneshot&N=1000",
    "frontier": "frontier",
    "frontier, all settings": "frontier?show=all",
    "play": "play",
    "report": "report",
    "methods": "methods",
    "data": "data",
}
"""Name -> address of each page of the menu, and of those whose controls depend on the address."""
QUIET = 200
"""Milliseconds."""

WATCH = """
quiet => new Promise(done => {
  const main = document.querySelector('[data-testid=stMainBlockContainer]');
  const app = document.querySelector('[data-testid=stApp]');
  let pressed = null, last = null, ran = false;
  const changed = all => {
    if (pressed !== null && all.some(one => !/^(data-|aria-busy|tabindex)/.test(one.attributeName ?? '')))
      last = performance.now();
  };
  const observer = new MutationObserver(changed);
  const rooms = [main, ...[...main.querySelectorAll('*')].map(one => one.shadowRoot).filter(Boolean)];
  for (const room of rooms)
    observer.observe(room, {childList: true, subtree: true, characterData: true, attributes: true});
  const press = () => { if (pressed === null) pressed = performance.now(); };
  for (const kind of ['keydown', 'pointerdown'])
    document.addEventListener(kind, press, {capture: true, once: true});
  const runs = new MutationObserver(() => {
    ran ||= pressed !== null && app.dataset.testScriptState !== 'notRunning';
  });
  runs.observe(app, {attributes: true, attributeFilter: ['data-test-script-state']});
  const began = performance.now();
  const look = () => {
    const now = performance.now(), running = app.dataset.testScriptState !== 'notRunning';
    const still = pressed !== null && !running && now - (last ?? pressed) > quiet;
    if (still && (ran || now - pressed > 3000) || now - began > 60000) {
      observer.disconnect();
      runs.disconnect();
      done(ran && last !== null ? last - pressed : null);
    } else requestAnimationFrame(look);
  };
  look();
  window.__watching = true;
})
"""


def timed(page: Page, prepare: Callable[[], object], press: Callable[[], object]) -> float | None:
    """Milliseconds from the press to its last effect; None where it has none."""
    prepare()
    page.evaluate(f"() => {{ window.__watching = false; window.__moved = ({WATCH})({QUIET}); }}")
    page.wait_for_function("window.__watching")
    press()
    found = page.evaluate("window.__moved")
    return None if found is None else float(found)


def slider(page: Page, one: Locator, turn: int) -> float | None:
    return timed(page, one.focus, lambda: page.keyboard.press("ArrowLeft" if turn % 2 else "ArrowRight"))


def group(page: Page, one: Locator, turn: int) -> float | None:
    buttons = one.locator("button")
    chosen = [i for i in range(buttons.count()) if "Active" in (buttons.nth(i).get_attribute("data-testid") or "")]
    here = chosen[0] if chosen else 0
    other = (here + 1) % buttons.count() if turn % 2 == 0 else (here - 1) % buttons.count()
    return timed(page, lambda: None, buttons.nth(other).click)


def switch(page: Page, one: Locator, turn: int) -> float | None:
    return timed(page, lambda: None, one.locator("label").first.click)


def select(page: Page, one: Locator, turn: int) -> float | None:
    def prepare() -> None:
        one.locator("input").first.click()
        page.wait_for_selector("[role=option]", timeout=5000)
        for _ in range(2):
            page.keyboard.press("ArrowUp" if turn % 2 else "ArrowDown")

    return timed(page, prepare, lambda: page.keyboard.press("Enter"))


def number(page: Page, one: Locator, turn: int) -> float | None:
    return timed(page, one.locator("input").focus, lambda: page.keyboard.press("ArrowDown" if turn % 2 else "ArrowUp"))


def tab(page: Page, one: Locator, turn: int) -> float | None:
    tabs = one.locator("[role=tab]")
    return timed(page, lambda: None, tabs.nth((turn + 1) % tabs.count()).click)


KINDS: dict[str, tuple[str, Callable[[Page, Locator, int], float | None]]] = {
    "slider": ("[role=slider], input[type=range]", slider),
    "buttons": ("[data-testid=stButtonGroup]", group),
    "switch": ("[data-testid=stCheckbox]", switch),
    "select": ("[data-testid=stSelectbox]", select),
    "number": ("[data-testid=stNumberInput]", number),
    "tabs": ("[role=tablist]", tab),
}
"""Kind -> (what it is in the page, one move)."""


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 1200})
    driven.let_in(page.context, url)
    page.goto(url)
    page.wait_for_selector('[data-testid="stMainBlockContainer"] h1', timeout=120_000)
    settled(page)
    return page


def settled(page: Page) -> None:
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'", timeout=120_000
    )
    page.wait_for_load_state("networkidle")


def controls_of(page: Page) -> list[tuple[str, str, int]]:
    """(kind, label, place among those of its kind) of every control that can be seen and used."""
    found = []
    for kind, (where, _) in KINDS.items():
        all_of = page.locator(f"[data-testid=stMainBlockContainer] :is({where})")
        for i in range(all_of.count()):
            one = all_of.nth(i)
            if (one.is_visible() or kind == "slider") and one.is_enabled():
                label = one.evaluate(
                    """e => (e.closest('[data-testid=stElementContainer]')
                        ?.querySelector('[data-testid=stWidgetLabel], label')?.innerText || e.getAttribute('aria-label')
                        || e.innerText || '').split('\\n')[0].trim()"""
                )
                found.append((kind, label or f"{kind} {i + 1}", i))
    return found


def measure(page: Page, bare: Page, kind: str, place: int, moves: int) -> tuple[list[float], list[float]]:
    """Milliseconds of a control, and of the bare page's slider after each of its moves."""
    where, move = KINDS[kind]
    ours, bares = list[float](), list[float]()
    for turn in range(-2, moves):  # the first two load what they need
        one = page.locator(f"[data-testid=stMainBlockContainer] :is({where})").nth(place)
        took = move(page, one, turn % 2)
        beside = slider(bare, bare.get_by_role("slider"), turn % 2)
        if turn < 0 and took is None:
            break
        if turn >= 0 and took is not None and beside is not None:
            ours.append(took)
            bares.append(beside)
    return ours, bares


def quantiles(found: list[float]) -> dict[str, float]:
    return {f"p{p}_ms": round(float(np.percentile(found, p)), 1) for p in (50, 95)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", default=";".join(PAGES), help="which, by their names in PAGES, split by ;")
    parser.add_argument("--moves", type=int, default=20, help="of each control")
    parser.add_argument("--out", type=Path, default=driven.ROOT / "benchmarks" / "controls.json")
    asked = parser.parse_args()
    script = Path(tempfile.mkdtemp()) / "bare.py"
    script.write_text(BARE, encoding="utf-8")
    before, found, bare_all = os.getloadavg(), list[dict[str, Any]](), list[float]()
    with driven.running() as url, driven.running(script) as bare_url, driven.browsing() as browser:
        bare = opened(browser, bare_url)
        for name in asked.pages.split(";"):
            page = opened(browser, f"{url}/{PAGES[name]}")
            for kind, label, place in controls_of(page):
                told: dict[str, Any] = {"page": name, "control": label, "kind": kind}
                try:
                    ours, bares = measure(page, bare, kind, place, asked.moves)
                except PlaywrightError as error:
                    ours, bares = [], []
                    told["left_out"] = str(error).splitlines()[0][:160]
                if ours:
                    bare_all += bares
                    told |= {"moves": len(ours), **quantiles(ours)} | {"bare": quantiles(bares)}
                    told["p95_times_bare"] = round(told["p95_ms"] / told["bare"]["p95_ms"], 2)
                    told["p50_times_bare"] = round(told["p50_ms"] / told["bare"]["p50_ms"], 2)
                else:
                    told.setdefault("left_out", "changes nothing that is shown")
                found.append(told)
                print(json.dumps(told), flush=True)
                page.goto(f"{url}/{PAGES[name]}")
                page.wait_for_selector('[data-testid="stMainBlockContainer"] h1', timeout=120_000)
                settled(page)
            page.close()
    counted = [one for one in found if "moves" in one]
    result = {
        "schema": 1,
        "what": "milliseconds from a press to its last effect on the page, beside a slider of a bare page",
        "moves": asked.moves,
        "controls": len(counted),
        "bare": quantiles(bare_all),
        "within_twice_the_bare_page": sum(one["p95_times_bare"] <= 2 for one in counted),
        "worst_p95_times_bare": max(one["p95_times_bare"] for one in counted),
        "median_p95_times_bare": round(float(np.median([one["p95_times_bare"] for one in counted])), 2),
        "load": {"before": round(before[0], 1), "after": round(os.getloadavg()[0], 1)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "of": found,
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
