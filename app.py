"""Linkage Explorer in the browser: `streamlit run app.py`, or `make app`."""

from explorer.frame import frame

frame.run()
