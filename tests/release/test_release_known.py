"""A budget that can be begun anew is none: secret, ledger and images are bound to each other."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command import linkage
from helpers.lab_store import cohort
from helpers.release_store import MODEL, build
from helpers.shared import Built
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, StoreError
from linkage_core.release import known, records
from linkage_core.release.keyed import Secret, image_key
from linkage_core.release.ledger import _IMAGES, Ledger
from linkage_core.release.make import Options, make
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import write_manifest, write_table

BUDGET: dict[str, Any] = {"epsilon": 2.0, "delta": 1e-6, "lift": 30.0}


@pytest.fixture
def store(built: Built, tmp_path: Path) -> Store:
    return Store(Path(shutil.copytree(built(build), tmp_path / "store")))


@pytest.fixture
def clinic(store: Store) -> Entry:
    return store.open("clinic", MODEL)


def copied(entry: Entry, name: str, rename: str = "") -> Entry:
    """The entry's folder under another cohort's name; its patients renamed too, if asked."""
    path = entry.path.parent.parent / name / entry.path.name
    shutil.copytree(entry.path, path)
    content = {key: value for key, value in entry.manifest.items() if key not in ("schema", "versions", "files")}
    content["cohort"] = {**content["cohort"], "name": name}
    if rename:
        table = entry.records().assign(patient_id=rename + entry.records()["patient_id"])
        write_table(path / "records.parquet", table)
    write_manifest(path, {**content, "keep": set(entry.manifest["files"])})
    return entry.store.open(name, entry.model)


def capped(site: Path, **given: Any) -> Options:
    """All of one site: a ledger and a secret of its own in one folder."""
    asked: dict[str, Any] = {"limit": 30, "per_patient": 1, "ledger": site / "book", "secret": site / "secret"}
    return Options("capped", **{**asked, **given})


def begun(entry: Entry, site: Path) -> Ledger:
    site.mkdir(exist_ok=True)
    made, noted = known.begin(entry, site / "book", **BUDGET)
    assert noted
    return made


# ------------------------------------------------------------------------------------------------- the two attacks


def test_a_second_ledger_of_a_cohort_is_not_begun(clinic: Entry, tmp_path: Path) -> None:
    """The first attack: all of the budget is spent, so a new book is begun for the same patients."""
    begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    with pytest.raises(InputError, match="not so much left"):
        make(clinic, tmp_path / "two", capped(tmp_path / "a", limit=29))
    with pytest.raises(InputError, match=r"clinic has a ledger: .*a/book"):
        begun(clinic, tmp_path / "b")
    assert not (tmp_path / "b" / "book").exists()
    # by hand, past the command: the secret is bound to the first, and the images left by it
    (tmp_path / "b").mkdir(exist_ok=True)
    Ledger.create(tmp_path / "b" / "book", "clinic", clinic.records()["patient_id"].unique(), **BUDGET)
    with pytest.raises(InputError, match=r"secret .*a/secret is bound to another ledger than .*b/book"):
        make(clinic, tmp_path / "two", capped(tmp_path / "b", secret=tmp_path / "a" / "secret"))
    with pytest.raises(InputError, match=r"240 of 240 images of clinic are of patients .* by the ledger .*a/book"):
        make(clinic, tmp_path / "two", capped(tmp_path / "b", new_secret=True))
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "b" / "secret").exists()
    assert Ledger.open(tmp_path / "b" / "book").history().empty


@pytest.mark.parametrize("rename", ["", "other-"])
def test_a_copy_of_a_cohort_releases_no_image_a_second_time(clinic: Entry, tmp_path: Path, rename: str) -> None:
    """The second attack: another name, a new secret, a new ledger; new ids of patients too."""
    begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    copy = copied(clinic, "elsewhere", rename)
    what = "240 of 240 images of elsewhere are of patients" if rename else "120 of 120 patients of elsewhere are in"
    with pytest.raises(InputError, match=rf"{what}.* the ledger .*a/book of 'clinic'"):
        begun(copy, tmp_path / "b")
    (tmp_path / "b").mkdir(exist_ok=True)
    Ledger.create(tmp_path / "b" / "book", "elsewhere", copy.records()["patient_id"].unique(), **BUDGET)
    for options in (
        capped(tmp_path / "b", new_secret=True),
        Options("statistics", epsilon=0.5, ledger=tmp_path / "b" / "book"),
    ):
        with pytest.raises(
            InputError, match=r"240 of 240 images of elsewhere are .* by the ledger .*a/book of 'clinic'"
        ):
            make(copy, tmp_path / "two", options)
    assert Ledger.open(tmp_path / "b" / "book").history().empty


def test_the_attacks_worked_before(clinic: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: a site that looks at no other ledger certifies the same images twice, each time as the first."""
    monkeypatch.setattr(known, "refuse_left", lambda *a: None)
    begun(clinic, tmp_path / "a")
    copy = copied(clinic, "elsewhere")
    (tmp_path / "b").mkdir()
    Ledger.create(tmp_path / "b" / "book", "elsewhere", copy.records()["patient_id"].unique(), **BUDGET)
    first = make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    second = make(copy, tmp_path / "two", capped(tmp_path / "b", new_secret=True))
    assert first.certificate.content["secret"] != second.certificate.content["secret"]
    for made in (first, second):
        assert made.certificate.content["ledger"]["before"] == {"mu": 0.0, "lift": 1.0}


