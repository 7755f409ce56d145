"""One run as parts, in any order, repeated, killed or one missing: the same bits as of one run, or what is missing."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from helpers.command import linkage
from helpers.linear_encoder import CountingEncoder, cohort
from helpers.toy import toy_arrays, toy_records
from linkage_core.audit import strata
from linkage_core.audit.parts import count_part
from linkage_core.audit.study import DIRECTIONS, Question, question, study
from linkage_core.cohorts import table
from linkage_core.embed import embedding
from linkage_core.embed.embedding import embed, embed_part, import_arrays
from linkage_core.errors import BusyError, InputError, StoreError
from linkage_core.heads import Heads, Linear
from linkage_core.parts import Part, part_of
from linkage_core.ranking import counts
from linkage_core.store import files
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store
from linkage_core.store.files import read_tensors, write_tensors


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "SHARD_ROWS", 16)
    monkeypatch.setattr(embedding, "BATCH", 5)
    monkeypatch.setattr(counts, "QUERY_BLOCK", 16)
    monkeypatch.setattr(strata, "PIECE", 2**9)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "", "1.0/2"])
def test_a_part_is_i_of_n(text: str) -> None:
    with pytest.raises(InputError, match="for example 2/8"):
        part_of(text)


def test_parts_share_everything_once() -> None:
    for n in (1, 2, 7, 30):
        shares = [Part(i + 1, n).share(range(23)) for i in range(n)]
        assert sorted(place for share in shares for place in share) == list(range(23))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


# ------------------------------------------------------------------------------------------------------------ embed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The files of an entry that one run made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "SHARD_ROWS", 16)
        patch.setattr(embedding, "BATCH", 5)
        entry = embed(cohort(), CountingEncoder(), Store(tmp_path_factory.mktemp("whole")), workers=0)
    return dict(entry.manifest)


def part_of_it(
    store: Store, part: Part | None, encoder: CountingEncoder | None = None
) -> tuple[Entry | None, list[str]]:
    return embed_part(cohort(), encoder or CountingEncoder(), store, part, workers=0)


def test_parts_in_any_order_leave_what_one_run_leaves(store: Store, whole: dict[str, object]) -> None:
    order = [Part(3, 3), Part(1, 4), Part(3, 3), Part(1, 3)]  # of two cuts, and one of them twice
    for part in order:
        entry, missing = part_of_it(store, part)
        assert entry is None
        assert missing
        assert store.cohorts() == [], "no manifest before all is there"
    entry, missing = part_of_it(store, Part(2, 3))
    assert entry is not None
    assert (missing, entry.manifest) == ([], whole)
    again = CountingEncoder()
    assert part_of_it(store, Part(2, 3), again)[0] is not None
    assert again.images_seen == 0


def test_what_is_missing_is_named_and_made_by_a_run_without_parts(store: Store, whole: dict[str, object]) -> None:
    for i in (1, 3):
        missing = part_of_it(store, Part(i, 3))[1]
    assert Part(3, 3).others(embedding.shard_numbers(missing)) == "2/3"
    with pytest.raises(StoreError, match=f"{len(missing)} of .* are missing.*{missing[0]}"):
        part_of_it(store, None)
    encoder = CountingEncoder()
    assert embed(cohort(), encoder, store, workers=0).manifest == whole
    assert 0 < encoder.images_seen < len(cohort().records) / 2


def test_an_altered_shard_is_not_gathered_and_is_made_again(store: Store, whole: dict[str, object]) -> None:
    for i in (1, 2):
        part_of_it(store, Part(i, 3))
    shard = next(store.root.rglob("features-image-*-00001.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-3])
    entry, missing = part_of_it(store, Part(3, 3))
    assert entry is not None, "whoever ends makes it again"
    assert (missing, entry.manifest) == ([], whole)
    tensors, note = read_tensors(shard)
    write_tensors(shard, {"features": tensors["features"] + 1}, note)
    with pytest.raises(StoreError, match=shard.name):
        part_of_it(store, None)


def test_parts_run_beside_each_other_and_not_beside_a_whole_run(store: Store, whole: dict[str, object]) -> None:
    part_of_it(store, Part(1, 2))
    path = store.root / "toy" / "counting"
    with files.sharing(path):  # another part
        assert part_of_it(store, Part(2, 2)) == (None, []), "who is last ends it"
        with pytest.raises(BusyError):
            embed(cohort(), CountingEncoder(), store, workers=0)
    entry, _ = part_of_it(store, None)
    assert entry is not None
    assert entry.manifest == whole
    with files.writing(path), pytest.raises(BusyError):
        part_of_it(store, Part(1, 2))


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    failed = True
    try:
        work()
        failed = False
    finally:
        os._exit(failed)


def at_once(works: list[Callable[[], object]], kill_after: float, rng: random.Random) -> None:
    """All of them in processes of their own, one of which is killed after a moment."""
    children = [forked(work) for work in works]
    time.sleep(kill_after)
    victim = rng.choice(children)
    os.kill(victim, signal.SIGKILL)
    for child in children:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL) if child == victim else code == 0


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_parts_at_once_with_one_killed(store: Store, whole: dict[str, object], rounds: int) -> None:
    rng = random.Random(rounds)
    for number in range(rounds):
        there = Store(store.root / str(number))
        parts = [Part(i + 1, 4) for i in range(4)]
        rng.shuffle(parts)
        works = [partial(part_of_it, there, part) for part in parts]
        at_once(works, rng.uniform(0.0, 0.4), rng)
        for part in (*parts, None):
            entry, _ = part_of_it(there, part)
        assert entry is not None
        assert entry.manifest == whole
        assert not list(there.root.rglob(".*.tmp")), "what a killed part had begun is cleared"


# ------------------------------------------------------------------------------------------------------------ counts


@pytest.fixture
def toy(tmp_path: Path, store: Store) -> Entry:
    return imported(store, tmp_path)


def imported(store: Store, folder: Path, seed: int = 1) -> Entry:
    records = toy_records(60)
    records["Edema"] = pd.factorize(records["patient_id"])[0] % 5 % 2.0
    records["Fracture"] = pd.factorize(records["patient_id"])[0] % 3 % 2.0
    records.to_csv(folder / "records.csv", index=False)
    found = table.read(folder / "records.csv", "toy")
    return import_arrays(found, "m", *toy_arrays(records, 1.0, seed), store)


KINDS = [
    ("image-to-report", "other-patients"),
    ("report-to-image", "other-patients"),
    ("image-to-report", "same-text-counts"),
    ("image-to-report", "same-findings"),
]


def counts_of(entry: Entry, direction: str = DIRECTIONS[0], pool: str = "other-patients") -> Question:
    return question(entry, OFF_THE_SHELF, direction, pool, None)


def kept(asked: Question) -> bytes:
    return (asked.entry.path / "ranks" / f"{asked.name}.parquet").read_bytes()


@pytest.mark.parametrize(("direction", "pool"), KINDS)
def test_counts_in_parts_are_those_of_one_run(direction: str, pool: str, toy: Entry, tmp_path: Path) -> None:
    other = imported(Store(tmp_path / "other"), tmp_path)
    study(other, direction=direction, pool=pool)
    asked = counts_of(toy, direction=direction, pool=pool)
    assert len(asked.counting()) >= 3
    for part in (Part(3, 3), Part(3, 3), Part(2, 4), Part(1, 3)):
        missing = count_part(asked, part)
    assert Part(1, 3).others(missing) == "2/3"
    with pytest.raises(StoreError, match="are not counted yet"):
        count_part(asked, None)
    assert count_part(asked, Part(2, 3)) == []
    assert kept(asked) == kept(counts_of(other, direction=direction, pool=pool))
    assert not (toy.path / "parts").exists(), "what was put together is cleared"
    assert toy.verify() == []
    assert count_part(asked, Part(1, 3)) == count_part(asked, None) == []


def test_products_are_made_by_one_core_so_that_another_number_of_them_changes_no_bit(
    toy: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of heads that are no identity, and of strata too small for a count of their own."""
    rng = np.random.default_rng(0)
    heads = Heads(*(Linear(rng.standard_normal((67, 16)).astype("f4"), np.zeros(67, "f4")) for _ in range(2)))
    used: list[int] = []

    class Seen(np.ndarray):
        def __matmul__(self, other: np.ndarray) -> np.ndarray:
            used.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
            return np.asarray(self) @ np.asarray(other)

    with threadpool_limits(2, user_api="blas"):
        real = Entry.features
        monkeypatch.setattr(Entry, "features", lambda *asked: real(*asked).view(Seen))
        toy.embeddings(heads)
        asked = counts_of(toy, pool="same-findings").counting()
        assert isinstance(asked, strata.Strata)
        asked = replace(asked, queries=asked.queries.view(Seen))
        before = len(used)
        asked.pieces(range(len(asked)), lambda *_: None)
    assert len(used) > before > 0
    assert set(used) == {1}


