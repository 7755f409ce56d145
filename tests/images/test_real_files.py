"""Real DICOM files of every kind, out of the package pydicom-data (MIT): each is read, or refused with a sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from helpers.real import package
from linkage_core.errors import ImageError
from linkage_core.images.read import decode_radiograph

READ = {
    "693_J2KR": (512, 512),
    "693_UNCI": (512, 512),
    "693_UNCR": (512, 512),
    "JPEG-LL": (1024, 256),
    "JPEG2000_UNC": (1024, 256),
    "JPGLosslessP14SV1_1s_1f_8b": (768, 1024),
    "MR-SIEMENS-DICOM-WithOverlays": (484, 484),
    "MR2_J2KI": (1024, 1024),
    "MR2_J2KR": (1024, 1024),
    "MR2_UNCI": (1024, 1024),
    "MR2_UNCR": (1024, 1024),
    "OBXXXX1A": (600, 800),
    "OBXXXX1A_expb": (600, 800),
    "OBXXXX1A_rle": (600, 800),
    "RG1_J2KI": (1955, 1841),
    "RG1_J2KR": (1955, 1841),
    "RG1_UNCI": (1955, 1841),
    "RG1_UNCR": (1955, 1841),
    "RG3_J2KI": (1760, 1760),
    "RG3_J2KR": (1760, 1760),
    "RG3_UNCI": (1760, 1760),
    "RG3_UNCR": (1760, 1760),
    "bad_sequence": (512, 512),
    "explicit_VR-UN": (512, 512),
    "gdcm-US-ALOKA-16": (480, 640),
    "gdcm-US-ALOKA-16_big": (480, 640),
    "mlut_18": (512, 512),
    "vlut_04": (512, 512),
}
"""File -> (height, width)."""

_COLOUR = (
    *("OT-PAL-8-face", "SC_rgb", "SC_rgb_16bit", "SC_rgb_dcmtk_ebcr_dcmd", "SC_rgb_dcmtk_ebcyn1_dcmd"),
    *("SC_rgb_dcmtk_ebcyn2_dcmd", "SC_rgb_dcmtk_ebcynp_dcmd", "SC_rgb_dcmtk_ebcys2_dcmd", "SC_rgb_dcmtk_ebcys4_dcmd"),
    *("SC_rgb_expb", "SC_rgb_expb_16bit", "SC_rgb_gdcm2k_uncompressed", "SC_ybr_full_uncompressed", "US1_J2KI"),
    *("US1_J2KR", "US1_UNCI", "US1_UNCR", "color-pl", "color-px"),
)
_FRAMES = (
    *("OBXXXX1A_2frame", "OBXXXX1A_expb_2frame", "OBXXXX1A_rle_2frame", "SC_rgb_16bit_2frame", "SC_rgb_2frame"),
    *("SC_rgb_32bit_2frame", "SC_rgb_expb_16bit_2frame", "SC_rgb_expb_2frame", "SC_rgb_expb_32bit_2frame"),
    *("color3d_jpeg_baseline", "eCT_Supplemental", "emri_small", "emri_small_RLE", "emri_small_big_endian"),
    *("emri_small_jpeg_2k_lossless", "emri_small_jpeg_ls_lossless", "liver", "liver_expb"),
)
REFUSED = (
    dict.fromkeys(_COLOUR, "colour")
    | dict.fromkeys(_FRAMES, "multi-frame")
    | {"SC_rgb_32bit": "bad-values", "SC_rgb_expb_32bit": "bad-values"}  # 32 bits a sample, and colour besides
    | {"emri_small_jpeg_2k_lossless_too_short": "truncated"}
)
"""File -> why."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return package("pydicom-data", "1.0.0") / "data_store" / "data"


def data(folder: Path, name: str) -> pydicom.Dataset:
    return pydicom.dcmread(folder / f"{name}.dcm")


def shown(folder: Path, name: str) -> np.ndarray:
    path = folder / f"{name}.dcm"
    return decode_radiograph(path.read_bytes(), path.name).pixels


def to_white(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint((values.astype(float) - low) * 65535 / (float(high) - low)).astype(np.uint16)


def test_the_tables_name_every_file_of_the_package(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.dcm")} == {*READ, *REFUSED}
    assert (len(READ), len(REFUSED)) == (28, 40)


def test_every_file_is_read_or_refused_with_a_sentence(folder: Path) -> None:
    found: dict[str, object] = {}
    said: list[tuple[str, ImageError]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about damage that is told below
        for name in (*READ, *REFUSED):
            path = folder / f"{name}.dcm"
            try:
                found[name] = decode_radiograph(path.read_bytes(), path.name).pixels.shape
            except ImageError as error:
                said.append((path.name, error))
                found[name] = error.reason
    assert found == {**READ, **REFUSED}
    assert all(name in one.what and one.what.endswith(".") and one.remedy for name, one in said)


def test_a_real_chest_radiograph_as_monochrome1_is_the_same_compressed_and_raw(folder: Path) -> None:
    dataset = data(folder, "RG1_UNCR")
    kind = dataset.PhotometricInterpretation, dataset.BodyPartExamined, dataset.ViewPosition
    assert kind == ("MONOCHROME1", "CHEST", "PA")
    raw = shown(folder, "RG1_UNCR")
    assert np.array_equal(raw, shown(folder, "RG1_J2KR"))
    seen = apply_voi_lut(dataset.pixel_array, dataset)  # its window, by pydicom: 0 .. 32767 of 15 bits
    assert np.abs(raw.astype(int) - (65535 - to_white(seen, 0, 32767).astype(int))).max() <= 1
    assert np.corrcoef(raw.ravel()[::97], dataset.pixel_array.ravel()[::97])[0, 1] < -0.9  # dark is air


@pytest.mark.parametrize("name", ["693", "MR2", "RG3"])
def test_what_lossless_jpeg_2000_holds_is_what_stands_there_raw(folder: Path, name: str) -> None:
    assert np.array_equal(shown(folder, f"{name}_UNCR"), shown(folder, f"{name}_J2KR"))


def test_a_modality_lut_is_applied_as_pydicom_applies_it(folder: Path) -> None:
    dataset = data(folder, "mlut_18")
    values = apply_modality_lut(dataset.pixel_array, dataset)
    assert not np.array_equal(values, dataset.pixel_array)
    assert np.array_equal(shown(folder, "mlut_18"), to_white(values, values.min(), values.max()))


def test_a_voi_lut_is_applied_as_pydicom_applies_it(folder: Path) -> None:
    dataset = data(folder, "vlut_04")
    values = apply_voi_lut(dataset.pixel_array, dataset)
    assert not np.array_equal(values, dataset.pixel_array)
    bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
    assert np.array_equal(shown(folder, "vlut_04"), to_white(values, 0, (1 << bits) - 1))
