"""Can you do it yourself? A radiograph, a few reports, and a model that plays along."""

import streamlit as st

from explorer.frame import page
from explorer.share import play_page

page.guard()
st.title("Can you do it yourself?")
with page.guarded():
    if not play_page.hidden():
        game = play_page.begin()
        if game.match.at < len(game.played.questions):
            play_page.question(game)
        else:
            play_page.result(game)
page.cannot_tell("a round of 10 is luck as much as skill; how a radiologist would do; who is behind a report.")
