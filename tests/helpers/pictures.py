"""The bytes of DICOM, PNG and JPEG files."""

import io
import struct
import warnings
import zlib

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless


def dicom(pixels, *, bits=12, syntax=ExplicitVRLittleEndian, photometric="MONOCHROME2", **tags):
    """The bytes of a DICOM file around `pixels`; `tags` are set as given, None removes one."""
    little = syntax != ExplicitVRBigEndian
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128, is_little_endian=little)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = min(bits, dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PhotometricInterpretation = photometric
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset.compress(syntax, pixels, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests write wrong values on purpose
        pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def png(image, **options):
    out = io.BytesIO()
    image.save(out, format="PNG", **options)
    return out.getvalue()


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, format="JPEG", **{"quality": 95, "subsampling": 0, **options})
    return out.getvalue()


def chest(height=56, width=64, largest=4095, seed=0):
    """(height, width) int64, 0..largest: a smooth picture with little noise, of values as a radiograph has them."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    body = 0.85 * np.exp(-6 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)) + 0.1 * np.sin(7 * x) * np.sin(9 * y)
    body += np.random.default_rng(seed).normal(0, 0.01, body.shape)
    return np.rint((body - body.min()) / np.ptp(body) * largest).astype(np.int64)


def lut(entries, first=0, bits=16, packed=None, big_endian=False):
    """A sequence of one LUT item; `packed` "u1" or "u2" writes the entries as bytes (OW)."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    if packed is None:
        item.LUTData = [int(one) for one in entries]
        item["LUTData"].VR = "US"
    else:
        item.add_new("LUTData", "OW", words(entries, packed, big_endian))
    return Sequence([item])


def words(entries, kind, big_endian=False):
    """Numbers as the bytes of an OW element, which is swapped by words in big endian."""
    written = np.asarray(entries).astype(f"<{kind}").tobytes()
    written += b"\0" * (len(written) % 2)
    return np.frombuffer(written, "<u2").byteswap().tobytes() if big_endian else written


def gray_palette(entries, bits, packed=None, big_endian=False):
    """The tags of a palette whose three colours are the same."""
    tags = {}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries), 0, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = words(entries, packed or f"u{bits // 8}", big_endian)
    return tags


def raw_png(samples, bits=16, *, interlace=False, transparent=None, more=()):
    """The bytes of a PNG of (height, width) or (height, width, 2..4) samples, every row with another filter."""
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, n = samples.shape
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[n], 0, 0, interlace)
    passes = [(0, 0, 1, 1)]
    if interlace:  # Adam7: first row, first column, and the steps
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(_filtered(samples[top::down, left::across], bits) for top, left, down, across in passes)
    chunks = [(b"IHDR", header), *more]
    if transparent is not None:
        chunks.append((b"tRNS", np.atleast_1d(transparent).astype(">u2").tobytes()))
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _filtered(samples, bits):
    """Rows with their filter bytes (PNG 9.2): none, sub, up, average, Paeth in turn."""
    height, width, n = samples.shape
    if not height or not width:
        return b""
    if bits < 8:
        spread = (samples[..., 0, None] >> np.arange(bits)[::-1] & 1).reshape(height, -1).astype(np.uint8)
        rows = np.packbits(spread, axis=1)
    else:
        rows = np.frombuffer(samples.astype(f">u{bits // 8}").tobytes(), np.uint8).reshape(height, -1)
    step = max(1, n * bits // 8)
    rows = rows.astype(np.int64)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    left, corner = (np.hstack([np.zeros((height, step), np.int64), one[:, :-step]]) for one in (rows, above))
    guess = left + above - corner
    near = [np.abs(guess - one) for one in (left, above, corner)]
    paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], above, corner))
    taken = [np.zeros_like(rows), left, above, (left + above) // 2, paeth]
    return b"".join(
        bytes([y % 5]) + ((rows[y] - taken[y % 5][y]) % 256).astype(np.uint8).tobytes() for y in range(height)
    )


def hole(data, share=0.4, start=0.3):
    """The bytes with a stretch of zeros."""
    from_, to = int(start * len(data)), int((start + share) * len(data))
    return data[:from_] + bytes(to - from_) + data[to:]
