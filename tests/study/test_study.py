"""The preset of a published study, end to end on small exported cohorts."""

import json
import os
import re
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from linkage_core.cli import main
from linkage_core.cohorts.phantom import layouts, population
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.lab import measured as lab
from linkage_core.store.entry import Store
from linkage_core.study import run
from linkage_core.study.design import UNSTATED, _kind, preset, strongest, study_pairs

MODELS = "phantom-general,phantom-radiology"


def linkage(*arguments):
    with pytest.raises(SystemExit) as ended:
        main.main([str(argument) for argument in arguments])
    return ended.value.code or 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    for layout, site, n in (("mimic-cxr-jpg", "A", 240), ("chexpert-plus", "B", 150)):
        layouts.export_layout(
            root / layout, layout, list(islice(population.studies_of_split(site, "heldout"), n)), size=64
        )
    return root


@pytest.fixture(scope="module")
def done(folders):
    """One run by the command: (the folder of tables, the store)."""
    command = ["--store", folders / "store", "study", "--preset", "arxiv-2606.02276", "--models", MODELS, "--quiet"]
    command += ["--mimic", folders / "mimic-cxr-jpg", "--chexpert", folders / "chexpert-plus", "--reproducible"]
    with pytest.MonkeyPatch.context() as patch:  # zero-shot reads a thousand prompts for every head
        patch.setattr(lab, "_measures", lambda entry: ("probe",))
        assert linkage(*command, "--out", folders / "out") == 0
    return folders / "out", Store(folders / "store"), command


def rows(out):
    return pd.DataFrame(json.loads((out / "study.json").read_text())["side_by_side"]).set_index("figure")


def test_every_published_figure_has_its_row(done):
    table = rows(done[0])
    published = set(table["published"])
    for figure in ("406,241", "126,804", "43,793", "29,296", "15", "50", "up to 333,152"):
        assert figure in published, figure
    for figure in ("-61.8% at N=10,000", "79.63%", "79.43%"):  # of another model: never without saying so
        assert f"{figure} (of biovil-t, not of phantom-radiology)" in published
        assert figure not in published
    rates = table[table.index.str.startswith("paper, a reading of the study's recipe, at rate ")]
    assert len(rates) == 4
    assert rates["here"].iloc[0] > rates["here"].iloc[-1] + 20  # at one epsilon and delta
    assert rates["what"].str.contains("epsilon 0.34").all()
    assert table.loc["times chance at N=10,000, strongest model, MIMIC-CXR", "here"] is None or np.isnan(
        table.loc["times chance at N=10,000, strongest model, MIMIC-CXR", "here"]
    )
    assert "no pool of that size" in table.loc["times chance at N=10,000, strongest model, MIMIC-CXR", "what"]
    assert table.loc["times chance, full database, MIMIC-CXR", "here"] > 3
    assert table.loc["rises with specialisation", "here"] == 1
    for mechanism in ("paper", "label-dpsgd", "label-oneshot"):
        for where in ("MIMIC-CXR", "CheXpert Plus"):
            for attacker in ("cosine", "worst attacker"):
                assert np.isfinite(table.loc[f"{mechanism}: change of Recall@1, {where}, {attacker}", "here"])
    assert table.loc["label-oneshot: change of Recall@1, MIMIC-CXR, cosine", "here"] < -30
    ours = table[table.index.str.startswith("label-")]
    assert set(ours["published"]) == {UNSTATED}  # nothing is put in the study's mouth


def test_every_figure_has_its_interval_count_and_warning(done):
    out, _, _ = done
    table = rows(out)
    assert re.fullmatch(
        r"phantom-radiology, \d+ images(, too few.*)?", table.loc["hard negatives: label-matched AUC", "what"]
    )
    flags = pd.read_csv(out / "hard-negatives.csv").set_index(["cohort", "model"])["auc_flag"].dropna()
    assert set(flags) <= {"too few to say"}
    changes = pd.read_csv(out / "changes.csv").set_index(["head", "cohort", "attacker"])
    measured = pd.read_csv(out / "mitigation.csv")
    measured = measured[measured["release"] == run.RELEASE].set_index(["head", "cohort", "attacker", "pool_size"])
    assert len(changes) == 3 * 2 * 2
    for (head, cohort, attacker), one in changes.iterrows():  # the very figures that the table shows
        for name, when in ((head, "after"), ("off-the-shelf", "before")):
            there = measured.loc[(name, cohort, attacker, one["pool_size"])]
            assert one[when] == pytest.approx(there["recall"], abs=1e-9)
            assert one["n_queries"] == there["n_queries"]
    shown = table[table.index.str.contains("change of Recall@1")]
    assert len(shown) == len(changes)
    bounded = shown.dropna(subset=["low", "high"])  # none where a draw of patients holds no hit before
    assert len(bounded) > len(shown) / 2
    assert ((bounded["low"] <= bounded["here"]) & (bounded["here"] <= bounded["high"])).all()
    assert shown["what"].str.contains(r" \d+ images").all()


def test_pairs_split_and_heads_are_as_the_design_says(done):
    _, store, _ = done
    for kind, share in (("mimic-cxr-jpg", 0.2), ("chexpert-plus", 0.156)):
        entry = store.open(f"{kind}-arxiv-2606.02276", "phantom-radiology")
        records = entry.records()
        assert records["study_id"].is_unique
        assert set(records["view"]) <= {"PA", "AP"}
        assert records.groupby("patient_id")["split"].nunique().max() == 1
        assert entry.default_split == "heldout"
        assert abs((records["split"] == "heldout").mean() - share) < 0.1
    head = store.open("mimic-cxr-jpg-arxiv-2606.02276", "phantom-radiology").head_record("arxiv-2606.02276-paper")
    assert head["delta"] == 6e-6
    assert head["reported_epsilon"] == pytest.approx(0.34, rel=1e-2)
    assert head["epsilon"] is None  # reported, not established
    assert head["trained_on"]["split"] == "finetune"


