"""Your data: choose a source, see what was understood, embed it, fill its lab, verify and remove; step by step."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from explorer.data import hiding, understood, work
from explorer.drawing.glossary import linked
from explorer.drawing.verbatim import verbatim
from explorer.frame import kept, page, state, visitor
from explorer.protect import fill, jobs
from linkage_core import allowed, shipped
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.registry import FILE_KINDS
from linkage_core.encoders.registry import known_models
from linkage_core.errors import InputError, LinkageError
from linkage_core.lab.setting import why_no_pairs
from linkage_core.progress import Progress
from linkage_core.store.entry import Entry
from linkage_core.store.removing import remove, why_kept
from linkage_core.store.seen import why_untested

KINDS = {kind: kind.replace("-", " ") for kind in FILE_KINDS} | {
    "folder": "Folder with a manifest",
    "mimic-cxr": "MIMIC-CXR",
    "mimic-cxr-jpg": "MIMIC-CXR-JPG",
    "chexpert-plus": "CheXpert Plus",
    "openi": "Open-i",
    "covid-chestxray": "COVID chest X-ray",
}
"""What the kinds of cohort are called; one without a name of its own goes by its code name."""
SECTIONS = {
    "both": "Findings and impression",
    "findings": "Findings",
    "impression": "Impression",
    "whole": "Whole text",
}
SOURCES = {"files": "Images and reports", "archive": "DICOMweb archive", "embeddings": "Embeddings"}
READ = "data read"


def roots() -> tuple[Path, ...]:
    """The folders that may be read."""
    return allowed.roots(os.environ)


def archives() -> tuple[str, ...]:
    """The archives that may be asked."""
    return allowed.archives(os.environ)


def why_closed() -> LinkageError | None:
    """Why this server takes no data at all, or none from this session."""
    if not visitor.let_in():
        return InputError("This session has not shown the token.", "Open the address that the server printed.")
    return allowed.why_closed(os.environ, st.get_option("server.address"))


def own_key(what: str) -> tuple[str, str]:
    """What a run is known by that belongs to this session alone: what it returns is a person's data before they keep
    it, and no other session can name it."""
    if "data token" not in st.session_state:
        st.session_state["data token"] = secrets.token_hex(16)
    return (what, str(st.session_state["data token"]))


def draw() -> None:
    """All steps, each in its place; one that fails says so there, and the others go on."""
    problem = why_closed() or shipped.why_not_written(kept.store_root() / "own")
    if problem is not None:
        page.problem_card("Nothing can be added or removed here", problem.what, problem.remedy)
        return
    if jobs.listed():
        with st.container(border=True, key="data runs"):
            runs()
    st.header("1 · Choose a source")
    with page.guarded():
        source = st.segmented_control(
            "Source",
            list(SOURCES),
            default="files",
            format_func=lambda one: SOURCES[one],
            required=True,
            key="data source",
        )
        {"archive": archive, "embeddings": embeddings}.get(str(source), files)()
    with page.guarded():
        in_the_store()


@st.fragment(run_every=1.0)
def runs() -> None:
    """Every run of this server that goes on or waits, whichever tab began it; it may be cancelled here."""
    found = jobs.listed()
    if not found:
        st.rerun()
    for job in found:
        key = f"run {id(job)}"  # not by its place: another run may have that when the click comes
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.progress(job.share, text=verbatim(f"{job.title}: {job.words()}"))
            st.button("Cancel", icon=":material/stop:", on_click=job.cancel, disabled=job.stopping, key=key)


# -- files -----------------------------------------------------------------------------------------------------------


def files() -> None:
    """A cohort of files: where it is, what was understood of it, and its embedding."""
    if not roots():
        page.problem_card(
            "This server may read no folder",
            "Whoever started it has named none, so no path can be given here.",
            "Start it with the folder that your data lie in; it may be given several times:",
            "linkage app --allow-root DIR",
        )
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        with st.container(width=230):
            kind = st.selectbox("Kind", list(KINDS), format_func=lambda one: KINDS[one], key="data kind")
        listed = allowed.listed(roots())
        names = partial(allowed.shown, allowed=roots())
        folder = st.selectbox("Folder", listed, format_func=names, key=f"data folder {len(listed)}")
        typed = st.text_input("or a path below them", key="data path", placeholder="ward-7/records.csv")
    with how_it_is_read("data") as how:
        look = st.toggle(
            "Open every image", True, key="data look", help=linked("Records whose image cannot be read are named now.")
        )
    asked = work.Asked(str(kind), typed or str(folder), how, look)
    reading(asked, partial(work.read, asked, roots()))


def archive() -> None:
    """A cohort whose images lie in a DICOMweb server: what is asked of it, what was understood, and its embedding."""
    if not archives():
        page.problem_card(
            "This server may ask no archive",
            "Whoever started it has named none, and it opens no other connection.",
            "Start it with the address of the DICOMweb service, its login in LINKAGE_DICOMWEB_TOKEN, or _USER and "
            "_PASSWORD; and with the folder that the reports lie in, unless they are in the archive too:",
            "linkage app --allow-archive URL --allow-root DIR",
        )
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        url = st.selectbox("Archive", archives(), key="data archive")
        reports = st.text_input(
            "Reports",
            key="data archive reports",
            placeholder="empty: in the archive",
            help=linked(
                "A path below the folders that may be read: a table with accession_number and report, FHIR R4, or "
                "structured reports. Empty: the structured reports that stand beside the images in the archive."
            ),
        )
        dates = st.text_input(
            "Dates of the studies",
            key="data archive dates",
            placeholder="20240101-20241231",
            help=linked("Of the images that are asked for; empty: all of them."),
        )
    with how_it_is_read("data archive") as how:
        pass
    asked = work.Question(str(url), reports.strip(), dates, how)
    reading(asked, partial(work.ask, asked, archives(), roots()))


@contextmanager
def how_it_is_read(name: str) -> Iterator[work.How]:
    """A row of controls for it; what is drawn within stands at its end."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        with st.container(width=230):
            section = st.selectbox(
                "Part of the report", list(SECTIONS), format_func=lambda one: SECTIONS[one], key=f"{name} section"
            )
        with st.container(width=150):
            splits = st.text_input(
                "Shares of patients",
                "60/20/20",
                key=f"{name} splits",
                help=linked(
                    "Finetuning, attacker and held out, by patient; or the word own: the column split decides."
                ),
            )
        from_text = st.toggle(
            "Labels from English reports", key=f"{name} labels", help=linked("Where the cohort has none of its own.")
        )
        yield work.How(str(section), "" if splits == "60/20/20" else splits, from_text)


