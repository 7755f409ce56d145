"""Attackers against slow loops, on simulated features whose structure says what each of them must recover."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from helpers.attacked import N_LABELS, N_TEST, D, simulated
from helpers.toy import read_back, toy_records
from linkage_core.attacks import attack as attackers
from linkage_core.attacks import folds, learn_pairs, omniscient, turn_back
from linkage_core.attacks import scored as scored_module
from linkage_core.attacks.attack import attack, attacks, run, worst_of
from linkage_core.attacks.attackers import ATTACKERS, allowed
from linkage_core.attacks.held import Held, Known, hold
from linkage_core.attacks.omniscient import omniscient_counts
from linkage_core.audit import study as audit
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear, identity, unit
from linkage_core.ranking import pools
from linkage_core.release import ceiling
from linkage_core.store.entry import Entry, Store

LEARNERS = ("known-pairs", "bayes-gaussian", "reader")


def rotation(seed: int = 3) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))[0]


def label_head() -> np.ndarray:
    return np.eye(D)[:N_LABELS]


def recall(held: Held, attacker: str, m: Known = "all", pool_size: int = 100, **options: bool) -> float:
    return float(pools.expected_recall(run(held, attacker, m, **options)[0], pool_size, 1).mean())


CLEAN = recall(simulated(), "cosine")


# ------------------------------------------------------------------------------------------- exact, by slow loops


@pytest.mark.usefixtures("few_steps_here")
@pytest.mark.parametrize("attacker", [name for name, one in ATTACKERS.items() if not one.unpaired])
def test_counts_equal_a_loop_over_pairs(attacker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores an attacker arrives at, compared pair by pair; ties are those of identical texts alone."""
    held = simulated(rotation(), n_own=200, n_test=60, shared=True)
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    real = scored_module.match_counts

    def watched(queries, candidates, match, **groups):
        seen.append((np.asarray(queries, float), np.asarray(candidates, float)))
        return real(queries, candidates, match, **groups)

    monkeypatch.setattr(scored_module, "match_counts", watched)
    counts = run(held, attacker)[0]
    queries, candidates = seen[-1]
    for i in range(len(queries)):
        better = tied = eligible = 0
        own = sum(a * b for a, b in zip(queries[i], candidates[held.match[i]], strict=True))
        for j in range(len(candidates)):
            if held.candidate_group[j] == held.query_group[i]:
                continue
            eligible += 1
            if held.text_of[j] == held.text_of[held.match[i]]:
                tied += 1
            else:
                better += sum(a * b for a, b in zip(queries[i], candidates[j], strict=True)) > own
        assert (counts.n_eligible[i], counts.n_tied[i]) == (eligible, tied)
        assert abs(counts.n_better[i] - better) <= 1, "float32 may part a near tie"
    assert counts.n_tied.max() >= 10


def test_the_gaussian_score_is_the_log_likelihood() -> None:
    held = simulated(n_own=300, n_test=40)
    arrays = learn_pairs._Arrays(held, np.arange(300))
    variant = learn_pairs._Variant("gaussian", "release", "features", True, 1e-2, 0.1)
    queries, of_text = variant.fit(arrays, arrays, 0.0, True)(held)
    f, r = arrays.read("features", True), held.own_clean.astype(float)
    fc, rc = f - f.mean(0), r - r.mean(0)
    slope = np.linalg.solve(fc.T @ fc + 1e-2 * np.trace(fc.T @ fc) / f.shape[1] * np.eye(f.shape[1]), fc.T @ rc)
    left = rc - fc @ slope
    covariance = left.T @ left / len(r)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / D * np.eye(D)
    means = (arrays.read_in(held, "features", True) - f.mean(0)) @ slope + r.mean(0)
    for i in (0, 7, 23):
        gap = held.released[i] - means
        log_likelihood = -0.5 * np.einsum("jd,de,je->j", gap, np.linalg.inv(covariance), gap)
        scores = of_text @ queries[i]
        assert np.allclose(scores - scores[0], log_likelihood - log_likelihood[0], atol=1e-6)