def test_tables_and_provenance(done):
    out, _, _ = done
    content = json.loads((out / "study.json").read_text())
    assert {path.stem for path in out.glob("*.csv")} == {
        *("side-by-side", "design", "linkage", "hard-negatives", "mitigation", "changes", "utility", "heads", "rates")
    }
    assert content["preset"]["epsilon"] == 0.34
    assert len(content["entries"]) == 4
    assert all("root" not in entry["cohort"] for entry in content["entries"].values())
    design = pd.read_csv(out / "design.csv")
    assert (design["published"] == UNSTATED).sum() >= 5
    unknown = design.set_index("part").loc["pairs whose view (PA, AP, lateral) is not known", "here"]
    assert unknown == "mimic-cxr-jpg-arxiv-2606.02276: 0 of 240 pairs; chexpert-plus-arxiv-2606.02276: 0 of 150 pairs"
    linkage_table = pd.read_csv(out / "linkage.csv")
    assert set(linkage_table["k"]) == {1, 5, 10}
    assert linkage_table["model"].nunique() == 2


def test_a_second_run_takes_what_is_there(done, folders):
    out, store, command = done
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("heads/*.safetensors") if "arxiv" in path.name}
    assert linkage(*command, "--out", folders / "again") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pd.testing.assert_frame_equal(rows(folders / "again"), rows(out))


def test_stored_cohorts_by_name(done, folders):
    _, store, _ = done
    found = run.run(
        store,
        preset("arxiv-2606.02276"),
        mimic="mimic-cxr-jpg-arxiv-2606.02276",
        models=("phantom-radiology",),
        reproducible=True,
    )
    table = found.tables["side-by-side"].set_index("figure")
    assert table.loc["held-out pairs, CheXpert Plus", "what"] == "not given"
    assert strongest(found) == "phantom-radiology"
    assert not found.left_out


def test_mistakes_are_found_before_anything_is_embedded(tmp_path, folders, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(run, "embed", lambda *a, **k: pytest.fail("embedded"))
    store, design, jpg = Store(tmp_path / "store"), preset("arxiv-2606.02276"), str(folders / "mimic-cxr-jpg")
    wrong = (
        ({"mitigate": ("phantom-radiolgy",)}, "'phantom-radiolgy' is not among the models: phantom-radiology"),
        ({"models": ("phantom-radiology", "clip")}, "clip .* is not on this machine"),
        ({"chexpert": "/no such"}, "There is no folder /no such"),
        ({"mimic": "/nope"}, "There is no folder /nope"),
        ({"chexpert": str(tmp_path)}, "df_chexpert_plus"),
    )
    for asked, what in wrong:
        with pytest.raises(LinkageError, match=what):
            run.run(store, design, **({"mimic": jpg, "models": ("phantom-radiology",)} | asked))


def test_pairs_need_views(tmp_path, folders):
    design = preset("arxiv-2606.02276")
    folder = shutil.copytree(folders / "mimic-cxr-jpg", tmp_path / "jpg", copy_function=os.link)
    path = folder / "mimic-cxr-2.0.0-metadata.csv.gz"
    metadata = pd.read_csv(path, dtype="str")
    path.unlink()
    with pytest.raises(InputError, match="which view it is") as caught:
        study_pairs(folder, design, "mimic")
    assert path.name in caught.value.remedy
    unknown = metadata["study_id"].isin(metadata["study_id"].unique()[:7])
    metadata.loc[unknown, ["ViewPosition", "ViewCodeSequence_CodeMeaning"]] = ""
    metadata.to_csv(path, index=False)
    records = study_pairs(folder, design, "mimic").records
    found = {"m": SimpleNamespace(cohort="mimic", records=lambda: records)}
    assert run._views(SimpleNamespace(mimic=found, chexpert={}))[2] == f"mimic: 7 of {len(records)} pairs"


def test_jpeg_beside_a_record_list_is_read_as_jpeg(tmp_path, folders):
    folder = shutil.copytree(folders / "mimic-cxr-jpg", tmp_path / "jpg", copy_function=os.link)
    (folder / "cxr-record-list.csv.gz").write_bytes(b"")
    assert _kind(folder, "mimic") == "mimic-cxr-jpg"
    for image in folder.rglob("*.jpg"):
        image.rename(image.with_suffix(".dcm"))
    assert _kind(folder, "mimic") == "mimic-cxr"
    (folder / "cxr-record-list.csv.gz").unlink()
    assert _kind(folder, "mimic") == "mimic-cxr"  # by its images


def test_what_cannot_be_asked(tmp_path, folders):
    design = preset("arxiv-2606.02276")
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match="no preset"):
        preset("arxiv-1")
    with pytest.raises(StoreError, match="nowhere"):
        run.run(store, design, mimic="nowhere", models=("phantom-radiology",))
    with pytest.raises(InputError, match=r"2\.0\.0-metadata"):
        run.run(store, design, mimic=str(tmp_path), models=("phantom-radiology",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    assert linkage("study", "--mimic", folders / "mimic-cxr-jpg", "--out", tmp_path / "full") == 2
    assert Path(tmp_path / "full" / "kept.txt").read_text() == "kept"
