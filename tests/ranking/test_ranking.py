"""match_counts against the full matrix, with ties, groups and texts."""

import numpy as np
import pytest

from linkage_core.errors import InputError
from linkage_core.ranking import _count
from linkage_core.ranking import counts as ranking
from linkage_core.ranking.counts import match_counts


def oracle(images, reports, match, query_group=None, candidate_group=None, query_text=None, candidate_text=None):
    """One query and one candidate at a time."""
    out = []
    for i, image in enumerate(images):
        scores = [float(np.dot(image, report)) for report in reports]
        better = tied = eligible = 0
        for j, score in enumerate(scores):
            if j == match[i] or (query_group is not None and query_group[i] == candidate_group[j]):
                continue
            eligible += 1
            same_text = query_text is not None and query_text[i] == candidate_text[j]
            if not same_text:
                better += score > scores[match[i]]
                tied += score == scores[match[i]]
        out.append((better, tied, eligible))
    return [list(column) for column in zip(*out, strict=True)]


def grid(rng: np.random.Generator, n: int, d: int, levels: int = 3) -> np.ndarray:
    """Small whole numbers: every product is exact, and ties between different vectors are common."""
    return rng.integers(-levels, levels + 1, size=(n, d)).astype(np.float64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("precision", [np.float32, np.float64, np.float16])
def test_equals_the_oracle_on_tied_vectors_with_groups_and_texts(
    seed: int, precision: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "QUERY_BLOCK", 7)
    monkeypatch.setattr(ranking, "CANDIDATE_BLOCK", 5)
    rng = np.random.default_rng(seed)
    n_queries, n_candidates = rng.integers(1, 40, 2)
    images, reports = grid(rng, n_queries, 3), grid(rng, n_candidates, 3, levels=1)
    match = rng.integers(0, n_candidates, n_queries)
    candidate_group = rng.integers(0, 6, n_candidates)
    candidate_text = np.unique(reports, axis=0, return_inverse=True)[1]
    groups = {"query_group": candidate_group[match], "candidate_group": candidate_group}
    texts = {"query_text": candidate_text[match], "candidate_text": candidate_text}
    any_text = rng.integers(0, 4, n_candidates)  # as of images: one text, vectors of their own
    loose = {"query_text": any_text[match], "candidate_text": any_text}
    for options in ({}, groups, texts, groups | texts, groups | loose):
        counts = match_counts(images.astype(precision), reports.astype(precision), match, **options)
        assert [column.tolist() for column in counts] == oracle(images, reports, match, **options)


@pytest.mark.parametrize(("n", "blocks"), [(300, (64, 128)), (1, (1024, 2048)), (2, (1, 1))])
def test_equals_the_full_matrix_on_random_unit_vectors(
    n: int, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "QUERY_BLOCK", blocks[0])
    monkeypatch.setattr(ranking, "CANDIDATE_BLOCK", blocks[1])
    rng = np.random.default_rng(n)
    images, reports = rng.standard_normal((2, n, 16))
    match = rng.permutation(n)
    scores = images @ reports.T
    own = scores[np.arange(n), match][:, None]
    counts = match_counts(images, reports, match)
    assert counts.n_better.tolist() == (scores > own).sum(1).tolist()
    assert counts.n_tied.tolist() == ((scores == own).sum(1) - 1).tolist()
    assert counts.n_eligible.tolist() == [n - 1] * n


def test_identical_candidates_tie_exactly_wherever_they_stand() -> None:
    """Copies scattered over several tiles, with values whose product rounds."""
    rng = np.random.default_rng(5)
    base = rng.standard_normal((40, 33)).astype(np.float32)
    reports = base[rng.integers(0, 40, 5000)]
    images = rng.standard_normal((3000, 33)).astype(np.float32)
    match = rng.integers(0, 5000, 3000)
    counts = match_counts(images, reports, match)
    copies = np.array([(reports == reports[m]).all(axis=1).sum() for m in match[:200]])
    assert counts.n_tied[:200].tolist() == (copies - 1).tolist()


def test_a_constant_scorer_ties_all_and_beats_none() -> None:
    constant = np.tile(np.array([0.1, 0.7, -0.3], dtype=np.float32), (2500, 1))
    counts = match_counts(constant, constant, np.arange(2500))
    assert counts.n_better.max() == 0
    assert counts.n_tied.min() == counts.n_eligible.min() == 2499


def test_negative_zero_equals_zero() -> None:
    reports = np.array([[0.0, 1.0], [-0.0, 1.0]], dtype=np.float32)
    counts = match_counts(np.array([[1.0, 0.3]], dtype=np.float32), reports, np.array([0]))
    assert counts.n_tied.tolist() == [1]
    vectors, column_of, multiplicity = ranking.distinct(reports, np.array([0]))
    assert (len(vectors), column_of.tolist(), multiplicity.tolist()) == (1, [0, 0], [2])


def test_same_counts_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    images, reports = grid(rng, 200, 4), grid(rng, 300, 4, levels=1)
    match = rng.integers(0, 300, 200)
    distinct = np.unique(reports, axis=0)  # other vectors that tie: without copies they are counted in another way
    own = match % len(distinct)
    compiled = [match_counts(images, reports, match), match_counts(images, distinct, own)]
    assert _count.compiled("float64"), "numba is part of the base set: the compiled path must have been tested"
    monkeypatch.setattr(_count, "compiled", lambda precision: None)
    plain = [match_counts(images, reports, match), match_counts(images, distinct, own)]
    assert compiled[1].n_tied.sum() > 100
    for one, other in zip(compiled, plain, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_several_images_of_a_study_share_their_candidate() -> None:
    reports = np.eye(3)
    images = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.2, 0.9, 0]])
    counts = match_counts(images, reports, np.array([0, 0, 1, 1]))
    assert counts.n_better.tolist() == [0, 1, 1, 0]


def test_bad_input_names_argument_row_and_remedy() -> None:
    good = np.eye(3)
    bad = good.copy()
    bad[1, 2] = np.nan
    with pytest.raises(InputError, match=r"report_embeddings row 1 holds NaN"):
        match_counts(good, bad, np.arange(3))
    with pytest.raises(InputError, match=r"match has shape \(2,\) for 3 queries"):
        match_counts(good, good, np.arange(2))
    with pytest.raises(InputError, match=r"match\[2\] is 3, and there are 3 candidates"):
        match_counts(good, good, np.array([0, 1, 3]))
    with pytest.raises(InputError, match="have 3 dimensions, report_embeddings 2"):
        match_counts(good, np.eye(2), np.array([0, 1, 1]))
    with pytest.raises(InputError, match="Only one of query_group"):
        match_counts(good, good, np.arange(3), query_group=np.arange(3))
    with pytest.raises(InputError, match=r"candidate_group has shape \(2,\), expected \(3,\)"):
        match_counts(good, good, np.arange(3), query_group=np.arange(3), candidate_group=np.arange(2))
    with pytest.raises(InputError, match="image_embeddings has shape"):
        match_counts(good[0], good, np.arange(3))