def test_the_white_box_without_ridge_is_the_pseudo_inverse() -> None:
    """A head of full rank whose norms are all one can be undone exactly."""
    held = simulated(rotation() * np.geomspace(1, 0.1, D))
    scaled = held.own_images / np.linalg.norm(held.heads.image(held.own_images), axis=1, keepdims=True)
    flat = replace(held, own_images=scaled, own_clean=held.heads.image(scaled), own_released=held.heads.image(scaled))
    found = turn_back.white_box(flat, np.arange(0), 0, True)
    expected = held.images / np.linalg.norm(held.heads.image(held.images), axis=1, keepdims=True)
    assert found.chosen == "ridge 1e-08"
    assert np.allclose(found.queries, expected, atol=1e-3)


# ------------------------------------------------------------------------------------------- what each must recover


def test_a_secret_rotation_hides_from_cosine_and_is_undone_by_known_images() -> None:
    held = simulated(rotation())  # the text head stays where it was
    assert recall(held, "cosine") < 0.02
    assert recall(held, "known-images", 0) < 0.02
    assert recall(held, "known-images", 100) == pytest.approx(CLEAN, abs=0.02)
    assert recall(held, "white-box") == pytest.approx(CLEAN, abs=0.02)


def test_known_images_go_through_a_rotation_with_few_of_them() -> None:
    """Procrustes needs about as many images as dimensions; it is what is chosen there."""
    _, known, chosen = run(simulated(rotation()), "known-images", 40)
    assert known == 40
    assert "rotation" in chosen


def test_noise_damaged_heads_are_repaired() -> None:
    rng = np.random.default_rng(5)
    damaged = [0.5 * np.eye(D) + rng.standard_normal((D, D)) / np.sqrt(D) for _ in range(2)]
    held = simulated(damaged[0], text_head=damaged[1])
    assert recall(held, "cosine") < 0.4 * CLEAN
    assert recall(held, "known-images", 500) > 0.9 * CLEAN
    assert recall(held, "white-box") > 0.9 * CLEAN


