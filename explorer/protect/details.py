"""The tables below the cards: runs, trade-off, controls, findings and attackers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.drawing.charts import (
    Row,
    axis,
    layout,
    note,
)
from explorer.drawing.palette import GUESSING_DASH, Palette
from explorer.drawing.words import at, attacker_label, controls, line, measures
from linkage_core.attacks.asked import KNOWS
from linkage_core.lab import measured
from linkage_core.sentences import denominator, figure, interval, of, signed, whole
from linkage_core.store.entry import OFF_THE_SHELF


def spread_of_runs(rows: Sequence[Row], out_of: int) -> str:
    """Runs that differ by their noise alone, as words; "" for fewer than two.

    >>> spread_of_runs([{"recall": 0.17}, {"recall": 0.19}, {"recall": 0.18}], 100)
    '3 runs with other noise: 17 to 19 of 100'
    """
    if len(rows) < 2:
        return ""
    values = [whole(float(row["recall"]), out_of) for row in rows]
    return f"{len(rows)} runs with other noise: {min(values):,} to {max(values):,} of {out_of:,}"


# -- details ---------------------------------------------------------------------------------------------------------


def trade_off(fpr: np.ndarray, tpr: np.ndarray, palette: Palette) -> go.Figure:
    """How often somebody is right that a patient was used, against how often wrong when not."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    of_100 = [f"{100 * v:g}" for v in ticks]
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 8}
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "yshift": -26}
    lines = (
        ([0.0, 1.0], [0.0, 1.0], {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH}, "a coin"),
        (fpr.tolist(), tpr.tolist(), {"color": palette.after, "width": 3}, "at most"),
    )
    return go.Figure(
        data=[
            {
                "type": "scatter",
                "x": x,
                "y": y,
                "mode": "lines",
                "line": style,
                "name": name,
                "hovertemplate": "said wrongly %{x:.2f}, rightly at most %{y:.3f}<extra></extra>",
            }
            for x, y, style, name in lines
        ],
        layout={
            **layout(palette, 300, {"l": 46, "r": 20, "t": 34, "b": 50}),
            "xaxis": axis(palette, (0, 1), ticks, of_100, line=True),
            "yaxis": axis(palette, (0, 1), ticks, of_100),
            "annotations": [
                note(palette, "said rightly, of 100 patients who were used: at most", **above),
                note(palette, "said wrongly, of 100 who were not (dashed: a coin)", **under),
            ],
        },
    )


def control_rows(
    heads: pd.DataFrame,
    linkage: pd.DataFrame,
    utility: pd.DataFrame,
    cohort: str,
    release: str,
    pool_size: int,
    out_of: int,
) -> pd.DataFrame:
    """Every measured control as a row: images linked by the worst attacker and by cosine, AUROC."""
    rows = []
    names = {OFF_THE_SHELF: "None: as the model came", **controls()}
    for head, mechanism in zip(heads["head"], heads["mechanism"], strict=True):
        if mechanism not in names:
            continue
        worst = at(line(linkage, head, release, measured.WORST, cohort), pool_size)
        cosine = at(line(linkage, head, "embeddings-and-heads", "cosine", cohort), pool_size)
        if worst is None:
            continue
        use = measures(utility, head, cohort)
        rows.append(
            {
                "control": names[mechanism],
                f"worst links, of {out_of:,}": round(out_of * float(worst["recall"]), 2),
                "by": attacker_label(worst["named"], "its own"),
                f"cosine links, of {out_of:,}": None if cosine is None else round(out_of * float(cosine["recall"]), 2),
                "AUROC, probe": _rounded(use.get("declared")),
                "AUROC, zero-shot": _rounded(use.get("zero-shot")),
                "code name": mechanism,
            }
        )
    return pd.DataFrame(rows)


def _rounded(row: pd.Series | None) -> float | None:
    return None if row is None else round(float(row["after"]), 4)


def finding_rows(utility: pd.DataFrame, head: str, cohort: str) -> pd.DataFrame:
    """AUROC of each finding before and after, with the interval of the change."""
    rows = utility[
        (utility["head"] == head) & (utility["cohort"] == cohort) & utility["measure"].isin(["probe", "zero-shot"])
    ]
    return pd.DataFrame(
        {
            "finding": rows["label"],
            "read by": rows["measure"],
            "declared": rows["declared"],
            "before": rows["before"].round(4),
            "after": rows["after"].round(4),
            "change": rows["difference"].round(4),
            "low": rows["difference_low"].round(4),
            "high": rows["difference_high"].round(4),
            "n images": rows["n"],
            "n with it": rows["n_positive"],
            "note": rows["flag"],
        }
    ).reset_index(drop=True)


