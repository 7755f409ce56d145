"""Be the attacker: a round of images, a few reports each, and a model that plays along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd
import streamlit as st

from explorer.drawing import palette
from explorer.drawing.words import mechanisms
from explorer.examples import gallery, ranked, viewer
from explorer.frame import kept, page, state
from explorer.frame.controls import choice, epsilon_words, model_control
from explorer.share import play
from explorer.share.cards import Option, cards
from linkage_core.audit.examples import Examples
from linkage_core.audit.game import ROUND, Round, draw
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Entry

STYLE = (Path(__file__).parent / "components" / "play.css").read_text(encoding="utf-8")
DECOYS = {"any": "any patient", "same": "same findings"}
PLAYED = {"as-is": "as it is", "mitigated": "mitigated"}
NAMES = {"Model": "the model", "Mitigated": "the mitigated model"}
"""Who plays along, as they are called in a score and in a sentence."""
WITHOUT_LABELS = "Decoys with the same findings need labels, and this cohort has none: any patient's reports are taken."


@dataclass(frozen=True)
class Game:
    """What is played: a round of one cohort, who plays along (the model, then its mitigated self), and what to say."""

    entry: Entry
    records: pd.DataFrame
    played: Round
    players: tuple[play.Player, ...]
    match: play.Match
    notes: tuple[str, ...]


def hidden() -> bool:
    """Says that nothing can be played where report text is not to be shown."""
    if state.show_text():
        return False
    page.problem_card(
        "Report text is hidden",
        f"The game shows reports of {state.cohort_label(state.cohort())}, and its text is not to be shown: none of it, "
        "and no image, is sent to this page.",
        "Switch on “Show report text” in the sidebar, or choose a synthetic cohort there.",
    )
    return True


# -- what is played ---------------------------------------------------------------------------------------------------


def begin() -> Game:
    """The controls until the first answer, then the score in their place; and the round that they ask for."""
    style = f"--pl-fill: {palette.current().after}; --pl-page: {palette.current().page}"
    st.html(f"<style>:root {{ {style} }}\n{STYLE}</style>")
    cohort = state.cohort()
    top = st.container(key="play top", height=74, border=False)
    match, model = _match(), state.model()
    if not match.given:
        with top:
            model = _controls()
    entry = kept.entry(cohort, model)
    notes, same = [], state.get("decoys") == "same"
    if same and not entry.labelled:
        same = False
        notes.append(WITHOUT_LABELS)
    examples, mitigated = kept.examples(cohort, model), None
    if state.get("played") == "mitigated":
        try:
            mitigated = kept.mitigated_examples(cohort, model, state.setting()).examples
            examples = kept.examples(cohort, model, held_out=True)
            notes.append(f"Mitigated: {_mitigation()}. Only patients who had no part in it.")
        except LinkageError as error:
            notes.append(page.without_places(f"No round under a mitigation: {error.what} {error.remedy}"))
    played = _round(cohort, model, int(state.get("reports")), int(state.get("round")), same, mitigated is not None)
    if why := play.smaller(played, ROUND, same):
        notes.insert(0, why)
    players = [_player("Model", examples, played)]
    if mitigated is not None:
        players.append(_player("Mitigated", mitigated, played))
    game = Game(entry, examples.records, played, tuple(players), match, tuple(notes))
    if match.given:
        with top:
            _progress(game)
    return game


def _controls() -> str:
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        model = model_control("play model")
        choice("reports", "Reports", {n: str(n) for n in state.REPORTS_CHOICES}, key="play reports")
        choice("decoys", "Decoys from", DECOYS, key="play decoys", help="Same findings: the same 14 labels.")
        choice(
            "played",
            "Release",
            PLAYED,
            key="play release",
            help="Mitigated: the model ranks under the mitigation that is chosen on Mitigation.",
        )
    return model


def _mitigation() -> str:
    chosen = state.setting()
    return f"{mechanisms()[chosen.mechanism]}, ε = {epsilon_words(chosen.epsilon)}"


def _match() -> play.Match:
    """How far this person is in the round that is chosen; another round begins anew."""
    names = ("reports", "round", "decoys", "played")
    asked = (state.cohort(), state.model(), *(str(state.get(name)) for name in names))
    if state.get("played") == "mitigated":
        asked = (*asked, *(str(state.get(name)) for name in ("mechanism", "epsilon", "findings", "unit", "seed")))
    if st.session_state.get("play round") != asked:
        st.session_state["play round"] = asked
        st.session_state["play match"] = play.Match([])
    match = st.session_state["play match"]
    assert isinstance(match, play.Match)
    return match


@kept.remembered(copied=True)
def _round(cohort: str, model: str, n_options: int, seed: int, same_findings: bool, held_out: bool) -> Round:
    examples = kept.examples(cohort, model, held_out=held_out)

    def text(study_id: str, report_key: str) -> str | None:
        return gallery.report_text(examples.entry, study_id, report_key, shown=False)

    return draw(examples.records, n_options, seed, same_findings=same_findings, text=text)


def _player(name: str, examples: Examples, played: Round) -> play.Player:
    scores = [examples.similarities(each.record_id, each.study_ids).tolist() for each in played.questions]
    return play.Player.of(name, scores)


# -- one question -----------------------------------------------------------------------------------------------------


def _progress(game: Game) -> None:
    questions, match = game.played.questions, game.match
    models = [(player.name, player.right(questions)) for player in game.players]
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        st.html(play.dots(match.right(questions), models, len(questions), match.at))
        st.button("Begin again", icon=":material/restart_alt:", on_click=_begin_again, key="play again")


def _begin_again() -> None:
    st.session_state.pop("play round", None)


def _another() -> None:
    state.put("round", int(state.get("round")) + 1)
    _begin_again()


def question(game: Game) -> None:
    """The image, its options, and after the choice the answer."""
    match, n = game.match, len(game.played.questions)
    asked = game.played.questions[match.at]
    record = game.records[game.records["record_id"] == asked.record_id].iloc[0]
    say, way = st.columns([0.8, 0.2], gap="small", vertical_alignment="center")
    if match.chosen is None:
        notes = f" {' '.join(game.notes)}" if game.notes and not match.given else ""
        words = f"Image {match.at + 1} of {n}: which report belongs to it?"
    else:
        notes, ranks = "", [(NAMES[player.name], player.ranks[match.at]) for player in game.players]
        words = play.verdict(asked, match.chosen, ranks)
    with say:
        st.html(f'<div class="pl-say"><span><b>{escape(words)}</b>{escape(notes)}</span></div>')
    with way:
        st.button(
            "Next image" if match.at < n - 1 else "Result",
            key="play next",
            shortcut="Right",
            type="primary",
            width="stretch",
            disabled=match.chosen is None,
            on_click=match.go_on,
        )
    share = 0.46 if len(asked.study_ids) <= 4 else 0.4 if len(asked.study_ids) <= 6 else 0.27
    with st.container(key="play-question"):
        left, right = st.columns([share, 1 - share], gap="medium")
    with left:
        token = f"round {state.get('round')}, image {match.at + 1}"
        viewer.viewer(gallery.unnamed(game.entry, record, token, viewer.wanted("play viewer")), key="play viewer")
    with right:
        cards(_options(game), match.at, match.chosen, key="play cards", on_choice=_choose(game))


def _choose(game: Game) -> Callable[[int, int], None]:
    def choose(question: int, place: int) -> None:
        game.match.choose(question, place, game.played.n_options)

    return choose


def _options(game: Game) -> list[Option]:
    """The options as they are sent: their texts alone until the choice is made."""
    match, asked = game.match, game.played.questions[game.match.at]
    texts = [
        ranked.unturned(" ".join((gallery.report_text(game.entry, study, key) or "").split()))
        for study, key in zip(asked.study_ids, asked.report_keys, strict=True)
    ]
    if match.chosen is None:
        return [Option(text) for text in texts]
    options = []
    for place, text in enumerate(texts):
        right = place == asked.answer
        tags = [*(["✓ the true report"] if right else []), *(["your choice"] if place == match.chosen else [])]
        said = ", ".join(f"{player.name.lower()} {player.ranks[match.at][place]}" for player in game.players)
        options.append(Option(text, tuple(tags), f"rank: {said}", right))
    return options


# -- the end ----------------------------------------------------------------------------------------------------------


def result(game: Game) -> None:
    """The score, what it is worth, every image of the round, and the way to another."""
    questions, match = game.played.questions, game.match
    you, n = sum(match.right(questions)), len(questions)
    models = [(player.name, sum(player.right(questions))) for player in game.players]
    st.html(
        f'<p class="pl-score" role="status">{escape(play.score_line(you, models, n, game.played.n_options))}</p>'
        f'<p class="pl-line">{escape(play.luck(you, game.played))}</p>'
    )
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Another round",
            icon=":material/casino:",
            type="primary",
            shortcut="Right",
            key="another",
            on_click=_another,
        )
        st.button("The same round again", icon=":material/restart_alt:", key="same round", on_click=_begin_again)
    st.html(f'<div class="pl-all">{"".join(_figure(game, k) for k in range(n))}</div>')


def _figure(game: Game, k: int) -> str:
    question = game.played.questions[k]
    record = game.records[game.records["record_id"] == question.record_id].iloc[0]
    picture = gallery.picture(game.entry, record, 240)
    image = f'<img src="{picture}" alt="Image {k + 1}">' if picture else '<b class="pl-none"></b>'
    said = [("You", game.match.right(game.played.questions)[k])]
    said += [(player.name, player.right(game.played.questions)[k]) for player in game.players]
    marks = " · ".join(f"{name} {'✓' if right else '×'}" for name, right in said)
    return f"<figure>{image}<figcaption>{k + 1}. {escape(marks)}</figcaption></figure>"
