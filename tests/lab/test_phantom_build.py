"""The whole build on a handful of patients, and the export."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom import dcmread

from linkage_core.audit.study import study as audit_study
from linkage_core.cli import main
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.phantom import image_of, population, read, report_of
from linkage_core.cohorts.phantom.export import MANIFEST_COLUMNS, export_folder
from linkage_core.encoders.ladder import RECIPES, Recipe, train
from linkage_core.encoders.phantom import MODELS, SHIPPED, PhantomEncoder, load_phantom
from linkage_core.errors import InputError
from linkage_core.lab import grid, measured, phantom
from linkage_core.lab import setting as settings
from linkage_core.lab.phantom import build, rung_text
from linkage_core.lab.setting import Setting
from linkage_core.mitigation.finetune import Options
from linkage_core.progress import silent
from linkage_core.ranking.pools import expected_recall
from linkage_core.store.entry import Store


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int, int]]]:
    root, steps = tmp_path_factory.mktemp("store"), []
    names = ("phantom-general", "phantom-radiology")
    build(root, models=names, scale="small", progress=lambda *step: steps.append(step), processes=1)
    return root, steps


def test_small_build_leaves_models_and_entries(built: tuple[Path, list[tuple[str, int, int]]]) -> None:
    root, steps = built
    store = Store(root)
    assert {"phantom", "phantom-site-b"} <= set(store.cohorts())
    for cohort, splits in (("phantom", {"heldout", "attacker"}), ("phantom-site-b", {"heldout"})):
        assert store.models(cohort) == ["phantom-general", "phantom-radiology"]
        entry = store.open(cohort, "phantom-radiology")
        assert entry.synthetic
        assert set(entry.records("all")["split"]) == splits
        embeddings = entry.embeddings(split="heldout")
        np.testing.assert_allclose(np.linalg.norm(embeddings.images, axis=1), 1, atol=1e-5)
    assert "phantom-finetune" not in store.cohorts()
    assert {stage.split(":")[0] for stage, _, _ in steps} >= {"training images", "phantom", "phantom-general"}
    assert all(0 <= done <= total for _, done, total in steps)


def test_stored_features_are_those_of_the_image_drawn_again(built: tuple[Path, list[tuple[str, int, int]]]) -> None:
    root, _ = built
    entry = Store(root).open("phantom", "phantom-radiology")
    encoder = load_phantom("phantom-radiology", root)
    embeddings = entry.embeddings(split="heldout")
    row = 3
    record_id = embeddings.records["record_id"].iloc[row]
    again = encoder.heads().image(encoder.image_features([image_of(record_id, 64)]))[0]
    assert again @ embeddings.images[row] / np.linalg.norm(again) > 0.999
    report = report_of(record_id)
    text = encoder.heads().text(encoder.text_features([report]))[0]
    assert text @ embeddings.reports[embeddings.match[row]] / np.linalg.norm(text) > 0.999


def test_other_splits_make_an_entry_of_their_own(built: tuple[Path, list[tuple[str, int, int]]]) -> None:
    root, _ = built
    before = (root / "phantom" / "phantom-radiology" / "manifest.json").read_bytes()
    build(root, models=("phantom-radiology",), scale="small", splits=("finetune",), processes=1)
    entry = Store(root).open("phantom-finetune", "phantom-radiology")
    assert set(entry.records("all")["split"]) == {"finetune"}
    assert (root / "phantom" / "phantom-radiology" / "manifest.json").read_bytes() == before


def test_models_that_are_kept_embed_others_when_other_patients_are_held_out(
    built: tuple[Path, list[tuple[str, int, int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and heads stay; features, counts and the lab's tables of whoever was held out before do not."""
    root, model = tmp_path / "store", "phantom-radiology"
    shutil.copytree(built[0], root, ignore=shutil.ignore_patterns(".lock"))
    before = Store(root).open("phantom", model)
    weights, were = before.manifest["files"]["weights.safetensors"], before.records("all")
    monkeypatch.setitem(population.PATIENTS["A"], "heldout", range(900_000, 905_400))
    build(root, models=(model,), scale="small", keep_models=True, processes=1)
    after = Store(root).open("phantom", model)
    assert after.verify() == []
    assert after.manifest["files"]["weights.safetensors"] == weights
    are, heldout = after.records("all"), after.records("heldout")
    assert set(are["record_id"]) & set(were["record_id"]) == set(were.loc[were["split"] == "attacker", "record_id"])
    assert len(audit_study(after).queries) == len(heldout)


