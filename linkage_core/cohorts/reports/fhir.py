"""FHIR R4: DiagnosticReport with ImagingStudy and Observation, from Bulk Data NDJSON or a bundle.

A million lines are read by a few lines of our own, which take what is used and nothing else; what was used of them is
then checked by fhir.resources (R4B, whose DiagnosticReport, ImagingStudy and Observation are those of R4).
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.manifest import opened
from linkage_core.cohorts.reports.base import (
    RANKS,
    WITHDRAWN,
    Growing,
    Reports,
    none_rejected,
    places,
    rejected,
    reports_of,
)
from linkage_core.errors import InputError
from linkage_core.progress import Steps

MAX_BUNDLE_BYTES = 1 << 28
MAX_LINE_BYTES = 1 << 26
DICOM_UID = "urn:dicom:uid"
REPORT, STUDY, OBSERVATION = "DiagnosticReport", "ImagingStudy", "Observation"
OLD = {REPORT: ("context", "codedDiagnosis", "image"), STUDY: ("uid", "accession", "availability", "context")}
"""Elements that STU3 has and R4 has not."""
NEW = {REPORT: ("study", "supportingInfo", "composition"), STUDY: ()}
"""Elements that R5 has and R4 has not."""
_TAG = re.compile(r"<[a-z/!?][^<>]*>", re.IGNORECASE)  # "<5 mm" is none
_BREAK = re.compile(r"<(?:br|/p|/div|/li|/tr|/h\d)\b[^<>]*>", re.IGNORECASE)


def read_all(paths: Sequence[Path], progress: Steps | None = None) -> Reports:
    """Every DiagnosticReport of the files, with the numbers of its study where they can be found.

    The text is `presentedForm` (text/plain, or text/html without its tags); without one, the `result` Observations
    under FINDINGS and `conclusion` under IMPRESSION. The study is that of `imagingStudy`, found among the ImagingStudy
    resources of all files; accession numbers are its identifiers of type ACSN, or those of the report.

    Raises InputError naming file and line for what is no JSON, no FHIR, or of another version of it.
    """
    found = Growing("item", "accession", "report", "rank", "line", "file", "study_ref", "result_ref", "conclusion")
    studies = Growing("key", "study", "accession")
    observed: dict[str, str] = {}
    notes: dict[str, int] = {}
    withdrawn: list[str] = []
    for number, path in enumerate(paths):
        for line, name, resource in _resources(path):
            kind = resource.get("resourceType")
            if kind in OLD:
                _refuse_others(resource, str(kind), path, line)
            try:
                if kind == REPORT:
                    item = f"{REPORT}/{resource.get('id') or f'{path.name} {line}'}"
                    status = str(resource.get("status", ""))
                    if status in WITHDRAWN:
                        withdrawn.append(item)
                        continue
                    study, accession = _refs(resource)
                    results = " ".join(_ref(one) for one in resource.get("result", ()))
                    text, conclusion = _presented(resource), str(resource.get("conclusion", "")).strip()
                    found.add(item, accession, text, RANKS.get(status, 0), line, number, study, results, conclusion)
                elif kind == STUDY:
                    numbers = _numbers(resource)
                    for key in _names(name, resource, STUDY):
                        studies.add(key, *numbers)
                elif kind == OBSERVATION:
                    if text := _said(resource):
                        for key in _names(name, resource, OBSERVATION):
                            if observed.setdefault(key, text) != text:
                                raise _two_of(OBSERVATION)
                else:
                    notes[str(kind)] = notes.get(str(kind), 0) + 1
            except (TypeError, AttributeError, KeyError, ValueError) as error:
                raise InputError(
                    f"{path}, resource {line}: a {kind} of another shape than FHIR R4 has it.", "Export it again as R4."
                ) from error
            if progress is not None and line % 20_000 == 0:
                progress(line, 0)
    return _whole(found.table(), studies.table(), observed, withdrawn, notes)


def _whole(
    table: pd.DataFrame,
    studies: pd.DataFrame,
    observed: Mapping[str, str],
    withdrawn: list[str],
    others: Mapping[str, int],
) -> Reports:
    """References resolved, texts put together."""
    gaps = 0
    lost = [rejected(withdrawn, "withdrawn-report", "Its status says that it does not count.", "Nothing to do.")]
    if len(table):
        refs = table["study_ref"]
        first = places(studies["key"], studies["key"])
        again = first != np.arange(len(studies))
        if not studies[again].reset_index(drop=True).equals(studies.iloc[first[again]].reset_index(drop=True)):
            raise _two_of(STUDY)
        place = places(refs, studies["key"])
        itself = refs.str.startswith("urn:oid:")
        study, second = (
            pd.Series(studies[name].array.take(place, allow_fill=True), dtype="str").fillna("")
            for name in ("study", "accession")
        )
        table["study"] = study.where(~itself, refs.str.removeprefix("urn:oid:"))
        table["accession"] = table["accession"].where(table["accession"] != "", second)
        bare = (table["report"] == "").to_numpy()
        if bare.any():
            rows = zip(table.loc[bare, "result_ref"], table.loc[bare, "conclusion"], strict=True)
            texts = pd.Series([_composed(refs, said, observed) for refs, said in rows], index=table.index[bare])
            table.loc[bare, "report"] = texts.astype("str")
            gaps = sum(any(ref not in observed for ref in refs.split()) for refs in table.loc[bare, "result_ref"])
        empty = table["report"] == ""
        lost.append(
            rejected(
                table.loc[empty, "item"],
                "empty-report",
                "It holds no text: no presentedForm of plain text, conclusion or observation that was found.",
                "Export the text itself; PDF and links are not read.",
            )
        )
        table = table.drop(columns=["study_ref", "result_ref", "conclusion"])
        if empty.any():  # a copy of all texts is not made for nothing
            table = table[~empty].reset_index(drop=True)
    notes = [f"{n:,} FHIR resources of type {kind[:40]}: not used" for kind, n in sorted(others.items())]
    if gaps:
        notes.append(f"{gaps:,} FHIR reports lack some of their Observations, which are not here or hold no words")
    kept = [part for part in lost if len(part)]
    return reports_of(table, pd.concat(kept, ignore_index=True) if kept else none_rejected(), notes)


def _two_of(kind: str) -> InputError:
    return InputError(
        f"The FHIR files have two {kind} resources of one id that differ: it is not known which one a report means.",
        "Give the export of one server at a time, in one version.",
    )


def _refs(report: Mapping[str, Any]) -> tuple[str, str]:
    """(reference to the study, or its number as urn:oid:..., accession number) of a report."""
    accession = _accession(report.get("identifier", ()))
    for one in report.get("basedOn", ()):
        accession = accession or _accession([one["identifier"]] if "identifier" in one else ())
    for one in report.get("imagingStudy", ()):
        ref = _ref(one)
        if ref.startswith("#"):
            inside: Mapping[str, Any] = next((c for c in report.get("contained", ()) if f"#{c.get('id')}" == ref), {})
            study, number = _numbers(inside)
            return f"urn:oid:{study}" if study else "", accession or number
        if ref:
            return ref, accession
        if "identifier" in one and (uid := _uid(one["identifier"])):
            return f"urn:oid:{uid}", accession
    return "", accession


def _ref(one: Mapping[str, Any]) -> str:
    """What a reference points to: TYPE/ID, without the server and the version, or the URN that it is.

    >>> _ref({"reference": "https://fhir.example/r4/ImagingStudy/7/_history/2"})
    'ImagingStudy/7'
    """
    said = str(one.get("reference", "")).partition("/_history/")[0]
    return "/".join(said.split("/")[-2:]) if "/" in said and not said.startswith("urn:") else said


def _names(full_url: str, resource: Mapping[str, Any], kind: str) -> set[str]:
    """What others may call a resource in their references."""
    named = {f"{kind}/{resource['id']}"} if resource.get("id") else set()
    return named | ({_ref({"reference": full_url})} if full_url else set())


def _numbers(study: Mapping[str, Any]) -> tuple[str, str]:
    """(StudyInstanceUID, accession number) of an ImagingStudy."""
    identifiers = study.get("identifier", ())
    return next((uid for one in identifiers if (uid := _uid(one))), ""), _accession(identifiers)


def _uid(identifier: Mapping[str, Any]) -> str:
    value = str(identifier.get("value", ""))
    if identifier.get("system") == DICOM_UID or value.startswith("urn:oid:"):
        return value.removeprefix("urn:oid:").strip()
    return ""


def _accession(identifiers: Iterable[Mapping[str, Any]]) -> str:
    """The identifier of type ACSN (HL7 table 0203)."""
    for one in identifiers:
        if any(coding.get("code") == "ACSN" for coding in one.get("type", {}).get("coding", ())):
            return str(one.get("value", "")).strip()
    return ""


def _presented(report: Mapping[str, Any]) -> str:
    """The text of the first attachment that is text."""
    for form in report.get("presentedForm", ()):
        kind, _, more = str(form.get("contentType", "")).lower().partition(";")
        if kind.strip() not in ("text/plain", "text/html") or "data" not in form:
            continue
        try:
            data = base64.b64decode(form["data"], validate=False)
            text = data.decode("latin-1" if "8859-1" in more else "utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("presentedForm") from error
        if kind.strip() == "text/html":
            text = html.unescape(_TAG.sub("", _BREAK.sub("\n", text)))
        if text.strip():
            return text.strip()
    return ""


def _said(observation: Mapping[str, Any]) -> str:
    """What an Observation says in words."""
    coded = observation.get("valueCodeableConcept", {})
    coding: Mapping[str, Any] = next(iter(coded.get("coding", ())), {})
    said = observation.get("valueString") or coded.get("text") or coding.get("display") or ""
    notes = [str(note["text"]) for note in observation.get("note", ()) if note.get("text")]
    return "\n".join(part for part in (str(said).strip(), *notes) if part)


def _composed(refs: str, conclusion: str, observed: Mapping[str, str]) -> str:
    """A report without a presented form: what was observed, and what was concluded."""
    findings = "\n".join(observed[ref] for ref in refs.split() if ref in observed)
    parts = [f"FINDINGS: {findings}"] * bool(findings) + [f"IMPRESSION: {conclusion}"] * bool(conclusion)
    return "\n".join(parts)


# -------------------------------------------------------------------------------------------------------------- files


def _resources(path: Path, wanted: Container[int] | None = None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(number, full URL, resource) of every resource of a file, or of those `wanted`: one a line, or those of a bundle.
    Numbers are of lines, or of entries."""
    try:
        with opened(path) as file:
            first = file.readline(MAX_LINE_BYTES)
            whole = _parsed(first, path, 1) if first.strip().endswith(b"}") else None
            if whole is not None and whole.get("resourceType") != "Bundle":
                yield 1, "", whole
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 2):
                    if (wanted is None or number in wanted) and line.strip():
                        yield number, "", _parsed(line, path, number)
                return
            rest = b"" if whole is not None else file.read(MAX_BUNDLE_BYTES)
            if len(first) + len(rest) > MAX_BUNDLE_BYTES:
                raise InputError(f"{path} is a bundle of more than {MAX_BUNDLE_BYTES:,} bytes.", "Give NDJSON.")
            bundle = whole if whole is not None else _parsed(first + rest, path, 0)
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Copy it again from its source.") from error
    if bundle.get("resourceType") != "Bundle":
        yield 1, "", bundle
        return
    for number, entry in enumerate(bundle.get("entry", ()), 1):
        if isinstance(entry, dict) and isinstance(entry.get("resource"), dict):
            yield number, str(entry.get("fullUrl", "")), entry["resource"]


