"""`linkage release`, `linkage receive` and `linkage ledger`, added to `linkage` by cli.py."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from typer.core import TyperCommand, TyperOption

from linkage_core import tables
from linkage_core.cli import options as cli_options
from linkage_core.cli.options import JsonOption, QuietOption, StoreOption
from linkage_core.cli.printing import output, plain
from linkage_core.errors import InputError
from linkage_core.store.entry import OFF_THE_SHELF

ledger_app = typer.Typer(
    help="The site's book of releases: what each patient's data were used for, and what is left of the budget.\n\n"
    "It is kept at the site, with the key beside it, and entries are only ever added.",
    no_args_is_help=True,
)
_TARGET = typer.Argument(metavar="COHORT/MODEL", help="Whose records.")
_FILE = typer.Argument(metavar="FILE", help="The ledger; its key is FILE.key.")


_KINDS = "(the kinds of release)"
"""Where the help of `linkage release` lists them."""


class _Listing(TyperCommand):
    """A command whose help lists the kinds of release: the table is read when help is asked for, and not before."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from linkage_core.release.table import KINDS

        lines = "\n\n".join(f"[bold]{name}[/bold] {plain(kind.usage)}" for name, kind in KINDS.items())
        self.help = inspect.cleandoc(release.__doc__ or "").replace(_KINDS, lines)
        *others, last = KINDS
        for option in self.params:
            if option.name == "kind" and isinstance(option, TyperOption):
                option.help = f"{', '.join(others)} or {last}."
        super().format_help(ctx, formatter)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(cls=_Listing)(release)
    app.command()(receive)
    ledger_app.command("create")(ledger_create)
    ledger_app.command("show")(ledger_show)
    ledger_app.command("add")(ledger_add)
    ledger_app.command("verify")(ledger_verify)
    ledger_app.command("confirm")(ledger_confirm)
    app.add_typer(ledger_app, name="ledger")


def release(
    target: Annotated[str, _TARGET],
    kind: Annotated[str, typer.Option("--kind", help=_KINDS)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder that is made; it must not exist.")],
    limit: Annotated[
        float | None, typer.Option("--limit", help="codes: K cells. capped: L, times better than guessing at most.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="statistics: of the query. capped: for each record besides L.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="statistics; default: 1e-6 or a tenth of 1/n, whichever is less.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Which records. Default: the cohort's own.")] = None,
    head: Annotated[str, typer.Option("--head", help="Whose embeddings.")] = OFF_THE_SHELF,
    secret: Annotated[
        Path | None, typer.Option("--secret", metavar="FILE", help="The site's secret for this cohort; it keys noise.")
    ] = None,
    new_secret: Annotated[bool, typer.Option("--new-secret", help="Make that secret: once for a cohort.")] = False,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="Charged first; needed unless synthetic.")
    ] = None,
    unlimited: Annotated[
        bool,
        typer.Option(
            "--unlimited",
            help="Enter scores or clean embeddings in the ledger: no limit holds; later record releases of these "
            "patients will be refused.",
        ),
    ] = False,
    public: Annotated[
        str | None, typer.Option("--public", metavar="COHORT", help="Public cohort of the store, with labels.")
    ] = None,
    one_label: Annotated[
        bool, typer.Option("--one-label", help="The state of one random finding a record; doubles the limit.")
    ] = False,
    findings: Annotated[
        str | None, typer.Option("--findings", help="For statistics, scores and --one-label. Default: all 14.")
    ] = None,
    least: Annotated[
        int | None, typer.Option("--least", help="codes: records of the smallest cell that leaves. Default: 5.")
    ] = None,
    per_patient: Annotated[
        int | None, typer.Option("--per-patient", min=1, help="At most so many records of a patient: limits multiply.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", metavar="SIGMA", help="embeddings: deviation in each coordinate.")
    ] = None,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Noise that anybody can make again. Not private: synthetic data.")
    ] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Write a folder that may leave the site: data, a certificate of how well anybody can link it, a page about it.

    (the kinds of release)

    For example: linkage release phantom/phantom-radiology --kind statistics --epsilon 1 --out DIR, or --kind capped
    --limit 30 --per-patient 1 --secret FILE --new-secret --out DIR
    """
    from linkage_core.release.make import Options, make

    where = cli_options.store_at(store)
    entry = where.open(*cli_options.target_parts(target))
    options = Options(
        kind=kind,
        limit=limit,
        epsilon=epsilon,
        delta=delta,
        split=split,
        head=head,
        findings=None if findings is None else tuple(cli_options.parts_of(findings, "--findings")),
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
    with cli_options.progress_bars(quiet or json_to == "-") as progress:
        made = make(entry, out, options, progress)
    charge = None if made.charge is None else _plain_entry(asdict(made.charge))
    content = {"schema": 1, "path": str(made.path), "certificate": made.certificate.content, "charge": charge}
    cli_options.write_json(content, json_to)
    if cli_options.speaks(quiet, json_to):
        _certificate(made.certificate.content)
        if made.charge is not None:
            again = ", which stood there already: nothing more was charged" if made.charge.repeated else ""
            output.print(f"Ledger entry {made.charge.number}{again}.")
        output.print(plain(f"Written: {made.path}. Look at {made.path / 'release.html'}; check: linkage receive {out}"))


def receive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The release as it came.")],
    cohort: Annotated[
        str | None, typer.Option("--cohort", metavar="COHORT/MODEL", help="Your own embeddings, to train and test for.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Which of your records. Default: the cohort's own.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and bootstrap.")] = 0,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Check a release: every file, every figure, nothing that travels along. Then see what it is worth to you.

    Without --cohort it checks alone. With it, a probe is trained from the release and tested on your own embeddings of
    the same model: AUROC of each finding with intervals.
    """
    from linkage_core.release.folder import check

    found = check(folder)
    rows: list[dict[str, Any]] = []
    caution = None
    if cohort is not None:
        from linkage_core.release import receive as kit

        entry = cli_options.store_at(store).open(*cli_options.target_parts(cohort))
        rows, caution = tables.rows(kit.receive(folder, entry, split, seed=seed)), kit.caution(found, entry)
    cli_options.write_json({"schema": 1, "certificate": found.content, "rows": rows, "caution": caution}, json_to)
    if cli_options.speaks(quiet, json_to):
        output.print("[bold]As certified[/bold]: files, columns and figures are what the certificate says.")
        _certificate(found.content)
        if rows:
            _worth(rows)
        if caution is not None:
            output.print(f"[bold]{plain(caution)}[/bold]")
        told = "Whether the site did what it says only the site can tell."
        if found.content["ledger"] is not None:
            told += " The site can confirm it: linkage ledger confirm LEDGER DIR."
        output.print(f"{told} Digest {found.digest}")


