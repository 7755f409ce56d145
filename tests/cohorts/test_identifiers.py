"""Is a cohort de-identified: the two tables, headers, reports, words in pixels, and what is kept and said of it."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from helpers.pictures import chest, dicom
from helpers.scripts import script
from helpers.toy import toy_arrays, toy_cohort, toy_records
from linkage_core.cli import main
from linkage_core.cohorts.identifiers import attributes, headers, pixels, rules, words
from linkage_core.cohorts.identifiers.check import check
from linkage_core.cohorts.identifiers.kinds import FILLED, FOUND, KINDS, NONE, PLACE
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.embedding import import_arrays
from linkage_core.store.entry import Store

SECRETS = ("Quagga", "Quentin", "19610307", "555-010-2233", "Meadow", "4471123")


@pytest.mark.parametrize("rule", rules.rules(), ids=lambda rule: f"{rule.kind}: {rule.example[:40]}")
def test_every_rule_has_an_example_and_leaves_the_innocent_alone(rule):
    assert rule.pattern.search(rule.example)
    assert not rule.innocent or not rule.pattern.search(rule.innocent)
    if rule.kind != rules.PLACEHOLDER:
        assert rule.kind in rules.kinds_in(rule.example)
        assert rules.kinds_in(rule.innocent) == frozenset()


def test_a_kind_that_there_is_not_is_refused(monkeypatch, tmp_path):
    table = tmp_path / "rules.csv"
    table.write_text("kind,pattern,example,innocent\nshoe,boots,boots,\n")
    monkeypatch.setattr(rules, "TABLE", table)
    rules.rules.cache_clear()
    with pytest.raises(ValueError, match="'shoe'"):
        rules.rules()
    rules.rules.cache_clear()


def test_the_table_of_attributes_is_that_of_the_standard():
    table = attributes.attributes()
    assert len({one.tag for one in table}) == len(table) > 600
    assert {one.action for one in table} <= {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    assert {f"header {one.kind}" for one in table} <= set(KINDS)
    for one in table:
        known = "" if "x" in one.tag else keyword_for_tag(int(one.tag, 16))
        assert known in ("", one.keyword), one
    actions = {one.keyword: one.action for one in table}
    said = {"PatientName": "Z", "PatientID": "Z/D", "StudyInstanceUID": "U", "PatientBirthDate": "Z"}
    said |= {"InstitutionName": "X/Z/D", "PatientComments": "X", "OtherPatientIDs": "X", "StudyDate": "Z"}
    assert {name: actions[name] for name in said} == said


@pytest.mark.parametrize(
    ("tags", "kind", "level"),
    [
        ({"PatientName": "Quagga^Quentin"}, "header name", FOUND),
        ({"OperatorsName": "Ødegård^Åse"}, "header name", FOUND),
        ({"PatientName": "ANON^12"}, "header name", NONE),
        ({"PatientName": "CXR0042"}, "header name", FILLED),
        ({"PatientName": ""}, "header name", NONE),
        ({"PatientBirthDate": "19610307"}, "header date", FOUND),
        ({"PatientBirthDate": "19610101"}, "header date", FILLED),  # a year alone
        ({"PatientBirthDate": "21470307"}, "header date", FILLED),  # shifted
        ({"StudyDate": "20190714"}, "header date", FILLED),
        ({"PatientAge": "093Y"}, "header patient", FOUND),
        ({"PatientAge": "061Y"}, "header patient", FILLED),
        ({"InstitutionName": "Quagga Valley"}, "header place", FOUND),
        ({"InstitutionName": "REMOVED"}, "header place", NONE),
        ({"PatientComments": "seen by Dr. Quagga"}, "header text", FOUND),
        ({"StudyDescription": "CHEST"}, "header text", FILLED),
        ({"AccessionNumber": "4471123"}, "header number", FILLED),
        ({"BurnedInAnnotation": "YES"}, "pixels flag", FOUND),
        ({"RecognizableVisualFeatures": "YES"}, "pixels flag", FOUND),
        ({"BurnedInAnnotation": "NO"}, "pixels flag", NONE),
    ],
)
def test_what_a_header_tells(tags, kind, level, tmp_path):
    levels = levels_of(tmp_path, dicom(chest().astype(np.uint16), **tags))
    assert levels[PLACE[kind]] == level


def levels_of(folder: Path, data: bytes, report: str = "Clear lungs.") -> np.ndarray:
    """The levels of a cohort of one image."""
    folder.mkdir(exist_ok=True)
    (folder / "a.dcm").write_bytes(data)
    pd.DataFrame([{"image": "a.dcm", "report": report, "patient_id": "p"}]).to_csv(folder / "manifest.csv", index=False)
    return check(open_cohort("folder", folder), workers=0).levels[0]


def test_nested_and_private_attributes_are_found(tmp_path):
    data = pydicom.dcmread(io.BytesIO(dicom(chest().astype(np.uint16))))
    item, deeper = Dataset(), Dataset()
    deeper.RequestingPhysician = "Quagga^Quentin"
    item.add_new(0x00081111, "SQ", Sequence([deeper]))
    data.RequestAttributesSequence = Sequence([item])
    data.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", "x")
    data.add_new(0x60023000, "OW", b"\1" * 64)
    out = io.BytesIO()
    data.save_as(out)
    levels = levels_of(tmp_path, out.getvalue())
    assert levels[PLACE["header name"]] == FOUND
    for kind in ("header nested", "header private", "header data"):
        assert levels[PLACE[kind]] == FILLED, kind
    assert headers.identifying(out.getvalue())[-1] == attributes.PRIVATE


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ("Findings of Quagga are stable.", True),
        ("FINDINGS OF QUAGGA ARE STABLE.", True),
        ("As in the record 77441 before.", True),
        ("Findings of a quagga are stable.", False),
        ("Clear lungs. Quagga", False),  # begins a sentence
        ("Quagga is seen.", False),
        ("The number 774412.", False),
    ],
)
def test_the_headers_own_name_or_number_in_the_report(report, found, tmp_path):
    data = dicom(chest().astype(np.uint16), PatientName="Quagga^Q", PatientID="77441")
    assert bool(levels_of(tmp_path, data, report)[PLACE["report own"]] == FOUND) is found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four images: a DICOM full of secrets, one de-identified, a PNG with a text, and a broken file."""
    folder = tmp_path_factory.mktemp("own")
    cells = chest().astype(np.uint16)
    (folder / "a.dcm").write_bytes(
        dicom(
            cells,
            PatientName="Quagga^Quentin",
            PatientBirthDate="19610307",
            PatientTelephoneNumbers="555-010-2233",
            PatientAddress="12 Long Meadow Road",
            AccessionNumber="4471123",
        )
    )
    (folder / "b.dcm").write_bytes(dicom(cells + 1, PatientName="ANON", PatientIdentityRemoved="YES"))
    note = PngInfo()
    note.add_text("Comment", "taken of Mr. Quagga")
    Image.fromarray((cells * 16).astype(np.uint16)).save(folder / "c.png", pnginfo=note)
    (folder / "d.dcm").write_bytes(b"nothing")
    reports = [
        "Told to Dr. Quagga, accession 4471123. Clear.",
        "Clear lungs, told to Dr. XXXX.",
        "Compared with 7/14/2019.",
        "A quiet chest.",
    ]
    table = pd.DataFrame({"image": ["a.dcm", "b.dcm", "c.png", "d.dcm"], "report": reports, "patient_id": list("pqrs")})
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_folder_is_counted_by_kind_and_nothing_is_changed_or_told(folder):
    before = digests(folder)
    checked = check(open_cohort("folder", folder))
    summary = checked.summary()
    assert digests(folder) == before
    looked = {"records": 4, "headers": 2, "files": 1, "unread": 1, "reports": 4, "pixels": 0, "said_removed": 1}
    assert summary["looked"] == looked
    assert summary["kinds"]["header name"] == {"found": 1, "filled in": 0}
    assert summary["kinds"]["file text"] == {"found": 1, "filled in": 0}
    assert summary["kinds"]["report date"] == {"found": 1, "filled in": 0}
    assert summary["kinds"]["report own"] == {"found": 1, "filled in": 0}
    assert summary["kinds"]["header uid"] == {"found": 0, "filled in": 2}
    assert summary["attributes"]["PatientAddress"] == {"found": 1, "filled in": 0}
    assert checked.first()["header name"] == ["a.dcm"]
    told = json.dumps(summary) + checked.table().to_csv() + " ".join(words.lines(summary))
    assert not [secret for secret in SECRETS if secret in told]
    first, filled, last = words.lines(summary)
    assert first.startswith("Checked for identifiers: 4 records, 1 with a person's name in the header;")
    assert "1 headers say that identity was removed" in filled
    for phrase in ("1 images that are PNG or JPEG", "1 images that cannot be read", "words in the pixels (not asked"):
        assert phrase in last


