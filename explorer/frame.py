"""The frame around every page: configuration, navigation, logo, style rules, and the cohort at the foot of the sidebar."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from explorer import palette, state
from linkage_core.errors import LinkageError

ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(__file__).resolve().parent / "assets"


def pages() -> dict[str, list]:
    """The pages there are, by group. Names are at most 20 characters, or the sidebar cuts them off."""
    return {
        "See": [
            st.Page(ROOT / "pages/start.py", title="Start", icon=":material/home:", default=True),
            st.Page(ROOT / "pages/examples.py", title="Examples", icon=":material/radiology:", url_path="examples"),
        ],
        "Measure": [
            st.Page(ROOT / "pages/risk.py", title="Risk by pool size", icon=":material/show_chart:", url_path="risk"),
        ],
    }


def run() -> None:
    """Draws the frame and then the page the URL names."""
    st.set_page_config(
        page_title="Linkage Explorer",
        page_icon=str(ASSETS / "icon.png"),
        layout="wide",
        initial_sidebar_state=264,
    )
    st.html(ASSETS / "style.css")
    page = st.navigation(pages(), expanded=True)
    st.logo(str(ASSETS / f"logo-{'dark' if palette.current().dark else 'light'}.png"), size="large")
    state.begin(page.url_path)
    with st.sidebar:
        _cohort_box()
    page.run()


def _cohort_box() -> None:
    """Which cohort is on screen, whether anybody in it is real, and (if so) the switch for report text."""
    cohorts = state.store().cohorts()
    if not cohorts:
        return
    with st.container(border=True):
        try:
            entry = state.entry(state.cohort(), state.model())
        except LinkageError:
            entry = None
        synthetic = entry is not None and entry.synthetic
        st.session_state["synthetic"] = synthetic
        if synthetic:
            st.badge("Synthetic cohort", icon=":material/science:", color="gray")
        else:
            st.badge(state.cohort_label(state.cohort()), icon=":material/folder_open:", color="gray")
        state.cohort_control("cohort box")
        if entry is not None:
            st.caption(counts_line(entry.records(entry.default_split), synthetic))
        switched_on = False
        if not synthetic:
            switched_on = st.toggle(
                "Show report text", key="text switch", persist_state="session", help="Off: no report text is sent to this page."
            )
        st.session_state["text may be shown"] = synthetic or switched_on


def counts_line(records, synthetic: bool) -> str:
    """Studies and patients, and a word on who they are."""
    n_studies, n_patients = records["study_id"].nunique(), records["patient_id"].nunique()
    if synthetic:
        return f"{n_studies:,} studies · {n_patients:,} simulated patients. Nobody here is real."
    return f"{n_studies:,} studies · {n_patients:,} patients."
