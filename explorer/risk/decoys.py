"""What same-finding decoys are and are not alike in, as a table that a reader can check: pure HTML and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from linkage_core import sentences
from linkage_core.audit.strata import STRATA

_JACCARD = "words in both of those in either (Jaccard)"
_SAME = "share equal to the match's"
_IDENTICAL = "share identical to the match's"
ROWS: dict[tuple[str, str], str] = {
    ("report text", _IDENTICAL): "Exactly the same text",
    ("report text", _JACCARD): "Words in common, of those in either report",
    ("report length", "distance from the match, words"): "Difference in length of report",
    ("view", _SAME): "Same view",
    ("sex", _SAME): "Same sex",
    ("age", "distance from the match, years"): "Difference in age",
    ("report length", "mean, words"): "Length of report, mean",
    ("age", "mean, years"): "Age, mean",
}
"""Rows of Verification.balance in the order they are read, and what they are called."""

HEIGHT = 21.8
"""Of the whole table in rem: the same whatever is matched on."""


def alike_words(by: Sequence[str]) -> str:
    """What the decoys share.

    >>> alike_words(()), alike_words(("view",)), alike_words(("view", "sex", "length"))
    ('the same findings', 'the same findings and view', 'the same findings, view, sex and report length')
    """
    names = ["findings", *({"age": "decade of age", "length": "report length"}.get(name, name) for name in by)]
    return "the same " + (f"{', '.join(names[:-1])} and {names[-1]}" if by else names[0])


def headline(auc: Mapping[str, Any]) -> tuple[str, str, str]:
    """The label-matched AUC as a sentence: before, the count, after.

    >>> "".join(headline({"estimate": 0.81}))
    'Among patients with the same findings the match beats a decoy 81 of 100 times; a coin 50.'
    """
    return (
        "Among patients with the same findings the match beats a decoy ",
        f"{round(auc['estimate'] * 100)} of 100",
        " times; a coin 50.",
    )


def sizes_words(sizes: pd.Series) -> str:
    """How the decoys were found, in two sentences."""
    half = round(sizes["size_median"])
    return (
        f"{sizes['n_candidates']:,.0f} reports fall into {sizes['n_strata']:,.0f} groups alike in what is matched. "
        f"The largest group holds {sizes['size_max']:,.0f}, half of the groups {half:,} or fewer. "
        f"{sizes['n_alone']:,.0f} of {sizes['n_queries']:,.0f} images have no decoy at all."
        + (f" {sizes['n_without_labels']:,.0f} reports have no label." if sizes["n_without_labels"] else "")
    )


def table(balance: pd.DataFrame, by: Sequence[str]) -> str:
    """HTML of Verification.balance: one line an attribute, in words; those matched on say so."""
    known = balance.set_index(["attribute", "measure"])
    lines = []
    for key, name in ROWS.items():
        attribute, measure = key
        if key in known.index:
            lines.append(_line(name, known.loc[[key]].iloc[0], measure))
        elif attribute in by:
            lines.append(_gap(name, f"matched on: {STRATA[attribute]}"))
        elif measure == _JACCARD:
            lines.append(_gap(name, "report text is not at hand here"))
        else:
            lines.append(_gap(name, "not known in this cohort, or the same throughout"))
    head = "".join(
        f"<th>{words}</th>"
        for words in (
            "Compared with the match",
            "Decoys",
            "Any other patients",
            "Left between match and decoys",
            "95% interval",
        )
    )
    return (
        f'<div class="le-table" style="min-height:{HEIGHT}rem"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _gap(name: str, why: str) -> str:
    return f'<tr><td>{escape(name)}</td><td colspan="4" class="le-none">{escape(why)}</td></tr>'


def _line(name: str, row: pd.Series, measure: str) -> str:
    if row["flag"]:
        return _gap(name, f"too few to say ({row['n_patients']:,} patients)")
    if measure in (_SAME, _IDENTICAL, _JACCARD):
        decoys, others = (_share(row[column]) for column in ("decoys", "others"))
        left = f"{sentences.whole(row['effect'], 100)} of 100"
        ends = sentences.interval(row["effect_low"], row["effect_high"], 100)
    else:
        unit = measure.rsplit(", ", 1)[1]
        decoys, others = (f"{row[column]:,.1f} {unit}" for column in ("decoys", "others"))
        away = measure.startswith("distance")
        sign = -1 if away else 1
        low, high = sorted((sign * row["effect_low"], sign * row["effect_high"]))
        left = f"{sentences.signed(sign * row['effect'], 2)} SD"
        ends = f"{sentences.signed(low, 2)} to {sentences.signed(high, 2)}"
    cells = "".join(f"<td>{escape(words)}</td>" for words in (name, decoys, others, left, ends))
    return f"<tr>{cells}</tr>"


def _share(value: float) -> str:
    count = value * 100
    return f"{count:.0f} of 100" if count >= 9.5 or count == 0 else f"{count:.1f} of 100"


WORDS = """
- **Decoy**: a report of another patient whose 14 labels are the same as those of the match (present, absent, uncertain
  and not mentioned are four values). *Match more* narrows the decoys further.
- **The match beats a decoy** (label-matched AUC): the share of an image's decoys that score lower than its own report,
  a tie counting half; averaged over images. With a score that knows the findings and nothing else it is 50 of 100.
- **Left between match and decoys**: what an attacker could still tell them by. The match agrees with itself (100 of
  100, difference 0). For shares it is 100 less the decoys' share; for lengths and ages the distance divided by the
  standard deviation (SD) over all reports (Cohen's d): around 0.2 is little, 0.8 much. Means are signed: match less
  decoys, and by construction near 0.
- **Any other patients**: the same for reports whatever their findings. It shows what matching has taken away.
- Decoys in this table are 32 a query, drawn evenly. No risk is drawn: rates are exact.
- **n** falls as N grows: an image counts only where enough other patients share its findings, and those left have
  common findings. Both curves are over the same images at each N.
- A curve can fall below guessing: to an image with little to see, reports with more to say can score above its own.
"""