def test_nor_is_it_released_without_any_ledger(store: Store, tmp_path: Path) -> None:
    """A synthetic cohort needs none; its certificate would say that nothing left before."""
    toy = store.open("toy", MODEL)
    begun(toy, tmp_path / "a")
    make(toy, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    for entry in (toy, copied(toy, "elsewhere")):
        for options in (
            capped(tmp_path, ledger=None, secret=tmp_path / "new", new_secret=True),
            Options("statistics", epsilon=1.0),
        ):
            with pytest.raises(InputError, match=r"300 of 300 images of .* by the ledger .*a/book of 'toy'"):
                make(entry, tmp_path / "two", options)
            make(
                entry,
                tmp_path / f"{entry.cohort}-{options.kind}",
                Options(options.kind, limit=options.limit, epsilon=options.epsilon, reproducible=True),
            )  # of which no limit is certified


def test_sums_of_images_that_left_elsewhere_are_refused_and_records_after_sums(clinic: Entry, tmp_path: Path) -> None:
    begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", Options("statistics", epsilon=0.5, ledger=tmp_path / "a" / "book"))
    copy = copied(clinic, "elsewhere", "other-")
    with pytest.raises(InputError, match="240 of 240 images of elsewhere are of patients"):
        begun(copy, tmp_path / "b")


def test_a_patient_with_a_new_id_gets_no_new_budget_in_the_same_ledger(clinic: Entry, tmp_path: Path) -> None:
    book = begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    copy = copied(clinic, "elsewhere", "other-")
    shutil.rmtree(clinic.path)
    shutil.copytree(copy.path, clinic.path)
    content = {key: value for key, value in copy.manifest.items() if key not in ("schema", "versions", "files")}
    content["cohort"] = {**content["cohort"], "name": "clinic"}
    write_manifest(clinic.path, {**content, "keep": set(copy.manifest["files"])})
    renamed = clinic.again()
    assert book.add("clinic", renamed.records()["patient_id"].unique()) is not None
    with pytest.raises(
        InputError, match="240 of the 240 images of these patients are in the ledger as images of others"
    ):
        make(renamed, tmp_path / "two", capped(tmp_path / "a", limit=29))
    assert book.verify() == []


@pytest.mark.parametrize("by", ["secret", "list"])
def test_a_fork_of_a_ledger_is_no_second_budget(clinic: Entry, tmp_path: Path, by: str) -> None:
    """Whoever keeps a copy from before a charge has the same start, key and patients, and all of the budget."""
    book = begun(clinic, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "fork")
    sums = Options("statistics", epsilon=1.9, ledger=book.path)
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True) if by == "secret" else sums)
    if by == "secret":
        (clinic.store.root / known.LIST).unlink()
        asked = capped(tmp_path / "fork", secret=tmp_path / "a" / "secret", limit=29)
    else:
        asked = replace(sums, epsilon=1.8, ledger=tmp_path / "fork" / "book")
    with pytest.raises(StoreError, match=rf"fork/book lacks entry 1 as the {by} .* saw it: it is an older copy"):
        make(clinic, tmp_path / "two", asked)
    with pytest.raises(InputError, match="not so much left"):
        make(clinic, tmp_path / "two", replace(asked, ledger=book.path))
    assert Ledger.open(tmp_path / "fork" / "book").last() is None


# ------------------------------------------------------------------------------------------------------ what is kept


def test_the_same_release_again_costs_nothing_and_another_is_charged(clinic: Entry, tmp_path: Path) -> None:
    book = begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", limit=5, new_secret=True))
    assert make(clinic, tmp_path / "two", capped(tmp_path / "a", limit=5)).charge.repeated
    third = make(clinic, tmp_path / "three", capped(tmp_path / "a", limit=6))
    assert third.certificate.content["ledger"]["before"]["lift"] == pytest.approx(5.0)
    assert "images" in book.entry(1).parameters
    assert "images" not in book.entry(2).parameters, "they left before"
    assert book.verify() == []


