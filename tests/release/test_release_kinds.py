"""The table of release kinds: what each certifies, word for word; and that a kind is a file of functions and a row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.drawing.words import OF_RELEASES
from helpers.command import linkage
from helpers.lab_store import MODEL as LAB_MODEL
from helpers.lab_store import build as build_lab
from helpers.release_store import MODEL, build
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.lab import frontier, frontier_build
from linkage_core.release import bounds, folder, limits, records, stated
from linkage_core.release.checks import ASK
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Column, Kind, Limit, Measured, Mechanism, Options
from linkage_core.release.ledger import Ledger
from linkage_core.release.make import confirm, make
from linkage_core.release.receive import receive
from linkage_core.release.records import Released, Source
from linkage_core.release.table import KINDS, by_name, kind_of
from linkage_core.store.entry import Entry, Store
from linkage_core.utility.probe import Probe, train_probe

KEPT = Path(__file__).with_name("release_certificates.json")
FEW = LABELS[2:5]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(build(tmp_path_factory.mktemp("store") / "s"))


@pytest.fixture(scope="module")
def toy(store: Store) -> Entry:
    return store.open("toy", MODEL)


# --------------------------------------------------------------------------------------------------- what is certified


def without_hashes(value: Any) -> Any:
    """The same without versions and sizes, and with a word for each hash: those follow noise and the machine."""
    if isinstance(value, dict):
        return {name: without_hashes(one) for name, one in value.items() if name not in ("versions", "bytes")}
    if isinstance(value, list):
        return [without_hashes(one) for one in value]
    return "(hash)" if isinstance(value, str) and re.fullmatch("[0-9a-f]{16}|[0-9a-f]{64}", value) else value


def test_certificates_of_every_kind_are_what_they_were(store: Store, toy: Entry, tmp_path: Path) -> None:
    """Parts, figures and words, as they were written before kinds had files of their own."""
    public, secret = store.open("open", MODEL), tmp_path / "secret"
    Secret.create(secret, "toy")
    labelled = {"one_label": True, "findings": FEW, "per_patient": 1, "secret": secret}
    asked = {
        "statistics": Options("statistics", epsilon=1.0),
        "statistics-public": Options("statistics", epsilon=0.7, public=public),
        "statistics-repro": Options("statistics", epsilon=1.0, reproducible=True),
        "codes": Options("codes", limit=8, public=public, secret=secret),
        "codes-label-few": Options("codes", limit=8, public=public, **labelled),
        "capped": Options("capped", limit=9, secret=secret),
        "capped-eps-label-one": Options("capped", limit=30, epsilon=6.0, **labelled),
        "capped-repro": Options("capped", limit=9, reproducible=True, one_label=True),
        "scores": Options("scores", public=public, secret=secret),
        "embeddings": Options("embeddings", secret=secret),
        "embeddings-noise": Options("embeddings", noise=0.5, secret=secret),
    }
    made = {name: make(toy, tmp_path / name, options) for name, options in asked.items()}
    patients = toy.records("all")["patient_id"].unique()
    book = Ledger.create(tmp_path / "book", "toy", patients, epsilon=3.0, delta=1e-6, lift=1e30).path
    for i, before in enumerate((asked["capped"], asked["statistics"], asked["statistics-public"])):
        make(toy, tmp_path / f"before{i}", Options(**{**vars(before), "ledger": book}))
    noisy = Options("embeddings", noise=20.0, per_patient=1, secret=secret, ledger=book)
    made["ledger"] = make(toy, tmp_path / "ledger", noisy)
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert set(kept) == set(made)
    assert {certificate["kind"] for certificate in kept.values()} == set(KINDS)
    for name, one in made.items():
        assert stated.difference(without_hashes(one.certificate.content), kept[name]) is None, name


def test_pages_have_the_title_and_the_words_of_their_kind(store: Store, toy: Entry, tmp_path: Path) -> None:
    public, secret = store.open("open", MODEL), tmp_path / "secret"
    Secret.create(secret, "toy")
    for options, title, what in (
        (Options("statistics", epsilon=1.0), "Statistics over 150 patients", "noisy sums over patients"),
        (Options("codes", limit=8, public=public, secret=secret), "codes of a public codebook", "its cell"),
        (Options("capped", limit=9, secret=secret), "capped vectors", "a random unit vector near its embedding"),
        (Options("scores", public=public, secret=secret), "scores of findings", "its scores"),
        (Options("embeddings", secret=secret), "embeddings", "its embedding"),
        (Options("embeddings", noise=0.5, secret=secret), "embeddings with noise", "its embedding"),
    ):
        path = make(toy, tmp_path / f"{options.kind}{options.noise}", options).path
        page = (path / folder.PAGE).read_text()
        title = title if options.kind == "statistics" else f"300 records as {title}"
        assert f"<h1>{title}</h1>" in page
        begun = "" if options.kind == "statistics" else "one row a record: an opaque number and "
        assert f"<span class='note'>{begun}{what}</span>" in page
        words = KINDS[options.kind].words
        assert f"<p>{words[0].upper()}{words[1:]}.</p>" in page


# ----------------------------------------------------------------------------------------------------------- the table


def test_two_kinds_of_one_name_or_of_one_file_are_refused() -> None:
    with pytest.raises(ValueError, match="Two kinds of release are called 'codes'"):
        by_name([*KINDS.values(), KINDS["codes"]])
    twin = Kind(**{**vars(KINDS["codes"]), "name": "cells"})
    with pytest.raises(ValueError, match=r"of cells and of codes both write codebook\.safetensors"):
        by_name([*KINDS.values(), twin])


def test_an_unknown_kind_is_told_the_nearest_and_all_there_are(toy: Entry, tmp_path: Path) -> None:
    every = "It is one of: statistics, codes, capped, scores, embeddings"
    with pytest.raises(InputError, match=f"kind is 'embedding'. Did you mean 'embeddings'.*{every}"):
        kind_of("embedding")
    with pytest.raises(InputError, match=f"--kind is 'cap'.*{every}"):
        make(toy, tmp_path / "out", Options("cap"))


def test_every_kind_of_the_table_has_its_words_in_the_app() -> None:
    assert set(OF_RELEASES) == set(KINDS)
    for name, kind in KINDS.items():
        said = OF_RELEASES[name]
        assert all((said.what, said.limit, said.assumed)) == kind.always_limited, name


# ------------------------------------------------------------------------- a kind of one's own, for one test: sides


def side_of(rows: np.ndarray) -> np.ndarray:
    """(n,) which side of the public plane x_0 = 0: a code of two cells that needs no codebook."""
    return (rows[:, 0] > 0).astype(np.int32)


def directions(sides: np.ndarray, dimension: int) -> np.ndarray:
    return np.column_stack([2.0 * sides - 1, np.zeros((len(sides), dimension - 1))])


def as_sides(source: Source, options: Options, secret: Secret) -> Released:
    mechanism = {"name": "side of a plane", "dimension": source.embeddings.shape[1]}
    values = {"side": pa.array(side_of(source.embeddings))}
    return records.released(source, secret, mechanism, np.arange(source.n), values, f"sides {source.head_sha256}")


def sides_bounds(said: dict[str, Any]) -> limits.Bounds:
    cells, m = 2 * limits.labels(said), limits.most(said)
    return {
        "alone": lambda n: bounds.cells(cells, n),
        "together": lambda n: limits.power(cells, m, n) / n,
        **limits.with_before(said, float(cells), 0.0),
    }


def check_sides(path: Path, content: dict[str, Any], table: pa.Table) -> None:
    if not np.isin(table.column("side").to_numpy(), (0, 1)).all():
        raise StoreError(f"{path}: a side is neither 0 nor 1.", ASK)


def taught_by_sides(path: Path, mechanism: Mapping[str, Any], states: np.ndarray, seed: int) -> tuple[str, Probe]:
    sides = pq.read_table(path / records.TABLE).column("side").to_numpy()
    rows = directions(sides, int(mechanism["dimension"]))
    return "sides with one label each", train_probe(rows, states, np.arange(len(rows)), seed)


def measured_sides(entry: Entry, options: Options, seed: int) -> Measured:
    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return directions(side_of(rows), rows.shape[1])

    return Measured(Mechanism(vectors, 0.0, side_of, 2), "cells")


SIDES = Kind(
    name="sides",
    title="Sides",
    words="each record as a side of a public plane",
    usage="--secret FILE: each record as one bit.",
    heading=lambda content: f"{content['cohort']['n_records']:,} records as sides",
    takes=("one_label", "findings", "secret", "new_secret", "per_patient"),
    make=as_sides,
    column=Column("side", "its side", lambda mechanism: pa.int32()),
    parts=lambda mechanism: {"name": stated.one_of("side of a plane"), "dimension": stated.whole(2)},
    check=check_sides,
    limit=Limit(
        bounds=sides_bounds,
        assumptions=limits.of_records,
        lift=lambda mechanism: 2.0,
        at=lambda option, n: float(bounds.cells(2, n)),
    ),
    taught=taught_by_sides,
    measured=measured_sides,
)


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is in the table for the duration of a test."""
    monkeypatch.setitem(KINDS, SIDES.name, SIDES)


