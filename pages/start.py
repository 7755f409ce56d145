import streamlit as st

from explorer import page, state

page.guard()
st.title("Can a de-identified chest X-ray be linked back to its report?")
with page.guarded():
    name = state.model_control("start model")
    st.write(state.table(state.cohort(), name, [100], [1]))
