"""What can be put on file? The report itself, its files, and the command that repeats it."""

import streamlit as st

from explorer.frame import page
from explorer.report import report_page

page.guard()
st.title("What can I put on file?")
with page.guarded(), st.container(key="report page"):
    left, right = st.columns([0.32, 0.68], gap="medium")
    with left:
        choice = report_page.controls()
        report_page.action(choice)
        made = report_page.shown()
        report_page.files(made, choice)
    with right:
        report_page.document(made)
page.cannot_tell("whether data may leave: the report is evidence for the person who decides, not a verdict.")
