"""How does the risk change with the number of reports, with the model, and with decoys that have the same findings?"""

import streamlit as st

from explorer.frame import controls, page, state
from explorer.risk import compare_tab, decoys_tab, risk_page

TABS = {"curve": risk_page.curve_tab, "compare": compare_tab.draw, "decoys": decoys_tab.draw}

page.guard()
st.title("How does the risk change with the number of reports?")
tab = state.get("tab")
asked = risk_page.controls(tab)
with controls.tabs("tab", risk_page.TABS, "risk tabs"):
    TABS[tab](asked)
page.cannot_tell("whether the pool holds the right report at all; here it always does.")
