"""From records to a folder: what is told, what is charged, in which order, and that a folder can be confirmed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers.command import linkage
from helpers.lab_store import cohort
from helpers.release_store import MODEL, build
from helpers.shared import Built
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, StoreError
from linkage_core.release import certificate, folder, records
from linkage_core.release import make as making
from linkage_core.release.keyed import Secret
from linkage_core.release.kinds import embeddings, statistics
from linkage_core.release.ledger import Ledger
from linkage_core.release.make import Options, confirm, make
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import sha256


@pytest.fixture(scope="module")
def store(built: Built) -> Store:
    return Store(built(build))


@pytest.fixture(scope="module")
def toy(store: Store) -> Entry:
    return store.open("toy", MODEL)


@pytest.fixture
def site(toy: Entry, tmp_path: Path) -> dict[str, Path]:
    """A secret and a ledger of `toy`."""
    Secret.create(tmp_path / "secret", "toy")
    book(toy, tmp_path / "book")
    return {"secret": tmp_path / "secret", "ledger": tmp_path / "book"}


def book(entry: Entry, path: Path) -> Ledger:
    patients = entry.records("all")["patient_id"].unique()
    return Ledger.create(path, entry.cohort, patients, epsilon=2.0, delta=1e-6, lift=1e5)


def content_of(path: Path) -> dict[str, Any]:
    return json.loads((path / folder.CERTIFICATE).read_text())


# ------------------------------------------------------------------------------------------------------ what is told


def test_a_certificate_says_that_its_findings_were_read_from_text(
    store: Store, toy: Entry, site: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "read from the reports by rules"
    options = Options("statistics", epsilon=1.0, public=store.open("open", MODEL), ledger=site["ledger"])
    own = make(toy, tmp_path / "own", options).certificate
    assert own.content["cohort"]["labels"] == "own"
    assert not any(rules in line for line in own.content["sentences"])
    monkeypatch.setattr(Entry, "labels_note", lambda self: {"source": "from-text", "own": "", "rules": "1"})
    made = make(toy, tmp_path / "read", replace(options, epsilon=0.5))
    assert made.certificate.content["cohort"]["labels"] == "from-text"
    assert any(rules in line for line in made.certificate.content["sentences"])
    assert rules in (made.path / folder.PAGE).read_text()
    assert confirm(Ledger.open(site["ledger"], "toy"), made.path) == []


def test_statistics_tell_nothing_of_images_without_noise(
    toy: Entry, site: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two sites that differ in how many images one patient has, everything but the noisy sums is the same."""
    told = []
    whole = records.gather(toy)
    kept = np.flatnonzero((whole.patients != whole.patients[0]) | (np.arange(whole.n) == 0))
    fewer = replace(
        whole,
        records=whole.records.iloc[kept].reset_index(drop=True),
        embeddings=whole.embeddings[kept],
        images=[whole.images[i] for i in kept],
    )
    assert fewer.n < whole.n
    for i, source in enumerate((whole, fewer)):
        monkeypatch.setattr(records, "gather", lambda *a, source=source: source)
        (tmp_path / f"site{i}").mkdir()  # a ledger beside another one of the same images would be refused
        options = Options("statistics", epsilon=1.0, ledger=book(toy, tmp_path / f"site{i}" / "book").path)
        path = make(toy, tmp_path / f"out{i}", options).path
        content = content_of(path)
        assert set(content["cohort"]) == {"name", "model", "head", "synthetic", "labels"}
        header = (path / statistics.SUMS).read_bytes()
        sums, page = content["files"][statistics.SUMS], content["files"][folder.PAGE]
        told.append((header[: int.from_bytes(header[:8], "little") + 8], sums.pop("bytes"), page.pop("bytes")))
        del content["ledger"]["digest"], sums["sha256"], page["sha256"], content["digest"]
        told.append(json.dumps(content, sort_keys=True))
    assert told[:2] == told[2:]