def reading(asked: work.Asked | work.Question, read: Callable[[Progress], Cohort]) -> None:
    """The button that reads it; and once it is read, steps 2 and 3."""
    key = own_key("read")
    if going_on(key, "read"):
        return
    if pressed("Read it", "data read it"):
        st.session_state.pop(READ, None)
        jobs.start(key, "reading a cohort", read, wanted=visitor.still_there())
        st.rerun()
    job = jobs.of(key)
    if job is not None and job.result is not None:
        st.session_state[READ] = (asked, job.result)
        jobs.forget(key)
    elif job is not None:
        failed(job)
    if READ in st.session_state:
        read_as, cohort = st.session_state[READ]
        if read_as != asked:
            st.caption("The choices above have changed since it was read: read it again to take them.")
        shown = what_was_understood(cohort)
        if shown.n_records:
            to_embed(cohort, shown)


def what_was_understood(cohort: Cohort) -> understood.Understood:
    """Step 2: what stands in its tables, as far as it was understood; no identifier unless it is asked for."""
    st.header("2 · See what was understood")
    show = cohort.synthetic or st.toggle(
        "Show identifiers and report text",
        key="data show",
        help=linked("Off: neither identifiers nor report text are sent to this page."),
    )
    kept_for = (id(cohort), show)
    if st.session_state.get("data understood", (None,))[0] != kept_for:  # of a large cohort it takes seconds
        st.session_state["data understood"] = (kept_for, understood.understood(cohort, show=show))
    found: understood.Understood = st.session_state["data understood"][1]
    st.html(f'<p class="le-middle"><b>{page.marked(found.name if show else "")}</b> {page.marked(found.headline)}.</p>')
    left, right = st.columns(2, gap="medium")
    with left:
        rows = pd.DataFrame(found.facts, columns=["what", "found"])
        st.dataframe(rows, hide_index=True, key="data facts")
    with right:
        st.dataframe(found.first, hide_index=True, key="data first")
    for sentence in (*found.columns, *(f"Note: {note}" for note in found.notes)):
        st.html(f'<p class="le-small le-flat">{page.marked(sentence)}</p>')
    if len(found.rejects):
        st.markdown("**Left out, by reason**")
        st.dataframe(found.rejects, hide_index=True, key="data rejects")
    return found


