"""Fused images, fused reports, other hits and other galleries, against loops over queries and candidates."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.toy import read_back, toy_arrays, toy_entry, toy_records
from linkage_core.audit import fusion
from linkage_core.audit import study as audit
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.intervals import unseen
from linkage_core.store.entry import Embeddings, Entry, Store

SWITCHES = [
    (images, reports, hit)
    for images in (None, "study", "patient")
    for reports in (None, "patient")
    for hit in ("report", "text", "patient")
    if not (images == "patient" and reports is None and hit != "patient")
]
TURNED = [
    (images, reports, hit)
    for images in (None, "study", "patient")
    for reports in (None, "patient")
    for hit in ("report", "text", "patient")
    if not (reports == "patient" and images != "patient" and hit != "patient")
]


def oracle(one: Embeddings, images_by: str | None, reports_by: str | None, hit: str) -> dict[str, tuple[int, ...]]:
    """(n_better, n_tied, n_eligible, n_images, n_reports, n_hits) by query, from means of single scores."""
    records, candidates = one.records.reset_index(drop=True), one.candidates.reset_index(drop=True)
    scores = one.images.astype(np.float64) @ one.reports.astype(np.float64).T
    image_unit = records[{None: "record_id", "study": "study_id", "patient": "patient_id"}[images_by]]
    report_unit = candidates["study_id" if reports_by is None else "patient_id"]
    held = {
        unit: (columns, tuple(sorted(candidates["report_key"][columns])), candidates["patient_id"][columns[0]])
        for unit, columns in candidates.groupby(report_unit, sort=False).groups.items()
    }
    found = {}
    for query, rows in records.groupby(image_unit, sort=False).groups.items():
        patient = records["patient_id"][rows[0]]
        units = {
            unit: (scores[np.ix_(rows, columns)].mean(), texts, whose, len(columns))
            for unit, (columns, texts, whose) in held.items()
        }
        mine = {unit for unit, said in units.items() if said[2] == patient}
        if hit == "patient":
            match = max(mine, key=lambda unit: units[unit][0])
        else:
            match = records[report_unit.name][rows[0]]
        own, text, _, n_reports = units[match]
        better = tied = 0
        for unit, (score, texts, _, _) in units.items():
            if unit in mine or (hit == "text" and texts == text):
                continue
            tied += texts == text
            better += texts != text and score > own
        n_hits = len({units[unit][1] for unit in mine}) if hit == "patient" else 1
        found[str(query)] = (better, tied, len(units) - len(mine), len(rows), n_reports, n_hits)
    return found


@pytest.mark.parametrize(("images_by", "reports_by", "hit"), SWITCHES)
def test_every_switch_equals_a_loop(entry: Entry, images_by: Any, reports_by: Any, hit: Any) -> None:
    embeddings = entry.embeddings()
    assert embeddings.candidates["report_key"].duplicated().sum() > 5, "ties are part of the case"
    counts, queries = fusion.fused_counts(embeddings, images_by, reports_by, hit)
    slow = oracle(embeddings, images_by, reports_by, hit)
    assert list(slow) == queries["query_id"].tolist()
    figures = zip(*counts, queries["n_images"], queries["n_reports"], queries["n_hits"], strict=True)
    assert [tuple(map(int, row)) for row in figures] == list(slow.values())
    assert queries["patient_id"].notna().all()
    assert queries[["images_by", "reports_by", "hit"]].drop_duplicates().to_numpy().tolist() == [
        [images_by or "image", reports_by or "report", hit]
    ]


def turned_oracle(one: Embeddings, images_by: str | None, reports_by: str | None, hit: str) -> dict[str, tuple]:
    """Report to image: (n_better, n_tied, n_eligible, n_images of the best hit, n_reports, n_hits) by query."""
    image_rows, report_rows = one.records.to_dict("records"), one.candidates.to_dict("records")
    scores = one.images.astype(np.float64) @ one.reports.astype(np.float64).T

    def grouped(rows: list[dict], unit: str) -> dict[str, list[int]]:
        units: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            units.setdefault(row[unit], []).append(i)
        return units

    held = grouped(image_rows, {None: "record_id", "study": "study_id", "patient": "patient_id"}[images_by])
    queries = grouped(report_rows, "study_id" if reports_by is None else "patient_id")
    texts_of = {who: sorted(report_rows[i]["report_key"] for i in rows) for who, rows in queries.items()}
    found = {}
    for query, asked in queries.items():
        patient = report_rows[asked[0]]["patient_id"]
        studies = {report_rows[i]["study_id"] for i in asked}
        hits, rivals = {}, {}
        for unit, rows in held.items():
            mine = image_rows[rows[0]]["patient_id"] == patient
            if hit == "patient":
                is_hit = mine
            elif hit == "report":
                is_hit = any(image_rows[i]["study_id"] in studies for i in rows)
            elif reports_by is None:
                is_hit = any(image_rows[i]["report_key"] == texts_of[query][0] for i in rows)
            else:
                is_hit = texts_of[unit] == texts_of[query]
            if is_hit:
                hits[unit] = scores[np.ix_(rows, asked)].mean()
            elif not mine:
                rivals[unit] = scores[np.ix_(rows, asked)].mean()
        best = max(hits, key=lambda unit: hits[unit])
        above = sum(score > hits[best] for score in rivals.values())
        found[query] = (above, 0, len(rivals), len(held[best]), len(asked), len(hits))
    return found


@pytest.mark.parametrize(("images_by", "reports_by", "hit"), TURNED)
def test_every_switch_from_report_to_image_equals_a_loop(
    entry: Entry, images_by: Any, reports_by: Any, hit: Any
) -> None:
    embeddings = entry.embeddings()
    counts, queries = fusion.fused_counts(embeddings, images_by, reports_by, hit, "report-to-image")
    slow = turned_oracle(embeddings, images_by, reports_by, hit)
    assert list(slow) == queries["query_id"].tolist()
    figures = zip(*counts, queries["n_images"], queries["n_reports"], queries["n_hits"], strict=True)
    assert [tuple(map(int, row)) for row in figures] == list(slow.values())
    assert set(queries["direction"]) == {"report-to-image"}
    assert (hit, reports_by) != ("text", None) or max(queries["n_hits"]) > 3, "texts that several patients share"


def test_equal_images_tie_and_are_one_chance(entry: Entry) -> None:
    """Records that hold one image twice: of another patient it ties, of the own study it is no second chance."""
    embeddings = entry.embeddings()
    images = embeddings.images.copy()
    two = np.flatnonzero(embeddings.match == embeddings.match[np.diff(embeddings.match, append=-1) == 0][0])
    images[two[1]] = images[two[0]]
    away = int(np.flatnonzero(embeddings.query_group != embeddings.query_group[two[0]])[0])
    images[away] = images[two[0]]
    counts, queries = fusion.fused_counts(dataclasses.replace(embeddings, images=images), direction="report-to-image")
    row = int(embeddings.match[two[0]])
    assert queries["n_hits"][row] == 1
    assert counts.n_tied[row] == 1


def test_report_to_image_agrees_with_the_audit_where_a_study_has_one_image(entry: Entry) -> None:
    """And elsewhere the best image of the study decides, with as many chances as it has images."""
    counts, queries = fusion.fused_counts(entry.embeddings(), direction="report-to-image")
    study = audit.study(entry, direction="report-to-image")
    best = study.queries.assign(n_better=study.counts.n_better).groupby("study_id", sort=False)["n_better"].min()
    assert counts.n_better.tolist() == best.loc[queries["study_id"]].tolist()
    several = study.queries.groupby("study_id", sort=False).size().loc[queries["study_id"]].to_numpy()
    assert queries["n_hits"].tolist() == several.tolist()
    assert 0 < (several == 1).sum() < len(several)
    single = study.queries["study_id"].isin(queries["study_id"][several == 1]).to_numpy()
    for ours, theirs in zip(counts, study.counts, strict=True):
        assert ours[several == 1].tolist() == theirs[single].tolist()


def test_nothing_fused_is_the_audit(entry: Entry) -> None:
    for hit, pool in (("report", "other-patients"), ("text", "same-text-counts")):
        counts, queries = fusion.fused_counts(entry.embeddings(), hit=hit)
        study = audit.study(entry, pool=pool)
        assert all((a == b).all() for a, b in zip(counts, study.counts, strict=True))
        assert queries["query_id"].tolist() == study.queries["record_id"].tolist()
        assert queries["match_id"].tolist() == study.queries["study_id"].tolist()


def made(
    n_patients: int,
    seed: int,
    d: int = 16,
    signal: float = 0.0,
    repeat_text: bool = False,
    n_texts: int = 0,
    most: int = 4,
) -> Embeddings:
    """Two images a study, one to four studies a patient (or `most`), vectors of noise; a text a study, or a patient, or
    one of a few."""
    rng = np.random.default_rng(seed)
    rows = [(p, s) for p in range(n_patients) for s in range(rng.integers(1, 5) if most == 4 else most)]
    candidates = pd.DataFrame(
        {
            "study_id": [f"s{p}-{s}" for p, s in rows],
            "patient_id": [f"p{p}" for p, _ in rows],
            "report_key": [f"k{p}" if repeat_text else f"k{p}-{s}" for p, s in rows],
            "report_words": 5,
        }
    )
    if n_texts:
        candidates["report_key"] = [f"k{i}" for i in rng.integers(0, n_texts, len(rows))]
    code = pd.factorize(candidates["report_key"])[0]
    reports = rng.standard_normal((code.max() + 1, d))[code]
    match = np.repeat(np.arange(len(rows)), 2)
    images = signal * reports[match] + rng.standard_normal((len(match), d))
    group = np.array([p for p, _ in rows])
    records = candidates.iloc[match].reset_index(drop=True).assign(record_id=[f"r{i}" for i in range(len(match))])

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    return Embeddings(unit(images), unit(reports), match, group[match], group, records, candidates)


def test_several_hits_are_several_chances() -> None:
    """A scorer that knows nothing finds one of m own reports as often as the baseline says, and more often than k/N."""
    expected, baseline = [], []
    for seed in range(12):
        counts, queries = fusion.fused_counts(made(120, seed), hit="patient")
        expected.append(pools.expected_recall(counts, 20, 3).mean())
        baseline.append(pools.any_hit_by_chance(queries["n_hits"].to_numpy(), 20, 3).mean())
    error = np.std(expected, ddof=1) / np.sqrt(len(expected))
    assert abs(np.mean(expected) - np.mean(baseline)) < 4 * error
    assert np.mean(expected) > 3 / 20 + 8 * error


@pytest.mark.parametrize(("images_by", "reports_by", "hit"), TURNED)
def test_report_to_image_a_scorer_that_knows_nothing_finds_as_often_as_chance(
    images_by: Any, reports_by: Any, hit: Any
) -> None:
    """Two studies each: the mean of many is shorter than that of few, and so less often among the first or the last."""
    apart = []
    for seed in range(30):
        one = made(70, seed, d=64, n_texts=120, most=2)
        counts, queries = fusion.fused_counts(one, images_by, reports_by, hit, "report-to-image")
        found = pools.expected_recall(counts, 20, 3)
        apart.append(found.mean() - fusion.chance(counts, queries, 20, 3).mean())
    error = np.std(apart, ddof=1) / np.sqrt(len(apart))
    assert error < 0.012
    assert abs(np.mean(apart)) < 4.5 * error


def test_the_baseline_of_texts_in_the_pool_equals_drawing() -> None:
    """Own report and N-1 of E others, c of which have its text: k of the pool at random."""
    rng = np.random.default_rng(1)
    for eligible, c, n, k in ((12, 3, 6, 2), (30, 1, 10, 1), (9, 9, 4, 1), (8, 5, 8, 3), (5, 2, 1, 1)):
        drawn = rng.random((40_000, eligible)).argsort(axis=1)[:, : n - 1]
        pool = np.concatenate([np.zeros((40_000, 1), dtype=int), 1 + drawn], axis=1)  # 0 is the match, 1..c its texts
        guess = rng.permuted(pool, axis=1)[:, :k]
        share = (guess <= c).any(axis=1).mean()
        counts = pools.MatchCounts(*(np.array([v]) for v in (0, 0, eligible)))
        exact = fusion.chance(counts, pd.DataFrame({"n_hits": [1], "n_same_text": [c]}), n, k)[0]
        assert abs(share - exact) <= 4 * np.sqrt(exact * (1 - exact) / 40_000) + 1e-9


def test_a_text_that_many_share_is_easily_guessed(entry: Entry) -> None:
    """A seventh of all reports are one sentence: k/N would call guessing it a link."""
    counts, queries = fusion.fused_counts(entry.embeddings(), hit="text")
    shared = (queries["n_same_text"] > 10).to_numpy()
    guessed = fusion.chance(counts, queries, 20, 1)
    assert (guessed[shared] > 0.12).all()
    assert guessed[(queries["n_same_text"] == 0).to_numpy()] == pytest.approx(0.05)


def test_the_baseline_of_several_hits_equals_shuffling() -> None:
    rng = np.random.default_rng(0)
    for m, n, k in ((1, 10, 3), (4, 10, 3), (2, 2, 1), (5, 1, 1), (3, 6, 6)):
        order = rng.random((40_000, n - 1 + m)).argsort(axis=1)
        hit = (order[:, :k] < m).any(axis=1).mean()
        exact = pools.any_hit_by_chance(np.array([m]), n, k)[0]
        assert abs(hit - exact) <= 4 * np.sqrt(exact * (1 - exact) / 40_000)
    assert pools.any_hit_by_chance(np.array([1]), 50, 5)[0] == pytest.approx(0.1)
    with pytest.raises(InputError, match="k is 3, and the pool holds 2"):
        pools.any_hit_by_chance(np.array([1]), 2, 3)
    with pytest.raises(InputError, match="n_hits holds 0"):
        pools.any_hit_by_chance(np.array([0]), 5, 1)


def test_copies_of_one_text_are_one_chance_and_means_of_copies_tie() -> None:
    one = made(60, 3, repeat_text=True)
    _, queries = fusion.fused_counts(one, hit="patient")
    assert (queries["n_hits"] == 1).all()
    # two patients with the same texts, however many and in whatever order, tie bit by bit
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((3, 33)).astype(np.float32)
    rows = [0, 1, 2, 2, 1, 0]
    keys = np.array(["a", "b", "c"])[rows]
    candidates = pd.DataFrame({"study_id": list("uvwxyz"), "patient_id": list("ppprrr"), "report_key": keys})
    group = np.array([0, 0, 0, 1, 1, 1])
    records = candidates.assign(record_id=list("uvwxyz"))
    six = Embeddings(texts[rows], texts[rows], np.arange(6), group, group, records, candidates)
    counts, _ = fusion.fused_counts(six, reports_by="patient")
    assert counts.n_tied.tolist() == [1] * 6
    counts, _ = fusion.fused_counts(six, reports_by="patient", hit="text")
    assert counts.n_tied.tolist() == [0] * 6


def test_means_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = np.array([[2.0**60], [1.0], [-(2.0**60)]], dtype=np.float32)
    order = [1, 0, 2, 0, 2, 1]
    means = fusion._mean(rows[order], np.array([0, 0, 0, 1, 1, 1]), 2, np.array(order))
    assert means[0] == means[1]


def test_fusing_helps_where_errors_are_independent() -> None:
    one = made(300, 1, signal=0.5)
    single, fused = (pools.expected_recall(fusion.fused_counts(one, by)[0], 50, 1).mean() for by in (None, "study"))
    assert single + 0.05 < fused


def test_a_scorer_that_ties_everything_gives_chance() -> None:
    one = made(40, 5)
    flat = dataclasses.replace(one, images=np.ones_like(one.images), reports=np.ones_like(one.reports))
    for images_by, reports_by, hit in SWITCHES:
        if hit != "text":
            counts, queries = fusion.fused_counts(flat, images_by, reports_by, hit)
            assert pools.expected_recall(counts, 10, 3) == pytest.approx(np.full(len(queries), 0.3))
            assert (queries["n_hits"] == 1).all()


def test_switches_that_do_not_exist_or_do_not_fit(entry: Entry) -> None:
    embeddings = entry.embeddings()
    with pytest.raises(InputError, match="hit is 'near'"):
        fusion.fused_counts(embeddings, hit="near")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="images_by is 'ward'"):
        fusion.fused_counts(embeddings, "ward")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="direction is 'back'"):
        fusion.fused_counts(embeddings, direction="back")  # type: ignore[arg-type]
    for hit in ("report", "text"):
        with pytest.raises(InputError, match="has several reports, so fused images have no one report"):
            fusion.fused_counts(embeddings, "patient", hit=hit)
        with pytest.raises(InputError, match="reports of several studies, so fused reports have no one study"):
            fusion.fused_counts(embeddings, None, "patient", hit, "report-to-image")


def other_site(store: Store, folder: Path, signal: float = 1.0, same_people: bool = False, d: int = 16) -> Entry:
    """Another cohort under the same model: other people and texts, or the same people under another name."""
    records = toy_records(80) if same_people else toy_records(50, seed=5)
    if not same_people:
        records["report"] = [text.replace("Finding", "Film") for text in records["report"]]
        for column in ("record_id", "patient_id", "study_id"):
            records[column] = "b" + records[column]
    images, texts = toy_arrays(records, signal, seed=1 if same_people else 9, d=d)
    return import_arrays(read_back(records, folder, "site-b"), "m", images, texts, store)


def test_another_gallery_equals_a_loop(entry: Entry, store: Store, tmp_path: Path) -> None:
    other = other_site(store, tmp_path / "b")
    for query_entry, gallery_entry in ((entry, other), (other, entry)):
        counts, queries = fusion.shifted_counts(query_entry, gallery_entry)
        own, gallery = query_entry.embeddings(), gallery_entry.embeddings()
        for i in range(len(own.images)):
            score = own.images[i] @ own.reports[own.match[i]]
            others = gallery.reports @ own.images[i]
            assert counts.n_better[i] == (others > score).sum()
            assert counts.n_tied[i] == (gallery.reports == own.reports[own.match[i]]).all(axis=1).sum()
        assert (counts.n_eligible == len(gallery.reports)).all()
        assert queries["record_id"].tolist() == own.records["record_id"].tolist()
        assert set(queries["gallery_cohort"]) == {gallery_entry.cohort}


def test_a_text_that_both_cohorts_hold_ties_although_two_runs_differ() -> None:
    a, b = made(40, 1), made(40, 2)
    shared = a.reports[:7] * (1 + 1e-6)
    keys = b.candidates["report_key"].to_numpy().astype(object)
    keys[:] = [f"b{i}" for i in range(len(keys))]
    keys[:7] = a.candidates["report_key"][:7]
    keys[7] = a.candidates["report_key"][7]  # the same key for another vector, as imported arrays may have
    reports = b.reports.copy()
    reports[:7] = shared
    b = dataclasses.replace(b, reports=reports, candidates=b.candidates.assign(report_key=keys))
    joined = fusion._same_text_same_vector(a, b)
    assert (joined[:7] == a.reports[:7]).all()
    assert (joined[7:] == b.reports[7:]).all()


def test_galleries_that_cannot_be_compared_are_refused(entry: Entry, store: Store, tmp_path: Path) -> None:
    other = other_site(store, tmp_path / "b")

    def with_model(**said: Any) -> Entry:
        return dataclasses.replace(other, manifest=other.manifest | {"model": other.manifest["model"] | said})

    with pytest.raises(InputError, match="queries were seen by m, the gallery by other"):
        fusion.shifted_counts(entry, dataclasses.replace(other, model="other"))
    with pytest.raises(InputError, match=r"other weights of m \(none recorded and 0123456789ab\)"):
        fusion.shifted_counts(entry, with_model(weights_sha256="0123456789abcdef"))
    with pytest.raises(InputError, match="16 dimensions, the gallery 8"):
        fusion.shifted_counts(entry, other_site(Store(tmp_path / "wide"), tmp_path / "c", d=8))
    with pytest.raises(InputError, match="Both cohorts hold study"):
        fusion.shifted_counts(entry, entry)
    with pytest.raises(InputError, match="Both cohorts hold study"):
        fusion.shifted_counts(entry, other_site(Store(tmp_path / "same"), tmp_path / "d", same_people=True))


def test_the_table_of_sites_has_every_pair(entry: Entry, store: Store, tmp_path: Path) -> None:
    other_site(store, tmp_path / "b")
    rows = fusion.shift_table(store, "m", ("toy", "site-b"), pool_sizes=(10, 20), ks=(1, 5))
    assert len(rows) == 16
    within = rows[(rows["query_cohort"] == "toy") & (rows["gallery_cohort"] == "toy")]
    said = audit.study(entry).table([10, 20], [1, 5])
    for column in ("recall", "recall_low", "recall_high", "chance", "lift", "n_queries"):
        assert within[column].tolist() == pytest.approx(said[column].tolist())
    assert (rows["recall_low"] <= rows["recall"]).all()
    with pytest.raises(InputError, match="largest possible N"):
        fusion.shift_table(store, "m", ("toy", "site-b"), pool_sizes=(10**6,))


def test_a_row_of_the_table_is_the_audit_where_nothing_is_fused(entry: Entry) -> None:
    rows = fusion.fusion_table(entry, (10, 50), (1, 5))
    assert list(rows.columns) == list(fusion.FUSION_COLUMNS)
    said = audit.study(entry).table([10, 50], [1, 5])
    for column in (
        "pool_size",
        "k",
        "n_queries",
        "n_excluded",
        "recall",
        "recall_low",
        "recall_high",
        "chance",
        "lift",
    ):
        assert rows[column].tolist() == pytest.approx(said[column].tolist())
    assert set(rows["flag"]) == {""}


def test_chance_and_recall_of_a_row_are_over_the_same_queries(entry: Entry) -> None:
    """At an N that some queries cannot fill."""
    embeddings = entry.embeddings()
    counts, queries = fusion.fused_counts(embeddings, hit="patient")
    n = int(counts.n_eligible.max())
    row = fusion.fusion_table(entry, (n,), hit="patient").iloc[0]
    able = counts.n_eligible + 1 >= n
    assert 0 < row["n_excluded"] == (~able).sum()
    assert row["chance"] == pytest.approx(fusion.chance(counts, queries, n, 1)[able].mean())
    assert row["n_patients"] == queries["patient_id"][able].nunique()
    with pytest.raises(InputError, match="largest possible N"):
        fusion.fusion_table(entry, (10**6,))


def test_the_tables_hold_all_that_is_defined_and_say_what_is_not(entry: Entry) -> None:
    n_patients = entry.records()["patient_id"].nunique()
    rows = fusion.fusion_tables(entry, (20, n_patients + 1), (1, 5))
    keys = ["direction", "images_by", "reports_by", "hit"]
    assert len(rows[keys].drop_duplicates()) == len(SWITCHES) + len(TURNED)
    left_out = pd.DataFrame(rows.attrs["left_out"])
    never = left_out[left_out["pool_size"].isna()]
    assert len(never) == 36 - len(SWITCHES) - len(TURNED)
    assert set(never["note"].str.slice(0, 26)) == {"Patients with several repo", "Patients with several stud"}
    beyond = left_out[left_out["pool_size"].notna()]
    assert set(beyond["note"]) == {f"The largest possible N is {n_patients}."}
    assert (rows["pool_size"] == n_patients + 1).sum() + 2 * len(beyond) == (rows["pool_size"] == 20).sum()
    one = rows[(rows[keys] == ["report-to-image", "study", "patient", "patient"]).all(axis=1) & (rows["k"] == 5)]
    alone = fusion.fusion_table(
        entry, (20,), (5,), direction="report-to-image", images_by="study", reports_by="patient", hit="patient"
    )
    pd.testing.assert_frame_equal(one[one["pool_size"] == 20].reset_index(drop=True), alone)
    with pytest.raises(InputError, match="k is 3"):
        fusion.fusion_tables(entry, (2,), (3,))


def in_effect(entry) -> float:
    """Patients of the held-out split, were all alike in their images."""
    images = entry.records(entry.default_split)["patient_id"].value_counts().to_numpy()
    return images.sum() ** 2 / (images**2).sum()


def test_none_or_all_linked_is_not_a_certainty_and_few_patients_are_flagged(store: Store, tmp_path: Path) -> None:
    few = toy_entry(store, tmp_path / "few", cohort="few", n_patients=20, signal=1000.0)
    row = fusion.fusion_table(few, (10,), hit="text").iloc[0]
    assert (row["recall"], row["recall_high"]) == (1.0, 1.0)
    assert row["recall_low"] == pytest.approx(1 - unseen(in_effect(few)))
    assert row["flag"] == "too few to say"
    none = fusion._rates(
        pools.MatchCounts(*(np.full(40, v) for v in (9, 0, 9))), np.arange(40), [(10, 1)], np.full((40, 1), 0.1), "", 0
    )[0]
    assert (none["recall"], none["recall_low"], none["recall_high"]) == pytest.approx((0.0, 0.0, unseen(40)))
    assert none["flag"] == ""


def test_the_table_of_sites_says_ends_flags_and_a_sentence(store: Store, tmp_path: Path) -> None:
    toy = toy_entry(store, tmp_path / "input", n_patients=25, signal=1000.0)
    other_site(store, tmp_path / "b", signal=1000.0)
    rows = fusion.shift_table(store, "m", ("toy", "site-b"), pool_sizes=(10,))
    assert list(rows.columns) == list(fusion.SHIFT_COLUMNS)
    across = rows[(rows["query_cohort"] == "toy") & (rows["gallery_cohort"] == "site-b")].iloc[0]
    assert (across["recall"], across["n_shared"]) == (1.0, 0)
    assert across["recall_low"] == pytest.approx(1 - unseen(in_effect(toy)))
    back = rows[(rows["query_cohort"] == "site-b") & (rows["gallery_cohort"] == "site-b")].iloc[0]
    assert rows["flag"].tolist() == ["too few to say"] * 2 + [""] * 2
    assert across["says"].startswith("Beside 9 reports of site-b, ")
    assert across["says"].endswith("guessing: 10. Too few to say.")
    assert back["says"].startswith("Beside 9 reports of their own cohort, ")
    assert 0 < back["n_shared"] < back["n_queries"]
