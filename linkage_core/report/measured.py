"""Sections about what was measured on the cohort as it is: who asks, the answer, curves, decoys, exposure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import sentences
from linkage_core.attacks.attackers import ATTACKERS, EMBEDDINGS, EVERYTHING, IMAGES, allowed
from linkage_core.audit import ceilings
from linkage_core.audit.outcomes import FEWEST_LINKED
from linkage_core.cohorts.identifiers import words as identifiers
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.lab import frontier, measured
from linkage_core.report.found import PRIOR, Found, Lab, OfModel, most_exposed
from linkage_core.report.tree import Block, Column, Curves, Row, Series, Table, Text
from linkage_core.store.entry import OFF_THE_SHELF, Entry

SPLITS = {
    "all": "all patients",
    "heldout": "the held-out patients",
    "attacker": "the attacker's patients",
    "finetune": "the patients for finetuning",
}
LEAST = {
    EMBEDDINGS: "the released embeddings",
    EVERYTHING: "the released embeddings, and the head that made them",
    IMAGES: "the images themselves",
}
"""What an attacker must be given at least, the least first."""
OTHERS = {"predictor": "Predicts the cell"}
"""Who stands in the tables of the lab and is none of the attackers."""
KNOWS = {
    "nothing": "nothing of this cohort",
    "images": "own images, and how they look once released",
    "pairs": "own pairs of image and report, and how they look once released",
}
PERCENTILES = (50, 75, 90, 95, 99)


# -- what was asked, and the answer ----------------------------------------------------------------------------------


def asked(found: Found) -> list[Block]:
    """Who holds what, in plain words."""
    return [
        Text(
            "Somebody holds chest X-rays without names, and a pool of N radiology reports in which the right one of "
            "each stands. An AI model that reads images and reports gives every report a similarity to the image, and "
            "the most similar one is taken. How often is that the right report?"
        ),
        Text(
            f"Asked of {SPLITS.get(found.first.study.split, found.first.study.split)} of the cohort "
            f"{found.entry.cohort}: {_who(found.first)}. Every image is compared with its own report and with N - 1 "
            "reports of other patients, drawn at random; the figures are exact for such pools, nothing is sampled."
        ),
    ]


def headline(found: Found) -> str:
    """The first sentence of the report."""
    row, out_of = found.row, sentences.denominator(found.pool_size)
    _, rest = sentences.linked(row["recall"], out_of)
    around = sentences.ends(row["recall_low"], row["recall_high"], out_of)
    return (
        f"Among {found.pool_size:,} reports, {sentences.of(row['recall'], out_of)}{rest.removesuffix('.')} "
        f"({around}). Guessing would link {sentences.number(row['chance'], out_of)} of {out_of:,}."
    )


def answer(found: Found) -> list[Block]:
    """The headline, what qualifies it, and the worst attacker where one was measured."""
    row = found.row
    several = f", of {len(found.models)} models the one that links most" if len(found.models) > 1 else ""
    blocks: list[Block] = [
        Text(headline(found), "lead"),
        Text(
            f"{sentences.upper(sentences.lift(row['lift']))}. In brackets the 95% interval over patients. Measured on "
            f"{row['n_queries']:,.0f} images of {row['n_patients']:,.0f} patients with the model "
            f"{found.first.name}{several}, by similarity alone.",
            "note",
        ),
    ]
    if row["flag"]:
        blocks.append(Text(_flagged(str(row["flag"]), found), "gap"))
    worst = _worst_words(found)
    return [*blocks, Text(worst)] if worst else blocks


def _flagged(flag: str, found: Found) -> str:
    if flag.startswith("too few"):
        n = found.first.study.queries["patient_id"].nunique()
        return (
            f"{sentences.upper(flag)}, with {n:,} patients: the count stands above with its interval, and the interval "
            "is what is known."
        )
    return f"{sentences.upper(flag)}: every figure here is what guessing reaches."


def _worst_words(found: Found) -> str:
    if not isinstance(found.lab, Lab):
        return ""
    rows = _of_attackers(found.lab)
    worst = rows[rows["attacker"] == measured.WORST]
    if worst.empty:
        return ""
    row = worst.iloc[0]
    out_of = sentences.denominator(int(row["pool_size"]))
    named = str(row["named"])
    who = ATTACKERS[named].in_plain_words if named in ATTACKERS else attacker_label(named).lower()
    return (
        f"An attacker who adapts may do better. The worst of those tried ({attacker_label(row['named'])}: {who}) links "
        f"{sentences.of(row['recall'], out_of)} ({sentences.ends(row['recall_low'], row['recall_high'], out_of)}) "
        f"among {int(row['pool_size']):,} reports, measured on {row['n_queries']:,.0f} images of held-out patients."
    )


def _who(model: OfModel) -> str:
    queries = model.study.queries
    return (
        f"{len(queries):,} images of {queries['study_id'].nunique():,} studies of "
        f"{queries['patient_id'].nunique():,} patients"
    )


# -- cohort and models -----------------------------------------------------------------------------------------------


def cohort(found: Found) -> list[Block]:
    """What the figures are about, with the fingerprints of files and models."""
    entry = found.entry
    said = entry.manifest["cohort"]
    options = said.get("options") or {}
    facts = {
        "name": entry.cohort,
        "who is in it": "nobody real: a synthetic cohort" if entry.synthetic else "as its owner says: not synthetic",
        "kind": said["kind"],
        "asked about": f"{SPLITS.get(found.first.study.split, found.first.study.split)}: {_who(found.first)}",
        "in all": _in_all(entry),
        "split": _split_words(options),
        "part of the report": str(options.get("section", "")),
        "labels": labels_line(entry.labels_note()),
        "fingerprint of its table, sha256": said["fingerprint"],
        "cut from the table with": str((said.get("subset_of") or {}).get("fingerprint", "")),
        "report text in the store": "yes" if entry.stored_reports() else "no",
        "what identifies": " ".join(identifiers.lines_of(entry.manifest)),
    }
    rows = tuple({"fact": name, "value": str(value)} for name, value in facts.items() if str(value))
    blocks: list[Block] = [
        Table("cohort", "The cohort", (Column("fact", ""), Column("value", "")), rows),
        Table(
            "models",
            "The models",
            (
                Column("model", "model"),
                Column("made", "what it is"),
                Column("preprocessing", "preprocessing", "code"),
                Column("weights", "sha256 of its weights", "code"),
                Column("entry", "fingerprint of the entry", "code"),
            ),
            tuple(_row_of_model(one.entry) for one in found.models),
        ),
    ]
    for name, why in found.damaged.items():
        blocks.append(Text(f"The model {name} is left out, as it cannot be read. {why}", "gap"))
    return blocks


def _in_all(entry: Entry) -> str:
    counts = entry.manifest.get("counts", {})
    words = [f"{counts[name]:,} {name}" for name in ("images", "studies", "patients") if name in counts]
    return ", ".join([*words, f"{counts.get('rejects', 0):,} rejected when it was read"])


def _split_words(options: Mapping[str, Any]) -> str:
    parts = options.get("fractions")
    how = "by patient"
    if isinstance(parts, Sequence) and not isinstance(parts, str):
        how += f", {'/'.join(f'{100 * part:g}' for part in parts)} (finetune, attacker, held-out)"
    elif isinstance(options.get("splits"), str):
        how += f", {options['splits']}"
    return how + (f", seed {options['seed']}" if options.get("seed") is not None else "")


def _row_of_model(entry: Entry) -> Row:
    model = entry.manifest["model"]
    features = entry.manifest.get("features", {})
    made = [str(model[name]) for name in ("family", "revision") if model.get(name)]
    made.insert(1, _no_path(model.get("model_id")) or "")
    if model.get("text_limit"):
        made.append(f"at most {model['text_limit']} tokens of a report")
    made.append(f"{features.get('image_dim')} and {features.get('text_dim')} features")
    steps = model.get("preprocessing")
    return {
        "model": str(model["name"]),
        "made": ", ".join(dict.fromkeys(part for part in made if part)),
        "preprocessing": _steps(steps) if steps else "as imported",
        "weights": model.get("weights_sha256") or "not known: embeddings were imported",
        "entry": entry.fingerprint,
    }


def _steps(said: object) -> str:
    """What was done to an image before the model saw it, in one line."""
    if isinstance(said, Mapping):
        return ", ".join(f"{name} {value}" for name, value in sorted(said.items()))
    return json.dumps(said, sort_keys=True)


def _no_path(name: object) -> str | None:
    """A model's id; of a folder on the site's machine its last part alone."""
    return (
        None if name is None else str(name).rstrip("/").rsplit("/", 1)[-1] if str(name).startswith("/") else str(name)
    )


# -- attackers -------------------------------------------------------------------------------------------------------


def attackers(found: Found) -> list[Block]:
    """Every attacker there is, in words; and how far each came on the model as it is, where that was measured."""
    blocks: list[Block] = [
        Text(
            "The headline is about the first attacker of this table, who takes the model as it comes. The others "
            "adapt: they learn from images or pairs of their own, which are of other patients. A better attacker than "
            "these may exist: what is measured is a lower bound on the risk."
        ),
        Table(
            "attackers",
            "Who was considered",
            (
                Column("attacker", "attacker"),
                Column("does", "what it does"),
                Column("knows", "what it knows besides"),
                Column("holds", "what it must be given at least"),
            ),
            tuple(
                {
                    "attacker": attacker_label(row.name),
                    "does": row.in_plain_words,
                    "knows": KNOWS[row.knows],
                    "holds": next((words for one, words in LEAST.items() if one in row.holds), "released records"),
                }
                for row in ATTACKERS.values()
            ),
        ),
    ]
    if not isinstance(found.lab, Lab):
        return [*blocks, Text(_not_attacked(found), "gap")]
    rows = _of_attackers(found.lab)
    rows = rows[rows["attacker"] != measured.WORST].sort_values("recall", ascending=False, kind="stable")
    caption = (
        f"How far they come on the model as it is: images linked among {found.lab.pool_size:,} reports, held-out "
        f"patients, {found.first.name}"
    )
    columns = (
        Column("attacker", "attacker"),
        Column("recall", "linked", "rate"),
        Column("n_queries", "images", "whole"),
    )
    blocks.append(Table("attacked", caption, columns, tuple(attack_rows(rows))))
    other = found.lab.games
    other = other[(other["head"] == OFF_THE_SHELF) & (other["attacker"] == measured.WORST)]
    other = other[other["pool_size"] == found.lab.pool_size]
    if len(other):
        game = {"image": "one image among N reports", "archive": "N images and their N reports, matched one to one"}
        knows = {"nothing": "nothing", "sex": "their sex", "sex-age": "their sex and age"}
        columns = (
            Column("game", "what is matched"),
            Column("knows", "known of the candidates"),
            Column("recall", "linked", "rate"),
        )
        told = tuple(
            {"game": game.get(one["game"], one["game"]), "knows": knows.get(one["knows"], one["knows"]), **rate(one)}
            for one in frontier.dicts(other)
        )
        caption = f"The same attacker with more to go by: the worst of those tried, N = {found.lab.pool_size:,}"
        blocks.append(Table("games", caption, columns, told))
    return blocks


def _not_attacked(found: Found) -> str:
    target = f"{found.entry.cohort}/{found.first.name}"
    return (
        found.lab
        if isinstance(found.lab, str) and found.lab
        else f"None of those who adapt was measured on this cohort. `linkage lab {target}` measures them."
    )


def _of_attackers(lab: Lab) -> pd.DataFrame:
    """Rows of the model as it is, of who has embeddings and heads, at the lab's N."""
    rows = lab.linkage
    rows = rows[(rows["head"] == OFF_THE_SHELF) & (rows["release"] == EVERYTHING) & (rows["k"] == 1)]
    rows = rows[
        (rows["pool_size"] == lab.pool_size) & (rows["m"].isin(["all", ""]) | (rows["attacker"] == measured.WORST))
    ]
    return rows[rows["attacker"].isin([*allowed(EVERYTHING), measured.WORST])]


