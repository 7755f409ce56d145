"""What may leave, and for what? The purpose first, then one recommendation, one row a family, or every setting."""

import streamlit as st

from explorer.frame import kept, page, state
from explorer.protect import frontier_page

page.guard()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("What may leave, and for what?", width="stretch")
    title_place = st.container(horizontal=True, width="content", gap="small", vertical_alignment="center")

with page.guarded():
    cohort, model = state.cohort(), state.model()
    with title_place:
        frontier_page.all_settings()
        frontier_page.assumptions()
    known = kept.options(cohort, model)
    page.left_out(kept.lab_tables(cohort, model).damaged)
    sizes = frontier_page.pool_sizes(known, cohort)
    if not sizes:
        frontier_page.nothing_yet(cohort, model)
    elif state.get("show") == "all":
        asked = frontier_page.controls(cohort, model, sizes)
        compared = frontier_page.compare(asked, known)
        frontier_page.headline(compared)
        frontier_page.draw(compared, title_place)
    else:
        asked, purpose = frontier_page.purpose_controls(known, cohort, model, sizes)
        frontier_page.draw_families(asked, purpose, known, title_place)
page.cannot_tell(
    "what loss of usefulness is acceptable; what an attacker nobody tried could do where nothing is certified; "
    "how it would be at another hospital."
)
