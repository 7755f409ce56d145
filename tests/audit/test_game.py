"""The game: decoys of other patients, drawn uniformly, no two options alike, and guessing worth one in N."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.toy import two_each
from linkage_core.audit.game import ROUND, TRIED, at_least, draw, ranks
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError


def records(n_patients: int, **columns) -> pd.DataFrame:
    """Two studies a patient, as Entry.records gives them."""
    table = two_each("toy", n_patients, **columns)
    table = table.assign(**{name: np.nan for name in LABELS if name not in table})
    return table.assign(report_key=table["report"], report_words=3, view="PA", sex="F", age=50.0)


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    """30 patients of two studies; the first ten have one finding, the others another."""
    return records(30, **{LABELS[1]: [float(i < 20) for i in range(60)]})


def test_every_option_is_of_another_patient_and_the_answer_is_the_image_s_own(cohort):
    owner = dict(zip(cohort["study_id"], cohort["patient_id"], strict=True))
    study = dict(zip(cohort["record_id"], cohort["study_id"], strict=True))
    for seed in range(20):
        played = draw(cohort, 4, seed)
        assert len(played.questions) == ROUND
        assert len({owner[study[q.record_id]] for q in played.questions}) == ROUND
        for q in played.questions:
            assert q.study_ids[q.answer] == study[q.record_id]
            decoys = [owner[s] for i, s in enumerate(q.study_ids) if i != q.answer]
            assert owner[study[q.record_id]] not in decoys
            assert len(set(q.study_ids)) == 4


def test_decoys_and_the_place_of_the_answer_are_uniform(cohort):
    """Chi-square of which report is a decoy, over all images, and of where the true one stands."""
    rounds = [draw(cohort, 4, seed) for seed in range(150)]
    questions = [q for one in rounds for q in one.questions]
    decoys = pd.Series([s for q in questions for i, s in enumerate(q.study_ids) if i != q.answer]).value_counts()
    decoys = decoys.reindex(cohort["study_id"].unique(), fill_value=0)
    places = np.bincount([q.answer for q in questions], minlength=4)
    images = pd.Series([q.record_id for q in questions]).value_counts().reindex(cohort["record_id"], fill_value=0)
    for counts in (decoys, places, images):
        expected = counts.sum() / len(counts)
        # without replacement within a question, so below chi-square: the mean is len - 1, its sd sqrt(2 (len - 1))
        surplus = ((counts - expected) ** 2 / expected).sum() - (len(counts) - 1)
        assert surplus < 4 * np.sqrt(2 * (len(counts) - 1))


@pytest.mark.parametrize("n", [4, 6, 10])
def test_a_guesser_gets_one_in_n(cohort, n):
    rng = np.random.default_rng(1)
    right, expected = [], 0.0
    for seed in range(60):
        played = draw(cohort, n, seed)
        expected = played.guessing
        right.append(sum(rng.integers(n) == q.answer for q in played.questions))
    assert expected == 10 / n
    assert abs(np.mean(right) - expected) < 4 * np.sqrt(10 * (n - 1) / n**2 / 60)


def test_the_tail_of_a_guesser_is_that_of_the_binomial_by_counting():
    rng = np.random.default_rng(2)
    scores = (rng.integers(4, size=(200_000, 10)) == 0).sum(axis=1)
    for k in range(11):
        assert at_least(k, 10, 4) == pytest.approx((scores >= k).mean(), abs=0.004)


def test_a_round_is_the_same_for_the_same_seed_and_settings_and_another_for_another(cohort):
    assert draw(cohort, 4, 7) == draw(cohort, 4, 7)
    assert draw(cohort, 4, 7) != draw(cohort, 4, 8)


def test_no_two_options_read_the_same_whatever_their_case_blanks_and_keys():
    texts = {f"toy-s{i}": ("  No acute\n process." if i % 2 else "no acute process.") for i in range(60)}
    texts |= {f"toy-s{i}": f"Nodule {i}." for i in range(0, 60, 6)}
    table = records(30)
    for seed in range(20):
        played = draw(table, 6, seed, text=lambda study, _: texts[study])
        for q in played.questions:
            assert len({" ".join(texts[s].lower().split()) for s in q.study_ids}) == 6


def test_same_findings_are_the_same_fourteen_labels(cohort):
    label = dict(zip(cohort["study_id"], cohort[LABELS[1]], strict=True))
    played = draw(cohort, 4, 0, same_findings=True)
    for q in played.questions:
        assert len({label[s] for s in q.study_ids}) == 1


def test_same_findings_need_labels():
    with pytest.raises(InputError, match="14 labels"):
        draw(records(12), 4, 0, same_findings=True)


def test_a_small_cohort_gives_the_largest_number_that_ten_can_fill():
    # ten patients of one finding: eight other patients' 18 reports; one patient alone in hers
    table = records(11, **{LABELS[1]: [float(i < 20) for i in range(22)]})
    played = draw(table, 30, 0, same_findings=True)
    assert (played.n_options, played.wanted, len(played.questions)) == (19, 30, 10)
    few = draw(records(3), 4, 0)
    assert (few.n_options, len(few.questions), few.guessing) == (4, 3, 0.75)
    fewer = draw(records(2), 4, 0)
    assert (fewer.n_options, len(fewer.questions)) == (3, 2)


def test_an_image_whose_report_is_not_at_hand_is_in_no_round(cohort):
    absent = set(cohort["study_id"].unique()[:40])
    played = draw(cohort, 4, 0, text=lambda study, _: None if study in absent else study)
    assert not absent & {s for q in played.questions for s in q.study_ids}


def test_what_cannot_be_played_is_refused_with_the_reason(cohort):
    with pytest.raises(InputError, match="not at hand"):
        draw(cohort, 4, 0, text=lambda *_: None)
    with pytest.raises(InputError, match="reads differently"):
        draw(cohort, 4, 0, text=lambda *_: "No acute process.")
    with pytest.raises(InputError, match="n_options is 1"):
        draw(cohort, 1, 0)
    alone = records(12, **{LABELS[1]: [float(i) for i in range(24)]})
    with pytest.raises(InputError, match="share all findings"):
        draw(alone, 4, 0, same_findings=True)


def test_a_large_cohort_without_texts_is_not_read_to_its_end():
    asked = []
    with pytest.raises(InputError):
        draw(records(2000), 4, 0, text=lambda study, _: asked.append(study))
    assert len(asked) <= 2 * TRIED


def test_ranks_are_by_similarity():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=8)
    assert ranks(scores) == tuple(int(1 + (scores > each).sum()) for each in scores)
    assert ranks([1.0, 1.0, 2.0]) == (2, 3, 1)