def test_a_secret_is_bound_with_its_first_charge_and_stays_readable_by_its_owner_alone(
    clinic: Entry, tmp_path: Path
) -> None:
    book = begun(clinic, tmp_path / "a")
    path = tmp_path / "a" / "secret"
    before = Secret.create(path, "clinic")
    assert not before.ledger
    with pytest.raises(InputError, match="not so much left"):
        make(clinic, tmp_path / "one", capped(tmp_path / "a", limit=31))
    assert not Secret.read(path, "clinic").ledger, "nothing was charged"
    make(clinic, tmp_path / "one", capped(tmp_path / "a"))
    found = Secret.read(path, "clinic")
    assert (found.key, found.ledger) == (before.key, book.start)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert found.last == book.last() == (1, book.entry(1).digest)
    assert found.bound(path, "another", found.last).ledger == book.start
    assert sorted(one.name for one in path.parent.iterdir()) == ["book", "book.checked", "book.key", "secret"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}


def test_a_bound_secret_is_used_with_its_ledger_alone(store: Store, tmp_path: Path) -> None:
    toy = store.open("toy", MODEL)
    begun(toy, tmp_path / "a")
    make(toy, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    with pytest.raises(InputError, match="is bound to a ledger, and none was named"):
        make(toy, tmp_path / "two", capped(tmp_path / "a", ledger=None))


def test_images_are_kept_by_keyed_hashes(clinic: Entry, tmp_path: Path) -> None:
    """Who has the file without its key can look no image up, nor join two books."""
    images = records.gather(clinic).images
    names = records.gather(clinic).patients
    held = []
    for i in "ab":
        (tmp_path / i).mkdir()
        book = Ledger.create(tmp_path / i / "book", "clinic", np.unique(names), **BUDGET)
        book.charge("codes", {}, names, lift=2.0, images=list(zip(names, images, strict=True)))
        assert book.left(images) == len(images)
        assert book.left([image_key(np.ones(3, dtype=np.float32), "w")]) == 0
        with sqlite3.connect(book.path) as file:
            held.append({bytes(one) for (one,) in file.execute("SELECT hash FROM images")})
        assert not any(one in book.path.read_bytes() for one in images)
    assert len(held[0]) == len(held[1]) == len(set(images))
    assert not held[0] & held[1]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM images",
        "DROP TABLE images",
        "UPDATE images SET place = 0",
        "UPDATE images SET number = 2",
        "INSERT INTO images SELECT zeroblob(32), 0, 1",
        "INSERT INTO images SELECT zeroblob(32), 0, 9",
    ],
)
def test_images_cannot_be_changed_and_where_they_are_it_shows(clinic: Entry, tmp_path: Path, statement: str) -> None:
    source = records.gather(clinic)
    pairs = list(zip(source.patients, source.images, strict=True))
    book = begun(clinic, tmp_path / "a")
    book.charge("codes", {}, source.patients, lift=2.0, images=pairs)
    book.charge("statistics", {}, source.patients, mu=0.1, images=pairs)
    assert book.verify() == []
    file = sqlite3.connect(book.path)
    if statement.split()[0] in ("DELETE", "UPDATE"):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            file.execute(statement)
    for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        file.execute(f"DROP TRIGGER {name}")
    file.execute(statement)
    file.commit()
    file.close()
    assert any("images" in one for one in book.verify())
    with pytest.raises(StoreError, match="not as it was entered"):
        book.charge("codes", {}, source.patients[:1], lift=2.0, images=pairs[:1])


def test_a_ledger_from_before_images_were_kept_goes_on(clinic: Entry, tmp_path: Path) -> None:
    """What left by it then cannot be told by its images; its budget stands, and what leaves from now on is kept."""
    source = records.gather(clinic)
    pairs = list(zip(source.patients, source.images, strict=True))
    book = begun(clinic, tmp_path / "a")
    book.charge("codes", {}, source.patients, lift=2.0)
    with sqlite3.connect(book.path) as file:
        assert not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchall()
    assert book.verify() == []
    assert book.left(source.images) == 0
    book.charge("codes", {}, source.patients, lift=1.5, images=pairs)
    assert book.left(source.images) == len(source.images)
    assert book.verify() == []
    assert Ledger.open(book.path, "clinic").spent(source.patients[:1]).lift > 2.0
    assert len(_IMAGES) == 4


# ------------------------------------------------------------------------------------------------------- the list


def moved(site: Path) -> None:
    shutil.move(site, site.with_name("moved"))


def lost(site: Path) -> None:
    shutil.rmtree(site)


def without_key(site: Path) -> None:
    (site / "book.key").unlink()


