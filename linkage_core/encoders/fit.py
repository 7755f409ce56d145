"""Do the files of a model fit each other? A tokenizer of another model embeds every report, and every one wrongly.

transformers makes an empty tokenizer where the files of one are missing, and a picture or a token that the model has no
place for ends in an error deep inside torch; here each is one sentence before anything is embedded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.errors import ModelError

TOKENIZER_FILES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("tokenizer.model",),
)
"""What a tokenizer can be read from: one of these, whole."""
LEAST_VOCABULARY = 0.9
"""A tokenizer with fewer tokens than this share of the embedding's rows is cut short or of another model. (An embedding
may be somewhat larger than its tokenizer, for sizes are rounded up; SigLIP's keeps places free: `least`.)"""
LARGEST_VALUE, LEAST_RANGE = 20.0, 0.05
"""What a preprocessor makes of black and white: no model was trained on larger values, and none on a smaller range."""
_BYTES = 514  # of CLIP's vocabulary: 256 bytes, each also at the end of a word, and two marks; the rest are merges
MOST_UNKNOWN, LEAST_TOKENS = 0.4, 10
"""Where more than this share of so many tokens or more is the one for unknown words, the vocabulary is not that of
these texts. (Between unknown words there may be marks of a space, which are known.)"""
BEGINNING = 20
"""Texts that differ within so many letters and digits must not share one vector: no limit on tokens cuts these off."""
TRIAL = ("Heart size is normal and the lungs are clear.", "Moderate left pleural effusion with basilar atelectasis.")
"""Texts that every model must tell apart."""

_COPY = "Copy or download the model again, with the tokenizer files that came with its weights"


def check_tokenizer_files(name: str, folder: Path) -> None:
    """ModelError where a folder holds no tokenizer, or half of one."""
    there = [[file for file in files if (folder / file).is_file()] for files in TOKENIZER_FILES]
    if any(len(found) == len(files) for found, files in zip(there, TOKENIZER_FILES, strict=True)):
        return
    half = next(
        ((found, files) for found, files in zip(there, TOKENIZER_FILES, strict=True) if found), ([], TOKENIZER_FILES[0])
    )
    lacking = " and ".join(file for file in half[1] if file not in half[0])
    beside = f" beside {half[0][0]}" if half[0] else ""
    raise ModelError(
        f"{name}: {folder} has no tokenizer: there is no {lacking}{beside}.",
        f"{_COPY} ({', or '.join(' with '.join(files) for files in TOKENIZER_FILES)}).",
    )


def check_merges(name: str, folder: Path, n_tokens: int) -> None:
    """ModelError where a merges.txt is shorter than its vocabulary: words would fall into letters without a word."""
    if (folder / "tokenizer.json").is_file() or not (folder / "merges.txt").is_file():
        return
    lines = (folder / "merges.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    merges = sum(bool(line.strip()) and not line.startswith("#version") for line in lines)
    if merges < LEAST_VOCABULARY * (n_tokens - _BYTES):
        raise ModelError(
            f"{name}: merges.txt in {folder} has {merges:,} merges for a vocabulary of {n_tokens:,} tokens.",
            f"It is cut short. {_COPY}.",
        )


def check_vocabulary(name: str, folder: Path, tokenizer: Any, rows: int, least: float = LEAST_VOCABULARY) -> None:
    """ModelError where the tokens of a tokenizer do not fit an embedding of so many rows, or are fewer than `least` of
    them."""
    vocabulary = {token: int(place) for token, place in tokenizer.get_vocab().items()}
    beyond = sorted((place, token) for token, place in vocabulary.items() if place >= rows)
    if beyond:
        raise ModelError(
            f"{name}: the tokenizer in {folder} has tokens that the model's embedding of {rows:,} rows has no row for, "
            f"{len(beyond):,} of {len(vocabulary):,}, the first {beyond[0][1]!r} (added_tokens.json, tokenizer.json).",
            f"{_COPY}; or, where tokens were added on purpose, resize the model's embedding, train it and save both.",
        )
    if len(vocabulary) < least * rows:
        raise ModelError(
            f"{name}: the tokenizer in {folder} has {len(vocabulary):,} tokens, the model's embedding {rows:,} rows.",
            f"It is cut short or of another model. {_COPY}.",
        )


def check_picture(
    name: str, folder: Path, made: tuple[int, ...], wanted: tuple[int, int], file: str = "preprocessor_config.json"
) -> None:
    """ModelError where the preprocessor makes pictures (height, width) of another size than the model takes."""
    if tuple(made) != tuple(wanted):
        raise ModelError(
            f"{name}: {file} in {folder} makes pictures of {' x '.join(map(str, made))} pixels, the model takes "
            f"{' x '.join(map(str, wanted))}.",
            f"Use the {file} that came with these weights.",
        )


def check_values(name: str, folder: Path, values: np.ndarray) -> None:
    """ModelError where a preprocessor makes of black and white pictures, any shape, what no model was trained on."""
    largest, spread = float(np.abs(values).max()), float(np.ptp(values))
    if largest > LARGEST_VALUE or spread < LEAST_RANGE:
        raise ModelError(
            f"{name}: preprocessor_config.json in {folder} makes values from {float(values.min()):.3g} to "
            f"{float(values.max()):.3g} of black and white (do_rescale, rescale_factor, image_mean, image_std).",
            "Use the preprocessor_config.json that came with these weights.",
        )


def check_known(name: str, folder: Path, ids: np.ndarray, unknown: int | None, special: Sequence[int]) -> None:
    """ModelError where most tokens (n, length) of some texts are the one for unknown words; special ones aside."""
    if unknown is None:
        return
    counted = ids[~np.isin(ids, [one for one in special if one != unknown])]
    share = float((counted == unknown).mean()) if counted.size >= LEAST_TOKENS else 0.0
    if share > MOST_UNKNOWN:
        raise ModelError(
            f"{name}: the tokenizer in {folder} knows too few of the words: {share:.0%} of the tokens are the one for "
            "unknown words.",
            f"{_COPY}; or the reports are of a language that the model does not know.",
        )


def check_distinct(name: str, place: Path, texts: Sequence[str], rows: np.ndarray) -> None:
    """ModelError where texts that differ in their beginnings all have one vector: rows (n_texts, d)."""
    begun = {re.sub(r"[\W_]+", "", text.lower())[:BEGINNING] for text in texts}
    if len(begun) > 1 and (rows == rows[0]).all():
        raise ModelError(
            f"{name}: {len(begun):,} texts that differ all have one vector.",
            f"The tokenizer and the text model in {place} do not fit each other. {_COPY}.",
        )


# ------------------------------------------------------------------------------------------------ how text is written


@dataclass(frozen=True)
class Treatment:
    """What is done to a text before its tokens are sought; `words` say so in the manifest."""

    written: Callable[[str], str]
    words: str


def as_given(text: str) -> str:
    """The text itself."""
    return text


def lowered(text: str) -> str:
    """In lower case: what SigLIP 2 was trained on."""
    return text.lower()
