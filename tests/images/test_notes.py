"""What is said of unusual pictures reaches who asked: from a file through processes to a cohort's summary."""

import json

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from helpers.pictures import chest, dicom, gray_palette, png, words
from linkage_core.cli import printing
from linkage_core.cohorts.files import check_images
from linkage_core.cohorts.registry import open_cohort
from linkage_core.cohorts.summary import summarise
from linkage_core.embed.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.images import lookup
from linkage_core.images.notes import NOTES, impression, percentiles, sentences
from linkage_core.images.processes import Readers
from linkage_core.store.entry import Store

PICTURE = chest(48, 60, 65535).astype(np.uint16)


@pytest.mark.parametrize(
    ("pixels", "notes"),
    [
        (PICTURE, ()),
        (PICTURE // 200 + 30000, ("nearly-constant",)),
        (PICTURE // 12 + 9000, ("narrow",)),
        (np.where(PICTURE > 30000, 65535, 0), ("extremes", "few-levels")),
        (PICTURE // 8000 * 8000, ("few-levels",)),
        (np.random.default_rng(0).permutation(PICTURE.ravel()).reshape(PICTURE.shape), ("noise",)),
        (np.kron(PICTURE, np.ones((20, 20), int)), ()),
        (np.kron(PICTURE // 12, np.ones((20, 20), int)), ("narrow",)),
    ],
)
def test_what_the_pixels_themselves_give_cause_for(pixels, notes):
    assert impression(pixels.astype(np.uint16)) == notes


def test_percentiles_are_numpys():
    for pixels in (PICTURE, np.kron(PICTURE, np.ones((19, 23), np.uint16))):
        np.testing.assert_allclose(percentiles(pixels), np.percentile(pixels, [1, 50, 99]), atol=200)


@pytest.fixture
def folder(tmp_path):
    """Six images: plain, for processing, narrow, for processing again and two that are no images."""
    files = {
        "a.dcm": dicom(chest(largest=4000).astype(np.uint16)),
        "b.dcm": dicom(chest(largest=4000).astype(np.uint16), PresentationIntentType="FOR PROCESSING"),
        "c.png": png(Image.fromarray((chest(largest=20) + 100).astype(np.uint8))),
        "d.dcm": dicom(chest(largest=4000).astype(np.uint16), PresentationIntentType="FOR PROCESSING"),
        "e.png": b"\x1f\x8b" + bytes(99),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    table = pd.DataFrame({"image": list(files), "patient_id": list(files), "report": [f"Report {n}." for n in files]})
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def first_row(pixels):
    return pixels[:1]


@pytest.mark.parametrize(("workers", "picture"), [(0, None), (0, first_row), (1, first_row)])
def test_readers_count_what_was_noted(folder, workers, picture):
    cohort = open_cohort("folder", folder)
    rows = cohort.records.to_dict("records")
    with Readers(cohort.read_image, picture, workers) as readers:
        read = list(readers.read(rows, 3))
    assert readers.noted == {"for-processing": (2, "b.dcm"), "narrow": (1, "c.png")}
    if picture is None:
        assert [one.notes for one in read[:4]] == [(), ("for-processing",), ("narrow",), ("for-processing",)]


def test_a_cohort_that_was_looked_at_says_so(folder, capsys):
    unseen = open_cohort("folder", folder)
    assert summarise(unseen)["seen"] == {}
    summary = json.loads(json.dumps(summarise(check_images(unseen))))
    seen = summary["seen"]
    assert seen["images"] == 4
    assert seen["notes"] == {
        "for-processing": {"images": 2, "first": "b.dcm"},
        "narrow": {"images": 1, "first": "c.png"},
    }
    assert seen["greys"]["p99"]["min"] == pytest.approx(120 / 255, abs=0.01)
    assert seen["greys"]["p1"]["max"] == pytest.approx(100 / 255, abs=0.02)
    assert summary["notes"] == sentences({"for-processing": (2, "b.dcm"), "narrow": (1, "c.png")}, 4)
    printing.cohort(summary)
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 images (the first: b.dcm): marked FOR PROCESSING" in printed
    assert "brightest 1% 47% to 95%" in printed
    assert "gzip" in check_images(unseen).rejects["what"].iloc[0]


def test_embedding_tells_what_it_noted(folder, tmp_path):
    told = []
    encoder = load_encoder("phantom-general", store_root=tmp_path)
    embed(open_cohort("folder", folder), encoder, Store(tmp_path / "store"), workers=0, tell=told.append)
    assert told == sentences({"for-processing": (2, "b.dcm"), "narrow": (1, "c.png")}, 5)


def test_every_note_is_a_sentence_after_a_number():
    for note, said in NOTES.items():
        assert said[0].islower() or said.startswith("PixelRepresentation"), note
        assert not said.endswith("."), note


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("big_endian", [False, True])
def test_segmented_palettes_are_pydicoms(bits, big_endian):
    """Discrete, linear and indirect segments (PS3.3 C.7.9.2), from the beginning again; pydicom's in little endian."""
    segments = [0, 3, 5, 60, 7, 1, 5, 2**bits - 1, 0, 2, 9, 8, 2, 2, *[0] * (32 // bits)]
    levels = np.arange(18)

    def dataset(swapped):
        made = pydicom.Dataset()
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        for keyword, value in gray_palette(levels, bits).items():
            if keyword.endswith("Descriptor"):
                setattr(made, keyword, value)
            else:
                made.add_new(f"Segmented{keyword}", "OW", words(segments, f"u{bits // 8}", swapped))
        return made

    expected = pydicom.pixels.apply_color_lut(levels.astype(np.uint8)[None], dataset(False))[0]
    tables = lookup.palette(dataset(big_endian), levels, big_endian, "x")
    np.testing.assert_array_equal(np.stack([table(levels) for table in tables], -1), expected)
