"""What travels with a private head: nothing that one patient more or less would change, but its weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command import linkage
from helpers.toy import read_back, toy_arrays, toy_records
from linkage_core.audit import study
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.mitigation import accounting, mechanisms, oneshot, stepwise
from linkage_core.mitigation import finetune as lab
from linkage_core.mitigation.accounting import public_size
from linkage_core.mitigation.training import Training, cautions, training_pairs
from linkage_core.store import entry as entries
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import read_tensors
from linkage_core.store.seen import trained_words

FINDINGS = ("Pneumonia", "Edema")
PRIVATE = tuple(name for name, row in mechanisms.MECHANISMS.items() if row.kind == "private")
FAST = lab.Options(epsilon=1.0, findings=FINDINGS, steps=5, public="elsewhere")


def put(store: Store, folder: Path, cohort: str, n_patients: int, prefix: str = "") -> Entry:
    """A cohort that is not synthetic; patients whose id ends in 0 to 4 train."""
    made = toy_records(n_patients)
    made["Edema"] = np.where(np.arange(len(made)) % 3 == 0, 1.0, np.nan)
    for column in ("record_id", "patient_id", "study_id"):
        made[column] = prefix + made[column]
    images, texts = toy_arrays(made, 1.0)
    found = read_back(made, folder, cohort)
    split = made["patient_id"].str[-1].isin(list("01234")).map({True: "finetune", False: "heldout"})
    split = split.set_axis(made["record_id"])
    found = replace(found, records=found.records.assign(split=found.records["record_id"].map(split)))
    return import_arrays(found, "m", images, texts, store)


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Two tables that differ by one patient, each in a store of its own, beside one public cohort."""
    made = []
    for n_patients in (280, 281):
        folder = tmp_path_factory.mktemp(str(n_patients))
        store = Store(folder / "store")
        put(store, folder, "elsewhere", 40, "x")
        made.append(put(store, folder, "mine", n_patients))
    less, more = (len(np.unique(training_pairs(entry).patients)) for entry in made)
    assert more == less + 1
    return made


def in_the_file(entry: Entry, name: str) -> dict[str, Any]:
    return read_tensors(entry.file(f"heads/{name}.safetensors"))[1]


def kept(entry: Entry, mechanism: str, options: lab.Options = FAST, **given: Any) -> tuple[Entry, str]:
    heads, record = lab.finetune(entry, mechanism, options, name="private", **given)
    return entry.add_head("private", heads, record, replace=True), "private"


def both(neighbours: list[Entry], mechanism: str, options: lab.Options = FAST) -> list[str]:
    return [json.dumps(in_the_file(*kept(entry, mechanism, options)), sort_keys=True) for entry in neighbours]


# ------------------------------------------------------------------------------------------- one patient more or less


@pytest.mark.parametrize("mechanism", [*PRIVATE, "paper"])
@pytest.mark.parametrize("unit", ["patient", "pair"])
def test_one_patient_more_changes_nothing_in_a_head_s_file_but_its_weights(
    neighbours: list[Entry], mechanism: str, unit: str
) -> None:
    """Neighbours of one public size. A pair is one image here, so both units are about the same cohort."""
    options = replace(FAST, unit=unit, public_size=100)
    less, more = both(neighbours, mechanism, options)
    assert less == more


@pytest.mark.parametrize("mechanism", [*PRIVATE, "paper"])
def test_nor_does_it_where_no_size_is_declared(neighbours: list[Entry], mechanism: str) -> None:
    less, more = both(neighbours, mechanism)
    assert less == more
    said = json.loads(less)
    assert said["public_size"] == 140
    assert not set(said["trained_on"]) & set(entries.SITE_ONLY)
    if said["private"]:
        assert "about 140 patients is taken to be public" in said["claim"]


