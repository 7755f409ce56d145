"""Your data: what may be read, what is shown of it, and the way from a folder to an entry of the store."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.data import data_page, hiding, understood, work
from explorer.protect import jobs
from helpers.command import linkage
from helpers.toy import toy_entry, two_each
from linkage_core import allowed, shipped
from linkage_core.cohorts.registry import FILE_KINDS
from linkage_core.errors import InputError
from linkage_core.progress import silent
from linkage_core.store.entry import Store
from linkage_core.store.removing import remove, why_kept

from .conftest import buttons, last_line, words

N_STUDIES = 12


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/films: a folder of files below a root; data/damaged: one whose manifest is none; beside data: secret."""
    data = tmp_path_factory.mktemp("machine") / "data"
    assert linkage("phantom", "export", data / "films", "--studies", N_STUDIES, "--size", 32, "--quiet") == 0
    (data / "damaged").mkdir()
    (data / "damaged" / "manifest.csv").write_bytes(b"\x00\x01 no table")
    (data.parent / "secret").mkdir()
    (data.parent / "secret" / "manifest.csv").write_text("image,report,patient_id\n")
    return data / "films"


@pytest.fixture(autouse=True)
def _no_job_is_left() -> Iterator[None]:
    yield
    for job in list(jobs._JOBS.values()):
        job.cancel()
        assert job.wait(60)
    jobs._JOBS.clear()


@pytest.fixture
def data(
    open_page: Callable[..., AppTest], films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AppTest]:
    """The page on an empty store of its own, on a server that may read below data/."""
    monkeypatch.setenv(allowed.ROOTS, allowed.handed_over([films.parent]))
    (tmp_path / "store").mkdir()
    return lambda store=tmp_path / "store": open_page("data", store=store)


def alerts(app: AppTest) -> str:
    return "\n".join(block for block in words(app).split("<div") if 'role="alert"' in block)


def done(app: AppTest) -> AppTest:
    """The page after the run that was started on it."""
    job = jobs.running() or list(jobs._JOBS.values())[-1]
    assert job.wait(120)
    return app.run()


# -- what may be read ------------------------------------------------------------------------------------------------


def test_a_path_is_read_below_the_roots_alone_and_links_are_followed(films, tmp_path):
    roots = [films.parent]
    assert allowed.inside(str(films), roots, folder=True) == films.resolve()
    assert allowed.inside("films", roots, folder=True) == films.resolve(), "a path that is not whole is below the first"
    (films.parent / "way-out").symlink_to(films.parent.parent / "secret")
    try:
        for outside in ("/etc", "../secret", f"{films}/../../secret", "way-out", "/nowhere/at/all", "films/\0"):
            with pytest.raises(InputError) as said:
                allowed.inside(outside, roots, folder=True)
            assert "lies outside the folders" in str(said.value) or "\0" in outside
            assert str(films.parent) not in str(said.value).replace(outside, ""), "where the roots lie is not told"
        assert str(films.parent / "way-out") not in allowed.listed(roots), "nothing outside is listed"
        with pytest.raises(InputError, match="is a link to a place that this server may not read"):
            allowed.refuse_links_out(films.parent, roots)
    finally:
        (films.parent / "way-out").unlink()
    assert set(allowed.listed(roots)) == {str(films.parent), str(films), str(films.parent / "damaged")}
    with pytest.raises(InputError, match="There is no folder missing"):
        allowed.inside("missing", roots, folder=True)
    with pytest.raises(InputError, match="may read no folder"):
        allowed.inside(str(films), [])
    with pytest.raises(InputError, match="There is no folder"):
        allowed.handed_over([tmp_path / "missing"])


def test_a_server_that_others_reach_takes_nothing_unless_that_was_switched_on():
    assert allowed.why_closed({}, "127.0.0.1") is None
    for address in ("0.0.0.0", None, "10.1.2.3"):
        assert "other machines" in str(allowed.why_closed({}, address))
        assert allowed.why_closed({allowed.EXPOSED: "1"}, address) is None


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_no_identifier_and_no_word_of_a_report_is_in_what_is_shown(films):
    read = work.read(work.Asked("folder", str(films), look=False), [films.parent], silent)
    records = read.records
    secret = {str(v) for name in ("record_id", "patient_id", "study_id", "image", "report") for v in records[name]}
    for show in (False, True):
        found = understood.understood(read, show=show)
        sent = (
            f"{found.headline} {found.facts} {found.columns} {found.notes} {found.first.values} {found.rejects.values}"
        )
        assert any(one in sent for one in secret if len(one) > 2) == show
    assert found.n_records == len(records)
    assert f"{records['patient_id'].nunique():,} patients" in found.headline
    assert set(found.first["field"]) >= {"record_id", "view", "report", "labels"}