def test_the_command_says_it_and_writes_the_records(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["identifiers", "folder", str(folder), "--words-in", "0", "--records", str(tmp_path / "r.csv")])
    assert not ended.value.code
    said = " ".join(capsys.readouterr().out.split())
    assert "PatientName 1" in said
    assert "Not looked for:" in said
    assert not [secret for secret in SECRETS if secret in said]
    rows = pd.read_csv(tmp_path / "r.csv")
    assert {"a.dcm", "b.dcm", "c.png", "d.dcm"} >= set(rows["record_id"])
    assert set(rows.columns) == {"record_id", "kind", "level"}


FAKE = """#!/bin/sh
[ "$1" = --version ] && { echo "tesseract 0"; exit 0; }
cat > /dev/null
%s
"""
WORDS = (
    "printf 'l\\tp\\tb\\tp\\tl\\tw\\tx\\ty\\tw\\th\\tconf\\ttext\\n1\\t1\\t1\\t1\\t1\\t1\\t0\\t0\\t9\\t9\\t%s\\t%s\\n'"
)


@pytest.mark.parametrize(
    ("does", "level", "pixels_read"),
    [
        (WORDS % ("91", "QUAGGA,"), FOUND, 3),
        (WORDS % ("31", "QUAGGA"), NONE, 3),  # not sure
        (WORDS % ("91", "PORTABLF"), NONE, 3),  # a marker
        (WORDS % ("91", "Q"), NONE, 3),
        ("exit 3", NONE, 0),
    ],
)
def test_words_in_pixels_by_a_program_that_may_fail(does, level, pixels_read, folder, tmp_path, monkeypatch):
    program = tmp_path / "tesseract"
    program.write_text(FAKE % does)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(pixels, "PROGRAM", str(program))
    pixels.version.cache_clear()
    checked = check(open_cohort("folder", folder), words_in=4, workers=0)
    pixels.version.cache_clear()
    assert checked.looked["pixels"] == pixels_read
    assert (checked.levels[:, PLACE["pixels text"]] == [level if level else NONE] * 3 + [NONE]).all()
    assert (f"words in the pixels of the other {4 - pixels_read} images" in checked.not_looked_for) is True