def attack_rows(rows: pd.DataFrame) -> list[Row]:
    """One row an attacker, with its rate."""
    return [{"attacker": attacker_label(row["named"]), **rate(row)} for row in frontier.dicts(rows)]


def attacker_label(name: object) -> str:
    """An attacker in words; one that is in no table keeps its name.

    >>> attacker_label("known-pairs"), attacker_label("holds images and reports unpaired")
    ('Knows own pairs', 'Holds images and reports unpaired')
    """
    known = ATTACKERS.get(str(name))
    return OTHERS.get(str(name), sentences.upper(str(name))) if known is None else known.label.format(m="own")


def rate(row: Mapping[str, Any]) -> Row:
    """Recall with its interval as a row has it, counted out of what N calls for; too few is a note."""
    few = str(row.get("flag") or "").startswith("too few")
    said: Row = {"out_of": sentences.denominator(int(row["pool_size"])), "n_queries": int(row["n_queries"])}
    if few:
        return {"recall": None, "note": f"{row['flag']} (n = {int(row['n_patients']):,} patients)", **said}
    return {name: float(row[name]) for name in ("recall", "recall_low", "recall_high")} | said


def _model_column(found: Found) -> list[Column]:
    """Only where there are several."""
    return [Column("model", "model")] if len(found.models) > 1 else []


