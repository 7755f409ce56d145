"""A bridge between encoders that never met: what it finds where there is something, and that it finds nothing else."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.attacked import simulated
from helpers.command import linkage
from helpers.toy import fill, toy_cohort, toy_records
from linkage_core.attacks.attack import acts, attack, attacks, run
from linkage_core.attacks.bridge import RIDGES, bridge, fitted
from linkage_core.attacks.held import Held, Unpaired, hold
from linkage_core.attacks.home import at_home
from linkage_core.attacks.parts import Shared
from linkage_core.embed.embedding import embed
from linkage_core.encoders.unpaired import apart
from linkage_core.errors import InputError
from linkage_core.heads import Heads
from linkage_core.images.pixels import Radiograph
from linkage_core.parts import Part
from linkage_core.ranking import pools
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

D_IMAGE, D_TEXT = 40, 12
MODEL = "two-strangers"


class Strangers:
    """Two towers without a common coordinate: an image is its number's vector, a report a map of its number's."""

    name = MODEL

    def __init__(self, link: float = 1.0) -> None:
        rng = np.random.default_rng(3)
        self._of = rng.standard_normal((4000, D_IMAGE)).astype(np.float32)
        self._map = rng.standard_normal((D_IMAGE, D_TEXT)).astype(np.float32)
        self._own = rng.standard_normal((4000, D_TEXT)).astype(np.float32) * 6 * (1 - link)
        self._link = link

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        return self._of[[int(one.pixels[0, 0]) for one in images]]

    def text_features(self, texts: list[str]) -> np.ndarray:
        rows = [int("".join(one for one in text if one.isdigit()) or 0) for text in texts]
        return self._link * self._of[rows] @ self._map + self._own[rows]

    def truncated(self, texts: list[str]) -> int:
        return 0

    def heads(self) -> Heads:
        return apart(D_IMAGE, D_TEXT)

    def describe(self) -> dict[str, object]:
        more = {"preprocessing": {}, "device": "cpu", "compute_dtype": "float32", "text_limit": 9}
        return {"family": "unpaired", "model_id": MODEL, "revision": None, "weights_sha256": "0" * 64, **more} | {
            "unpaired": True
        }


def numbered(n_patients: int = 150) -> pd.DataFrame:
    """Records whose report and image hold one number; image paths are that number."""
    records = toy_records(n_patients)
    number = pd.factorize(records["study_id"])[0] + 1
    records["report"] = [f"Finding number {one if one % 9 else 7}." for one in number]  # 7 is shared by several
    splits = np.array(["finetune", "attacker", "attacker", "heldout"])
    patient = records["patient_id"].str.removeprefix("p").astype(int)
    return records.assign(image=[str(one) for one in number], split=splits[patient % 4])


def embedded(store: Store, link: float = 1.0, records: pd.DataFrame | None = None, name: str = "toy") -> Entry:
    def drawn(row: object) -> Radiograph:
        return Radiograph(np.full((16, 16), int(row["image"]), np.uint16), 16)  # type: ignore[index]

    cohort = replace(toy_cohort(name, numbered() if records is None else records), read_image=drawn)
    return embed(cohort, Strangers(link), store, workers=0)


@pytest.fixture
def held(store: Store) -> Held:
    return hold(embedded(store))


def recall(held: Held, attacker: str, n: int = 20) -> float:
    return float(np.nanmean(pools.expected_recall(run(held, attacker)[0], n, 1)))


def test_ridge_is_the_solution_of_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    for n, p in ((12, 30), (50, 7), (8, 8), (2, 5)):
        x, y, new = rng.standard_normal((n, p)), rng.standard_normal((n, 3)), rng.standard_normal((4, p))
        xc, yc = x - x.mean(0), y - y.mean(0)
        for ridge in RIDGES:
            level = ridge * np.trace(xc.T @ xc) / p
            slow = (new - x.mean(0)) @ np.linalg.solve(xc.T @ xc + level * np.eye(p), xc.T @ yc) + y.mean(0)
            assert np.allclose(fitted(x, y)(new, ridge), slow)


def test_own_pairs_build_the_bridge_and_cosine_guesses(held: Held) -> None:
    assert recall(held, "cosine") == pytest.approx(1 / 20)
    assert recall(held, "bridge") > 0.5
    few = run(held, "bridge", 10)[0]
    assert float(np.nanmean(pools.expected_recall(few, 20, 1))) < recall(held, "bridge")


def test_where_notes_belong_to_no_image_it_guesses(held: Held) -> None:
    other = held.unpaired
    assert other is not None
    dealt = np.random.default_rng(1).permutation(other.texts)
    blind = replace(held, unpaired=replace(other, texts=dealt))
    assert recall(blind, "bridge") < 0.15
    nothing = replace(held, unpaired=replace(other, own_texts=np.random.default_rng(2).permutation(other.own_texts)))
    assert recall(nothing, "bridge") < 0.15


def test_the_match_is_read_by_the_count_alone(held: Held) -> None:
    rows = np.arange(len(held.own_group))
    found = bridge(held, rows, 0, True)
    other = bridge(replace(held, match=held.match[::-1].copy()), rows, 0, True)
    assert np.array_equal(found.queries, other.queries)
    assert np.array_equal(found.reports, other.reports)


def test_at_home_it_sees_its_own_left_out_patients(held: Held) -> None:
    own, groups = np.arange(len(held.own_group)), held.own_group
    left_out, rest = (own[np.isin(groups, np.unique(groups)[part::2])] for part in (0, 1))
    home = at_home(held, left_out, rest)
    assert home.unpaired is not None
    assert recall(home, "bridge") > 0.3


def test_it_stands_beside_the_attackers_of_any_other_model_of_the_cohort(store: Store) -> None:
    strangers = embedded(store)
    fill(store, toy_cohort("toy", numbered().sample(frac=1, random_state=0)), "paired", 1.0, 5)
    paired = store.open("toy", "paired")
    assert all(acts(name, hold(paired)) for name in ("bridge", "raw-images", "reader"))
    alone = attacks(strangers, release="raw-images")
    assert {one.attacker for one in alone} == {"cosine", "bridge"}
    beside = attack(paired, attacker="bridge", release="raw-images")
    assert beside.study.recall(20, 1)[0].mean() > 0.3
    # the same records in another order: joined by id
    mine = {one.attacker: one for one in alone}["bridge"]
    by_id = dict(zip(mine.queries["record_id"], mine.counts.n_better, strict=True))
    assert [by_id[one] for one in beside.queries["record_id"]] == pytest.approx(beside.counts.n_better, abs=3)


def test_what_a_part_left_is_of_the_encoders_as_they_were(store: Store) -> None:
    fill(store, toy_cohort("toy", numbered()), "paired", 1.0, 5)
    asked: list[Any] = [store.open("toy", "paired"), OFF_THE_SHELF, "bridge", "raw-images", "all", 0]
    embedded(store)
    first = Shared(Part(1, 1)).of(attack)(*asked)
    shutil.rmtree(store.root / "toy" / MODEL)
    gathered = Shared(gather=True)
    embedded(store, link=0.0)
    assert gathered.of(attack)(*asked) is None, "those encoders are gone"
    again = Shared(Part(1, 1)).of(attack)(*asked)
    assert first is not None
    assert again is not None
    assert again.study.recall(20, 1)[0].mean() < 0.15 < first.study.recall(20, 1)[0].mean()


def test_an_entry_without_the_records_is_named_and_left_out(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    records = numbered()
    embedded(store, records=records[records["split"] != "heldout"])
    fill(store, toy_cohort("toy", records), "paired", 1.0, 5)
    with caplog.at_level(logging.WARNING):
        assert hold(store.open("toy", "paired")).unpaired is None
    assert "No attack by two-strangers: toy/two-strangers lacks" in caplog.text


def test_without_such_an_entry_it_says_what_makes_one() -> None:
    with pytest.raises(InputError, match=r"needs features of two encoders.*--model efficientnet-lite0-minilm"):
        bridge(simulated(n_own=20, n_test=10), np.arange(20), 0, True)


def test_what_ranks_by_such_an_entry_carries_its_caution(
    store: Store, entry: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.caution == ""
    embedded(store, name="other")
    caution = "says nothing about the risk"
    assert linkage("--store", store.root, "audit", f"other/{MODEL}", "--pool-size", "10") == 0
    assert caution in " ".join(capsys.readouterr().out.split())
    asked = (
        "--release",
        "raw-images",
        "--known",
        "all",
        "--pool-size",
        "10",
        "--quiet",
        "--json",
        store.root / "o.json",
    )
    assert linkage("--store", store.root, "attack", f"other/{MODEL}", *asked) == 0
    rows = {row["attacker"]: row for row in json.loads((store.root / "o.json").read_text())["rows"]}
    assert list(rows) == ["cosine", "bridge"]
    assert rows["cosine"]["recall"] == pytest.approx(0.1)
    assert rows["bridge"]["recall"] > rows["bridge"]["recall_low"] > 0.3
    assert linkage("--store", store.root, "attack", f"other/{MODEL}", *asked[:-3]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert caution in said
    assert "it needs no model that was trained on pairs, so anybody can do it" in said


def test_ids_follow_the_rows() -> None:
    ids = [np.array(list(part)) for part in ("ab", "AB", "cde", "CDE")]
    here = Unpaired("m", True, lambda *_: np.empty(0), lambda *_: np.ones(1), *ids)
    home = here.at_home(np.array([1]), np.array([0, 2]))
    assert [list(one) for one in (home.images, home.texts, home.own_images, home.own_texts)] == [
        ["d"], ["D"], ["c", "e"], ["C", "E"],
    ]  # fmt: skip
    assert home.asked is home.own is here.own


def test_a_store_elsewhere_is_not_needed(tmp_path: Path) -> None:
    assert hold(embedded(Store(tmp_path / "s"))).unpaired is not None
