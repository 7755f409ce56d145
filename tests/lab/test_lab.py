"""The lab on a toy cohort: what its tables say is what the rooms below say, and a killed run goes on."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.toy import read_back, two_each
from linkage_core.attacks import attack, attackers, held, turn_back
from linkage_core.attacks.installed import Table
from linkage_core.attacks.protocol import Attacker
from linkage_core.attacks.scored import Scored
from linkage_core.audit import study
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import unit
from linkage_core.lab import grid, measured
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.finetune import Options
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

FINDINGS = LABELS[1:5]


def made(root: Path, cohort: str, seed: int, n_patients: int = 300) -> Entry:
    """Images and reports share four findings and an instance; two studies a patient; all three splits."""
    rng = np.random.default_rng(seed)
    n = 2 * n_patients
    states = (rng.random((n, 4)) < 0.4).astype(float)
    texts = np.column_stack([2 * states, rng.standard_normal((n, 8))])
    images = texts + 0.7 * rng.standard_normal(texts.shape)
    rows = two_each(cohort, n_patients, **dict(zip(FINDINGS, states.T, strict=True)))
    found = replace(read_back(rows, root, cohort), default_split="heldout")
    return import_arrays(found, "m", images.astype(np.float32), texts.astype(np.float32), Store(root / "store"))


def plan() -> list[grid.Planned]:
    some = {"findings": FINDINGS}
    return [
        grid.planned(oneshot.LABEL, 1.0, known=("all", 20), external=True, **some),
        grid.planned(oneshot.LABEL, math.inf, **some),
        grid.planned("label-dpsgd", 3.0, steps=5, **some),
        grid.planned("noise-only", 3.0, like=oneshot.LABEL, **some),
        grid.planned("rotation"),
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("lab")
    made(root, "toy", 0)
    made(root, "away", 1, 150)
    return grid.build(Store(root / "store"), "toy", "m", externals=("away",), plan=plan(), findings=FINDINGS)


def again(entry: Entry) -> Entry:
    return Store(entry.path.parent.parent).open(entry.cohort, entry.model)


def test_heads_say_what_is_guaranteed_and_what_is_not(built: Entry) -> None:
    rows = measured.heads(built).set_index("head")
    assert rows.index[0] == OFF_THE_SHELF
    assert list(rows.reset_index().columns) == list(measured.HEAD_COLUMNS)
    assert rows.loc["label-oneshot-eps1-seed0", "epsilon"] == 1.0
    assert rows.loc["label-oneshot-epsinf-seed0", "epsilon"] == math.inf
    assert rows.loc["noise-only-label-oneshot-eps3-seed0", ["epsilon", "like"]].tolist() == [3.0, "label-oneshot"]
    assert not rows["private"].any(), "every seed is stored"
    multiplier = accounting.gaussian_sigma(1.0, rows.loc["label-oneshot-eps1-seed0", "delta"])
    expected = accounting.gaussian_accuracy(multiplier)
    assert rows.loc["label-oneshot-eps1-seed0", "accuracy"] == pytest.approx(expected)
    assert 0.5 < rows.loc["label-dpsgd-eps3-seed0", "accuracy"] < 1
    claimless = ["rotation-seed0", "noise-only-label-oneshot-eps3-seed0", "label-oneshot-epsinf-seed0", OFF_THE_SHELF]
    assert rows.loc[claimless, "accuracy"].isna().all()
    assert rows["claim"].str.startswith("none").all()
    assert rows.loc["label-oneshot-eps1-seed0", "seed"] == 0
    assert rows["seed"].isna().tolist() == [True] + [False] * 5


def test_linkage_is_what_the_attackers_and_the_audit_say(built: Entry) -> None:
    rows = measured.linkage(built)
    assert list(rows.columns) == list(measured.COLUMNS)
    name = "label-oneshot-eps1-seed0"
    size = int(rows["pool_size"].max())
    one = rows[(rows["head"] == name) & (rows["cohort"] == "toy") & (rows["release"] == "embeddings-and-heads")]
    cosine = one[(one["attacker"] == "cosine") & (one["pool_size"] == size)].iloc[0]
    by_audit = study.study(again(built), name).table([size], [1]).iloc[0]
    for column in ("recall", "recall_low", "recall_high", "chance", "lift", "n_queries", "n_patients"):
        assert cosine[column] == pytest.approx(by_audit[column])
    worst = one[(one["attacker"] == measured.WORST) & (one["pool_size"] == size)].iloc[0]
    direct = attack.worst_of(attack.attacks(again(built), name), size, 1)
    assert worst[["recall", "named"]].tolist() == [pytest.approx(direct["recall"]), direct["attacker"]]
    assert set(one.loc[one["m"] == "20", "attacker"]) == {"known-images", "known-pairs"}


def test_an_attacker_of_another_package_gets_of_each_release_what_it_gives_and_may_fail(
    built: Entry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that reads nothing where the heads are withheld, and one that always fails: the others go on."""

    def theirs(has: held.Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
        sees = turn_back.white_box(has, known, seed, True).queries
        return Scored(sees * float(knows_heads), unit(has.off_the_shelf.text(has.texts)).astype(np.float64), "theirs")

    ours = {name: attackers.ATTACKERS[name] for name in (attackers.COSINE, "white-box", "known-images", "raw-images")}
    foreign = {"says": "theirs", "label": "Theirs", "package": "their-package"}
    rows = [Attacker("theirs", theirs, **foreign), Attacker("fails", lambda *_: 1 / 0, **foreign)]  # type: ignore
    table = Table(*ours.values(), *rows)
    for module in (attack, attackers, measured):
        monkeypatch.setattr(module, "ATTACKERS", table)
    found, _ = measured.found(again(built), "label-oneshot-eps1-seed0", known=("all",))
    got = found[(found["attacker"] == "theirs") & (found["pool_size"] == 100)].set_index("release")["recall"]
    assert got["embeddings-and-heads"] > 0.05
    assert got["embeddings"] == pytest.approx(0.01), "without heads it holds nothing, and that is what is shown"
    assert "fails" not in set(found["attacker"])
    assert "The attacker 'fails' of the package their-package failed" in caplog.text


def test_each_release_has_the_attackers_it_allows(built: Entry) -> None:
    rows = measured.linkage(built)
    rotated = rows[rows["head"] == "rotation-seed0"]
    for release in ("embeddings", "embeddings-and-heads"):
        there = set(rotated.loc[rotated["release"] == release, "attacker"])
        assert there == {*attackers.allowed(release, "rotation-seed0"), measured.WORST}
    shelf = rows[rows["head"] == OFF_THE_SHELF]
    assert set(shelf["release"]) == set(held.RELEASES)
    raw = shelf[(shelf["release"] == "raw-images") & (shelf["cohort"] == "toy")]
    anywhere = {name for name in attackers.allowed("raw-images") if not attackers.ATTACKERS[name].unpaired}
    assert set(raw["attacker"]) == {*anywhere, measured.WORST}, "whoever has images is not asked for a head"


def test_rows_of_both_releases_are_those_of_attacks_run_apart(built: Entry) -> None:
    """Attacks are run once for both releases; apart they must come out the same."""
    rows = measured.linkage(built)
    for attacker in ("bayes-gaussian", "known-images"):
        some = rows[(rows["head"] == "rotation-seed0") & (rows["attacker"] == attacker) & (rows["m"] == "all")]
        for release, row in some.groupby("release"):
            direct = attack.attack(again(built), "rotation-seed0", attacker, str(release))
            size = int(row["pool_size"].iloc[0])
            assert row["recall"].iloc[0] == pytest.approx(direct.study.recall(size, 1)[0].mean())


def test_output_noise_is_attacked_for_each_release_by_itself(built: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    measured.train(again(built), "output-noise", Options(seed=0, output_noise=0.3), "noisy", replace_it=True)
    asked = []
    right = attack.attack

    def spy(entry: Entry, head: str, attacker: str, release: str, *rest: object, **more: object) -> attack.Attack:
        asked.append((attacker, release))
        return right(entry, head, attacker, release, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(attack, "attack", spy)
    measured._attacked(again(built), "noisy", None, ("all",), 0)
    assert ("reader", "embeddings") in asked
    assert ("reader", "embeddings-and-heads") in asked


def test_external_cohorts_get_heads_and_attackers_as_they_are(built: Entry) -> None:
    rows, used = measured.linkage(built), measured.utility(built)
    assert set(rows.loc[rows["cohort"] == "away", "head"]) == {OFF_THE_SHELF, "label-oneshot-eps1-seed0"}
    away = used[(used["cohort"] == "away") & (used["measure"] == "probe")]
    assert set(away["trained_on"]) == {"toy/attacker"}
    assert away["label"].isin(["macro", *LABELS, "macro, declared", "macro, undeclared"]).all()


def test_utility_carries_the_head(built: Entry) -> None:
    used = measured.utility(built)
    assert list(used.columns) == list(measured.UTILITY_COLUMNS)
    probe = used[(used["measure"] == "probe") & (used["label"] == "macro") & (used["cohort"] == "toy")]
    probe = probe.set_index("head")
    assert set(probe.index) == set(measured.heads(built)["head"]) - {"noisy"}
    assert probe.loc["rotation-seed0", "difference"] == pytest.approx(0, abs=1e-3)
    assert probe.loc["noise-only-label-oneshot-eps3-seed0", "difference"] < -0.05
    assert probe.loc["label-oneshot-eps1-seed0", ["mechanism", "epsilon"]].tolist() == ["label-oneshot", 1.0]


def test_live_heads_are_those_that_are_stored(built: Entry) -> None:
    """The same seed at the same epsilon: the same counts as the audit's; fresh noise: others."""
    entry = again(built)
    stored = study.study(entry, "label-oneshot-eps1-seed0").counts
    delta = float(entry.head_record("label-oneshot-eps1-seed0")["delta"])
    setting = Setting("label-oneshot", 1.0, FINDINGS, delta=delta)
    shown = settings.live(entry, setting).study
    assert all(np.array_equal(a, b) for a, b in zip(shown.counts, stored, strict=True))
    fresh = [settings.live(entry, replace(setting, seed=None)).study.counts for _ in range(2)]
    assert not np.array_equal(fresh[0].n_better, fresh[1].n_better), "two releases share no noise"
    with pytest.raises(InputError, match="no one-shot mechanism"):
        settings.live(entry, Setting("label-dpsgd", 1.0))


def test_a_killed_build_goes_on_and_a_finished_one_does_nothing(
    built: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "toy", 0, 120)
    store, short = Store(tmp_path / "store"), plan()[:2]

    def killed(stage: str, done: int, total: int) -> None:
        if stage == "heads measured" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grid.build(store, "toy", "m", plan=short, findings=FINDINGS, progress=killed)
    entry = store.open("toy", "m")
    assert measured.measured(entry, short[0].name)
    assert not measured.measured(entry, short[1].name)
    before = measured.linkage(entry)
    entry = grid.build(store, "toy", "m", plan=short, findings=FINDINGS)
    assert entry.verify() == []
    after = measured.linkage(entry)
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    assert measured.measured(entry, short[1].name)
    monkeypatch.setattr(measured, "train", None)
    monkeypatch.setattr(measured, "measure", None)
    assert grid.build(store, "toy", "m", plan=short, findings=FINDINGS).fingerprint == entry.fingerprint


def test_measuring_again_replaces_rows(built: Entry) -> None:
    before = measured.linkage(built)
    after = measured.linkage(measured.measure(again(built), "rotation-seed0", known=("all",)))
    assert len(after) == len(before)
    assert not after.duplicated(["head", "cohort", "release", "attacker", "m", "pool_size"]).any()


def test_a_replaced_head_is_not_shown_with_the_figures_of_the_old_one(built: Entry, tmp_path: Path) -> None:
    made(tmp_path, "toy", 0, 120)
    entry = grid.build(Store(tmp_path / "store"), "toy", "m", plan=[grid.planned("rotation")], findings=FINDINGS)
    assert measured.measured(entry, "rotation-seed0")
    measured.train(entry, "rotation", Options(seed=1), "rotation-seed0", replace_it=True)
    assert not measured.measured(again(entry), "rotation-seed0")
    assert not (measured.utility(again(entry))["head"] == "rotation-seed0").any()
    assert measured.measured(again(entry), OFF_THE_SHELF)
    with pytest.raises(StoreError, match="altered"):
        measured.measure(entry, "rotation-seed0", known=("all",))  # by somebody who opened the entry before


def test_bad_requests_are_named(built: Entry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already has a head 'rotation-seed0'"):
        measured.train(again(built), "rotation", Options(seed=0))
    with pytest.raises(StoreError, match="no head 'absent'"):
        measured.measure(again(built), "absent")
    bare = made(tmp_path, "bare", 0, 60)
    assert measured.linkage(bare).empty
    assert measured.utility(bare).empty
    assert measured.prepared(bare, "moment-oneshot") is None
    (again(built).path / measured.LINKAGE).write_bytes(b"altered")
    with pytest.raises(StoreError, match="altered"):
        measured.linkage(again(built))


def test_the_grid_has_every_mechanism_and_no_name_twice() -> None:
    from linkage_core.mitigation.mechanisms import MECHANISMS

    whole = grid.grid(FINDINGS)
    assert {one.mechanism for one in whole} == set(MECHANISMS)
    names = [one.name for one in whole]
    assert len(set(names)) == len(names)
    assert all(one.options.seed is not None for one in whole), "what ships can be made again, and says so"
    shots = {one.options.epsilon for one in whole if one.mechanism == oneshot.LABEL and one.options.seed == 0}
    assert shots == set(measured.STEPS)
    for seed in grid.SEEDS:
        found = {o.options.epsilon for o in whole if o.mechanism == "label-dpsgd" and o.options.seed == seed}
        assert found == set(measured.EPSILONS)
    assert len(measured.STEPS) == 15
    assert {0.34, 1.0, 3.0} <= set(measured.STEPS)


def test_the_declared_subset_is_chosen_on_the_attackers_split(tmp_path: Path) -> None:
    entry = made(tmp_path, "toy", 0, 120)
    counts = (entry.records("attacker")[list(LABELS)] == 1).sum()
    chosen = grid.frequent(entry, 2)
    assert set(chosen) == set(counts.sort_values(ascending=False, kind="stable").index[:2])
