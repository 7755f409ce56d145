"""Linkage Explorer in the browser: `streamlit run app.py`, or `make app`. The server starts with it, and every session
draws its page with it."""

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

if get_script_run_ctx(suppress_warning=True) is None:
    from explorer import serve

    app = st.App(__file__, **serve.behind_the_door())
else:
    from explorer.frame import frame

    frame.run()
