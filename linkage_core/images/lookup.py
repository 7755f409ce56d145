"""Look-up tables of a DICOM file: modality and VOI LUTs (PS3.3 C.11.1, C.11.2) and palettes (C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from pydicom.dataset import Dataset

from linkage_core.errors import ImageError

COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Table:
    """`entries` are for the values first, first + 1, ...; `white` is what the largest entry can be at most."""

    first: int
    entries: np.ndarray
    white: int
    notes: tuple[str, ...] = ()

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The entries of these values, float64; values outside take the first or last one."""
        places = np.clip(np.rint(values - self.first), 0, len(self.entries) - 1).astype(np.int64)
        looked_up: np.ndarray = self.entries[places]
        return looked_up


def lut(item: Dataset, values: np.ndarray, big_endian: bool, name: str) -> Table:
    """The table of an item of ModalityLUTSequence or VOILUTSequence, for these values.

    Descriptors are wrong more often than entries: the depth is the one that the entries need where it is another than
    the declared one, and so is the length.
    """
    count, first, declared = _descriptor(item, "LUTDescriptor", big_endian)
    if not 8 <= declared <= 16:
        _bad(name, f"LUT entries of {declared} bits")
    entries = _entries(item, "LUTData", count, big_endian)
    if len(entries) < count:
        _bad(name, f"a LUT of {len(entries)} entries that says it has {count}")
    white, notes = _white(entries, declared)
    notes += ("lut-length",) * (len(entries) > count + 1)
    return Table(_signed(first, len(entries), values), entries.astype(np.float64), white, notes)


def palette(dataset: Dataset, values: np.ndarray, big_endian: bool, name: str) -> tuple[Table, Table, Table]:
    """The tables of a palette's red, green and blue; one `white` for the three."""
    found = []
    for colour in COLOURS:
        count, first, declared = _descriptor(dataset, f"{colour}PaletteColorLookupTableDescriptor", big_endian)
        if declared not in (8, 16):
            _bad(name, f"a palette of {declared} bits")
        plain, segmented = f"{colour}PaletteColorLookupTableData", f"Segmented{colour}PaletteColorLookupTableData"
        if plain in dataset:
            entries = _entries(dataset, plain, count, big_endian)
        elif segmented in dataset:
            entries = _expanded(_words(dataset, segmented, declared, big_endian).tolist(), declared // 8, name)
        else:
            _bad(name, f"a palette without entries for {colour.lower()}")
        if len(entries) < count:
            _bad(name, f"a palette of {len(entries)} entries that says it has {count}")
        found.append((_signed(first, count, values), entries[:count], declared))
    white, notes = _white(np.concatenate([entries for _, entries, _ in found]), found[0][2])
    red, green, blue = (Table(first, entries, white, notes) for first, entries, _ in found)
    return red, green, blue


def integers(value: Any, big_endian: bool) -> list[int]:
    """One or several numbers of 16 bits, also where their value representation is unknown, so that bytes came."""
    if isinstance(value, bytes):
        return [int(one) for one in np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big_endian else "<u2")]
    return [int(one) for one in (value if isinstance(value, list | tuple) or hasattr(value, "__iter__") else [value])]


def _descriptor(item: Dataset, keyword: str, big_endian: bool) -> tuple[int, int, int]:
    count, first, bits = integers(item[keyword].value, big_endian)
    return (count & 0xFFFF) or 1 << 16, first, bits


def _entries(item: Dataset, keyword: str, count: int, big_endian: bool) -> np.ndarray:
    """Entries as integers, from numbers or from bytes: a word each, or two in a word (PS3.3 C.7.6.3.1.6)."""
    value = item[keyword].value
    if not isinstance(value, bytes):
        return np.atleast_1d(np.asarray(value, dtype=np.int64))
    if len(value) >= 2 * count:
        return np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big_endian else "<u2").astype(np.int64)
    return _words(item, keyword, 8, big_endian)[: max(count, len(value) - 1)]


def _words(item: Dataset, keyword: str, bits: int, big_endian: bool) -> np.ndarray:
    """The bytes of an element as numbers of 8 or 16 bits; OW is swapped by words in big endian (PS3.5 7.3)."""
    value = item[keyword].value
    if bits == 16:
        return np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big_endian else "<u2").astype(np.int64)
    single = np.frombuffer(value, "u1")
    if big_endian and item[keyword].VR == "OW" and len(single) % 2 == 0:
        single = single.reshape(-1, 2)[:, ::-1].ravel()
    return single.astype(np.int64)


def _expanded(numbers: list[int], size: int, name: str) -> np.ndarray:
    """Entries of a segmented palette: discrete, linear and indirect segments of numbers of `size` bytes (PS3.3
    C.7.9.2)."""
    entries: list[int] = []

    def segment(at: int, indirect: bool) -> int:
        opcode, length = numbers[at], numbers[at + 1]
        if len(entries) > 1 << 16:
            _bad(name, f"a segmented palette of more than {1 << 16:,} entries")
        if opcode == 0:
            entries.extend(numbers[at + 2 : at + 2 + length])
            return at + 2 + length
        if opcode == 1 and entries:
            entries.extend(np.rint(np.linspace(entries[-1], numbers[at + 2], length + 1))[1:].astype(int).tolist())
            return at + 3
        if opcode == 2 and indirect:
            offset = numbers[at + 2 : at + 2 + 4 // size]  # in bytes, the least significant part first
            place = sum(part << 8 * size * i for i, part in enumerate(offset)) // size
            for _ in range(length):
                place = segment(place, False)
            return at + 2 + 4 // size
        _bad(name, f"a segmented palette with a segment of kind {opcode}")

    at = 0
    while at + 2 < len(numbers):
        at = segment(at, True)
    return np.asarray(entries, dtype=np.int64)


def _white(entries: np.ndarray, declared: int) -> tuple[int, tuple[str, ...]]:
    """The largest value that entries of this depth can have: the depth that they need, if another is declared."""
    needed = max(1, int(entries.max()).bit_length())
    return (1 << needed) - 1, () if needed == declared else ("lut-bits",)


def _signed(first: int, count: int, values: np.ndarray) -> int:
    """The first value mapped, written as US or SS: whichever of the two the table then serves these values with."""
    low, high = float(values.min()), float(values.max())

    def shared(start: int) -> float:
        return min(high, start + count - 1) - max(low, start)

    return max((first, first - (1 << 16) if first >= 1 << 15 else first, first % (1 << 16)), key=shared)


def _bad(name: str, what: str) -> NoReturn:
    raise ImageError("bad-values", f"{name} has {what}.", "Export the file again, or correct its header.")