def to_embed(cohort: Cohort, shown: understood.Understood) -> None:
    """Step 3: a name, a model that is here, and the run; how the others are got."""
    st.header("3 · Embed it")
    models = known_models(kept.store_root())
    here = [one.name for one in models if one.present]
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        with st.container(width=230):
            name = st.text_input("Name in the store", shown.name, key=f"data name {shown.name}")
        with st.container(width=230):
            model = st.selectbox(
                "Model",
                here,
                index=here.index("phantom-radiology") if "phantom-radiology" in here else 0,
                key="data model",
            )
        keep_text = st.toggle(
            "Keep report text in the store",
            key="data keep text",
            help=linked("Report text: your data-use agreement may forbid it."),
        )
    elsewhere = [(one.name, one.note) for one in models if not one.present]
    if elsewhere:
        with st.expander("Other models, and how to get them", icon=":material/download:"):
            for other, note in elsewhere:
                st.html(f'<p class="le-small le-flat"><b>{page.marked(other)}</b> {page.marked(note)}</p>')
    key = ("embed", str(kept.store_root()), name, model)
    if going_on(key, "embed"):
        return
    if pressed("Embed it", "data embed it"):
        how = partial(work.embed, cohort, name, str(model), kept.store_root(), store_text=keep_text)
        jobs.start(key, f"embedding with {model}", lambda progress: how(progress))
        st.rerun()
    ended(jobs.of(key))


# -- embeddings ------------------------------------------------------------------------------------------------------


