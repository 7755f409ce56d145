import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from helpers.pictures import dicom, gray_palette, jpeg, png, raw_png
from helpers.places import SHARED
from linkage_core.errors import ImageError
from linkage_core.images import cells
from linkage_core.images import dicom as decoder
from linkage_core.images import read as radiographs
from linkage_core.images.pixels import Radiograph, downsample, luminance
from linkage_core.images.read import decode_radiograph, inside, read_radiograph


def gradient(height=40, width=48, largest=4095, dtype=np.uint16):
    """Every value different from its neighbours, the extremes present."""
    values = np.linspace(0, largest, height * width).reshape(height, width)
    return np.random.default_rng(0).permutation(np.rint(values).ravel()).reshape(height, width).astype(dtype)


def lut(values, first=0, bits=16):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = [int(value) for value in values]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


def shown(pixels, **how):
    return decode_radiograph(dicom(pixels, **how), "a.dcm").pixels


def stretched(values):
    values = np.asarray(values, dtype=float)
    return np.rint((values - values.min()) * 65535 / (values.max() - values.min())).astype(np.uint16)


def reason_of(data, name="x"):
    with pytest.raises(ImageError) as caught:
        decode_radiograph(data, name)
    assert caught.value.what
    assert caught.value.remedy
    assert name in caught.value.what
    return caught.value.reason


# DICOM: values


def test_without_a_window_the_data_fill_the_range():
    pixels = gradient(largest=3000) + 500
    read = decode_radiograph(dicom(pixels.astype(np.uint16)), "a.dcm")
    assert read.bits == 12
    assert read.pixels.dtype == np.uint16
    np.testing.assert_array_equal(read.pixels, stretched(pixels))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_agrees_with_pydicom(function):
    pixels = gradient()
    tags = {"WindowCenter": [1800, 100], "WindowWidth": [2222, 5], "VOILUTFunction": function}
    tags |= {"RescaleSlope": 2, "RescaleIntercept": -1000}
    data = dicom(pixels, **tags)
    values = pixels.astype(float) * 2 - 1000
    expected = apply_windowing(values, pydicom.dcmread(io.BytesIO(data)))
    low, high = -1000, 4095 * 2 - 1000  # pydicom's output range
    expected = (expected - low) * 65535 / (high - low)
    np.testing.assert_allclose(decode_radiograph(data, "a").pixels, expected, atol=0.51)


def test_window_of_width_one_is_a_step():
    pixels = gradient()
    np.testing.assert_array_equal(shown(pixels, WindowCenter=2000, WindowWidth=1), np.where(pixels > 1999.5, 65535, 0))


def test_rescale_comes_before_the_window():
    pixels = gradient()
    plain = shown(pixels, WindowCenter=2048, WindowWidth=1000)
    rescaled = shown(
        pixels, RescaleSlope=0.5, RescaleIntercept=100, WindowCenter=0.5 * 2047.5 + 100.5, WindowWidth=500.5
    )
    np.testing.assert_array_equal(plain, rescaled)


def test_sixteen_bits_are_kept_until_after_the_window():
    pixels = gradient(64, 64, largest=65535)
    narrow = shown(pixels, bits=16, WindowCenter=1000, WindowWidth=1001)
    inside_window = (pixels > 500) & (pixels < 1500)
    assert len(np.unique(narrow[inside_window])) == len(np.unique(pixels[inside_window])) > 50


