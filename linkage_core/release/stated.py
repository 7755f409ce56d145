"""Shapes of what a certificate may state, part by part: names, kinds of values and ranges.

Everything else is refused. A certificate is read by somebody who did not write it, and a part that nobody asked for
(`mechanism.ages`, `cohort.patient_ids`) or a text where a number belongs would travel along.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import FROM_TEXT, OWN

Shape = Callable[[Any], bool] | Mapping[str, Any]
"""A test of one value, or the parts that an object has, each with its shape. A name that ends in ? may be left out."""

KEYED = "the same at every release of an image, keyed by a secret of the site"
PACKAGES = ("linkage-explorer", "numpy", "torch", "transformers", "pandas", "pydicom", "pillow")
MANY = 10**9
CLOSE = 1e-6
"""How far two numbers that must agree may lie apart."""


def whole(low: int, high: int = MANY) -> Shape:
    """A whole number."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float = 1e12) -> Shape:
    """A finite number, low among them."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def text(pattern: str) -> Shape:
    """All of a text by a pattern."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def one_of(*values: Any) -> Shape:
    """One of these, of its very type."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def none_or(shape: Shape) -> Shape:
    """Nothing, or of the shape."""
    return lambda value: value is None or misfit(shape, value) is None


def findings(value: Any) -> bool:
    """Names of findings, each once."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, str) and one in LABELS for one in value)
        and len(set(value)) == len(value)
    )


_NAMED = "[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}"
NAME = text(_NAMED)
HASH = text("[0-9a-f]{64}")
PUBLIC = text(_NAMED + r" \(\d{1,3}(,\d{3}){0,3} records\)")

COHORT: dict[str, Any] = {
    **{"name": NAME, "model": NAME, "head": NAME, "synthetic": one_of(True, False)},
    "labels?": one_of(OWN, FROM_TEXT),
}
OF_RECORDS: Shape = {**COHORT, "n_records": whole(1), "most_records_of_a_patient": whole(1)}
BEFORE: Shape = {"mu": number(0.0), "lift": none_or(number(1.0, 1e305))}
FILE: Shape = {"sha256": HASH, "bytes": whole(1, 10**15)}


def misfit(shape: Shape, value: Any, path: str = "") -> str | None:
    """Where a value has another shape, in words; None where nowhere."""
    if not isinstance(shape, Mapping):
        return None if shape(value) else f"{path} is {reprlib.repr(value)}."
    if not isinstance(value, dict):
        return f"{path} is {reprlib.repr(value)}."
    shapes = {name.removesuffix("?"): one for name, one in shape.items()}
    for name in value:
        if name not in shapes:
            return f"{path or 'it'} has the part {reprlib.repr(name)}, which is no part of this release."
    inside = f"{path}." if path else ""
    for name, one in shapes.items():
        if name in value:
            if where := misfit(one, value[name], f"{inside}{name}"):
                return where
        elif f"{name}?" not in shape:
            return f"{path or 'it'} lacks the part {name!r}."
    return None


def difference(stated: Any, found: Any, path: str = "") -> str | None:
    """Where two JSON values differ first, None where nowhere; numbers may differ in the last digits."""
    if isinstance(stated, dict) and isinstance(found, dict):
        for name in sorted({*stated, *found}, key=str):
            if name not in stated or name not in found:
                return f"{path}{name}"
            if where := difference(stated[name], found[name], f"{path}{name}."):
                return where
        return None
    if _is_list(stated) and _is_list(found) and len(stated) == len(found):
        for i, (one, other) in enumerate(zip(stated, found, strict=True)):
            if where := difference(one, other, f"{path}{i}."):
                return where
        return None
    numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in (stated, found)]
    same = math.isclose(stated, found, rel_tol=1e-6) if all(numbers) else stated == found
    return None if same else path.rstrip(".") or "everything"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