def test_a_head_that_was_trained_on_the_summed_patients_is_refused(
    toy: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = toy.manifest["cohort"]["fingerprint"]
    trained = {"trained_on": {"fingerprint": fingerprint, "cohort": "toy", "split": "heldout"}}
    monkeypatch.setattr(Entry, "head_record", lambda self, head: trained)
    with pytest.raises(InputError, match=r"was trained on patients of toy.*take another head"):
        make(toy, tmp_path / "out", Options("statistics", epsilon=1.0))
    Secret.create(tmp_path / "secret", "toy")
    make(toy, tmp_path / "out", Options("capped", limit=9, secret=tmp_path / "secret"))  # it limits whatever embedding


def test_numbers_their_order_and_who_is_left_out_follow_from_the_secret(toy: Entry) -> None:
    """Whoever has the images, the ids and this code, but not the secret, can work out none of them."""
    source = records.gather(toy)
    made = [embeddings.as_embeddings(source, Secret(bytes([i]) * 32, "toy")).table for i in (0, 1, 1)]
    assert made[1].equals(made[2])
    numbers = [set(one.column("record").to_pylist()) for one in made]
    assert not numbers[0] & numbers[1]
    vectors = [one.column("vector").to_pylist() for one in made]
    assert vectors[0] != vectors[1]
    assert sorted(vectors[0]) == sorted(vectors[1]), "the same records"
    kept = [set(records.thinned(source, Secret(bytes([i]) * 32, "toy"), 1).images) for i in (0, 1)]
    assert len(kept[0]) == len(kept[1]) == 150
    assert kept[0] != kept[1]
    with pytest.raises(InputError, match="At most 0 records a patient"):
        records.thinned(source, Secret(bytes(32), "toy"), 0)


# --------------------------------------------------------------------------------------------------- what is charged


def other_public(tmp_path: Path) -> Entry:
    """A public cohort of the same name and size, with other content."""
    found, images, texts = cohort("open", 200, synthetic=True, seed=7, splits=("heldout",))
    import_arrays(found, MODEL, images, texts, Store(tmp_path / "elsewhere"))
    return Store(tmp_path / "elsewhere").open("open", MODEL)


def test_another_codebook_of_the_same_name_is_charged_and_cannot_be_joined(
    store: Store, toy: Entry, site: dict[str, Path], tmp_path: Path
) -> None:
    for kind, more, part in (("codes", {"limit": 8}, "codebook"), ("scores", {"unlimited": True}, "reader")):
        made = [
            make(toy, tmp_path / f"{kind}{i}", Options(kind, public=public, **more, **site))
            for i, public in enumerate((store.open("open", MODEL), other_public(tmp_path / kind)))
        ]
        assert [one.charge.repeated for one in made] == [False, False], kind
        numbers = [set(pq.read_table(one.path / records.TABLE).column("record").to_pylist()) for one in made]
        assert not numbers[0] & numbers[1], kind
        said = [one.certificate.content["mechanism"] for one in made]
        assert said[0][part] != said[1][part]
        assert said[0]["public"] == said[1]["public"], "by name and size they are one"


def test_a_corrected_label_begins_no_new_budget_and_brings_no_fresh_noise(
    toy: Entry, site: dict[str, Path], tmp_path: Path
) -> None:
    found, images, texts = cohort("toy", 150, synthetic=True, seed=0, splits=("heldout",))
    found.records.loc[0, LABELS[0]] = 1.0 - float(found.records.loc[0, LABELS[0]] == 1.0)
    import_arrays(found, MODEL, images, texts, Store(tmp_path / "s"))
    corrected = Store(tmp_path / "s").open("toy", MODEL)
    assert corrected.manifest["cohort"]["fingerprint"] != toy.manifest["cohort"]["fingerprint"]
    made = [
        make(entry, tmp_path / f"out{i}", Options("capped", limit=9, **site))
        for i, entry in enumerate((toy, corrected))
    ]
    assert made[1].charge.repeated
    assert sha256(made[0].path / records.TABLE) == sha256(made[1].path / records.TABLE)
    # with labels it is another release: the label that changed would tell
    labels = [
        make(entry, tmp_path / f"label{i}", Options("capped", limit=2, one_label=True, findings=LABELS[:1], **site))
        for i, entry in enumerate((toy, corrected))
    ]
    assert not labels[1].charge.repeated


def test_what_left_before_stands_in_the_certificate(
    toy: Entry, site: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make(toy, tmp_path / "a", Options("capped", limit=9, **site))
    assert first.certificate.content["ledger"]["before"] == {"mu": 0, "lift": 1}
    sums = make(toy, tmp_path / "b", Options("statistics", epsilon=0.5, ledger=site["ledger"]))
    assert sums.certificate.content["ledger"]["before"] == {"mu": 0, "lift": pytest.approx(81)}
    for path, shown in ((tmp_path / "a", False), (tmp_path / "b", True)):
        assert linkage("receive", path) == 0
        assert ("with what left before" in " ".join(capsys.readouterr().out.split())) == shown
    more = make(toy, tmp_path / "c", Options("capped", limit=3, **site))
    assert more.certificate.content["ledger"]["before"] == {"mu": sums.charge.mu, "lift": pytest.approx(81)}
    again = make(toy, tmp_path / "d", Options("capped", limit=9, **site))
    assert again.certificate.content == first.certificate.content, "as of its entry"


def test_nothing_can_follow_what_left_without_limit(
    toy: Entry, site: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(toy, tmp_path / "a", Options("embeddings", unlimited=True, **site))
    assert made.certificate.content["ledger"]["entry"] == 1
    with pytest.raises(InputError, match=r"Entry 1 .* of 150 .*without any limit \(embeddings\)"):
        make(toy, tmp_path / "b", Options("capped", limit=9, **site))
    assert not (tmp_path / "b").exists()
    sums = make(toy, tmp_path / "c", Options("statistics", epsilon=0.5, ledger=site["ledger"]))
    assert sums.certificate.content["ledger"]["before"]["lift"] is None
    assert linkage("ledger", "show", site["ledger"], "--json", "-") == 0
    rows = json.loads(capsys.readouterr().out)["entries"]
    assert [(row["lift"], row["unlimited"]) for row in rows] == [(None, True), (None, False)]
    assert linkage("ledger", "show", site["ledger"]) == 0
    printed = capsys.readouterr().out
    assert "no limit" in printed
    assert made.charge.digest[:8] in printed


# ------------------------------------------------------------------------------------------------------- which order


def test_the_ledger_is_charged_with_the_data_that_are_there_already(
    toy: Entry, site: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    honest = Ledger.charge

    def looked(self: Ledger, kind: str, parameters: dict[str, Any], *a: Any, **k: Any) -> Any:
        (hidden,) = tmp_path.glob(".out*")
        assert hidden.stat().st_mode & 0o077 == 0
        seen.append({one.name: sha256(one) for one in hidden.rglob("*") if one.is_file()})
        assert parameters["files"] == seen[0]
        assert not (tmp_path / "out").exists()
        return honest(self, kind, parameters, *a, **k)

    monkeypatch.setattr(Ledger, "charge", looked)
    made = make(toy, tmp_path / "out", Options("capped", limit=9, **site))
    data = {records.TABLE: made.certificate.content["files"][records.TABLE]["sha256"]}
    assert seen == [data]
    assert made.charge.parameters["files"] == data


def test_a_failure_after_the_charge_names_the_entry_and_one_before_it_says_that_nothing_was_charged(
    toy: Entry, site: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(site["ledger"])
    before = {one.name for one in tmp_path.iterdir()}

    def fails(*a: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(folder, "save_table", lambda table: fails)
    with pytest.raises(StoreError, match=r"No space left.*Nothing was charged"):
        make(toy, tmp_path / "out", Options("capped", limit=9, **site))
    assert ledger.history().empty
    monkeypatch.undo()
    for error in (OSError("full"), ValueError("odd")):
        monkeypatch.setattr(folder.Making, "finish", lambda *a, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(StoreError, match=rf"\({error}\).*Entry 1 of the ledger stands.*costs nothing more"):
            make(toy, tmp_path / "out", Options("capped", limit=9, **site))
    assert {one.name for one in tmp_path.iterdir()} == before | {"book.checked"}
    monkeypatch.undo()
    assert make(toy, tmp_path / "out", Options("capped", limit=9, **site)).charge.repeated


def test_of_two_into_one_folder_the_loser_is_not_charged(
    toy: Entry, site: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, let_go = threading.Event(), threading.Event()
    honest, first = making._prepared, []

    def waits(*a: Any) -> Any:
        if not first:
            first.append(1)
            inside.set()
            assert let_go.wait(60)
        return honest(*a)

    monkeypatch.setattr(making, "_prepared", waits)
    options = Options("statistics", epsilon=0.5, ledger=site["ledger"])
    one = threading.Thread(target=make, args=(toy, tmp_path / "out", options))
    one.start()
    assert inside.wait(60)
    with pytest.raises(InputError, match=r"out"):
        make(toy, tmp_path / "out", options)
    assert Ledger.open(site["ledger"]).history().empty
    let_go.set()
    one.join(60)
    assert confirm(Ledger.open(site["ledger"]), tmp_path / "out") == []
    assert len(Ledger.open(site["ledger"]).history()) == 1


# ------------------------------------------------------------------------------------------------------ is it that one


def forged(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As somebody does who knows how: figures, page and digest made anew by the package's own hands."""
    stated = {name: content_of(path)[name] for name in certificate.STATED}
    change(stated)
    stated["files"] = {name: folder._described(path / name) for name in stated["files"] if name != folder.PAGE}
    from linkage_core.release import page

    (path / folder.PAGE).write_text(page.render(certificate.finished(stated)), encoding="utf-8")
    stated["files"][folder.PAGE] = folder._described(path / folder.PAGE)
    folder.write_json(path / folder.CERTIFICATE, certificate.finished(stated).content)
    folder.check(path)


def one_fewer(path: Path) -> Callable[[dict[str, Any]], object]:
    table = pq.read_table(path / records.TABLE)
    folder.save_table(table.slice(1))(path / records.TABLE)
    return lambda stated: stated["cohort"].update(n_records=len(table) - 1)


def test_a_folder_is_confirmed_by_its_ledger_alone(
    store: Store, toy: Entry, site: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = store.open("open", MODEL)
    paths = {
        kind: make(toy, tmp_path / kind, options).path
        for kind, options in {
            "statistics": Options("statistics", epsilon=0.5, ledger=site["ledger"]),
            "codes": Options("codes", limit=8, public=public, one_label=True, **site),
            "capped": Options("capped", limit=9, **site),
            "embeddings": Options("embeddings", noise=50.0, **site),
            "scores": Options("scores", public=public, unlimited=True, **site),
        }.items()
    }
    ledger = Ledger.open(site["ledger"])
    for path in paths.values():
        assert confirm(ledger, path) == []
    assert linkage("ledger", "confirm", site["ledger"], paths["codes"]) == 0
    assert "are those that" in " ".join(capsys.readouterr().out.split())
    changes: dict[str, tuple[str, Callable[[Path], Callable[[dict[str, Any]], object]]]] = {
        "data": ("capped", one_fewer),
        "mechanism": ("capped", lambda p: lambda s: s["mechanism"].update(limit=8.0, gain=_gain(8.0, s))),
        "one_label": ("codes", lambda p: lambda s: s["one_label"]["findings"].reverse()),
        "head": ("capped", lambda p: lambda s: s["cohort"].update(head="better")),
        "cohort": ("capped", lambda p: lambda s: s["cohort"].update(name="other")),
        "mu": ("embeddings", lambda p: lambda s: s["cohort"].update(most_records_of_a_patient=1)),
        "what left before": ("capped", lambda p: lambda s: s["ledger"].update(before={"mu": 0.0, "lift": 1.0})),
        "by another digest": ("capped", lambda p: lambda s: s["ledger"].update(digest="0" * 64)),
        "entry 77": ("capped", lambda p: lambda s: s["ledger"].update(entry=77)),
        "in no ledger": ("capped", lambda p: lambda s: s.update(ledger=None)),
    }
    for i, (name, (kind, change)) in enumerate(changes.items()):
        copy = tmp_path / f"copy{i}"
        folder.shutil.copytree(paths[kind], copy)
        forged(copy, change(copy))
        assert any(name in one for one in confirm(ledger, copy)), name
        if i == 0:
            assert linkage("ledger", "confirm", site["ledger"], copy) == 2
            assert "its data is not what entry 3" in " ".join(capsys.readouterr().err.split())


def _gain(limit: float, stated: dict[str, Any]) -> float:
    from linkage_core.release.kinds.capped import Cap

    return float(Cap(stated["mechanism"]["dimension"], limit, stated["mechanism"]["p"]).gain)


def test_an_older_copy_of_a_ledger_shows_by_a_release_that_it_does_not_hold(
    toy: Entry, site: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make(toy, tmp_path / "a", Options("statistics", epsilon=0.3, ledger=site["ledger"])).path
    older = site["ledger"].read_bytes()
    second = make(toy, tmp_path / "b", Options("statistics", epsilon=0.3, ledger=site["ledger"])).path
    both = ["ledger", "verify", site["ledger"], "--release", first, "--release", second]
    assert linkage(*both) == 0
    assert "2 releases among them" in " ".join(capsys.readouterr().out.split())
    site["ledger"].write_bytes(older)
    assert linkage("ledger", "verify", site["ledger"]) == 0, "in itself it is whole"
    assert linkage(*both) == 2
    assert "names entry 2, which the ledger does not hold" in " ".join(capsys.readouterr().err.split())
    make(toy, tmp_path / "c", Options("statistics", epsilon=0.3, ledger=site["ledger"]))
    assert linkage(*both) == 2
    assert "entry 2 by another digest" in " ".join(capsys.readouterr().err.split())


def test_patients_who_came_later_are_added_by_command(
    toy: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = toy.records("all")["patient_id"].unique()[:-3]
    Ledger.create(tmp_path / "few", "toy", some, epsilon=1.0, delta=1e-6, lift=1e4)
    options = Options("statistics", epsilon=0.3, ledger=tmp_path / "few")
    with pytest.raises(InputError, match="3 of 150 patients are unknown"):
        make(toy, tmp_path / "out", options)
    asked = ["ledger", "add", tmp_path / "few", f"toy/{MODEL}", "--store", store.root]
    assert linkage(*asked) == 0
    assert "3 patients added, entry 1" in " ".join(capsys.readouterr().out.split())
    assert linkage(*asked, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["added"] == 0
    make(toy, tmp_path / "out", options)
    assert linkage("ledger", "verify", tmp_path / "few", "--release", tmp_path / "out") == 0
    assert linkage("ledger", "add", tmp_path / "few", f"clinic/{MODEL}", "--store", store.root) == 2
    assert "ledger of the cohort 'toy', not 'clinic'" in " ".join(capsys.readouterr().err.split())
    assert linkage("ledger", "show", tmp_path / "few") == 0
    assert "patients added" in capsys.readouterr().out
