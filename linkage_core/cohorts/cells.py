"""Columns of text cells -> values of records, one function a kind. What is not understood is counted in a note."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts import fields
from linkage_core.cohorts.base import LABELS, Understood
from linkage_core.errors import InputError

_WHOLE_FLOAT = r"-?\d+\.0+"
_NUMBER = r"-?\d+(?:\.0+)?"
_POWER = r"\d(?:\.\d+)?[eE]\+\d+"


def mapped(values: pd.Series, function: Callable[[str], Any]) -> pd.Series:
    """The function of every value, called once for each distinct one."""
    return values.map({value: function(value) for value in values.unique()})


def views(values: pd.Series, understood: Understood) -> pd.Series:
    """PA, AP, LATERAL or ""."""
    found = mapped(values, fields.view).astype("str")
    _not_read("view", values, found == "", "without PA, AP or lateral", understood)
    return found


def sexes(values: pd.Series, understood: Understood) -> pd.Series:
    """F, M or ""."""
    found = mapped(values, fields.sex).astype("str")
    _not_read("sex", values, found == "", "without F or M", understood)
    return found


def ages(values: pd.Series, understood: Understood) -> pd.Series:
    """Years or NaN."""
    found = mapped(values, fields.age).astype("float64")
    _not_read("age", values, found.isna(), "without a number of years from 0 to 120", understood)
    return found


def labels(values: pd.Series, name: str, where: str) -> pd.Series:
    """1, 0, -1 or NaN; InputError, naming the row, for anything else."""
    parsed: dict[str, float] = {}
    for value in values.unique():
        try:
            parsed[value] = fields.label(value)
        except ValueError as error:
            number = int(np.argmax((values == value).to_numpy())) + 1
            raise InputError(
                f"{where}, row {number}: label {name!r} is {value!r}.",
                "It is 1 (positive), 0 (negative), -1 (uncertain) or empty (not mentioned).",
            ) from error
    return values.map(parsed).astype("float64")


def label_columns(table: pd.DataFrame, where: str) -> dict[str, pd.Series]:
    """All 14 labels as numbers, NaN where the table has none."""
    absent = pd.Series(np.nan, index=table.index, dtype="float64")
    return {label: labels(table[label], label, where) if label in table else absent for label in LABELS}


def ids(values: pd.Series, name: str, where: str, understood: Understood) -> pd.Series:
    """Ids without blanks at their ends, accents composed (NFC); 12.0 among whole numbers is 12; what is nearly equal is
    noted. InputError for 1.2E+10: its digits are lost."""
    values = values.str.strip()
    powers = values[values.str.fullmatch(_POWER)]
    if len(powers):
        raise InputError(
            f"{where}: {counted(len(powers), 'id')} in {name!r} such as {powers.iloc[0]!r}: a spreadsheet has cut the "
            "digits.",
            "Format the column as text and save the table again.",
        )
    floats = values.str.fullmatch(_WHOLE_FLOAT)
    if floats.any() and values[values != ""].str.fullmatch(_NUMBER).all():
        many = counted(int(floats.sum()), "id")
        understood.note(
            f"{many} in {name} of {where} with .0 at the end, such as {values[floats].iloc[0]}: read without it"
        )
        values = values.str.replace(r"\.0+$", "", regex=True)
    if (accents := ~values.str.isascii()).any():
        composed = mapped(values[accents], lambda text: unicodedata.normalize("NFC", text)).astype("str")
        if respelled := int((composed != values[accents]).sum()):
            many = counted(respelled, "id")
            understood.note(f"{many} in {name} of {where} with accents composed otherwise: read as one spelling")
            values = values.where(~accents, composed)
    _note_near(values, name, where, understood)
    return values


def _note_near(values: pd.Series, name: str, where: str, understood: Understood) -> None:
    """A note for ids that differ in capitals or zeros at the front alone: one person may stand there twice."""
    distinct = pd.Series(values.unique(), dtype="str")
    alike = distinct.str.lower().str.lstrip("0")
    near = alike.duplicated(keep=False) & (alike != "")
    if near.any():
        first = distinct[alike == alike[near].iloc[0]].tolist()
        understood.note(
            f"{counted(int(near.sum()), 'id')} in {name} of {where} like another but for capitals or zeros at the "
            f"front, such as {first[0]!r} and {first[1]!r}: taken as different"
        )


def without_gap_words(values: pd.Series, name: str, understood: Understood) -> pd.Series:
    """Parts of reports, "" for a word that stands for an empty cell."""
    gaps = _gap_words(values)
    if gaps.any():
        said = values[gaps].iloc[0].strip()
        understood.note(
            f"{counted(int(gaps.sum()), 'cell')} of {name} with only a word for a gap, such as {said!r}: left out"
        )
    return values.where(~gaps, "")


def note_gap_words(table: Mapping[str, pd.Series] | pd.DataFrame, understood: Understood) -> None:
    """A note for reports and ids that are such a word: they are kept."""
    for name in ("report", "patient_id", "study_id", "record_id"):
        gaps = _gap_words(table[name])
        if gaps.any():
            many, said = counted(int(gaps.sum()), "cell"), table[name][gaps].iloc[0].strip()
            understood.note(f"{many} of {name} with only a word for a gap, such as {said!r}: kept as it stands")


def _gap_words(values: pd.Series) -> pd.Series:
    """Which cells hold a word for a gap; most cells of reports are too long for one, and are not looked at."""
    short = values.str.len() < 16
    gaps = pd.Series(False, index=values.index)
    gaps[short] = values[short].str.strip().str.lower().isin(fields.GAP_WORDS)
    return gaps


def _not_read(name: str, values: pd.Series, empty: pd.Series, why: str, understood: Understood) -> None:
    odd = empty & ~mapped(values, fields.is_gap).astype(bool)
    if odd.any():
        said = values[odd].iloc[0].strip()[:40]
        understood.note(f"{counted(int(odd.sum()), 'cell')} of {name} {why}, such as {said!r}: taken as not given")


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "study", "studies"), counted(2000, "study", "studies")
    ('1 study', '2,000 studies')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
