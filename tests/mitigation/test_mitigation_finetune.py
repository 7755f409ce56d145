"""Heads by every mechanism, their records, the command, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.command import linkage
from helpers.toy import of_other_weights, read_back, toy_arrays, toy_entry, toy_records
from linkage_core.audit import study
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import unit
from linkage_core.mitigation import accounting, controls, mechanisms, oneshot
from linkage_core.mitigation import finetune as lab
from linkage_core.mitigation.training import training_pairs
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import write_table

FINDINGS = ("Pneumonia", "Edema")
DESIGN_RECORD = {
    *("mechanism", "engine", "epsilon", "delta", "unit", "relation", "sigma", "q", "steps", "clip", "accountant"),
    *("reproducible", "head", "findings", "model", "weights_sha256", "trained_on", "versions"),
}
FAST = lab.Options(epsilon=1.0, findings=FINDINGS, steps=5, public="elsewhere")


def records(n_patients: int, prefix: str = "") -> pd.DataFrame:
    made = toy_records(n_patients)
    made["Edema"] = np.where(np.arange(len(made)) % 3 == 0, 1.0, np.nan)
    for column in ("record_id", "patient_id", "study_id"):
        made[column] = prefix + made[column]
    made["split"] = np.where(made["patient_id"].str[-1].isin(list("01234")), "finetune", "heldout")
    return made


def imported(store: Store, folder: Path, cohort: str, n_patients: int = 60, prefix: str = "") -> Entry:
    made = records(n_patients, prefix)
    images, texts = toy_arrays(made, 1.0)
    found = read_back(made, folder, cohort)
    split = made.set_index("record_id")["split"]
    found = replace(found, records=found.records.assign(split=found.records["record_id"].map(split)))
    return import_arrays(found, "m", images, texts, store)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    imported(Store(folder / "store"), folder / "input", "elsewhere", 40, "x")
    imported(Store(folder / "store"), folder / "input", "mine")
    return folder / "store"


@pytest.fixture
def mine(made_once: Path, store: Store) -> Entry:
    shutil.copytree(made_once, store.root)
    return store.open("mine", "m")


@pytest.mark.parametrize("mechanism", [name for name in mechanisms.MECHANISMS if name != "concept-span"])
def test_every_mechanism_makes_heads_and_says_how(mine: Entry, mechanism: str) -> None:
    row = mechanisms.MECHANISMS[mechanism]
    options = replace(FAST, like=mechanisms.LABEL if mechanism in ("noise-only", "nonprivate") else None)
    heads, record = lab.finetune(mine, mechanism, options)
    assert set(record) >= DESIGN_RECORD
    json.dumps(record, allow_nan=False)
    again = mine.add_head(record["head"], heads, record)
    assert again.head_record(record["head"]) == json.loads(json.dumps(record))
    assert unit(again.heads(record["head"]).image(mine.features("image", mine.records()["record_id"]))).shape[1] > 0
    assert record["private"] == (row.kind == "private")
    if row.kind == "private":
        run = accounting.Run.of_record(record)
        assert run.epsilon == pytest.approx(1.0, rel=1e-3)
        assert run.epsilon <= 1.0
        assert record["epsilon"] == pytest.approx(run.epsilon)
        assert record["relation"] == "add/remove"
        assert record["trained_on"]["split"] == "finetune"
        assert record["trained_on"]["n_patients"] == mine.records("finetune")["patient_id"].nunique()
        assert "DP, unit patient, add/remove" in record["claim"]
    else:
        assert record["epsilon"] is None
        assert record["claim"].startswith("none")


def test_the_study_s_recipe_reports_its_epsilon_and_claims_nothing(mine: Entry) -> None:
    _, record = lab.finetune(mine, "paper", replace(FAST, epsilon=0.34))
    assert record["reported_epsilon"] == pytest.approx(0.34, rel=1e-3)
    assert record["delta"] == 6e-6
    assert "does not establish" in record["claim"]
    assert record["unit"] == "pair"


def test_only_training_patients_matter(mine: Entry, store: Store, tmp_path: Path) -> None:
    """Heads are the same whatever the held-out pairs are."""
    options = replace(FAST, seed=3)
    before = lab.finetune(mine, mechanisms.LABEL, options)[0]
    made = records(60)
    made.loc[made["split"] == "heldout", "Pneumonia"] = 1.0
    pairs = training_pairs(mine)
    assert set(pairs.patients) == set(made.loc[made["split"] == "finetune", "patient_id"])
    after = lab.finetune(mine, mechanisms.LABEL, options, training=pairs)[0]
    assert np.array_equal(before.image.weight, after.image.weight)


def test_a_private_run_keeps_no_seed_and_a_reproducible_one_is_not_private(mine: Entry) -> None:
    for mechanism in (mechanisms.LABEL, oneshot.LABEL, mechanisms.PUBLIC, oneshot.MOMENT):
        fresh = [lab.finetune(mine, mechanism, FAST) for _ in range(2)]
        assert not np.array_equal(fresh[0][0].text.weight, fresh[1][0].text.weight)
        assert fresh[0][1]["seed"] is None
        again = [lab.finetune(mine, mechanism, replace(FAST, seed=7)) for _ in range(2)]
        assert np.array_equal(again[0][0].text.weight, again[1][0].text.weight)
        assert again[0][1]["seed"] == 7
        assert not again[0][1]["private"]
        assert "seed of its noise is stored" in again[0][1]["claim"]


def test_without_noise_nothing_is_claimed(mine: Entry) -> None:
    _, record = lab.finetune(mine, mechanisms.LABEL, replace(FAST, epsilon=math.inf))
    assert record["epsilon"] is None
    assert not record["private"]
    assert record["claim"] == "none: no noise was added, so this is not private"


@pytest.mark.parametrize("like", mechanisms.followed())
def test_noise_only_has_the_noise_of_what_it_follows_and_none_of_its_signal(mine: Entry, like: str) -> None:
    options = replace(FAST, seed=1)
    heads, record = lab.finetune(mine, "noise-only", replace(options, like=like))
    followed, said = lab.finetune(mine, like, options)
    assert (record["sigma"], record["q"], record["steps"], record["clip"]) == tuple(
        said[name] for name in ("sigma", "q", "steps", "clip")
    )
    assert not np.allclose(heads.image.weight, followed.image.weight)
    training = training_pairs(mine)
    silenced = replace(training, images=training.images[::-1], texts=training.texts[::-1], labels=training.labels[::-1])
    if like != mechanisms.PAPER:
        same, _ = lab.finetune(mine, "noise-only", replace(options, like=like), training=silenced)
        assert heads.image.weight == pytest.approx(same.image.weight)


def test_both_engines_train_the_same_heads(mine: Entry) -> None:
    options = replace(FAST, seed=5, unit="pair")
    for mechanism in (mechanisms.LABEL, mechanisms.PUBLIC):
        closed, opacus = (
            lab.finetune(mine, mechanism, replace(options, engine=engine))[0] for engine in mechanisms.ENGINES
        )
        scale = float(np.abs(closed.image.weight).max())
        assert opacus.image.weight == pytest.approx(closed.image.weight, abs=1e-4 * scale)


# --------------------------------------------------------------------------------------------------------- controls


def test_rotation_keeps_every_angle_among_images_and_loses_the_reports(mine: Entry) -> None:
    heads, _ = lab.finetune(mine, "rotation")
    shelf, x = mine.heads(), mine.features("image", mine.records()["record_id"])
    a, b = unit(shelf.image(x)), unit(heads.image(x))
    assert b @ b.T == pytest.approx(a @ a.T, abs=1e-5)
    assert np.array_equal(heads.text.weight, shelf.text.weight)
    assert (
        study.study(mine.add_head("turned", heads, {}), "turned", split="heldout").table([20], [1])["recall"][0] < 0.3
    )
    assert study.study(mine, split="heldout").table([20], [1])["recall"][0] > 0.5


def test_output_noise_is_there_wherever_the_embeddings_are_read(mine: Entry) -> None:
    heads, record = lab.finetune(mine, "output-noise", lab.Options(output_noise=1.0))
    entry = mine.add_head("noisy", heads, record)
    clean, noisy, again = (entry.embeddings(head).images for head in ("off-the-shelf", "noisy", "noisy"))
    assert np.array_equal(noisy, again)
    spread = np.mean(np.sum(clean * noisy, axis=1))
    assert spread == pytest.approx(1 / np.sqrt(1 + 16), abs=0.1), "16 coordinates of deviation 1 beside a unit vector"
    assert np.array_equal(entry.embeddings(heads).images, clean)


def test_truncate_and_concept_span_are_projections() -> None:
    rng = np.random.default_rng(0)
    shelf = controls.random_heads(controls._onto(_shelf(rng), np.eye(8)), lab.Seeded(0))
    assert controls.truncate(shelf, 3).image.weight.shape == (3, 10)
    with pytest.raises(InputError, match="8 dimensions"):
        controls.truncate(shelf, 9)
    prompts = rng.standard_normal((5, 10)).astype(np.float32)
    span = controls.concept_span(shelf, prompts)
    assert span.text.weight.shape == (5, 10)
    kept, full = span.text(prompts), shelf.text(prompts)
    assert np.linalg.norm(kept, axis=1) == pytest.approx(np.linalg.norm(full, axis=1), rel=1e-4)


def _shelf(rng: np.random.Generator):
    from linkage_core.heads import Heads, Linear

    return Heads(*(Linear(rng.random((8, 10)).astype(np.float32), rng.random(8).astype(np.float32)) for _ in "ab"))


# ----------------------------------------------------------------------------------------------- sums kept, audits


def test_kept_sums_give_heads_where_the_pairs_are_not_at_hand(mine: Entry, store: Store, tmp_path: Path) -> None:
    made = lab.prepare(oneshot.LABEL, training_pairs(mine), "patient", FINDINGS)
    options = replace(FAST, seed=2)
    wanted, said = lab.finetune(mine, oneshot.LABEL, options)
    kept = lab.keep_sums(mine, made)
    assert not kept.verify()
    from_sums, record = lab.finetune(kept, oneshot.LABEL, options)
    assert np.array_equal(wanted.image.weight, from_sums.image.weight)
    assert record["trained_on"] == said["trained_on"]
    assert lab.stored_sums(kept, oneshot.LABEL, replace(options, findings=("Edema",))) is None
    assert lab.stored_sums(kept, oneshot.LABEL, replace(options, unit="pair")) is None


def test_an_audit_refuses_patients_that_the_head_has_seen(mine: Entry, store: Store, tmp_path: Path) -> None:
    heads, record = lab.finetune(mine, mechanisms.LABEL, FAST)
    entry = mine.add_head("mine", heads, record)
    assert len(study.study(entry, "mine", split="heldout").counts.n_better)
    for split in ("finetune", "all"):
        with pytest.raises(InputError, match="was trained on patients of mine"):
            study.study(entry, "mine", split=split)
    beside = imported(store, tmp_path / "input", "copy")  # the same patients under another name
    with pytest.raises(InputError, match="was trained on patients of copy"):
        study.study(beside.add_head("mine", heads, record), "mine", split="finetune")
    elsewhere = store.open("elsewhere", "m").add_head("mine", heads, record)
    assert len(study.study(elsewhere, "mine", split="all").counts.n_better)


def test_heads_are_not_overwritten_by_accident(mine: Entry) -> None:
    heads, record = lab.finetune(mine, "random-heads")
    entry = mine.add_head("h", heads, record)
    with pytest.raises(InputError, match="already has a head 'h'"):
        entry.add_head("h", heads, record)
    assert entry.add_head("h", heads, {"again": 1}, replace=True).head_record("h") == {"again": 1}
    assert entry.head_record() == {}
    for name in ("off-the-shelf", "../h", ""):
        with pytest.raises(InputError, match="cannot be the name"):
            mine.add_head(name, heads, record)
    with pytest.raises(StoreError, match="has no head 'none'"):
        entry.head_record("none")
    narrow = replace(heads, image=replace(heads.image, weight=heads.image.weight[:, :5]))
    with pytest.raises(InputError, match="image head takes 5 features"):
        mine.add_head("narrow", narrow, record)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0"),
        ({"epsilon": -1.0}, "epsilon is -1"),
        ({"epsilon": math.nan}, "epsilon is nan"),
        ({"delta": 0.5}, "is not below 1/n"),
        ({"delta": 0.0}, "delta is 0"),
        ({"unit": "hospital"}, "unit is 'hospital'"),
        ({"engine": "fast"}, "engine is 'fast'"),
        ({"engine": "opacus"}, "clips pairs, not patients"),
        ({"findings": ("Scoliosis",)}, "'Scoliosis' is no finding"),
        ({"public_size": 0}, "public_size is 0"),
        ({"clip": -1.0}, "clip is -1"),
        ({"q": 2.0}, "q is 2"),
        ({"steps": 0}, "steps is 0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"output_noise": -1.0}, "output_noise is -1"),
    ],
)
def test_bad_options_name_value_and_remedy(mine: Entry, changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        lab.finetune(mine, mechanisms.LABEL, replace(FAST, **changed))
    assert raised.value.remedy


def test_a_large_delta_only_by_name(mine: Entry) -> None:
    _, record = lab.finetune(mine, mechanisms.LABEL, replace(FAST, delta=0.1, allow_large_delta=True))
    assert "is not below 1/n" in record["delta_note"]


def test_bad_training_pairs(mine: Entry, store: Store, tmp_path: Path) -> None:
    pairs = training_pairs(mine)
    blank = replace(pairs, labels=np.full_like(pairs.labels, np.nan))
    with pytest.raises(InputError, match="pairs has a label, and what is to be trained learns"):
        lab.finetune(mine, mechanisms.LABEL, FAST, training=blank)
    with pytest.raises(InputError, match="needs a public cohort"):
        lab.finetune(mine, mechanisms.PUBLIC, replace(FAST, public=None))
    for own in ("mine", "mine-finetune"):
        with pytest.raises(InputError, match="patients that are to be protected"):
            lab.finetune(mine, mechanisms.PUBLIC, replace(FAST, public=own))
    with pytest.raises(InputError, match="Did you mean label-dpsgd"):
        lab.finetune(mine, "label-dpsg", FAST)
    with pytest.raises(InputError, match="Name what it follows"):
        lab.finetune(mine, "noise-only", FAST)


def test_pairs_beside_a_cohort_without_a_split_to_train_on(mine: Entry, store: Store, tmp_path: Path) -> None:
    """All of NAME-finetune trains, if it is there and the same weights made it."""
    whole = toy_entry(store, tmp_path / "plain", cohort="plain")
    held = whole.records().assign(split="heldout")
    whole = whole.add_file("records.parquet", lambda path: write_table(path, held))
    with pytest.raises(InputError, match=r"no split finetune, and the store no cohort plain-finetune"):
        training_pairs(whole)
    beside = imported(store, tmp_path / "input", "plain-finetune", 40, "y")
    found = training_pairs(whole)
    assert (found.source.cohort, found.split) == ("plain-finetune", "all")
    assert set(found.patients) == set(beside.records()["patient_id"])
    of_other_weights(beside)
    with pytest.raises(InputError, match="plain-finetune/m was embedded with other weights than plain/m"):
        training_pairs(whole)
    of_other_weights(store.open("elsewhere", "m"))
    with pytest.raises(InputError, match="elsewhere/m was embedded with other weights than mine/m"):
        lab.finetune(mine, mechanisms.PUBLIC, FAST)
    sums = lab.prepare(oneshot.LABEL, training_pairs(mine), "patient", FINDINGS)
    with pytest.raises(InputError, match="made with other weights than elsewhere/m"):
        lab.keep_sums(store.open("elsewhere", "m"), sums)


# ------------------------------------------------------------------------------------------------------ the command


def test_the_command_writes_the_head_and_its_record(
    mine: Entry, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["finetune", "mine/m", "--store", store.root, "--mechanism", "label-oneshot", "--epsilon", "1"]
    assert linkage(*asked, "--findings", "Pneumonia,Edema", "--into", "mine,elsewhere", "--json", "-") == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record) >= DESIGN_RECORD
    for cohort in ("mine", "elsewhere"):
        assert store.open(cohort, "m").head_record("label-oneshot-eps1") == record
    assert linkage(*asked, "--findings", "Pneumonia,Edema") == 2
    assert "already has" in capsys.readouterr().err
    assert linkage(*asked, "--findings", "Pneumonia,Edema", "--replace") == 0
    said = capsys.readouterr().out
    assert "Guarantee" in said
    assert "unit patient" in said
    asked[5] = "label-dpsgd"
    assert linkage(*asked, "--steps", "5", "--findings", "Pneumonia", "--name", "dp", "--unit", "pair") == 0
    assert "PLD 1, RDP 1." in capsys.readouterr().out
    found = store.open("mine", "m").head_record("dp")["epsilons"]
    assert found["pld"] <= 1 < found["rdp"]
    assert linkage(*asked[:4], "--mechanism", "rotation") == 0
    assert "none: a control" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epsilon", "0"], "epsilon is 0"),
        (["--epsilon", "much"], "--epsilon is 'much'"),
        ([], "needs an epsilon"),
        (["--epsilon", "1", "--seed", "3"], "keeps no seed"),
        (["--epsilon", "1", "--into", "nowhere"], "has no nowhere/m"),
        (["--epsilon", "1", "--findings", ","], "--findings is empty"),
        (["--epsilon", "1", "--mechanism", "magic"], "'magic' is no mechanism"),
    ],
)
def test_the_command_refuses(
    mine: Entry, store: Store, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkage("finetune", "mine/m", "--store", store.root, *options) == 2
    assert message in capsys.readouterr().err
