"""What a file is, told by its content."""

from __future__ import annotations

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

OTHERS = (
    (0, b"\x1f\x8b", "a gzip archive", "Unpack it."),
    (0, b"PK\x03\x04", "a zip archive", "Unpack it."),
    (0, b"BZh", "a bzip2 archive", "Unpack it."),
    (0, b"\xfd7zXZ\0", "an xz archive", "Unpack it."),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it."),
    (0, b"(\xb5/\xfd", "a zstd archive", "Unpack it."),
    (257, b"ustar", "a tar archive", "Unpack it."),
    (0, b"II*\0", "a TIFF picture", "Save it as PNG, which keeps 16 bits."),
    (0, b"MM\0*", "a TIFF picture", "Save it as PNG, which keeps 16 bits."),
    (0, b"II+\0", "a TIFF picture", "Save it as PNG, which keeps 16 bits."),
    (0, b"BM", "a BMP picture", "Save it as PNG."),
    (0, b"GIF8", "a GIF picture", "Save it as PNG."),
    (8, b"WEBP", "a WebP picture", "Save it as PNG."),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture outside DICOM", "Save it as PNG, which keeps 16 bits."),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture outside DICOM", "Save it as PNG, which keeps 16 bits."),
    (4, b"ftypavif", "an AVIF picture", "Save it as PNG."),
    (4, b"ftyphei", "a HEIC picture", "Save it as PNG."),
    (4, b"ftyp", "a film", "Give one picture a file."),
    (344, b"n+1\0", "a NIfTI volume", "Save its slice as PNG, which keeps 16 bits."),
    (0, b"NRRD0", "an NRRD volume", "Save its slice as PNG, which keeps 16 bits."),
    (0, b"\x93NUMPY", "a numpy array", "Save it as PNG, which keeps 16 bits."),
    (0, b"\x89HDF", "an HDF5 file", "Save its pictures as PNG."),
    (0, b"%PDF", "a PDF document", "Save its picture as PNG."),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "Fetch it: git lfs pull."),
    (0, b"<!DOCTYPE", "a web page", "Download the image itself."),
    (0, b"<!doctype", "a web page", "Download the image itself."),
    (0, b"<html", "a web page", "Download the image itself."),
    (0, b"<?xml", "an XML document", "Give the image itself."),
)
"""(offset, bytes there, what the file is, what to do): what is no radiograph, but is often found in its place."""

VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def is_dicom(data: bytes) -> bool:
    """Whether this is a DICOM file (PS3.10 7.1) or, without preamble, a data set that begins like one.

    Such a data set begins with an element of group 0002 or 0008 (PS3.5 7.1): in explicit syntaxes its value
    representation follows the tag, in implicit ones a length that fits into the file.

    >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\\x08\\0\\x05\\0CS\\x0a\\0ISO_IR 100"), is_dicom(b"GIF89a")
    (True, True, False)
    """
    if data[128:132] == b"DICM":
        return True
    if len(data) < 64:
        return len(data) >= 8 and data[:2] in (b"\2\0", b"\x08\0", b"\0\2", b"\0\x08") and _explicit(data)
    for order in ("little", "big"):
        group, element = (int.from_bytes(data[at : at + 2], order) for at in (0, 2))
        length = int.from_bytes(data[4:8], order)
        implicit = order == "little" and length % 2 == 0 and length < min(len(data), 1 << 10)
        if group in (2, 8) and element < 0x3000 and (_explicit(data) or implicit):
            return True
    return False


def _explicit(data: bytes) -> bool:
    return data[4:6] in VALUE_REPRESENTATIONS


def other(data: bytes) -> tuple[str, str] | None:
    """What a file is that is certainly no DICOM, PNG or JPEG, as in "x is ...", and what to do about it."""
    if not data:
        return "empty", SUPPORTED
    for at, begins, what, remedy in OTHERS:
        if data[at : at + len(begins)] == begins:
            return what, remedy
    if not data[:4096].strip(b"\0"):
        return (
            "filled with zeros at its beginning, as copies that were broken off are",
            "Copy it again from its source.",
        )
    if _is_text(data[:4096]):
        return f"a text that begins with {data[:24].decode(errors='replace')!r}", SUPPORTED
    return None


def unknown(data: bytes) -> tuple[str, str]:
    """As `other`, of a file that is nothing known."""
    return f"of no kind known here; it begins with {data[:8].hex(' ')}", SUPPORTED


SUPPORTED = "Give a DICOM, PNG or JPEG file."


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)