def attacker_rows(linkage: pd.DataFrame, head: str, release: str, pool_size: int, out_of: int) -> pd.DataFrame:
    """Every measured attacker at one N, on every cohort, before and after."""
    rows = linkage[linkage["head"].isin([OFF_THE_SHELF, head]) & (linkage["release"] == release)]
    rows = rows[rows["pool_size"] == pool_size]
    return pd.DataFrame(
        {
            "cohort": rows["cohort"],
            "when": np.where(rows["head"] == OFF_THE_SHELF, "before", "after"),
            "attacker": np.where(rows["attacker"] == measured.WORST, "worst", rows["attacker"]),
            "who": [attacker_label(name, "its own") for name in rows["named"]],
            "knows": rows["m"],
            f"links, of {out_of:,}": (out_of * rows["recall"].astype(float)).round(3),
            "low": (out_of * rows["recall_low"].astype(float)).round(3),
            "high": (out_of * rows["recall_high"].astype(float)).round(3),
            "times chance": rows["lift"].astype(float).round(2),
            "n images": rows["n_queries"],
            "n patients": rows["n_patients"],
            "note": rows["flag"],
        }
    ).reset_index(drop=True)


def game_rows(games: pd.DataFrame, head: str, game: str, out_of: int) -> pd.DataFrame:
    """Cosine and the worst attacker in one game, before and after, by what else is known of the candidates."""
    rows = games[games["head"].isin([OFF_THE_SHELF, head]) & (games["game"] == game)]
    return pd.DataFrame(
        {
            "N": rows["pool_size"],
            "known of the candidates": rows["knows"].map(KNOWS),
            "when": np.where(rows["head"] == OFF_THE_SHELF, "before", "after"),
            "attacker": np.where(rows["attacker"] == measured.WORST, "worst", rows["attacker"]),
            "who": [attacker_label(name, "its own") for name in rows["named"]],
            f"names right, of {out_of:,}": (out_of * rows["recall"].astype(float)).round(2),
            "low": (out_of * rows["recall_low"].astype(float)).round(2),
            "high": (out_of * rows["recall_high"].astype(float)).round(2),
            "times chance": rows["lift"].astype(float).round(2),
            "n images": rows["n_queries"],
            "n patients": rows["n_patients"],
            "note": rows["flag"],
        }
    ).reset_index(drop=True)


def ceiling_words(out_of: int) -> str:
    """What an attacker reaches under any head who knows the clean embeddings: release.ceiling without noise."""
    return (
        "Whoever knows every candidate's clean embedding finds the record: embeddings are deterministic, "
        f"{of(1.0, out_of)} images. No head limits that; a release can."
    )


def external_words(
    linkage: pd.DataFrame, utility: pd.DataFrame, head: str, release: str, pool_size: int, own: str
) -> list[tuple[str, str]]:
    """For each other cohort the head was measured on as it is: (cohort, what happened there), at N or the largest N
    below it that was measured there."""
    found = []
    for cohort in sorted(set(linkage.loc[linkage["head"] == head, "cohort"]) - {own}):
        rows = line(linkage, head, release, measured.WORST, cohort)
        fits = rows.loc[rows["pool_size"] <= pool_size, "pool_size"]
        n = int(fits.max()) if len(fits) else 0
        after, before = at(rows, n), at(line(linkage, OFF_THE_SHELF, release, measured.WORST, cohort), n)
        if after is None or before is None:
            continue
        out_of = denominator(n)
        ends = [interval(row["recall_low"], row["recall_high"], out_of) for row in (after, before)]
        said = (
            f"at N = {n:,} the worst attacker links {of(after['recall'], out_of)} ({ends[0]}), before "
            f"{figure(before['recall'], out_of)} ({ends[1]}), n = {int(after['n_queries']):,} images"
        )
        use = measures(utility, head, cohort).get("declared")
        if use is not None:
            said += (
                f"; AUROC {float(use['before']):.3f} before, {float(use['after']):.3f} after "
                f"({signed(100 * float(use['difference_low']), 1)} to {signed(100 * float(use['difference_high']), 1)} "
                "points)"
            )
        found.append((cohort, said))
    return found