def test_modality_lut_then_voi_lut():
    pixels = gradient(largest=255).astype(np.uint16)
    modality = np.arange(256)[::-1] * 4 + 3  # 3 .. 1023
    voi = np.minimum(np.arange(1024) ** 2 // 16, 65535)
    got = shown(pixels, bits=8, ModalityLUTSequence=lut(modality), VOILUTSequence=lut(voi))
    np.testing.assert_array_equal(got, voi[modality[pixels]])


def test_voi_lut_wins_over_a_window_and_clamps_at_its_ends():
    pixels = gradient()
    table = np.linspace(0, 1023, 100).astype(int)
    got = shown(pixels, VOILUTSequence=lut(table, first=1000, bits=10), WindowCenter=5, WindowWidth=5)
    expected = table[np.clip(pixels.astype(int) - 1000, 0, 99)] * 65535 / 1023
    np.testing.assert_array_equal(got, np.rint(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_packed_lut_bytes(dtype):
    pixels = gradient(largest=255).astype(np.uint16)
    table = (np.arange(256)[::-1]).astype(np.uint8 if dtype == np.uint8 else "<u2")
    sequence = lut(table, bits=8)
    del sequence[0].LUTData
    sequence[0].add_new("LUTData", "OW", table.tobytes())
    got = shown(pixels.astype(np.uint16 if dtype == np.uint8 else dtype), bits=12, VOILUTSequence=sequence)
    np.testing.assert_array_equal(got, (255 - pixels) * 257)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {}),
        ({"WindowCenter": 1500, "WindowWidth": 900}, {"WindowCenter": 4095 - 1500 + 1, "WindowWidth": 900}),
        (
            {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
            {"WindowCenter": 4095 - 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        ),
    ],
)
@pytest.mark.parametrize("presentation", [{}, {"PresentationLUTShape": "INVERSE"}])
def test_monochrome1_is_its_monochrome2_twin(one, two, presentation):
    pixels = gradient(80, 80)
    inverted = shown((4095 - pixels).astype(np.uint16), photometric="MONOCHROME1", **two, **presentation)
    np.testing.assert_array_equal(inverted, shown(pixels, **one))


def test_inverse_presentation_inverts():
    pixels = gradient()
    np.testing.assert_array_equal(shown(pixels, PresentationLUTShape="INVERSE"), 65535 - shown(pixels))
    np.testing.assert_array_equal(shown(pixels, PresentationLUTShape="IDENTITY"), shown(pixels))


def test_signed_values_and_unused_high_bits():
    pixels = gradient(largest=4095).astype(np.int16) - 2048
    np.testing.assert_array_equal(shown(pixels.astype(np.int16)), stretched(pixels))
    dirty = (gradient() | 0xF000).astype(np.uint16)
    np.testing.assert_array_equal(shown(dirty), stretched(gradient()))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("beyond", [0, 0x3000])
def test_stored_values_are_pydicoms(syntax, dtype, beyond, monkeypatch):
    """Bits above the stored twelve are masked where any is set; where none is, nothing is copied."""
    pixels = gradient(dtype=dtype) - (2048 if dtype == np.int16 else 0)
    dataset, told = decoder._header(dicom(pixels.astype(dtype) ^ dtype(beyond), syntax=syntax), "x")
    stored = decoder._stored_pixels(dataset, told, "x")[0]
    np.testing.assert_array_equal(stored, pixels)
    np.testing.assert_array_equal(stored, pydicom.pixels.pixel_array(dataset))
    assert stored.flags.writeable == bool(beyond)
    monkeypatch.setattr(cells, "within", lambda *_: True)
    assert (decoder._stored_pixels(dataset, told, "x")[0] != pixels).any() == bool(beyond)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_stored_values_of_pydicoms_own_files_are_pydicoms():
    views = 0
    for path in (Path(pydicom.__file__).parent / "data/test_files").rglob("*"):
        try:
            dataset, syntax = decoder._header(path.read_bytes(), path.name)
        except (ImageError, *decoder.PYDICOM_ERRORS):  # folders, reports, files made to be wrong
            continue
        if syntax in decoder.NATIVE:
            stored = decoder._stored_pixels(dataset, syntax, path.name)[0]
            np.testing.assert_array_equal(stored, pydicom.pixels.pixel_array(dataset))
            views += not stored.flags.writeable
    assert views > 10


def test_padding_has_no_say_in_the_range():
    pixels = gradient(largest=1000).astype(np.uint16) + 200
    pixels[:, :4] = 4095
    got = shown(pixels, PixelPaddingValue=4095)
    np.testing.assert_array_equal(got[:, 4:], stretched(pixels[:, 4:]))
    assert (got[:, :4] == 65535).all()


# DICOM: syntaxes


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEG2000Lossless]
)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
def test_lossless_syntaxes_give_the_same_pixels(syntax, dtype, bits):
    pixels = gradient(largest=2 ** (bits - (dtype == np.int16)) - 1).astype(dtype)
    read = decode_radiograph(dicom(pixels, bits=bits, syntax=syntax), "a")
    np.testing.assert_array_equal(read.pixels, stretched(pixels))
    assert read.bits == bits


