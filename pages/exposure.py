"""Are some images much easier to link than others? Every image by how often its report comes first."""

import streamlit as st

from explorer.frame import controls, page, state
from explorer.risk import exposure_page, records_tab

TABS = {"records": records_tab.draw, "with": exposure_page.with_tab, "groups": exposure_page.groups_tab}

page.guard()
st.title("Are some images much easier to link than others?")
model, pool_size = exposure_page.controls()
with page.guarded():
    shown = exposure_page.read(state.cohort(), model, pool_size)
    exposure_page.headline(shown)
    exposure_page.picture(shown)
    with st.container(key="exposed below"), controls.tabs("list", exposure_page.TABS, "exposed tabs"):
        TABS[state.get("list")](shown)
    with st.expander("Details: margins, texts, and what the words mean", icon=":material/table:"):
        exposure_page.details(shown)
page.cannot_tell("why an image is exposed; what goes with it need not be the reason. Nor who is behind it.")
