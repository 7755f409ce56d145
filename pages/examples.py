"""Examples: one image, and the reports that a model ranks highest for it."""

import streamlit as st

from explorer.examples import examples_page
from explorer.frame import page

page.guard()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("Which report does the model think belongs to this image?", width="stretch")
    examples_page.way_back()

with page.guarded():
    asked = examples_page.controls()
    found = examples_page.find(asked.examples)
    record = found.record
    examples_page.draw_strip(asked.entry, found)
    image_side, list_side = st.columns([0.43, 0.57], gap="medium")
    with image_side:
        examples_page.draw_image(asked, found)
    with list_side:
        lists = examples_page.draw_lists(asked, record)
    with st.expander("Details: labels, ties, exposure, reports of this patient, provenance"):
        if record is not None:
            examples_page.details(asked, record, lists[asked.model])
page.cannot_tell("one image is an anecdote; similarity has no unit and is not comparable between models or heads.")