def test_what_truncation_removed_stays_removed_and_the_rest_is_used() -> None:
    held = simulated(np.eye(D)[: D // 2], text_head=np.eye(D)[: D // 2])
    cosine = recall(held, "cosine")
    assert 0.02 < cosine < CLEAN
    for attacker in ("white-box", "known-images"):
        assert 0.8 * cosine < recall(held, attacker) < CLEAN
    with pytest.raises(InputError, match="12 dimensions, off-the-shelf ones 24"):
        run(held, "known-images", 0)


def test_a_label_head_keeps_label_information_only() -> None:
    """No attacker beats one who is told the true labels of the image; the reader comes near."""
    held = simulated(label_head(), text_head=label_head())
    labels = held.findings[held.text_of][:, :N_LABELS]
    told = replace(held, released=labels.astype(np.float32), heads=Heads(identity(N_LABELS), identity(N_LABELS)))
    best = told.count(2 * labels - 1, 2 * held.findings[:, :N_LABELS] - 1)
    limit = pools.expected_recall(best, 100, 1).mean()
    found = {name: recall(held, name) for name in allowed("embeddings-and-heads")}
    assert max(found.values()) < limit < CLEAN
    assert found["reader"] == max(found[name] for name in LEARNERS)
    assert recall(held, "raw-images") > limit, "the images are not behind any head"


def test_learning_from_pairs_needs_pairs_and_uses_them() -> None:
    held = simulated(rotation())
    for attacker in LEARNERS:
        few, many = recall(held, attacker, 10), recall(held, attacker)
        assert few < 0.8 * many
        assert many > 0.8 * CLEAN
    assert recall(held, "bayes-gaussian") > CLEAN, "it knows which coordinates to trust; cosine does not"


def test_knowing_the_noise_law_is_not_worse_than_ignoring_it() -> None:
    held = simulated(noise=0.2)
    aware = recall(held, "bayes-gaussian")
    ignorant = recall(replace(held, noise=0.0, own_released=held.own_clean), "bayes-gaussian")
    assert 0.02 < ignorant <= aware + 0.01
    assert aware < CLEAN


def test_nothing_to_find_is_found_by_nobody() -> None:
    held = simulated()
    strangers = np.random.default_rng(0).permutation(N_TEST)
    blind = replace(held, released=held.released[strangers], images=held.images[strangers])
    for attacker in ("cosine", "known-images", "reader"):
        assert recall(blind, attacker) < 0.025, attacker


# ------------------------------------------------------------------------------------------------ honest by design


def test_an_attacker_who_saw_the_test_pairs_is_refused() -> None:
    """The broken twin: its own data are the queries, and it finds far more than there is to find."""
    held = simulated(rotation())
    with pytest.raises(InputError, match=r"150 patients of the attacker's own data .* seen the answers"):
        replace(held, own_group=held.query_group, own_released=held.released, own_images=held.images)
    with pytest.raises(InputError, match="no data of its own"):
        replace(held, own_group=held.own_group[:0])
    peeking = replace(
        held,
        own_group=held.query_group + 10_000,  # a forged name slips past the guard
        **{f"own_{name}": getattr(held, name) for name in ("released", "images")},
        own_clean=held.released,
        own_texts=held.texts[held.text_of],
        own_findings=held.findings[held.text_of],
    )
    honest = replace(
        held,
        **{name: getattr(held, name)[:N_TEST] for name in vars(held) if name.startswith("own_")},
    )
    assert recall(peeking, "known-pairs") > recall(honest, "known-pairs") + 0.05


def test_nothing_is_chosen_on_the_queries() -> None:
    """Other matches, other counts; but what was learnt and chosen stays bit by bit."""
    held = simulated(n_own=300, n_test=80)
    other = replace(held, match=held.match[::-1].copy())
    for attacker in ("white-box", "known-images", "bayes-gaussian"):
        assert run(held, attacker)[2] == run(other, attacker)[2]


def test_known_images_are_nested_in_m_and_come_by_patient() -> None:
    held = simulated()
    few, more = (set(folds.known_rows(held, m, 0).tolist()) for m in (11, 60))
    assert few < more
    assert len({held.own_group[row] for row in few}) == 6
    for m in (-1, 601, 2.5, True):
        with pytest.raises(InputError, match="from 0 to 600"):
            folds.known_rows(held, m, 0)


def test_patients_stay_whole_in_the_folds() -> None:
    held = simulated()
    known = folds.known_rows(held, 101, 0)
    for learn, left_out, public in folds.own_splits(held, known, 0):
        assert not set(held.own_group[learn]) & set(held.own_group[left_out])
        assert not set(held.own_group[public]) & set(held.own_group[left_out])
        assert sorted([*learn, *left_out]) == known.tolist()


# ------------------------------------------------------------------------------------------------------ the ceiling


def test_pools_of_two_have_a_closed_form() -> None:
    """N = 2: P(right) = Phi(distance / (2 sigma)), the mean over pairs."""
    rng = np.random.default_rng(0)
    points, ids, sigma = rng.standard_normal((150, 2)), np.arange(150), 0.7
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    exact = norm.cdf(distance / (2 * sigma))[~np.eye(150, dtype=bool)].mean()
    drawn = [pools.expected_recall(omniscient_counts(points, ids, ids, sigma, rng), 2, 1).mean() for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(exact, abs=4 * np.std(drawn) / np.sqrt(200))
    assert np.std(drawn) / np.sqrt(200) < 0.002


@pytest.mark.parametrize("k", [1, 2])
def test_the_ceiling_equals_the_integral_by_brute_force(k: int) -> None:
    """All pools of three among twelve points on a line, some identical: (1/N) integral of the k largest densities."""
    rng = np.random.default_rng(1)
    points, sigma = np.append(rng.standard_normal(10), [0.3, 0.3]), 0.3
    grid = np.linspace(-5, 5, 4001)
    density = norm.pdf(grid[:, None], points, sigma)
    largest = [np.sort(density[:, pool], axis=1)[:, -k:].sum() for pool in combinations(range(12), 3)]
    exact = np.mean(largest) * (grid[1] - grid[0]) / 3
    ids = np.arange(12)
    drawn = [
        pools.expected_recall(omniscient_counts(points[:, None], ids, ids, sigma, rng), 3, k).mean() for _ in range(400)
    ]
    assert np.mean(drawn) == pytest.approx(exact, abs=4 * np.std(drawn) / np.sqrt(400))
    assert np.std(drawn) / np.sqrt(400) < 0.005


def test_without_noise_the_ceiling_is_one_over_the_identical() -> None:
    clean = unit(np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 1]], dtype=float))
    ids = np.arange(5)
    counts = omniscient_counts(clean, ids, ids)
    assert counts.n_tied.tolist() == [2, 2, 2, 0, 0]
    assert counts.n_better.sum() == 0
    assert pools.full_recall(counts, 1).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 1])
    same_patient = omniscient_counts(clean, ids, np.array([0, 0, 1, 2, 3]))
    assert same_patient.n_tied.tolist() == [1, 1, 2, 0, 0]
    assert same_patient.n_eligible.tolist() == [3, 3, 4, 4, 4]
    two_images = omniscient_counts(clean, np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2]))
    assert two_images.n_eligible.tolist() == [2] * 5
    assert two_images.n_tied.tolist() == [1, 0, 1, 0, 0], "image 0 meets image 0 of the others, image 1 their image 1"