@pytest.mark.parametrize(
    ("syntax", "name"), [(JPEGLSLossless, "JPEGLSLossless"), (JPEGLosslessSV1, "JPEGLosslessProcess14_1")]
)
def test_lossless_jpeg_families(tmp_path, syntax, name):
    path = transcoded(tmp_path, dicom(gradient()), name)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    read = read_radiograph(path)
    np.testing.assert_array_equal(read.pixels, stretched(gradient()))
    assert read.bits == 12


@pytest.mark.parametrize(
    ("syntax", "name", "largest", "bits", "tolerance"),
    [
        (JPEG2000, "JPEG2000", 4095, 12, 0.02),
        (JPEGLSNearLossless, "JPEGLSNearLossless", 4095, 12, 0.02),
        (JPEGBaseline8Bit, "JPEGBaselineProcess1", 255, 8, 0.06),
    ],
)
def test_lossy_syntaxes_come_close(tmp_path, syntax, name, largest, bits, tolerance):
    smooth = np.add.outer(np.linspace(0, largest / 2, 64), np.linspace(0, largest / 2, 48))
    pixels = smooth.astype(np.uint8 if bits == 8 else np.uint16)
    path = transcoded(tmp_path, dicom(pixels, bits=bits), name)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    read = read_radiograph(path)
    assert read.bits == bits
    assert np.abs(read.pixels.astype(float) - stretched(pixels)).max() < tolerance * 65535


def transcoded(tmp_path, data, name):
    """The file written by GDCM in another transfer syntax."""
    gdcm = pytest.importorskip("gdcm")
    source, target = tmp_path / "in.dcm", tmp_path / "out.dcm"
    source.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    if not change.Change():
        pytest.skip(f"GDCM cannot write {name}")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target


def test_extended_jpeg_is_read_with_8_bits_and_refused_with_12():
    smooth = np.add.outer(np.linspace(0, 127, 64), np.linspace(0, 127, 48)).astype(np.uint8)
    frame = jpeg(Image.fromarray(smooth))
    extended = frame.replace(b"\xff\xc0", b"\xff\xc1", 1)
    pixels = shown(smooth, bits=8, syntax=JPEGExtended12Bit, PixelData=encapsulate([extended]))
    assert np.abs(pixels - stretched(smooth).astype(float)).max() < 0.06 * 65535
    deep = bytearray(extended)
    deep[extended.index(b"\xff\xc1") + 4] = 12
    data = dicom(smooth.astype(np.uint16), syntax=JPEGExtended12Bit, PixelData=encapsulate([bytes(deep)]))
    assert reason_of(data) == "unsupported-syntax"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_data_set_without_preamble_is_told_by_its_content(syntax):
    whole = dicom(gradient(), syntax=syntax)
    meta = 144 + int.from_bytes(whole[140:144], "little")
    np.testing.assert_array_equal(decode_radiograph(whole[meta:], "IM0001").pixels, stretched(gradient()))
    np.testing.assert_array_equal(decode_radiograph(whole[132:], "IM0001").pixels, stretched(gradient()))


# DICOM: refusals


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PixelData": None}, "no-pixel-data"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"PixelData": b"\0" * 100}, "truncated"),
        ({"Rows": 60000, "Columns": 60000}, "too-large"),
        ({"Rows": 25000}, "too-large"),
        ({"Rows": 4}, "too-small"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "damaged"),
        ({"PhotometricInterpretation": "RGB"}, "bad-values"),
        ({"BitsStored": 20}, "bad-values"),
        ({"BitsAllocated": 1}, "bad-values"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "bad-values"),
        ({"WindowCenter": 5, "WindowWidth": -3}, "bad-values"),
        ({"WindowCenter": 5, "WindowWidth": 3, "VOILUTFunction": "CUBIC"}, "bad-values"),
        ({"WindowCenter": 30000, "WindowWidth": 10}, "constant"),
        ({"VOILUTSequence": lut(range(10), bits=40)}, "bad-values"),
        ({"Rows": None}, "damaged"),
    ],
)
def test_what_a_dicom_is_refused_for(tags, reason):
    assert reason_of(dicom(gradient(), **tags)) == reason


