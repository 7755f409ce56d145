"""How is each number made? Words, formulas, attackers, pitfalls, and a tour."""

import streamlit as st

from explorer.frame import controls, page, state
from explorer.share import methods_page

page.guard()
st.title("How is each number made?")
asked = methods_page.begin()
with controls.tabs("part", methods_page.TABS, "methods tabs"):
    part = state.get("part")
    if part == "words":
        methods_page.words(asked)
    else:
        methods_page.PARTS[part]()
page.cannot_tell("whether a figure is acceptable: that is for the person who decides about a release.")
