"""What the recipient makes of a release: as good as the noise allows, checked first, and said plainly where there is
nothing to make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.lab_store import cohort
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import unit
from linkage_core.release import make, receive
from linkage_core.release.kinds.capped import Cap, errors_in_directions, second_of_dot
from linkage_core.store.entry import Entry, Store
from linkage_core.utility.auroc import placements
from linkage_core.utility.probe import states_of, train_probe

MODEL = "m"
FEW = LABELS[1:5]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`site` releases, `own` receives, `open` is public; no patient in two of them."""
    made = Store(tmp_path_factory.mktemp("store"))
    for name, n_patients, seed, splits in (
        ("site", 1500, 0, ("heldout",)),
        ("own", 400, 1, ("heldout", "attacker")),
        ("open", 400, 2, ("heldout",)),
    ):
        found, images, texts = cohort(name, n_patients, synthetic=True, seed=seed, splits=splits)
        import_arrays(found, MODEL, images, texts, made)
    return made


@pytest.fixture(scope="module")
def own(store: Store) -> Entry:
    return store.open("own", MODEL)


def released(store: Store, out: Path, kind: str, **options: Any) -> Path:
    if kind != "statistics":
        options |= {"secret": out.with_suffix(".secret"), "new_secret": True}
    if kind in ("statistics", "codes", "scores"):
        options |= {"public": store.open("open", MODEL)}
    make.make(store.open("site", MODEL), out, make.Options(kind, **options))
    return out


def macro(table: Any, column: str = "auroc") -> float:
    return float(table.set_index("label").loc["macro", column])


# ------------------------------------------------------------------------------------------------------------- kinds


def test_statistics_train_a_probe_near_the_recipients_own(store: Store, own: Entry, tmp_path: Path) -> None:
    path = released(store, tmp_path / "r", "statistics", epsilon=3.0)
    found = receive.receive(path, own, train_split="attacker")
    assert list(found.columns) == [*receive.COLUMNS, *receive.OWN, *receive.COUNTS]
    assert found["label"].tolist() == [*LABELS, "macro"]
    assert macro(found, "difference") > -0.01
    assert (found["auroc_low"] < found["auroc"]).all()
    assert (found["auroc"] < found["auroc_high"]).all()
    assert set(found["flag"]) == {""}
    assert macro(found) == pytest.approx(found["auroc"][:-1].mean())
    again = receive.receive(path, own)
    assert list(again.columns) == [*receive.COLUMNS, *receive.COUNTS]
    assert again["auroc"].tolist() == pytest.approx(found["auroc"].tolist())


def test_the_figures_are_those_of_the_probe_in_the_file(store: Store, own: Entry, tmp_path: Path) -> None:
    path = released(store, tmp_path / "r", "statistics", epsilon=3.0, findings=FEW)
    found = receive.receive(path, own)
    assert found["label"].tolist() == [*FEW, "macro"]
    _, probe = receive.reader(path, receive.folder.check(path))
    assert probe is not None
    assert probe.trained.sum() == len(FEW)
    records = own.records("heldout")
    scores, states = probe(own.embeddings().images), states_of(records)
    for i, name in enumerate(FEW):
        place = LABELS.index(name)
        positive = states[:, place] == 1
        above = scores[positive, place][:, None] - scores[~positive, place]
        assert found["auroc"][i] == pytest.approx((above > 0).mean() + (above == 0).mean() / 2)


@pytest.mark.parametrize(
    ("kind", "options", "least"),
    [
        ("capped", {"limit": 30.0, "one_label": True}, 0.75),
        ("codes", {"limit": 32, "one_label": True}, 0.6),
        ("codes", {"limit": 32}, 0.6),
    ],
)
def test_records_train_a_probe_that_reads_clean_embeddings(
    store: Store, own: Entry, tmp_path: Path, kind: str, options: dict[str, Any], least: float
) -> None:
    path = released(store, tmp_path / "r", kind, **options)
    found = receive.receive(path, own)
    assert macro(found) > least
    assert found["trained_on"].nunique() == 1
    assert "public" in found["trained_on"][0] or "one label" in found["trained_on"][0]


