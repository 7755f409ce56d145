import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from helpers.places import ROOT, SHARED
from linkage_core import confirmed
from linkage_core.cohorts import openi
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.registry import open_cohort, source_for
from linkage_core.cohorts.summary import summarise
from linkage_core.errors import ImageError, InputError

REAL = SHARED / "openi"


def xml(uid, findings="", impression="", images=(), major=(), automatic=()):
    return f"""<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">Cough</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH>{"".join(f"<major>{term}</major>" for term in major)}
{"".join(f"<automatic>{term}</automatic>" for term in automatic)}</MeSH>
{"".join(f'<parentImage id="{image}"><caption>PA</caption></parentImage>' for image in images)}
</eCitation>""".encode()


REPORTS = {
    "1.xml": xml(1, "Clear  lungs.", "Normal.", ["CXR1_a", "CXR1_b"], ["normal"]),
    "2.xml": xml(2, "", "Effusion &amp; edema.", ["CXR2_a"], ["Pleural Effusion/left"], ["edema", "Pleural Effusion"]),
    "3.xml": xml(3, "", "", ["CXR3_a"]),
    "4.xml": xml(4, "Clear.", "", []),
}


def packed(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f"ecgen-radiology/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path.parent


def png(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(folder / f"{name}.png")


@pytest.fixture
def archive(tmp_path):
    return packed(tmp_path / openi.ARCHIVE, REPORTS)


def test_reports_only(archive):
    cohort = openi.read(archive)
    assert cohort.records["record_id"].tolist() == ["CXR1_a", "CXR1_b", "CXR2_a"]
    assert cohort.records["image"].tolist() == ["", "", ""]
    assert cohort.records["report"].tolist() == ["Clear lungs.\nNormal."] * 2 + ["Effusion & edema."]
    assert cohort.records["study_id"].tolist() == cohort.records["patient_id"].tolist() == ["CXR1", "CXR1", "CXR2"]
    assert cohort.rejects[["item", "reason"]].to_numpy().tolist() == [
        ["CXR3_a", "empty-report"],
        ["CXR4", "no-image-named"],
    ]
    assert summarise(cohort)["notes"] == ["reports only: 4 images named, none present"]
    assert summarise(cohort)["images_present"] == 0
    with pytest.raises(ImageError) as caught:
        cohort.read_image(cohort.records.iloc[0])
    assert caught.value.reason == "missing-file"
    assert list(archive.iterdir()) == [archive / openi.ARCHIVE]  # nothing is unpacked


def test_unpacked_reports_with_images(tmp_path):
    for name, data in REPORTS.items():
        (tmp_path / "reports").mkdir(exist_ok=True)
        (tmp_path / "reports" / name).write_bytes(data)
    png(tmp_path / "NLMCXR_png", "CXR1_a")
    png(tmp_path / "NLMCXR_png", "CXR2_a")
    cohort = openi.read(tmp_path)
    assert cohort.records["image"].tolist() == ["NLMCXR_png/CXR1_a.png", "NLMCXR_png/CXR2_a.png"]
    assert dict(zip(cohort.rejects["item"], cohort.rejects["reason"], strict=True)) == {
        "CXR1_b": "missing-file",
        "CXR3_a": "empty-report",
        "CXR4": "no-image-named",
    }
    assert cohort.read_image(cohort.records.iloc[0]).pixels.shape == (20, 20)
    assert summarise(cohort)["notes"] == []
    note = {"name": "openi", "kind": "openi", "root": str(tmp_path), "options": cohort.options}
    confirmed.confirm(tmp_path)
    assert source_for(note).read_report("CXR2") == "Effusion & edema."


def test_sections(archive):
    assert openi.read(archive, section="impression").records["report"].tolist() == ["Normal."] * 2 + [
        "Effusion & edema."
    ]
    findings = openi.read(archive, section="findings")
    assert findings.records["record_id"].tolist() == ["CXR1_a", "CXR1_b"]
    assert "no findings" in findings.rejects["what"].iloc[0]


def test_labels(archive):
    records = openi.read(archive).records.set_index("record_id")
    assert records.loc["CXR1_a", "No Finding"] == 1
    assert records.loc["CXR2_a", "Pleural Effusion"] == 1  # the indexers' word counts, not the program's
    assert records.loc["CXR2_a", "Edema"] == -1
    assert np.isnan(records.loc["CXR2_a", "Pneumonia"])
    assert openi.labels_of(["Cardiac Shadow/enlarged/mild"], []) == {"Cardiomegaly": 1.0}
    assert openi.labels_of(["Cardiac Shadow/borderline"], []) == {}
    assert openi.labels_of(["Cardiomegaly/borderline", "Cardiomegaly/mild"], []) == {"Cardiomegaly": 1.0}
    assert openi.labels_of(["Thickening/pleura/apex"], ["Heart"]) == {"Pleural Other": 1.0}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"<eCitation>",
        b"not xml",
        b'<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/hostname">]><eCitation><uId id="CXR9"/>&x;</eCitation>',
        b'<!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><eCitation>&b;</eCitation>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE e [<!ENTITY a "x">]><e>&a;</e>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="no-such"?><e/>',
        b"<e>" + b"x" * (openi.MAX_REPORT_BYTES + 1) + b"</e>",
    ],
)
def test_a_bad_report_is_one_reject(tmp_path, bad):
    cohort = openi.read(packed(tmp_path / openi.ARCHIVE, {**REPORTS, "9.xml": bad}))
    assert len(cohort.records) == 3
    assert ("ecgen-radiology/9.xml", "damaged-report") in zip(
        cohort.rejects["item"], cohort.rejects["reason"], strict=True
    )