def test_a_kind_that_is_a_file_and_a_row_is_made_certified_and_received(
    sides: None, store: Store, toy: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, out = tmp_path / "secret", tmp_path / "out"
    asked = ["release", f"toy/{MODEL}", "--kind", "sides", "--secret", secret, "--out", out, "--store", store.root]
    assert linkage(*asked, "--one-label", "--new-secret", "--per-patient", 1) == 0
    assert "at most 4/N" in " ".join(capsys.readouterr().out.split()), "two sides, doubled by the label"
    content = folder.check(out).content
    assert (content["kind"], content["limit"], content["cohort"]["n_records"]) == ("sides", 4.0, 150)
    assert [row["alone"] for row in content["certified"]] == [4 / n for n in (100, 1_000, 10_000)]
    assert "<h1>150 records as sides</h1>" in (out / folder.PAGE).read_text()
    rows = receive(out, store.open("clinic", MODEL))
    assert set(rows["trained_on"]) == {"sides with one label each"}
    assert linkage("receive", out) == 0


def test_data_that_a_kind_s_own_check_refuses_are_not_written(
    toy: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Secret.create(tmp_path / "secret", "toy")

    def odd(source: Source, options: Options, secret: Secret) -> Released:
        made = as_sides(source, options, secret)
        twos = pa.array([2] * source.n, pa.int32())
        return replace(made, table=made.table.set_column(1, "side", twos))

    monkeypatch.setitem(KINDS, "sides", replace(SIDES, make=odd))
    with pytest.raises(StoreError, match="neither 0 nor 1"):
        make(toy, tmp_path / "out", Options("sides", secret=tmp_path / "secret"))
    assert not (tmp_path / "out").exists()


def test_a_kind_of_one_s_own_is_charged_as_the_others_are(sides: None, toy: Entry, tmp_path: Path) -> None:
    Secret.create(tmp_path / "secret", "toy")
    patients = toy.records("all")["patient_id"].unique()
    book = Ledger.create(tmp_path / "book", "toy", patients, epsilon=1.0, delta=1e-6, lift=100)
    asked = Options("sides", secret=tmp_path / "secret", ledger=book.path)
    made = make(toy, tmp_path / "out", asked)
    assert made.charge is not None
    assert (made.charge.mechanism, made.charge.lift) == ("sides", 2.0)
    assert confirm(book, made.path) == []
    again = make(toy, tmp_path / "again", asked)
    assert again.charge is not None
    assert again.charge.repeated
    with pytest.raises(InputError, match=r"--limit was given for a release of sides.*It goes with: codes, capped\."):
        make(toy, tmp_path / "limited", Options("sides", limit=3, secret=tmp_path / "secret"))
    with pytest.raises(InputError, match="--findings was given for a release of sides without labels"):
        make(toy, tmp_path / "unlabelled", Options("sides", findings=FEW, secret=tmp_path / "secret"))
    with pytest.raises(InputError, match="A release of sides needs the site's secret"):
        make(toy, tmp_path / "open", Options("sides"))


def test_help_lists_the_kinds_of_the_table_and_no_others(
    sides: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def help_of_release() -> str:
        assert linkage("release", "--help") == 0
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    said = help_of_release()
    for name, kind in KINDS.items():
        assert f"{name} {kind.usage}" in said
    assert "statistics, codes, capped, scores, embeddings, sides." in said
    monkeypatch.delitem(KINDS, "sides")
    said = help_of_release()
    assert "statistics, codes, capped, scores, embeddings." in said
    assert SIDES.usage not in said


def test_the_frontier_measures_and_limits_it(sides: None, tmp_path: Path) -> None:
    lab = Store(build_lab(tmp_path / "lab"))
    entry, public = lab.open("phantom", LAB_MODEL), lab.open("clinic", LAB_MODEL)
    grid = frontier_build.Grid(limits=(3,), seeds=(0,), noises=(0.5,))
    found = {one.option["option"]: one for one in frontier_build.released(entry, public, grid)}
    assert list(found)[-1] == "sides-seed0"
    one = found["sides-seed0"]
    rows = frontier_build.linked(entry, "sides", one.measured.mechanism)
    assert {row["attacker"] for row in rows} >= {"predictor", "reader", "worst"}
    alone = [row["recall"] * row["pool_size"] for row in rows if row["attacker"] != "worst"]
    assert max(alone) <= 2 + 1e-9
    option = {"limit": np.nan, "mu": np.nan, "epsilon": np.nan, "kind": "sides"}
    assert frontier.certified(option, 100) == 2.0
    assert frontier.jointly(option) is None
    assert frontier.labelled("sides")
