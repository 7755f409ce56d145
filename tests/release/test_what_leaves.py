"""Every part of what leaves, made from two sites that differ by one patient: what is the same, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers.release_store import MODEL, build
from helpers.shared import Built
from linkage_core.errors import InputError
from linkage_core.mitigation import accounting
from linkage_core.release import folder, known, records
from linkage_core.release.kinds import statistics
from linkage_core.release.ledger import Ledger
from linkage_core.release.make import Options, make
from linkage_core.release.records import Source
from linkage_core.release.table import KINDS
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import read_tensors

PAYLOAD = {"label", "second"}
"""Tensors of a file of statistics that carry noise."""
HASHES = {"digest", "ledger.digest", "files.release.html.sha256", "files.release.html.bytes"}
"""They follow from the payload, or are keyed by the ledger; the page shows the digest of the data."""
_OF_RECORDS = {
    *("cohort.n_records", "cohort.most_records_of_a_patient", "certified", "sentences", "holds_for"),
}
DECLARED = {
    **dict.fromkeys(KINDS, _OF_RECORDS),
    "statistics": set[str](),
}
"""What a certificate tells of records: how many there are shows in their table, and limits follow from how many a
patient has. Their limit is on linkage, and promises nothing about who is among them. Listed in docs/release.md."""


@pytest.fixture(scope="module")
def store(built: Built) -> Store:
    return Store(built(build))


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(where, what) of every leaf."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from flat(one, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def without(source: Source, patients: list[str]) -> Source:
    kept = np.flatnonzero(~np.isin(source.patients, patients))
    return replace(
        source,
        records=source.records.iloc[kept].reset_index(drop=True),
        embeddings=source.embeddings[kept],
        images=[source.images[i] for i in kept],
    )


def neighbours(entry: Entry) -> list[Source]:
    """118 and 119 of 120 patients who are not synthetic."""
    whole = records.gather(entry)
    names = sorted(set(whole.patients))
    return [without(whole, names[:2]), without(whole, names[:1])]


def released(
    kind: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **given: Any
) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, certificate) of both neighbours, with one secret and a ledger each."""
    clinic, made = store.open("clinic", MODEL), []
    patients = clinic.records("all")["patient_id"].unique()
    asked = {
        "statistics": Options("statistics", epsilon=1.0, public=store.open("open", MODEL)),
        "codes": Options("codes", limit=8, public=store.open("open", MODEL)),
        "capped": Options("capped", limit=9),
        "scores": Options("scores", public=store.open("open", MODEL), unlimited=True),
        "embeddings": Options("embeddings", unlimited=True),
    }[kind]
    asked = replace(asked, **given)
    for i, source in enumerate(neighbours(clinic)):
        monkeypatch.setattr(records, "gather", lambda *a, source=source: source)
        (store.root / known.LIST).unlink(missing_ok=True)  # two sites
        site = tmp_path / str(i)
        site.mkdir(exist_ok=True)
        book = Ledger.create(site / "book", "clinic", patients, epsilon=2.0, delta=1e-6, lift=1e30)
        options = replace(asked, ledger=book.path)
        if KINDS[kind].per_record:
            options = replace(options, secret=site / "secret", new_secret=True)
        path = make(clinic, site / "out", options).path
        made.append((path, json.loads((path / folder.CERTIFICATE).read_text())))
    return made


def differing(made: list[tuple[Path, dict[str, Any]]]) -> set[str]:
    """Where the two certificates differ, by their leaves."""
    less, more = (dict(flat(content)) for _, content in made)
    assert set(less) == set(more)
    return {where for where in less if less[where] != more[where]}


@pytest.mark.parametrize("kind", KINDS)
def test_one_patient_more_shows_nowhere_but_where_it_is_listed(
    kind: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = released(kind, store, tmp_path, monkeypatch)
    data = {f"files.{name}.{part}" for name in KINDS[kind].data_files for part in ("sha256", "bytes")}
    ours = {"secret"} if KINDS[kind].per_record else set()
    assert differing(made) <= HASHES | DECLARED[kind] | data | ours
    if kind == "statistics":
        assert "about 110 patients is taken to be public" in " ".join(made[0][1]["assumptions"])
        assert "<h1>Statistics over about 110 patients</h1>" in (made[0][0] / folder.PAGE).read_text()
        (less, said), (more, also) = (read_tensors(path / statistics.SUMS) for path, _ in made)
        assert said == also
        assert {name for name in less if not np.array_equal(less[name], more[name])} == PAYLOAD
    for (_, one), (_, other) in zip(*(list(codebooks(path)) for path, _ in made), strict=True):
        assert one == other, "codebooks and readers are made from public data alone"


def codebooks(path: Path) -> Iterator[tuple[str, bytes]]:
    for name in sorted(one.name for one in path.iterdir()):
        if name not in (folder.CERTIFICATE, folder.PAGE, records.TABLE, statistics.SUMS):
            yield name, (path / name).read_bytes()


def test_an_exact_number_of_patients_is_caught(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin."""
    monkeypatch.setattr(accounting, "public_size", lambda n: n)
    found = differing(released("statistics", store, tmp_path, monkeypatch))
    assert {"mechanism.n_patients", "assumptions"} <= found


def test_a_declared_number_is_told_and_delta_follows_from_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = released("statistics", store, tmp_path, monkeypatch, public_size=10_000_000)
    assert not differing(made) - HASHES - {f"files.{statistics.SUMS}.sha256"}
    assert made[0][1]["mechanism"]["n_patients"] == 10_000_000
    assert made[0][1]["mechanism"]["delta"] == 1e-8
    for kind, options, message in (
        ("statistics", {"public_size": 0}, "--public-size is 0"),
        ("capped", {"limit": 9, "public_size": 10}, "--public-size was given for a release of capped"),
    ):
        with pytest.raises(InputError, match=message):
            make(store.open("toy", MODEL), tmp_path / "no", Options(kind, **{"epsilon": 1.0, **options}))


def test_a_table_of_records_holds_what_its_kind_has_and_no_more(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, content in released("capped", store, tmp_path, monkeypatch):
        table = pq.read_table(path / records.TABLE)
        assert len(table) == content["cohort"]["n_records"]
        assert table.column_names == ["record", "vector"]
