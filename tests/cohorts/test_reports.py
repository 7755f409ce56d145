"""Reports that come apart from images: tables, FHIR R4 and DICOM SR; each bad one is one sentence."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian

from linkage_core.cohorts.dicomweb import listing
from linkage_core.cohorts.phantom import hospital
from linkage_core.cohorts.reports import sr
from linkage_core.cohorts.reports.base import reports_of
from linkage_core.cohorts.reports.joined import join
from linkage_core.cohorts.reports.read import FORMATS, read_reports
from linkage_core.errors import InputError
from linkage_core.images import dicom

ROW = {"patient_id": "SECRET-P", "study_id": "1.2.3.4.5", "accession_number": "SECRET-A"}
TEXT = "FINDINGS: Clear lungs.\nIMPRESSION: Normal."


def resources(**row: Any) -> list[dict[str, Any]]:
    return hospital.resources({**ROW, "report": TEXT, **row})


def as_ndjson(path: Path, found: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, found)) + "\n")
    return path


def images(**columns: Any) -> pd.DataFrame:
    one = {"record_id": "r", "patient_id": "SECRET-P", "study_id": "1.2.3.4.5", "accession": "SECRET-A"} | columns
    return pd.DataFrame([one]).astype("str")


# --------------------------------------------------------------------------------------------------------------- FHIR


@pytest.mark.parametrize("form", ["ndjson", "gzipped", "bundle", "bundle in one line", "urn"])
def test_fhir_in_every_form(form: str, tmp_path: Path) -> None:
    found = resources()
    path = tmp_path / "x.json"
    if form == "ndjson":
        as_ndjson(path, found)
    elif form == "gzipped":
        path.write_bytes(gzip.compress(as_ndjson(path, found).read_bytes()))
    else:
        entries: list[dict[str, Any]] = [{"resource": one} for one in found]
        if form == "urn":
            entries[1]["fullUrl"] = "urn:uuid:7"
            del found[1]["id"]
            found[0]["imagingStudy"] = [{"reference": "urn:uuid:7"}]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        path.write_text(json.dumps(bundle, indent=None if "one" in form else 1))
    source = read_reports(path)
    row = source.reports.table.iloc[0]
    assert (row["study"], row["accession"], row["report"]) == ("1.2.3.4.5", "SECRET-A", TEXT)
    joined = join(images(accession=""), source.reports)
    source.check(joined.used)
    assert list(joined.records["report"]) == [TEXT]
    assert joined.rejects.empty


def test_fhir_text_of_every_kind(tmp_path: Path) -> None:
    def read(change: dict[str, Any], *others: dict[str, Any]) -> str:
        report, study, *_ = resources()
        kept = {name: value for name, value in (report | change).items() if value is not None}
        table = read_reports(as_ndjson(tmp_path / "x.ndjson", [kept, study, *others])).reports.table
        return str(table["report"].iloc[0]) if len(table) else ""

    def form(kind: str, data: bytes) -> dict[str, Any]:
        return {"presentedForm": [{"contentType": kind, "data": base64.b64encode(data).decode()}]}

    assert read({}) == TEXT
    html = b"<html><body><p>Clear &amp; <b>wide</b>.</p><p>Normal.</p></body></html>"
    assert read(form("text/html", html)) == "Clear & wide.\nNormal."
    assert read(form("text/html", b"<p>Nodule <5 mm.<br>No effusion.</p>")) == "Nodule <5 mm.\nNo effusion."
    assert len(read(form("text/html", b"<" * 200_000))) == 200_000  # in no time
    assert read(form("text/plain; charset=iso-8859-1", "für".encode("latin-1"))) == "für"
    observed = {"resourceType": "Observation", "id": "SECRET-A", "status": "final", "valueString": "Clear lungs."}
    assert read({"presentedForm": None}, observed) == TEXT
    coded = {**observed, "valueString": None, "valueCodeableConcept": {"coding": [{"display": "Effusion"}]}}
    assert read({"presentedForm": None, "conclusion": None}, coded) == "FINDINGS: Effusion"
    assert read({"presentedForm": [{"contentType": "application/pdf", "data": "JVBE"}], "conclusion": "So."}) == (
        "IMPRESSION: So."
    )
    assert read({"presentedForm": None, "conclusion": None}) == ""


def test_the_study_of_a_fhir_report_in_every_way(tmp_path: Path) -> None:
    def read(change: dict[str, Any]) -> tuple[str, str]:
        report = {name: value for name, value in (resources()[0] | change).items() if value is not None}
        row = read_reports(as_ndjson(tmp_path / "x.ndjson", [report, resources()[1]])).reports.table.iloc[0]
        return row["study"], row["accession"]

    both = ("1.2.3.4.5", "SECRET-A")
    assert read({"identifier": None}) == both  # the number of the study stands in for that of the report
    assert read({"imagingStudy": [{"reference": "https://fhir.example/r4/ImagingStudy/SECRET-A/_history/3"}]}) == both
    inside = {
        "resourceType": "ImagingStudy",
        "id": "s",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.9"}],
    }
    assert read({"contained": [inside], "imagingStudy": [{"reference": "#s"}]}) == ("1.9", "SECRET-A")
    named = {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.8"}}
    assert read({"imagingStudy": [named]}) == ("1.8", "SECRET-A")
    assert read({"imagingStudy": [{"reference": "ImagingStudy/other"}]}) == ("", "SECRET-A")


def test_two_resources_of_one_id_are_not_guessed_between(tmp_path: Path) -> None:
    """As in the exports of two servers, each of which counts its own from 1."""
    report, study, observation = resources()
    other = resources(study_id="1.2.9")[1]
    assert len(read_reports(as_ndjson(tmp_path / "x.ndjson", [report, study, study, observation] * 2)).reports.table)
    for found in ([report, study, other], [report, observation, observation | {"valueString": "Others."}]):
        with pytest.raises(InputError, match="of one id that differ") as said:
            read_reports(as_ndjson(tmp_path / "x.ndjson", found))
        assert "SECRET" not in str(said.value)


def test_observations_that_are_not_there_are_counted(tmp_path: Path) -> None:
    report, study, _ = resources()
    del report["presentedForm"]
    reports = read_reports(as_ndjson(tmp_path / "x.ndjson", [report, study])).reports
    assert list(reports.table["report"]) == ["IMPRESSION: Normal."]
    assert reports.notes == ["1 FHIR reports lack some of their Observations, which are not here or hold no words"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.ndjson")
    with pytest.raises(InputError, match="no regular file"):
        read_reports(tmp_path / "x.ndjson")
    with pytest.raises(InputError, match="no regular file"):
        listing.asked("DX", "", "", tmp_path / "x.ndjson", False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: json.dumps(resources()[0] | {"context": {"reference": "Encounter/SECRET"}}), "is FHIR STU3"),
        (lambda: json.dumps({"resourceType": "ImagingStudy", "uid": "urn:oid:1.2", "accession": {}}), "is FHIR STU3"),
        (
            lambda: json.dumps(
                {"resourceType": "Bundle", "entry": [{"resource": resources()[0] | {"codedDiagnosis": []}}]}
            ),
            "is FHIR STU3",
        ),
        (lambda: json.dumps(resources()[0] | {"study": []}), "is FHIR R5"),
        (lambda: json.dumps(resources()[0])[:-40], "no JSON; it may have been cut off"),
        (lambda: json.dumps(resources()[0]) + "\n{" + '"a": 1}', "line 2, is no FHIR resource"),
        (lambda: json.dumps(resources()[0] | {"presentedForm": "SECRET"}), "another shape than FHIR R4"),
        (lambda: '{"resourceType": "Patient"}\n<html>SECRET', "line 2, is a web page or XML"),
        (lambda: "[" * 5000, "holds no reports"),
    ],
)
def test_fhir_that_is_none_is_one_sentence(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    path.write_text(content())
    with pytest.raises(InputError) as said:
        read_reports(path)
    assert words in said.value.what
    assert "SECRET" not in str(said.value)
    assert str(path) in said.value.what


def test_the_library_checks_what_is_used_alone(tmp_path: Path) -> None:
    report, study, observation = resources()
    other = resources(accession_number="SECRET-B", study_id="1.2.9")[0] | {"SECRET": "wrong"}
    path = as_ndjson(tmp_path / "x.ndjson", [other, study, report, observation])
    source = read_reports(path)
    source.check(join(images(), source.reports).used)
    as_ndjson(path, [other, study, report | {"SECRETS": "wrong"}, observation])
    source = read_reports(path)
    with pytest.raises(InputError, match="resource 3: a DiagnosticReport that is not valid FHIR R4") as said:
        source.check(join(images(), source.reports).used)
    assert "wrong" not in str(said.value)


# ----------------------------------------------------------------------------------------------------------------- SR


def test_sr_of_every_shape() -> None:
    assert sr.report_of(hospital.structured_report({**ROW, "report": TEXT})) == {
        "study": "1.2.3.4.5",
        "accession": "SECRET-A",
        "patient": "SECRET-P",
        "report": TEXT,
        "rank": 1,
    }

    def item(kind: str, code: str, text: str = "", inside: list[Dataset] | None = None) -> Dataset:
        found = Dataset()
        found.ValueType = kind
        found.ConceptNameCodeSequence = Items([hospital._code(code, "DCM", "x")])
        if text:
            found.TextValue = text
        if inside:
            found.ContentSequence = Items(inside)
        return found

    def read(*items: Dataset) -> dict[str, Any] | None:
        whole = pydicom.dcmread(io.BytesIO(hospital.structured_report({**ROW, "report": TEXT})))
        whole.ContentSequence = Items(items)
        buffer = io.BytesIO()
        whole.save_as(buffer)
        return sr.report_of(buffer.getvalue())

    by_container = read(
        item(
            "CONTAINER",
            "121070",
            inside=[item("TEXT", "121071", "Clear lungs."), item("TEXT", "121071", "No effusion.")],
        ),
        item("CONTAINER", "121072", inside=[item("TEXT", "121073", "Normal.")]),
        item("CODE", "121058"),
    )
    assert by_container is not None
    assert by_container["report"] == "FINDINGS: Clear lungs.\nNo effusion.\nIMPRESSION: Normal."
    deep = item("TEXT", "121071", "x")
    for _ in range(40):
        deep = item("CONTAINER", "9", inside=[deep])
    with pytest.raises(InputError, match="nested"):
        read(deep)
    with pytest.raises(InputError, match="cannot be parsed"):
        sr.report_of(b"no DICOM at all")


def test_a_deflated_sr_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pydicom.dcmread(io.BytesIO(hospital.structured_report({**ROW, "report": TEXT})))
    whole.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    def deflated() -> bytes:
        buffer = io.BytesIO()
        whole.save_as(buffer)
        return buffer.getvalue()

    assert sr.report_of(deflated())["report"] == TEXT
    whole.add_new(0x00420011, "OB", bytes(1 << 10))
    monkeypatch.setattr(dicom, "MAX_PIXELS", 1 << 8)
    with pytest.raises(InputError, match="cannot be parsed"):
        sr.report_of(deflated())


def test_files_that_are_no_reports_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(hospital.structured_report({**ROW, "report": TEXT}))
    (tmp_path / "b.dcm").write_bytes(hospital.structured_report({**ROW, "report": TEXT}).replace(b".88.11", b".88.59"))
    (tmp_path / "c.txt").write_text("notes")
    as_ndjson(tmp_path / "d.ndjson", [{"resourceType": "Patient", "id": "1"}, *resources(accession_number="Z")])
    source = read_reports(tmp_path)
    assert sorted(source.reports.table["accession"]) == ["SECRET-A", "Z"]
    assert (
        source.reports.notes
        == [
            "1 files below " + tmp_path.name + " are of no kind that holds reports: left out",
            "1 FHIR resources of type Patient: not used",
        ]
        or len(source.reports.notes) == 3
    )
    assert set(FORMATS) == {"DICOM SR", "FHIR R4", "table"}


# ------------------------------------------------------------------------------------------------------ table and join


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accession,words\n1,x\n", "no table of reports"),
        ("report\nx\n", "no table of reports"),
        ("accession,accession_number,report\n1,1,x\n", "for one column"),
        ("accession,report\n1.2E+10,x\n", "a spreadsheet has cut the digits"),
        ("accession,report,Edema\n1,x,7\n", "label 'Edema' is '7'"),
        ("accession;report\n1;x\n", "semicolons"),
    ],
)
def test_tables_that_are_none_are_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "reports.csv"
    path.write_text(text)
    with pytest.raises(InputError) as said:
        read_reports(path)
    assert words in str(said.value)


def test_a_table_is_spelled_as_it_likes(tmp_path: Path) -> None:
    path = tmp_path / "reports.csv"
    path.write_text('Accession Number,Report Text,Edema\n007,"Clear, normal.",1\n')
    row = read_reports(path).reports.table.iloc[0]
    assert (row["accession"], row["report"], row["Edema"], row["study"]) == ("007", "Clear, normal.", 1, "")


def joined_of(found: pd.DataFrame, *rows: dict[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """(texts of the images that are left, (item, reason) of each reject)."""
    table = pd.DataFrame([{"item": f"i{number}", "rank": 1, **row} for number, row in enumerate(rows)])
    joined = join(found, reports_of(table))
    told = " ".join(joined.rejects["what"] + joined.rejects["remedy"])
    assert "SECRET" not in told
    return list(joined.records["report"]), list(zip(joined.rejects["item"], joined.rejects["reason"], strict=True))


def test_images_and_reports_are_joined_or_listed() -> None:
    uid, number = {"study": "1.2.3.4.5"}, {"accession": "SECRET-A"}
    one = images()
    assert joined_of(one, {**uid, "report": "x"}) == (["x"], [])
    assert joined_of(one, {**number, "report": "x"}) == (["x"], [])
    assert joined_of(one, {"study": "9.9", **number, "report": "x"}) == (["x"], [])
    assert joined_of(one, {"accession": "B", "report": "x"}) == (
        [],
        [("i0", "report-without-images"), ("r", "no-report")],
    )
    twice = joined_of(one, {**uid, "report": "x"}, {**number, "report": "y"})
    assert twice == ([], [("r", "study-with-two-reports")])
    assert joined_of(one, {**uid, "report": "x"}, {**number, "report": " X "})[0] == ["x"]
    assert joined_of(one, {**uid, "report": "x", "rank": 2}, {**uid, "report": "y"}) == (
        ["x"],
        [("i1", "superseded-report")],
    )
    both = pd.concat([one, images(record_id="s", study_id="1.2.3.4.6", patient_id="other")], ignore_index=True)
    assert joined_of(both, {**number, "report": "x"}) == (
        [],
        [("i0", "accession-of-several-studies"), *((item, "accession-of-several-studies") for item in "rs")],
    )
    assert joined_of(both, {**uid, "report": "x"}) == (["x"], [("s", "accession-of-several-studies")])
    two = pd.concat([one, images(record_id="s", study_id="1.7", accession="C", patient_id="q")], ignore_index=True)
    mixed = [{**uid, "report": "x", "patient": "SECRET-P"}, {"accession": "C", "report": "y", "patient": "SECRET-P"}]
    assert joined_of(two, *mixed) == (["x"], [("i1", "report-of-another-patient"), ("s", "no-report")])
    of_another = [{**uid, "report": "x"}, {"study": "9.9", "accession": "C", "report": "y"}]
    assert joined_of(two, *of_another) == (["x"], [("i1", "report-without-images"), ("s", "no-report")])
    spelled = [{**uid, "report": "x", "patient": "00P"}, {"accession": "C", "report": "y", "patient": "00Q"}]
    assert joined_of(two, *spelled) == (["x", "y"], [])