@pytest.mark.parametrize(("kind", "options"), [("statistics", {"epsilon": 1.0}), ("codes", {"limit": 8})])
def test_figures_on_the_public_part_itself_are_said_to_flatter(
    store: Store, own: Entry, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    path = released(store, tmp_path / "r", kind, **options)
    found, public = receive.folder.check(path), store.open("open", MODEL)
    said = receive.caution(found, public)
    assert said is not None
    assert said.startswith("open also made the public part of this release, so these figures flatter")
    assert receive.receive(path, public)["trained_on"].str.endswith("; these patients helped, so it flatters").all()
    assert receive.caution(found, own) is None
    assert not receive.receive(path, own)["trained_on"].str.contains("flatters").any()


@pytest.mark.parametrize(("kind", "options"), [("capped", {"limit": 30.0}), ("scores", {}), ("embeddings", {})])
def test_where_there_is_nothing_to_train_one_row_says_so(
    store: Store, own: Entry, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    found = receive.receive(released(store, tmp_path / "r", kind, **options), own)
    assert len(found) == 1
    assert found["flag"][0].startswith("nothing to train")
    assert np.isnan(found["auroc"][0])


# -------------------------------------------------------------------------------------------- directions of a known law


@pytest.mark.parametrize("cap", [Cap(8, 4.0), Cap(8, 4.0, 0.7), Cap(64, 30.0)])
def test_the_law_of_a_direction_is_undone(cap: Cap) -> None:
    rng = np.random.default_rng(0)
    rows = np.tile(np.eye(cap.dimension)[0], (200_000, 1))
    t = cap.release(rows, rng)[:, 0].astype(np.float64)
    assert (t**2).mean() == pytest.approx(second_of_dot(cap), abs=4 * (t**2).std() / np.sqrt(len(t)))
    assert t.mean() == pytest.approx(cap.gain, abs=4 * t.std() / np.sqrt(len(t)))


def sphere(n: int, seed: int, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of unequal variances, and the states of two findings that lean on small and large ones."""
    rng = np.random.default_rng(seed)
    states = (rng.random((n, 2)) < [0.4, 0.2]).astype(float)
    z = rng.standard_normal((n, d)) * np.geomspace(1, 0.15, d)
    z[:, 0] += 0.9 * states[:, 0]
    z[:, 3] += 0.5 * (states[:, 0] - states[:, 1])
    z[:, 6] += 0.3 * states[:, 1]
    z += np.linspace(0.5, -0.5, d)
    return z / np.linalg.norm(z, axis=1, keepdims=True), states


def auroc(scores: np.ndarray, states: np.ndarray) -> float:
    return float(np.mean([placements(scores[:, k], states[:, k] == 1)[states[:, k] == 1].mean() for k in range(2)]))


def test_errors_in_variables_beat_the_directions_taken_for_embeddings_and_close_in_on_the_truth() -> None:
    cap = Cap(8, 6.0)
    x, y = sphere(50_000, 9)
    clean = np.linalg.solve(np.cov(x.T), (x - x.mean(axis=0)).T @ (y - y.mean(axis=0)))
    best = auroc(x @ clean, y)
    losses = []
    for n in (3_000, 300_000):
        own, states = sphere(n, 1)
        released_rows = cap.release(own, np.random.default_rng(2)).astype(np.float64)
        told = np.where(np.random.default_rng(3).integers(0, 2, n)[:, None] == np.arange(2), states, np.nan)
        ours = errors_in_directions(released_rows, cap, told)
        theirs = train_probe(released_rows[:60_000], told[:60_000], np.arange(min(n, 60_000)))
        losses.append((best - auroc(ours(x), y), best - auroc(theirs(x), y)))
    (few, _), (many, naive) = losses
    assert many < few
    assert many < 0.003
    assert many < naive - 0.01


def test_a_finding_told_too_seldom_is_not_trained() -> None:
    own, states = sphere(500, 1)
    states[:, 1] = np.nan
    probe = errors_in_directions(own, Cap(8, 6.0), states)
    assert probe.trained.tolist() == [True, False]
    assert not probe.weights[:, 1].any()


# --------------------------------------------------------------------------------------------------------- bad input


def test_an_altered_release_is_not_used(store: Store, own: Entry, tmp_path: Path) -> None:
    path = released(store, tmp_path / "r", "statistics", epsilon=1.0)
    content = json.loads((path / "certificate.json").read_text())
    content["mechanism"]["mu"] /= 2
    (path / "certificate.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match="altered"):
        receive.receive(path, own)
    with pytest.raises(InputError, match="no release folder"):
        receive.receive(tmp_path / "absent", own)


def test_the_recipient_needs_the_same_model_and_other_patients_to_train_on(
    store: Store, own: Entry, tmp_path: Path
) -> None:
    path = released(store, tmp_path / "r", "statistics", epsilon=1.0)
    with pytest.raises(InputError, match="would both train your probe"):
        receive.receive(path, own, "heldout", train_split="heldout")
    found, images, texts = cohort("else", 40, synthetic=True, seed=4, splits=("heldout",))
    other = import_arrays(found, "another", images, texts, store)
    with pytest.raises(InputError, match="another model"):
        receive.receive(path, other)


def test_half_a_sphere_tells_nothing_of_the_covariance() -> None:
    rows = unit(np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32))
    with pytest.raises(InputError, match="nothing of the covariance"):
        errors_in_directions(rows.astype(float), Cap.of(8, 2.0), np.zeros((200, 1)))
