"""The phantom goes into a real archive (Orthanc) and comes back as the cohort that it is on disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from explorer.data import work
from helpers import archive as archives
from helpers.command import linkage
from linkage_core.cohorts.dicomweb import cohort as dicomweb
from linkage_core.cohorts.dicomweb import server as servers
from linkage_core.cohorts.files import LONGEST_REPORT, check_images
from linkage_core.cohorts.phantom.cohort import records_of
from linkage_core.cohorts.phantom.population import SEED, studies_of_split
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed import embedding
from linkage_core.errors import InputError
from linkage_core.progress import silent
from linkage_core.store.entry import Entry, Store

WHY_NOT = archives.why_not()
if WHY_NOT and os.environ.get("CI") == "true":
    raise RuntimeError(WHY_NOT)
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
STUDIES, SIZE = 40, 32
MODEL = "phantom-general"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital") / "films"
    assert linkage("phantom", "export", folder, "--layout", "hospital", "--studies", STUDIES, "--size", SIZE) == 0
    return folder


@pytest.fixture(scope="module")
def archive(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[archives.Archive]:
    with archives.archive(tmp_path_factory.mktemp("archive")) as running:
        running.store(path.read_bytes() for name in ("images", "sr") for path in sorted((hospital / name).iterdir()))
        yield running


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINKAGE_DICOMWEB_USER", archives.USER)
    monkeypatch.setenv("LINKAGE_DICOMWEB_PASSWORD", archives.PASSWORD)
    monkeypatch.setattr(servers, "RATE", 1000.0)


def features(entry: Entry) -> dict[str, np.ndarray]:
    ids = list(entry.records()["record_id"])
    return dict(zip(ids, entry.features("image", ids), strict=True))


def test_the_archive_gives_the_cohort_that_lies_on_disk(
    archive: archives.Archive, hospital: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert linkage("embed", "folder", hospital, "--model", MODEL, "--store", store, "--quiet") == 0
    arguments = ["--model", MODEL, "--store", store, "--reports", hospital / "reports.csv", "--quiet"]
    assert linkage("embed", "dicomweb", archive.url, *arguments) == 0
    disk, far = (Store(store).open(name, MODEL) for name in ("films", "dicomweb"))
    assert far.manifest["cohort"]["fingerprint"] == disk.manifest["cohort"]["fingerprint"]
    assert far.manifest["counts"] == disk.manifest["counts"]
    assert far.manifest["counts"]["studies"] == STUDIES
    pd.testing.assert_frame_equal(
        far.records().drop(columns="image"), disk.records().drop(columns="image"), check_like=True
    )
    here, there = features(disk), features(far)
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[record], there[record]) for record in here)
    assert far.manifest["cohort"]["root"] is None
    assert far.verify() == []
    said = (far.path / "manifest.json").read_text()
    assert archives.PASSWORD not in said
    assert dicomweb.LISTING in far.manifest["files"]
    assert not list(store.rglob("*.dcm"))


@pytest.mark.parametrize("reports", ["fhir", "sr", "archive"])
def test_reports_come_back_whole(reports: str, archive: archives.Archive, hospital: Path) -> None:
    given = dicomweb.IN_THE_ARCHIVE if reports == "archive" else str(hospital / reports)
    found = open_cohort("dicomweb", archive.url, reports=given)
    wanted = records_of(
        [study for study, _ in zip(studies_of_split("A", "heldout", SEED), range(STUDIES), strict=False)], SEED
    )
    assert len(found.records) == len(wanted)
    assert sorted(found.records["report"]) == sorted(wanted["report"])
    assert found.rejects.empty
    on_disk = open_cohort("folder", hospital).records.set_index("record_id")["report"]
    assert found.records.set_index("record_id")["report"].equals(on_disk.loc[found.records["record_id"]])


class Stopped(Exception):
    """As when somebody pulls the plug."""


def test_a_run_that_was_stopped_goes_on_and_asks_for_nothing_twice(
    archive: archives.Archive, hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "SHARD_ROWS", 8)
    brought: list[str] = []
    asked: list[str] = []
    bring, ask = servers.Server.instance, servers.Server.instances
    lock = threading.Lock()
    stop_after = 21

    def counted(self: Any, *uids: str) -> bytes:
        with lock:
            if len(brought) == stop_after:
                raise Stopped
            brought.append(uids[2])
        return bring(self, *uids)

    def listed(self: Any, study: str, fields: Any) -> Any:
        asked.append(study)
        return ask(self, study, fields)

    monkeypatch.setattr(servers.Server, "instance", counted)
    monkeypatch.setattr(servers.Server, "instances", listed)
    monkeypatch.setattr("linkage_core.embed.pipeline.CPU_BATCH", 8)
    from linkage_core.encoders.registry import load_encoder

    store = Store(tmp_path / "store")
    encoder = load_encoder(MODEL, store_root=store.root)

    def run() -> Entry:
        place = embedding.unfinished(store.root, "dicomweb", MODEL)
        found = open_cohort("dicomweb", archive.url, reports=str(hospital / "reports.csv"), listed=place)
        return embedding.embed(found, encoder, store, workers=0)

    with pytest.raises(Stopped):
        run()
    whole = len(list((store.root / "dicomweb" / MODEL).glob("features-image-*")))
    assert whole >= 1
    stop_after = 10**6
    before = len(brought)
    entry = run()
    n = entry.manifest["counts"]["images"]
    assert len(brought) - before == n - 8 * whole
    assert len(asked) == STUDIES  # the second run asked nothing: the listing was kept
    assert entry.records()["record_id"].is_unique
    assert len(features(entry)) == n
    brought.clear()
    run()
    assert brought == []
    assert len(asked) == 2 * STUDIES  # a finished entry asks anew: there may be more


def test_kept_files_are_not_asked_for_again(
    archive: archives.Archive, hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_cohort("dicomweb", archive.url, reports=str(hospital / "sr"), keep=str(tmp_path / "kept"))
    row = found.records.iloc[0].to_dict()
    first = found.fetch(row)["data"]
    place = tmp_path / "kept" / row["image"]
    assert place.read_bytes() == first
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0
    monkeypatch.setattr(servers.Server, "instance", lambda *_: pytest.fail("asked again"))
    assert found.fetch(row)["data"] == first
    assert found.root == tmp_path / "kept"


def test_filters_and_what_does_not_join_are_counted(archive: archives.Archive, hospital: Path, tmp_path: Path) -> None:
    table = pd.read_csv(hospital / "reports.csv", dtype=str)
    table.loc[5, "report"] = "long " * LONGEST_REPORT
    mine = tmp_path / "reports.csv"
    pd.concat(
        [
            table.iloc[2:],
            table.iloc[2:3].assign(report="Something else."),  # an accession number used twice
            table.iloc[3:4],  # the same twice
            pd.DataFrame({"accession_number": ["NOBODY", ""], "report": ["No images.", "No number."]}),
            pd.DataFrame({"accession_number": ["P1"], "report": [""]}),
        ]
    )[["accession_number", "report"]].to_csv(mine, index=False)
    listed = tmp_path / "studies.txt"
    listed.write_text("\n".join([*table["accession_number"][:6], "1.2.3.4.5"]))
    found = open_cohort("dicomweb", archive.url, reports=str(mine), studies=str(listed))
    assert found.records["study_id"].nunique() == 2
    reasons = found.rejects["reason"].value_counts().to_dict()
    images = open_cohort("dicomweb", archive.url, reports=str(hospital / "reports.csv"), studies=str(listed)).records
    accession = {number: uid for uid, number in zip(*_numbers(archive, listed), strict=True)}
    of = images["study_id"].value_counts().to_dict()
    first = [of[accession[number]] for number in table["accession_number"][:6]]
    assert reasons == {
        "no-such-study": 1,
        "no-report": first[0] + first[1],
        "study-with-two-reports": first[2],
        "long-report": first[5],
        "report-without-images": STUDIES - 6 + 1,
        "report-without-number": 1,
        "empty-report": 1,
    }
    said = " ".join(found.rejects["what"] + found.rejects["remedy"])
    assert not any(number in said for number in table["accession_number"])
    assert "12 objects" not in said
    with pytest.raises(InputError, match="needs reports"):
        open_cohort("dicomweb", archive.url)
    nothing = open_cohort("dicomweb", archive.url, reports=str(mine), modality="CT")
    assert nothing.records.empty
    hands = open_cohort("dicomweb", archive.url, reports=str(mine), body_part="HAND")
    assert hands.records.empty
    assert any("of body part CHEST: left out" in note for note in hands.understood.notes)


def _numbers(archive: archives.Archive, listed: Path) -> tuple[list[str], list[str]]:
    from linkage_core.cohorts.dicomweb import listing
    from linkage_core.cohorts.dicomweb.login import Login

    server = servers.Server(archive.url, Login(user=archives.USER, password=archives.PASSWORD), rate=1000)
    found = listing.find(server, listing.asked("DX", "", "", listed, False)).table
    return list(found["study"]), list(found["accession"])


def test_images_are_opened_and_a_damaged_one_is_a_reject(
    hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an archive of its own: two patients under one study, a file cut short, an image of no body part."""
    import pydicom

    files = sorted((hospital / "images").iterdir())[:4]
    data = [pydicom.dcmread(file) for file in files]
    data[1].StudyInstanceUID, data[1].PatientID = data[0].StudyInstanceUID, "SOMEBODY ELSE"
    data[2].PixelData = data[2].PixelData[:100]
    del data[2].BodyPartExamined
    for number, one in enumerate(data):
        one.save_as(tmp_path / f"{number}.dcm")
    with archives.archive(tmp_path / "archive") as running:
        running.store((tmp_path / f"{number}.dcm").read_bytes() for number in range(4))
        found = open_cohort("dicomweb", running.url, reports=str(hospital / "reports.csv"))
        reasons = found.rejects["reason"].value_counts()
        assert reasons["study-of-two-patients"] == 2
        assert "SOMEBODY ELSE" not in " ".join(found.rejects["what"])
        assert any("1 image whose header names no body part" in note for note in found.understood.notes)
        looked = check_images(found)
    assert len(looked.records) == 1
    assert set(looked.rejects["reason"]) - set(found.rejects["reason"]) == {"truncated"}