def test_a_program_that_hangs_is_ended(tmp_path, monkeypatch):
    program = tmp_path / "tesseract"
    program.write_text(FAKE % "sleep 60")
    program.chmod(0o755)
    monkeypatch.setattr(pixels, "PROGRAM", str(program))
    monkeypatch.setattr(pixels, "SECONDS", 1)
    with pytest.raises(pixels.ImageError, match="tesseract"):
        pixels.has_words(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))


def test_without_the_program_it_says_that_it_did_not_look(folder, monkeypatch):
    monkeypatch.setattr(pixels, "PROGRAM", "no-such-program-at-all")
    pixels.version.cache_clear()
    checked = check(open_cohort("folder", folder), words_in=4, workers=0)
    pixels.version.cache_clear()
    assert "words in the pixels (the program tesseract is not installed)" in checked.not_looked_for
    assert checked.looked["pixels"] == 0


@pytest.mark.skipif(not pixels.version(), reason="tesseract is not installed: apt-get install tesseract-ocr")
def test_the_real_program_reads_a_name_and_knows_a_marker():
    page = Image.new("L", (512, 512), 40)
    from PIL import ImageDraw, ImageFont

    drawing, font = ImageDraw.Draw(page), ImageFont.load_default(size=22)
    drawing.text((300, 20), "PORTABLE", fill=255, font=font)
    seen = np.asarray(page).astype(np.uint16) * 257
    assert not pixels.has_words(seen)
    drawing.text((20, 470), "QUAGGA QUENTIN 07.03.1961", fill=255, font=font)
    assert pixels.has_words(np.asarray(page).astype(np.uint16) * 257)


def test_it_is_kept_with_an_entry_and_said_of_older_ones(tmp_path):
    records = toy_records(12)
    records.loc[records["study_id"] == "s0-0", "report"] = "Told to Dr. Quagga."
    cohort = toy_cohort("own", records)
    store = Store(tmp_path / "store")
    entry = import_arrays(cohort, "m", *toy_arrays(records, 1.0), store)
    assert entry.verify() == []
    assert entry.manifest["identifiers"]["kinds"]["report name"]["found"] == (records["study_id"] == "s0-0").sum()
    kept = entry.identifying()
    named = records.loc[records["study_id"] == "s0-0", "record_id"]
    assert kept.values.tolist() == [[record, "report name", "found"] for record in named]
    first, last = words.lines_of(entry.manifest)
    assert first == f"Checked for identifiers: {len(records)} records, {len(named)} with a person's name in the report."
    assert last.startswith("Not looked for: anything in images, for there are none;")
    before = {key: value for key, value in entry.manifest.items() if key != "identifiers"}
    assert words.lines_of(before) == (words.NOT_CHECKED,)
    drawn = import_arrays(toy_cohort("drawn", records, synthetic=True), "m", *toy_arrays(records, 1.0), store)
    assert "identifiers" not in drawn.manifest
    assert drawn.identifying().empty
    assert words.lines_of(drawn.manifest) == ()


def test_what_is_planted_in_a_phantom_is_found():
    """The campaign of benchmarks/identifiers.py in small."""
    found = script("identifiers").measured(14, 0, 64)
    for kind, of in found["kinds"].items():
        for level, row in of.items():
            if kind != "pixels text" and row["innocent"] and row["false alarms"] is not None:
                assert row["false alarms"] == 0, (kind, level)
            if kind.startswith("header") and row["recall"] is not None:
                assert row["recall"] == 1, (kind, level)
