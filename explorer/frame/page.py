"""What pages share: the data guard, cards for what is wrong, rows of a study, headlines, the last line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape

import pandas as pd
import streamlit as st

from explorer.drawing.glossary import linked_html
from explorer.frame import controls, kept, state
from linkage_core import sentences
from linkage_core.audit import ceilings, reality
from linkage_core.cohorts.identifiers import words as identifiers
from linkage_core.errors import LinkageError


def guard(*, empty: bool = False) -> None:
    """First line of every page: stops it with a card when there is no cohort to show, unless it works on an empty
    store too."""
    if not state.begun():
        # The first visitor of a fresh server, by deep link: Streamlit has found the folder pages/ and not yet seen the
        # declared menu, so it ran this page alone. The frame declares the menu and runs the page again, inside it.
        from explorer.frame import frame

        frame.run()
        st.stop()
    if not state.cohorts() and not empty:
        st.title("Nothing to show yet")
        problem_card(
            "Nothing is loaded",
            kept.CLOSED if kept.closed() else "The store holds no embeddings.",
            "Build the synthetic cohort, or embed your own images and reports:",
            "linkage phantom build",
        )
        st.page_link("pages/data.py", label="Bring your own data", icon=":material/folder_open:")
        st.stop()


@contextmanager
def guarded() -> Iterator[None]:
    """Runs one part of a page; a missing or altered file becomes a card in its place, and the rest goes on."""
    try:
        yield
    except LinkageError as error:
        problem_card("This cannot be shown", error.what, error.remedy)


def problem_card(title: str, what: str, remedy: str, command: str | None = None) -> None:
    """A bordered card: what is wrong, why, and what to do. Texts are escaped; `commands` become code."""
    with st.container(border=True):
        lines = "".join(f"<p>{marked(line)}</p>" for line in (what, remedy) if line)
        st.html(f'<div class="le-problem" role="alert"><p><b>{escape(title)}</b></p>{lines}</div>')
        if command:
            st.code(command, language=None)


_PART = r"""[^/\n'"`:;,()<>]*[^/\s'"`:;,()<>]"""
_PLACE = re.compile(rf"(?<![\w.~>/-])/(?!\s)(?:{_PART}/)+(?=[^\s/])")


def without_places(text: str) -> str:
    """A sentence in which files go by their place in the store, others by their names: where they lie on this machine
    is nobody's business on a page. Commands in backticks stay as they are: they are to be typed.

    >>> without_places("/data/ward 7/in/MUELLER.png is not a file. Try `cp -r /opt/a/store .` or 1/2.")
    'MUELLER.png is not a file. Try `cp -r /opt/a/store .` or 1/2.'
    """
    root = kept.store_root()
    stores = {f"{place}/" for place in (root, root.resolve()) if place != place.parent}

    def bare(part: str) -> str:
        for place in stores:
            part = part.replace(place, "")
        return _PLACE.sub("", part)

    return "`".join(part if i % 2 else bare(part) for i, part in enumerate(text.split("`")))


def marked(text: str) -> str:
    """Escaped, without places on this machine, and with what stands in backticks as code.

    >>> marked("<b> run `linkage doctor`")
    '&lt;b&gt; run <code>linkage doctor</code>'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(without_places(text)))


def cannot_tell(text: str) -> None:
    """The grey last line of a page: what its picture does not answer."""
    st.html(f'<p class="le-cannot">Cannot tell: {escape(text)}</p>')


def what_identifies(model: str) -> None:
    """Of a cohort of real people: what its check for identifiers found, and what it did not look for."""
    manifest = kept.entry(state.cohort(), model).manifest
    lines = [marked(line) for line in identifiers.lines_of(manifest)]
    if lines:
        if identifiers.anything_found(manifest):
            lines[0] = f"<b>{lines[0]}</b>"
        st.html(f'<p class="le-cannot">{"<br>".join(lines)}</p>')


# -- rows of a study -------------------------------------------------------------------------------------------------


def row_at(model: str, pool_size: int, k: int, steps: Sequence[int], pool: str = kept.ANY_PATIENT) -> pd.Series | str:
    """The one row of a model at one N, or the sentence that stands in its place.

    A sentence comes where N is larger than the pool, where k is larger than N, where one image alone carries it, and
    where too few patients have same-finding decoys.
    `steps` are the values of N that the page offers: they are computed together and kept, so a control moves at once.
    """
    largest = kept.study(state.cohort(), model, pool).largest_pool
    if pool_size > largest:
        return f"N = {pool_size:,} is larger than the pool. The largest is {largest:,}."
    if k > pool_size:
        return f"The first {k} of N = {pool_size:,} is everything. Choose a larger N or a smaller k."
    row = _rows(model, pool_size, k, steps, pool).iloc[0]
    # beyond the steps of same-finding decoys fewer than 30 patients are left, whose images may be more
    few_patients = pool != kept.ANY_PATIENT and (not steps or pool_size > steps[-1])
    if few_patients or row["n_queries"] < 2:
        return sentences.upper(sentences.too_few(int(row["n_queries"]))) + "."
    return row


def all_models(
    pool_size: int, k: int, steps: Sequence[int], pool: str = kept.ANY_PATIENT
) -> tuple[pd.DataFrame, list[str]]:
    """One row a model at one N, and a sentence for each model that could not be read."""

    def read(model: str) -> pd.DataFrame:
        fits = k <= pool_size <= kept.study(state.cohort(), model, pool).largest_pool
        return _rows(model, pool_size, k, steps, pool) if fits else pd.DataFrame()

    return _each_model(read)


def all_models_grid(k: int, pool: str = kept.ANY_PATIENT) -> tuple[pd.DataFrame, list[str]]:
    """The curve of every model: rows at the steps of N (state.pool_steps) that k fits into."""

    def read(model: str) -> pd.DataFrame:
        return _grid(model, kept.pool_steps(state.cohort(), model, pool), k, pool)

    return _each_model(read)


def _rows(model: str, pool_size: int, k: int, steps: Sequence[int], pool: str = kept.ANY_PATIENT) -> pd.DataFrame:
    if pool_size in steps:
        grid = _grid(model, steps, k, pool)
        return grid[grid["pool_size"] == pool_size]
    return kept.table(state.cohort(), model, [pool_size], [k], pool)


def _grid(model: str, steps: Sequence[int], k: int, pool: str = kept.ANY_PATIENT) -> pd.DataFrame:
    """Rows at the steps that fit, for one k; the k that a page offers are computed together."""
    largest = kept.study(state.cohort(), model, pool).largest_pool
    sizes = [n for n in steps if k <= n <= largest]
    if not sizes:
        return pd.DataFrame()
    ks = [each for each in state.K_CHOICES if each <= min(sizes)]
    table = kept.table(state.cohort(), model, sizes, ks, pool)
    return table[table["k"] == k]


def _each_model(read: Callable[[str], pd.DataFrame]) -> tuple[pd.DataFrame, list[str]]:
    tables, problems = [], []
    for model in state.models():
        try:
            tables.append(read(model))
        except LinkageError as error:
            problems.append(f"{state.model_label(model)} is not shown. {error.what} {error.remedy}")
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if len(rows):
        rows = rows[rows["n_queries"] >= 2].reset_index(drop=True)
    return rows, problems


# -- words and files of a table --------------------------------------------------------------------------------------

CURVE_WORDS = """
- **Recall@k** (images linked): the share of images whose right report is among the k most similar of N. Exact for
  random pools of N reports of other patients plus the right one: an average over all such pools, not a draw.
- **Lift** (times chance): Recall@k divided by k/N, which is what guessing reaches.
- **Reciprocal rank**: 1 divided by the place of the right report, averaged; 1 means always first. Guessing reaches
  (1 + 1/2 + ... + 1/N) / N.
- **95% interval**: how far the number could move with other patients like these (patients drawn again with
  replacement). All images of a patient move together.
- **n** counts images. An image with fewer than N - 1 other reports to compare with is left out at that N, and counted.
"""


def provenance(pool_size: int, n_images: int) -> str:
    """The line under the title of an exported picture: which cohort, whether synthetic, N and n."""
    kind = "synthetic cohort" if state.synthetic() else "cohort"
    return f"{kind} {state.cohort_label(state.cohort())} · chosen N = {pool_size:,} · n = {n_images:,} images"


def filed(table: pd.DataFrame, synthetic: bool) -> pd.DataFrame:
    """The table as it is filed: its first column says whether anybody in it is real."""
    out = table.sort_values(["model", "pool_size"])
    out.insert(0, "synthetic", synthetic)
    return out


def filed_as_is(table: pd.DataFrame, synthetic: bool) -> pd.DataFrame:
    """As `filed`, in the order given."""
    out = table.copy()
    out.insert(0, "synthetic", synthetic)
    return out


def readable(table: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """The table with the words of the page; numbers stay numbers."""
    rows = table.sort_values(["pool_size", "model"])
    return pd.DataFrame(
        {
            "model": [labels[m] for m in rows["model"]],
            "N": rows["pool_size"],
            "k": rows["k"],
            "Recall@k": rows["recall"].round(6),
            "low": rows["recall_low"].round(6),
            "high": rows["recall_high"].round(6),
            "guessing": rows["chance"].round(6),
            "lift": rows["lift"].round(3),
            "reciprocal rank": rows["mrr"].round(6),
            "median rank": rows["median_rank"],
            "n images": rows["n_queries"],
            "left out": rows["n_excluded"],
        }
    )


def curve_words(table: pd.DataFrame, pool_size: int, labels: Mapping[str, str]) -> str:
    """The curve as a sentence, for those who cannot see it."""
    here = table[table["pool_size"] == pool_size]
    if here.empty:
        return "Images linked against the number of reports in the pool."
    return f"At N = {pool_size:,}. {ladder_words(here, sentences.denominator(pool_size), labels)}"


def file_name(*parts: str) -> str:
    """A file name of plain letters, whatever the cohort is called."""
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "-", part).strip("-") for part in ("linkage", *parts))


# -- pieces of a page ------------------------------------------------------------------------------------------------


def headline(count: str, rest: str, *lines: str, small: str = "", before: str = "", kind: str = "le-answer") -> None:
    """The answer: `before`, the count in large figures, the rest; further lines below; what qualifies it in grey, and
    there too where N is not the one that was asked for."""
    small = " · ".join(filter(None, (small, controls.replaced_pool())))
    big = "<br>".join([f"{escape(before)}<b>{escape(count)}</b>{escape(rest)}", *map(escape, lines)])
    facts = linked_html(escape(small))
    st.html(f'<div class="{kind}"><p class="le-big">{big}</p><p class="le-small">{facts}</p></div>')


def replaced_pool() -> None:
    """Where a page without such a headline says that N is not the one that was asked for."""
    if said := controls.replaced_pool():
        st.html(f'<p class="mi-small" role="status">{escape(said)}.</p>')


def unlike_reality(model: str) -> None:
    """Of a synthetic cohort: how its reports differ from real ones, in a sentence. Of another: nothing."""
    if not state.synthetic():
        return
    with guarded():
        known = kept.ceiling(state.cohort(), model, ceilings.TEXT)
        if not isinstance(known, str):
            st.html(f'<p class="mi-small">{escape(reality.says(known.shared))}</p>')


def how_far_off(row: pd.Series, out_of: int) -> list[str]:
    """A further line of a headline that few patients carry: how far off it could be; none where enough do."""
    images, patients = int(row["n_queries"]), int(row["n_patients"])
    if patients >= sentences.TOO_FEW:
        return []
    ends = sentences.interval(row["recall_low"], row["recall_high"], out_of)
    return [f"Only {images:,} images of {patients:,} patients: with others it could be {ends}."]


def no_number(sentence: str, kind: str = "le-answer") -> None:
    """Stands where the headline would, at the same height."""
    st.html(f'<div class="{kind}" role="status"><p class="le-big">{escape(sentence)}</p></div>')


def destination(target: str, title: str, why: str, icon: str) -> None:
    """A card that leads to another page; what is chosen here goes along in the session."""
    with st.container(border=True, gap=None):
        st.page_link(target, label=f"**{title}**", icon=icon)
        st.html(f'<div class="le-why">{escape(why)}</div>')


def save(*files: tuple[str, str, Callable[[], bytes]], note: str = "") -> None:
    """The popover with the files: (label, file name, what makes it). A table is .csv, a picture .svg.

    Each is made on demand, outside the run of the page: what makes it may not read the state.
    """
    kinds = {".csv": ("text/csv", ":material/table:"), ".svg": ("image/svg+xml", ":material/image:")}
    with st.popover("Save", icon=":material/download:"):
        for label, name, make in files:
            kind, icon = kinds[name[-4:]]
            st.download_button(label, make, name, kind, on_click="ignore", icon=icon, width="stretch")
        if note:
            st.caption(note)


def left_out(problems: Sequence[str]) -> None:
    """Models that a picture does not show, and why. Escaped: names and paths in it are the user's own."""
    for problem in problems:
        st.html(f'<div class="le-small">{escape(without_places(problem))}</div>')


def ladder_words(rows: pd.DataFrame, out_of: int, labels: Mapping[str, str]) -> str:
    """The ladder as a sentence, for those who cannot see it."""
    counts = [f"{labels[r['model']]} {sentences.of(r['recall'], out_of)}" for _, r in rows.iterrows()]
    return f"Images linked: {'; '.join(counts)}; guessing {sentences.of(rows['chance'].iloc[0], out_of)}."