# -- the curve -------------------------------------------------------------------------------------------------------


def curve(found: Found) -> list[Block]:
    """Linked against N, as a picture and at the N of the tables."""
    series = tuple(
        Series(
            model.name,
            *(tuple(model.curve[name].tolist()) for name in ("pool_size", "recall", "recall_low", "recall_high")),
        )
        for model in found.models
    )
    rows = tuple(
        {
            "model": model.name,
            "pool_size": n,
            **{name: float(row[name]) for name in ("recall", "recall_low", "recall_high", "chance", "lift")},
            "out_of": sentences.denominator(n),
            "n_queries": int(row["n_queries"]),
            "n_excluded": int(row["n_excluded"]),
            "flag": str(row["flag"]),
        }
        for model in found.models
        for n in found.sizes
        if (row := model.at(n)) is not None
    )
    columns = [
        *_model_column(found),
        Column("pool_size", "reports in the pool (N)", "whole"),
        Column("recall", "linked", "rate"),
        Column("chance", "guessing", "rate"),
        Column("lift", "against guessing", "times"),
        Column("n_queries", "images", "whole"),
    ]
    if any(row["n_excluded"] for row in rows):
        columns.append(Column("n_excluded", "left out: too few other reports", "whole"))
    if any(row["flag"] for row in rows):
        columns.append(Column("flag", "to note"))
    last = found.first.curve.iloc[-1]
    words = (
        f"Images linked against the number of reports, both on a logarithmic scale. {found.first.name}: "
        f"{sentences.of(last['recall'], sentences.denominator(int(last['pool_size'])))} at N = "
        f"{int(last['pool_size']):,}."
    )
    blocks: list[Block] = [
        Curves("curve", "Images linked to the right report, by the number of reports in the pool", words, series),
        Table("sizes", "The same in figures, with 95% intervals over patients", tuple(columns), rows),
    ]
    if said := _by_reports(found):
        blocks.append(Text(said))
    if found.too_large:
        sizes = ", ".join(f"{n:,}" for n in found.too_large)
        blocks.append(Text(f"Asked for and left out, as no image fills such a pool: N = {sizes}.", "gap"))
    return blocks


