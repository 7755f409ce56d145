"""How results look in a terminal: tables for people. The same content goes out whole with --json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from linkage_core.cli.console import plain, say, strong
from linkage_core.cohorts.base import SPLITS
from linkage_core.store.seen import why_untested

if TYPE_CHECKING:
    import pandas as pd

    from linkage_core.audit.study import Study
    from linkage_core.store.entry import Entry

LABEL_STATES = ("positive", "uncertain", "negative", "missing")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return plain(", ".join(str(one) for one in value)) or "-"
    return plain(str(value))


def cohort(summary: dict[str, Any]) -> None:
    """What `linkage cohort` found: `summary` is cohorts.summary.summarise's."""
    from linkage_core.cohorts.labels.cohort import labels_line

    words, shared = summary["report_words"], summary["duplicate_reports"]
    n_rejects = sum(summary["rejects"].values())
    lines = {
        "": strong(plain(summary["name"])) + f" ({summary['kind']})" + " synthetic" * summary["synthetic"],
        "rows": f"{summary['rows_read']:,} read: {summary['images']:,} kept, {n_rejects:,} rejected",
        "images": f"{summary['images_present']:,} present",
        "studies": f"{summary['studies']:,} of {summary['patients']:,} patients",
        "reports": f"{summary['distinct_reports']:,} distinct; {shared['texts']:,} texts are shared by "
        f"{shared['studies']:,} studies",
        "words": ", ".join(f"{name} {_cell(value)}" for name, value in words.items()),
        "greys": _greys(summary["seen"]),
        "views": ", ".join(f"{name} {count:,}" for name, count in summary["views"].items()),
        "ages": " to ".join(f"{age:g}" for age in summary["age"].values()) or "-",
        "without": ", ".join(f"{name} {count:,}" for name, count in summary["missing"].items()),
        "rejects": ", ".join(f"{name} {count:,}" for name, count in summary["rejects"].items()) or "none",
        "read as": ", ".join(f"{name} {_cell(value)}" for name, value in summary["options"].items()),
        "labels": labels_line(summary["labels_from"]),
    }
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, line in lines.items():
        facts.add_row(name, line)
    say(facts)
    as_read(summary)
    splits = Table("split", "images", "studies", "patients", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, counts in summary["splits"].items():
        splits.add_row(name, *(f"{counts[unit]:,}" for unit in ("images", "studies", "patients")))
    say(splits)
    labels = Table("label", *LABEL_STATES, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, counts in summary["labels"].items():
        labels.add_row(name, *(f"{counts[state]:,}" for state in LABEL_STATES))
    say(labels)
    notes(summary["notes"])


def as_read(summary: dict[str, Any]) -> None:
    """What was understood: the columns of each table, and the first two records."""
    for name, columns in summary["columns"].items():
        taken = ", ".join(
            name if name == spelled else f"{name} ({spelled})" for name, spelled in columns["taken"].items()
        )
        left = ", ".join(column or "(no name)" for column in columns["left"][:40])
        say(f"Columns of {plain(name)}: {plain(taken)}." + (f" Left alone: {plain(left)}." if left else ""))
    if not summary["first"]:
        return
    table = Table("first records", "", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for field in summary["first"][0]:
        values = (record[field] for record in summary["first"])
        shown = [
            ", ".join(f"{k} {v}" for k, v in one.items()) if isinstance(one, dict) else _cell(one) for one in values
        ]
        table.add_row(field, *(cell or "-" for cell in shown))
    say(table)


def notes(sentences: Sequence[str]) -> None:
    """What is unusual, a line each."""
    for sentence in sentences:
        say(f"Note: {plain(sentence)}.")


def _greys(seen: dict[str, Any]) -> str:
    """The range of grey of images that were opened."""
    if not seen:
        return "not looked at"
    names = {"p1": "darkest 1%", "median": "median", "p99": "brightest 1%"}
    return (
        "; ".join(
            f"{name} {spread['min']:.0%} to {spread['max']:.0%}, mostly {spread['median']:.0%}"
            for name, spread in ((names[key], spread) for key, spread in seen["greys"].items())
        )
        + " of white"
    )


def labels(content: dict[str, Any]) -> None:
    """What `linkage labels` read: counts by finding, and how they agree with own labels where there are some."""
    read = Table("finding", *LABEL_STATES, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, counts in content["labels"].items():
        read.add_row(name, *(f"{counts[state]:,}" for state in LABEL_STATES))
    n = content["studies"]
    say(strong(plain(content["name"])) + f": {n['read']:,} reports read by rules {content['rules']}, studies each")
    say(read)
    if n["not_english"] or n["no_text"]:
        say(f"Left out: {n['not_english']:,} reports that are not English, {n['no_text']:,} studies without text.")
    rows = [row for row in content["agreement"] if row["value"] == "positive"]
    if rows:
        table = Table(
            *("positive", "own", "read", "precision", "95% interval", "recall", "95% interval", ""),
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for row in rows:
            shares = (_share(row, measure) for measure in ("precision", "recall"))
            table.add_row(
                row["label"], f"{row['own']:,}", f"{row['read']:,}", *(c for pair in shares for c in pair), row["flag"]
            )
        say(table)
        say(
            "Against own labels, over studies that have any; those whose own label is uncertain are left out of that "
            "row, and what a source does not mention counts as not positive."
        )
    for name, examples in content.get("examples", {}).items():
        for value, sentence in examples.items():
            say(plain(f"{name}, {value}: {sentence}"), soft_wrap=True)


def identifiers(summary: dict[str, Any]) -> None:
    """What `linkage identifiers` found: a row a kind, and what was not looked for."""
    from linkage_core.cohorts.identifiers import words

    synthetic = ", synthetic" * summary["synthetic"]
    looked = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in summary["looked"].items())
    say(strong(plain(summary["name"])) + f"{synthetic}, looked at: {looked}", soft_wrap=True)
    table = Table("kind", "found", "filled in", "attributes", "found in, for example", box=box.SIMPLE_HEAD)
    for kind, counts in summary["kinds"].items():
        of_kind = words.attributes_of(summary, kind)
        first = ", ".join(summary["first"].get(kind, ()))
        table.add_row(kind, f"{counts['found']:,}", f"{counts['filled in']:,}", of_kind, plain(first))
    say(table)
    for line in words.lines(summary):
        say(plain(line), soft_wrap=True)


def _share(row: dict[str, Any], measure: str) -> tuple[str, str]:
    value, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
    return "-" if value is None else f"{value:.3f}", "-" if low is None else f"{low:.3f} to {high:.3f}"


def rejects(rejects: pd.DataFrame, most: int = 200) -> None:
    """What was left out, and why; nothing if nothing was."""
    if rejects.empty:
        return
    table = Table("item", "reason", "what", "remedy", title=f"{len(rejects):,} rejected", title_justify="left")
    for row in rejects.head(most).itertuples(index=False):
        table.add_row(*(plain(str(cell)) for cell in row))
    say(table)
    if len(rejects) > most:
        say(f"... and {len(rejects) - most:,} more.")


def audit(result: dict[str, Any], studies: Sequence[Study]) -> None:
    """The table of `linkage audit`."""
    first = studies[0]
    synthetic = " (synthetic)" if first.entry.synthetic else ""
    table = Table(
        *("model", "N", "k", "Recall@k", "95% interval", "chance", "lift", "MRR", "median rank", "n", "left out"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{first.cohort}{synthetic}, head {first.head}, {first.direction}, pool: {first.pool}, {first.split}",
        title_justify="left",
    )
    for row in result["rows"]:
        interval = "-" if row["recall_low"] is None else f"{row['recall_low']:.2%} to {row['recall_high']:.2%}"
        rank = "-" if row["median_rank"] is None else f"{row['median_rank']:,.1f}"
        size = row["pool_size"] if row["pool_size"] == "full" else f"{row['pool_size']:,}"
        table.add_row(
            *(row["model"], size, str(row["k"]), f"{row['recall']:.2%}", interval, f"{row['chance']:.3%}"),
            *(f"{row['lift']:.1f}", f"{row['mrr']:.4f}", rank, f"{row['n_queries']:,}"),
            f"{row['n_excluded']:,}",
        )
    say(table)
    for caution in dict.fromkeys(one.entry.caution for one in studies if one.entry.caution):
        say(plain(caution))
    for one in studies:
        if one.hard_negatives:
            say(*_label_matched(one.model, result["provenance"][f"{one.cohort}/{one.model}"]))
    if first.sampled:
        say(f"Sampled: {first.sampled}.", highlight=False)
        say("Intervals over patients hold what the draw adds. It measures cosine similarity alone.")
        return
    say(
        f"Exact over random pools; {first.n_candidates:,} candidates; intervals over patients. "
        "It measures cosine similarity alone: another attacker may do better.",
    )


def splits(entry: Entry) -> None:
    """Who is in which split of a cohort that was embedded, what for, and what cannot be done for want of somebody."""
    if entry.default_split != "all":
        return
    patients = entry.records().groupby("split")["patient_id"].nunique()
    counts = ", ".join(f"{name} {patients.get(name, 0):,}" for name in SPLITS)
    say(
        f"Patients by split: {counts}. An audit of the model as it is asks about all; heads are trained on the first, "
        "attackers learn from the second, and both are tested on the third.",
        highlight=False,
    )
    if problem := why_untested(entry):
        say(plain(f"Heads and attackers cannot be tested here. {problem.what} {problem.remedy}"))


PRINTED = {
    "models_compared": "model_a model_b pool_size k recall_a recall_b difference low high p_holm p_mcnemar n_queries "
    "flag",
    "label_matched_auc": "model pool estimate low high n n_excluded n_patients flag",
    "strata_sizes": "pool n_strata size_median size_max n_queries n_alone median_eligible",
    "strata_left_out": "pool pool_size n_queries n_excluded share_left_out",
    "strata_balance": "pool attribute measure match decoys others effect effect_low effect_high flag",
    "open_world_operating": "model rule pool_size prior wanted_precision linked_rightly low high precision no_answer "
    "baseline note",
    "exposure_tail": "model pool_size n n_tail tail tail_low tail_high middle middle_low middle_high note",
    "exposure_associations": "model pool_size attribute group against mean mean_against difference low high p_holm "
    "note",
    "exposure_groups": "model pool_size by group linked low high chance n_images n_patients note",
    "fusion": "model direction images_by reports_by hit pool_size k recall recall_low recall_high chance lift "
    "n_queries flag",
    "ceilings": "model unit knows pool_size k ceiling ceiling_low ceiling_high chance shared n_queries flag",
    "sites": "model query_cohort gallery_cohort pool_size k recall recall_low recall_high chance lift n_queries flag",
}
"""Columns of an audit's tables that fit a terminal; --json and --full have them all."""


def audit_tables(tables: Mapping[str, pd.DataFrame], left_out: Mapping[str, str]) -> None:
    """The further tables of `linkage audit`, and what could not be made."""
    from linkage_core.audit.full import TABLES

    for name, columns in PRINTED.items():
        if name not in tables:
            continue
        shown = tables[name].reindex(columns=[one for one in columns.split() if one in tables[name] or one != "model"])
        said = next((c for c in ("flag", "note") if c in shown), None)
        notes = [] if said is None else [note for note in shown[said].unique() if note]
        if said and not notes:
            shown = shown.drop(columns=said)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=TABLES[name], title_justify="left")
        for column in shown.columns:
            table.add_column(column, no_wrap=column.startswith("model"))
        for row in shown.itertuples(index=False):
            table.add_row(*(f"({notes.index(one) + 1})" if one in notes else _figure(one) for one in row))
        say(table)
        for i, note in enumerate(notes, start=1):
            say(f"({i}) {plain(note)}")
    for name, why in left_out.items():
        say(f"Left out, {plain(name)}: {plain(why)}")


def _figure(value: Any) -> str:
    """A cell: three figures of a number that is no count."""
    if isinstance(value, str) and not value:
        return ""
    if value is None or value != value:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) and value != int(value) else _cell(value)


def _label_matched(model: str, provenance: dict[str, Any]) -> list[Any]:
    auc = provenance["label_matched_auc"]
    interval = "" if auc["low"] is None else f" ({auc['low']:.3f} to {auc['high']:.3f})"
    n_queries = auc["n"] + auc["n_excluded"]
    lines: list[Any] = [
        f"{model}: label-matched AUC {auc['estimate']:.3f}{interval}, 0.5 if it sees the findings alone;",
        f"n = {auc['n']:,} images of {auc['n_patients']:,} patients.",
        f"{auc['n_excluded']:,} of {n_queries:,} images ({auc['n_excluded'] / n_queries:.1%}) have no decoy.",
    ]
    if auc["n_without_labels"]:
        lines.append(f"{auc['n_without_labels']:,} images have no label at all; their decoys have none either.")
    lines.append(f"Labels: {plain(provenance['labels'])}.")
    if auc["flag"]:
        lines.append(strong(f"{auc['flag'].capitalize()}."))
    return lines


def attack(content: dict[str, Any], entry: Entry) -> None:
    """What `linkage attack` found: every attacker, the worst one before and after, the ceiling."""
    from linkage_core.attacks.attackers import ATTACKERS

    synthetic = entry.synthetic
    first = content["rows"][0]
    in_archives = first["game"] == "archive"
    table = Table(
        *("attacker", "m", "N", "k", "Recall@k", "95% interval", "chance", "lift", *["by itself"] * in_archives, "how"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{first['cohort']}/{first['model']}{' (synthetic)' * synthetic}, head {first['head']}, "
        f"release: {first['release']}, n = {first['n_queries']:,} images\n"
        f"game: {content['provenance']['game']}; known of the candidates: {content['provenance']['knows']}",
        title_justify="left",
    )
    for row in content["rows"]:
        how = (
            [f"{row['alone']:.2%}", plain(f"{row['way']}; {row['chosen']}")] if in_archives else [plain(row["chosen"])]
        )
        table.add_row(row["attacker"], row["m"], *_recall(row), *how)
    say(table)
    worst = Table(
        *("worst attacker", "", "m", "N", "k", "Recall@k", "95% interval", "chance", "lift"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in content["worst"]:
        worst.add_row(row["when"], row["attacker"], row["m"], *_recall(row))
    say(worst)
    for row in content["ceiling"]:
        size = row["pool_size"] if row["pool_size"] == "full" else f"{row['pool_size']:,}"
        error = f", simulation error {row['error']:.2%}" if row["error"] else ", exact"
        say(f"No attacker at all passes {row['ceiling']:.2%} at N={size}, k={row['k']}{error}.")
    chosen = (
        "The worst is chosen in the smallest archives, one attacker for all N. By itself: each image of the same "
        "archives alone. "
        if in_archives
        else "The worst is chosen on half of the patients and scored on the other. "
    )
    say(chosen + "Measured with the attackers listed; a better one may do better.")
    for name in content["provenance"]["attackers"]:
        if ATTACKERS[name].unpaired:
            say(plain(f"The {name} {ATTACKERS[name].in_plain_words}."))
    if entry.caution:
        say(plain(entry.caution))


def _recall(row: dict[str, Any]) -> list[str]:
    size = row["pool_size"] if row["pool_size"] == "full" else f"{row['pool_size']:,}"
    interval = "-" if row["recall_low"] is None else f"{row['recall_low']:.2%} to {row['recall_high']:.2%}"
    return [size, str(row["k"]), f"{row['recall']:.2%}", interval, f"{row['chance']:.3%}", f"{row['lift']:.1f}"]


def utility(content: dict[str, Any], synthetic: bool) -> None:
    """What `linkage utility` found: AUROC before and after."""
    first = content["rows"][0]
    compared = ("AUROC",) if first["head"] == "off-the-shelf" else ("before", "after", "difference")
    table = Table(
        *("measure", "finding", *compared, "n", "positive", "patients", ""),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{first['cohort']}/{first['model']}{' (synthetic)' * synthetic}, head {first['head']}: AUROC",
        title_justify="left",
    )
    for row in content["rows"]:
        figures = []
        for name in ("before", "after", "difference"):
            value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
            sign = "+" if name == "difference" else ""
            interval = "" if low is None else f" ({low:{sign}.3f}{' to ' if sign else '-'}{high:{sign}.3f})"
            figures.append("-" if value is None else f"{value:{sign}.3f}{interval}")
        counts = (f"{row[name]:,}" if row[name] else "-" for name in ("n", "n_positive", "n_patients"))
        table.add_row(
            row["measure"],
            plain(row["label"]) + " *" * row["declared"],
            *figures[: len(compared)],
            *counts,
            plain(row["flag"]),
        )
    say(table)
    if any(row["declared"] for row in content["rows"]):
        say("* declared: a finding that the head was made to keep.")
    say(
        "95% intervals over patients, paired; patients: those of the rarer class. The probe was trained on other "
        f"patients; a finding not mentioned is {content['provenance']['missing']}. "
        f"Labels: {plain(content['provenance']['labels'])}."
    )


def doctor(found: dict[str, Any]) -> None:
    """What this machine has: `found` is doctor.examine's. What is missing comes with its remedy."""
    system, cpu, memory, gpu = found["system"], found["cpu"], found["memory"], found["gpu"]
    versions = {package["name"]: package["version"] for package in found["packages"]}
    absent = [name for name, version in versions.items() if version is None]
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("system", f"Python {system['python']}, {system['platform']}")
    facts.add_row("processor", f"{cpu['usable']} of {cpu['cores']} cores, {cpu['machine']}")
    facts.add_row("memory", f"{_size(memory['available'])} of {_size(memory['total'])} free")
    facts.add_row("disk", f"{_size(found['disk']['free'])} free at {plain(str(found['disk']['path']))}")
    facts.add_row(
        "GPU", _cell(gpu["cuda"] or ("Apple GPU" if gpu["mps"] else "none: everything runs on the processor"))
    )
    facts.add_row("FAISS", f"{found['faiss']['kind']} {found['faiss']['version']}")
    facts.add_row("compiled", "yes (numba)" if found["numba"]["usable"] else "no: exact counts run in numpy, slower")
    facts.add_row("browser", found["browser"]["path"] or "none: the browser tests need Chromium")
    facts.add_row("packages", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    facts.add_row("not installed", ", ".join(absent) or "-")
    missing = [row["name"] for row in found["dicom"] if not row["present"]]
    facts.add_row("DICOM", "all known syntaxes" if not missing else f"cannot read {', '.join(missing)}")
    facts.add_row("connections", "none, except for `linkage pull`")
    say(facts)
    models = Table("model", "here", "family", "size", "revision", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in found["models"]:
        size = _size(row["size"]) if row["size"] else "-"
        models.add_row(row["name"], _cell(row["present"]), row["family"], size, (row["revision"] or "-")[:12])
    say(models)
    entries = Table("store", "size", "readable", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in found["store"]["entries"]:
        entries.add_row(f"{row['cohort']}/{row['model']}", _size(row["size"]), _cell(row["readable"]))
    say(entries if found["store"]["entries"] else f"The store {found['store']['root']} is empty.")
    for line in _remedies(found):
        say(plain(line))


def _remedies(found: Any) -> list[str]:
    """Every remedy in what the doctor found, with the name it belongs to."""
    if isinstance(found, list):
        return [line for one in found for line in _remedies(one)]
    if not isinstance(found, dict):
        return []
    own = [f"{found.get('name', 'Note')}: {found['remedy']}"] if found.get("remedy") else []
    return own + [line for value in found.values() for line in _remedies(value)]


def _size(n_bytes: float | None) -> str:
    """Bytes in the unit a person reads."""
    if n_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            return f"{n_bytes:,.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return "-"
