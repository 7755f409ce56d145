"""Heads refuse what does not fit them: a wrong shape would otherwise be broadcast, or fail far away."""

import numpy as np
import pytest

from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear, identity, unit


def linear(e: int, d: int) -> Linear:
    return Linear(np.ones((e, d), dtype=np.float32), np.zeros(e, dtype=np.float32))


def test_a_head_is_a_weight_with_its_bias() -> None:
    for weight, bias in (((3, 4), (4,)), ((3, 4), (1,)), ((3,), (3,)), ((3, 4), (3, 1))):
        with pytest.raises(InputError, match="A head has weight"):
            Linear(np.ones(weight, dtype=np.float32), np.zeros(bias, dtype=np.float32))
    assert linear(3, 4)(np.ones((2, 4))).tolist() == [[4.0] * 3] * 2


def test_features_of_another_model_are_refused() -> None:
    for shape in ((2, 5), (4,), (1, 2, 4)):
        with pytest.raises(InputError, match=r"Features have shape .* takes \(n, 4\)"):
            linear(3, 4)(np.ones(shape))


def test_both_towers_end_in_one_space() -> None:
    Heads(linear(3, 4), linear(3, 7))
    with pytest.raises(InputError, match="image head gives 3 dimensions, the text head 2"):
        Heads(linear(3, 4), linear(2, 4))


def test_rows_get_norm_one_or_are_named() -> None:
    rows = np.array([[3.0, 4.0], [1e-12, 0.0]])
    assert unit(rows) == pytest.approx(np.array([[0.6, 0.8], [1.0, 0.0]]), rel=1e-5)
    assert (identity(2)(rows) == rows.astype(np.float32)).all()
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(InputError, match=r"Row 1 is a zero vector or holds NaN or infinity \(1 such"):
            unit(np.array([[1.0, 0.0], [bad, 0.0]]))
