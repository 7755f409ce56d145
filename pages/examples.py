"""Examples: one image, and the reports that a model ranks highest for it."""

import streamlit as st

from explorer.examples import examples_page, lists, own_picture
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
    with st.container(key="lx-row"):
        image_side, list_side = st.columns(examples_page.widths(asked), gap="medium")
        with image_side:
            examples_page.draw_image(asked, found)
    below = st.empty()
    drawn = lists.Drawn()
    with list_side:
        lists.draw(asked, record, below, drawn)
    details_side, save_side = st.columns([0.88, 0.12], gap="small")
    with details_side, st.expander("Details: labels, ties, exposure, reports of this patient, provenance"):
        if record is not None:
            examples_page.details(asked, record)
    if record is not None:
        with save_side:
            lists.save(asked, str(record["record_id"]), drawn)
    own_picture.draw(asked)
page.cannot_tell("one image is an anecdote; similarity has no unit and is not comparable between models or heads.")
