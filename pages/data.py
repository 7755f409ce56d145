"""How do I bring my own images and reports? Every step from a folder to a filled Mitigation, without a terminal."""

import streamlit as st

from explorer.data import data_page
from explorer.frame import page

page.guard(empty=True)
st.title("How do I bring my own images and reports?")
st.caption(
    "Nothing leaves this machine but questions to an archive, where whoever started it has named one. Folders are read "
    "where they lie; embeddings, heads and tables go into the store, and "
    "whoever uses this server sees what is in the store."
)
with page.guarded():
    data_page.draw()
page.cannot_tell("whether you may use these data: ask whoever gave them to you.")