def test_what_is_left_out_is_counted_by_reason(films, tmp_path):
    folder = shutil.copytree(films, tmp_path / "some")
    manifest = pd.read_csv(folder / "manifest.csv")
    manifest.loc[0, "report"] = ""
    manifest.to_csv(folder / "manifest.csv", index=False)
    (folder / manifest.loc[1, "image"]).unlink()
    read = work.read(work.Asked("folder", str(folder), look=False), [tmp_path], silent)
    found = understood.understood(read, show=False)
    assert found.rejects["how many"].sum() == len(read.rejects) > 0
    for item in read.rejects["item"]:
        assert item not in str(found.rejects.values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("study 'A 1' has two patients", "study … has two patients"),
        ("row 3 (record r3) is zero; 2 such rows", "row 3 (record …) is zero; 2 such rows"),
        ("There is no column 'report'", "There is no column 'report'"),
        ("12 patients are in several splits, such as 'P12'.", "12 patients are in several splits, such as …"),
    ],
)
def test_errors_name_nobody(text, expected):
    assert hiding.hidden(text).rstrip(".") == expected.rstrip(".")


# -- the page --------------------------------------------------------------------------------------------------------


def test_every_kind_of_files_is_offered():
    assert set(data_page.KINDS) == set(FILE_KINDS)


def test_without_roots_the_page_says_how_to_start_it(open_page, tmp_path, monkeypatch):
    monkeypatch.delenv(allowed.ROOTS, raising=False)
    app = open_page("data", store=tmp_path)
    assert not app.exception
    assert [code.value for code in app.code] == ["linkage app --allow-root DIR"]
    assert "The store is empty." in words(app)


def test_an_archive_is_asked_only_where_whoever_started_it_has_named_it(data, monkeypatch):
    app = data()
    buttons(app, "data source").set_value("archive").run()
    assert not app.exception
    assert [code.value for code in app.code] == ["linkage app --allow-archive URL --allow-root DIR"]
    monkeypatch.setenv(allowed.ARCHIVES, '["http://127.0.0.1:9/dicom-web"]')
    app.run()
    assert app.selectbox("data archive").options == ["http://127.0.0.1:9/dicom-web"]
    app.text_input("data archive reports").set_value("/etc/hosts").run()
    app.button("data read it").click().run()
    app = done(app)
    assert "lies outside the folders that this server may read" in alerts(app)
    assert not app.exception


def test_beyond_this_machine_nothing_is_read_or_removed(data, monkeypatch):
    monkeypatch.setattr(data_page, "why_closed", lambda: allowed.why_closed({}, "0.0.0.0"))
    app = data()
    assert not app.exception
    assert "This server can be reached from other machines" in alerts(app)
    assert not app.button


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/etc", "/etc lies outside the folders that this server may read."),
        ("missing", "There is no folder missing."),
        ("damaged", "manifest.csv"),
    ],
)
def test_what_cannot_be_read_is_a_sentence_in_place_and_the_rest_works(data, folder, said):
    app = data()
    app.text_input("data path").set_value(folder).run()
    app.button("data read it").click().run()
    app = done(app)
    assert not app.exception
    assert said in alerts(app)
    assert "The store is empty." in words(app)
    assert last_line(app).startswith("Cannot tell:")


