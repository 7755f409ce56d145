import streamlit as st

from explorer import page, state

page.guard()
st.title("How does the risk change with the number of reports?")
with page.guarded():
    name = state.model_control("risk model")
    state.pool_slider([10,20,50,100], "risk slider")
