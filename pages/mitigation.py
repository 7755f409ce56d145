"""What does a mitigation buy, and what does it cost? Guarantee, measured linkage and usefulness of one mitigation."""

import streamlit as st

from explorer.frame import kept, page, state
from explorer.protect import fill, head_page, release_page
from explorer.protect.one_head import at_setting, beside
from linkage_core.lab import measured

page.guard()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("What does a mitigation buy, and what does it cost?", width="stretch")
    title_place = st.container(horizontal=True, width="content", gap="small")

with page.guarded():
    cohort, model = state.cohort(), state.model()
    entry, tables = kept.entry(cohort, model), kept.lab_tables(cohort, model)
    sizes, _ = measured.pool_sizes(kept.tested(cohort, model))
    page.left_out(tables.damaged)
    pool_size = head_page.controls(sizes)
    page.replaced_pool()
    problem = fill.strip(entry, tables.linkage, "mitigation")
    if state.releases():
        release_page.draw(tables, pool_size, title_place)
        page.cannot_tell(
            "what an attacker could do who holds something else of the same images; what a release is worth to you. "
            "Labels, age or dates beside it end its limit."
        )
        st.stop()
    computed = head_page.on_demand(cohort, model)
    asked, held = (str(state.get("release")), pool_size, computed), state.held_setting()
    at = at_setting(entry, tables, state.setting(), *asked)
    if held is not None:
        at = beside(at, at_setting(entry, tables, held, *asked))
    head_page.draw(at, title_place, problem)
page.cannot_tell(
    "what an attacker outside this list could do; what happens to findings nobody listed. "
    "A release of raw images is protected by no head."
)
