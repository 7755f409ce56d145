"""The frontier's tables: kept, replaced, read; what is certified; what is not known stays unknown."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.lab_store import FEW, MEASURED, MODEL, build
from helpers.shared import Built
from linkage_core.attacks import attack
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.lab import frontier, frontier_build
from linkage_core.lab.grid import frequent
from linkage_core.lab.measured import WORST, linkage
from linkage_core.mitigation.training import Training, training_pairs
from linkage_core.release import bounds, measured
from linkage_core.release.ceiling import ATTACKED
from linkage_core.release.kinds import statistics
from linkage_core.release.kinds.capped import Cap
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store
from linkage_core.utility.probe import states_of, train_probe


@pytest.fixture(scope="module")
def store(built: Built) -> Store:
    made = Store(built(build))
    one = frontier_build.nothing(made.open("phantom", MODEL), made.open("clinic", MODEL))
    frontier_build.heads(one, [OFF_THE_SHELF, MEASURED, "rotation-seed0"])
    return made


@pytest.fixture
def entry(store: Store) -> Entry:
    return store.open("phantom", MODEL)


def linked(recall: float, n: int = 100, attacker: str = WORST) -> dict[str, object]:
    ends = {"recall": recall, "recall_low": recall, "recall_high": recall}
    return {"cohort": "phantom", "attacker": attacker, "named": "reader", "pool_size": n, "k": 1} | (
        ends | {"chance": 1 / n, "lift": recall * n, "n_queries": 280, "n_patients": 140, "flag": ""}
    )


def used(use: str, group: str, auroc: float) -> dict[str, object]:
    return {"cohort": "phantom", "use": use, "findings": group, "n_patients": 100, "trained_on": ""} | dict.fromkeys(
        ("auroc", "auroc_low", "auroc_high", "difference", "difference_low", "difference_high"), auroc
    )


def test_heads_and_nothing_stand_side_by_side(entry: Entry) -> None:
    table = frontier.frontier(entry, 100).set_index("option")
    assert list(table.index) == [frontier.NOTHING, OFF_THE_SHELF, MEASURED, "rotation-seed0"]
    nothing, shelf = table.loc[frontier.NOTHING], table.loc[OFF_THE_SHELF]
    assert nothing["measured"] == nothing["certified"] == pytest.approx(1.0)
    assert nothing["declared"] == 0.5
    assert math.isnan(shelf["certified"])
    assert math.isnan(table.loc[MEASURED, "certified"])
    worst = linkage(entry).query("head == @OFF_THE_SHELF and attacker == 'worst' and pool_size == 100")
    at = worst[worst["release"] == "embeddings-and-heads"]
    assert shelf["measured"] == pytest.approx(100 * float(at["recall"].iloc[0]))
    assert shelf["declared_difference"] == 0
    assert table.loc[MEASURED, "listed"] == len(LABELS)
    assert math.isnan(table.loc[MEASURED, "undeclared"])
    assert not math.isnan(table.loc["rotation-seed0", "undeclared"])


def test_only_options_with_that_use_are_listed(entry: Entry) -> None:
    table = frontier.frontier(entry, 100, use="trained")
    assert list(table["option"]) == [frontier.NOTHING]
    assert table["declared"].iloc[0] > 0.6


def test_public_labels_train_what_nothing_released_can_read(entry: Entry) -> None:
    public = Store(entry.path.parent.parent).open("clinic", MODEL)
    records = public.records(public.default_split)
    clean = unit(public.heads().image(public.features("image", records["record_id"])))
    probe = train_probe(clean, states_of(records), records["patient_id"].to_numpy(str))
    np.testing.assert_array_equal(frontier_build.clean_probe(public, public.default_split)(clean[:5]), probe(clean[:5]))


def test_an_option_is_replaced_and_the_others_stay(entry: Entry) -> None:
    before = len(frontier.options_of(entry))
    option = {"option": "codes-5", "family": frontier.RELEASE, "kind": "codes", "parameter": "limit", "value": 5.0}
    option |= {"limit": 5.0}
    now = frontier.keep(entry, option, [linked(0.03)], [used("read", "declared", 0.7)])
    now = frontier.keep(now, option, [linked(0.04)], [used("read", "declared", 0.75)])
    assert len(frontier.options_of(now)) == before + 1
    row = frontier.frontier(now, 100).set_index("option").loc["codes-5"]
    assert row["measured"] == pytest.approx(4.0)
    assert row["certified"] == 5.0
    assert row["declared"] == 0.75
    assert math.isnan(row["undeclared"])
    assert math.isnan(row["ceiling"])
    assert now.verify() == []


@pytest.mark.parametrize(
    ("option", "lift"),
    [
        ({"kind": "codes", "limit": 64.0}, 64.0),
        ({"kind": "codes", "limit": 300.0, "n": 100}, 100.0),
        ({"kind": "capped", "limit": 30.0}, 30.0),
        ({"kind": "capped", "limit": 300.0, "n": 100}, 100.0),
        ({"kind": "statistics", "mu": 0.237}, 10_000 * float(bounds.unpaired(0.237, 10_000))),
        ({"kind": "embeddings", "mu": 10.0}, 10_000 * float(bounds.gaussian(10.0, 10_000))),
        ({"kind": "embeddings"}, math.nan),
        ({"kind": "label-oneshot"}, math.nan),
        ({"kind": "nothing"}, 1.0),
    ],
)
def test_what_is_certified(option: dict[str, object], lift: float) -> None:
    n = int(option.pop("n", 10_000))  # type: ignore[call-overload]
    found = frontier.certified({"limit": math.nan, "mu": math.nan, "epsilon": math.nan} | option, n)
    assert found == pytest.approx(lift, nan_ok=True)


def test_a_pool_size_or_use_that_was_not_measured_is_refused(entry: Entry) -> None:
    with pytest.raises(InputError, match="Measured are: "):
        frontier.frontier(entry, 123)
    with pytest.raises(InputError, match="use is"):
        frontier.frontier(entry, 100, use="sell")


def test_an_entry_without_tables_has_no_rows(tmp_path: Path, entry: Entry) -> None:
    bare = Store(entry.path.parent.parent).open("clinic", MODEL)
    assert not len(frontier.frontier(bare))


def test_rows_of_a_head_that_was_replaced_are_gone(entry: Entry) -> None:
    option = {"option": "old", "family": frontier.HEAD, "kind": "x", "parameter": "", "value": 0.0, "head": MEASURED}
    now = frontier.keep(entry, option, used=[used("read", "declared", 0.7)])
    assert "old" in set(frontier.options_of(now)["option"])
    heads = now.heads("rotation-seed0")
    now = now.add_head(MEASURED, heads, now.head_record(MEASURED), replace=True)
    assert not {"old", MEASURED} & set(frontier.options_of(now)["option"])


def test_groups_are_the_most_frequent_findings_of_the_attackers_split(entry: Entry) -> None:
    listed = frequent(entry)
    assert len(listed) == 7
    assert len(FEW) == 4
    rows = frontier_build.trained_rows(entry, lambda x: np.zeros((len(x), len(LABELS))), listed, "none")
    assert {row["findings"] for row in rows} == set(frontier.GROUPS)
    assert all(row["auroc"] == 0.5 for row in rows)


def test_records_that_teach_carry_a_finding_and_twice_the_limit(entry: Entry) -> None:
    option = {"option": "capped-7", "family": frontier.RELEASE, "kind": "capped", "parameter": "limit", "value": 7.0}
    rows = [linked(0.05), linked(0.08, attacker=frontier.LABELLED), linked(0.06, attacker=frontier.OMNISCIENT)]
    uses = [used("read", "declared", 0.7), used("trained", "declared", 0.8)]
    now = frontier.keep(entry, option | {"limit": 7.0}, rows, uses)
    read, trained = (frontier.frontier(now, 100, use=use).set_index("option").loc["capped-7"] for use in frontier.USES)
    assert (read["certified"], read["measured"], read["ceiling"]) == pytest.approx((7.0, 5.0, 6.0))
    assert (trained["certified"], trained["measured"]) == pytest.approx((14.0, 8.0))
    assert math.isnan(trained["ceiling"])  # of whoever is told no finding


def test_another_use_or_attacker_of_an_option_stays(entry: Entry) -> None:
    option = {"option": "codes-9", "family": frontier.RELEASE, "kind": "codes", "parameter": "limit", "value": 9.0}
    now = frontier.keep(entry, option | {"limit": 9.0}, [linked(0.05)], [used("read", "declared", 0.7)])
    now = frontier.keep(
        now,
        option | {"limit": 9.0},
        [linked(0.06, attacker=frontier.LABELLED)],
        [used("trained", "declared", 0.8)],
    )
    assert len(frontier.linkage(now).query("option == 'codes-9'")) == 2
    assert set(frontier.utility(now).query("option == 'codes-9'")["use"]) == {"read", "trained"}


@pytest.fixture(scope="module")
def training(store: Store) -> Training:
    return training_pairs(store.open("phantom", MODEL))


@pytest.fixture(scope="module")
def queries(store: Store, training: Training) -> list[statistics.PatientSums]:
    return frontier_build.sums_of(training, store.open("clinic", MODEL), [LABELS[:4], LABELS[4:7]])


def test_contributions_are_each_patients_clipped_sum(training: Training, queries: list[statistics.PatientSums]) -> None:
    query = queries[0].query
    clean = unit(training.source.heads().image(training.images))
    states = states_of(pd.DataFrame(training.labels, columns=list(LABELS)))[:, :4]
    names, whose = np.unique(training.patients, return_inverse=True)
    found = frontier_build._contributions(query, clean, states, whose, len(names))
    assert (np.linalg.norm(found, axis=1) <= query.clip * (1 + 1e-9)).all()
    for patient in (0, 7, len(names) - 1):
        rows = np.flatnonzero(whose == patient)
        parts = [a[:, :, None] * b[:, None, :] for a, b in query.factors(clean[rows], states[rows]).values()]
        whole = np.concatenate([part.sum(axis=0).ravel() for part in parts])
        length = min(1.0, query.clip / np.linalg.norm(whole))
        assert np.linalg.norm(found[patient]) == pytest.approx(np.linalg.norm(whole) * length)
        other = (patient + 1) % len(names)
        more = np.flatnonzero(whose == other)
        parts = [a[:, :, None] * b[:, None, :] for a, b in query.factors(clean[more], states[more]).values()]
        beside = np.concatenate([part.sum(axis=0).ravel() for part in parts])
        beside *= min(1.0, query.clip / np.linalg.norm(beside))
        assert found[patient] @ found[other] == pytest.approx(whole * length @ beside)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_who_attacks_summed_patients_stays_below_the_limit_of_the_game(
    training: Training, queries: list[statistics.PatientSums], mu: float
) -> None:
    laws = {frontier.OMNISCIENT: bounds.central, WORST: bounds.unpaired}
    for one in frontier_build.summed_patients(queries, training, n_pools=4, trials=300):
        for row in one.rows(mu, [5, 50]):
            assert 1 / row["pool_size"] < row["recall"] <= float(laws[one.attacker](mu, row["pool_size"]))
    twin = [replace(one, query=replace(one.query, clip=one.query.clip / 4)) for one in queries]
    for one in frontier_build.summed_patients(twin, training, n_pools=4, trials=300):
        (noisier,) = one.rows(4 * mu, [50])
        assert noisier["recall"] > float(bounds.central(mu, 50)) or mu < 1  # noise for a clip four times as small


def test_who_holds_them_unpaired_links_more_than_who_knows_the_others(
    training: Training, queries: list[statistics.PatientSums]
) -> None:
    knows, holds = frontier_build.summed_patients(queries, training, n_pools=8, trials=300)
    assert holds.at(1.0, 50)[0] > 1.1 * knows.at(1.0, 50)[0]


def test_an_exchange_moves_three_contributions() -> None:
    """The target's with each report, that patient's with the target's, less its own; its own where it is right."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((6, 6, 4))  # patient's images, patient's report
    pool = np.array([4, 0, 5])
    moved = frontier_build._exchanged(lambda images, reports: table[images, reports].copy(), pool)
    assert np.array_equal(moved[0], table[4, 4])
    for row, other in ((1, 0), (2, 5)):
        assert np.allclose(moved[row], table[4, other] + table[other, 4] - table[other, other])


