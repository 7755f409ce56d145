"""The frame around every page: configuration, menu, logo, style, and the cohort at the foot of the sidebar."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

from explorer.drawing import palette
from explorer.drawing.glossary import linked
from explorer.drawing.verbatim import verbatim
from explorer.frame import access, address, controls, kept, login, ready, state, visitor
from explorer.frame import page as page_parts
from linkage_core import shipped
from linkage_core.errors import LinkageError

ASSETS = Path(__file__).resolve().parents[1] / "assets"


PAGES = {
    "See": [("start", "Start", "home"), ("examples", "Examples", "radiology")],
    "Measure": [
        ("risk", "Risk by pool size", "show_chart"),
        ("missing-match", "Missing match", "search_off"),
        ("exposure", "Who is exposed", "groups"),
    ],
    "Protect": [("mitigation", "Mitigation", "shield"), ("frontier", "Compare mitigations", "balance")],
    "Share": [
        ("play", "Be the attacker", "casino"),
        ("report", "Report to file", "description"),
        ("methods", "Methods and words", "menu_book"),
    ],
    "Data": [("data", "Your data", "folder_open")],
}
"""The menu: group -> (file in pages/ and URL, name, Material icon). Names of over 20 characters would be cut off."""


def run() -> None:
    """Draws the frame and then the page the URL names."""
    with ready.drawing():
        _run()


def _run() -> None:
    st.set_page_config(
        page_title="Linkage Explorer",
        page_icon=str(ASSETS / "icon.png"),
        layout="wide",
        initial_sidebar_state=264,
    )
    st.html(ASSETS / "style.css")
    st.html(f"<style>:root {{ --le-on-accent: {palette.current().page}; }}</style>")
    menu = {
        group: [
            st.Page(
                shipped.root() / "pages" / f"{file}.py",
                title=title,
                icon=f":material/{icon}:",
                url_path=file,
                default=file == "start",
            )
            for file, title, icon in rows
        ]
        for group, rows in PAGES.items()
    }
    outside = login.required() and not visitor.logged_in()
    page = st.navigation(menu, position="hidden" if outside else "sidebar", expanded=True)
    if outside:
        _at_the_login()
        return
    st.set_page_config(page_title=f"{page.title} · Linkage Explorer")
    st.logo(str(ASSETS / f"logo-{'dark' if palette.current().dark else 'light'}.png"), size="large")
    state.begin(page.url_path)
    with st.sidebar:
        _cohort_box()
        address.copy_link()
        if login.required():
            st.html(f'<p class="le-counts">Logged in as {escape(visitor.name())}</p>')
            st.button("Log out", icon=":material/logout:", key="log out", on_click=st.logout)
        if kept.closed():
            st.html(f'<p class="le-counts" role="status">{escape(kept.CLOSED)}</p>')
    try:
        if state.cohorts():
            access.shown("cohort", state.cohort())
    except LinkageError as error:
        page_parts.problem_card("Nothing can be shown", error.what, error.remedy)
        return
    if said := state.replaced():
        st.html(f'<p class="mi-small" role="status">{escape(said)}</p>')
    page.run()


def _at_the_login() -> None:
    """What whoever has not logged in sees, or who may not enter."""
    st.title("Linkage Explorer")
    turned_away = visitor.turned_away()
    problem = turned_away
    if not problem and st.query_params.get("login") == login.REFUSED.partition("=")[2]:
        problem = "The login did not succeed. Try again, or ask whoever runs this server: its log says why."
    if problem:
        st.html(f'<p class="le-middle" role="alert">{escape(problem)}</p>')
    if turned_away:
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
    st.button("Log in", icon=":material/login:", on_click=st.login)


def _cohort_box() -> None:
    """Which cohort is on screen, whether anybody in it is real, and (if so) the switch for report text."""
    cohorts = state.cohorts()
    if not cohorts:
        return
    with st.container(border=True):
        try:
            entry = kept.entry(state.cohort(), state.model())
            synthetic, counts = (
                entry.synthetic,
                counts_line(*kept.how_many(state.cohort(), state.model()), entry.synthetic),
            )
            caution = entry.caution
        except LinkageError:  # the page says what is wrong; what cannot be read counts as real
            synthetic, counts, caution = False, "", ""
        st.session_state["synthetic"] = synthetic
        if synthetic:
            st.badge("Synthetic cohort", icon=":material/science:", color="gray")
        else:
            # not st.badge: it escapes brackets once more, so that they are read
            st.markdown(f":gray-badge[:material/folder_open: {verbatim(state.cohort_label(state.cohort()))}]")
        controls.cohort_control("cohort box")
        if counts:
            st.html(f'<p class="le-counts">{escape(counts)}</p>')
        if caution:
            st.html(f'<p class="le-counts"><b>Not a risk:</b> {page_parts.marked(caution)}</p>')
        switched_on = False
        if not synthetic:
            switched_on = st.toggle(
                "Show report text",
                key=f"text switch {state.cohort()}",  # asked for one cohort, not for all
                persist_state="session",
                help=linked("Off: no report text is sent to this page."),
            )
        st.session_state["text may be shown"] = synthetic or switched_on


def counts_line(n_studies: int, n_patients: int, synthetic: bool) -> str:
    """Studies and patients, and a word on who they are."""
    if synthetic:
        return f"{n_studies:,} studies · {n_patients:,} simulated patients. Nobody here is real."
    return f"{n_studies:,} studies · {n_patients:,} patients."
