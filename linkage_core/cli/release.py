"""`linkage release`, `linkage receive` and `linkage ledger`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from linkage_core.cli.options import (
    AS_IT_IS,
    RANDOM,
    WHICH,
    JsonOption,
    QuietOption,
    StoreOption,
    TargetArgument,
    parts_of,
    progress_bars,
    speaks,
    store_at,
    target_parts,
    write_json,
)
from linkage_core.errors import InputError

LIMITS: dict[str, Any] = {"rich_help_panel": "How far it can be linked"}
SECRET: dict[str, Any] = {"rich_help_panel": "Secret and ledger"}
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The ledger; its key is FILE.key.")]


def write(
    target: TargetArgument,
    kind: Annotated[str, typer.Option("--kind", help="One of: {linkage_core.release.table.KINDS}.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder that is made; it must not exist.")],
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="Charged first; needed unless synthetic.")
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option("--limit", help="codes: K cells. capped: L, times better than guessing at most.", **LIMITS),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", help="statistics: of the query. capped: for each record besides L.", **LIMITS),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="statistics; default: 1e-6 or a tenth of 1/n, whichever is less.", **LIMITS),
    ] = None,
    public_size: Annotated[
        int | None,
        typer.Option(
            "--public-size",
            min=1,
            help="statistics: a number of patients that may be told. Default: how many are summed, rounded down to two "
            "digits (exact for synthetic cohorts).",
            **LIMITS,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Which records. Default: the cohort's own.", **WHICH)
    ] = None,
    head: Annotated[str, typer.Option("--head", help="Whose embeddings.", **WHICH)] = AS_IT_IS,
    secret: Annotated[
        Path | None,
        typer.Option("--secret", metavar="FILE", help="The site's secret for this cohort; it keys noise.", **SECRET),
    ] = None,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Make that secret: once for a cohort.", **SECRET)
    ] = False,
    unlimited: Annotated[
        bool,
        typer.Option(
            "--unlimited",
            help="Enter scores or clean embeddings in the ledger: no limit holds; later record releases of these "
            "patients will be refused.",
            **SECRET,
        ),
    ] = False,
    public: Annotated[
        str | None,
        typer.Option("--public", metavar="COHORT", help="Public cohort of the store, with labels.", **WHICH),
    ] = None,
    one_label: Annotated[
        bool,
        typer.Option("--one-label", help="The state of one random finding a record; doubles the limit.", **LIMITS),
    ] = False,
    findings: Annotated[
        str | None,
        typer.Option("--findings", help="For statistics, scores and --one-label. Default: all 14.", **WHICH),
    ] = None,
    least: Annotated[
        int | None,
        typer.Option("--least", help="codes: records of the smallest cell that leaves. Default: 5.", **LIMITS),
    ] = None,
    per_patient: Annotated[
        int | None,
        typer.Option("--per-patient", min=1, help="At most so many records of a patient: limits multiply.", **LIMITS),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option("--noise", metavar="SIGMA", help="embeddings: deviation in each coordinate.", **LIMITS),
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible", help="Noise that anybody can make again. Not private: synthetic data.", **RANDOM
        ),
    ] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Write a folder that may leave the site: data, a certificate of how well anybody can link it, a page about it.

    The kinds, with what each needs:
    {linkage_core.release.table.usages}

    For example:
        linkage release phantom/phantom-radiology --kind statistics --epsilon 1 --out my-release
        linkage release phantom/phantom-radiology --kind capped --limit 30 --per-patient 1 \\
          --secret site.secret --new-secret --out my-release
    """
    from dataclasses import asdict

    from linkage_core.release.make import Options, make

    where = store_at(store)
    entry = where.open(*target_parts(target))
    options = Options(
        kind=kind,
        limit=limit,
        epsilon=epsilon,
        delta=delta,
        public_size=public_size,
        split=split,
        head=head,
        findings=None if findings is None else tuple(parts_of(findings, "--findings")),
        public=None if public is None else where.open(public, entry.model),
        one_label=one_label,
        least=least,
        per_patient=per_patient,
        noise=noise,
        secret=secret,
        new_secret=new_secret,
        ledger=ledger,
        unlimited=unlimited,
        reproducible=reproducible,
    )
    with progress_bars(quiet or json_to == "-") as progress:
        made = make(entry, out, options, progress)
    charge = None if made.charge is None else _plain_entry(asdict(made.charge))
    content = {"schema": 1, "path": str(made.path), "certificate": made.certificate.content, "charge": charge}
    write_json(content, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say

        _certificate(made.certificate.content)
        if made.charge is not None:
            again = ", which stood there already: nothing more was charged" if made.charge.repeated else ""
            say(f"Ledger entry {made.charge.number}{again}.")
        say(plain(f"Written: {made.path}. Look at {made.path / 'release.html'}; check: linkage receive {out}"))


def receive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The release as it came.")],
    cohort: Annotated[
        str | None, typer.Option("--cohort", metavar="COHORT/MODEL", help="Your own embeddings, to train and test for.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Which of your records. Default: the cohort's own.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and bootstrap.", **RANDOM)] = 0,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Check a release: every file, every figure, nothing that travels along. Then see what it is worth to you.

    Without --cohort it checks alone. With it, a probe is trained from the release and tested on your own embeddings of
    the same model: AUROC of each finding with intervals.

    For example:
        linkage receive my-release --cohort phantom-site-b/phantom-radiology
    """
    from linkage_core.release.folder import check

    found = check(folder)
    rows: list[dict[str, Any]] = []
    caution = None
    if cohort is not None:
        from linkage_core import tables
        from linkage_core.release import receive as kit

        entry = store_at(store).open(*target_parts(cohort))
        rows, caution = tables.rows(kit.receive(folder, entry, split, seed=seed)), kit.caution(found, entry)
    write_json({"schema": 1, "certificate": found.content, "rows": rows, "caution": caution}, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say, strong

        say(strong("As certified") + ": files, columns and figures are what the certificate says.")
        _certificate(found.content)
        if rows:
            _worth(rows)
        if caution is not None:
            say(strong(plain(caution)))
        told = "Whether the site did what it says only the site can tell."
        if found.content["ledger"] is not None:
            told += " The site can confirm it: linkage ledger confirm LEDGER DIR."
        say(f"{told} Digest {found.digest}")


def ledger_create(
    file: FileArgument,
    target: TargetArgument,
    epsilon: Annotated[float, typer.Option("--epsilon", help="Budget of a patient for all statistics together.")],
    lift: Annotated[
        float, typer.Option("--lift", help="Budget of a patient for all records together: limits multiply.")
    ],
    delta: Annotated[float, typer.Option("--delta", help="Of that epsilon.")] = 1e-6,
    other_people: Annotated[
        bool,
        typer.Option(
            "--other-people",
            help="Ids that another cohort's ledger has too are other people's: you answer for that.",
            **SECRET,
        ),
    ] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Begin a ledger for all patients of a cohort, with the site's budget for each of them; it is never begun again.

    Refused where this store, or the folder of FILE, has a ledger of the cohort, or one that has some of its patients or
    images, whatever they are called there. What nobody can see: a second site begins anew, so does who deletes ledger,
    key and secret, and images that were altered or embedded by another model, of patients with other ids, count as new.

    For example:
        linkage ledger create site.ledger phantom/phantom-radiology --epsilon 1 --lift 1000
    """
    from linkage_core.release import known

    entry = store_at(store).open(*target_parts(target))
    made, noted = known.begin(entry, file, epsilon=epsilon, delta=delta, lift=lift, other_people=other_people)
    n_patients = entry.records("all")["patient_id"].nunique()
    budget = {"epsilon": made.epsilon, "delta": made.delta, "mu": made.mu, "lift": made.lift}
    write_json({"schema": 1, "ledger": str(file), "patients": n_patients, "budget": budget}, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say

        if not noted:
            say("The store cannot be written, so it will not notice a second ledger of this cohort.")
        say(
            plain(
                f"{file}: {n_patients:,} patients, each with epsilon {epsilon:g} (delta {delta:g}) for statistics "
                f"and a lift of {lift:g} for records. Keep {file} and {file}.key at the site, and back both up. Who "
                "deletes ledger, key and secret, or releases at a second site, begins anew, and nothing shows it."
            )
        )


def ledger_show(
    file: FileArgument,
    target: Annotated[
        str | None, typer.Option("--cohort", metavar="COHORT/MODEL", help="Say what its patients have left.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Of which records.")] = "all",
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """What was released, oldest first; with --cohort also what is left to the patient who has least.

    For example:
        linkage ledger show site.ledger --cohort phantom/phantom-radiology
    """
    from linkage_core.release.ledger import Ledger

    entry = None if target is None else store_at(store).open(*target_parts(target))
    book = Ledger.open(file, None if entry is None else entry.cohort)
    history = book.history()
    content: dict[str, Any] = {
        "schema": 1,
        "ledger": str(file),
        "budget": {"epsilon": book.epsilon, "delta": book.delta, "lift": book.lift},
        "entries": [_plain_entry(row) for row in history.astype(object).to_dict("records")],
        "left": None,
        "reached": None,
    }
    if entry is not None:
        spent = book.spent(entry.records(split)["patient_id"].unique())
        content["left"] = {"epsilon": spent.epsilon_left, "lift": spent.lift_left, "patients": len(spent.mu)}
        content["reached"] = spent.reached()
    write_json(content, json_to)
    if not speaks(quiet, json_to):
        return
    from rich import box
    from rich.table import Table

    from linkage_core.cli.console import plain, say

    names = ("entry", "time (UTC)", "release", "mu", "lift a record", "patients", "records", "digest")
    table = Table(*names, box=box.SIMPLE_HEAD)
    for row in content["entries"]:
        cost = ["-" if row[name] is None else f"{row[name]:.4g}" for name in ("mu", "lift")]
        cost[1] = "no limit" if row["unlimited"] else cost[1]
        table.add_row(
            *(str(row["number"]), plain(row["time"]), plain(row["mechanism"]), *cost),
            *(f"{row['n_patients']:,}", f"{row['n_records']:,}", plain(row["digest"][:8])),
        )
    say(table if len(history) else "Nothing was released.")
    say(f"Budget of a patient: epsilon {book.epsilon:g} (delta {book.delta:g}), lift {book.lift:g}.")
    if content["left"] is not None:
        say(
            f"Least left to any of {content['left']['patients']:,} patients: epsilon {content['left']['epsilon']:.3g}, "
            f"lift {content['left']['lift']:.4g}."
        )
        for row in content["reached"]:
            say(
                f"By all that left, of the patient with most, N = {row['n']:,}: at most {row['paired']:.3%} for who "
                f"knows the other patients, {row['unpaired']:.3%} for who holds images and reports unpaired."
            )


def ledger_add(
    file: FileArgument,
    target: TargetArgument,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Append the patients of the same cohort whom the ledger does not know, each with the budget of all others.

    For patients who came after it was begun. Nobody is ever removed, and no budget begins anew: a patient who only got
    another id is known by the images, and releases of them are refused.

    For example:
        linkage ledger add site.ledger phantom/phantom-radiology
    """
    from linkage_core.release.ledger import Ledger

    book = Ledger.open(file)
    entry = store_at(store).open(*target_parts(target))
    made = book.add(entry.cohort, entry.records("all")["patient_id"].unique())
    added = 0 if made is None else made.n_patients
    write_json({"schema": 1, "ledger": str(file), "added": added}, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say

        said = f"{added:,} patients added, entry {made.number}." if made else "it knows all patients of this cohort."
        say(plain(f"{file}: {said}"))


def ledger_verify(
    file: FileArgument,
    release: Annotated[
        list[Path] | None,
        typer.Option("--release", metavar="DIR", help="A release that left: does the ledger hold it? May be repeated."),
    ] = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Hash every entry again. Exit code 2 where the book is not what was entered.

    An older copy of a ledger that was put back is whole in itself: only a release that it does not hold shows it. Keep
    the certificates of what left, and name their folders with --release. A ledger that was deleted with its key and the
    secret shows nowhere.

    For example:
        linkage ledger verify site.ledger --release my-release
    """
    from linkage_core.release.ledger import Ledger
    from linkage_core.release.make import confirm

    book = Ledger.open(file)
    found = book.verify()
    if not found:
        found = [one for path in release or [] for one in confirm(book, path)]
    write_json({"schema": 1, "ledger": str(file), "differences": found}, json_to)
    if found:
        raise InputError(f"{file}: {' '.join(found)}", "Restore it from a backup, and ask who had access.")
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say

        held = f", {len(release):,} releases among them" if release else ""
        say(plain(f"{file}: as entered, {len(book.history()):,} entries{held}."))


def ledger_confirm(
    file: FileArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A release folder, as it came back or was kept.")],
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Is this folder what the ledger holds? Its entry, the sha256 of its data, mechanism and cost are compared.

    Exit code 2 where not, naming what differs: a folder that was altered or certified elsewhere, another ledger, or an
    older copy of this one.

    For example:
        linkage ledger confirm site.ledger my-release
    """
    from linkage_core.release.ledger import Ledger
    from linkage_core.release.make import confirm

    book = Ledger.open(file)
    found = book.verify() or confirm(book, folder)
    write_json({"schema": 1, "ledger": str(file), "release": str(folder), "differences": found}, json_to)
    if found:
        raise InputError(" ".join(found), "This ledger does not stand for this folder.")
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say

        say(plain(f"{folder}: data, mechanism and cost are those that {file} holds."))


def _plain_entry(row: Mapping[Any, Any]) -> dict[str, Any]:
    """An entry of the ledger for JSON, which has no infinity: a lift without limit is null, and `unlimited` says so."""
    import math

    from linkage_core import tables

    return {**{name: tables.null(one) for name, one in row.items()}, "unlimited": row["lift"] == math.inf}


def _certificate(content: dict[str, Any]) -> None:
    """The sentences and the table of a certificate."""
    from rich import box
    from rich.table import Table

    from linkage_core.cli.console import plain, say, strong
    from linkage_core.release.certificate import shown

    say(strong(plain(content["sentences"][0])))
    for one in content["sentences"][1:]:
        say(plain(one))
    rows = content["certified"]
    if rows[0]["alone"] is None:
        return
    table = Table("right at most", *(f"N = {row['n']:,}" for row in rows), box=box.SIMPLE_HEAD)
    for name, words in {"guessing": "guessing", **shown(content)}.items():
        table.add_row(words, *("no limit" if row[name] >= 1 else f"{row[name]:.3%}" for row in rows))
    say(table)


def _worth(rows: list[dict[str, Any]]) -> None:
    """What the recipient's probe is worth: one line a row, the columns as the kit gives them."""
    from rich import box
    from rich.table import Table

    from linkage_core.cli.console import plain, say

    names = [name for name in rows[0] if not isinstance(rows[0][name], dict | list)]
    table = Table(*(name.replace("_", " ") for name in names), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(f"{row[n]:.3f}" if isinstance(row[n], float) else plain(str(row[n])) for n in names))
    say(table)