def test_a_wrong_password_is_one_sentence(
    archive: archives.Archive, hospital: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LINKAGE_DICOMWEB_PASSWORD", "wrong-and-secret")
    assert linkage("cohort", "dicomweb", archive.url, "--reports", hospital / "reports.csv") == 2
    said = capsys.readouterr()
    assert "The login that was given is not valid there" in " ".join(said.err.split())
    assert "wrong-and-secret" not in said.err + said.out


def test_the_page_asks_the_archives_that_were_named_and_no_other(
    archive: archives.Archive, hospital: Path, tmp_path: Path
) -> None:
    question, steps = work.Question(archive.url, "films/reports.csv"), []
    with pytest.raises(InputError, match="may not ask"):
        work.ask(question, ["https://another.example"], [hospital.parent], silent)
    with pytest.raises(InputError, match="lies outside the folders"):
        work.ask(replace(question, reports="/etc/hosts"), [archive.url], [hospital.parent], silent)
    found = work.ask(question, [archive.url], [hospital.parent], lambda *step: steps.append(step[0]))
    assert set(steps) == {"headers"}
    there = open_cohort("dicomweb", archive.url, reports=str(hospital / "reports.csv"))
    pd.testing.assert_frame_equal(found.records, there.records)
    entry = work.embed(found, "ward", MODEL, tmp_path / "store", silent)
    assert entry.manifest["counts"]["images"] == len(there.records)
    assert len(work.ask(replace(question, reports=""), [archive.url], [], silent).records) == len(there.records)
