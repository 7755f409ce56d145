"""The phantom's reports: labels that follow the text, no identifiers, styles, ties."""

import re
from collections import Counter

import numpy as np
import pytest

from linkage_core.cohorts.base import LABELS, text_key
from linkage_core.cohorts.phantom import grammar
from linkage_core.cohorts.phantom.population import Draws, Study, studies_of_split


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(studies_of_split("A", "heldout"))


@pytest.fixture(scope="module")
def reports(studies: list[Study]) -> list[grammar.Report]:
    return [grammar.report(study, 0) for study in studies]


def test_the_same_study_and_seed_give_the_same_report(studies: list[Study], reports: list[grammar.Report]) -> None:
    assert [grammar.report(study, 0) for study in studies[:200]] == reports[:200]
    assert [grammar.report(study, 1).text for study in studies[:200]] != [report.text for report in reports[:200]]


def test_some_quarter_of_the_reports_share_their_text(reports: list[grammar.Report]) -> None:
    counts = Counter(text_key(report.text) for report in reports)
    shared = sum(count for count in counts.values() if count > 1) / len(reports)
    assert 0.15 < shared < 0.30
    assert max(counts.values()) > 50


@pytest.mark.parametrize("site", ["A", "B"])
def test_nothing_that_identifies(site: str) -> None:
    for study in studies_of_split(site, "heldout", patients=400):  # type: ignore[arg-type]
        text = grammar.report(study, 0).text
        assert str(study.patient) not in text
        assert not re.search(r"\d", text)
        assert not re.search(r"\b(year|month|day|old|born|dated|january|mr|mrs)\b", text.lower())


DENIALS = {
    "Pneumothorax": r"no (?:[a-z ,]* )?(?:or )?pneumothorax",
    "Pleural Effusion": r"no (?:focal consolidation, )?pleural effusion",
    "Cardiomegaly": r"heart size is normal",
    "Lung Opacity": r"lungs are clear",
}
AFFIRMED = {
    "Pneumothorax": r"there is a (?:\w+ )*pneumothorax",
    "Pleural Effusion": r"there is a (?:\w+ )*effusion\b",
    "Cardiomegaly": r"(?:heart|silhouette) is (?:mildly |moderately |severely )?enlarged",
    "Atelectasis": r"atelectasis is (?:present|noted)",
}


@pytest.mark.parametrize("label", DENIALS)
def test_what_is_denied_is_zero_unless_also_affirmed(label: str, reports: list[grammar.Report]) -> None:
    said = [report for report in reports if re.search(DENIALS[label], report.text.lower())]
    assert len(said) > 100
    assert all(label in report.labels for report in said)
    assert np.mean([report.labels[label] == 0 for report in said]) > 0.97


@pytest.mark.parametrize("label", AFFIRMED)
def test_what_is_affirmed_is_one(label: str, reports: list[grammar.Report]) -> None:
    said = [report for report in reports if re.search(AFFIRMED[label], report.text.lower())]
    assert len(said) > 20
    assert all(report.labels[label] == 1 for report in said)


def test_what_is_only_hedged_is_minus_one(reports: list[grammar.Report]) -> None:
    hedge = r"(possible|questionable|cannot exclude|cannot be excluded|may represent|may be|suspected)"
    uncertain = [report for report in reports if -1 in report.labels.values()]
    assert len(uncertain) > 500
    assert all(re.search(hedge, report.text.lower()) for report in uncertain)


def test_what_is_not_mentioned_is_missing(reports: list[grammar.Report]) -> None:
    stems = {"Pneumothorax": "pneumothora", "Fracture": r"fracture|osseous|bony|bones", "Pleural Effusion": "effusion"}
    for label, stem in stems.items():
        silent = [report for report in reports if not re.search(stem, report.text.lower())]
        assert len(silent) > 100
        assert all(label not in report.labels for report in silent)


def test_no_finding_excludes_findings(reports: list[grammar.Report]) -> None:
    normal = [report for report in reports if report.labels.get("No Finding") == 1]
    assert 0.2 < len(normal) / len(reports) < 0.6
    for report in normal:
        assert all(
            value == 0 for label, value in report.labels.items() if label not in ("No Finding", "Support Devices")
        )
    assert all(set(report.labels) <= set(LABELS) for report in reports)


def test_every_label_occurs(reports: list[grammar.Report]) -> None:
    positive = Counter(label for report in reports for label, value in report.labels.items() if value == 1)
    assert set(positive) == set(LABELS)
    assert min(positive.values()) > 50


def test_sites_write_differently(reports: list[grammar.Report]) -> None:
    other = " ".join(grammar.report(study, 0).text for study in studies_of_split("B", "heldout", patients=200))
    assert "CONCLUSION:" in other
    assert "Opinion -" in other
    assert "IMPRESSION:" not in other
    home = [report.text for report in reports]
    assert {"FINDINGS:", "IMPRESSION:", "Lungs:"} <= {
        heading for text in home[:300] for heading in re.findall(r"\w+:", text)
    }
    assert len({style for style, _ in grammar.READERS["A"]}) >= 4


def test_findings_are_left_out_at_times(studies: list[Study], reports: list[grammar.Report]) -> None:
    large = [
        report
        for study, report in zip(studies, reports, strict=True)
        for finding in study.findings
        if finding.kind == "pleural effusion" and finding.severity > 0.7
    ]
    small = [
        report
        for study, report in zip(studies, reports, strict=True)
        for finding in study.findings
        if finding.kind == "pleural effusion" and finding.severity < 0.25
    ]
    seen_large, seen_small = (
        np.mean([r.labels.get("Pleural Effusion") in (1, -1) for r in rs]) for rs in (large, small)
    )
    assert 0.5 < seen_small < seen_large < 0.99


def test_captions_say_less_and_less(studies: list[Study]) -> None:
    texts = {
        level: {grammar.caption(study, level, Draws(study.patient)) for study in studies[:1500]}  # type: ignore[arg-type]
        for level in ("general", "biomedical", "clinical")
    }
    assert len(texts["general"]) * 3 < min(len(texts["biomedical"]), len(texts["clinical"]))
    assert not any(
        re.search(r"\b(left|right|bilateral|upper|small|severe)\b", text.lower()) for text in texts["clinical"]
    )
    assert all(text[0].isalpha() for level in texts.values() for text in level)
