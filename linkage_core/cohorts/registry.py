"""The kinds of cohort there are, and the way back from a stored cohort to its images and texts."""

from __future__ import annotations

import difflib
import inspect
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkage_core import confirmed
from linkage_core.cohorts import chexpert_plus, covid_chestxray, files, folder, mimic_cxr, openi, padchest
from linkage_core.cohorts.base import Cohort, text_key
from linkage_core.cohorts.dicomweb import cohort as dicomweb
from linkage_core.cohorts.labels.cohort import FROM_TEXT, with_text_labels
from linkage_core.errors import ImageError, InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.images.read import read_below
from linkage_core.progress import Steps

FILE_KINDS: dict[str, Callable[..., Cohort]] = {
    folder.KIND: folder.read,
    covid_chestxray.KIND: covid_chestxray.read,
    openi.KIND: openi.read,
    mimic_cxr.KIND: mimic_cxr.read,
    mimic_cxr.KIND_JPG: mimic_cxr.read_jpg,
    chexpert_plus.KIND: chexpert_plus.read,
    padchest.KIND: padchest.read,
}
WEB_KINDS: dict[str, Callable[..., Cohort]] = {dicomweb.KIND: dicomweb.read}
"""Kinds whose root is an address: with `linkage pull`, all that opens a connection."""
PHANTOM_SITES = {"phantom": "A", "phantom-site-b": "B"}
KINDS = (*FILE_KINDS, *WEB_KINDS, *PHANTOM_SITES)


def open_cohort(
    kind: str,
    root: Path | str | None,
    *,
    seed: int | None = None,
    section: str = "both",
    check_images: bool = False,
    progress: Steps | None = None,
    **options: Any,
) -> Cohort:
    """Read and check one cohort.

    `kind` is one of KINDS. `seed` fixes the split (0 unless given; of the phantom: the whole population, the shipped
    one unless given), `section` what of each
    report is read; `options` are the kind's own (`manifest` for folder; `splits`, `fractions`, `labels` for the
    published collections; `split`, `patients` for the phantom). `labels` "from-text" is for every kind: what has no
    labels of its own gets them from its report (cohorts.labels). With
    `check_images` every image is decoded once, and those that fail become rejects; `progress` is called with (done,
    total), of headers too where they are read. The phantom needs no root and has no sections.

    Raises InputError for an unknown kind, naming the nearest, and for a cohort that cannot be read as a whole.
    """
    if kind in WEB_KINDS:
        if root is None:
            raise InputError(f"A {kind} cohort needs an address.", "Give one such as https://pacs.example/dicom-web.")
        reader: Callable[..., Cohort] = WEB_KINDS[kind]
        arguments: dict[str, Any] = {"root": str(root), "seed": seed or 0, "section": section}
    elif kind in FILE_KINDS:
        reader = FILE_KINDS[kind]
        arguments = {"root": None if root is None else Path(root), "seed": seed or 0, "section": section}
    elif kind in PHANTOM_SITES:
        from linkage_core.cohorts import phantom  # the only kind that needs a renderer

        reader, arguments = phantom.read, {"site": PHANTOM_SITES[kind]}
        if seed is not None:
            arguments["seed"] = seed
    else:
        near = difflib.get_close_matches(str(kind), KINDS, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"There is no cohort kind {kind!r}.{hint}", f"The kinds are: {', '.join(KINDS)}.")
    from_text = options.get("labels") == FROM_TEXT  # of every kind, and none of the readers' business
    if from_text:
        del options["labels"]
    takes = inspect.signature(reader).parameters
    for name in options:
        if name not in takes:
            others = [
                kind for kind, one in (FILE_KINDS | WEB_KINDS).items() if name in inspect.signature(one).parameters
            ]
            remedy = f"Leave it out; these have it: {', '.join(others)}." if others else "Leave it out."
            if name == "labels":
                remedy = f"Leave it out, or give {FROM_TEXT}. {remedy}"
            raise InputError(f"A {kind} cohort has no choice of {name}.", remedy)
    if progress is not None and "progress" in takes:
        arguments["progress"] = progress
    cohort = reader(**arguments, **options)
    if from_text:
        cohort = with_text_labels(cohort)
    return files.check_images(cohort, progress) if check_images else cohort


