"""A report -> the four values of the 14 labels, by the table of rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.rules import Rule, rules

PATHOLOGIES = tuple(label for label in LABELS if label not in ("No Finding", "Support Devices"))
"""The 12 findings of which none may be there, not even as uncertain, for "No Finding"."""

_STRENGTH = {0.0: 0, -1.0: 1, 1.0: 2}
_BLANK = "\x00"  # stands for words that were taken out

_HEADING = re.compile(r"(?:^|(?<=[.\n]))[ \t]*(?P<name>[A-Za-z][A-Za-z ()/]{2,40}?)[ \t]*:", re.M)
_ITEM = re.compile(r"(?:(?<=^)|(?<=\s))(?:\(?\d{1,2}[.)]|[-*•])(?=\s)")
_BREAK = re.compile(r"(?<=[.!?;|\x01])(?=\s|$)|\x01|\|")
_CAPITALISED = re.compile(r"[ \t]*(?:[A-Z][a-z]|[A-Za-z][A-Za-z /]{1,30}:|[-*•] |\d{1,2}[.)]\s)")
_COMMA = re.compile(r",\s*(?P<next>\w+)?")
_OR = re.compile(r"\b(?:or|nor|and/or)\b")
_EITHER = re.compile(r"\s*,?\s*(?:\w+[\s-]){0,4}?(?:or|versus|vs|and/or|/)\s*(?:\w+[\s-]){0,4}?")
_JOINED = re.compile(
    r"[\s,/]*(?:(?:the|a|both|and|or|size|of)\b[\s,/]*|\w+[\s,/]+){0,3}(?:and|or|,|/)[\s,/]*(?:\w+\s+){0,2}"
)
_NOT = re.compile(r"\b(?:not|no longer)(?: \w+ly)? $")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|appears?|remains?|demonstrates?|shows?)\b")

_GOES_ON = frozenset(
    "stable unchanged persistent mild mildly moderate moderately small minimal minimally tiny left right bilateral "
    "bibasilar possible possibly probable probably likely low new old increased residual chronic known there status "
    "linear patchy streaky scattered cardiomegaly the heart lungs with but improved worsened small-to-moderate "
    "calcified mediastinal cardiac normal clear questionable".split()
)
"""Words after a comma with which something new begins, unless an "or" still follows."""


class _Span(NamedTuple):
    start: int
    end: int
    rule: Rule


def labels_of(report: str) -> dict[str, float]:
    """label -> 1, 0 or -1 of one English report; a label that is absent is not mentioned.

    "No Finding" is 1 where none of the 12 pathologies is positive or uncertain, as CheXpert defines it (support devices
    do not count), and is absent otherwise; so it is where there are no words at all.

    >>> labels_of("Stable cardiomegaly. No pneumothorax or effusion. Opacity may represent pneumonia.")["Pneumonia"]
    -1.0
    """
    found: dict[str, float] = {}
    for _, label, value in said(report):
        if label not in found or _STRENGTH[value] > _STRENGTH[found[label]]:
            found[label] = value
    if re.search(r"\w", report) and not any(found.get(label, 0.0) for label in PATHOLOGIES):
        found["No Finding"] = 1.0
    return {label: found[label] for label in LABELS if label in found}


def said(report: str) -> Iterator[tuple[str, str, float]]:
    """(sentence, label, value) of everything that the sentences of a report say, in order."""
    for sentence in sentences(report):
        for label, value in _read(sentence):
            yield sentence, label, value


def sentences(report: str) -> list[str]:
    """The sentences of a report in lower case, without those below headings that are not read (indication, ...).

    A line ends a sentence where the next begins with a capital, a heading or a mark of a list; a text in capitals alone
    is broken at headings and marks.

    >>> sentences("INDICATION: Cough.\\nFINDINGS: No focal\\nopacity. Heart normal")
    ['no focal opacity.', 'heart normal']
    """
    lines = report.replace("\r\n", "\n").split("\n")
    text = lines[0]
    for line in lines[1:]:
        text += ("\x01 " if not line.strip() or _CAPITALISED.match(line) else " ") + line
    kept: list[str] = []
    begin = 0
    read = True
    skips = rules()["skip"]
    for heading in re.finditer(r"(?:^|(?<=[.!\x01]))\s*(?P<name>[A-Za-z][A-Za-z ()/]{2,40}?)\s*:(?=\s|$)", text):
        if read:
            kept.append(text[begin : heading.start()])
        name = heading["name"].strip().lower()
        read = not any(rule.pattern.fullmatch(name) for rule in skips)
        part = re.fullmatch(
            r"findings?|impressions?|conclusions?|results?|report|opinion|findings and impression", name
        )
        begin = heading.end() if part else heading.start()
    if read:
        kept.append(text[begin:])
    whole = re.sub(r"\s+", " ", "\x01 ".join(kept)).lower()
    whole = re.sub(r"(?:(?<=^)|(?<=[\s\x01]))(?:\(?\d{1,2}[.)]|[*•])(?=\s)", "\x01", whole)
    whole = re.sub(r"\bvs\.", "vs", whole)
    parts = re.split(r"(?<=[.!?;])\s+|\x01|\|", whole)
    return [part.strip() for part in parts if re.search(r"\w", part)]


@lru_cache(maxsize=1 << 16)
def _read(sentence: str) -> tuple[tuple[str, float], ...]:
    """(label, value) of everything that one sentence says."""
    table = rules()
    for rule in table["blank"]:
        sentence = rule.pattern.sub(lambda match: _BLANK * len(match[0]), sentence)
    named = _longest(
        [*_spans(sentence, table["mention"]), *_spans(sentence, table["hint"]), *_spans(sentence, table["denied"])]
    )
    organs = [one for one in _spans(sentence, table["organ"]) if not _overlaps(one, named)]
    organs = _longest(organs)
    if not named and not organs:
        return ()
    cues = _longest([span for kind in _CUES for span in _spans(sentence, table[kind])])
    stops = sorted(_stops(sentence, cues))
    scopes = [(cue.rule.kind, *_scope(sentence, cue, stops)) for cue in cues if cue.rule.kind != "stop"]
    said: list[tuple[str, float]] = []
    values = [_value(one, scopes) for one in named]
    for first in range(len(named) - 1):
        one, other = named[first], named[first + 1]
        whole = values[first] == values[first + 1] == 1 and not sentence[: one.start].rstrip().endswith(_BLANK)
        if whole and one.rule.what != other.rule.what:
            if _EITHER.fullmatch(sentence[one.end : other.start]):
                values[first] = values[first + 1] = -1.0
    for one, value in zip(named, values, strict=True):
        if value is not None:
            said += [(label, value) for label in one.rule.what if label in LABELS]
    said += _organs(sentence, organs, scopes)
    return tuple(said)


_CUES = ("deny before", "deny after", "hedge before", "hedge next", "hedge after", "drop before", "stop")


def _spans(sentence: str, some: Sequence[Rule]) -> list[_Span]:
    return [_Span(*match.span(), rule) for rule in some for match in rule.pattern.finditer(sentence) if match[0]]


def _longest(spans: list[_Span]) -> list[_Span]:
    """In order, the longest of those that overlap."""
    kept: list[_Span] = []
    for span in sorted(spans, key=lambda one: (one.start - one.end, one.start)):
        if not _overlaps(span, kept):
            kept.append(span)
    return sorted(kept, key=lambda one: one.start)


def _overlaps(span: _Span, others: Sequence[_Span]) -> bool:
    return any(span.start < other.end and other.start < span.end for other in others)


def _stops(sentence: str, cues: Sequence[_Span]) -> Iterator[int]:
    """Places where scopes end: stop words, and commas behind which something new begins."""
    for cue in cues:
        if cue.rule.kind == "stop":
            yield cue.start
    for comma in _COMMA.finditer(sentence):
        if comma["next"] in _GOES_ON and not _OR.search(sentence, comma.end()):
            yield comma.start()


def _scope(sentence: str, cue: _Span, stops: Sequence[int]) -> tuple[int, int]:
    """(from, to) of the characters that a cue speaks of."""
    if cue.rule.kind.endswith("after"):
        return max((stop for stop in stops if stop < cue.start), default=0), cue.start
    end = min((stop for stop in stops if stop >= cue.end and "all" not in cue.rule.what), default=len(sentence))
    if cue.rule.kind == "hedge next":
        ends = re.compile(r"\b(?:and|with|in|at|is|are)\b|,(?!\s*(?:\w+ ){0,2}or\b)").search(sentence, cue.end, end)
        end = ends.start() if ends else end
    return cue.end, end


def _value(one: _Span, scopes: Sequence[tuple[str, int, int]]) -> float | None:
    """1, 0, -1, or None for what is left out."""
    if one.rule.kind == "denied":
        return 0.0
    around = {kind.split()[0] for kind, start, end in scopes if start <= one.start and one.end <= end}
    if "deny" in around:
        return 0.0
    if "drop" in around:
        return None
    return -1.0 if "hedge" in around or one.rule.kind == "hint" else 1.0


def _organs(
    sentence: str, organs: Sequence[_Span], scopes: Sequence[tuple[str, int, int]]
) -> Iterator[tuple[str, float]]:
    """(label, value) of what is said of organs: the nearest word behind, else the one directly in front."""
    table = rules()
    said = [one for kind in _SAID for one in _spans(sentence, table[kind])]
    for at, organ in enumerate(organs):
        name, *findings = organ.rule.what
        found = _of_organ(sentence, organs, at, said)
        if found is None or not findings or name not in found.rule.what:
            continue
        value = _SAID[found.rule.kind]
        if _NOT.search(sentence, 0, found.start):
            if found.rule.kind == "normal":
                continue
            value = 0.0
        if value:
            around = {kind.split()[0] for kind, start, end in scopes if start <= found.start and found.end <= end}
            value = 0.0 if "deny" in around else -1.0 if "hedge" in around else value
        for label in findings if value == 0 else findings[:1]:
            yield label, value


_SAID: Mapping[str, float] = {"normal": 0.0, "abnormal": 1.0, "borderline": -1.0}


def _of_organ(sentence: str, organs: Sequence[_Span], at: int, said: Sequence[_Span]) -> _Span | None:
    """What is said of one organ of a sentence."""
    organ = organs[at]
    name = organ.rule.what[0]
    fits = _longest([one for one in said if name in one.rule.what and not _overlaps(one, [organ])])
    for one in reversed(fits):
        if one.end <= organ.start and re.fullmatch(r"\s+(?:\w+\s+){0,1}", sentence[one.end : organ.start]):
            return one
    for one in fits:
        if one.start >= organ.end:
            between = sentence[organ.end : one.start]
            later = [other for other in organs[at + 1 :] if other.start < one.start]
            if later and _VERB.search(sentence, organ.end, later[0].start):
                break
            if _BLANK in between or re.search(
                r"\b(?:but|however|although|which|with|without|no(?! longer))\b", between
            ):
                if not re.search(r"\bbut\b", between):
                    break
            return one
    if at and _JOINED.fullmatch(sentence[organs[at - 1].end : organ.start]):
        before = _of_organ(sentence, organs, at - 1, said)
        if before is not None and before.end <= organs[at - 1].start and name in before.rule.what:
            return before
    return None