@pytest.mark.parametrize("harm", [lost, without_key])
def test_a_ledger_that_is_gone_is_missed(clinic: Entry, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    begun(clinic, tmp_path / "a")
    harm(tmp_path / "a")
    with pytest.raises(StoreError, match=r"ledger .*a/book of clinic cannot be read") as refused:
        begun(clinic, tmp_path / "b")
    assert "lost for good" in refused.value.remedy
    (clinic.store.root / known.LIST).unlink()
    begun(clinic, tmp_path / "b")  # who deletes both begins anew: docs/release.md says so


def test_a_ledger_that_was_moved_is_known_by_its_start(clinic: Entry, tmp_path: Path) -> None:
    book = begun(clinic, tmp_path / "a")
    moved(tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "moved", new_secret=True))
    rows = json.loads((clinic.store.root / known.LIST).read_text())["ledgers"]
    assert [(row["start"], row["cohort"]) for row in rows] == [(book.start, "clinic")]
    assert rows[0]["path"].endswith("moved/book")
    (clinic.store.root / known.LIST).write_text("{}")
    with pytest.raises(StoreError, match="list of this store's ledgers, cannot be read"):
        make(clinic, tmp_path / "two", capped(tmp_path / "moved", limit=29))


def test_a_ledger_of_others_is_no_hindrance(store: Store, clinic: Entry, tmp_path: Path) -> None:
    begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    (tmp_path / "a" / "text.key").write_text("no ledger")
    (tmp_path / "a" / "text").write_text("nor this")
    toy = store.open("toy", MODEL)
    known.begin(toy, tmp_path / "a" / "toy", **BUDGET)
    make(
        toy,
        tmp_path / "two",
        capped(tmp_path / "a", ledger=tmp_path / "a" / "toy", secret=tmp_path / "s", new_secret=True),
    )
    lost(tmp_path / "a")
    assert begun(toy, tmp_path / "b").cohort == "toy", "of a synthetic cohort nobody is missed"


def test_a_store_elsewhere_sees_the_ledgers_in_the_same_folder_alone(clinic: Entry, tmp_path: Path) -> None:
    found, images, texts = cohort("clinic", 120, synthetic=False, seed=1, splits=("heldout",))
    import_arrays(found, MODEL, images, texts, Store(tmp_path / "other"))
    twin = Store(tmp_path / "other").open("clinic", MODEL)
    begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    with pytest.raises(InputError, match="clinic has a ledger"):
        known.begin(twin, tmp_path / "a" / "second", **BUDGET)
    begun(twin, tmp_path / "b")
    make(twin, tmp_path / "two", capped(tmp_path / "b", new_secret=True))  # not seen: docs/release.md says so


def test_equal_ids_of_other_people_are_let_in_by_name_and_equal_images_are_not(
    clinic: Entry, store: Store, tmp_path: Path
) -> None:
    begun(clinic, tmp_path / "a")
    make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True))
    made, images, texts = cohort("clinic", 120, synthetic=False, seed=9, splits=("heldout",))  # other images, equal ids
    import_arrays(replace(made, name="away"), MODEL, images, texts, store)
    (tmp_path / "b").mkdir()
    for entry, problem in ((store.open("away", MODEL), "patients"), (copied(clinic, "copy"), "images")):
        with pytest.raises(InputError, match="120 of 120 patients"):
            known.begin(entry, tmp_path / "b" / "book", **BUDGET)
        if problem == "images":
            with pytest.raises(InputError, match="240 of 240 images"):
                known.begin(entry, tmp_path / "b" / "copy", **BUDGET, other_people=True)
        else:
            known.begin(entry, tmp_path / "b" / "away", **BUDGET, other_people=True)


def test_a_store_that_cannot_be_written_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*a: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(known, "write_json", refused)
    asked = ["--epsilon", "1", "--lift", "30", "--store", store.root]
    assert linkage("ledger", "create", tmp_path / "first", f"clinic/{MODEL}", *asked) == 0
    assert "will not notice a second ledger" in " ".join(capsys.readouterr().out.split())


def test_a_certificate_says_what_its_ledger_cannot_see(clinic: Entry, store: Store, tmp_path: Path) -> None:
    begun(clinic, tmp_path / "a")
    made = make(clinic, tmp_path / "one", capped(tmp_path / "a", new_secret=True)).certificate.content
    assert "A second site, or somebody who deletes ledger and secret, begins anew" in made["assumptions"][-1]
    assert "begins anew" in (tmp_path / "one" / "release.html").read_text()
    free = make(store.open("toy", MODEL), tmp_path / "two", Options("statistics", epsilon=1.0)).certificate.content
    assert not any("begins anew" in one for one in free["assumptions"]), "no ledger, nothing to say of one"


def test_the_command_refuses_a_second_ledger(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--epsilon", "1", "--lift", "30", "--store", store.root]
    (tmp_path / "x").mkdir()
    assert linkage("ledger", "create", tmp_path / "first", f"clinic/{MODEL}", *asked) == 0
    assert "begins anew" in " ".join(capsys.readouterr().out.split())
    assert linkage("ledger", "create", tmp_path / "x" / "second", f"clinic/{MODEL}", *asked) == 2
    assert "clinic has a ledger" in " ".join(capsys.readouterr().err.split())
