"""Pixel cells of a DICOM file -> stored values: which of a cell's bits are the pixel (PS3.5 8.1.1)."""

from __future__ import annotations

import numpy as np

ROWS = 256  # of an image, that are looked at to tell readings of its bits apart


def stored_values(
    cells: np.ndarray, bits: int, high: int, overlays: tuple[int, ...]
) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Stored values with the shape of `cells`, their depth, and notes (keys of NOTES).

    `cells` are integers of 8 or 16 bits, signed where the pixels are; `bits` is BitsStored, `high` HighBit; `overlays`
    are the bits in which the header keeps overlays. Where HighBit contradicts the bits in use, these win: pixels that
    fill the upper bits and leave the lower ones empty are left-aligned, and pixels within 2**bits are not.
    """
    allocated = 8 * cells.itemsize
    if within(cells, bits) and (high < bits or bits == allocated):
        return cells, bits, ()
    unsigned = cells.view(cells.dtype.str.replace("i", "u"))  # in the byte order that they have
    used, always = int(np.bitwise_or.reduce(unsigned, axis=None)), int(np.bitwise_and.reduce(unsigned, axis=None))
    varying = used & ~always
    spare = allocated - bits
    shift = high + 1 - bits if bits <= high + 1 <= allocated else 0
    below = (1 << (shift or spare)) - 1
    planes = sum(1 << bit for bit in overlays if 0 <= bit < allocated)
    if shift:
        if not used & below & ~planes:
            return _cut(cells, shift, bits), bits, ()
        if within(cells, bits) or not (varying & ~planes) >> bits:
            return _cut(cells, 0, bits), bits, ("high-bit",)
        if _smoother(_cut(cells, 0, bits), _cut(cells, shift, bits)):
            return _cut(cells, 0, bits), bits, ("high-bit", "unused-bits")
        return _cut(cells, shift, bits), bits, ("unused-bits",) if varying & below & ~planes else ()
    right = _cut(cells, 0, bits)
    if not (varying & ~planes) >> bits:
        return right, bits, ()
    if not used & below:
        return _cut(cells, spare, bits), bits, ("high-bit",)
    if _continuous(cells, right, bits):
        return cells, allocated, ("bits-stored",)
    return right, bits, ("unused-bits",)


def within(values: np.ndarray, bits: int) -> bool:
    """Whether every value is one of `bits` bits, the bits above saying nothing or repeating the sign."""
    signed = values.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return bool(low <= values.min() and values.max() <= high)


def wrong_sign(values: np.ndarray, bits: int, padding: tuple[int, int] | None = None) -> bool:
    """Whether pixels run smoothly through the end of their range, and hardly ever through its middle.

    That is what values look like that were written with the other PixelRepresentation: 0 and 2**bits - 1, or
    2**(bits - 1) and one less, are neighbours then. Values from `padding[0]` to `padding[1]` have no say.
    """
    some = values[:: max(1, values.shape[0] // ROWS)].astype(np.int32)
    signed = values.dtype.kind == "i"
    other = some % (1 << bits) if signed else np.where(some >> bits - 1, some - (1 << bits), some)
    near = 1 << max(0, bits - 4)
    here, there = (np.abs(np.diff(one, axis=1)) for one in (some, other))
    crossing = (some[:, 1:] < 0) != (some[:, :-1] < 0) if signed else (other[:, 1:] < 0) != (other[:, :-1] < 0)
    if padding is not None:
        inside = (some < padding[0]) | (some > padding[1])
        crossing &= inside[:, 1:] & inside[:, :-1]
    n_here, n_there = int((crossing & (here < near)).sum()), int((crossing & (there < near)).sum())
    return n_there > 10 * n_here and n_there > 0.005 * here.size


def _cut(cells: np.ndarray, shift: int, bits: int) -> np.ndarray:
    """`bits` bits of each cell from bit `shift` on; the highest of them is the sign of signed ones."""
    allocated = 8 * cells.itemsize
    return (cells << (allocated - bits - shift)) >> (allocated - bits)


def _steps(values: np.ndarray) -> np.ndarray:
    some = values[:: max(1, values.shape[0] // ROWS)].astype(np.int32)
    return np.abs(np.diff(some, axis=1))


def _smoother(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether neighbours differ far less in `one` than in `other`, each measured by its own spread."""
    roughness = [float(_steps(values).mean()) / (float(values.std()) or 1.0) for values in (one, other)]
    return 3 * roughness[0] < roughness[1]


def _continuous(whole: np.ndarray, cut: np.ndarray, bits: int) -> bool:
    """Whether neighbours that differ in the bits above `bits` are close in `whole` and far from each other in `cut`.

    Pixels with more bits than they are said to have are; overlays and other marks in these bits are not.
    """
    some = whole[:: max(1, whole.shape[0] // ROWS)].astype(np.int32)
    crossing = (some[:, 1:] >> bits) != (some[:, :-1] >> bits)
    near = 1 << max(0, bits - 2)
    return bool((crossing & (_steps(whole) < near)).sum() > (crossing & (_steps(cut) < near)).sum())
