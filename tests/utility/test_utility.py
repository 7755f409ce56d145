"""Usefulness: AUROC and its intervals against loops, resampling and simulation; heads that keep and heads that lose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from helpers import places
from helpers.toy import read_back, two_each
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, ModelError
from linkage_core.heads import Heads, Linear
from linkage_core.ranking import intervals
from linkage_core.store.entry import Entry, Store
from linkage_core.utility import auroc
from linkage_core.utility.auroc import aurocs, placements
from linkage_core.utility.probe import _PENALTIES, _logistic, states_of, train_probe
from linkage_core.utility.prompts import phantom_prompts, text_tower
from linkage_core.utility.table import COLUMNS, utility_table

SHIPPED = Store(places.SHIPPED)
DECLARED = LABELS[2:5]
OTHERS = LABELS[5:8]


# ------------------------------------------------------------------------------------------------------------ AUROC


def test_placements_equal_a_loop_with_ties() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 50):
        scores, positive = rng.integers(0, 6, n).astype(float), np.arange(n) % 3 == 0
        for i, placed in enumerate(placements(scores, positive)):
            others = scores[positive != positive[i]]
            beaten = (others < scores[i]) if positive[i] else (others > scores[i])
            assert placed == pytest.approx((beaten + 0.5 * (others == scores[i])).mean())
    assert np.isnan(placements(np.ones(3), np.ones(3, bool))).all()


def clustered(rng: np.random.Generator, n_patients: int, shift: float = 1.2) -> tuple[np.ndarray, ...]:
    """One to eight images a patient, alike in score and mostly in finding. AUROC = Phi(shift / sqrt(2))."""
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 9, n_patients))
    ill = rng.random(n_patients) < 0.4
    positive = np.where(rng.random(len(patient)) < 0.9, ill[patient], rng.random(len(patient)) < 0.4)
    effect = rng.standard_normal(n_patients)
    noise = 0.8 * effect[patient] + 0.6 * rng.standard_normal(len(patient))
    return shift * positive + noise, positive.astype(float), patient


def one(scores: np.ndarray, states: np.ndarray, patient: np.ndarray, draws: int = 1000) -> auroc.Aurocs:
    return aurocs(scores[:, None, None], states[:, None], patient, draws=draws)


def test_the_bootstrap_equals_resampling_patients_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow way: draw patients, copy their rows, compute the AUROC of the copy. The draws lie further out than that
    by what the fewer patients in effect of either class take (the slow way: one patient after the other)."""
    scores, states, patient = clustered(np.random.default_rng(3), 200)
    wide = one(scores, states, patient)
    of_class = []
    for state in (0, 1):
        mine = [np.flatnonzero((patient == p) & (states == state)) for p in range(200)]
        n = np.array([len(rows) for rows in mine], dtype=float)
        lost = np.array([sum(1 - auroc.placements(scores, states == 1)[rows]) for rows in mine], dtype=float)
        of_class.append(intervals.behind(lost[:, None], n[:, None])[0])
    assert wide.in_effect[0] > min(of_class) > 20
    further = intervals.stretch(min(of_class))
    monkeypatch.setattr(intervals, "stretch", lambda m: np.ones_like(m))
    found = one(scores, states, patient)
    assert wide.draws - wide.auroc == pytest.approx(further * (found.draws - found.auroc))
    assert found.auroc[0, 0] == pytest.approx(roc_auc_score(states, scores))
    weights = intervals.patient_weights(200, 1000, 0)
    slow = np.array([roc_auc_score(states, scores, sample_weight=row[patient]) for row in weights[:300]])
    assert np.corrcoef(slow, found.draws[:300, 0, 0])[0, 1] > 0.995
    assert np.abs(slow - found.draws[:300, 0, 0]).max() < 0.01
    assert slow.std() == pytest.approx(found.draws[:300, 0, 0].std(), rel=0.05)