def test_the_lab_is_built_from_all_pairs_and_leaves_a_sample(
    built: tuple[Path, list[tuple[str, int, int]]], tmp_path: Path
) -> None:
    root = tmp_path / "store"
    shutil.copytree(built[0], root, ignore=shutil.ignore_patterns(".lock"))
    shutil.rmtree(root / "phantom-finetune", ignore_errors=True)
    entry = phantom.build_lab(root, scale="small", processes=1)
    assert entry.verify() == []
    everybody = read(split="finetune", patients=15).records
    rows = measured.heads(entry).set_index("head")
    assert set(rows.index) == {"off-the-shelf", "label-oneshot-eps1-seed0", "rotation-seed0"}
    assert entry.head_record("label-oneshot-eps1-seed0")["trained_on"]["n_pairs"] == len(everybody)
    assert set(measured.linkage(entry)["head"]) == set(rows.index)
    kept = Store(root).open("phantom-finetune", entry.model)
    assert kept.verify() == []
    assert kept.manifest["cohort"]["subset_of"]["n_images"] == len(everybody)
    assert 0 < len(kept.records()) <= 20
    whole = set(kept.records()["patient_id"])
    assert set(everybody.loc[everybody["patient_id"].isin(whole), "record_id"]) == set(kept.records()["record_id"])
    assert kept.manifest["cohort"]["fingerprint"] != kept.manifest["cohort"]["subset_of"]["fingerprint"]
    assert measured.train(entry, "moment-oneshot", Options(epsilon=1.0, delta=1e-3)) == "moment-oneshot-eps1"
    with pytest.raises(InputError, match="is a subset that ships"):
        grid.build(Store(root), "phantom", entry.model)
    before = Store(root).open("phantom", entry.model).fingerprint
    assert phantom.build_lab(root, scale="small", processes=1).fingerprint == before, "nothing is done twice"


def test_training_is_repeatable_and_learns() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 4, 96)
    images = rng.standard_normal((96, 64, 64)).astype(np.float32) * 0.1
    for row, kind in enumerate(kinds):
        images[row, 16 * kind : 16 * kind + 16] += 1
    texts = [("clear lungs", "large effusion", "broken rib", "wide heart")[kind] for kind in kinds]
    recipe = Recipe("radiology", patients=1, epochs=1, batch=32)
    twice = [train(images, texts, recipe, seed=1, progress=silent, stage="")[0] for _ in range(2)]
    for first, second in zip(twice[0].parameters(), twice[1].parameters(), strict=True):
        np.testing.assert_allclose(first.detach(), second.detach(), rtol=1e-3, atol=1e-3)

    longer = replace(recipe, epochs=8, learning_rate=3e-3)
    model, vocabulary = train(images, texts, longer, seed=1, progress=silent, stage="")
    encoder = PhantomEncoder("phantom-radiology", model, vocabulary, training={})
    heads = encoder.heads()
    image = heads.image(encoder.image_features_of(images))
    text = heads.text(encoder.text_features(["clear lungs", "large effusion", "broken rib", "wide heart"]))
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
    assert np.mean((image @ text.T).argmax(1) == kinds) > 0.9


def test_only_the_encoder_training_patients_are_trained_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def draw(record_ids: list[str], stage: str) -> np.ndarray:
        asked.extend(record_ids)
        return np.random.default_rng(0).integers(0, 65536, (len(record_ids), 64, 64), dtype=np.uint16)

    phantom._train_ladder(tmp_path, ["phantom-general"], 0, True, draw, silent)
    assert {population.split_of("A", population.parse_id(record_id)[1]) for record_id in asked} == {"encoder"}


def test_the_rungs_are_the_ladder() -> None:
    assert tuple(RECIPES) == MODELS
    study = next(study for study in population.studies_of_split("A", "encoder") if study.findings)
    assert rung_text(study, "radiology", 0) == report_of(study.study_id)
    assert "chest" in rung_text(study, "general", 0)


@pytest.mark.parametrize("wrong", [{"models": ("phantom-x",)}, {"scale": "large"}, {"splits": ("nothing",)}])
def test_bad_requests_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        build(tmp_path, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("image_format", ["png", "dicom"])
def test_export_comes_back_as_it_was(tmp_path: Path, image_format: str) -> None:
    studies = [study for study, _ in zip(population.studies_of_split("A", "heldout"), range(4), strict=False)]
    manifest = export_folder(tmp_path / "out", studies, image_format=image_format, size=96)  # type: ignore[arg-type]
    table = pd.read_csv(manifest)
    assert tuple(table.columns) == MANIFEST_COLUMNS
    assert len(table) == sum(len(study.views) for study in studies)
    for row in table.itertuples():
        path = manifest.parent / row.image
        drawn = image_of(path.stem, 96).pixels
        assert row.report == report_of(row.study_id)
        assert row.patient_id == row.study_id.rsplit("-", 1)[0]
        if image_format == "png":
            pixels = np.asarray(Image.open(path))
            assert (pixels == drawn).all()
        else:
            data = dcmread(path)
            assert (data.Modality, data.PhotometricInterpretation, data.BitsStored) == ("DX", "MONOCHROME2", 12)
            assert data.PatientID == row.patient_id
            assert (data.pixel_array == drawn >> 4).all()
    labels = table[list(LABELS)].to_numpy(float).ravel()
    assert set(labels[~np.isnan(labels)]) <= {-1.0, 0.0, 1.0}


def test_export_leaves_a_full_directory_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    study = next(population.studies_of_split("A", "heldout"))
    for wrong in ({"directory": tmp_path}, {"directory": tmp_path / "new", "image_format": "gif"}):
        with pytest.raises(InputError):
            export_folder(**{"studies": [study], **wrong})  # type: ignore[arg-type]
    with pytest.raises(InputError):
        export_folder(tmp_path / "none", [])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("pool_size", "low", "high"), [(100, 12, 18), (10_000, 40, 60)])