@dataclass
class Source:
    """Images and texts of a cohort that is in the store, as far as they are still at hand.

    `cohort` is the manifest's note of it; `reports` study ids with their texts, None until they are looked for.
    """

    cohort: Mapping[str, Any]
    reports: Mapping[str, str] | None = None

    def read_image(self, row: Any) -> Radiograph:
        """The pixels of one record (a mapping with record_id and image); ImageError where they are not at hand."""
        kind, root = self.cohort["kind"], self.cohort.get("root")
        if kind in PHANTOM_SITES:
            from linkage_core.cohorts import phantom

            try:
                return phantom.image_of(str(row["record_id"]), seed=_seed(self.cohort))
            except InputError as error:
                raise ImageError("missing-file", error.what, error.remedy) from error
        if not root or not Path(root).is_dir():
            if kind in WEB_KINDS and not root:
                raise ImageError(
                    "missing-file",
                    "Its images lie in an archive, and no page opens a connection.",
                    "To see them, embed the cohort with --keep DIR.",
                )
            if not root:
                raise ImageError(
                    "missing-file",
                    "Imported embeddings come without images.",
                    "To see them, embed the cohort from files.",
                )
            what = f"The images of {self.cohort['name']} are no longer at {root}."
            raise ImageError("missing-file", what, "Put the folder back, or embed the cohort from where it is now.")
        if not confirmed.is_confirmed(Path(root)):
            address = str(self.cohort.get("options", {}).get("url", ""))
            where = f"{shlex.quote(address)} --reports ... --keep " if kind in WEB_KINDS else ""
            raise ImageError(
                "unconfirmed-root",
                f"The store says that the images of {self.cohort['name']} lie in {root}; nobody has confirmed that "
                "here, so nothing there is opened.",
                f"If that is right: linkage cohort {kind} {where}{shlex.quote(str(root))} --no-images",
            )
        return read_below(Path(root), row)

    def read_report(self, study_id: str, report_key: str = "") -> str | None:
        """The text of a study's report, or None where it is not at hand.

        Stored text comes first, then the cohort's own files. With `report_key` a text that has changed since the
        cohort was embedded counts as not at hand.
        """
        if self.cohort["kind"] in PHANTOM_SITES:
            from linkage_core.cohorts import phantom

            try:
                text: str | None = phantom.report_of(study_id, seed=_seed(self.cohort))
            except InputError:
                return None
        else:
            if self.reports is None:
                self.reports = _reports_again(self.cohort)
            text = self.reports.get(study_id)
        return None if text is None or (report_key and text_key(text) != report_key) else text


def read_stored(row: Mapping[str, Any]) -> Radiograph:
    """The pixels of one record of a stored cohort, whose note in the manifest stands under `cohort` in the row."""
    return source_for(row["cohort"]).read_image(row)


def source_for(manifest_cohort: Mapping[str, Any], stored_reports: Mapping[str, str] | None = None) -> Source:
    """Where to read the images and texts of a stored cohort again; `stored_reports` are study ids with their texts."""
    return Source(manifest_cohort, stored_reports or None)


def _seed(cohort: Mapping[str, Any]) -> int:
    return int(cohort.get("options", {}).get("seed", 0))


def _reports_again(cohort: Mapping[str, Any]) -> dict[str, str]:
    """Every report of a cohort on disk; none where it can no longer be read."""
    if cohort["kind"] not in FILE_KINDS or not cohort.get("root"):
        return {}
    if not confirmed.is_confirmed(Path(cohort["root"])):
        return {}
    options = dict(cohort.get("options", {}))
    if "headers" in options:
        options["headers"] = False  # views are not asked for, and are a long read
    if options.get("labels") == FROM_TEXT:
        del options["labels"]  # nor are labels
    try:
        records = open_cohort(cohort["kind"], Path(cohort["root"]), **options).records
    except InputError:
        return {}
    return dict(zip(records["study_id"], records["report"], strict=True))
