"""A foreign name in the browser: its letters are on the page, nothing is asked of anybody, nothing of it runs."""

from __future__ import annotations

import json
import re

import pytest

from explorer.frame.frame import PAGES
from helpers.hostile_names import ELSEWHERE, NAMES, build
from linkage_core.visible import visible

from .conftest import ROOT, settled

EVERYWHERE = """
import streamlit as st
from explorer.drawing.verbatim import verbatim
from helpers.hostile_names import NAMES
st.title("x")
shown = [verbatim(name) for name in NAMES]
with st.container(key="captions"):
    for one in shown:
        st.caption(one)
with st.container(key="sentences"):
    for one in shown[:100]:
        st.markdown(f"Labels: {one}.")
with st.container(key="pills"):
    st.pills("Pills", range(len(NAMES)), format_func=shown.__getitem__)
st.markdown(f":gray-badge[:material/folder_open: {shown[0]}]")
st.progress(0.5, text=" ".join(shown))
st.expander(" ".join(shown))
st.text_input(" ".join(shown))
"""
MADE = (
    "img, iframe, script, svg[onload], form, base, object, [onerror], [onload], [ontoggle], .katex, "
    f'a[href*="{ELSEWHERE}"], a[href^="javascript"]'
)


def letters(text: str) -> str:
    return re.sub(r"[\s\u2060\u200b]+", "", text)


def made_of_names(page) -> list[str]:
    """What is on the page that only a name can have made."""
    found = page.locator(f"[data-testid=stMain] :is({MADE})").evaluate_all("all => all.map(one => one.outerHTML)")
    return [one[:200] for one in found if not re.search(r'src="(data:|blob:|[^"]*/media/)', one)]


def page_is_of(page, cohort: str) -> bool:
    """Whether it shows that cohort, and not what a stranger is shown."""
    return cohort in page.get_by_test_id("stSidebar").inner_text()


def test_its_letters_are_shown_and_nothing_else(serve, page_at, tmp_path):
    """300 names as captions, in sentences and on buttons: what is read is what the name is."""
    script = tmp_path / "app.py"
    script.write_text(f"import sys; sys.path[:0] = {[str(p) for p in (ROOT, ROOT / 'tests')]!r}\n{EVERYWHERE}")
    watched = page_at("/", at=serve(tmp_path, script))
    page = watched.page
    shown = page.locator(".st-key-captions [data-testid=stCaptionContainer]").all_inner_texts()
    wrong = [(name, one) for name, one in zip(NAMES, shown, strict=True) if letters(one) != letters(visible(name))]
    assert wrong == []
    sentences = page.locator(".st-key-sentences [data-testid=stMarkdown]").all_inner_texts()
    assert [letters(one) for one in sentences] == [letters(f"Labels: {visible(name)}.") for name in NAMES[:100]]
    pills = page.locator(".st-key-pills button").all_inner_texts()
    assert [letters(one) for one in pills] == [letters(visible(name)) for name in NAMES]
    assert made_of_names(page) == []
    assert watched.outside() == []


@pytest.mark.soak
def test_no_page_asks_anybody_or_runs_anything(serve, page_at, tmp_path):
    """All names at once, as those of four models, in ids, views and reports. tests/app/test_names.py walks in CI."""
    server = serve(build(tmp_path))
    watched = page_at("/?cohort=ward&N=10", at=server)
    dialogs = []
    watched.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    files = [file for rows in PAGES.values() for file, _, _ in rows]
    for file in files:
        watched.page.goto(f"{server.url}/{'' if file == 'start' else file}?cohort=ward&N=10")
        settled(watched.page)
        assert watched.page.get_by_test_id("stException").count() == 0, file
        assert made_of_names(watched.page) == [], file
        assert watched.outside() == [], file
        assert page_is_of(watched.page, "ward"), file
    assert dialogs == []
    figures = {"names": len(NAMES), "pages": files, "requests": len(watched.requests), "outside": 0, "dialogs": 0}
    (ROOT / "benchmarks" / "names.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
