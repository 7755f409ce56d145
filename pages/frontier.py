"""Which protection suits which use? Every mitigation by what it lets through, measured and certified, and its use."""

import streamlit as st

from explorer.frame import kept, page, state
from explorer.protect import frontier_page

page.guard()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("Which protection suits which use?", width="stretch")
    title_place = st.container(horizontal=True, width="content", gap="small")

with page.guarded():
    cohort, model = state.cohort(), state.model()
    with title_place:
        frontier_page.assumptions()
    known = kept.options(cohort, model)
    sizes = frontier_page.pool_sizes(known, cohort)
    if sizes:
        asked = frontier_page.controls(cohort, model, sizes)
        compared = frontier_page.compare(asked, known)
        frontier_page.headline(compared)
        frontier_page.draw(compared, title_place)
    else:
        frontier_page.nothing_yet(cohort, model)
page.cannot_tell(
    "what loss of usefulness is acceptable; what an attacker nobody tried could do where nothing is certified; "
    "how it would be at another hospital."
)
