"""The preset of a published study, end to end on small exported cohorts."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from linkage_core import cli, lab, study
from linkage_core.cohorts.phantom import layouts, population
from linkage_core.errors import InputError, StoreError
from linkage_core.store import Store

MODELS = "phantom-general,phantom-radiology"


def linkage(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
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
    for figure in ("406,241", "126,804", "43,793", "29,296", "15", "50", "-61.8% at N=10,000", "79.63%", "79.43%"):
        assert figure in published, figure
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
    assert set(ours["published"]) == {study.UNSTATED}  # nothing is put in the study's mouth


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
        *("side-by-side", "design", "linkage", "hard-negatives", "mitigation", "utility", "heads")
    }
    assert content["preset"]["epsilon"] == 0.34
    assert len(content["entries"]) == 4
    assert all("root" not in entry["cohort"] for entry in content["entries"].values())
    design = pd.read_csv(out / "design.csv")
    assert (design["published"] == study.UNSTATED).sum() >= 5
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
    found = study.run(
        store,
        study.preset("arxiv-2606.02276"),
        mimic="mimic-cxr-jpg-arxiv-2606.02276",
        models=("phantom-radiology",),
        reproducible=True,
    )
    table = found.tables["side-by-side"].set_index("figure")
    assert table.loc["held-out pairs, CheXpert Plus", "what"] == "not given"
    assert study.strongest(found) == "phantom-radiology"
    assert not found.left_out


def test_what_cannot_be_asked(tmp_path, folders):
    design = study.preset("arxiv-2606.02276")
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match="no preset"):
        study.preset("arxiv-1")
    with pytest.raises(StoreError, match="nowhere"):
        study.run(store, design, mimic="nowhere", models=("phantom-radiology",))
    with pytest.raises(InputError, match=r"2\.0\.0-metadata"):
        study.run(store, design, mimic=str(tmp_path), models=("phantom-radiology",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    assert linkage("study", "--mimic", folders / "mimic-cxr-jpg", "--out", tmp_path / "full") == 2
    assert Path(tmp_path / "full" / "kept.txt").read_text() == "kept"