def test_a_folder_becomes_an_entry_step_by_step_and_is_removed_again(data, films, tmp_path, open_page):
    app = data()
    (folders,) = (one for one in app.selectbox if one.label == "Folder")
    assert folders.options[0] == films.parent.name
    assert f"{films.parent.name}/films" in folders.options, "by names alone: where they lie is on no page"
    assert str(films.parent) not in app.text_input("data path").placeholder
    app.text_input("data path").set_value(str(films)).run()
    app.button("data read it").click().run()
    app = done(app)
    assert not app.exception
    assert f"images of {N_STUDIES} studies" in words(app)
    report = pd.read_csv(films / "manifest.csv")["report"][0]
    assert report[:30] not in str([table.value.values for table in app.dataframe]) + words(app)
    other = open_page("data", store=tmp_path / "store")
    assert "2 · See what" not in "".join(one.value for one in other.subheader), "another session sees nothing of it"
    app.selectbox("data model").set_value("phantom-general").run()
    app.button("data embed it").click().run()
    app = done(app)
    assert not app.exception
    assert "<b>films/phantom-general</b> is in the store" in words(app)
    entry = Store(tmp_path / "store").open("films", "phantom-general")
    assert entry.manifest["counts"]["studies"] == N_STUDIES
    assert entry.stored_reports() == {}, "text only where it is asked for"
    app.button("data verify").click().run()
    assert "every file is as it was written" in words(app)
    (entry.path / "records.parquet").write_bytes(b"cut")
    app.button("data verify").click().run()
    assert "records.parquet" in words(app)
    app.button("data remove").click().run()
    assert "films/phantom-general was not removed." in alerts(app)
    app.text_input("data gone films/phantom-general").set_value("films/phantom-general").run()
    app.button("data remove").click().run()
    assert not app.exception
    assert Store(tmp_path / "store").cohorts() == []
    assert (films / "manifest.csv").is_file()


def test_a_full_disk_is_said(data, films, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(work, "read", full)
    app = data()
    app.text_input("data path").set_value(str(films)).run()
    app.button("data read it").click().run()
    app = done(app)
    assert not app.exception
    assert "No space left on device" in alerts(app)


# -- embeddings ------------------------------------------------------------------------------------------------------


def arrays(n_patients: int = 40) -> dict[str, tuple[str, bytes]]:
    """Uploads: images, texts and their records."""
    rng, out = np.random.default_rng(0), {}
    for part in ("image", "text"):
        buffer = io.BytesIO()
        np.save(buffer, rng.standard_normal((2 * n_patients, 8)).astype(np.float32))
        out[part] = (f"../../{part}.npy", buffer.getvalue())
    table = two_each("up", n_patients).drop(columns="report")
    return out | {"records": ("r.csv", table.to_csv(index=False).encode())}


def test_uploaded_embeddings_are_imported_and_leave_no_file(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    entry = work.bring(work.Arrays("up", "mine", arrays()), tmp_path / "store", silent)
    assert entry.manifest["counts"]["patients"] == 40
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(InputError, match="from elsewhere"):
        work.bring(work.Arrays("up", "mine", arrays()), tmp_path / "store", silent)
    bad = arrays() | {"image": ("image.npy", b"\x80\x04pickled")}
    with pytest.raises(InputError, match=r"^image\.npy is a PyTorch or pickle file"):
        work.bring(work.Arrays("bad", "mine", bad), tmp_path / "store", silent)
    with pytest.raises(InputError, match="no file was given"):
        work.bring(work.Arrays("less", "mine", {}), tmp_path / "store", silent)
    monkeypatch.setattr(work, "MOST_MB", 0.001)
    with pytest.raises(InputError, match="at most"):
        work.bring(work.Arrays("large", "mine", arrays()), tmp_path / "store", silent)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert Store(tmp_path / "store").cohorts() == ["up"]


def test_a_name_that_is_taken_is_refused(tmp_path):
    store = Store(tmp_path / "store")
    assert "synthetic cohort" in str(work.why_not_named(store, "phantom-mine", "m", None))
    assert "need a name" in str(work.why_not_named(store, " ", "m", None))
    toy_entry(store, tmp_path / "toy")
    assert "from elsewhere" in str(work.why_not_named(store, "toy", "m", tmp_path))


def test_removing_takes_the_entry_alone_and_never_what_came_with_the_project(tmp_path, store_root):
    store = Store(tmp_path / "store")
    entry = toy_entry(store, tmp_path / "toy")
    with pytest.raises(InputError, match="Type toy/m"):
        remove(entry, "toy")
    remove(entry, " toy/m ")
    assert not (store.root / "toy").exists()
    came = Store(shipped.store())
    assert "comes with the project" in str(why_kept(came.open("phantom", "phantom-general")))


def test_roots_travel_as_json(films):
    assert json.loads(allowed.handed_over([films])) == [str(films.resolve())]


def test_the_button_of_a_run_stays_its_own_when_another_one_ends(data, monkeypatch):
    first, second = jobs.Job("one", "training"), jobs.Job("two", "attackers")
    seen = []
    for found in ([first, second], [second]):
        monkeypatch.setattr(jobs, "listed", lambda found=found: found)
        seen.append([one.key for one in data().button if one.label == "Cancel"])
    assert seen[1] == seen[0][1:]