def _by_reports(found: Found) -> str:
    """What nobody passes by the reports alone, at the headline's N."""
    n, out_of = found.pool_size, sentences.denominator(found.pool_size)
    queries = found.first.study.queries
    text, findings = (ceilings.ceiling(queries, ceilings.KNOWN[name]) for name in (ceilings.TEXT, ceilings.FINDINGS))
    vectors = ceilings.by_vectors(found.entry)
    said = [f"At N = {n:,}, whatever {'scores these vectors' if vectors else 'the model'}:"]
    if not isinstance(text, str):
        said.append(ceilings.text_says(text.mean(n), text.shared, out_of, vectors=vectors))
    said.append(ceilings.findings_say(None if isinstance(findings, str) else findings.mean(n), out_of))
    return " ".join(said)


# -- decoys ----------------------------------------------------------------------------------------------------------


def decoys(found: Found) -> list[Block] | str:
    """The same among other patients with the same 14 labels; why not where there are none."""
    told = [(model, model.decoys) for model in found.models if not isinstance(model.decoys, str)]
    if not told:
        return str(found.first.decoys)
    of = {model.name: auc for model, (auc, _) in told}
    auc = of.get(found.first.name, told[0][1][0])
    blocks: list[Block] = []
    few = auc["estimate"] is None or str(auc["flag"]).startswith("too few")
    if few:
        blocks.append(Text(f"{sentences.upper(sentences.too_few(auc['n_patients']))} patients with a decoy.", "gap"))
    else:
        around = sentences.ends(auc["low"], auc["high"], 100)
        blocks.append(
            Text(
                "Among patients with the same findings the right report beats a decoy "
                f"{sentences.number(auc['estimate'], 100)} of 100 times ({around}); a coin 50.",
                "lead",
            )
        )
    blocks.append(
        Text(
            "Decoys are reports of other patients with the same 14 labels. What is left above a coin is what the model "
            f"sees of the very patient beyond those findings. Labels: {labels_line(found.entry.labels_note())}."
        )
    )
    columns = (
        *_model_column(found),
        Column("beats", "beats a decoy", "of 100"),
        Column("n", "images with a decoy", "whole"),
        Column("n_excluded", "without one", "whole"),
    )
    rows = tuple(_auc_row(model.name, auc) for model, (auc, _) in told)
    blocks.append(Table("beats", "How often the right report beats a decoy (a coin: 50 of 100)", columns, rows))
    sized = tuple(
        {"model": model.name, "pool_size": int(row["pool_size"]), "share": row["n_queries"] / _n(row), **rate(row)}
        for model, (_, table) in told
        for row in frontier.dicts(table)
    )
    if sized:
        of_sizes = (
            *_model_column(found),
            Column("pool_size", "reports in the pool (N)", "whole"),
            Column("recall", "linked among decoys", "rate"),
            Column("n_queries", "images that have so many", "whole"),
            Column("share", "of all images", "of 100"),
        )
        note = "Only of images with enough such decoys, which differ from N to N: not to be set beside the curve above."
        blocks.append(Table("decoys", "Linked among decoys with the same findings", of_sizes, sized, note))
    return blocks


