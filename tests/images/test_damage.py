"""Compressed pictures with holes are refused; sound ones, however black, are not."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import chest, hole, jpeg
from linkage_core.errors import ImageError
from linkage_core.images import jpeg as jpegs
from linkage_core.images import jpeg2000

PICTURE = chest(150, 170, 255).astype(np.uint8)
MARGINS = np.where((np.arange(150) > 40)[:, None] & (np.arange(170) < 120), PICTURE, 0).astype(np.uint8)
BOTTOM = np.where((np.arange(150) < 60)[:, None], PICTURE, 0).astype(np.uint8)
RAMP = np.tile(np.arange(170, dtype=np.uint8)[::-1], (150, 1))
SOUND = {
    "picture": PICTURE,
    "margins": MARGINS,
    "black below": BOTTOM,
    "black": np.zeros_like(PICTURE),
    "white": np.full_like(PICTURE, 255),
    "middle": np.full_like(PICTURE, 128),
    "noise": np.random.default_rng(0).integers(0, 256, PICTURE.shape).astype(np.uint8),
    "ramp": RAMP,
    "ramp downwards": RAMP.T[:150, :150],
    "two shades": np.where(PICTURE > 128, 255, 0).astype(np.uint8),
}
WAYS = [
    {},
    {"optimize": True},
    {"progressive": True},
    {"restart_marker_rows": 1},
    {"restart_marker_blocks": 5, "optimize": True},
    {"progressive": True, "restart_marker_rows": 2},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", SOUND)
def test_sound_jpegs_are_never_refused(name, way):
    for quality in (40, 95, 100):
        for mode in ("L", "RGB"):
            data = jpeg(Image.fromarray(SOUND[name]).convert(mode), quality=quality, **way)
            plain = np.asarray(Image.open(io.BytesIO(data)))
            for end in (b"", b"\0" * 300, b"\xff\xd8\xff\xe0 another picture"):
                np.testing.assert_array_equal(np.asarray(jpegs.load(data + end, "x")), plain)


@pytest.mark.parametrize(
    "way", [{}, {"optimize": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 5}], ids=str
)
@pytest.mark.parametrize(("share", "start"), [(0.4, 0.3), (0.1, 0.6), (0.4, 0.6001)])
def test_jpegs_with_holes_are_refused(way, share, start):
    refused = 0
    # black rows at the end take two bits a block, so there a small hole may leave less than a few bytes over
    for picture in (PICTURE, MARGINS, BOTTOM)[: 3 if share > 0.1 else 2]:
        for quality in (50, 95):
            data = hole(jpeg(Image.fromarray(picture), quality=quality, **way), share, start)
            whole = np.asarray(Image.open(io.BytesIO(jpeg(Image.fromarray(picture), quality=quality, **way))))
            try:
                read = jpegs.load(data, "x")
            except (ImageError, OSError):
                refused += 1
                continue
            np.testing.assert_array_equal(np.asarray(read), whole)  # black was written as zeros, and still is
    assert refused >= 4


@pytest.mark.parametrize("refines", [False, True])
def test_a_hole_in_a_progressive_scan_is_refused(refines):
    data = jpeg(Image.fromarray(PICTURE), progressive=True, quality=90)
    scans = [scan for scan in jpegs.parse(data).scans if scan.refines == refines]
    scan = max(scans, key=lambda scan: scan.end - scan.start)
    length = (scan.end - scan.start) // 2
    with pytest.raises(ImageError, match="damaged"):
        jpegs.load(data[: scan.start + 50] + bytes(length) + data[scan.start + 50 + length :], "x")


def test_restart_markers_are_counted():
    data = jpeg(Image.fromarray(PICTURE).convert("RGB"), restart_marker_blocks=5, subsampling=2)
    scan = jpegs.parse(data).scans[0]
    assert len(scan.restarts) == scan.expected == (10 * 11 - 1) // 5
    lost = scan.restarts[3]
    bad = data[:lost] + b"\x12\x34" * 9 + data[scan.restarts[11] + 2 :]
    with pytest.raises(ImageError, match="of 21 restart markers 12 are there"):
        jpegs.check_holes(bad, jpegs.parse(bad), lambda: PICTURE, lambda _: PICTURE, "x")
    jpegs.check_holes(data, jpegs.parse(data), lambda: PICTURE, lambda _: PICTURE, "x")


def jpeg2000_of(picture, **options):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG2000", no_jp2=True, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "way",
    [
        {"irreversible": False},
        {"irreversible": True, "quality_layers": [40, 10, 4], "quality_mode": "rates"},
        {"tile_size": (64, 64)},
        {"precinct_size": (128, 128), "codeblock_size": (32, 32), "progression": "RPCL"},
        {"num_resolutions": 1},
    ],
    ids=str,
)
def test_jpeg_2000_with_holes_and_without(way):
    for name, picture in SOUND.items():
        data = jpeg2000_of(picture, **way)
        stream = jpeg2000.parse(data)
        assert (stream.height, stream.width, stream.bits, stream.n_components) == (*picture.shape, 8, 1)
        jpeg2000.check_holes(data, stream, picture, "x")
        if "ramp" not in name:
            assert max(len(run) for run in re.findall(rb"\0+", data)) < stream.zeros / 4
        if name == "picture" and len(data) > 3000:
            with pytest.raises(ImageError, match="bytes of zero in a row"):
                jpeg2000.check_holes(hole(data), stream, picture, "x")


def test_the_codestream_of_a_jp2_file_is_found():
    picture = Image.fromarray(PICTURE)
    out = io.BytesIO()
    picture.save(out, "JPEG2000")
    stream = jpeg2000.codestream(out.getvalue(), "x")
    assert stream.startswith(jpeg2000.START)
    assert stream.endswith(b"\xff\xd9")
    assert jpeg2000.codestream(stream, "x") == stream
    with pytest.raises(ImageError, match="without a codestream"):
        jpeg2000.codestream(out.getvalue()[:40], "x")
    # a length of 64 bits, and one that goes to the end of the file
    at = out.getvalue().index(b"jp2c") - 4
    head = out.getvalue()[:at]
    assert jpeg2000.codestream(head + b"\0\0\0\1jp2c" + (16 + len(stream)).to_bytes(8, "big") + stream, "x") == stream
    assert jpeg2000.codestream(head + b"\0\0\0\0jp2c" + stream, "x") == stream


@pytest.mark.parametrize("way", [{"progressive": True}, {"restart_marker_rows": 2}, {}], ids=str)
def test_no_hole_that_is_seen_passes(way):
    """Of sixty holes anywhere none passes that changes a tenth of the pixels by more than 16 grey values."""
    rng = np.random.default_rng(17)
    seen = 0
    for quality in (60, 95):
        data = jpeg(Image.fromarray(PICTURE), quality=quality, **way)
        whole = np.asarray(Image.open(io.BytesIO(data))).astype(int)
        for _ in range(30):  # each of 80 bytes or more
            share = rng.uniform(max(0.02, 80 / len(data)), 0.4)
            holed = hole(data, share, rng.uniform(0.05, 0.95 - share))
            try:
                read = jpegs.load(holed, "x")
            except (ImageError, OSError):
                seen += 1
                continue
            assert (np.abs(np.asarray(read) - whole) > 16).mean() <= 0.1
    assert seen >= 45