@pytest.mark.parametrize("noise", [0.0, 0.15, 0.6])
def test_no_attacker_is_above_the_ceiling(noise: float) -> None:
    held = simulated(noise=noise, n_own=300, n_test=200)
    ids = np.arange(200)
    rng = np.random.default_rng(0)
    clean = unit(held.heads.image(held.images))
    draws = [omniscient_counts(clean, ids, held.query_group, noise, rng) for _ in range(4)]
    found = {attacker: run(held, attacker)[0] for attacker in allowed("embeddings-and-heads")}
    for pool_size, k in ((5, 1), (100, 1), (100, 5)):
        drawn = np.mean([pools.expected_recall(one, pool_size, k) for one in draws], axis=0)
        for attacker, counts in found.items():
            gap = drawn - pools.expected_recall(counts, pool_size, k)
            assert gap.mean() >= -4 * gap.std() / np.sqrt(200), attacker


# ------------------------------------------------------------------------------------------------------ an entry


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """A toy cohort with an attacker's split, whose images lean towards their reports."""
    folder = tmp_path_factory.mktemp("input")
    records = toy_records(240)
    rng = np.random.default_rng(1)
    codes = np.unique(records["report"], return_inverse=True)[1]
    texts = rng.standard_normal((codes.max() + 1, 16))[codes].astype(np.float32)
    images = (texts + rng.standard_normal(texts.shape)).astype(np.float32)
    found = replace(read_back(records, folder), default_split="heldout")
    return import_arrays(found, "m", images, texts, Store(folder / "store"))


def test_cosine_off_the_shelf_is_the_audit(entry: Entry) -> None:
    study, found = audit.study(entry), attack(entry)
    for one, other in zip(study.counts, found.counts, strict=True):
        assert (one == other).all()
    assert found.queries["record_id"].tolist() == study.queries["record_id"].tolist()


