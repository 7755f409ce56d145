"""A picture of one's own on Examples: what it links to, what is refused, and what is never said of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from explorer.examples import own_picture
from helpers import examples_store
from helpers.pictures import dicom
from helpers.places import ROOT
from helpers.shared import Built
from linkage_core.audit.examples import Examples
from linkage_core.cohorts import phantom
from linkage_core.cohorts.identifiers.attributes import attributes
from linkage_core.cohorts.identifiers.headers import identifying
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import ImageError, InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import Entry, Store

from .conftest import lists, words

NAME = "Quagga^Quentin"


class Sixteen:
    """An encoder that sees one thing in every image and another in every text."""

    def image_features(self, images):
        return np.ones((len(images), 16), np.float32)

    def text_features(self, texts):
        return np.arange(16, dtype=np.float32)[None].repeat(len(texts), axis=0)


def png(height: int = 64, width: int = 48) -> bytes:
    out = io.BytesIO()
    grey = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    Image.fromarray(grey).save(out, "PNG")
    return out.getvalue()


def named_dicom() -> bytes:
    pixels = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint16)
    return dicom(pixels, PatientName=NAME, PatientBirthDate="19700101", StudyDescription="CHEST", PatientSex="")


@pytest.fixture(scope="module")
def store(built: Built) -> Path:
    return built(examples_store.build)


@pytest.fixture
def page(open_page: Callable[..., AppTest], store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    monkeypatch.setattr(own_picture, "encoder_of", lambda entry: Sixteen())
    monkeypatch.setattr(own_picture, "refuse_imported", lambda entry: None)
    return lambda **query: open_page("examples", store, **query)


def upload(app: AppTest, data: bytes, report: str = "", kind: str = "image/png") -> dict:
    app.text_area(key="own picture report").set_value(report)
    app.file_uploader(key="own picture file").set_value(("mine", data, kind)).run()
    assert not app.exception
    return lists(app)[-1]


def test_a_picture_gets_the_list_of_its_pool(page, store):
    app = page(N=30)
    assert len(lists(app)) == 1
    said = upload(app, png())
    assert "".join(said["head"]) == "Nearest of 30 reports of this cohort"
    entry = Store(store).open("phantom", "phantom-radiology")
    found = Examples(entry).of_stranger(np.ones(16, np.float32), 30, 4)
    assert [card["rank"] for card in said["cards"]] == [str(each.rank) for each in found.reports]
    assert not any(card["true"] for card in said["cards"])
    said = upload(app, png(), "A report of my own.")
    assert said["head"][0] == "Its own report is "
    assert [card["text"] for card in said["cards"] if card["true"]] == ["A report of my own."]


def test_the_header_is_named_and_never_quoted(page):
    app = page()
    upload(app, named_dicom(), kind="application/dicom")
    said = words(app)
    assert "fills in PatientName, PatientBirthDate, SOPInstanceUID, StudyDescription" in said.replace(
        "StudyDescription, SOPInstanceUID", "SOPInstanceUID, StudyDescription"
    )
    everything = said + json.dumps(lists(app)) + str([node.proto for node in app.get("bidi_component")])
    assert "Quagga" not in everything
    assert "19700101" not in everything


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"%PDF-1.4 not a radiograph", "a PDF document"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 300, "cannot be decoded"),
        (png(4, 4), "a side needs at least"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_radiograph_is_said_in_a_sentence(page, data, why):
    app = page()
    app.file_uploader(key="own picture file").set_value(("mine", data, "image/png")).run()
    assert not app.exception
    assert why in words(app)
    assert len(lists(app)) == 1


def test_too_many_bytes_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(own_picture, "MEGABYTES", 0)
    monkeypatch.setattr(own_picture, "_reader", lambda: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="This file has"):
        own_picture.read(png())


def test_text_of_a_real_cohort_obeys_the_switch_here_too(page):
    app = page(cohort="clinic", N=10)
    upload(app, png(), "My own.")
    assert examples_store.SECRET not in words(app)
    app.toggle(key="text switch clinic").set_value(True).run()
    assert examples_store.SECRET in json.dumps(lists(app)[-1])


def test_nothing_of_it_is_written(page, store):
    before = sorted((path, path.stat().st_mtime_ns) for path in store.rglob("*"))
    upload(page(), named_dicom(), "My own.", "application/dicom")
    assert sorted((path, path.stat().st_mtime_ns) for path in store.rglob("*")) == before


def test_imported_embeddings_say_why_not(open_page, store):
    app = open_page("examples", store)
    assert "were imported: the model that made them is not at hand" in words(app)
    assert not app.get("file_uploader")


# -- the core --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entry(store: Path) -> Entry:
    return Store(store).open("phantom", "phantom-radiology")


def test_a_stranger_s_list_is_a_plain_sort(entry):
    examples, rng = Examples(entry), np.random.default_rng(3)
    image, report = rng.standard_normal((2, 16)).astype(np.float32)
    everyone = len(examples._reports)
    for own in (None, report):
        n = examples.largest_pool_of_stranger(own=own is not None)
        found = examples.of_stranger(image, n, 6, own)
        similarity = examples._reports @ (image / np.linalg.norm(image))
        values = np.sort(np.unique(similarity.round(6)))[::-1]
        shown = [each.similarity for each in found.reports if not each.is_match]
        assert shown == pytest.approx(values[: len(shown)], abs=1e-5)
        if own is not None:
            score = float(image @ report / np.linalg.norm(image) / np.linalg.norm(report))
            above = int((similarity > score).sum())
            assert found.rank == above + 1
            counts = MatchCounts(np.array([above]), np.array([0]), np.array([everyone]))
            assert found.first_in == pytest.approx(pools.expected_recall(counts, n, 1)[0])
            match = next(each for each in found.reports if each.is_match)
            assert match.rank == found.rank
            assert found.first_in in (0.0, 1.0)
    with pytest.raises(InputError, match="N is at most"):
        examples.of_stranger(image, everyone + 1, 4)
    assert examples.of_stranger(image, 30, 4, draw=1) != examples.of_stranger(image, 30, 4)


def test_identifying_attributes_are_found_and_broken_files_are_an_image_error():
    found = identifying(named_dicom())
    assert {"PatientName", "PatientBirthDate", "StudyDescription", "SOPInstanceUID"} == set(found)
    assert set(found) <= {one.keyword for one in attributes()}
    with pytest.raises(ImageError):
        identifying(named_dicom()[:150])


def test_a_picture_of_the_phantom_is_seen_as_when_it_was_embedded():
    shipped = ROOT / "cached_embeddings"
    if not (shipped / "phantom" / "phantom-radiology" / "manifest.json").is_file():
        pytest.skip("The store that ships is not here.")
    opened = Store(shipped).open("phantom", "phantom-radiology")
    record = opened.records("heldout")["record_id"].iloc[7]
    drawn = phantom.image_of(record, 512)
    out = io.BytesIO()
    Image.fromarray(drawn.pixels).save(out, "PNG")
    seen = load_encoder("phantom-radiology", store_root=shipped).image_features([own_picture.read(out.getvalue())])[0]
    stored = opened.features("image", [record])[0].astype(np.float32)
    cosine = float(seen @ stored / np.linalg.norm(seen) / np.linalg.norm(stored))
    assert cosine > 0.98