def ledger_create(
    file: Annotated[Path, _FILE],
    target: Annotated[str, _TARGET],
    epsilon: Annotated[float, typer.Option("--epsilon", help="Budget of a patient for all statistics together.")],
    lift: Annotated[
        float, typer.Option("--lift", help="Budget of a patient for all records together: limits multiply.")
    ],
    delta: Annotated[float, typer.Option("--delta", help="Of that epsilon.")] = 1e-6,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Begin a ledger for all patients of a cohort, with the site's budget for each of them; it is never begun again.

    For example: linkage ledger create site.ledger phantom/phantom-radiology --epsilon 1 --lift 1000
    """
    from linkage_core.release.ledger import Ledger

    entry = cli_options.store_at(store).open(*cli_options.target_parts(target))
    patients = entry.records("all")["patient_id"].unique()
    made = Ledger.create(file, entry.cohort, patients, epsilon=epsilon, delta=delta, lift=lift)
    budget = {"epsilon": made.epsilon, "delta": made.delta, "mu": made.mu, "lift": made.lift}
    cli_options.write_json({"schema": 1, "ledger": str(file), "patients": len(patients), "budget": budget}, json_to)
    if cli_options.speaks(quiet, json_to):
        output.print(
            plain(
                f"{file}: {len(patients):,} patients, each with epsilon {epsilon:g} (delta {delta:g}) for statistics "
                f"and a lift of {lift:g} for records. Keep {file} and {file}.key at the site, and back both up."
            )
        )


def ledger_show(
    file: Annotated[Path, _FILE],
    target: Annotated[
        str | None, typer.Option("--cohort", metavar="COHORT/MODEL", help="Say what its patients have left.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Of which records.")] = "all",
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """What was released, oldest first; with --cohort also what is left to the patient who has least."""
    from linkage_core.release.ledger import Ledger

    entry = None if target is None else cli_options.store_at(store).open(*cli_options.target_parts(target))
    book = Ledger.open(file, None if entry is None else entry.cohort)
    history = book.history()
    content: dict[str, Any] = {
        "schema": 1,
        "ledger": str(file),
        "budget": {"epsilon": book.epsilon, "delta": book.delta, "lift": book.lift},
        "entries": [_plain_entry(row) for row in history.astype(object).to_dict("records")],
        "left": None,
    }
    if entry is not None:
        spent = book.spent(entry.records(split)["patient_id"].unique())
        content["left"] = {"epsilon": spent.epsilon_left, "lift": spent.lift_left, "patients": len(spent.mu)}
    cli_options.write_json(content, json_to)
    if not cli_options.speaks(quiet, json_to):
        return
    names = ("entry", "time (UTC)", "release", "mu", "lift a record", "patients", "records", "digest")
    table = Table(*names, box=box.SIMPLE_HEAD)
    for row in content["entries"]:
        cost = ["-" if row[name] is None else f"{row[name]:.4g}" for name in ("mu", "lift")]
        cost[1] = "no limit" if row["unlimited"] else cost[1]
        table.add_row(
            *(str(row["number"]), plain(row["time"]), plain(row["mechanism"]), *cost),
            *(f"{row['n_patients']:,}", f"{row['n_records']:,}", plain(row["digest"][:8])),
        )
    output.print(table if len(history) else "Nothing was released.")
    output.print(f"Budget of a patient: epsilon {book.epsilon:g} (delta {book.delta:g}), lift {book.lift:g}.")
    if content["left"] is not None:
        output.print(
            f"Least left to any of {content['left']['patients']:,} patients: epsilon {content['left']['epsilon']:.3g}, "
            f"lift {content['left']['lift']:.4g}."
        )


def ledger_add(
    file: Annotated[Path, _FILE],
    target: Annotated[str, _TARGET],
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Append the patients of the same cohort whom the ledger does not know, each with the budget of all others.

    For patients who came after it was begun. Nobody is ever removed, and no budget begins anew.

    For example: linkage ledger add site.ledger phantom/phantom-radiology
    """
    from linkage_core.release.ledger import Ledger

    book = Ledger.open(file)
    entry = cli_options.store_at(store).open(*cli_options.target_parts(target))
    made = book.add(entry.cohort, entry.records("all")["patient_id"].unique())
    added = 0 if made is None else made.n_patients
    cli_options.write_json({"schema": 1, "ledger": str(file), "added": added}, json_to)
    if cli_options.speaks(quiet, json_to):
        said = f"{added:,} patients added, entry {made.number}." if made else "it knows all patients of this cohort."
        output.print(plain(f"{file}: {said}"))


def ledger_verify(
    file: Annotated[Path, _FILE],
    release: Annotated[
        list[Path] | None,
        typer.Option("--release", metavar="DIR", help="A release that left: does the ledger hold it? May be repeated."),
    ] = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Hash every entry again. Exit code 2 where the book is not what was entered.

    An older copy of a ledger that was put back is whole in itself: only a release that it does not hold shows it. Keep
    the certificates of what left, and name their folders with --release.
    """
    from linkage_core.release.ledger import Ledger
    from linkage_core.release.make import confirm

    book = Ledger.open(file)
    found = book.verify()
    if not found:
        found = [one for path in release or [] for one in confirm(book, path)]
    cli_options.write_json({"schema": 1, "ledger": str(file), "differences": found}, json_to)
    if found:
        raise InputError(f"{file}: {' '.join(found)}", "Restore it from a backup, and ask who had access.")
    if cli_options.speaks(quiet, json_to):
        held = f", {len(release):,} releases among them" if release else ""
        output.print(plain(f"{file}: as entered, {len(book.history()):,} entries{held}."))


def ledger_confirm(
    file: Annotated[Path, _FILE],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A release folder, as it came back or was kept.")],
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Is this folder what the ledger holds? Its entry, the sha256 of its data, mechanism and cost are compared.

    Exit code 2 where not, naming what differs: a folder that was altered or certified elsewhere, another ledger, or an
    older copy of this one.

    For example: linkage ledger confirm site.ledger DIR
    """
    from linkage_core.release.ledger import Ledger
    from linkage_core.release.make import confirm

    book = Ledger.open(file)
    found = book.verify() or confirm(book, folder)
    cli_options.write_json({"schema": 1, "ledger": str(file), "release": str(folder), "differences": found}, json_to)
    if found:
        raise InputError(" ".join(found), "This ledger does not stand for this folder.")
    if cli_options.speaks(quiet, json_to):
        output.print(plain(f"{folder}: data, mechanism and cost are those that {file} holds."))


def _plain_entry(row: Mapping[Any, Any]) -> dict[str, Any]:
    """An entry of the ledger for JSON, which has no infinity: a lift without limit is null, and `unlimited` says so."""
    return {**{name: tables.null(one) for name, one in row.items()}, "unlimited": row["lift"] == math.inf}


def _certificate(content: dict[str, Any]) -> None:
    """The sentences and the table of a certificate."""
    from linkage_core.release.table import kind_of

    output.print(f"[bold]{plain(content['sentences'][0])}[/bold]")
    for one in content["sentences"][1:]:
        output.print(plain(one))
    rows = content["certified"]
    if rows[0]["alone"] is None:
        return
    names = ["alone", *(["joint", "together"] if rows[0]["joint"] is not None else [])]
    names += ["with_before"] if rows[0]["with_before"] is not None else []
    words = {"alone": "one record", "joint": "the whole folder", "together": "all records of one patient"}
    words["with_before"] = "it with what left before"
    if not kind_of(content["kind"]).per_record:
        words["alone"] = "this file"
    table = Table("N", "guessing", *(f"at most, from {words[name]}" for name in names), box=box.SIMPLE_HEAD)
    for row in rows:
        figures = ("no limit" if row[name] >= 1 else f"{row[name]:.3%}" for name in names)
        table.add_row(f"{row['n']:,}", f"{row['guessing']:.3%}", *figures)
    output.print(table)


def _worth(rows: list[dict[str, Any]]) -> None:
    """What the recipient's probe is worth: one line a row, the columns as the kit gives them."""
    names = [name for name in rows[0] if not isinstance(rows[0][name], dict | list)]
    table = Table(*(name.replace("_", " ") for name in names), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(f"{row[n]:.3f}" if isinstance(row[n], float) else plain(str(row[n])) for n in names))
    output.print(table)
