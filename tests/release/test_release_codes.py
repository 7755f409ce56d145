"""A public codebook: level cells, one cell for one embedding, nobody alone in a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import unit
from linkage_core.release.kinds import codes
from linkage_core.release.kinds.codes import SUPPRESSED, Codebook, require_policy, suppress
from linkage_core.store.files import write_tensors
from linkage_core.utility.auroc import placements

N_LABELS = 4


def public(n: int = 900, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(unit rows, states): four findings stand in the first coordinates; the others vary more and say nothing."""
    rng = np.random.default_rng(seed)
    states = np.full((n, len(LABELS)), np.nan)
    states[:, :N_LABELS] = rng.random((n, N_LABELS)) < 0.35
    found = np.column_stack([1.2 * np.nan_to_num(states[:, :N_LABELS]), np.zeros((n, d - N_LABELS))])
    return unit(found + rng.standard_normal((n, d)) * np.array([0.5] * N_LABELS + [2.0] * (d - N_LABELS))), states


@pytest.fixture(scope="module")
def book() -> Codebook:
    return Codebook.build(*public(), 16)


def nearest_slowly(book: Codebook, row: np.ndarray) -> int:
    """The cell as the definition says: |z - place|^2 + price, one cell at a time."""
    z = (row.astype(np.float64) - book.mean) @ book.weights
    costs = [float(((z - place) ** 2).sum() + price) for place, price in zip(book.places, book.prices, strict=True)]
    return costs.index(min(costs))


def test_cells_are_those_of_the_definition_and_of_one_record_alone(book: Codebook) -> None:
    rows, _ = public(200, seed=5)
    cells = book.assign(rows)
    assert cells.dtype == np.int32
    assert cells.tolist() == [nearest_slowly(book, row) for row in rows]
    assert cells.tolist() == [int(book.assign(row[None])[0]) for row in rows], "no other record matters"


def test_cells_are_level_on_the_public_data(book: Codebook) -> None:
    rows, _ = public()
    counts = np.bincount(book.assign(rows), minlength=book.n_cells)
    assert counts.tolist() == book.occupancy.tolist()
    assert counts.min() >= 0.9 * len(rows) / book.n_cells
    assert counts.max() <= 1.1 * len(rows) / book.n_cells
    free = Codebook(**{**vars(book), "prices": np.zeros(book.n_cells)})
    unlevel = np.bincount(free.assign(rows), minlength=book.n_cells)
    assert unlevel.max() - unlevel.min() > 3 * (counts.max() - counts.min()), "the prices do it"