def test_every_part_of_a_head_s_file_is_listed(neighbours: list[Entry]) -> None:
    """A new part of a record has to be thought about: is it public? Then it is entered here and in docs/release.md."""
    known = {
        *("mechanism", "says", "like", "head", "engine", "epsilon", "delta", "unit", "relation", "sigma", "q", "steps"),
        *("clip", "accountant", "public_size", "reproducible", "seed", "private", "sensitivity", "findings", "model"),
        *("weights_sha256", "trained_on", "versions", "delta_note", "claim", "scope", "rate", "momentum", "average"),
        *("public", "reported_epsilon", "recipe", "labels"),
    }
    for mechanism in (*PRIVATE, "paper"):
        said = in_the_file(*kept(neighbours[0], mechanism))
        assert set(said) <= known
        assert set(said["trained_on"]) == {"cohort", "split", "synthetic"}


def test_a_head_says_how_its_labels_were_asked_for(neighbours: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the site's choice alone: that some study has labels of its own depends on one patient."""
    assert in_the_file(*kept(neighbours[0], oneshot.LABEL))["labels"] == "own"
    assert "labels" not in in_the_file(*kept(neighbours[0], oneshot.MOMENT))
    for source in ("from-text", "own and from-text"):
        note = {"source": source, "own": "", "rules": "1"}
        monkeypatch.setattr(Entry, "labels_note", lambda self, note=note: note)
        for mechanism in (oneshot.LABEL, mechanisms.LABEL):
            assert in_the_file(*kept(neighbours[0], mechanism))["labels"] == "from-text"


def test_the_old_way_is_caught(neighbours: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken twins: an exact hash and exact numbers in the file; parameters made from the exact number."""
    with monkeypatch.context() as patch:
        patch.setattr(entries, "SITE_ONLY", ())
        less, more = (json.loads(one) for one in both(neighbours, mechanisms.LABEL))
        assert {name for name in less if less[name] != more[name]} == {"trained_on"}
    with monkeypatch.context() as patch:
        patch.setattr(accounting, "public_size", lambda n: n)
        for mechanism in (mechanisms.LABEL, oneshot.LABEL):
            less, more = both(neighbours, mechanism)
            assert less != more


def test_steps_are_divided_by_the_public_number(neighbours: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    """q and the size of a step would tell n otherwise: with the noise known, from the weights alone."""
    asked = []
    honest = stepwise.train

    def watched(start: Any, pairs: Any, objective: Any, recipe: Any, *rest: Any) -> Any:
        asked.append((recipe.q, recipe.n_units, pairs.n_units))
        return honest(start, pairs, objective, recipe, *rest)

    monkeypatch.setattr(stepwise, "train", watched)
    heads = []
    for n in (100, 1000):
        options = replace(FAST, public_size=n, q=0.5, seed=1, epsilon=5.0)
        heads.append(lab.finetune(neighbours[0], mechanisms.LABEL, options)[0].image.weight)
    assert [(q, n) for q, n, _ in asked] == [(0.5, 100), (0.5, 1000)]
    assert asked[0][2] not in (100, 1000)
    assert np.linalg.norm(heads[0]) > 5 * np.linalg.norm(heads[1])


def test_the_public_size_is_never_above_what_is_there_and_stands_still_between_edges() -> None:
    for n in range(20, 5000):
        assert 0.9 * n - 10 < public_size(n) <= n
    assert len({public_size(n) for n in range(31_000, 32_000)}) == 1
    assert {public_size(n) for n in range(1, 20)} == {10}


# --------------------------------------------------------------------------------------------------- at the site


def test_the_site_still_knows_all_of_it(neighbours: list[Entry]) -> None:
    entry, name = kept(neighbours[0], oneshot.LABEL)
    record = entry.head_record(name)
    assert record["trained_on"]["fingerprint"] == entry.manifest["cohort"]["fingerprint"]
    assert record["trained_on"]["n_patients"] == entry.records("finetune")["patient_id"].nunique()
    assert trained_words(record) == f"{record['trained_on']['n_pairs']:,} pairs of 140 patients of mine"
    again, _ = kept(entry, mechanisms.LABEL)
    assert again.head_record(name)["mechanism"] == mechanisms.LABEL
    assert again.manifest["site"].keys() == {f"heads/{name}.safetensors"}
    assert again.verify() == []


def test_features_made_again_leave_the_site_s_part_in_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    put(store, tmp_path, "mine", 60)
    entry, name = kept(store.open("mine", "m"), oneshot.LABEL)
    before = entry.head_record(name)
    assert put(store, tmp_path, "mine", 60).head_record(name) == before
    assert "n_pairs" in before["trained_on"]


def test_a_head_that_came_as_a_file_alone_is_measured_and_says_what_is_not_told(
    neighbours: list[Entry], tmp_path: Path
) -> None:
    entry, name = kept(neighbours[0], mechanisms.LABEL)
    file = entry.file(f"heads/{name}.safetensors")
    store = Store(tmp_path / "theirs")
    theirs = put(store, tmp_path, "theirs", 40, "t")
    theirs = theirs.add_file("heads/came.safetensors", lambda path: shutil.copy(file, path))
    assert len(study.study(theirs, "came", split="all").counts.n_better)
    assert "is not told" in trained_words(theirs.head_record("came"))
    assert "site" not in theirs.manifest
    # where the cohort it names is at hand, its patients are still refused
    mine = put(store, tmp_path, "mine", 40)
    mine = mine.add_file("heads/came.safetensors", lambda path: shutil.copy(file, path))
    with pytest.raises(InputError, match="was trained on patients of mine"):
        study.study(mine, "came", split="finetune")


# -------------------------------------------------------------------------------------- what hangs on one patient


def with_one_finding(training: Training, finding: str) -> Training:
    labels = training.labels.copy()
    labels[0, LABELS.index(finding)] = 1.0
    return replace(training, labels=labels)


@pytest.mark.parametrize("mechanism", [mechanisms.LABEL, oneshot.LABEL])
def test_a_finding_that_nobody_has_is_said_here_and_trained_all_the_same(
    neighbours: list[Entry], mechanism: str
) -> None:
    entry = neighbours[0]
    options = replace(FAST, findings=("Pneumonia", "Fracture"))
    training = training_pairs(entry)
    heads, record = lab.finetune(entry, mechanism, options, training=training)
    assert record["cautions"] == ["Nobody here has Fracture: what the head says of it is noise."]
    for tower in (heads.image, heads.text):
        assert np.isfinite(tower.weight).all()
        assert np.abs(tower.weight).max(axis=1).min() > 0, "the row of a finding that nobody has is its noise"
    travels = []
    for pairs, said in ((training, True), (with_one_finding(training, "Fracture"), False)):
        made, name = kept(entry, mechanism, options, training=pairs)
        assert ("cautions" in made.head_record(name)) == said
        travels.append(in_the_file(made, name))
    assert travels[0] == travels[1]


@pytest.mark.parametrize("mechanism", [mechanisms.LABEL, oneshot.LABEL, oneshot.MOMENT])
def test_a_patient_with_half_of_the_pairs_is_said_here_and_trained_all_the_same(
    neighbours: list[Entry], mechanism: str
) -> None:
    entry = neighbours[0]
    pairs = training_pairs(entry)
    rest = [f"p{i}" for i in range(len(pairs.patients))]
    one = replace(pairs, patients=np.where(np.arange(len(rest)) % 2, rest, "nobody"))
    few = replace(pairs, patients=np.where(np.arange(len(rest)) % 2, rest, [f"q{i}" for i in range(len(rest))]))
    options = replace(FAST, public_size=100)
    travels = []
    for training, said in ((one, ["Patient 'nobody' has "]), (few, [])):
        made, name = kept(entry, mechanism, options, training=training)
        assert [text[:21] for text in made.head_record(name).get("cautions", [])] == said
        travels.append(in_the_file(made, name))
    assert travels[0] == travels[1]
    assert len(cautions(replace(pairs, patients=np.full(len(rest), "p")), ())) == 1


def test_the_command_says_it_at_the_site(neighbours: list[Entry], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["finetune", "mine/m", "--store", neighbours[0].store.root, "--mechanism", "label-oneshot", "--epsilon"]
    asked += ["1", "--findings", "Pneumonia,Fracture", "--public-size", "120", "--name", "said"]
    assert linkage(*asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nobody here has Fracture" in said
    assert "about 120 patients is taken to be public" in said
    assert "The exact numbers stay here" in said
    assert in_the_file(neighbours[0].again(), "said")["public_size"] == 120
