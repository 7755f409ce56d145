"""`linkage labels`: the 14 findings read from reports, and how well that agrees with labels that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage_core.cli.options import (
    JsonOption,
    QuietOption,
    RootArgument,
    SectionOption,
    StoreOption,
    speaks,
    store_at,
    write_json,
)
from linkage_core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".gz", ".parquet", ".pq")


def labels(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A table with a column report (CSV, Parquet), a cohort of the store whose text is at hand, or one of: "
            "{linkage_core.cohorts.registry.KINDS}.",
        ),
    ],
    root: RootArgument = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write ids and the 14 labels to this CSV.")] = None,
    examples: Annotated[
        bool, typer.Option("--examples", help="Print a sentence for each finding and value. They are patients' data.")
    ] = False,
    section: SectionOption = "both",
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Read the 14 findings from English reports by rules: 1, 0, -1 (uncertain) or nothing; and check them.

    Where the reports have labels of their own, precision and recall by finding are printed. The rules are one table,
    see docs/labels.md. To use what was read: --labels from-text of cohort, embed and import.

    For example:
        linkage labels reports.csv --out labels.csv
        linkage labels openi my-openi
    """
    from linkage_core import disk, tables
    from linkage_core.cohorts.base import LABELS
    from linkage_core.cohorts.labels import agreement, rules
    from linkage_core.cohorts.labels.cohort import read_labels
    from linkage_core.cohorts.summary import label_counts

    name, records = _records(what, root, section, store)
    studies = records.drop_duplicates("study_id")
    found, read = read_labels(studies, name)
    words = studies["report"].str.contains(r"\w")
    content: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "rules": rules.version(),
        "studies": {
            "read": int(read.sum()),
            "not_english": int((words & ~read).sum()),
            "no_text": int((~words).sum()),
        },
        "labels": {label: label_counts(found[label][read]) for label in LABELS},
        "agreement": [],
    }
    own = studies[list(LABELS)]
    both = read & own.notna().any(axis=1)
    if both.any():
        rows = agreement.agreement(own[both], found[both], studies["patient_id"][both].to_numpy(str))
        content["agreement"] = tables.rows(rows)
    if examples:
        content["examples"] = _examples(studies["report"][read])
    if out:
        ids = records[["record_id", "study_id"]]
        by_study = found.set_axis(studies["study_id"]).reindex(records["study_id"]).set_axis(records.index)
        whether = read.set_axis(studies["study_id"]).reindex(records["study_id"]).set_axis(records.index)
        disk.write_whole(out, tables.csv(ids.assign(read=whether.astype("int8")).join(by_study)))
    write_json(content, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli import printing

        printing.labels(content)


def _examples(reports: pd.Series) -> dict[str, dict[str, str]]:
    """finding -> value -> the first sentence that says so."""
    from linkage_core.cohorts.base import LABELS
    from linkage_core.cohorts.labels.reading import said

    names = {1.0: "positive", -1.0: "uncertain", 0.0: "negative"}
    found: dict[str, dict[str, str]] = {label: {} for label in LABELS}
    for report in reports.drop_duplicates():
        for sentence, label, value in said(report):
            found[label].setdefault(names[value], sentence)
    return {label: by_value for label, by_value in found.items() if by_value}


def _records(what: str, root: Path | None, section: str, store: Path | None) -> tuple[str, pd.DataFrame]:
    """(name, records): record_id, study_id, patient_id, report and the 14 labels, own or NaN."""
    from linkage_core.cohorts.registry import KINDS, PHANTOM_SITES, open_cohort

    if what in KINDS and (root is not None or what in PHANTOM_SITES):
        cohort = open_cohort(what, root, section=section)
        return cohort.name, cohort.records
    if root is not None:
        open_cohort(what, root)  # which says what kinds there are
    path = Path(what)
    if path.suffix.lower() in TABLES or path.is_file():
        return path.name, _table(path)
    return what, _stored(what, store)


def _table(path: Path) -> pd.DataFrame:
    """The records of a table with a report column; what it lacks of ids is its row's number."""
    import pandas as pd

    from linkage_core.cohorts import fields
    from linkage_core.cohorts.base import LABELS
    from linkage_core.cohorts.manifest import read_manifest

    cells = read_manifest(path)
    named = {str(column).lower().replace("_", " ").strip(): column for column in cells}
    if "report" not in named:
        raise InputError(
            f"{path} has no column 'report'; it has: {', '.join(map(str, cells.columns))}.",
            "Give a table with one report a row in a column named report.",
        )
    rows = pd.Series([f"row {at + 1}" for at in range(len(cells))], index=cells.index)
    records = pd.DataFrame({"report": cells[named["report"]]})
    for column, instead in (("record_id", rows), ("study_id", rows), ("patient_id", None)):
        given = cells[named[column.replace("_", " ")]].str.strip() if column.replace("_", " ") in named else None
        other = records["study_id"] if instead is None else instead
        records[column] = other if given is None else given.where(given != "", other)
    several = records.groupby("study_id")["report"].nunique()
    if (several > 1).any():
        raise InputError(
            f"{path}: study {several.idxmax()} has {several.max()} different reports.", "A study has one report."
        )
    for label in LABELS:
        values = cells[named[label.lower()]] if label.lower() in named else pd.Series("", index=cells.index)
        try:
            records[label] = values.map({value: fields.label(value) for value in values.unique()}).astype("float64")
        except ValueError as error:
            raise InputError(
                f"{path}: label {label!r} has the value {error}.", "Labels are 1, 0, -1 or empty."
            ) from error
    return records


def _stored(what: str, store: Path | None) -> pd.DataFrame:
    """The records of a cohort of the store with their texts, as far as they are at hand; labels own or NaN."""
    from linkage_core.cohorts.base import LABELS
    from linkage_core.cohorts.labels.cohort import FROM_TEXT
    from linkage_core.cohorts.registry import source_for

    where = store_at(store)
    cohort, _, model = what.partition("/")
    entry = where.open(cohort, model or where.required_models(cohort)[0])
    source = source_for(entry.manifest["cohort"], entry.stored_reports() or None)
    records = entry.records()
    keys = records.drop_duplicates("study_id")
    imported = entry.manifest["cohort"]["kind"] == "imported"  # whose keys may be of vectors, not of texts
    texts = {
        study: source.read_report(study, "" if imported else key) or ""
        for study, key in zip(keys["study_id"], keys["report_key"], strict=True)
    }
    if not any(texts.values()):
        raise InputError(
            f"The reports of {what} are not at hand: neither in the store nor where it was read from.",
            "Embed it with --store-text, or give the table or folder of the reports.",
        )
    records = records.assign(report=records["study_id"].map(texts))
    if FROM_TEXT in str(entry.labels_note()["source"]):
        records[list(LABELS)] = float("nan")  # what the rules read earlier is no label to check them by
    return records