def _n(row: Mapping[str, Any]) -> int:
    return int(row["n_queries"]) + int(row["n_excluded"])


def _auc_row(name: str, auc: Mapping[str, Any]) -> Row:
    row: Row = {"model": name, "n": auc["n"], "n_excluded": auc["n_excluded"]}
    if auc["estimate"] is None or str(auc["flag"]).startswith("too few"):
        return row | {"beats": None, "note": sentences.too_few(auc["n_patients"])}
    return row | {"beats": auc["estimate"], "beats_low": auc["low"], "beats_high": auc["high"]}


# -- the match may be missing ----------------------------------------------------------------------------------------


def missing_match(found: Found) -> list[Block] | str:
    """What an attacker gains who may keep silent, where the right report is in the pool half of the times."""
    world = found.world
    if isinstance(world, str):
        return world
    if world.note:
        return world.note
    rows = []
    for row in frontier.dicts(world.operating):
        wanted = row["wanted_precision"]
        told: Row = {"wants": "answers always" if not wanted else f"right {100 * wanted:.0f} of 100 times"}
        told |= {"n_linked": int(row["n_linked"])}
        if not row["reached"]:
            rows.append(told | {"links": None, "precision": None, "note": "no threshold gets there"})
            continue
        told |= {f"links{end}": row[f"links{end}"] for end in ("", "_low", "_high")}
        if row["n_linked"] < FEWEST_LINKED:
            rows.append(told | {"precision": None, "note": f"too few to say (n = {told['n_linked']} patients)"})
        else:
            ends = {f"precision_{end}": row[f"precision_{end}"] for end in ("low", "high")}
            rows.append(told | {"precision": row["precision"], **ends})
    columns = (
        Column("wants", "the attacker wants to be"),
        Column("links", "answers for, of 100 images", "of 100"),
        Column("precision", "right, of 100 answers", "of 100"),
        Column("n_linked", "patients linked rightly", "whole"),
    )
    always = rows[0]
    blocks: list[Block] = []
    if always.get("precision") is not None:
        guess = 100 * PRIOR / world.pool_size
        blocks.append(
            Text(
                f"Whoever answers always is right {sentences.number(always['precision'], 100)} of 100 times; by "
                f"guessing {sentences.number(guess / 100, 100)}.",
                "lead",
            )
        )
    images, patients = world.n_test
    return [
        *blocks,
        Text(
            f"Here the right report is in the pool of N = {world.pool_size:,} for {100 * PRIOR:.0f} of 100 images. "
            "That is stated, not measured: nobody knows it of a real attacker. The attacker answers only where the "
            "highest similarity reaches a threshold, which is chosen on one half of the patients; the figures are "
            f"told on the other half ({images:,} images of {patients:,} patients). Model: {found.first.name}."
        ),
        Table("missing", "What a careful attacker gains", columns, tuple(rows)),
    ]