def test_a_plain_audit_counts_only_what_parts_have_not(
    toy: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = study(imported(Store(tmp_path / "other"), tmp_path)).counts
    asked = counts_of(toy)
    n_missing = len(count_part(asked, Part(1, 2)))
    damaged, stale = sorted((toy.path / "parts").rglob("*.safetensors"))[:2]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    arrays, note = read_tensors(stale)
    write_tensors(stale, {**arrays, "n_better": arrays["n_better"] + 1}, note)
    counted: list[int] = []
    real = counts.count_block
    monkeypatch.setattr(counts, "count_block", lambda *a: (counted.append(1), real(*a))[1])
    found = study(toy).counts
    assert len(counted) == n_missing + 2, "those missing, the damaged and the altered one"
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))
    assert not (toy.path / "parts").exists()


def test_parts_of_other_features_are_not_used(toy: Entry, tmp_path: Path) -> None:
    count_part(counts_of(toy), Part(1, 2))
    now = imported(toy.store, tmp_path, seed=2)
    assert count_part(counts_of(now), Part(2, 2)), "the first part was of other features"
    expected = study(imported(Store(tmp_path / "other"), tmp_path, seed=2)).counts
    assert count_part(counts_of(now), Part(1, 2)) == []
    assert all((one == other).all() for one, other in zip(study(now).counts, expected, strict=True))