def test_constant_dicom():
    assert reason_of(dicom(np.full((20, 20), 7, np.uint16))) == "constant"


def deflated(pixels, syntax=DeflatedExplicitVRLittleEndian, **tags):
    return dicom(pixels, syntax=syntax, **tags)


def test_a_deflated_file_is_its_plain_twin():
    tags = {"WindowCenter": 1800, "WindowWidth": 900}
    data = deflated(gradient(), **tags)
    assert pydicom.dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(decode_radiograph(data, "a").pixels, shown(gradient(), **tags))
    assert reason_of(data[: len(data) // 2]) == "truncated"
    start = 144 + int.from_bytes(data[140:144], "little")
    assert reason_of(data[:start] + b"\xff" * 99) == "damaged"


def test_a_deflated_bomb_is_not_inflated():
    data = deflated(gradient())
    start = 144 + int.from_bytes(data[140:144], "little")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(squeeze.compress(b"\0" * (1 << 24)) for _ in range(20)) + squeeze.flush()
    assert reason_of(data[:start] + bomb) == "too-large"


@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_palette_is_read_and_a_coloured_one_refused(bits):
    pixels = gradient(largest=255).astype(np.uint8)
    ramp = np.arange(256)[::-1] * (257 if bits == 16 else 1)
    tags = {}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = ramp.astype("<u2" if bits == 16 else "u1").tobytes()
    how = {"photometric": "PALETTE COLOR", "bits": 8}
    np.testing.assert_array_equal(shown(pixels, **how, **tags), (255 - pixels.astype(np.uint16)) * 257)
    tags["RedPaletteColorLookupTableData"] = bytes(len(tags["RedPaletteColorLookupTableData"]))
    assert reason_of(dicom(pixels, **how, **tags)) == "colour"


def test_a_modality_lut_keeps_its_first_entry_below_its_range():
    pixels = gradient(largest=255).astype(np.uint16)
    table = np.arange(100, 200)
    got = shown(pixels, ModalityLUTSequence=lut(table, first=100))
    np.testing.assert_array_equal(got, stretched(table[np.clip(pixels.astype(int) - 100, 0, 99)]))


def test_unknown_syntax():
    pixels = gradient()
    data = dicom(pixels, syntax=RLELossless).replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.9.9.9\0")
    assert reason_of(data) == "unsupported-syntax"


def test_header_and_compressed_image_must_agree():
    data = dicom(gradient(), syntax=JPEG2000Lossless, Rows=30)
    assert reason_of(data) == "bad-values"


def test_a_compressed_image_that_was_cut_is_refused():
    whole = pydicom.dcmread(io.BytesIO(dicom(gradient(), syntax=JPEG2000Lossless)))
    frame = whole.PixelData[whole.PixelData.index(b"\xff\x4f\xff\x51") :]
    assert reason_of(dicom(gradient(), syntax=JPEG2000Lossless, PixelData=encapsulate([frame[: len(frame) // 2]]))) == (
        "truncated"
    )


def test_grey_rgb_is_read_and_real_colour_refused():
    grey = gradient(largest=255).astype(np.uint8)
    rgb = np.stack([grey, grey, grey], axis=-1)
    np.testing.assert_array_equal(shown(rgb, bits=8, photometric="RGB"), grey.astype(np.uint16) * 257)
    rgb[..., 2] = 255 - rgb[..., 2]
    assert reason_of(dicom(rgb, bits=8, photometric="RGB")) == "colour"


def test_grey_jpeg_in_three_components():
    smooth = np.add.outer(np.linspace(0, 127, 64), np.linspace(0, 127, 48)).astype(np.uint8)
    rgb = np.stack([smooth] * 3, axis=-1)
    frame = encapsulate([jpeg(Image.fromarray(rgb))])
    got = shown(rgb, bits=8, photometric="YBR_FULL", syntax=JPEGBaseline8Bit, PixelData=frame)
    assert np.abs(got / 257 - smooth).max() < 6


# PNG and JPEG


def test_grey_modes_of_png():
    grey = gradient(largest=255).astype(np.uint8)
    wanted = grey.astype(np.uint16) * 257
    image = Image.fromarray(grey)
    for mode in ("L", "RGB", "LA", "RGBA"):
        read = decode_radiograph(png(image.convert(mode)), "a.png")
        np.testing.assert_array_equal(read.pixels, wanted, err_msg=mode)
        assert read.bits == 8
    palette = image.convert("RGB").quantize(256)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_radiograph(png(palette), "p").pixels, luminance(expected, 255))
    bits = Image.fromarray(grey > 127)
    assert bits.mode == "1"
    np.testing.assert_array_equal(decode_radiograph(png(bits), "b").pixels, np.where(grey > 127, 65535, 0))


def test_sixteen_bit_png_is_kept():
    pixels = gradient(largest=65535)
    read = decode_radiograph(png(Image.fromarray(pixels)), "a.png")
    assert read.bits == 16
    np.testing.assert_array_equal(read.pixels, pixels)


def test_alpha_lies_on_black():
    grey = gradient(largest=255).astype(np.uint8)
    alpha = np.random.default_rng(1).integers(0, 256, grey.shape).astype(np.uint8)
    expected = np.rint(grey.astype(float) * alpha / 255 * 257)
    for image in (
        Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]),
        Image.merge("RGBA", [Image.fromarray(grey)] * 3 + [Image.fromarray(alpha)]),
    ):
        np.testing.assert_allclose(decode_radiograph(png(image), "a").pixels, expected, atol=1)


def test_a_transparent_grey_value_is_black():
    grey = gradient(largest=255).astype(np.uint8)
    read = decode_radiograph(png(Image.fromarray(grey), transparency=200), "a").pixels
    np.testing.assert_array_equal(read, np.where(grey == 200, 0, grey.astype(np.uint16) * 257))


def test_colour_becomes_luminance():
    rgb = np.random.default_rng(2).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    expected = np.rint((rgb @ [0.299, 0.587, 0.114]) * 257)
    np.testing.assert_allclose(decode_radiograph(png(Image.fromarray(rgb)), "a").pixels, expected, atol=1)


@pytest.mark.parametrize(("white", "dtype"), [(1, np.uint8), (255, np.uint8), (1023, np.uint16), (65535, np.uint16)])
def test_luminance_is_rounded_once(white, dtype):
    colour = np.random.default_rng(white).integers(0, white + 1, (50, 60, 3)).astype(dtype)
    colour[0], colour[1] = white, 0
    weighted = colour.astype(object) @ [299, 587, 114]  # Python's whole numbers
    np.testing.assert_array_equal(luminance(colour, white), (weighted * 65535 + 500 * white) // (1000 * white))
    assert (luminance(colour, white)[0] == 65535).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_modes(mode):
    smooth = np.add.outer(np.linspace(0, 127, 64), np.linspace(0, 127, 64)).astype(np.uint8)
    image = Image.fromarray(smooth)
    image = image.convert("RGB").convert(mode) if mode != "L" else image
    read = decode_radiograph(jpeg(image), "a.jpg")
    assert read.bits == 8
    assert np.abs(read.pixels / 257 - smooth).max() < 6


def test_exif_orientation_is_honoured():
    wide = np.zeros((20, 40), np.uint8)
    wide[:, :20] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    read = decode_radiograph(jpeg(Image.fromarray(wide), exif=exif.tobytes()), "a").pixels
    assert read.shape == (40, 20)
    assert read[:18].min() > 60000  # left has become top
    assert read[22:].max() < 5000


def test_what_a_picture_is_refused_for():
    grey = Image.fromarray(gradient(largest=255).astype(np.uint8))
    assert reason_of(b"") == "not-an-image"
    assert reason_of(b"GIF89a" + b"\0" * 300) == "not-an-image"
    assert reason_of(png(Image.new("L", (8, 8)))) == "too-small"
    assert reason_of(png(Image.new("L", (30, 30), 9))) == "constant"
    assert reason_of(png(grey, save_all=True, append_images=[grey.rotate(90)])) == "multi-frame"
    assert reason_of(png(grey)[:200]) in ("truncated", "damaged")
    assert reason_of(jpeg(grey)[:-300]) == "truncated"
    assert reason_of(b"\x89PNG\r\n\x1a\n" + b"\0" * 40) == "damaged"


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (30000, 20), (12000, 12000)])
def test_absurd_sizes_are_refused_before_decoding(width, height):
    small = png(Image.new("L", (20, 20)))
    header = small[12:16] + struct.pack(">II", width, height) + small[24:29]
    claimed = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert reason_of(claimed) == "too-large"


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20))))
    monkeypatch.setattr(radiographs, "MAX_FILE_BYTES", path.stat().st_size)
    read_radiograph(path)
    monkeypatch.setattr(radiographs, "MAX_FILE_BYTES", path.stat().st_size - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read all the same"))
    with pytest.raises(ImageError) as caught:
        read_radiograph(path)
    assert caught.value.reason == "too-large"


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "no.png", tmp_path, tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(ImageError) as caught:
            read_radiograph(path)
        assert caught.value.reason == "missing-file"


def test_the_kind_is_told_by_content(tmp_path):
    path = tmp_path / "really_a_png.dcm"
    path.write_bytes(png(Image.fromarray(gradient(largest=65535))))
    np.testing.assert_array_equal(read_radiograph(path).pixels, gradient(largest=65535))
    other = tmp_path / "really_a_dicom.png"
    other.write_bytes(dicom(gradient()))
    np.testing.assert_array_equal(read_radiograph(other).pixels, stretched(gradient()))


def test_real_dicoms_read():
    folder = SHARED / "dicom"
    if not folder.is_dir():
        pytest.skip(f"no real radiographs at {folder}")
    read = {path.name: read_radiograph(path) for path in sorted(folder.glob("*.dcm"))}
    assert len(read) == 3
    for radiograph in read.values():
        assert radiograph.pixels.shape == (1024, 1024)
        assert radiograph.bits == 8
    two, one = read["chest_pa_jpeg_baseline.dcm"].pixels, read["chest_pa_monochrome1.dcm"].pixels
    # The same stored values, declared the other way round (the middle of the range rounds up in both).
    np.testing.assert_allclose(one.astype(int), 65535 - two.astype(int), atol=1)


# Sizes, thumbnails, paths


def slow_area_mean(pixels, height, width):
    """Every output pixel by its own loop over the source pixels it covers, with the covered share as weight."""
    n, m = pixels.shape
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            total = weight = 0.0
            for y in range(n):
                for x in range(m):
                    dy = min((i + 1) * n / height, y + 1) - max(i * n / height, y)
                    dx = min((j + 1) * m / width, x + 1) - max(j * m / width, x)
                    if dy > 0 and dx > 0:
                        total += dy * dx * float(pixels[y, x])
                        weight += dy * dx
            out[i, j] = total / weight
    return out


@pytest.mark.parametrize(("height", "width", "size"), [(20, 31, 7), (33, 16, 16), (16, 16, 1), (24, 18, 23)])
def test_downsample_is_the_area_mean(height, width, size):
    pixels = gradient(height, width, largest=65535)
    small = downsample(Radiograph(pixels, 16), size)
    assert max(small.pixels.shape) == size
    assert small.bits == 16
    np.testing.assert_allclose(small.pixels, slow_area_mean(pixels, *small.pixels.shape), atol=0.51)


def test_downsample_pads_and_never_enlarges():
    image = Radiograph(gradient(20, 30, largest=65535) // 2 + 1, 12)
    np.testing.assert_array_equal(downsample(image, 100).pixels, image.pixels)
    padded = downsample(image, 40, pad=True).pixels
    assert padded.shape == (40, 40)
    np.testing.assert_array_equal(padded[10:30, 5:35], image.pixels)
    assert padded.sum() == image.pixels.sum()


def test_inside_keeps_to_the_root(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "rootless").mkdir()
    assert inside(root, "sub/../a.png") == root.resolve() / "a.png"
    for bad in (
        "../secret.png",
        "sub/../../secret.png",
        str(root / "a.png"),
        "link.png",
        "../rootless/a.png",
        "a\0.png",
    ):
        with pytest.raises(ImageError) as caught:
            inside(root, bad)
        assert caught.value.reason == "outside-root", bad
    for bad in ("", "  "):
        with pytest.raises(ImageError) as caught:
            inside(root, bad)
        assert caught.value.reason == "missing-file"
    linked = tmp_path / "linked"
    linked.symlink_to(root)  # the root itself may be a link
    assert inside(linked, "a.png") == root.resolve() / "a.png"


# Damage


def seeds():
    grey8, grey16 = gradient(largest=255).astype(np.uint8), gradient()
    pictures = [Image.fromarray(grey8), Image.fromarray(grey8).convert("RGBA"), Image.fromarray(grey16)]
    files = [png(picture) for picture in pictures] + [jpeg(pictures[0]), jpeg(pictures[1].convert("RGB"))]
    files += [dicom(grey16, syntax=syntax) for syntax in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless)]
    files.append(dicom(grey16, WindowCenter=2000, WindowWidth=900, VOILUTSequence=lut(range(4096))))
    baseline = dicom(grey8, bits=8, syntax=JPEGBaseline8Bit, PixelData=encapsulate([jpeg(pictures[0])]))
    floats = dicom(grey16, FloatPixelData=grey16.astype("<f4").tobytes(), BitsAllocated=32, PixelSpacing=[0.2, 0.1])
    how = {"bits": 8, "photometric": "PALETTE COLOR", "syntax": ExplicitVRBigEndian}
    palette = dicom(grey8, **how, **gray_palette(np.arange(256), 8, "u1", True))
    tables = dicom(grey16, VOILUTSequence=lut(range(4096), bits=12), ModalityLUTSequence=lut(range(4096)), HighBit=15)
    scans = [jpeg(pictures[0], progressive=True), jpeg(pictures[0], restart_marker_rows=1)]
    deep = [raw_png(np.stack([grey16] * n, axis=-1), interlace=n == 3) for n in (2, 3, 4)]
    return [*files, baseline, floats, palette, tables, *scans, *deep]


SEEDS = seeds()
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


def survive(which, cut, edits, early):
    """Damage one file and read it: a Radiograph or an ImageError, nothing else."""
    data = bytearray(SEEDS[which])
    for where, value in edits:
        data[int(where * (min(600, len(data)) if early else len(data)))] = value
    try:
        read = decode_radiograph(bytes(data[: int(len(data) * cut)]), "damaged.dcm")
    except ImageError as error:
        read = error
    if isinstance(read, Radiograph):
        assert read.pixels.dtype == np.uint16
        assert read.pixels.ndim == 2
        assert 8 <= read.bits <= 16
    else:
        assert read.reason


damaged = given(
    which=st.integers(0, len(SEEDS) - 1),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    edits=EDITS,
    early=st.booleans(),
)
relaxed = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=relaxed)
@damaged
def test_damaged_files_only_ever_give_an_image_error(which, cut, edits, early):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        survive(which, cut, edits, early)


def test_a_decoder_that_panics_is_a_damaged_file_and_an_interrupt_is_none(monkeypatch):
    class PanicException(BaseException):  # what a decoder written in Rust raises
        pass

    def fails(error):
        def decode(*_, **__):
            raise error

        return decode

    data = dicom(np.arange(1024, dtype=np.uint16).reshape(32, 32))
    monkeypatch.setattr(decoder, "pixel_array", fails(PanicException("index out of bounds")))
    with pytest.raises(ImageError, match="index out of bounds"):
        decode_radiograph(data, "a.dcm")
    monkeypatch.setattr(decoder, "pixel_array", fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        decode_radiograph(data, "a.dcm")


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=relaxed)
@damaged
def test_damaged_files_campaign(which, cut, edits, early):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        survive(which, cut, edits, early)
