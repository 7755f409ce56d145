"""What a report says: the figures of the audit, each section or why not, nothing of single people, text as text."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from helpers import frontier_store, lab_store
from helpers.command import linkage
from helpers.shared import Built
from helpers.toy import fill, toy_cohort, two_each
from linkage_core import sentences
from linkage_core.audit import study as audit
from linkage_core.cohorts.base import LABELS
from linkage_core.embed import embedding
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.lab import frontier
from linkage_core.release.table import KINDS
from linkage_core.report import draw
from linkage_core.report.about import QUESTIONS
from linkage_core.report.found import Asked, found, most_exposed
from linkage_core.report.names import OPTIONAL
from linkage_core.report.page import html, twin
from linkage_core.report.table import SECTIONS, report
from linkage_core.report.tree import Bar, Bars, Column, Curves, Report, Series, Table, as_json, cell
from linkage_core.store.entry import Store

DAY = datetime.date(2026, 3, 1)


def made(store: Store, cohort: str, *models: str, day: datetime.date = DAY, **asked: object) -> Report:
    names = list(models) or store.models(cohort)
    entries = [store.open(cohort, name) for name in names]
    return report(found(entries, names, Asked(**asked)), day)  # type: ignore[arg-type]


def tables(of: Report) -> dict[str, Table]:
    return {block.name: block for section in of.sections for block in section.blocks if isinstance(block, Table)}


def words(of: Report, section: str) -> str:
    """What the section says, without its tables."""
    texts = [getattr(block, "text", "") for block in of.section(section).blocks]
    return " ".join(texts)


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# -- a cohort with everything ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(built: Built) -> Store:
    return Store(built(frontier_store.build, lab_store.build))


@pytest.fixture(scope="module")
def whole(lab: Store) -> Report:
    return made(lab, "phantom")


def test_a_measured_cohort_has_every_section_in_the_order_of_the_table(whole: Report) -> None:
    assert [one.name for one in whole.sections] == list(SECTIONS)
    assert tuple(one.name for one in SECTIONS.values() if not one.always) == OPTIONAL
    missing = {one.name: words(whole, one.name) for one in whole.sections if not one.there}
    assert missing == {}
    assert whole.synthetic
    page = html(whole)
    assert "Synthetic cohort: nobody is real" in page
    assert "Anything about real patients" in page


def test_the_headline_is_the_audit_s(lab: Store, whole: Report) -> None:
    entry = lab.open("phantom", lab_store.MODEL)
    row = audit.study(entry).table([100], (1,)).iloc[0]
    count = sentences.of(row["recall"], 100)
    around = sentences.ends(row["recall_low"], row["recall_high"], 100)
    assert whole.headline == (
        f"Among 100 reports, {count} images are linked to the right report ({around}). Guessing would link 1 of 100."
    )
    assert whole.headline in html(whole)


def test_limit_and_measurement_stand_apart(lab: Store, whole: Report) -> None:
    """No table has both, no picture has a limit, and each limit names the attacker it holds for."""
    entry, all_of = lab.open("phantom", lab_store.MODEL), tables(whole)
    limits, released = all_of["limits"], all_of["released"]
    assert {column.name for column in limits.columns} == {"name", "setting", "holds", "recall"}
    assert "recall_low" not in {name for row in limits.rows for name in row}
    about = {str(row["option"]): row for row in frontier.dicts(frontier.options_of(entry))}
    cells = next(row for row in limits.rows if row["name"] == "Codes" and row["setting"].startswith("limit 64"))
    assert cells["recall"] == pytest.approx(frontier.certified(about["codes-64"], 100) / 100)
    assert "one record" in cells["holds"]
    sums = [row["holds"] for row in limits.rows if row["name"] == KINDS["statistics"].title]
    assert any("unpaired" in whom for whom in sums)
    assert any("do not depend" in whom for whom in sums)
    linkage = frontier.linkage(entry)
    worst = linkage[
        (linkage["option"] == "codes-64") & (linkage["attacker"] == "worst") & (linkage["pool_size"] == 100)
    ]
    row = next(row for row in released.rows if row["setting"].startswith("limit 64"))
    assert row["recall"] == pytest.approx(worst["recall"].iloc[0])
    pictures = [block for one in whole.sections for block in one.blocks if isinstance(block, Bars)]
    drawn = {bar.rate for picture in pictures for bar in picture.bars}
    assert not drawn & {row["recall"] for row in (*limits.rows, *limits.more)}


def test_sums_have_no_ceiling_of_records(whole: Report) -> None:
    """Their column of the table holds an attacker who was tried: he stands with those who were."""
    names = {row["name"] for row in (*tables(whole)["ceilings"].rows, *tables(whole)["ceilings"].more)}
    assert KINDS["statistics"].title not in names
    assert KINDS["codes"].title in names
    released = tables(whole)["released"]
    who = {row["who"] for row in released.rows if row["name"] == KINDS["statistics"].title}
    assert who == {"Holds images and reports unpaired", "Knows every other patient"}


def test_a_promise_that_is_an_illustration_says_so(whole: Report) -> None:
    rows = tables(whole)["promises"].rows
    private = [row for row in rows if row.get("accuracy")]
    assert private
    assert {row["status"] for row in private} == {"illustration"}
    assert "nothing is promised" in tables(whole)["promises"].note


def test_every_figure_of_a_table_stands_on_the_page_and_in_the_twin(whole: Report) -> None:
    page = " ".join(Tags(html(whole)).text)
    held = json.loads(twin(whole))
    assert held == as_json(whole)
    assert (held["format"], held["schema"], held["made"]) == ("linkage-report", 1, "2026-03-01")
    of_twin = {block["name"]: block for one in held["sections"] for block in one["blocks"] if block["type"] == "table"}
    assert set(of_twin) == set(tables(whole))
    for name, table in tables(whole).items():
        for row, same in zip(table.rows, of_twin[name]["rows"], strict=True):
            assert same == as_json(row)
            for column in table.columns:
                assert cell(column, row) in page, (name, column.name)


def test_it_passes_no_verdict(whole: Report) -> None:
    text = " ".join(Tags(html(whole)).text)
    assert not re.search(r"\b(safe|safely|anonymous|anonymised|anonymized|compliant)\b", text, re.I)
    assert "no verdict" in text
    assert [block.names for block in whole.section("sign").blocks if hasattr(block, "names")] == [
        ("Name", "Role", "Date", "Decision", "Reasons", "To be looked at again by")
    ]


def test_each_question_points_at_sections_there_are(whole: Report) -> None:
    assert all(set(one.sections) <= set(SECTIONS) for one in QUESTIONS)
    rows = tables(whole)["questions"].rows
    numbers = {one.title: i for i, one in enumerate(whole.sections, 1)}
    assert rows[0]["answered"].startswith(f"{numbers['The answer']} The answer; ")
    assert {row["source"] for row in rows} == {"WP216", "45 CFR 164.514(b)(1)"}
    inference = next(row for row in rows if row["question"].startswith("Inference"))
    assert inference["answered"] == "not examined here"


def test_two_runs_differ_by_the_date_alone(lab: Store, whole: Report) -> None:
    again, later = made(lab, "phantom"), made(lab, "phantom", day=datetime.date(2027, 1, 2))
    assert (html(again), twin(again)) == (html(whole), twin(whole))
    assert html(later).replace("2027-01-02", "2026-03-01") == html(whole)
    assert twin(later).replace("2027-01-02", "2026-03-01") == twin(whole)


def test_what_is_left_out_on_request_is_named(lab: Store) -> None:
    some = made(lab, "phantom", sections=("exposure",))
    assert [one.name for one in some.sections if one.name in OPTIONAL] == ["exposure"]
    (row,) = (row for row in tables(some)["provenance"].rows if row["fact"] == "left out on request")
    assert "Decoys with the same findings" in row["value"]
    assert "Who is exposed" not in row["value"]
    with pytest.raises(InputError, match="Did you mean 'exposure'"):
        made(lab, "phantom", sections=("exposur",))


# -- cohorts of one's own --------------------------------------------------------------------------------------------


def cohort_of(store: Store, name: str, n_patients: int, *, labels: bool = False, **more: object) -> None:
    """Two models, the second of which links more; text stored; ids that stand in nothing else."""
    rng = np.random.default_rng(5)
    states = (rng.random((2 * n_patients, len(LABELS))) < 0.3).astype(float)
    columns = dict(zip(LABELS, states.T, strict=True)) if labels else {}
    splits = [("finetune", "attacker", "heldout")[(i // 2) % 3] for i in range(2 * n_patients)]
    records = two_each("zqx", n_patients, split=splits, sex=["F", "M"] * n_patients, **columns, **more)
    for seed, (model, signal) in enumerate((("weak", 0.2), ("strong", 1.0))):
        fill(store, toy_cohort(name, records), model, signal, seed)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("own"))
    cohort_of(store, "bare", 70)
    cohort_of(store, "tiny", 11, labels=True)
    return store


def test_without_labels_the_sections_that_need_them_say_so(own: Store) -> None:
    of = made(own, "bare")
    there = {one.name: one.there for one in of.sections}
    assert {name for name, has in there.items() if not has} == {
        *("decoys", "ceilings", "mitigations", "releases", "usefulness")
    }
    assert words(of, "decoys") == ("This cohort has no labels, so no decoys with the same findings can be chosen.")
    assert "`linkage lab bare/strong`" in words(of, "mitigations")
    assert "<code>linkage lab bare/strong</code>" in html(of)
    assert "(not there for this cohort)" in tables(of)["questions"].rows[0]["answered"]
    assert not of.synthetic
    assert "Synthetic" not in html(of)


def test_what_identifies_is_said_and_what_was_not_looked_for(own: Store, whole: Report) -> None:
    facts = {row["fact"]: row["value"] for row in tables(made(own, "bare"))["cohort"].rows}
    assert facts["what identifies"].startswith("Checked for identifiers: 140 records, nothing found. Not looked for:")
    assert "what identifies" not in {row["fact"] for row in tables(whole)["cohort"].rows}, "nobody in it is real"


def test_the_model_that_links_most_heads_the_report(own: Store) -> None:
    of = made(own, "bare")
    row = audit.study(own.open("bare", "strong")).table([100], (1,)).iloc[0]
    assert sentences.of(row["recall"], 100) in of.headline
    assert "with the model strong, of 2 models the one that links most" in words(of, "answer")
    assert {row["model"] for row in tables(of)["sizes"].rows} == {"weak", "strong"}


def test_a_tiny_cohort_has_a_number_and_says_how_little_it_is(own: Store) -> None:
    of = made(own, "tiny")
    assert re.match(r"Among 20 reports, [\d.]+ of 100 images are linked .+ Guessing would link 5 of 100\.", of.headline)
    assert "Too few to say, with 11 patients" in words(of, "answer")
    assert words(of, "exposure").startswith("Too few to say, with 11 patients")
    assert words(of, "missing-match").startswith("Too few to say")
    assert not of.section("mitigations").there
    assert "Too few" in html(of)


def test_pools_that_nobody_fills_are_left_out_and_none_at_all_is_refused(own: Store) -> None:
    of = made(own, "bare", pool_sizes=(50, 100_000))
    assert of.headline.startswith("Among 50 reports")
    assert "N = 100,000" in words(of, "curve")
    with pytest.raises(InputError, match=r"No image fills a pool of 100,000 reports.*largest N is 139"):
        made(own, "bare", pool_sizes=(100_000,))


def ids_and_texts(store: Store, cohort: str) -> tuple[set[str], set[str]]:
    entry = store.open(cohort, "strong")
    records = entry.records()
    ids = {value for name in ("record_id", "study_id", "patient_id") for value in records[name]}
    return ids, set(entry.stored_reports().values())


@pytest.mark.parametrize("cohort", ["bare", "tiny"])
def test_nothing_of_a_single_person_unless_asked(own: Store, cohort: str) -> None:
    of = made(own, cohort)
    ids, texts = ids_and_texts(own, cohort)
    for written in (html(of), twin(of)):
        told = unescape(written)
        assert not {one for one in ids | texts if one in told}
        assert str(own.root) not in told


def test_identifiers_and_text_of_the_few_most_exposed_where_asked(own: Store) -> None:
    ids, texts = ids_and_texts(own, "bare")
    named = unescape(html(made(own, "bare", identifiers=True)))
    listed = {one for one in ids if re.search(rf"\b{one}\b", named)}
    assert 0 < len(listed) <= 15
    assert not {one for one in texts if one in named}
    told = unescape(html(made(own, "bare", text=True)))
    assert 0 < sum(one in told for one in texts) <= 5
    assert not {one for one in ids if re.search(rf"\b{one}\b", told)}
    assert "must not leave the site as it is" in told


def test_the_most_exposed_are_one_a_patient() -> None:
    table = pd.DataFrame({"record_id": ["b", "a", "c"], "patient_id": ["p", "p", "q"], "p_first": [0.9, 0.9, 0.1]})
    assert most_exposed(table)["record_id"].tolist() == ["a", "c"]


def test_text_that_is_not_stored_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_for(*_: object) -> dict[str, str]:
        raise AssertionError("files of a real cohort were opened")

    monkeypatch.setattr("linkage_core.report.found.report_texts", looked_for)
    store = Store(tmp_path)
    records = two_each("zqx", 40)
    fill(store, toy_cohort("mute", records), "m", 1.0, 0, store_text=False)
    of = made(store, "mute", text=True)
    assert "the store has none of this cohort" in words(of, "exposure")
    assert not {one for one in records["report"] if one in unescape(html(of))}


def test_a_release_folder_is_checked_and_told(lab: Store, own: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    keys = ("--secret", tmp_path / "secret", "--new-secret", "--per-patient", 2)
    target = f"phantom/{lab_store.MODEL}"
    asked = ("--kind", "capped", "--limit", 30, *keys, "--out", out, "--store", lab.root)
    assert linkage("release", target, *asked, "--quiet") == 0
    of = made(lab, "phantom", releases=(out,), sections=("releases",))
    certificate = json.loads((out / "certificate.json").read_text(encoding="utf-8"))
    page = unescape(html(of))
    assert certificate["digest"] in page
    for sentence in (*certificate["sentences"], *certificate["assumptions"]):
        assert sentence in page
    row = tables(of)["certified"].rows[0]
    assert (row["n"], row["alone"]) == (100, certificate["certified"][0]["alone"])
    with pytest.raises(InputError, match="is of the cohort phantom, not of bare"):
        made(own, "bare", releases=(out,))
    (out / "certificate.json").write_text("{}")
    with pytest.raises(LinkageError):
        made(lab, "phantom", releases=(out,))


def test_a_bound_is_never_rounded_down() -> None:
    column = Column("recall", "", "limit")
    for rate in (0.02501, 0.02549, 0.301, 0.9932, 0.1):
        told = float(cell(column, {"recall": rate, "out_of": 100}).split(" of ")[0])
        assert told >= 100 * rate
        assert told < 100 * rate + 1


# -- hostile and damaged ---------------------------------------------------------------------------------------------

HOSTILE = "<script>alert('x')</script>\"&<img src=x onerror=alert(1)>"


def test_whatever_things_are_called_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "new_name", str)  # a store that was made elsewhere may have such names
    store = Store(tmp_path)
    records = two_each("zqx", 40, sex=HOSTILE, view="</td><iframe>")
    records["report"] = [f"{HOSTILE} {i}" for i in range(len(records))]
    fill(store, toy_cohort(HOSTILE, records), HOSTILE, 1.0, 0)
    entry = store.open(HOSTILE, HOSTILE)
    seen = found([entry], [HOSTILE], Asked(identifiers=True, text=True, command=f"linkage report {HOSTILE}"))
    page = html(report(seen, DAY))
    parsed = Tags(page)
    assert parsed.tags <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "span", "b", "section"),
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "ul", "li", "pre"),
        *("code", "svg", "line", "text", "polyline", "polygon", "circle", "rect"),
    }
    assert not {name for name in parsed.attributes if name.startswith("on") or name in ("src", "href")}
    assert HOSTILE in "".join(parsed.text)
    json.loads(twin(report(seen, DAY)))


def test_it_fetches_nothing_and_runs_nothing(whole: Report) -> None:
    page = html(whole)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "url(" not in page
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_a_damaged_model_is_left_out_by_name_and_all_damaged_is_an_error(own: Store, tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(own.root, tmp_path / "store")))
    damaged = store.open("bare", "weak").path / "records.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    of = made(store, "bare")
    assert "The model weak is left out, as it cannot be read." in words(of, "cohort")
    assert {row["model"] for row in tables(of)["sizes"].rows} == {"strong"}
    with pytest.raises(StoreError):
        made(store, "bare", "weak")
    absent = StoreError("The store has no bare/gone.", "Embed it.")
    seen = found([absent, store.open("bare", "strong")], ["gone", "strong"], Asked())
    assert "gone is left out" in words(report(seen, DAY), "cohort")


def test_a_damaged_lab_takes_its_sections_alone(lab: Store, tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(lab.root, tmp_path / "store")))
    table = store.open("phantom", lab_store.MODEL).path / "lab" / "linkage.parquet"
    table.write_bytes(b"no table")
    of = made(store, "phantom")
    assert "linkage.parquet" in words(of, "mitigations")
    assert of.section("curve").there
    assert of.section("exposure").there


def test_models_of_several_cohorts_or_none_are_refused(own: Store) -> None:
    with pytest.raises(InputError, match="one cohort"):
        found([own.open("bare", "weak"), own.open("tiny", "weak")], ["weak", "weak"], Asked())
    with pytest.raises(LinkageError):
        found([], [], Asked())


# -- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chart",
    [
        Curves("c", "A & B", "<words>", (Series("one <b>", (10,), (0.1,), (0.0,), (0.3,)),)),
        Curves("c", "all", "w", tuple(Series(f"m{i}", (2, 7), (1.0, 0.0), (1.0, 0.0), (1.0, 0.4)) for i in range(7))),
        Bars("b", "none", "w", (Bar("nothing <i>", 0.0, 0.0, 0.0), Bar("x" * 90, 1.0, 0.9, 1.0, True)), 0.01, 100),
    ],
    ids=["one point", "equal ends", "nought and all"],
)
def test_a_picture_is_whole_whatever_it_shows(chart: Curves | Bars) -> None:
    drawn = draw.curves(chart) if isinstance(chart, Curves) else draw.bars(chart)
    root = ElementTree.fromstring(drawn)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for node in root.iter():
        for name, most in (("x", width), ("cx", width), ("x1", width), ("x2", width), ("y", height), ("cy", height)):
            if name in node.attrib:
                assert -8 <= float(node.attrib[name]) <= most + 8, (node.tag, node.attrib)
    assert "nan" not in drawn
    labels = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "guessing" in labels


def test_a_bar_is_as_long_as_its_rate() -> None:
    drawn = draw.bars(Bars("b", "t", "w", (Bar("a", 0.2, 0.1, 0.3), Bar("b", 0.1, 0.1, 0.1)), 0.01, 100))
    widths = [float(found) for found in re.findall(r"<rect [^>]*width=\"([\d.]+)\"", drawn)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)


def test_replaced_figures_are_seen_by_the_tests(whole: Report) -> None:
    """The comparison of page and twin fails where one figure differs."""
    table = tables(whole)["sizes"]
    other = replace(table, rows=({**table.rows[0], "recall": 0.987654}, *table.rows[1:]))
    page = " ".join(Tags(html(whole)).text)
    assert not all(cell(column, other.rows[0]) in page for column in other.columns)