def test_statistics_are_read_on_clean_embeddings(
    entry: Entry, training: Training, queries: list[statistics.PatientSums]
) -> None:
    option = {"option": "statistics-x", "family": frontier.RELEASE, "kind": "statistics", "parameter": "epsilon"}
    now = frontier_build.statistics(entry, {**option, "value": 9.0, "listed": 7}, queries, 2.0)
    row = frontier.frontier(now, 100, use="trained").set_index("option").loc["statistics-x"]
    assert row["certified_paired"] == pytest.approx(100 * float(bounds.central(2.0, 100)))
    assert math.isnan(row["certified"]) or row["certified"] == pytest.approx(100 * float(bounds.unpaired(2.0, 100)))
    now = frontier_build.statistics(entry, {**option, "value": 9.0, "listed": 7}, queries, 50.0)
    row = frontier.frontier(now, 100, use="trained").set_index("option").loc["statistics-x"]
    assert row["declared"] > 0.7
    assert math.isnan(row["certified"])  # of 100 all may be linked: no limit


def test_releases_of_records_are_counted_one_image_a_study(entry: Entry, store: Store) -> None:
    """Codes stay below their limit whoever attacks; asked as heads are, every image is a query."""
    grid = frontier_build.Grid(limits=(3,), seeds=(0,), noises=(0.5,))
    codes, capped, scores, noisy = frontier_build.released(entry, store.open("clinic", MODEL), grid)
    names = [one.option["option"] for one in (codes, capped, scores, noisy)]
    assert names == ["codes-limit3-seed0", "capped-limit3-seed0", "scores-seed0", "embeddings-noise0.5-seed0"]
    assert noisy.option["mu"] == 2.0
    assert capped.measured.of == Cap.of(capped.measured.of.dimension, 3)
    records = entry.records(entry.default_split)
    rows = pd.DataFrame(frontier_build.linked(entry, "codes", codes.measured.mechanism))
    assert {"worst", "predictor", "reader", "known-pairs", "bayes-gaussian"} <= set(rows["attacker"])
    assert (rows["n_queries"] == records["study_id"].nunique()).all()
    alone = rows[rows["attacker"] != WORST]
    assert (alone["recall"] * alone["pool_size"] <= 3 + 1e-9).all()
    told = pd.DataFrame(frontier_build.told(entry, "codes", codes.measured.mechanism))
    assert (told["attacker"] == frontier.LABELLED).all()
    assert (told["n_queries"] == records["study_id"].nunique()).all()
    mean = told.set_index("pool_size")["recall"]
    assert (mean > 1.1 * alone.groupby("pool_size")["recall"].mean()).all()
    as_heads = pd.DataFrame(frontier_build.linked(entry, "noisy", noisy.measured.mechanism, population=ATTACKED))
    assert (as_heads["n_queries"] == len(records)).all()
    held = measured.hold(entry, noisy.measured.mechanism)
    by_hand = attack.run(held, "reader")[0].n_better
    found = {
        one.attacker: one for one in measured.attacks(entry, noisy.measured.mechanism, "noisy", population=ATTACKED)
    }
    np.testing.assert_array_equal(found["reader"].counts.n_better, by_hand)
