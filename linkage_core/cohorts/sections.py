"""The parts of a free-text radiology report: findings and impression, as headings in the text name them."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import NamedTuple

from linkage_core.cohorts.fields import checked_section

_LINE = r"^[ \t]*(?P<name>[A-Z][A-Za-z0-9 ,()/&'-]{1,60}?)[ \t]*:(?=\s|$)"
_WITHIN = r"(?<=[\s.])(?P<within>FINDINGS?(?:[ ]?(?:/|AND|&)[ ]?IMPRESSION)?|IMPRESSION|CONCLUSIONS?)[ ]*:"
_BANNER = r"^[ \t]*(?P<banner>FINAL (?:REPORT|ADDENDUM)|WET READ(?: VERSION.*)?|PRELIMINARY REPORT)[ \t]*$"
_HEADING = re.compile(f"{_LINE}|{_WITHIN}|{_BANNER}", re.MULTILINE)
_RULE = re.compile(r"_{8,}")  # a drawn line; ___ is a word that was removed
_BLANK = re.compile(r"\n[ \t]*\n")

_OTHER = re.compile(
    r"(type of )?exam(ination)?( type)?|examination|study|procedure|procedure comments|technique|idication|n?indication"
    r"|(clinical )?indications?|reason for (the )?(exam(ination)?|study)|(clinical |patient |past medical )?history"
    r"|clinical (information|data|statement)|compari[a-z]*( exam| film| study)?s?|compar[a-z]*sions?|reference exam"
    r"|notifications?|recommendation(s|\(s\))?|addendum|wet ?read|date( of exam)?|comments?|notes?|pfi|narrative"
    r"|summary|accession number|end of impression|signed( by)?|electronically signed( by)?|dictated by|attending|reader"
)
_PLAIN = re.compile(r"(?i)(findings?( ?(and|/|&) ?impression)?|impression|conclusions?|opinion|results?)")
_VIEW = re.compile(r"\b(pa|ap|lateral|lat|views?|portable|radiographs?|frontal|upright|semi-upright)\b")
_NOT_A_VIEW = re.compile(r"\b(tubes?|lines?|wall|exam|comparison|prior)\b")


class Report(NamedTuple):
    """The parts of one report; "" where there is none."""

    findings: str
    impression: str
    rest: str  # what stands last where there is neither


def select(report: str, section: str) -> str:
    """The wanted part of a report, white space tidied: findings, impression, both, or whole.

    both is findings, then impression, without their headings; where the report has neither, what stands after the first
    paragraph of its last part, as the official labels of MIMIC-CXR are made. whole is the text with its headings.

    >>> select("FINDINGS: Clear lungs.\\nIMPRESSION: Normal.", "both")
    'Clear lungs.\\nNormal.'
    >>> select(" FINDINGS AND IMPRESSION:\\n Clear.", "findings"), select("HISTORY: Cough.\\n\\nClear.", "both")
    ('Clear.', 'Clear.')
    """
    if checked_section(section) == "whole":
        return _tidy(report)
    parts = split(report)
    if section == "both":
        return both(parts.findings, parts.impression) or parts.rest
    return parts.findings if section == "findings" else parts.impression


def both(findings: str, impression: str) -> str:
    """Findings, then impression; once where a heading names both."""
    return "\n".join(dict.fromkeys(part for part in (findings, impression) if part))


def split(report: str) -> Report:
    """Findings and impression of a free-text report.

    A heading is a phrase and a colon at the start of a line, or FINDINGS, IMPRESSION or CONCLUSION in capitals
    anywhere; a phrase that names no part of a report ("LUNGS:") belongs to the part it stands in. Of several parts of
    one name the last that holds text counts: the final report comes before a wet read and an older version. CONCLUSION
    and common misspellings are an impression, the name of a view in capitals ("PA AND LATERAL CHEST:") begins findings
    where no part has begun, and FINDINGS AND IMPRESSION is both.

    Source: the rules by which MIMIC-CXR's authors make its sections (MIT-LCP/mimic-cxr, txt/section_parser.py), in own
    words; two differences: a combined heading there is an impression only, and an unknown one ends a part.
    """
    headings = _headings(report)
    parts: dict[str, str] = {}
    for place, (match, meaning) in enumerate(headings):
        end = headings[place + 1][0].start() if place + 1 < len(headings) else len(report)
        text = _tidy(report[match.end() : end])
        if text and meaning != "other":
            for name in ("findings", "impression") if meaning == "both" else (meaning,):
                parts[name] = text
    if parts:
        return Report(parts.get("findings", ""), parts.get("impression", ""), "")
    final = headings[-1][0] if headings else None
    paragraphs = _BLANK.split(report[final.end() if final else 0 :].strip(), maxsplit=1)
    named = final is not None and not final["banner"]
    return Report("", "", _tidy(paragraphs[-1]) if len(paragraphs) > 1 or not named else "")


def named(report: str, name: str) -> str:
    """The text under the last heading of that name, tidied; "" without one. For reports known to be misnamed."""
    headings = [match for match, _ in _headings(report)]
    for place in range(len(headings) - 1, -1, -1):
        if (headings[place]["name"] or "").lower().startswith(name):
            end = headings[place + 1].start() if place + 1 < len(headings) else len(report)
            return _tidy(report[headings[place].end() : end])
    return ""


def _headings(report: str) -> list[tuple[re.Match[str], str]]:
    """Headings with the part they begin. The name of a view within findings or an impression is text, no heading."""
    headings: list[tuple[re.Match[str], str]] = []
    for match in _HEADING.finditer(report):
        name = match["name"] or match["within"] or ""
        meaning = "other" if match["banner"] else _known(name.lower().strip())
        if meaning == "view":
            inside = bool(headings) and headings[-1][1] != "other"
            meaning = "findings" if name.isupper() and not inside else ""
        elif meaning in ("findings", "impression", "both") and not name.isupper() and not _PLAIN.fullmatch(name):
            meaning = ""  # a sentence that a line broke: "Findings in the left lung: ..."
        if meaning:
            headings.append((match, meaning))
    return headings


@lru_cache(maxsize=1 << 16)
def _known(name: str) -> str:
    """findings, impression, both, view, other (another part of a report), or "" for a phrase that names no part."""
    if "finding" in name and "impression" in name:
        return "both"
    if _OTHER.fullmatch(name):
        return "other"
    if re.search(r"\bimpression\b|\bconclusions?\b|^opinion$", name):
        return "impression"
    if re.search(r"\bfindings?\b|^results?$", name):
        return "findings"
    if name == "chest" or (_VIEW.search(name) and not _NOT_A_VIEW.search(name)):
        return "view"
    if " " not in name and name[0] in "imf":
        near = difflib.get_close_matches(name, ("impression", "findings"), n=1, cutoff=0.8)
        return near[0] if near else ""
    return ""


def _tidy(text: str) -> str:
    return " ".join(_RULE.sub(" ", text).split())
