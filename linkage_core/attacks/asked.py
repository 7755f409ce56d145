"""What a figure of linkage is about: the game, and what is known of the candidates besides their reports."""

from __future__ import annotations

GAMES = {
    "image": "a single image among N reports",
    "archive": "N images and their N reports, unpaired, matched one to one",
}
KNOWS = {
    "nothing": "the reports alone",
    "sex": "the sex of each candidate's patient too",
    "sex-age": "sex and age of each candidate's patient too",
}
COLUMNS: dict[str, tuple[str, ...]] = {"nothing": (), "sex": ("sex",), "sex-age": ("sex", "age")}
"""Of the records, which the attacker knows of every candidate."""
