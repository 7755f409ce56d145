import textwrap
from collections import Counter

import pytest

from helpers.places import SHARED
from linkage_core.cohorts import mimic_cxr, openi, sections
from linkage_core.errors import InputError

REAL = SHARED / "openi"

FULL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)
 
 INDICATION:  ___ year old woman with cough  // eval for pneumonia
 
 COMPARISON:  ___
 
 FINDINGS: 
 
 LUNGS: clear.  Impression of the heart: normal.
 CHEST TUBE: removed.
 
 IMPRESSION: 
 
 1. No acute process.
 2. ___ was told at 9:30 pm.
"""  # noqa: W291 W293 (as the files have it)


@pytest.mark.parametrize(
    ("report", "findings", "impression", "both"),
    [
        (
            FULL,
            "LUNGS: clear. Impression of the heart: normal. CHEST TUBE: removed.",
            "1. No acute process. 2. ___ was told at 9:30 pm.",
            None,
        ),
        ("FINDINGS: Clear. IMPRESSION: Normal.", "Clear.", "Normal.", None),
        ("Findings: Clear.\nImpression: Normal.", "Clear.", "Normal.", None),
        (" FINDINGS AND IMPRESSION: Clear.", "Clear.", "Clear.", "Clear."),
        (" FINDINGS/IMPRESSION:\n Clear.", "Clear.", "Clear.", "Clear."),
        (" FINDINGS:\n Clear.\n CONCLUSION:\n Normal.", "Clear.", "Normal.", None),
        (" IMPRESSON:  Normal.", "", "Normal.", "Normal."),
        (" PA AND LATERAL CHEST: Clear.\n IMPRESSION: Normal.", "Clear.", "Normal.", None),
        (" CHEST, TWO VIEWS: Clear.", "Clear.", "", "Clear."),
        (" FINDINGS:\n\n IMPRESSION: Normal.", "", "Normal.", "Normal."),
        (
            "WET READ: ___ 9 PM\n IMPRESSION: Old.\n________________\n FINAL REPORT\n IMPRESSION: New.",
            "",
            "New.",
            "New.",
        ),
        (" FINAL REPORT\n HISTORY: Cough.\n \n The lungs are clear.\n", "", "", "The lungs are clear."),
        (" FINAL REPORT\n The lungs are clear.\n", "", "", "The lungs are clear."),
        ("The lungs are clear.", "", "", "The lungs are clear."),
        (" INDICATION: Cough.", "", "", ""),
        (" IMPRESSION: Normal.\n NOTIFICATION: Dr. ___ by phone.", "", "Normal.", "Normal."),
        (
            " FINDINGS: No bony\n findings. Right shoulder: intact.",
            "No bony findings. Right shoulder: intact.",
            "",
            None,
        ),
        (
            " IMPRESSION: Effusion.\n Findings in the left lung: none.",
            "",
            "Effusion. Findings in the left lung: none.",
            None,
        ),
        ("", "", "", ""),
    ],
)
def test_headings(report, findings, impression, both):
    assert sections.select(report, "findings") == findings
    assert sections.select(report, "impression") == impression
    assert sections.select(report, "both") == (
        "\n".join(filter(None, (findings, impression))) if both is None else both
    )
    assert sections.select(report, "whole") == " ".join(report.replace("_" * 16, " ").split())


def test_a_section_that_there_is_not():
    with pytest.raises(InputError, match="whole"):
        sections.select("FINDINGS: Clear.", "history")


def test_reports_that_the_authors_list_as_misnamed():
    text = " EXAMINATION: Chest.\n RECOMMENDATIONS: No change.\n"
    assert (
        mimic_cxr.part_of("50913680", text, "both") == mimic_cxr.part_of("50913680", text, "impression") == "No change."
    )
    assert mimic_cxr.part_of("50913680", text, "findings") == ""
    assert mimic_cxr.part_of("1", text, "both") == ""
    plain = "x" * 59 + "Lungs are clear." + " " * 400
    assert mimic_cxr.part_of("50196495", plain, "both") == "Lungs are clear."


def as_free_text(parts):
    """The parts of an XML report as MIMIC-CXR would have them in one text file."""
    lines = ["                 FINAL REPORT"]
    for name, text in parts.items():
        wrapped = textwrap.wrap(text, 75, break_long_words=False, break_on_hyphens=False)
        lines += [f" {name}: ", " ", *(f" {line}" for line in wrapped), " "]
    return "\n".join(lines)


def test_the_3955_real_reports():
    """Laid out as free text, findings and impression come back as the XML has them."""
    if not (REAL / openi.ARCHIVE).is_file():
        pytest.skip(f"the Open-i reports are not at {REAL}")
    seen = Counter()
    different = []
    for name, data in openi._unpacked(REAL / openi.ARCHIVE):
        report = openi._parse(data)
        parts = {part.get("Label"): " ".join("".join(part.itertext()).split()) for part in report.iter("AbstractText")}
        findings, impression = parts.get("FINDINGS", ""), parts.get("IMPRESSION", "")
        seen[bool(findings), bool(impression)] += 1
        text = as_free_text(parts)
        if tuple(sections.select(text, part) for part in ("findings", "impression")) != (findings, impression):
            different.append(name)
        elif findings or impression:
            assert sections.select(text, "both") == sections.both(findings, impression)
            assert sections.select(text, "both").replace("\n", "") in openi._text(report, "both").replace("\n", "")
    assert seen == {(True, True): 3419, (False, True): 502, (True, False): 6, (False, False): 28}
    assert different == ["ecgen-radiology/2415.xml"]  # its impression repeats the whole report, headings and all