@pytest.mark.usefixtures("few_steps_here")
def test_the_table_names_everything_and_repeats_itself(entry: Entry) -> None:
    def table_of() -> pd.DataFrame:
        return pd.concat([one.table([10, 50], [1]) for one in attacks(entry, m=(0, 10, 5000), seed=3)])

    rows = table_of()
    assert list(rows.columns) == list(attackers.COLUMNS)
    assert set(rows["attacker"]) == set(allowed("embeddings-and-heads"))
    n_own = len(entry.records("attacker"))
    known = rows[rows["attacker"] == "known-images"]["known"].unique().tolist()
    assert known == [0, 10, n_own], "5,000 is more than there are: all of them"
    assert (rows["recall_low"] <= rows["recall"]).all()
    assert rows.equals(table_of())


def _with_ranks(base: attackers.Attack, better: np.ndarray, name: str) -> attackers.Attack:
    """The same attack with other counts: better (n_queries,) candidates above the match, none level."""
    counts = base.counts._replace(n_better=better, n_tied=0 * better)
    return replace(base, study=replace(base.study, counts=counts), attacker=name)


def test_the_worst_is_one_attacker_chosen_where_hits_are_many(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first finds one image for certain and is blind on all others, who comes near everywhere is the worst at
    every N; chosen at a large N it would be the lucky one."""
    base = attack(entry)
    last = base.counts.n_eligible
    lucky = _with_ranks(base, np.where(np.arange(len(last)) == 0, 0, last), "lucky")
    near = _with_ranks(base, last // 20, "near")
    largest = base.study.common_pool
    monkeypatch.setattr(attackers, "CHOSEN_AT", 10)
    said = {n: worst_of([lucky, near], n, 1) for n in (2, 10, largest)}
    assert {one["attacker"] for one in said.values()} == {"near"}
    for n, one in said.items():
        assert one["recall"] == pytest.approx(pools.expected_recall(near.counts, n, 1).mean())
        assert one["n_attackers"] == 2
    monkeypatch.setattr(attackers, "CHOSEN_AT", largest)
    assert worst_of([lucky, near], largest, 1)["attacker"] == "lucky"


def test_where_no_query_fills_a_hundred_the_worst_is_chosen_in_the_largest_pool(entry: Entry) -> None:
    base = attack(entry)
    few = base.counts.n_eligible * 0 + 11
    counts = base.counts._replace(n_better=few, n_tied=0 * few, n_eligible=few)
    blind = replace(base, study=replace(base.study, counts=counts), attacker="blind")
    sees = replace(base, study=replace(base.study, counts=counts._replace(n_better=0 * few)), attacker="sees")
    assert worst_of([blind, sees], 12, 1)["attacker"] == "sees"


def test_who_may_act_on_what(entry: Entry) -> None:
    with pytest.raises(InputError, match=r"'cosine' needs more than the release 'raw-images' gives.*raw-images"):
        attack(entry, attacker="cosine", release="raw-images")
    with pytest.raises(InputError, match="attacker is 'magic'"):
        attack(entry, attacker="magic")
    with pytest.raises(InputError, match="release is 'all'"):
        attackers.attacks(entry, release="all")
    with pytest.raises(InputError, match="m is 0"):
        attack(entry, attacker="reader", m=0)
    assert "cosine" in allowed("embeddings"), "off-the-shelf heads are public"
    assert "cosine" not in allowed("embeddings", "secret")


def test_too_little_to_choose_or_simulate_from_is_refused(entry: Entry) -> None:
    with pytest.raises(InputError, match="no attack to choose from"):
        worst_of([], 10, 1)
    narrow = Heads(*(Linear(head.weight[:5], head.bias[:5]) for head in (entry.heads().image, entry.heads().text)))
    with pytest.raises(InputError, match=r"No attacker can act on the release 'embeddings' with m = 0"):
        attackers.attacks(entry.add_head("narrow", narrow, {}), "narrow", release="embeddings", m=0)
    with pytest.raises(InputError, match=r"draws is 1\."):
        ceiling.of_head(entry, pool_sizes=[10], noise=0.5, draws=1)
    with pytest.raises(InputError, match="no rng was given"):
        omniscient.omniscient_counts(np.eye(3), np.arange(3), np.arange(3), 0.5)


def test_a_head_trained_on_the_queried_patients_is_refused(entry: Entry) -> None:
    made = entry
    for split in ("heldout", "attacker"):
        trained = {"cohort": entry.cohort, "fingerprint": entry.manifest["cohort"]["fingerprint"], "split": split}
        made = made.add_head(f"on-{split}", entry.heads(), {"trained_on": trained})
    for source in (None, entry.__class__(made.cohort, made.model, made.path, made.manifest)):
        with pytest.raises(InputError, match="was trained on patients of toy, split 'heldout'"):
            attack(made, "on-heldout", source=source)
    assert len(attack(made, "on-attacker").queries) == len(entry.records("heldout"))


def test_a_head_of_output_noise_is_attacked_through_its_noise(entry: Entry) -> None:
    made = entry.add_head("noisy", entry.heads(), {"mechanism": "output-noise", "output_noise": 0.5})
    assert hold(made, "noisy").noise == 0.5
    clean, noisy = (attack(made, head).study.recall(10, 1)[0].mean() for head in ("off-the-shelf", "noisy"))
    assert noisy < clean - 0.05
    assert ceiling.of_head(made, "noisy", pool_sizes=[10])["how"].iloc[0].startswith("Monte Carlo")


def test_the_ceiling_of_an_entry(entry: Entry) -> None:
    clean = ceiling.of_head(entry, pool_sizes=[10], ks=[1, 3])
    noisy = ceiling.of_head(entry, pool_sizes=[10], ks=[1], noise=0.5)
    assert clean["how"].tolist() == ["exact", "exact"]
    assert clean["ceiling"].iloc[0] == 1
    row = noisy.iloc[0]
    assert 0.1 < row["ceiling_low"] < row["ceiling"] < row["ceiling_high"] < 1
    assert 0 < row["error"] < 0.05
    held = hold(entry, noise=0.5)
    assert pools.expected_recall(run(held, "cosine")[0], 10, 1).mean() < row["ceiling"]
    with pytest.raises(InputError, match="noise is -1"):
        hold(entry, noise=-1.0)


def test_a_head_that_merges_images_hides_them_from_everybody(entry: Entry) -> None:
    """One coordinate, so that a unit embedding is 1 or -1: who knows them all still guesses among half the studies."""
    line = Linear(np.ones((1, 16), np.float32), np.zeros(1, np.float32))
    made = entry.add_head("sign", Heads(line, line), {})
    records = made.records(made.default_split)
    clean = made.embeddings("sign").images
    counts = omniscient_counts(clean, records["study_id"].to_numpy(str), records["patient_id"].to_numpy(str))
    row = ceiling.of_head(made, "sign", ["full"]).iloc[0]
    assert row["ceiling"] == pytest.approx(pools.full_recall(counts, 1).mean())
    assert 0 < row["ceiling"] < 10 * row["chance"]
    assert (row["noise"], row["how"], row["error"]) == (0, "exact", 0)


@pytest.mark.usefixtures("few_steps_here")
def test_who_has_the_images_has_the_public_embeddings_too(entry: Entry) -> None:
    shelf = {one.attacker: one for one in attacks(entry)}
    raw = {one.attacker: one for one in attacks(entry, release="raw-images")}
    assert set(raw) == {*shelf, *allowed("raw-images")} - {"bridge"}, "nothing was embedded by encoders that never met"
    assert {one.release for one in raw.values()} == {"raw-images"}
    for name, one in shelf.items():
        assert (raw[name].counts.n_better == one.counts.n_better).all()
    best = max(pools.expected_recall(one.counts, 10, 1).mean() for one in shelf.values())
    assert max(pools.expected_recall(one.counts, 10, 1).mean() for one in raw.values()) >= best