def coverage(unit_of, repeats: int = 300, n_patients: int = 120) -> float:
    truth, rng, covered = norm.cdf(1.2 / np.sqrt(2)), np.random.default_rng(5), 0
    for _ in range(repeats):
        scores, states, patient = clustered(rng, n_patients)
        low, high = np.quantile(one(scores, states, unit_of(patient)).draws[:, 0, 0], [0.025, 0.975])
        covered += low <= truth <= high
    return covered / repeats


def test_95_percent_intervals_cover_95_times_of_100() -> None:
    assert 0.91 <= coverage(lambda patient: patient) <= 0.985


def test_the_same_check_catches_intervals_that_ignore_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: images for patients. (One set of weights serves every repeat of about the same size.)"""
    kept = {}

    def weights(n_clusters: int, draws: int, seed: int) -> np.ndarray:
        if draws not in kept:
            rng = np.random.default_rng(seed)
            kept[draws] = rng.poisson(1.0, (draws, 1000)).astype(np.float32)
        return kept[draws][:, :n_clusters]

    monkeypatch.setattr(intervals, "patient_weights", weights)
    assert coverage(lambda patient: np.arange(len(patient)), repeats=150) < 0.85


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    scores, states, patient = clustered(rng, 150)
    near = scores + 0.05 * rng.standard_normal(len(scores))
    found = aurocs(np.stack([scores, near], axis=1)[:, None], states[:, None], patient, draws=1000)
    both = found.draws[:, 0]
    assert (both[:, 1] - both[:, 0]).std() < 0.2 * both[:, 0].std()
    same = aurocs(np.stack([scores, scores], axis=1)[:, None], states[:, None], patient, draws=1000)
    assert (same.draws[:, 0, 0] == same.draws[:, 0, 1]).all()


def test_rows_and_patients_are_counted_and_left_out() -> None:
    scores = np.arange(8.0)[:, None, None]
    states = np.array([0, 0, 1, 1, np.nan, 1, 0, 1.0])[:, None]
    found = aurocs(scores, states, np.array([0, 0, 0, 1, 1, 1, 2, 2]))
    assert (found.n.tolist(), found.n_positive.tolist(), found.patients.tolist()) == ([7], [4], [2])
    assert not found.enough[0]
    assert np.isnan(aurocs(scores, np.ones((8, 1)), np.arange(8)).auroc[0, 0])


# ------------------------------------------------------------------------------------------------------------ probe


def test_the_probe_is_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5)) * [3, 1, 1, 0.3, 0.1]
    y = (rng.random(400) < 1 / (1 + np.exp(-x @ [1, -1, 0.5, 2, 0] + 2))).astype(float)
    ours = _logistic(np.column_stack([x, np.ones(400)]), y, 0.01)
    theirs = LogisticRegression(C=1 / (0.01 * 400), tol=1e-10, max_iter=1000).fit(x, y)
    assert ours[:-1] == pytest.approx(theirs.coef_[0], abs=1e-4)
    assert ours[-1] == pytest.approx(theirs.intercept_[0], abs=1e-4)
    apart = np.column_stack([np.linspace(-1, 1, 40), np.ones(40)])
    assert np.isfinite(_logistic(apart, (apart[:, 0] > 0).astype(float), 1e-5)).all(), "separable"


def test_a_rotation_changes_nothing_and_useless_dimensions_are_shrunk() -> None:
    rng = np.random.default_rng(1)
    x, patients = rng.standard_normal((300, 20)), np.arange(300) // 2
    states = np.column_stack([5 * x[:, 0] + rng.standard_normal(300) > 0, rng.random(300) < 0.5]).astype(float)
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    plain, turned = train_probe(x, states, patients), train_probe(x @ turn, states, patients)
    assert plain(x) == pytest.approx(turned(x @ turn), abs=1e-6)
    assert plain.penalty[1] == max(_PENALTIES), "nothing to learn"
    assert plain.penalty[0] < plain.penalty[1]


def test_a_label_of_few_is_not_trained() -> None:
    states = np.zeros((100, 2))
    states[:9, 0] = states[:50, 1] = 1
    probe = train_probe(np.random.default_rng(0).standard_normal((100, 3)), states, np.arange(100))
    assert probe.trained.tolist() == [False, True]
    assert (probe.weights[:, 0] == 0).all()


def test_what_counts_as_a_negative() -> None:
    records = pd.DataFrame(np.nan, index=range(4), columns=list(LABELS))
    records.loc[:2, "Edema"] = [1.0, 0.0, -1.0]
    records.loc[:2, "Fracture"] = [np.nan, 1.0, 1.0]
    edema, fracture = LABELS.index("Edema"), LABELS.index("Fracture")
    states = states_of(records)
    assert np.array_equal(states[:, edema], [1, 0, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(states[:, fracture], [0, 1, 1, np.nan], equal_nan=True), "no label at all says nothing"
    assert np.isnan(states_of(records, "left out")[0, fracture])
    with pytest.raises(InputError, match="No record has any"):
        states_of(records.iloc[3:])
    with pytest.raises(InputError, match="missing is 'zero'"):
        states_of(records, "zero")


# ------------------------------------------------------------------------------------------------------ an entry


def labelled(folder: Path, cohort: str, seed: int, n_patients: int = 400) -> Entry:
    """Images that carry six findings in six directions and an instance in ten more; one report a study."""
    rng = np.random.default_rng(seed)
    n = 2 * n_patients
    states = (rng.random((n, 6)) < 0.35).astype(float)
    instance = rng.standard_normal((n, 10))
    images = np.column_stack([2 * states + rng.standard_normal((n, 6)), instance + 0.5 * rng.standard_normal((n, 10))])
    texts = np.column_stack([2 * states, instance]).astype(np.float32)
    rows = two_each(cohort, n_patients, **dict(zip(DECLARED + OTHERS, states.T, strict=True)))
    found = replace(read_back(rows, folder, cohort), default_split="heldout")
    return import_arrays(found, "m", images.astype(np.float32), texts, Store(folder / "store"))


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """With a head that keeps the three declared findings and nothing else."""
    made = labelled(tmp_path_factory.mktemp("utility"), "one", 0, 900)
    weight = np.eye(16, dtype=np.float32)[:3]
    head = Heads(Linear(weight, np.full(3, 0.01, np.float32)), Linear(weight, np.full(3, 0.01, np.float32)))
    return made.add_head("declared-only", head, {"mechanism": "nonprivate", "findings": list(DECLARED)})


def test_a_label_head_keeps_the_declared_and_loses_the_others(entry: Entry) -> None:
    rows = utility_table(entry, "declared-only", measures=["probe", "label-matched"])
    assert list(rows.columns) == list(COLUMNS)
    probe = rows[rows["measure"] == "probe"].set_index("label")
    assert probe.loc["macro, declared", "after"] > probe.loc["macro, declared", "before"] - 0.05
    assert probe.loc["macro, undeclared", "before"] > 0.85
    assert 0.42 < probe.loc["macro, undeclared", "after_low"] < 0.5 < probe.loc["macro, undeclared", "after_high"]
    assert probe.loc["macro, undeclared", "difference_high"] < -0.3
    assert probe.loc[list(DECLARED), "declared"].all()
    assert not probe.loc[list(OTHERS), "declared"].any()
    assert probe.loc["Fracture", "flag"] == "not trained"
    assert probe.loc["macro", "after"] == pytest.approx(probe.loc[[*DECLARED, *OTHERS], "after"].mean())
    matched = rows[rows["measure"] == "label-matched"].iloc[0]
    assert matched["before_low"] > 0.8
    assert matched["after_high"] < 0.8
    assert matched["difference_high"] < 0


def test_off_the_shelf_against_itself_differs_by_nothing(entry: Entry) -> None:
    rows = utility_table(entry, measures=["probe"])
    known = rows[rows["flag"] == ""]
    assert (known[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert not rows["label"].str.contains("declared").any()


def test_output_noise_is_in_what_is_read(entry: Entry) -> None:
    noisy = entry.add_head("noisy", entry.heads(), {"mechanism": "output-noise", "output_noise": 0.5})
    rows = utility_table(noisy, "noisy", measures=["probe", "label-matched"])
    for measure in ("probe", "label-matched"):
        assert rows[rows["measure"] == measure]["difference_high"].iloc[-1] < -0.05


def test_transfer_takes_head_and_probe_along(entry: Entry, tmp_path: Path) -> None:
    other = labelled(tmp_path, "two", 1)
    rows = utility_table(other, "declared-only", source=entry, measures=["probe"]).set_index("label")
    assert set(rows["cohort"]) == {"two"}
    assert set(rows["trained_on"]) == {"one/attacker"}
    assert rows.loc["macro, declared", "after"] > 0.85
    assert rows.loc["macro, undeclared", "after"] < 0.6


def test_a_patient_never_trains_the_probe_that_reads_it(entry: Entry) -> None:
    with pytest.raises(InputError, match="would both train the probe and be read by it"):
        utility_table(entry, train_split="heldout", measures=["probe"])


def test_bad_requests(entry: Entry) -> None:
    with pytest.raises(InputError, match="no measure 'beauty'"):
        utility_table(entry, measures=["beauty"])
    with pytest.raises(InputError, match="'Flu' is declared"):
        utility_table(entry, declared=["Flu"])
    with pytest.raises(InputError, match="Give \\(rows, labels, columns\\)"):
        aurocs(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(InputError, match="NaN or infinite"):
        aurocs(np.full((3, 1, 1), np.nan), np.ones((3, 1)), np.arange(3))


def test_without_a_text_tower_zero_shot_says_so(entry: Entry) -> None:
    rows = utility_table(entry, measures=["zero-shot"])
    assert rows["flag"].iloc[0].startswith("no text tower")
    assert np.isnan(rows["before"].iloc[0])


# -------------------------------------------------------------------------------------------------------- zero-shot


def test_prompts_come_from_the_grammar_and_state_one_finding() -> None:
    prompts = phantom_prompts(each=4)
    assert set(prompts) == set(LABELS)
    stated, denied = prompts["Pneumothorax"]
    assert all("pneumothorax" in text.lower() for text in stated)
    assert len(stated) == len(denied) == 4
    lay = phantom_prompts("general", each=2)
    assert all("x-ray" in text or "image" in text for text in lay["Support Devices"][0])


def test_the_shipped_model_reads_prompts() -> None:
    entry = SHIPPED.open("phantom-site-b", "phantom-radiology")
    rows = utility_table(entry, measures=["zero-shot"]).set_index("label")
    assert rows.loc["Pleural Effusion", "before"] > 0.85
    assert rows.loc["macro", "before_low"] > 0.6
    backwards = {"Edema": (["No pulmonary edema."], ["Severe pulmonary edema."])}
    turned = utility_table(entry, measures=["zero-shot"], prompts=backwards).set_index("label")
    assert turned.loc["Edema", "before"] < 0.5
    assert turned.loc["Fracture", "flag"] == "no prompt"


def test_another_text_tower_is_refused() -> None:
    entry = SHIPPED.open("phantom-site-b", "phantom-radiology")
    other = replace(entry, manifest={**entry.manifest, "model": {**entry.manifest["model"], "weights_sha256": "0"}})
    with pytest.raises(ModelError, match="has other weights"):
        text_tower(other)
    with pytest.raises(InputError, match="prompt for 'Flu'"):
        text_tower(entry, {"Flu": (["flu"], ["no flu"])})
    with pytest.raises(InputError, match="lack a side"):
        text_tower(entry, {"Edema": (["edema"], [])})