def _parsed(data: bytes, path: Path, line: int) -> dict[str, Any]:
    where = f"{path}, line {line}," if line else f"{path}"
    if data[:200].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<bundle")):
        raise InputError(f"{where} is a web page or XML.", "FHIR is read as JSON: NDJSON or a bundle.")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is no JSON; it may have been cut off.", "Export it again.") from None
    if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
        raise InputError(f"{where} is no FHIR resource.", "Each line, or each entry of a bundle, is one.")
    return found


def _refuse_others(resource: Mapping[str, Any], kind: str, path: Path, number: int) -> None:
    for elements, version in ((OLD, "STU3"), (NEW, "R5")):
        for name in elements[kind]:
            if name in resource:
                raise InputError(
                    f"{path}, resource {number}: a {kind} with {name!r} is FHIR {version}.",
                    "R4 is read: ask for an export as FHIR R4 (4.0.1).",
                )


# -------------------------------------------------------------------------------------------------------------- check


def check(paths: Sequence[Path], used: pd.DataFrame, progress: Steps | None = None) -> None:
    """Check the reports that are used (their `file` and `line`) by the library; InputError naming the first that fails,
    its file, place and element, and nothing of its content."""
    try:
        from fhir.resources.R4B.diagnosticreport import DiagnosticReport
        from pydantic import ValidationError
    except ImportError as error:
        raise InputError(
            "FHIR needs fhir.resources, which is not installed.",
            'Install the extra: pip install "linkage-explorer[dicomweb]", or requirements-dicomweb.txt of a checkout.',
        ) from error
    done = 0
    for number, lines in used.groupby("file")["line"]:
        path, wanted = paths[int(str(number))], set(lines)
        for line, _, resource in _resources(path, wanted):
            if line in wanted:
                try:
                    DiagnosticReport.model_validate(resource)
                except ValidationError as error:
                    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
                    where = ".".join(str(part) for part in first["loc"])
                    raise InputError(
                        f"{path}, resource {line}: a DiagnosticReport that is not valid FHIR R4, at {where!r} "
                        f"({first['type']}).",
                        "Export it again as FHIR R4 (4.0.1).",
                    ) from None
                done += 1
                if progress is not None and done % 100 == 0:
                    progress(done, len(used))
