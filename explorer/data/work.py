"""The long work of Your data, as jobs run it: read a cohort, embed it, import embeddings. Nothing here draws."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linkage_core import allowed, shipped
from linkage_core.audit import study as auditing
from linkage_core.cohorts import table
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.dicomweb import cohort as dicomweb
from linkage_core.cohorts.labels.cohort import FROM_TEXT, with_text_labels
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.arrays import read_pair
from linkage_core.embed.embedding import embed as run
from linkage_core.embed.embedding import import_arrays
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import InputError
from linkage_core.progress import Progress
from linkage_core.store import whose
from linkage_core.store.entry import Entry, Store, folder_name

MOST_MB = 200
"""Of all files of one upload together."""
PARTS = {"image": "Image embeddings", "text": "Report embeddings", "records": "Table of records"}
ENDINGS = (".npy", ".npz", ".safetensors", ".parquet", ".csv", ".gz")


@dataclass(frozen=True)
class How:
    """How reports are read, and patients split. splits "": by patient, 60/20/20."""

    section: str = "both"
    splits: str = ""
    from_text: bool = False

    def options(self) -> dict[str, Any]:
        """As open_cohort takes them."""
        said: dict[str, Any] = {"section": self.section}
        if self.splits.strip():
            said["splits"] = self.splits.strip()
        return said | ({"labels": FROM_TEXT} if self.from_text else {})


@dataclass(frozen=True)
class Asked:
    """A cohort of files: its kind, where it lies, how it is read."""

    kind: str
    folder: str
    how: How = How()
    look: bool = True


def read(asked: Asked, roots: Sequence[Path], progress: Progress) -> Cohort:
    """The cohort, read and checked, below the folders that may be read. InputError as the readers raise it."""
    folder = allowed.inside(asked.folder, roots, folder=True)
    allowed.refuse_links_out(folder, roots)
    return open_cohort(
        asked.kind,
        folder,
        check_images=asked.look,
        progress=lambda done, total: progress("images", done, total),
        **asked.how.options(),
    )


@dataclass(frozen=True)
class Question:
    """Images of an archive, and where their reports are: a path below the folders that may be read, or "" where they
    stand in the archive as structured reports."""

    url: str
    reports: str = ""
    dates: str = ""
    how: How = How()


def ask(question: Question, archives: Sequence[str], roots: Sequence[Path], progress: Progress) -> Cohort:
    """The cohort of an archive, from its headers; its images are brought when they are read. The login is that of the
    server's own environment. InputError for an address that was not allowed, and as the reader raises it."""
    if question.url not in archives:
        raise InputError(
            f"This server may not ask {question.url}.", "Start it with that address: `linkage app --allow-archive URL`."
        )
    reports = str(_reports(question.reports, roots)) if question.reports else dicomweb.IN_THE_ARCHIVE
    return open_cohort(
        dicomweb.KIND,
        question.url,
        reports=reports,
        dates=question.dates.strip(),
        progress=lambda done, total: progress("headers", done, total),
        **question.how.options(),
    )


def _reports(text: str, roots: Sequence[Path]) -> Path:
    """A file of reports, or a folder of them."""
    found = allowed.inside(text, roots, folder=None)
    if found.is_dir():
        allowed.refuse_links_out(found, roots)
    return found


def why_not_named(store: Store, cohort: str, model: str, root: Path | None) -> InputError | None:
    """Why what is made may not stand under this name: it would take the place of something else."""
    if not cohort.strip() or not model.strip():
        return InputError("A cohort and a model need a name.", "Give both.")
    name = folder_name(cohort)
    if whose.is_phantoms(name):
        return InputError(f"{name} is a name of the synthetic cohort.", "Give another.")
    for other in store.models(name):
        there = store.open(name, other).manifest["cohort"].get("root")
        if there != (str(root.resolve()) if root else None) or (root is None and other == folder_name(model)):
            return InputError(
                f"The store has a cohort {name} from elsewhere.", "Give another name, or remove that one."
            )
    return None


def embed(cohort: Cohort, name: str, model: str, root: Path, progress: Progress, *, store_text: bool = False) -> Entry:
    """Features of every image and report under NAME/MODEL. A run that was stopped goes on where it stood."""
    shipped.refuse_to_write(root)
    store = Store(root)
    if problem := why_not_named(store, name, model, cohort.root):
        raise problem
    progress("loading the model", 0, 1)
    encoder = load_encoder(model, store_root=root)
    entry = run(replace(cohort, name=folder_name(name)), encoder, store, store_text=store_text, progress=progress)
    return counted(entry)


def counted(entry: Entry) -> Entry:
    """Counts its ranks once, so that the pages open at once."""
    with suppress(InputError):
        auditing.study(entry)
    return entry


@dataclass(frozen=True)
class Arrays:
    """Embeddings that somebody made: names for the store, and the three files by PARTS, as paths or as bytes."""

    cohort: str
    model: str
    files: Mapping[str, Path | tuple[str, bytes]]
    from_text: bool = False
    store_text: bool = False


def bring(arrays: Arrays, root: Path, progress: Progress) -> Entry:
    """Imports them. What was uploaded lies in a private folder while it is read, and nowhere afterwards."""
    shipped.refuse_to_write(root)
    store = Store(root)
    if problem := why_not_named(store, arrays.cohort, arrays.model, None):
        raise problem
    for part, words in PARTS.items():
        if part not in arrays.files:
            raise InputError(f"{words}: no file was given.", "All three are needed.")
    refuse_large([len(file[1]) for file in arrays.files.values() if isinstance(file, tuple)])
    progress("reading", 0, 1)
    with tempfile.TemporaryDirectory(prefix="linkage-") as scratch:
        paths = {part: _as_path(part, file, Path(scratch)) for part, file in arrays.files.items()}
        try:
            found = table.read(paths["records"], folder_name(arrays.cohort))
            if arrays.from_text:
                found = with_text_labels(found)
            images, texts, _ = read_pair(paths["image"], paths["text"], list(found.records["record_id"]))
        except InputError as error:  # the folder is gone when it is read of
            raise InputError(*(said.replace(f"{scratch}/", "") for said in (error.what, error.remedy))) from error
    progress("writing", 0, 1)
    return counted(import_arrays(found, arrays.model, images, texts, store, store_text=arrays.store_text))


def refuse_large(sizes: Sequence[int]) -> None:
    """InputError for uploads of more bytes together than are taken."""
    if sum(sizes) > MOST_MB * 10**6:
        raise InputError(
            f"The files have {sum(sizes) / 1e6:,.0f} MB, and at most {MOST_MB} are taken.",
            "Put them into a folder that this server may read, and give their paths.",
        )


def _as_path(part: str, file: Path | tuple[str, bytes], scratch: Path) -> Path:
    """The file itself, or what was uploaded under a name of ours: of the one it came with the known endings count."""
    if isinstance(file, Path):
        return file
    name, content = file
    endings = "".join(one.lower() for one in Path(name).suffixes[-2:] if one.lower() in ENDINGS)
    path = scratch / f"{part}{endings}"
    path.write_bytes(content)
    return path
