"""Sections about the report itself: what it cannot tell, which question it answers, how to repeat and sign it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from linkage_core.report.found import Found
from linkage_core.report.tree import Blanks, Block, Column, Commands, Listed, Row, Table, Text
from linkage_core.store.files import versions

WP216 = "WP216"
HIPAA = "45 CFR 164.514(b)(1)"


@dataclass(frozen=True)
class Question:
    """What somebody who decides is asked, by which source; `sections` hold the evidence, none where there is none."""

    source: str
    question: str
    sections: tuple[str, ...]
    note: str = ""


QUESTIONS = (
    Question(
        WP216,
        "Linkability: can records about one person be linked, here an image with its report?",
        ("answer", "curve", "decoys", "missing-match"),
    ),
    Question(
        WP216,
        "Singling out: can one person be set apart?",
        ("exposure",),
        "for this attack alone: whose images stand out",
    ),
    Question(WP216, "Inference: can something be concluded about a person?", (), "not examined here"),
    Question(
        WP216,
        "Which means are likely reasonably to be used, by anybody?",
        ("asked", "attackers"),
        "which of them are likely is for whoever decides",
    ),
    Question(
        WP216,
        "Which risk remains, and when is it looked at again?",
        ("mitigations", "releases", "cannot-tell"),
        "the date to look again is entered when signing",
    ),
    Question(
        HIPAA,
        "(i) Are generally accepted statistical and scientific principles and methods applied?",
        ("asked", "attackers", "provenance"),
    ),
    Question(
        HIPAA,
        "(i) How great is the risk that an anticipated recipient could use it, alone or with other reasonably "
        "available information, to identify somebody?",
        ("answer", "curve", "missing-match", "ceilings"),
        "evidence on one way to do so; the determination is the expert's",
    ),
    Question(
        HIPAA,
        "(ii) Are methods and results of the analysis documented?",
        ("cohort", "curve", "provenance", "repeat"),
    ),
)


def cannot_tell(found: Found) -> list[Block]:
    """Its limits, in sentences."""
    items = [
        "What an attacker could do who is not listed. Measured figures are lower bounds: a better attacker may do "
        "better.",
        "How it would be with images and reports of another hospital, or with other patients than these.",
        "How likely the right report really is in somebody's pool.",
        "Who is behind a report. A link is not a name: what follows from it depends on what else somebody holds.",
        "What else can be read from images or reports: burnt-in text, implants, rare findings, dates.",
    ]
    if found.entry.labels_note()["source"] != "own" and found.entry.labelled:
        items.append("Whether the labels are right: some were read from the reports by rules.")
    if found.entry.caution:
        items.insert(0, f"A risk. {found.entry.caution}")
    if found.entry.synthetic:
        items.insert(0, "Anything about real patients: nobody in this cohort is real.")
    return [
        Listed(tuple(items)),
        Text("It is evidence for the person who decides, and no verdict: no figure here says that data may leave."),
    ]


def questions(found: Found, there: Sequence[tuple[str, str, bool]]) -> list[Block]:
    """Which section answers which question; there: (name, title, whether it has figures) of all sections."""
    titles = {name: (number, title, has) for number, (name, title, has) in enumerate(there, 1)}

    def where(question: Question) -> str:
        named = [titles[name] for name in question.sections if name in titles]
        return "; ".join(
            f"{number} {title}{'' if has else ' (not there for this cohort)'}" for number, title, has in named
        )

    rows: tuple[Row, ...] = tuple(
        {
            "source": one.source,
            "question": one.question,
            "answered": where(one) + (f" ({one.note})" if where(one) and one.note else one.note),
        }
        for one in QUESTIONS
    )
    columns = (Column("source", "source"), Column("question", "it asks"), Column("answered", "evidence in section"))
    return [
        Text(
            "WP216 is Opinion 05/2014 on Anonymisation Techniques of the Article 29 Working Party; 45 CFR "
            "164.514(b)(1) is the determination by an expert under the HIPAA Privacy Rule. Their questions are "
            "shortened here. This report holds evidence on some of them; whether it is enough is decided by whoever "
            "signs."
        ),
        Table("questions", "Which section answers which question", columns, rows),
    ]


def provenance(found: Found) -> list[Block]:
    """Versions, seeds and inputs."""
    said = found.first.study.provenance()
    facts = {
        "made with": f"Linkage Explorer {said['versions']['linkage-explorer']}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version}" for name, version in sorted(versions().items())),
        "embedded with": ", ".join(
            f"{name} {version}" for name, version in sorted(found.entry.manifest.get("versions", {}).items())
        ),
        "seed of intervals and halves": str(found.asked.seed),
        "intervals": said["interval"],
        "draws of patients": f"{said['draws']:,}",
        "ties": said["ties"],
        "pool": said["pool"],
        "counts made from": said["inputs"],
        "left out on request": ", ".join(_not_wanted(found)),
    }
    rows: tuple[Row, ...] = tuple({"fact": name, "value": value} for name, value in facts.items() if value)
    return [Table("provenance", "How it was made", (Column("fact", ""), Column("value", "")), rows)]


def _not_wanted(found: Found) -> list[str]:
    from linkage_core.report.table import SECTIONS

    wanted = found.asked.sections
    return (
        [] if wanted is None else [row.title for row in SECTIONS.values() if not row.always and row.name not in wanted]
    )


def repeat(found: Found) -> list[Block]:
    """The command that repeats the report, and those that check single figures."""
    targets = [f"{found.entry.cohort}/{one.name}" for one in found.models]
    sizes = ",".join(map(str, found.sizes))
    checks = [f"linkage audit {shlex.quote(targets[0].split('/')[0])} --pool-size {sizes} --k 1"]
    checks.append(f"linkage verify {shlex.quote(found.entry.cohort)}")
    return [
        Text("The same figures on the same files, but for the date:"),
        Commands((found.asked.command,) if found.asked.command else ()),
        Text("The curve by itself, and whether every file is what was written:"),
        Commands(tuple(checks)),
    ]


def sign(found: Found) -> list[Block]:
    """Left blank: the report decides nothing."""
    return [
        Text("To be filled in by the person who decides. Nothing above does so."),
        Blanks(("Name", "Role", "Date", "Decision", "Reasons", "To be looked at again by")),
    ]
