"""What a certificate may state, part by part: names, kinds of values and ranges, and what must agree with what.

Everything else is refused. A certificate is read by somebody who did not write it, and a part that nobody asked for
(`mechanism.ages`, `cohort.patient_ids`) or a text where a number belongs would travel along.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.release.kinds.capped import Cap

Shape = Callable[[Any], bool] | Mapping[str, Any]
"""A test of one value, or the parts that an object has, each with its shape. A name that ends in ? may be left out."""

STATISTICS, CODES, CAPPED, SCORES, EMBEDDINGS = "statistics", "codes", "capped", "scores", "embeddings"
KEYED = "the same at every release of an image, keyed by a secret of the site"
PACKAGES = ("linkage-explorer", "numpy", "torch", "transformers", "pandas", "pydicom", "pillow")
_MANY = 10**9
_CLOSE = 1e-6


def whole(low: int, high: int = _MANY) -> Shape:
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

_COHORT: dict[str, Any] = {"name": NAME, "model": NAME, "head": NAME, "synthetic": one_of(True, False)}
_OF_RECORDS: Shape = {**_COHORT, "n_records": whole(1), "most_records_of_a_patient": whole(1)}
_MECHANISM: dict[str, dict[str, Any]] = {
    STATISTICS: {
        "name": one_of("Gaussian mechanism on clipped sums over patients"),
        "findings": findings,
        "n_patients": whole(1),
        "clip": number(1e-9),
        "multiplier": number(1e-9),
        "delta": number(1e-300, 1.0),
        "mu": number(1e-12),
        "public": lambda value: value == "none" or misfit(PUBLIC, value) is None,
        "seed": none_or(whole(0, 2**64)),
    },
    CODES: {
        "name": one_of("public codebook"),
        "cells": whole(2),
        "least": whole(2),
        "suppressed": whole(0),
        "public": PUBLIC,
        "codebook": HASH,
    },
    CAPPED: {
        "name": one_of("cap mechanism"),
        "dimension": whole(2, 10**6),
        "limit": number(1.0, _MANY),
        "p": number(1e-9, 1.0),
        "epsilon": none_or(number(0.0)),
        "gain": number(0.0, 1.0),
        "noise": one_of(KEYED),
    },
    SCORES: {"name": one_of("linear probe"), "findings": findings, "public": PUBLIC, "reader": HASH},
}
_CLEAN: dict[str, Any] = {"name": one_of("clean"), "sigma": one_of(0.0, 0), "dimension": whole(2, 10**6)}
_NOISY: Shape = {**_CLEAN, "name": one_of("Gaussian noise"), "sigma": number(1e-12), "noise": one_of(KEYED)}
_BEFORE: Shape = {"mu": number(0.0), "lift": none_or(number(1.0, 1e305))}
_FILE: Shape = {"sha256": HASH, "bytes": whole(1, 10**15)}


def require(stated: Mapping[str, Any], schema: int, files: tuple[str, ...]) -> None:
    """InputError that names the first part which is not as it can be, or does not agree with another.

    stated: the parts of certificate.STATED; of a known kind. files: the names that may be listed.
    """
    kind, mechanism, cohort = stated["kind"], stated["mechanism"], stated["cohort"]
    of_mechanism = _MECHANISM.get(kind, _NOISY if isinstance(mechanism, dict) and mechanism.get("sigma") else _CLEAN)
    shape: Shape = {
        "schema": one_of(schema),
        "kind": one_of(kind),
        "cohort": _COHORT if kind == STATISTICS else _OF_RECORDS,
        "mechanism": of_mechanism,
        "one_label": none_or({"findings": findings}),
        "reproducible": one_of(True, False),
        "secret": none_or(text("[0-9a-f]{16}")),
        "ledger": none_or({"entry": whole(1), "digest": HASH, "before": _BEFORE}),
        "versions": dict.fromkeys(PACKAGES, text(r"\d[0-9A-Za-z.+!-]{0,30}")),
        "files": {f"{name}?": _FILE for name in files},
    }
    where = misfit(shape, stated) or _disagreement(kind, mechanism, cohort, stated)
    if where:
        raise InputError(where, "A certificate states what its kind asks for, and nothing beside it.")


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


def _disagreement(kind: str, mechanism: Mapping[str, Any], cohort: Mapping[str, Any], stated: Mapping[str, Any]) -> str:
    """Which two parts cannot both be so, in words; empty where all agree."""
    repeatable = stated["reproducible"]
    if repeatable and (stated["ledger"] is not None or not cohort["synthetic"]):
        return "reproducible is true, for a cohort that is not synthetic or an entry of a ledger."
    if (stated["secret"] is None) != (repeatable or kind == STATISTICS):
        return f"secret is {stated['secret']!r}, and reproducible {repeatable}."
    if kind == STATISTICS:
        if (mechanism["seed"] is not None) != repeatable:
            return f"mechanism.seed is {mechanism['seed']!r}, and reproducible {repeatable}."
        if not math.isclose(mechanism["mu"] * mechanism["multiplier"], 1, rel_tol=_CLOSE):
            return "mechanism.mu is not 1 / multiplier."
        return ""
    if cohort["most_records_of_a_patient"] > cohort["n_records"]:
        return "cohort.most_records_of_a_patient is more than n_records."
    if kind == CAPPED:
        cap = Cap(mechanism["dimension"], float(mechanism["limit"]), float(mechanism["p"]))
        epsilon = None if cap.p == 1 else cap.epsilon
        if (epsilon is None) != (mechanism["epsilon"] is None) or not math.isclose(
            epsilon or 0.0, mechanism["epsilon"] or 0.0, rel_tol=_CLOSE
        ):
            return "mechanism.epsilon is not that of its limit and p."
        if not math.isclose(cap.gain, mechanism["gain"], rel_tol=_CLOSE):
            return "mechanism.gain is not that of its dimension, limit and p."
    return ""
