"""Is it the phantom's? Its names are nobody else's, and an entry is called synthetic for what is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from linkage_core.errors import InputError

_NAME = re.compile(r"phantom(-.*)?", re.IGNORECASE | re.DOTALL)
_RECORD = r"[AB]-\d{6}-\d{1,3}-(?:PA|AP|LATERAL)"


def is_phantoms(name: str) -> bool:
    """Whether this name of a cohort is the phantom's.

    >>> [is_phantoms(name) for name in ("phantom", "phantom-site-b", "Phantom", "phantoms", "mine")]
    [True, True, True, False, False]
    """
    return bool(_NAME.fullmatch(name))


def refuse_name(name: str, *, synthetic: bool) -> None:
    """InputError for real patients under a name of the phantom: pages would call them synthetic."""
    if is_phantoms(name) and not synthetic:
        raise InputError(f"{name} is a name of the synthetic cohort.", "Give another: --name NAME")


def problem(name: str, cohort: Mapping[str, Any]) -> str:
    """What is wrong with an entry of this name whose manifest says this of its cohort; "" for nothing."""
    if is_phantoms(name) and not cohort.get("synthetic"):
        return f"{name} is a name of the synthetic cohort, and this entry is not of it"
    if cohort.get("synthetic") and cohort.get("root"):
        return f"{name} says that it is synthetic, and has images in a folder of its own: a phantom has none"
    return ""


def other_records(cohort: Mapping[str, Any], records: pd.DataFrame) -> str:
    """What is wrong with the records of an entry that says it is the phantom; "" for nothing."""
    if not cohort.get("synthetic"):
        return ""
    if "image" in records and (records["image"] != "").any():
        return "It says that it is synthetic, and its records have image files: a phantom has none"
    of_phantom = is_phantoms(str(cohort.get("kind")))
    if of_phantom and not records["record_id"].str.fullmatch(_RECORD).all():
        return "It says that it is the phantom, and its records are none of the phantom's"
    return ""