def test_any_number_of_cells_and_a_part_of_the_public_data(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, states = public()
    assert Codebook.build(rows, states, 2).n_cells == 2
    monkeypatch.setattr(codes, "_FIT_ROWS", 300)
    counts = Codebook.build(rows, states, 7).occupancy
    assert len(counts) == 7
    assert counts.sum() == len(rows)
    assert counts.max() - counts.min() <= 0.1 * len(rows) / 7


def test_findings_are_read_off_codes_better_than_off_cells_that_do_not_know_them() -> None:
    rows, states = public(2400)
    rng = np.random.default_rng(1)
    shuffled = states[rng.permutation(len(states))]  # the same findings of other records
    blind = Codebook.build(rows, shuffled, 16)
    test, truth = public(1200, seed=9)

    def macro(scores: np.ndarray) -> float:
        positive = truth == 1
        of_label = [placements(scores[:, one], positive[:, one])[positive[:, one]].mean() for one in range(N_LABELS)]
        return float(np.mean(of_label))

    def by_rate(book: Codebook) -> float:
        """By the rate of each finding among public records of a cell."""
        seen = book.assign(rows)
        rates = [np.bincount(seen, weights=states[:, one], minlength=16) for one in range(N_LABELS)]
        return macro((np.stack(rates, axis=1) / np.bincount(seen, minlength=16)[:, None])[book.assign(test)])

    guided = Codebook.build(rows, states, 16)
    assert macro(guided.findings(guided.assign(test))) > 0.75
    assert by_rate(guided) > by_rate(blind) + 0.05


def test_the_same_public_data_give_the_same_codebook_and_a_file_keeps_it(book: Codebook, tmp_path: Path) -> None:
    again = Codebook.build(*public(), 16)
    again.write(tmp_path / "codebook.safetensors")
    read = Codebook.read(tmp_path / "codebook.safetensors")
    rows, _ = public(300, seed=3)
    assert read.assign(rows).tolist() == book.assign(rows).tolist()
    assert read.about == book.about
    assert np.allclose(np.linalg.norm(read.centres, axis=1), 1, atol=1e-6)
    assert read.findings(read.assign(rows)).shape == (300, len(LABELS))
    book.write(tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() == (tmp_path / "codebook.safetensors").read_bytes()


def test_a_file_that_is_no_codebook_is_refused(book: Codebook, tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"mean": np.zeros(3)}, {})
    with pytest.raises(InputError, match="holds no codebook"):
        Codebook.read(tmp_path / "x.safetensors")
    Codebook(**{**vars(book), "prices": book.prices[:-1]}).write(tmp_path / "y.safetensors")
    with pytest.raises(InputError, match="prices has shape"):
        Codebook.read(tmp_path / "y.safetensors")
    (tmp_path / "z.safetensors").write_bytes(b"no")
    with pytest.raises(StoreError):
        Codebook.read(tmp_path / "z.safetensors")


def test_nobody_stands_alone_in_a_cell() -> None:
    given = np.array([0] * 5 + [1] * 4 + [2] + [4] * 9)
    assert suppress(given).tolist() == [0] * 5 + [SUPPRESSED] * 5 + [4] * 9
    assert suppress(given, 2).tolist() == [0] * 5 + [1] * 4 + [SUPPRESSED] + [4] * 9
    assert suppress(np.zeros(0, int)).tolist() == []
    for least in (1, 0):
        with pytest.raises(InputError, match="one record names it"):
            suppress(given, least)
        with pytest.raises(InputError, match="one record names it"):
            require_policy(2, 100, least)


def test_recall_of_the_best_attacker_on_kept_codes_is_kept_cells_over_records(book: Codebook) -> None:
    """Item 4 by brute force: all candidates known, one guess in each cell is right on average."""
    rows, _ = public(120, seed=8)
    kept = suppress(book.assign(rows))
    inside = kept[kept >= 0]
    right = sum(1 / np.sum(inside == one) for one in inside)  # a guess within the cell, at random or not
    assert right == pytest.approx(len(np.unique(inside)))
    assert right / len(inside) <= book.n_cells / len(inside)


@pytest.mark.parametrize(("cells", "n", "fits"), [(20, 100, True), (21, 100, False), (2, 9, False), (2, 10, True)])
def test_more_cells_than_the_policy_allows_are_refused(cells: int, n: int, fits: bool) -> None:
    if fits:
        require_policy(cells, n)
    else:
        with pytest.raises(InputError, match=f"Take at most {n // 5} cells"):
            require_policy(cells, n)


def test_bad_input_is_named(book: Codebook) -> None:
    rows, states = public(100)
    for call, message in (
        (lambda: book.assign(2 * rows), "Embedding 0 has norm 2"),
        (lambda: book.assign(np.where(np.arange(100)[:, None] == 7, np.nan, rows)), "Embedding 7 has norm nan"),
        (lambda: book.assign(rows[:, :5]), r"Give \(n, 12\) unit rows"),
        (lambda: Codebook.build(rows, states, 1), "Take 2 or more"),
        (lambda: Codebook.build(rows, states, 50), "Take at most 12"),
        (lambda: Codebook.build(rows, np.full_like(states, np.nan), 4), "No finding can be learnt"),
        (lambda: Codebook.build(np.repeat(rows[:2], 50, axis=0), states, 8), "hold no public record"),
        (lambda: require_policy(1, 100), "Take 2 or more"),
    ):
        with pytest.raises(InputError, match=message):
            call()
