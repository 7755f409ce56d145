"""The parts of a free-text radiology report: findings and impression, as headings in the text name them."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import NamedTuple

from linkage_core.cohorts.fields import checked_section

_LINE = re.compile(r"[ \t]*(?P<name>[A-Z][A-Za-z0-9 ,()/&'-]{1,60}?)[ \t]*:(?=\s|$)")
_WITHIN = re.compile(r"(?<=[\s.])(?P<name>FINDINGS?(?:[ ]?(?:/|AND|&)[ ]?IMPRESSION)?|IMPRESSION|CONCLUSIONS?)[ ]*:")
_CAPITALS = ("FINDING", "IMPRESSION", "CONCLUSION")
_BANNER = re.compile(r"[ \t]*(?:FINAL (?:REPORT|ADDENDUM)|WET READ(?: VERSION.*)?|PRELIMINARY REPORT)\s*")
_WET = re.compile(r"(?im)^[ \t]*wet ?read\b")
_FINAL = re.compile(r"(?m)^[ \t]*FINAL (?:REPORT|ADDENDUM)")
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
    for place, heading in enumerate(headings):
        if heading.meaning != "other":
            text = _text(report, headings, place)
            for name in ("findings", "impression") if heading.meaning == "both" else (heading.meaning,):
                parts[name] = text or parts.get(name, "")
    if any(parts.values()):
        return Report(parts.get("findings", ""), parts.get("impression", ""), "")
    last = headings[-1] if headings else None
    paragraphs = _BLANK.split(report[last.end if last else 0 :].strip(), maxsplit=1)
    named = last is not None and last.name != ""
    return Report("", "", _tidy(paragraphs[-1]) if len(paragraphs) > 1 or not named else "")


def only_wet_read(report: str) -> bool:
    """Whether a report is but the first, hurried reading: it has a WET READ, and neither findings, nor an impression,
    nor a final report after it.

    >>> only_wet_read("WET READ: ___ 4:23 AM\\n No effusion."), only_wet_read("WET READ: Clear.\\nIMPRESSION: Clear.")
    (True, False)
    """
    if "wet" not in report.lower():
        return False
    begins = [found.end() for found in _WET.finditer(report)]
    if not begins or _FINAL.search(report, begins[-1]):
        return False
    parts = split(report)
    return not parts.findings and not parts.impression


def named(report: str, name: str) -> str:
    """The text under the last heading of that name, tidied; "" without one. For reports known to be misnamed."""
    headings = _headings(report)
    for place in range(len(headings) - 1, -1, -1):
        if headings[place].name.lower().startswith(name):
            return _text(report, headings, place)
    return ""


class _Heading(NamedTuple):
    """Where a heading begins and ends, what it says ("" for a banner), and the part that it begins."""

    start: int
    end: int
    name: str
    meaning: str


def _text(report: str, headings: list[_Heading], place: int) -> str:
    end = headings[place + 1].start if place + 1 < len(headings) else len(report)
    return _tidy(report[headings[place].end : end])


def _headings(report: str) -> list[_Heading]:
    """Headings in order. The name of a view within findings or an impression is text, no heading."""
    found: list[_Heading] = []
    begin = 0
    for line in report.split("\n"):  # line by line, for most lines hold no colon: twice as fast as one pattern
        if ":" in line:
            first = _LINE.match(line)
            after = 0
            if first and _add(found, begin, first):
                after = first.end()
            if any(word in line for word in _CAPITALS):
                for within in _WITHIN.finditer(line, after):
                    _add(found, begin, within)
        elif _BANNER.fullmatch(line):
            found.append(_Heading(begin, begin + len(line), "", "other"))
        begin += len(line) + 1
    return found


def _add(found: list[_Heading], begin: int, match: re.Match[str]) -> bool:
    """Add a heading if its phrase names a part of a report; whether it does."""
    name = match["name"]
    meaning = _known(name.lower().strip())
    if meaning == "view":
        inside = bool(found) and found[-1].meaning != "other"
        meaning = "findings" if name.isupper() and not inside else ""
    elif meaning in ("findings", "impression", "both") and not name.isupper() and not _PLAIN.fullmatch(name):
        meaning = ""  # a sentence that a line broke: "Findings in the left lung: ..."
    if meaning:
        found.append(_Heading(begin + match.start(), begin + match.end(), name, meaning))
    return bool(meaning)


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
    return " ".join((_RULE.sub(" ", text) if "________" in text else text).split())
