"""Who also knows sex and age: what it gains where a vector holds them, and that it gains nothing where it does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.attacked import simulated
from helpers.toy import read_back, toy_arrays, toy_records
from linkage_core.attacks import archive, beside
from linkage_core.attacks.beside import About, knowing, known_of
from linkage_core.attacks.held import hold
from linkage_core.attacks.home import Home, Tried, at_home
from linkage_core.attacks.scored import Answer, InBlocks, Scored
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.release import bounds
from linkage_core.store.entry import Store

N_OWN, N_TEST = 1200, 800


def cohort(n: int, seed: int, wrong: float = 0.2, years: float = 1e9) -> tuple[np.ndarray, About]:
    """Vectors (n, 4) that hold the sex, wrong as often as that, and the age with an error of so many years."""
    rng = np.random.default_rng(seed)
    female, age = np.arange(n) % 2 == 0, rng.uniform(20, 90, n)
    read = female ^ (rng.random(n) < wrong)
    seen = (age + years * rng.standard_normal(n)) / max(years, 10)
    return np.column_stack([read, seen, rng.standard_normal((n, 2))]).astype(float), About(
        np.where(female, "F", "M"), age
    )


def nothing_but(wrong: float = 0.2, years: float = 1e9) -> tuple[Tried, About, About]:
    """An attacker whose scores say nothing, and vectors that hold nothing but sex (and age): abroad and at home."""
    own, own_about = cohort(N_OWN, 1, wrong, years)
    asked, about = cohort(N_TEST, 2, wrong, years)
    held = simulated(n_own=N_OWN, n_test=N_TEST)
    own_group = np.array([f"own{i}" for i in range(N_OWN)])
    group = np.array([f"test{i}" for i in range(N_TEST)])
    held = replace(
        held,
        released=asked,
        own_released=own,
        own_clean=own,
        own_group=own_group,
        query_group=group,
        candidate_group=group,
    )
    left_out, learnt = np.arange(400), np.arange(400, N_OWN)
    inner = at_home(held, left_out, learnt)
    home = Home(inner, silent(len(inner.match), len(inner.texts)), learnt, left_out)
    return Tried(held, silent(N_TEST, len(held.texts)), np.arange(N_OWN), False, home), own_about, about


def silent(n_queries: int, n_texts: int) -> Answer:
    return Scored(np.zeros((n_queries, 1)), np.zeros((n_texts, 1)))


def recall(one: Tried, n: int = 100) -> float:
    return float(pools.expected_recall(one.held.ranked(one.answer), n, 1).mean())


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.25])
def test_a_vector_that_holds_sex_alone_is_worth_one_and_youden(wrong: float) -> None:
    """release.bounds.reading: whoever reads one state with sensitivity s and specificity t has a lift of s + t."""
    given, own, about = nothing_but(wrong)
    right = (given.held.released[:, 0] == 1) == (about.sex == "F")
    youden = right[about.sex == "F"].mean() + right[about.sex == "M"].mean() - 1
    assert recall(given) * 100 == pytest.approx(1.0)
    lift = recall(knowing(given, own, about, "sex"), 50) * 50
    assert lift == pytest.approx(bounds.reading(youden), rel=0.05)


def test_age_adds_what_a_gaussian_of_that_width_holds() -> None:
    """Against the likelihood of the true law, which nobody can beat."""
    given, own, about = nothing_but(0.2, years=6.0)
    read = given.held.released[:, 1] * 10
    likelihood = -((read[:, None] - about.age[None, :]) ** 2) / (2 * 6.0**2)
    agree = (given.held.released[:, 0] == 1)[:, None] == (about.sex == "F")[None, :]
    exact = InBlocks(lambda rows: (likelihood + np.where(agree, np.log(0.8), np.log(0.2)))[rows], each="candidate")
    best = recall(replace(given, answer=exact))
    sex, both = recall(knowing(given, own, about, "sex")), recall(knowing(given, own, about, "sex-age"))
    assert both > 1.5 * sex
    assert both == pytest.approx(best, rel=0.1)


def test_a_vector_that_holds_nothing_gains_nothing() -> None:
    given, own, about = nothing_but(wrong=0.5)
    rng = np.random.default_rng(7)
    text = rng.standard_normal((N_TEST, 3))
    held = replace(given.held, text_of=np.arange(N_TEST), texts=text, match=np.arange(N_TEST))
    assert given.home is not None
    inner = rng.standard_normal((400, 3))
    home = replace(given.home, answer=Scored(inner + rng.standard_normal((400, 3)), inner))
    speaking = replace(given, held=held, home=home, answer=Scored(text + rng.standard_normal((N_TEST, 3)), text))
    before, after = recall(speaking), recall(knowing(speaking, own, about, "sex-age"))
    assert before > 0.03
    assert after == pytest.approx(before, rel=0.03)


def test_what_is_not_known_of_a_candidate_says_nothing_for_or_against_it() -> None:
    """A ratio of one: between those of the right and of the wrong sex."""
    given, own, about = nothing_but(0.1, years=5.0)
    half = About(about.sex.copy(), about.age.copy())
    half.sex[:4], half.age[:4] = "", np.nan
    answer = knowing(given, own, half, "sex-age").answer
    assert isinstance(answer, Scored)
    scores = answer.queries @ answer.reports.T
    assert np.allclose(scores[:, :4], 0)
    assert (scores[:, 4:] > 0).any(axis=1).mean() > 0.9
    assert (scores[:, 4:] < 0).any(axis=1).mean() > 0.9
    answer = knowing(given, own, half, "sex").answer
    assert isinstance(answer, Scored)
    scores = answer.queries @ answer.reports.T
    assert (scores[:, 4:] > 0).any(axis=1).mean() > 0.9, (
        "a sex that is likely speaks for a candidate, not only less against"
    )


def test_the_terms_are_log_ratios() -> None:
    """Against the densities themselves, up to the one weight."""
    given, own, about = nothing_but(0.1, years=5.0)
    factors = beside._terms(given.held.own_released, own, ("age",))
    queries, candidates = factors(given.held.released, about)
    x = np.column_stack([given.held.own_released, np.ones(N_OWN)])
    slope = np.linalg.lstsq(x, own.age, rcond=None)[0]
    spread = np.std(own.age - x @ slope)
    mean = np.column_stack([given.held.released, np.ones(N_TEST)]) @ slope
    expected = (
        -((about.age[None, :] - mean[:, None]) ** 2) / (2 * spread**2)
        + (about.age[None, :] - own.age.mean()) ** 2 / (2 * own.age.std() ** 2)
        - np.log(spread / own.age.std())
    )
    near = np.abs(queries).sum(axis=1) > 0
    assert near.mean() > 0.98
    assert np.allclose((queries @ candidates.T)[near], expected[near], rtol=0.03, atol=0.25)


def test_a_vector_unlike_all_own_ones_is_left_alone() -> None:
    given, own, about = nothing_but(0.1, years=5.0)
    far = given.held.released.copy()
    far[:10] += 40.0
    answer = knowing(replace(given, held=replace(given.held, released=far)), own, about, "sex-age").answer
    assert isinstance(answer, Scored)
    assert (answer.queries[:10] == 0).all()
    assert (answer.queries[10:] != 0).any(axis=1).mean() > 0.98


def test_nobody_who_is_attacked_teaches_and_nobody_at_home_teaches_what_judges_him() -> None:
    """What sex and age the candidates have moves no factor of a vector; of those at home, neither."""
    given, own, about = nothing_but(0.1)
    other = About(about.sex[::-1].copy(), about.age[::-1].copy())
    one, two = knowing(given, own, about, "sex-age"), knowing(given, own, other, "sex-age")
    assert isinstance(one.answer, Scored)
    assert isinstance(two.answer, Scored)
    assert np.array_equal(one.answer.queries, two.answer.queries)
    seen = []
    real = beside._terms

    def watched(vectors: np.ndarray, known: About, columns: tuple[str, ...]):
        seen.append(vectors)
        return real(vectors, known, columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "_terms", watched)
        knowing(given, own, about, "sex")
    assert given.home is not None
    assert [len(vectors) for vectors in seen] == [len(given.home.learnt), N_OWN]
    judges = {row.tobytes() for row in given.home.held.released}
    assert not judges & {row.tobytes() for row in seen[0]}


def test_both_games_and_scores_in_blocks_take_what_is_known() -> None:
    given, own, about = nothing_but(0.1)
    known = knowing(given, own, about, "sex")
    played = archive.play(known, 20)
    assert played.share().estimate * 20 == pytest.approx(1.8, abs=0.15)
    texts, n_texts = given.held.text_of, len(given.held.texts)
    assert given.home is not None
    n_home = len(given.home.held.texts)
    blocks = replace(
        given,
        answer=InBlocks(lambda rows: np.zeros((len(rows), n_texts))),
        home=replace(given.home, answer=InBlocks(lambda rows: np.zeros((len(rows), n_home)))),
    )
    other = knowing(blocks, own, about, "sex")
    rows = np.arange(30)
    assert np.allclose(other.answer.block(rows, texts), known.answer.block(rows, texts))


def test_who_knows_nothing_is_as_before_and_too_few_own_pairs_choose_nothing() -> None:
    given, own, about = nothing_but()
    assert knowing(given, own, about, "nothing") is given
    bare = knowing(replace(given, home=None), own, about, "sex")
    assert bare.answer.queries is given.answer.queries  # type: ignore[union-attr]
    assert "too few own pairs" in bare.answer.chosen


def test_a_cohort_without_the_column_says_so(tmp_path: Path) -> None:
    records = toy_records(60).assign(age=np.nan)
    found = replace(read_back(records, tmp_path), default_split="heldout")
    entry = import_arrays(found, "m", *toy_arrays(records, 1.0), Store(tmp_path / "store"))
    own, candidates = known_of(entry, "sex")
    held = hold(entry)
    assert len(own.sex) == len(held.own_group)
    of_patient = records.astype({"patient_id": str}).drop_duplicates("patient_id").set_index("patient_id")["sex"]
    assert (candidates.sex == of_patient.loc[held.candidate_group].to_numpy()).all()
    with pytest.raises(InputError, match="The records of toy have no age"):
        known_of(entry, "sex-age")
    with pytest.raises(InputError, match="knows is 'all'"):
        known_of(entry, "all")
