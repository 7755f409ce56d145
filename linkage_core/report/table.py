"""The table of sections, in the order of the document, and the function that makes a report from what was found."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

import linkage_core
from linkage_core.report import about, measured, protection
from linkage_core.report.found import Found
from linkage_core.report.names import OPTIONAL
from linkage_core.report.tree import Block, Report, Section, Text
from linkage_core.validate import by_name, one_of


@dataclass(frozen=True)
class Row:
    """One section: make: what was found -> its blocks, or the sentence that says why there are none. `always`: it
    cannot be left out."""

    name: str
    title: str
    make: Callable[[Found], list[Block] | str]

    @property
    def always(self) -> bool:
        return self.name not in OPTIONAL


SECTIONS = by_name(
    "section",
    Row("asked", "What was asked", measured.asked),
    Row("answer", "The answer", measured.answer),
    Row("cohort", "Cohort and models", measured.cohort),
    Row("attackers", "Attackers", measured.attackers),
    Row("curve", "By the number of reports", measured.curve),
    Row("decoys", "Decoys with the same findings", measured.decoys),
    Row("missing-match", "If the right report may be missing", measured.missing_match),
    Row("exposure", "Who is exposed", measured.exposure),
    Row("ceilings", "Ceilings", protection.ceilings),
    Row("mitigations", "Mitigations", protection.mitigations),
    Row("releases", "Releases", protection.releases),
    Row("usefulness", "Usefulness", protection.usefulness),
    Row("cannot-tell", "What this report cannot tell", about.cannot_tell),
    Row("questions", "Which section answers which question", lambda found: []),
    Row("provenance", "Provenance", about.provenance),
    Row("repeat", "To repeat it", about.repeat),
    Row("sign", "To be signed", about.sign),
)


def report(found: Found, made: datetime.date) -> Report:
    """The content of a report, from what was found and a date. InputError for a section that there is not."""
    wanted = OPTIONAL if found.asked.sections is None else found.asked.sections
    for name in wanted:
        one_of("section", name, OPTIONAL)
    sections = []
    for row in SECTIONS.values():
        if not row.always and row.name not in wanted:
            continue
        blocks = row.make(found)
        there = not isinstance(blocks, str)
        sections.append(
            Section(row.name, row.title, (Text(blocks, "gap"),) if isinstance(blocks, str) else tuple(blocks), there)
        )
    listed = [(one.name, one.title, one.there) for one in sections]
    sections = [
        Section(one.name, one.title, tuple(about.questions(found, listed))) if one.name == "questions" else one
        for one in sections
    ]
    return Report(
        title="How easily are these images linked to their reports?",
        cohort=found.entry.cohort,
        synthetic=found.entry.synthetic,
        made=made.isoformat(),
        version=linkage_core.__version__,
        headline=measured.headline(found),
        sections=tuple(sections),
    )