# -- exposure --------------------------------------------------------------------------------------------------------


def exposure(found: Found) -> list[Block] | str:
    """How unevenly images are linked, by percentiles and groups; single images only where that was asked for."""
    seen = found.exposed
    if isinstance(seen, str):
        return seen
    tail = seen.tail
    if math.isnan(tail.middle):
        return (
            f"Too few to say, with {tail.n_patients:,} patients: percentiles and groups would be about single people."
        )
    first = seen.table["p_first"].dropna().to_numpy(np.float64)
    rows = tuple(
        {
            "percentile": f"{100 - p} of 100 images" if p != 50 else "half of the images",
            "p_first": float(np.percentile(first, p)),
        }
        for p in PERCENTILES
    )
    columns = (
        Column("percentile", "the most exposed"),
        Column("p_first", "come first in at least, of 100 pools", "of 100"),
    )
    groups = [row for row in frontier.dicts(seen.groups) if not str(row["note"]).startswith("too few")]
    blocks: list[Block] = [
        Text(tail.sentence, "lead"),
        Text(
            f"In pools of N = {found.pool_size:,}, with the model {found.first.name}; guessing comes first in "
            f"{sentences.number(1 / found.pool_size, 100)} of 100. An average hides whoever stands out."
        ),
        Table("percentiles", "How unevenly images are linked", columns, rows),
    ]
    if groups:
        of_groups = (
            Column("by", "by"),
            Column("group", "group"),
            Column("linked", "linked", "of 100"),
            Column("n_images", "images", "whole"),
            Column("n_patients", "patients", "whole"),
        )
        told = tuple(
            {
                "by": row["by"],
                "group": row["group"],
                "linked": row["linked"],
                "linked_low": row["low"],
                "linked_high": row["high"],
                "n_images": int(row["n_images"]),
                "n_patients": int(row["n_patients"]),
            }
            for row in groups
        )
        hidden = len(seen.groups) - len(groups)
        note = f"{hidden} groups with fewer than 30 patients, or held by one, are not told." if hidden else ""
        caption = f"By group, among {found.pool_size:,} reports of all patients"
        blocks.append(Table("groups", caption, of_groups, told, note))
    return [*blocks, *_single(found, seen.table)]


def _single(found: Found, table: pd.DataFrame) -> list[Block]:
    wants = found.asked
    if not (wants.identifiers or wants.text):
        return [Text("No single image, identifier or report text stands in this report: none was asked for.", "note")]
    rows = []
    columns = [Column("place", "")]
    if wants.identifiers:
        columns += [Column("record_id", "image"), Column("study_id", "study"), Column("patient_id", "patient")]
    columns.append(Column("p_first", "comes first, of 100 pools", "of 100"))
    if wants.text:
        columns.append(Column("text", "report"))
    for place, row in enumerate(frontier.dicts(most_exposed(table)), 1):
        told: Row = {"place": place, "p_first": row["p_first"]}
        if wants.identifiers:
            told |= {name: row[name] for name in ("record_id", "study_id", "patient_id")}
        if wants.text:
            told["text"] = found.texts.get(row["study_id"], "not stored")
        rows.append(told)
    caption = "The most exposed images, one a patient. Asked for: this part must not leave the site as it is"
    if found.entry.synthetic:
        caption = "The most exposed images, one a patient; nobody here is real"
    blocks: list[Block] = [Table("single", caption, tuple(columns), tuple(rows))]
    if wants.text and not found.texts:
        blocks.append(Text("Report text was asked for, and the store has none of this cohort.", "gap"))
    return blocks
