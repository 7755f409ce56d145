"""What is to be done with what is shared, and what may leave for it: one point a family, the best one named.

Made from the rows of Compare mitigations (options.merged); nothing is fetched or drawn here but a table in HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from explorer.drawing.glossary import linked_html
from explorer.drawing.palette import Palette
from explorer.drawing.words import OF_RELEASES, deed
from explorer.protect.options import FAMILIES, REFERENCES, at_most, can_say, full_name, keeps, plus, summed
from linkage_core import sentences
from linkage_core.lab import frontier
from linkage_core.mitigation import accounting
from linkage_core.mitigation.mechanisms import MECHANISMS
from linkage_core.release import table
from linkage_core.validate import by_name

DELTA = 1e-6
"""Of the epsilon that stands in a command."""


@dataclass(frozen=True)
class Purpose:
    """What is to be done. use: of frontier.USES. everything: whether undeclared findings have to be kept too, because
    nobody knows what will be asked. without: families that cannot serve it. note: what is judged in its place."""

    name: str
    label: str
    use: str
    everything: bool = False
    without: tuple[str, ...] = ()
    note: str = ""


PURPOSES = by_name(
    "purpose",
    Purpose("train", "Train a classifier", "trained"),
    Purpose("read", "Read single records", "read", without=("statistics",)),
    Purpose(
        "search",
        "Search by image",
        "read",
        everything=True,
        without=("statistics", "codes", "scores"),
        note="Search itself was not measured: it is judged by what can still be read of all findings, listed or not.",
    ),
    Purpose("nothing", "Share nothing", "trained"),
)


@dataclass(frozen=True)
class Advice:
    """What may leave for a purpose.

    families: one row a family, the recommended first, with `kept` (True, False, or None where nobody can say),
    `limited` and `alike` (whether its measured linkage cannot be told from the recommended one's). best: the
    recommended row, None where there is none. n_settings: how many settings were measured; n_kept: how many of them
    keep what has to be kept.
    """

    purpose: Purpose
    families: pd.DataFrame
    best: dict[Any, Any] | None
    n_settings: int
    n_kept: int


def advise(rows: pd.DataFrame, purpose: Purpose, tolerance: float, keep: str) -> Advice:
    """The best setting of each family: of those that keep the findings the one with the smallest limit, or without any
    limit the one that leaves least linked; where none keeps them, the one that loses least."""
    keep = "undeclared" if purpose.everything else keep
    measured = rows[rows["measured"].notna() & (rows["family"] != "noise") & ~rows["family"].isin(purpose.without)]
    said, kept = can_say(measured, keep), keeps(measured, tolerance, keep)
    judged: Any = [bool(k) if known else None for k, known in zip(kept, said, strict=True)]
    marked = measured.assign(kept=judged, limited=measured["certified"].notna())
    chosen = [_best_of(group, keep) for _, group in marked.groupby("family", sort=False)]
    families = pd.DataFrame(chosen, columns=marked.columns)
    counted = marked[~marked["family"].isin(REFERENCES)]
    best: dict[Any, Any] | None = None
    if purpose.name == "nothing":
        best = next((row for row in chosen if row["family"] == "nothing"), None)
    else:
        good = families[(families["kept"] == True) & ~families["family"].isin(REFERENCES)]  # noqa: E712
        ranked = _by_risk(good)
        best = ranked.iloc[0].to_dict() if len(ranked) else None
    families = families.assign(
        alike=[best is not None and row["family"] != best["family"] and _overlap(row, best) for row in chosen],
        first=[best is not None and row["family"] == best["family"] for row in chosen],
    )
    order = families.assign(
        rank=[0 if row["first"] else 1 if row["kept"] else 2 for row in families.to_dict("records")],
        reference=families["family"].isin(REFERENCES),
    )
    order = order.sort_values(
        ["rank", "reference", "limited", "measured"], ascending=[True, True, False, True], kind="stable"
    )
    families = order.drop(columns=["rank", "reference"]).reset_index(drop=True)
    return Advice(purpose, families, best, len(counted), int((counted["kept"] == True).sum()))  # noqa: E712


def _by_risk(rows: pd.DataFrame) -> pd.DataFrame:
    """What is limited first, by its limit; then by what is linked."""
    limit = rows["certified"].fillna(math.inf)
    return rows.assign(at=limit).sort_values(["at", "measured"], kind="stable").drop(columns="at")


def _best_of(rows: pd.DataFrame, keep: str) -> dict[Any, Any]:
    kept = rows[rows["kept"] == True]  # noqa: E712
    if len(kept):
        return _by_risk(kept).iloc[0].to_dict()
    groups = [f"{group}_difference" for group in (frontier.GROUPS if keep == "undeclared" else frontier.GROUPS[:1])]
    lost = rows[groups].min(axis=1, skipna=False)
    if lost.notna().any():
        return rows.iloc[int(np.nanargmax(lost.to_numpy()))].to_dict()
    return rows.sort_values("measured", kind="stable").iloc[0].to_dict()


def ends(row: Mapping[Any, Any]) -> tuple[float, float]:
    """The 95% interval of what is linked, or the range over runs where that is wider."""
    low, high = float(row["measured_low"]), float(row["measured_high"])
    if row["runs"] > 1:
        low, high = min(low, float(row["least"])), max(high, float(row["most"]))
    return low, high


def _overlap(row: Mapping[Any, Any], best: Mapping[Any, Any]) -> bool:
    (low, high), (least, most) = ends(row), ends(best)
    return low <= most and least <= high


# -- what is said -----------------------------------------------------------------------------------------------------


def findings_words(advice: Advice, keep: str) -> str:
    return "all findings" if advice.purpose.everything or keep == "undeclared" else "declared findings"


def first_sentence(advice: Advice, trained: Advice | None, keep: str, pool_size: int, out_of: int) -> tuple[str, str]:
    """The answer in two pieces: what stands out, and the rest.

    trained: the advice for who trains a classifier, to point to where records cannot be limited.
    """
    what, best = findings_words(advice, keep), advice.best
    if advice.purpose.name == "nothing":
        if best is None:
            return "", "What a reader trained on public labels alone is worth was not measured here."
        cost = plus(best["declared_difference"])
        said = f"guessing links {sentences.of(1 / pool_size, out_of)}. A reader trained on public labels"
        if best["kept"] is None:
            return "Nothing leaves: ", f"{said} cannot be judged here: too few patients have a finding."
        kept = "keeps declared findings too" if best["kept"] else "does not keep declared findings"
        return "Nothing leaves: ", f"{said} {kept} ({cost} points)."
    if not advice.n_settings:
        return "", "Nothing was measured for this purpose."
    if best is not None and best["limited"]:
        verb = "keep" if best["name"].endswith("s") else "keeps"
        most = at_most(best["certified"], pool_size, out_of)
        return full_name(best), f" {verb} {what}; at most {most} linked by {_whom(best)}."
    if best is not None:
        way = _way_out(trained)
        least = f" Without a limit {_lower(full_name(best))} leaves least: {_linked(best, pool_size, out_of)}."
        return "Nothing here ", f"both keeps {what} and is limited for every attacker{way}.{least}"
    families = advice.families[~advice.families["family"].isin(REFERENCES)]
    if families["kept"].isna().all():
        return "", f"What a mitigation keeps of {what} cannot be judged here: too few patients have them."
    return "Nothing here ", f"keeps {what}{_way_out(trained)}."


def _way_out(trained: Advice | None) -> str:
    best = None if trained is None else trained.best
    if best is None or not best["limited"]:
        return ""
    return f", unless the recipient trains: then {_lower(best['name'])}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _whom(row: Mapping[Any, Any]) -> str:
    return OF_RELEASES[row["kind"]].whom if row["kind"] in OF_RELEASES else "every attacker"


def _linked(row: Mapping[Any, Any], pool_size: int, out_of: int) -> str:
    if _few(row):
        return sentences.too_few(int(row["n_queries"]))
    return sentences.of(float(row["measured"]) / pool_size, out_of)


def not_told_apart(advice: Advice, pool_size: int, out_of: int) -> str:
    """Which families' measured linkage cannot be told from the recommended one's; and that it was picked."""
    if advice.best is None or advice.purpose.name == "nothing":
        return ""
    rows = advice.families
    alike = rows[rows["alike"] & (rows["kept"] == True) & ~rows["family"].isin(REFERENCES)]  # noqa: E712
    said = [f"chosen of {advice.n_kept:,} of {advice.n_settings:,} settings that keep them"]
    if len(alike):
        names = ", ".join(
            f"{_lower(row['name'])} ({_linked(row, pool_size, out_of).rsplit(' of ', 1)[0]})"
            for row in alike.to_dict("records")
        )
        said.append(f"in what was measured it cannot be told apart from {names}: their intervals overlap")
    elif len(rows) > 1:
        said.append("no other family that keeps them was measured as low")
    nothing = rows[(rows["family"] == "nothing") & (rows["kept"] == True)]  # noqa: E712
    if len(nothing) and advice.purpose.use == "trained":
        cost = plus(nothing["declared_difference"].iloc[0])
        said.append(f"nothing released keeps them too, with public labels ({cost} points)")
    if not advice.best["limited"]:
        said.append("the lowest of many is partly luck: expect a little more")
    return sentences.upper("; ".join(said)) + "."


def sentence_for(row: Mapping[Any, Any], pool_size: int, out_of: int) -> str:
    """What may be said of a release to others, and nothing more."""
    kind = str(row["kind"])
    if row["limited"] and kind in OF_RELEASES and OF_RELEASES[kind].limit:
        words = OF_RELEASES[kind]
        most = at_most(row["certified"], pool_size, out_of)
        return (
            f"Among {pool_size:,} equally likely reports, whoever gets {words.limit.format(most=most)}. {words.assumed}"
        )
    if row["family"] == "nothing":
        return "Nothing computed from the images leaves; a reader is trained on public images and labels."
    if _few(row):
        return "Nothing limits it, and too few images were asked about to say what an attacker links."
    linked = _linked(row, pool_size, out_of)
    return (
        f"Of the attackers that were tried the worst links {linked} images of patients who were held out; a better one "
        "may do better. Nothing limits it."
    )


def command(option: Mapping[Any, Any], cohort: str, model: str, public: str) -> str:
    """What makes an option (of frontier.options_of), to paste; "" for what no one command makes."""
    kind, value, target = str(option["kind"]), float(option["value"]), f"{cohort}/{model}"
    if kind in table.KINDS:
        return " ".join(["linkage release", target, "--kind", kind, *_release_parts(option, public)])
    if kind in MECHANISMS and option["parameter"] == "epsilon" and MECHANISMS[kind].kind != "control":
        noise = "inf" if math.isinf(value) else f"{value:g}"
        return f"linkage finetune {target} --mechanism {kind} --epsilon {noise} --name mine"
    return ""


def _release_parts(option: Mapping[Any, Any], public: str) -> list[str]:
    """What stands in the command of a release behind its kind."""
    kind, value, parts = table.KINDS[str(option["kind"])], float(option["value"]), []
    limited = kind.always_limited or option["parameter"] == "noise"
    if option["parameter"] == "noise":
        parts.append(f"--noise {value:g}")
    elif "limit" in kind.takes:
        parts.append(f"--limit {value:g}")
    elif "epsilon" in kind.takes:
        # of one query over all findings with the same noise in all; rounded down, so that the limit is no larger
        epsilon = accounting.gaussian_epsilon(1 / float(option["mu"]), DELTA)
        digits = 10 ** (2 - math.floor(math.log10(epsilon)))
        parts.append(f"--epsilon {math.floor(epsilon * digits) / digits:g}")
    if limited and "per_patient" in kind.takes:
        parts.append("--per-patient 1")
    if "secret" in kind.takes:
        parts.append("--secret site.secret --new-secret")
    if not limited:
        parts.append("--unlimited")
    if public and "public" in kind.takes:
        parts.append(f"--public {public}")
    return [*parts, "--ledger site.ledger --out my-release"]


# -- the table --------------------------------------------------------------------------------------------------------


def family_table(advice: Advice, pool_size: int, out_of: int, palette: Palette) -> str:
    """HTML: a row a family; what is linked on one linear axis, with its interval and its limit."""
    rows = advice.families.to_dict("records")
    top = max([ends(row)[1] for row in rows if not _few(row)] + [1.0])
    most = sentences.figure(min(top / pool_size, 1), out_of)
    head = (
        "<tr><th>Family, best setting</th>"
        f'<th class="fm-wide">Linked of {out_of:,} (linear, 0 to {most})</th>'
        "<th>Linked</th><th>At most</th><th>Declared</th><th>Undeclared</th><th>Kept</th></tr>"
    )
    body = "".join(_row(row, top, pool_size, out_of) for row in rows)
    style = f"--fm-dot: {palette.after}; --fm-limit: {palette.release}; --fm-guess: {palette.guessing}"
    whole = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return linked_html(f'<div class="le-table fm-table" style="{style}">{whole}</div>')


def _few(row: Mapping[Any, Any]) -> bool:
    """Whether an attacker was asked about too few images to say what it links."""
    return bool(row["n_queries"] < sentences.TOO_FEW)


def _row(row: Mapping[Any, Any], top: float, pool_size: int, out_of: int) -> str:
    (low, high), few = ends(row), _few(row)
    spread = row["family"] != "nothing" and not few
    at, limit = float(row["measured"]), float(row["certified"])
    marks = f'<u style="left:{100 / top:.2f}%"></u>'
    if spread:
        marks += f'<i style="left:{100 * low / top:.2f}%;width:{100 * (high - low) / top:.2f}%"></i>'
    if limit == limit and limit <= top:
        marks += f'<s style="left:{100 * limit / top:.2f}%"></s>'
    if not few:
        marks += f'<b style="left:{100 * at / top:.2f}%"></b>'
    most = "no limit" if limit != limit else at_most(limit, pool_size, out_of).rsplit(" of ", 1)[0]
    shown = sentences.figure(at / pool_size, out_of)
    span = sentences.interval(low / pool_size, min(high / pool_size, 1.0), out_of).rsplit(" of ", 1)[0]
    said = _linked(row, pool_size, out_of) if few else f"{shown} ({span})" if spread else shown
    kept = {True: "✓ yes", False: "no"}.get(row["kept"], "not judged")
    same = " · not told apart" if row["alike"] and row["kept"] else ""
    name = f"<b>{escape(sentences.upper(FAMILIES[row['family']].removeprefix('release: ')))}</b>"
    setting, words = escape(full_name(row)), f"{said}{'' if few else f' of {out_of:,}'}; limit: {most}"
    return (
        f'<tr class="{"fm-first" if row["first"] else ""}"><td>{name}<br><small>{setting}</small></td>'
        f'<td><div class="fm-track" role="img" aria-label="{escape(words)}">{marks}</div></td>'
        f"<td>{escape(said)}</td><td>{escape(most)}</td><td>{_points(row, 'declared')}</td>"
        f"<td>{_points(row, 'undeclared')}</td><td>{kept}{same}</td></tr>"
    )


def _points(row: Mapping[Any, Any], group: str) -> str:
    lost = float(row[f"{group}_difference"])
    return plus(lost) if lost == lost else "–"


def card(advice: Advice, pool_size: int, out_of: int) -> str:
    """HTML: the recommended row with its limit, its cost and the sentence for it."""
    best = advice.best
    assert best is not None
    unit = "patients picked" if summed(best["kind"]) else "images linked"
    low, high = ends(best)
    span = sentences.interval(low / pool_size, min(high / pool_size, 1.0), out_of).rsplit(" of ", 1)[0]
    limit = "none: a better attacker may do better"
    if best["limited"]:
        limit = f"at most {at_most(best['certified'], pool_size, out_of)}, for {_whom(best)}"
    who = deed(best["named"]) if isinstance(best["named"], str) else None
    by = f" by an attacker who {who}" if who else ""
    measured = _linked(best, pool_size, out_of)
    facts = [
        ("Recommended", full_name(best)),
        ("Limit", limit),
        ("Measured", measured if _few(best) else f"{measured} {unit} ({span}){by}"),
        ("Cost", _cost(best)),
        ("Sentence for it", sentence_for(best, pool_size, out_of)),
    ]
    if best["family"] == "nothing":
        del facts[2]
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return linked_html(f'<dl class="fm-card">{rows}</dl>')


def _cost(row: Mapping[Any, Any]) -> str:
    said = []
    for group in frontier.GROUPS:
        lost = float(row[f"{group}_difference"])
        said.append(f"{group} findings {plus(lost)} points" if lost == lost else f"{group} findings not measured")
    return f"{', '.join(said)}, against a reader of clean embeddings"


def filed(advice: Advice) -> pd.DataFrame:
    """The table as it is filed, numbers unrounded."""
    names: Sequence[str] = (
        *("family", "name", "setting", "measured", "measured_low", "measured_high", "certified"),
        *("declared_difference", "undeclared_difference", "kept", "alike", "first"),
    )
    renamed = {"measured": "lift", "certified": "certified_lift", "first": "recommended", "alike": "not_told_apart"}
    return advice.families[list(names)].rename(columns=renamed).assign(purpose=advice.purpose.name)