def test_counting_parts_at_once_with_one_killed(toy: Entry, tmp_path: Path) -> None:
    expected = study(imported(Store(tmp_path / "other"), tmp_path)).counts
    rng = random.Random(1)
    for _ in range(3):
        works = [partial(count_part, counts_of(toy), Part(i + 1, 4)) for i in range(4)]
        at_once(works, rng.uniform(0.0, 0.1), rng)
        missing = [count_part(counts_of(toy), Part(i + 1, 4)) for i in range(4)][-1]
        assert missing == []
        found = counts_of(toy).stored()
        assert found is not None
        assert all((one == other).all() for one, other in zip(found, expected, strict=True))
        for path in (toy.path / "ranks").iterdir():
            path.unlink()


# --------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def split(tmp_path: Path, store: Store) -> list[str]:
    """The end of a command on an entry with held-out patients."""
    records = toy_records(160)
    records.to_csv(tmp_path / "records.csv", index=False)
    import_arrays(table.read(tmp_path / "records.csv", "toy"), "m", *toy_arrays(records, 1.0), store)
    return ["--store", str(store.root)]


def test_the_audit_command_says_which_parts_lack(
    split: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkage("audit", "toy/m", "--part", "2/3", *split) == 0
    assert "part 2/3 is counted; still missing or running: 1/3, 3/3." in capsys.readouterr().out
    assert linkage("audit", "toy/m", "--part", "all", *split) == 2
    assert "are not counted yet" in capsys.readouterr().err
    for more in (["--full", tmp_path / "full"], ["--ceilings"]):
        assert linkage("audit", "toy/m", "--part", "1/3", *more, *split) == 2
        assert f"--part and {more[0]}" in capsys.readouterr().err
    for part in ("1/3", "3/3"):
        assert linkage("audit", "toy/m", "--part", part, *split) == 0
    assert "toy/m is counted." in capsys.readouterr().out


def test_attackers_in_parts_are_those_of_one_run(
    split: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["attack", "toy/m", "--known", "20", "--pool-size", "10", *split]
    assert linkage(*asked, "--json", tmp_path / "whole.json") == 0
    for part in ("3/3", "1/3", "3/3"):
        assert linkage(*asked, "--part", part) == 0
    assert "part 3/3 is attacked; still missing or running: 2/3." in capsys.readouterr().out
    assert linkage(*asked, "--part", "all") == 2
    assert "attackers of toy/m are missing: " in capsys.readouterr().err
    assert linkage(*asked, "--part", "2/3", "--json", tmp_path / "last.json") == 0
    assert linkage(*asked, "--part", "all", "--json", tmp_path / "all.json") == 0
    whole = json.loads((tmp_path / "whole.json").read_text())
    assert len({row["attacker"] for row in whole["rows"]}) >= 5
    for name in ("last", "all"):
        assert json.loads((tmp_path / f"{name}.json").read_text()) == whole
    assert linkage(*asked, "--part", "all", "--seed", "1") == 2, "parts of another seed are no parts of this"
    assert linkage(*asked, "--part", "1/2", "--game", "archive") == 2


def test_the_embed_command_in_parts(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("1", "3/2"):
        assert linkage("embed", "phantom", "--model", "phantom-general", "--part", part, "--store", store.root) == 2
        assert "for example 2/8" in capsys.readouterr().err
