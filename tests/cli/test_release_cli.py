"""`linkage release`, `receive`, `ledger`: what they print and send, and every bad request: message, code 2, nothing
written."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.command import linkage
from helpers.release_store import MODEL, build
from helpers.scripts import BENCHMARKS
from helpers.shared import Built
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.release import folder, records
from linkage_core.release.keyed import Secret
from linkage_core.release.kinds.capped import as_capped
from linkage_core.release.kinds.codes import as_codes
from linkage_core.release.kinds.embeddings import as_embeddings
from linkage_core.release.ledger import Ledger
from linkage_core.release.make import Options, make
from linkage_core.store.entry import Store


@pytest.fixture(scope="module")
def store(built: Built) -> Store:
    return Store(built(build))


@pytest.fixture(scope="module")
def kept(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kept")
    for name in ("toy", "clinic"):
        entry = store.open(name, MODEL)
        Secret.create(root / f"{name}.secret", name)
        patients = entry.records("all")["patient_id"].unique()
        Ledger.create(root / f"{name}.ledger", name, patients, epsilon=1.0, delta=1e-6, lift=100.0)
    return root


@pytest.fixture
def site(kept: Path, tmp_path: Path) -> Path:
    """A folder with the secrets and ledgers of two cohorts."""
    return Path(shutil.copytree(kept, tmp_path / "site"))


def contents(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_release_receive_and_ledger_from_beginning_to_end(
    store: Store, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "own"))  # it keeps a list of its ledgers
    site = tmp_path / "new"
    site.mkdir()
    common = ["--store", store.root, "--quiet"]
    out, secret, book = site / "out", site / "new.secret", site / "new.ledger"
    assert linkage("ledger", "create", book, f"clinic/{MODEL}", "--epsilon", 1, "--lift", 1000, *common) == 0
    asked = [f"clinic/{MODEL}", "--kind", "codes", "--limit", 8, "--public", "open", "--one-label", *common]
    capsys.readouterr()
    paid = ["--ledger", book, "--secret", secret]
    assert linkage("release", *asked, *paid, "--new-secret", "--out", out, "--json", "-") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["certificate"]["limit"] == 16
    assert said["charge"]["lift"] == 16
    assert said["charge"]["digest"] == said["certificate"]["ledger"]["digest"]
    assert secret.stat().st_mode & 0o777 == 0o600
    assert linkage("release", *asked, *paid, "--out", site / "again", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["charge"]["repeated"]
    assert contents(out) == contents(site / "again")
    assert linkage("receive", out, "--json", "-") == 0
    bare = {"schema": 1, "certificate": said["certificate"], "rows": [], "caution": None}
    assert json.loads(capsys.readouterr().out) == bare
    assert linkage("receive", out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "As certified" in printed
    assert "at most 16/N" in printed
    assert "The site can confirm it: linkage ledger confirm LEDGER DIR." in printed
    assert said["certificate"]["digest"] in printed
    assert linkage("ledger", "show", book, "--cohort", f"clinic/{MODEL}", *common, "--json", "-") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["mechanism"] for row in shown["entries"]] == ["codes"]
    assert shown["left"]["lift"] == pytest.approx(1000 / 16**2)
    assert linkage("ledger", "show", book, "--cohort", f"clinic/{MODEL}", "--store", store.root) == 0
    assert "lift 3.906" in capsys.readouterr().out
    assert linkage("ledger", "verify", book) == 0
    assert "as entered, 1 entries" in " ".join(capsys.readouterr().out.split())


def test_a_release_is_shown_to_people(store: Store, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [f"toy/{MODEL}", "--kind", "statistics", "--epsilon", 1, "--store", store.root, "--out", site / "s"]
    assert linkage("release", *asked) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "beyond what they already had" in printed
    assert "release.html" in printed
    asked = [f"toy/{MODEL}", "--kind", "capped", "--limit", 5, "--store", store.root, "--secret", site / "toy.secret"]
    assert linkage("release", *asked, "--out", site / "c") == 0
    assert "from the whole folder" in " ".join(capsys.readouterr().out.split())


def test_a_recipient_trains_from_the_folder_alone(store: Store, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--store", store.root, "--quiet"]
    asked = [f"toy/{MODEL}", "--kind", "codes", "--limit", 8, "--public", "open", "--secret", site / "toy.secret"]
    assert linkage("release", *asked, "--out", site / "out", *common) == 0
    assert linkage("receive", site / "out", "--cohort", f"open/{MODEL}", *common, "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert next(row for row in found["rows"] if row["label"] == "macro")["auroc"] > 0.55
    assert linkage("receive", site / "out", "--cohort", f"open/{MODEL}", "--store", store.root) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "auroc low" in printed
    assert found["caution"].startswith("open also made the public part of this release, so these figures flatter")
    assert found["caution"] in printed


def test_the_benchmark_runs_at_a_small_size() -> None:
    found = runpy.run_path(str(BENCHMARKS / "release_speed.py"))["measured"](1500, 16)
    assert [row["kind"] for row in found["rows"]] == ["codes", "capped"]
    assert [row["records"] for row in found["rows"]] == [1500, 1500]


@pytest.mark.parametrize(
    "command",
    [["release"], ["receive"], ["ledger"], *(["ledger", c] for c in ("create", "show", "add", "verify", "confirm"))],
)
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert linkage(*command, "--help") == 0
    printed = capsys.readouterr().out
    assert len(printed.split()) > 30
    assert "anonym" not in printed.lower()


def capped(*more: object) -> list[object]:
    return ["toy/m", "--kind", "capped", *more]


def embeddings(*more: object) -> list[object]:
    return ["toy/m", "--kind", "embeddings", "--secret", "toy.secret", *more]


def codes(*more: object) -> list[object]:
    return ["toy/m", "--kind", "codes", "--public", "open", *more]


BAD: dict[str, tuple[list[object], str]] = {
    "limit at 1": (capped("--limit", 1, "--secret", "toy.secret"), "The limit L is 1, and the release has 300"),
    "limit below 1": (capped("--limit", 0.5, "--secret", "toy.secret"), "Take one above 1"),
    "limit above N": (capped("--limit", 301, "--secret", "toy.secret"), "at most N"),
    "limit nan": (capped("--limit", "nan", "--secret", "toy.secret"), "--limit is nan"),
    "K nan": (codes("--limit", "nan", "--secret", "toy.secret"), "--limit is nan"),
    "K infinite": (codes("--limit", "inf", "--secret", "toy.secret"), "--limit is inf"),
    "limit 0 of another kind": (
        ["toy/m", "--kind", "statistics", "--epsilon", 1, "--limit", 0],
        "--limit was given for a release of statistics",
    ),
    "noise 0 of another kind": (
        ["toy/m", "--kind", "statistics", "--epsilon", 1, "--noise", 0],
        "--noise was given for a release of statistics",
    ),
    "least 0 of another kind": (
        ["toy/m", "--kind", "statistics", "--epsilon", 1, "--least", 0],
        "--least was given for a release of statistics",
    ),
    "findings without labels": (
        capped("--limit", 9, "--secret", "toy.secret", "--findings", "Edema"),
        "goes with --one-label there",
    ),
    "findings of embeddings": (
        ["toy/m", "--kind", "embeddings", "--secret", "toy.secret", "--findings", "Edema"],
        "--findings was given for a release of embeddings",
    ),
    "new secret of statistics": (
        ["toy/m", "--kind", "statistics", "--epsilon", 1, "--new-secret"],
        "--new-secret was given for a release of statistics",
    ),
    "no limit": (capped("--secret", "toy.secret"), "needs a limit"),
    "epsilon below ln L": (capped("--limit", 9, "--epsilon", 2, "--secret", "toy.secret"), "It is above ln L"),
    "K above the policy": (codes("--limit", 61, "--secret", "toy.secret"), "61 cells of at least 5 records need 305"),
    "K above the policy, least": (codes("--limit", 9, "--least", 40, "--secret", "toy.secret"), "at most 7 cells"),
    "K no whole number": (codes("--limit", 8.5, "--secret", "toy.secret"), "a whole number of cells"),
    "K of one": (codes("--limit", 1, "--secret", "toy.secret"), "Take 2 or more"),
    "least of one": (codes("--limit", 8, "--least", 1, "--secret", "toy.secret"), "A cell with one record names it"),
    "no public cohort": (["toy/m", "--kind", "codes", "--limit", 8, "--secret", "toy.secret"], "needs a public cohort"),
    "public is the released": (
        ["toy/m", "--kind", "codes", "--limit", 8, "--public", "toy", "--secret", "toy.secret"],
        "which is the one that is released",
    ),
    "public is absent": (
        ["toy/m", "--kind", "codes", "--limit", 8, "--public", "none", "--secret", "toy.secret"],
        "The store has no none/m",
    ),
    "no secret": (capped("--limit", 9), "needs the site's secret"),
    "secret missing": (capped("--limit", 9, "--secret", "other.secret"), "add --new-secret to make it"),
    "secret of another cohort": (
        capped("--limit", 9, "--secret", "clinic.secret"),
        "belongs to another cohort ('clinic', not 'toy')",
    ),
    "secret made twice": (capped("--limit", 9, "--secret", "toy.secret", "--new-secret"), "exists"),
    "ledger of another cohort": (
        capped("--limit", 9, "--secret", "toy.secret", "--ledger", "clinic.ledger"),
        "is the ledger of the cohort 'clinic', not 'toy'",
    ),
    "ledger missing": (capped("--limit", 9, "--secret", "toy.secret", "--ledger", "x"), "There is no ledger at"),
    "over budget": (
        capped("--limit", 11, "--secret", "toy.secret", "--ledger", "toy.ledger"),
        "have not so much left",
    ),
    "query over budget": (
        ["toy/m", "--kind", "statistics", "--epsilon", 1.1, "--ledger", "toy.ledger"],
        "have not so much left",
    ),
    "no ledger for patients": (
        ["clinic/m", "--kind", "capped", "--limit", 9, "--secret", "clinic.secret"],
        "is no synthetic cohort, and no ledger",
    ),
    "no ledger for statistics": (["clinic/m", "--kind", "statistics", "--epsilon", 1], "linkage ledger create"),
    "reproducible of patients": (
        ["clinic/m", "--kind", "statistics", "--epsilon", 1, "--reproducible"],
        "which is not synthetic",
    ),
    "reproducible and secret": (
        capped("--limit", 9, "--secret", "toy.secret", "--reproducible"),
        "with a secret or a ledger",
    ),
    "no epsilon": (["toy/m", "--kind", "statistics"], "needs an epsilon"),
    "epsilon 0": (["toy/m", "--kind", "statistics", "--epsilon", 0], "above 0 and finite"),
    "epsilon infinite": (["toy/m", "--kind", "statistics", "--epsilon", "inf"], "sums without noise stay here"),
    "delta too large": (["toy/m", "--kind", "statistics", "--epsilon", 1, "--delta", 0.5], "Take a smaller --delta"),
    "kind unknown": (["toy/m", "--kind", "vectors"], "--kind is 'vectors'"),
    "option of another kind": (["toy/m", "--kind", "statistics", "--epsilon", 1, "--limit", 9], "It goes with: codes"),
    "label on scores": (
        ["toy/m", "--kind", "scores", "--public", "open", "--secret", "toy.secret", "--one-label"],
        "--one-label was given for a release of scores",
    ),
    "finding unknown": (
        codes("--limit", 8, "--secret", "toy.secret", "--one-label", "--findings", "Cough"),
        "--findings has 'Cough'",
    ),
    "ledger of no limit": (
        ["toy/m", "--kind", "embeddings", "--secret", "toy.secret", "--ledger", "toy.ledger"],
        "Add --unlimited to enter it as such",
    ),
    "unlimited with noise": (
        embeddings("--noise", 9, "--ledger", "toy.ledger", "--unlimited"),
        "--unlimited was given with --noise",
    ),
    "unlimited without ledger": (
        embeddings("--unlimited"),
        "--unlimited was given without --ledger",
    ),
    "unlimited of another kind": (
        capped("--limit", 9, "--secret", "toy.secret", "--ledger", "toy.ledger", "--unlimited"),
        "--unlimited was given for a release of capped",
    ),
    "no ledger for clean embeddings": (
        ["clinic/m", "--kind", "embeddings", "--secret", "clinic.secret"],
        "is no synthetic cohort, and no ledger",
    ),
    "no ledger for scores": (
        ["clinic/m", "--kind", "scores", "--public", "open", "--secret", "clinic.secret"],
        "is no synthetic cohort, and no ledger",
    ),
    "noise below 0": (["toy/m", "--kind", "embeddings", "--noise", -1, "--secret", "toy.secret"], "The noise is -1"),
    "head absent": (capped("--limit", 9, "--secret", "toy.secret", "--head", "none"), "has no head 'none'"),
    "split absent": (capped("--limit", 9, "--secret", "toy.secret", "--split", "attacker"), "has no records in split"),
    "cohort absent": (["none/m", "--kind", "capped", "--limit", 9], "The store has no none/m"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_ends_with_two_and_leaves_nothing(
    name: str, store: Store, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD[name]
    files = {"toy.secret", "clinic.secret", "other.secret", "toy.ledger", "clinic.ledger", "x"}
    given = [site / one if one in files else one for one in arguments]
    before = contents(site)
    assert linkage("release", *given, "--store", store.root, "--out", site / "out", "--quiet") == 2
    printed = capsys.readouterr()
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert not printed.out
    assert contents(site) == before
    assert not (site / "out").exists()


@pytest.mark.parametrize("place", ["taken", "file", "no/parent"])
def test_an_out_that_is_there_or_cannot_be_is_refused(
    place: str, store: Store, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "taken").mkdir()
    (site / "file").write_text("x")
    before = contents(site)
    asked = capped("--limit", 9, "--secret", site / "toy.secret", "--ledger", site / "toy.ledger")
    assert linkage("release", *asked, "--store", store.root, "--out", site / place, "--quiet") == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert ("There is no folder" if place == "no/parent" else "exists") in printed
    assert contents(site) == before


def test_a_patient_unknown_to_the_ledger_is_refused(
    store: Store, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = store.open("toy", MODEL)
    some = entry.records("all")["patient_id"].unique()[:-3]
    Ledger.create(site / "few", entry.cohort, some, epsilon=1.0, delta=1e-6, lift=1e4)
    before = contents(site)
    asked = capped("--limit", 9, "--secret", site / "toy.secret", "--ledger", site / "few")
    assert linkage("release", *asked, "--store", store.root, "--out", site / "out", "--quiet") == 2
    assert "3 of 150 patients are unknown to the ledger" in " ".join(capsys.readouterr().err.split())
    assert contents(site) == before


def test_embeddings_off_the_sphere_and_shared_patients_are_refused(store: Store, tmp_path: Path) -> None:
    from helpers.lab_store import cohort

    entry = store.open("toy", MODEL)
    source = records.gather(entry)
    secret = Secret.create(tmp_path / "s", entry.cohort)
    bent = records.replace(source, embeddings=source.embeddings * np.where(np.arange(source.n) == 4, 1.5, 1)[:, None])
    with pytest.raises(InputError, match=r"Row 4 has norm 1\.5"):
        as_capped(bent, secret, 9)
    with pytest.raises(InputError, match=r"Embedding 4 has norm 1\.5"):
        as_codes(bent, secret, 8, store.open("open", MODEL))
    twice = records.replace(
        source,
        records=pd.concat([source.records, source.records.iloc[:1]], ignore_index=True),
        embeddings=np.vstack([source.embeddings, source.embeddings[:1]]),
        images=[*source.images, source.images[0]],
    )
    with pytest.raises(InputError, match="Two records have one number"):
        as_embeddings(twice, secret)
    other = Store(tmp_path / "store")
    found, images, texts = cohort("toy", 150, synthetic=True, seed=0, splits=("heldout",))
    import_arrays(found, MODEL, images, texts, other)
    (other.root / "toy").rename(other.root / "copy")
    with pytest.raises(InputError, match=r"150 patients, such as 'toy-p0', are in copy and in toy"):
        records.public_of(source, other.open("copy", MODEL), "codes")


RECEIVED: dict[str, tuple[Callable[[Path], object], str]] = {
    "certificate": (
        lambda p: (p / folder.CERTIFICATE).write_text((p / folder.CERTIFICATE).read_text().replace("0.09", "0.08")),
        "was altered since it was written",
    ),
    "data": (
        lambda p: pq.write_table(pq.read_table(p / records.TABLE).slice(0), p / records.TABLE, compression=None),
        "was altered since it was certified",
    ),
    "column": (
        lambda p: pq.write_table(
            pq.read_table(p / records.TABLE).append_column("sex", pa.array(["F"] * 300)), p / records.TABLE
        ),
        "has the column 'sex', which is no part of this release",
    ),
    "file": (lambda p: (p / "ages.csv").write_text("x"), "has 'ages.csv', which is no part of this release"),
    "nothing": (lambda p: shutil.rmtree(p), "There is no release folder"),
}


@pytest.mark.parametrize("name", RECEIVED)
def test_an_altered_release_is_not_received(
    name: str, store: Store, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alter, message = RECEIVED[name]
    out = make(store.open("toy", MODEL), site / "out", Options("capped", limit=9, secret=site / "toy.secret")).path
    alter(out)
    assert linkage("receive", out, "--json", site / "said.json") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (site / "said.json").exists()


def test_a_ledger_is_begun_once_and_an_altered_one_is_told(
    store: Store, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [site / "toy.ledger", f"toy/{MODEL}", "--epsilon", 1, "--lift", 9, "--store", store.root]
    assert linkage("ledger", "create", *asked) == 2
    assert "exists" in capsys.readouterr().err
    assert linkage("ledger", "create", site / "y", f"toy/{MODEL}", "--epsilon", 1, "--lift", 0.5) == 2
    (site / "toy.ledger.key").rename(site / "gone")
    assert linkage("ledger", "verify", site / "toy.ledger") == 2
    assert linkage("ledger", "show", site / "nowhere") == 2
    assert "There is no ledger" in " ".join(capsys.readouterr().err.split())
    (site / "gone").rename(site / "toy.ledger.key")
    import sqlite3

    book = sqlite3.connect(site / "toy.ledger")
    book.execute("DROP TRIGGER site_UPDATE")
    book.execute("UPDATE site SET value = '5000.0' WHERE name = 'lift'")
    book.commit()
    book.close()
    assert linkage("ledger", "verify", site / "toy.ledger") == 2
    assert "was altered" in " ".join(capsys.readouterr().err.split())
