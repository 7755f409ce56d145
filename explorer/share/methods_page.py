"""Methods and words: the glossary, the formulas, the attackers, the pitfalls and the tour."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

import streamlit as st

from explorer.drawing import glossary
from explorer.drawing.glossary import WORDS, Word
from explorer.drawing.words import attacker_label, in_plain_words
from explorer.frame import frame, page, state
from explorer.share import methods
from linkage_core import shipped
from linkage_core.attacks.attackers import ATTACKERS
from linkage_core.attacks.held import RECORDS, RELEASES

STYLE = (Path(__file__).parent / "components" / "methods.css").read_text(encoding="utf-8")
TABS = {
    "words": "Words",
    "formulas": "Formulas",
    "attackers": "Attackers",
    "pitfalls": "Pitfalls",
    "tour": "Tour",
    "leave": "What may leave",
}
LEAVES = {**RELEASES, RECORDS: "released records, and how they were made"}


def begin() -> Word | None:
    """The entry that a link asks for, if any; such a link opens the words, whatever tab was open before."""
    st.html(f"<style>{STYLE}</style>")
    name = st.query_params.get("word", "")
    if name != st.session_state.get("word asked"):
        st.session_state["word asked"] = name
        if name:
            state.put("part", "words")
    return WORDS.get(name)


def words(asked: Word | None) -> None:
    """The entry asked for in large type, then all of them."""
    if st.query_params.get("word") and asked is None:
        st.html('<div class="me-one" role="alert">There is no such word. All that there are stand below.</div>')
    if asked is not None:
        st.html(
            f'<div class="me-one"><h2>{escape(asked.term)}</h2><p>{escape(asked.says)}</p><p>{_where(asked)}</p></div>'
        )
    wanted = st.text_input("Find a word", key="find a word", placeholder="epsilon, decoy, lift", width=320).strip()
    found = [one for one in WORDS.values() if _is_in(wanted, one)]
    rows = "".join(
        f'<div id="{escape(one.name)}"><dt><a href="{escape(glossary.address(one.name))}">{escape(one.term)}</a></dt>'
        f"<dd>{escape(one.says)}</dd><dd>{_where(one)}</dd></div>"
        for one in found
    )
    st.html(f'<dl class="me-words">{rows}</dl>' if found else "<p>No entry has these letters.</p>")


def _is_in(letters: str, one: Word) -> bool:
    return letters.casefold() in " ".join((one.term, one.says, *one.marks)).casefold()


def _where(one: Word) -> str:
    titles = {file: title for rows in frame.PAGES.values() for file, title, _ in rows}
    links = [f'<a href="{"./" if file == "start" else file}">{escape(titles[file])}</a>' for file in one.where]
    return f"<small>Stands on {', '.join(links)}.</small>"


def _link(name: str) -> str:
    return f'<a class="le-word" href="{escape(glossary.address(name))}">{escape(WORDS[name].term.lower())}</a>'


def formulas() -> None:
    """Each formula, with one value to move and what follows from it."""
    for at in range(0, len(methods.FORMULAS), 2):
        for column, one in zip(st.columns(2, gap="medium"), methods.FORMULAS[at : at + 2], strict=False):
            with column, st.container(border=True, height="stretch"):
                st.header(one.title, anchor=one.name)
                st.latex(one.tex)
                value = st.select_slider(
                    one.control, one.values, value=one.first, format_func=lambda v: f"{v:,g}", key=f"formula {one.name}"
                )
                st.html(f'<p class="me-live" role="status">{escape(one.says(value))}</p>')
                st.html(f'<p class="me-why">{escape(one.source)} Words: {", ".join(map(_link, one.words))}.</p>')


def attackers() -> None:
    """The table of attackers, those of other packages too."""
    rows = "".join(
        f"<tr><td><b>{escape(attacker_label(row.name, 'own'))}</b><br><small>{escape(row.name)}</small></td>"
        f"<td>{escape(methods.holds(row.holds, LEAVES))}</td><td>{escape(in_plain_words(row.name))}"
        f"{f' <small>From the package {escape(row.package)}.</small>' if row.package else ''}</td></tr>"
        for row in ATTACKERS.values()
    )
    head = "<tr><th>Attacker</th><th>Holds, any one of</th><th>Does</th></tr>"
    st.html(f'<div class="le-table me-table"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>')
    st.html(
        f'<p class="me-why">The headline of a page is the {_link("worst")} who holds no more than was released. '
        f"What somebody could do who {_link('knows-all')} limits them all.</p>"
    )


def pitfalls() -> None:
    """What goes wrong in such work, and what the tool does about it."""
    rows = "".join(
        f"<tr><td><b>{escape(one.title)}</b></td><td>{escape(one.wrong)}</td><td>{escape(one.here)}</td></tr>"
        for one in methods.PITFALLS
    )
    head = "<tr><th>Pitfall</th><th>What goes wrong</th><th>What is done here</th></tr>"
    st.html(f'<div class="le-table me-table"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>')


def tour() -> None:
    """Six stops, each a link with its settings."""
    for at in range(0, len(methods.TOUR), 3):
        for column, (k, stop) in zip(
            st.columns(3, gap="medium"), list(enumerate(methods.TOUR, 1))[at : at + 3], strict=False
        ):
            with column, st.container(border=True, height="stretch", gap="small"):
                st.page_link(
                    f"pages/{stop.page}.py",
                    label=f"**{k}. {stop.title}**",
                    icon=":material/arrow_forward:",
                    query_params=dict(stop.query),
                )
                st.html(f'<div class="le-why">{escape(stop.look)}</div>')


def leave() -> None:
    """docs/release.md: which release for which use, and what its limit assumes."""
    path = shipped.root() / "docs" / "release.md"
    if not path.is_file():
        page.problem_card("This text is not here", f"{path} is missing.", "Read docs/release.md in the sources.")
        return
    st.markdown(methods.readable(path.read_text(encoding="utf-8")))


PARTS: dict[str, Callable[[], None]] = {
    "formulas": formulas,
    "attackers": attackers,
    "pitfalls": pitfalls,
    "tour": tour,
    "leave": leave,
}
