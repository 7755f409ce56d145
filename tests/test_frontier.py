"""The frontier's tables: kept, replaced, read; what is certified; what is not known stays unknown."""

import math
from pathlib import Path

import numpy as np
import pytest

from linkage_core import frontier, frontier_build, lab
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.release import bounds
from linkage_core.store import OFF_THE_SHELF, Entry, Store
from linkage_core.utility import states_of, train_probe
from tests.lab_store import FEW, MEASURED, MODEL, build


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(build(tmp_path_factory.mktemp("frontier")))
    one = frontier_build.nothing(made.open("phantom", MODEL), made.open("clinic", MODEL))
    frontier_build.heads(one, [OFF_THE_SHELF, MEASURED, "rotation-seed0"])
    return made


@pytest.fixture
def entry(store: Store) -> Entry:
    return store.open("phantom", MODEL)


def linked(recall: float, n: int = 100, attacker: str = lab.WORST) -> dict[str, object]:
    ends = {"recall": recall, "recall_low": recall, "recall_high": recall}
    return {"cohort": "phantom", "attacker": attacker, "named": "reader", "also": "", "pool_size": n, "k": 1} | (
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
    worst = lab.linkage(entry).query("head == @OFF_THE_SHELF and attacker == 'worst' and pool_size == 100")
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
        ({"kind": "statistics", "mu": 0.237}, 10_000 * float(bounds.central(0.237, 10_000))),
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
    listed = lab.frequent(entry)
    assert len(listed) == 7
    assert len(FEW) == 4
    rows = frontier_build.trained_rows(entry, lambda x: np.zeros((len(x), len(LABELS))), listed, "none")
    assert {row["findings"] for row in rows} == set(frontier.GROUPS)
    assert all(row["auroc"] == 0.5 for row in rows)
