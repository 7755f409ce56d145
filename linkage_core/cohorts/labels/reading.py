"""A report -> the four values of the 14 labels, by the table of rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.rules import Rule, rules

PATHOLOGIES = tuple(label for label in LABELS if label not in ("No Finding", "Support Devices"))
"""The 12 findings of which none may be there, not even as uncertain, for "No Finding"."""

_STRENGTH = {0.0: 0, -1.0: 1, 1.0: 2}
_SAID: Mapping[str, float] = {"normal": 0.0, "abnormal": 1.0, "borderline": -1.0}
_CUES = ("deny before", "deny after", "hedge before", "hedge next", "hedge after", "drop before", "stop")

LONGEST = 2_000
"""Characters of a sentence at most; so long is none that has an end."""

# How a report is cut into sentences. _END stands for the end of one where there is no mark of it.
_END, _TAKEN_OUT = "\x01", "\x00"
_NEW_LINE = re.compile(r"[ \t]*(?:[A-Z][a-z]|[A-Za-z][A-Za-z /]{1,30}:|[-*•] |\(?\d{1,2}[.)]\s)")
_HEADING = re.compile(rf"(?:^|(?<=[.!{_END}]))\s*(?P<name>[A-Za-z][A-Za-z ()/]{{2,40}}?)\s*:(?=\s|$)")
_PART = re.compile(r"findings?|impressions?|conclusions?|results?|report|opinion|findings and impression")
_ITEM = re.compile(rf"(?:(?<=^)|(?<=[\s{_END}]))(?:\(?\d{{1,2}}[.)]|[*•])(?=\s)")
_PLAIN = (
    (re.compile(r"\bvs\."), "vs"),
    (re.compile(r"\?(?=\w)"), "question of "),
    (re.compile(r"(?<=\w)\?"), " (?)."),
)
_CUT = re.compile(rf"(?<=[.!?;])\s+|{_END}|\|")

# How words hang together.
_COMMA = re.compile(r",\s*")
_OR = re.compile(r"\b(?:or|nor)\b")
_NEXT = re.compile(r"\b(?:and|with|in|at|is|are)\b|,(?!\s*(?:\w+ ){0,2}or\b)")
_EITHER = re.compile(r"\s*,?\s*(?:\w+[\s-]){0,4}?(?:or|versus|vs|and/or|/)\s*(?:\w+[\s-]){0,4}?")
_LISTED = re.compile(r"[\s,/]*(?:\w+[\s,/]+){0,3}(?:and|or|,|/)[\s,/]*(?:\w+\s+){0,2}")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|appears?|remains?|demonstrates?|shows?)\b")
_NOT = re.compile(r"\b(?:not|no longer)(?: \w+ly)? $")
_TURNS = re.compile(rf"\b(?:however|although|which|with|without|no(?! longer))\b|{_TAKEN_OUT}")


class _Span(NamedTuple):
    start: int
    end: int
    rule: Rule


class _Scope(NamedTuple):
    what: str  # deny, hedge or drop
    start: int
    end: int


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
    first, *lines = report.replace("\r\n", "\n").split("\n")
    text = first + "".join((f"{_END} " if not line.strip() or _NEW_LINE.match(line) else " ") + line for line in lines)
    kept: list[str] = []
    begin, read = 0, True
    for heading in _HEADING.finditer(text):
        if read:
            kept.append(text[begin : heading.start()])
        name = heading["name"].strip().lower()
        read = not any(rule.pattern.fullmatch(name) for rule in rules()["skip"])
        begin = heading.end() if _PART.fullmatch(name) else heading.start()
    if read:
        kept.append(text[begin:])
    whole = re.sub(r"\s+", " ", f"{_END} ".join(kept)).lower()
    for pattern, plain in _PLAIN:
        whole = pattern.sub(plain, whole)
    parts = _CUT.split(_ITEM.sub(_END, whole))
    return [piece.strip() for part in parts for piece in _pieces(part.strip()) if re.search(r"\w", piece)]


def _pieces(sentence: str) -> Iterator[str]:
    """A sentence in pieces of LONGEST characters at most, cut between words."""
    while len(sentence) > LONGEST:
        cut = sentence.rfind(" ", 0, LONGEST)
        cut = cut if cut > 0 else LONGEST
        yield sentence[:cut]
        sentence = sentence[cut:]
    yield sentence


@lru_cache(maxsize=1 << 16)
def _read(sentence: str) -> tuple[tuple[str, float], ...]:
    """(label, value) of everything that one sentence says."""
    table = rules()
    for rule in table["blank"]:
        sentence = rule.pattern.sub(lambda match: _TAKEN_OUT * len(match[0]), sentence)
    named = _longest(_spans(sentence, "mention", "hint", "denied"))
    organs = _longest([one for one in _spans(sentence, "organ") if not _overlaps(one, named)])
    if not named and not organs:
        return ()
    scopes = _scopes(sentence)
    values = [_value(one, scopes) for one in named]
    for at, (one, other) in enumerate(pairwise(named)):
        if (
            values[at] == values[at + 1] == 1
            and one.rule.what != other.rule.what
            and _EITHER.fullmatch(sentence, one.end, other.start)
            and not sentence[: one.start].rstrip().endswith(_TAKEN_OUT)  # "no change in edema or effusion"
        ):
            values[at] = values[at + 1] = -1.0  # "atelectasis or pneumonia"
    found = [
        (label, value) for one, value in zip(named, values, strict=True) if value is not None for label in one.rule.what
    ]
    return (*found, *_of_organs(sentence, organs, named, scopes))


# ---------------------------------------------------------------------------------------------------- words and scopes


def _spans(sentence: str, *kinds: str) -> list[_Span]:
    """Where the rules of these kinds find words."""
    table = rules()
    return [
        _Span(*match.span(), rule)
        for kind in kinds
        for rule in table[kind]
        for match in rule.pattern.finditer(sentence)
        if match[0]
    ]


def _longest(spans: Iterable[_Span]) -> list[_Span]:
    """In order, the longest of those that overlap."""
    kept: list[_Span] = []
    for span in sorted(spans, key=lambda one: (one.start - one.end, one.start)):
        if not _overlaps(span, kept):
            kept.append(span)
    return sorted(kept, key=lambda one: one.start)


def _overlaps(span: _Span, others: Sequence[_Span]) -> bool:
    return any(span.start < other.end and other.start < span.end for other in others)


def _scopes(sentence: str) -> list[_Scope]:
    """Every stretch of a sentence that is denied, hedged or left out."""
    cues = _longest(_spans(sentence, *_CUES))
    stops = [cue.start for cue in cues if cue.rule.kind == "stop"]
    for comma in _COMMA.finditer(sentence):
        begins = any(rule.pattern.match(sentence, comma.end()) for rule in rules()["stop comma"])
        if begins and not _OR.search(sentence, comma.end()):
            stops.append(comma.start())
    return [_scope(sentence, cue, stops) for cue in cues if cue.rule.kind != "stop"]


def _scope(sentence: str, cue: _Span, stops: Sequence[int]) -> _Scope:
    """The characters that a cue speaks of."""
    what, where = cue.rule.kind.split()
    if where == "after":
        return _Scope(what, max((stop for stop in stops if stop < cue.start), default=0), cue.start)
    ends = () if "all" in cue.rule.what else (stop for stop in stops if stop >= cue.end)
    end = min(ends, default=len(sentence))
    if where == "next" and (near := _NEXT.search(sentence, cue.end, end)):
        end = near.start()
    return _Scope(what, cue.end, end)


def _around(span: _Span, scopes: Sequence[_Scope]) -> set[str]:
    return {scope.what for scope in scopes if scope.start <= span.start and span.end <= scope.end}


def _value(one: _Span, scopes: Sequence[_Scope]) -> float | None:
    """1, 0, -1, or None for what is left out."""
    around = _around(one, scopes)
    if "deny" in around:
        return 0.0
    if "drop" in around or one.rule.kind == "denied":
        return None
    return -1.0 if "hedge" in around or one.rule.kind == "hint" else 1.0


# -------------------------------------------------------------------------------------------------------------- organs


def _of_organs(
    sentence: str, organs: Sequence[_Span], named: Sequence[_Span], scopes: Sequence[_Scope]
) -> Iterator[tuple[str, float]]:
    """(label, value) of what is said of the organs of a sentence; what stands behind a finding is said of that."""
    words = _spans(sentence, *_SAID) if organs else []
    for at, organ in enumerate(organs):
        findings = organ.rule.what[1:]
        word = _word_for(sentence, organs, at, words)
        if word is None or not findings or any(organ.end <= one.start < word.start for one in named):
            continue
        value = _SAID[word.rule.kind]
        if _NOT.search(sentence, 0, word.start):
            if value == 0:
                continue  # "not clear" does not say what there is
            value = 0.0
        elif value:
            around = _around(word, scopes)
            value = 0.0 if "deny" in around else -1.0 if "hedge" in around else value
        for label in findings if value == 0 else findings[:1]:
            yield label, value


def _word_for(sentence: str, organs: Sequence[_Span], at: int, words: Sequence[_Span]) -> _Span | None:
    """What is said of one organ: the word directly in front, else the nearest behind, else that for the one before in
    a list ("normal heart size and mediastinum")."""
    organ, name = organs[at], organs[at].rule.what[0]
    fits = _longest([one for one in words if name in one.rule.what and not _overlaps(one, [organ])])
    for one in reversed(fits):
        if one.end <= organ.start and re.fullmatch(r"\s+(?:\w+\s+)?", sentence[one.end : organ.start]):
            return one
    behind = next((one for one in fits if one.start >= organ.end), None)
    if behind is not None:
        between = [other for other in organs[at + 1 :] if other.start < behind.start]
        turned = _TURNS.search(sentence, organ.end, behind.start) and " but " not in sentence[organ.end : behind.start]
        if not turned and not (between and _VERB.search(sentence, organ.end, between[0].start)):
            return behind
    if at and _LISTED.fullmatch(sentence, organs[at - 1].end, organ.start):
        before = _word_for(sentence, organs, at - 1, words)
        if before is not None and before.end <= organs[at - 1].start and name in before.rule.what:
            return before
    return None