def test_the_ladder_that_ships_rises_as_promised(pool_size: int, low: float, high: float) -> None:
    store = Store(SHIPPED)
    lift = []
    for model in MODELS:
        counts = audit_study(store.open("phantom", model)).counts
        lift.append(float(np.nanmean(expected_recall(counts, pool_size, 1))) * pool_size)
    assert lift == sorted(set(lift))
    assert lift[0] < 3
    assert low < lift[-1] < high


def test_what_ships_is_whole_and_small() -> None:
    store = Store(SHIPPED)
    for cohort in ("phantom", "phantom-site-b"):
        assert store.models(cohort) == list(MODELS)
        for model in MODELS:
            entry = store.open(cohort, model)
            assert entry.verify() == []
            assert entry.synthetic
            if cohort == "phantom":
                assert "weights.safetensors" in entry.manifest["files"]
                assert entry.manifest["counts"]["by_split"]["heldout"]["studies"] >= 10_000
                assert entry.manifest["counts"]["by_split"]["attacker"]["images"] >= 10_000
    shipped = (
        path for name in ("phantom", "phantom-site-b", "phantom-finetune") for path in (SHIPPED / name).rglob("*")
    )
    kept = [path for path in shipped if path.is_file() and (path.parent.name != "ranks" or RANKS in path.name)]
    assert sum(path.stat().st_size for path in kept) < 38 * 2**20


RANKS = "off-the-shelf.image-to-report.other-patients.heldout."
"""The counts that ship; others are made when they are asked for."""


def test_the_lab_that_ships_is_whole_and_claims_nothing() -> None:
    """Every head of the grid, measured, trained on all pairs and not on the sample that ships beside it."""
    store = Store(SHIPPED)
    entry = store.open("phantom", phantom.LAB_MODEL)
    heads, linkage, used = measured.heads(entry), measured.linkage(entry), measured.utility(entry)
    names = {one.name for one in grid.grid(grid.frequent(entry))}
    assert names <= set(heads["head"])
    assert names <= set(linkage.loc[linkage["cohort"] == "phantom", "head"])
    assert names <= set(used["head"])
    heads = heads.set_index("head").loc[sorted(names)]
    assert heads["reproducible"].all()
    assert not heads["private"].any()
    assert heads["claim"].str.startswith("none").all()
    assert (
        heads.loc[heads["mechanism"].isin(["paper", "noise-only", "nonprivate", "rotation"]), "accuracy"].isna().all()
    )
    for name in names:
        record = entry.head_record(name)
        assert record["seed"] is not None
        assert record["weights_sha256"] == entry.manifest["model"]["weights_sha256"]
        trained = record["trained_on"]
        if trained and trained["cohort"] == "phantom-finetune":
            assert trained["n_pairs"] > 60_000
    assert set(linkage.loc[linkage["cohort"] == "phantom-site-b", "mechanism"]) >= {"label-oneshot", "label-dpsgd"}
    sample = store.open("phantom-finetune", entry.model)
    assert sample.manifest["cohort"]["subset_of"]["n_images"] > 60_000
    assert sample.verify() == []
    assert not set(sample.records()["patient_id"]) & set(entry.records()["patient_id"])


def test_no_shipped_head_is_said_to_link_less_than_cosine_does() -> None:
    """At every N shown, by every release that lets cosine act, on every cohort; and the worst is one for all N."""
    entry = Store(SHIPPED).open("phantom", phantom.LAB_MODEL)
    table = measured.linkage(entry)
    where = ["head", "cohort", "release", "pool_size"]
    of = {who: table[table["attacker"] == who].set_index(where)["recall"] for who in ("cosine", measured.WORST)}
    both = pd.concat(of, axis=1).dropna()
    assert len(both) > 73 * 3
    assert (both[measured.WORST] >= both["cosine"] - 1e-12).all()
    named = table[table["attacker"] == measured.WORST].groupby(where[:3])["named"].nunique()
    assert (named == 1).all()


def test_a_shipped_head_can_be_made_again_from_the_shipped_sums() -> None:
    entry = Store(SHIPPED).open("phantom", phantom.LAB_MODEL)
    for name in ("label-oneshot-eps1-seed0", "moment-oneshot-eps1-seed0"):
        record = entry.head_record(name)
        again = settings.live(entry, Setting(record["mechanism"], 1.0, delta=record["delta"])).heads
        np.testing.assert_allclose(again.image.weight, entry.heads(name).image.weight, rtol=1e-3, atol=1e-5)


def test_lab_and_splits_are_not_asked_for_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["phantom", "build", "--lab", "--splits", "finetune", "--store", str(tmp_path)])
    assert stop.value.code == 2
    assert "--lab, --splits and --keep-models" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