def embeddings() -> None:
    """Arrays that somebody made, by upload or by path."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        with st.container(width=230):
            cohort = st.text_input("Name of the cohort", key="data import cohort")
        with st.container(width=230):
            model = st.text_input("Name of the model", key="data import model")
        by_path = st.toggle(
            "By path on this machine", key="data by path", help=linked("Embeddings below the folders it may read.")
        )
    given: dict[str, Path | tuple[str, bytes]] = {}
    for column, (part, words) in zip(st.columns(3, gap="small"), work.PARTS.items(), strict=True):
        kinds = (
            "CSV or Parquet, a row a record: record_id, patient_id, study_id"
            if part == "records"
            else "Embeddings as npy, npz, safetensors or Parquet"
        )
        with column, page.guarded():
            if by_path:
                text = st.text_input(words, key=f"data path {part}", help=linked(kinds))
                if text:
                    given[part] = allowed.inside(text, roots())
            else:
                upload = st.file_uploader(
                    words, max_upload_size=work.MOST_MB, key=f"data upload {part}", help=linked(kinds)
                )
                if upload is not None:
                    given[part] = (upload.name, upload.getvalue())
    with st.container(horizontal=True, gap="medium"):
        from_text = st.toggle("Labels from English reports", key="data import labels")
        keep_text = st.toggle("Keep report text in the store", key="data import text")
    key = own_key("import")
    if going_on(key, "import"):
        return
    if pressed("Import them", "data import"):
        arrays = work.Arrays(cohort, model, given, from_text, keep_text)
        jobs.start(
            key, "importing embeddings", partial(work.bring, arrays, kept.store_root()), wanted=visitor.still_there()
        )
        st.rerun()
    ended(jobs.of(key))


# -- runs ------------------------------------------------------------------------------------------------------------


def going_on(key: Hashable, place: str) -> bool:
    """Whether this run is going on; then its progress stands here."""
    job = jobs.of(key)
    if job is None or not job.running:
        return False
    with st.container(key=f"fill-{place}"):
        fill.watch(key, place)
    return True


def pressed(label: str, key: str) -> bool:
    """A button for a run; where it would wait for another one, that is said."""
    before = fill.in_line()
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        done = st.button(label, icon=":material/play_arrow:", type="primary", key=key)
        if before:
            st.caption(before)
    return done


def failed(job: jobs.Job) -> None:
    """Why a run ended without a result, in place; what may identify somebody is left out unless it is asked for."""
    if job.cancelled:
        st.html('<p class="mi-small mi-alert" role="status">Cancelled. What was finished stays; start it again.</p>')
    elif job.error:
        show = bool(st.session_state.get("data show"))
        said = (allowed.told(one, roots()) for one in job.error)
        what, remedy = (one if show else hiding.hidden(one) for one in said)
        page.problem_card("This did not work", what, remedy)


def ended(job: jobs.Job | None) -> None:
    """How a run ended that makes an entry: what is there now, or why not."""
    if job is None or job.running:
        return
    if not isinstance(job.result, Entry):
        failed(job)
        return
    counts = job.result.manifest["counts"]
    name = f"{job.result.cohort}/{job.result.model}"
    said = (
        f"{counts['images']:,} images of {counts['studies']:,} studies and {counts['patients']:,} patients, "
        f"{len(job.result.rejects()):,} rejected"
    )
    st.html(f'<p class="le-middle" role="status"><b>{page.marked(name)}</b> is in the store: {said}.</p>')


# -- the store -------------------------------------------------------------------------------------------------------


def in_the_store() -> None:
    """Step 4: what is in the store; its lab, whether it is as it was written, and its removal."""
    st.header("In the store: fill its lab, verify, remove")
    names = [f"{cohort}/{model}" for cohort in kept.store().cohorts() for model in kept.store().models(cohort)]
    if not names:
        st.caption("The store is empty.")
        return
    newest = max(names, key=lambda name: (kept.store_root() / name / "manifest.json").stat().st_mtime_ns)
    with st.container(width=360):
        chosen = st.selectbox(
            "Cohort and model", names, index=names.index(newest), key=f"data entry {len(names)} {newest}"
        )
    cohort, model = str(chosen).split("/")
    entry = kept.entry(cohort, model)
    with page.guarded():
        fill.strip(entry, kept.lab_tables(cohort, model).linkage, "data")
        if fill.offer(entry, kept.lab_tables(cohort, model).linkage) is None:
            st.caption("Its quick lab is there.")
        if problem := why_untested(entry) or why_no_pairs(entry):
            st.caption(f"Heads and attackers: {verbatim(problem.what)}")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for target, label, icon in (
            ("start", "Open it on Start", "home"),
            ("mitigation", "See its mitigation", "shield"),
        ):
            st.page_link(
                f"pages/{target}.py",
                label=label,
                icon=f":material/{icon}:",
                query_params={"cohort": cohort, "model": model},
            )
        checked = st.button("Verify its files", icon=":material/fact_check:", key="data verify")
    if checked:
        findings = entry.verify()
        for finding in findings or [f"{chosen}: every file is as it was written."]:
            st.html(f'<p class="mi-small mi-alert" role="status">{page.marked(finding)}</p>')
    with st.expander("Remove it from the store", icon=":material/delete:"):
        removal(entry)


def removal(entry: Entry) -> None:
    """Behind a typed confirmation; the files it was made from stay."""
    name = f"{entry.cohort}/{entry.model}"
    if problem := why_kept(entry):
        st.html(f'<p class="mi-small">{page.marked(f"{problem.what} {problem.remedy}")}</p>')
        return
    typed = st.text_input(
        f"Type {verbatim(name)} to confirm. Its heads and tables go too; your own files stay.", key=f"data gone {name}"
    )
    if st.button("Remove", icon=":material/delete:", disabled=jobs.running() is not None, key="data remove"):
        remove(entry, typed)
        state.put("cohort", None)
        st.rerun()