def test_a_report_given_twice(tmp_path):
    cohort = openi.read(packed(tmp_path / openi.ARCHIVE, {**REPORTS, "11.xml": REPORTS["1.xml"]}))
    assert cohort.records["record_id"].is_unique
    assert (cohort.rejects["reason"] == "duplicate-record").sum() == 2


def test_members_that_are_no_reports_do_not_matter(tmp_path):
    path = tmp_path / openi.ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        for name, kind in (
            ("../../escape.xml", None),
            ("link.xml", tarfile.SYMTYPE),
            ("dev.xml", tarfile.CHRTYPE),
            ("a.txt", None),
        ):
            member = tarfile.TarInfo(name)
            member.linkname = "/etc/hostname"
            data = REPORTS["1.xml"] if kind is None else b""
            member.type, member.size = kind or tarfile.REGTYPE, len(data)
            archive.addfile(member, io.BytesIO(data))
    cohort = openi.read(tmp_path)
    assert len(cohort.records) == 2
    assert not (tmp_path.parent.parent / "escape.xml").exists()


def test_damaged_archives(archive, tmp_path):
    path = archive / openi.ARCHIVE
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (b"", b"no archive", whole[:100], whole[:-40], bytes(flipped), gzip.compress(b"x" * 5000)):
        path.write_bytes(data)
        with pytest.raises(InputError, match="NLMCXR_reports"):
            openi.read(archive)
    path.unlink()
    with pytest.raises(InputError, match="no Open-i reports"):
        openi.read(archive)


def test_an_archive_that_claims_too_much(tmp_path):
    member = tarfile.TarInfo("big.xml")
    member.size = openi.MAX_ARCHIVE_BYTES + 1
    (tmp_path / openi.ARCHIVE).write_bytes(gzip.compress(member.tobuf() + b"\0" * 1024))
    with pytest.raises(InputError, match="far larger"):
        openi.read(tmp_path)


def test_the_documented_table_is_the_mapping():
    """The table of docs/openi-labels.md has all that the mapping has, in its order, and says what labels_of does."""
    text = (ROOT / "docs/openi-labels.md").read_text(encoding="utf-8")
    sure = [f"`{name}`" for name in openi.POSITIVE] + [f"`{first}` with `{rest}`" for first, rest in openi.QUALIFIED]
    meant = [*openi.POSITIVE.values(), *openi.QUALIFIED.values()]
    hedged = [(f"`{name}`", label) for name, label in openi.MENTIONED.items()]
    table = [
        f"| {label} | {' | '.join(', '.join(way for way, of in ways if of == label) for ways in both)} |"
        for both in [(list(zip(sure, meant, strict=True)), hedged)]
        for label in LABELS
    ]
    assert text.endswith("\n".join(["| label | 1 by a heading | -1 by a term |", "|---|---|---|", *table, ""]))
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(LABELS)
    said = 0
    for label, *ways in rows:
        for value, cell in zip((1.0, -1.0), [*ways, ""][:2], strict=True):
            for way in filter(None, cell.replace(" |", "").split("`, `")):
                words = way.strip("` ").replace("` with `", "/")
                assert openi.labels_of(*([[words], []] if value == 1 else [[], [words]])) == {label: value}
                said += 1
    assert said == len(openi.POSITIVE) + len(openi.QUALIFIED) + len(openi.MENTIONED)


def test_the_real_reports():
    if not (REAL / openi.ARCHIVE).is_file():
        pytest.skip(f"the Open-i reports are not at {REAL}")
    cohort = open_cohort("openi", REAL)
    summary = json.loads(json.dumps(summarise(cohort)))
    assert summary["notes"] == ["reports only: 7,470 images named, none present"]
    assert summary["rejects"] == {"no-image-named": 104, "empty-report": 40}
    assert summary["images"] == 7430
    reports = set(cohort.records["study_id"]) | set(cohort.rejects["what"].str.extract(r"(CXR\d+) ")[0])
    assert len(reports) == 3955
    assert summary["labels"]["No Finding"]["positive"] > 1300
    assert cohort.records.groupby("patient_id")["study_id"].nunique().max() == 1
