"""The whole lab on cohorts of one's own: every command and page, with labels and without, on arrays and on files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from helpers.command import linkage
from helpers.toy import two_each
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.lab import grid, measured
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.store.entry import Store
from linkage_core.store.seen import asked_split, refuse_seen, why_untested

from .conftest import buttons, words

N_PATIENTS = 200
"""Two studies each."""
PAGES = ("start", "examples", "risk", "missing-match", "exposure", "mitigation", "frontier", "report")


def imported(root: Path, name: str, *, labels: bool, n_patients: int = N_PATIENTS) -> Path:
    """`linkage import` of arrays in which images and reports share findings and an instance."""
    rng = np.random.default_rng(list(name.encode()))  # others of another name: a ledger knows images again
    states = (rng.random((2 * n_patients, len(LABELS))) < 0.3).astype(int)
    texts = np.column_stack([2 * states, rng.standard_normal((len(states), 10))]).astype(np.float32)
    images = (texts + 0.7 * rng.standard_normal(texts.shape)).astype(np.float32)
    columns = dict(zip(LABELS, states.T, strict=True)) if labels else {}
    (folder := root / name).mkdir()
    two_each(name, n_patients, **columns).to_csv(folder / "records.csv", index=False)
    np.save(folder / "image.npy", images)
    np.save(folder / "text.npy", texts)
    files = [f"--{one}={folder / file}" for one, file in (("image", "image.npy"), ("text", "text.npy"))]
    command = ["import", f"{name}/m", *files, f"--records={folder / 'records.csv'}", "--store", root / "store"]
    assert linkage(*command, "--quiet") == 0
    return root / "store"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`labelled` and `bare`, imported; `films`, a folder of files without labels."""
    root = tmp_path_factory.mktemp("own")
    imported(root, "labelled", labels=True)
    imported(root, "bare", labels=False, n_patients=60)
    folder = root / "films"
    assert linkage("phantom", "export", folder, "--studies", 60, "--size", 64, "--quiet") == 0
    manifest = pd.read_csv(folder / "manifest.csv")
    manifest.drop(columns=[*LABELS]).to_csv(folder / "manifest.csv", index=False)
    assert linkage("embed", "folder", folder, "--model=phantom-general", "--store", root / "store", "--quiet") == 0
    return root / "store"


TARGETS = {"labelled": "labelled/m", "bare": "bare/m", "films": "films/phantom-general"}


@pytest.mark.parametrize("name", TARGETS)
def test_every_command_works_on_it_and_every_page_shows_it(
    name: str, store: Path, tmp_path: Path, open_page: Callable[..., AppTest]
) -> None:
    target = TARGETS[name]
    secret, book, out = tmp_path / "secret", tmp_path / "book", tmp_path / "out"

    def said(*command: object, code: int = 0) -> Any:
        file = tmp_path / "said.json"
        assert linkage(*command, "--store", store, "--quiet", "--json", file) == code, command
        return json.loads(file.read_text(encoding="utf-8")) if code == 0 else None

    def split(content: Any) -> str:
        return str(content["provenance"][target]["split"])

    assert split(said("audit", target)) == "all"
    head = said("finetune", target, "--epsilon", 1)
    assert head["mechanism"] == ("label-dpsgd" if name == "labelled" else "moment-oneshot")
    assert head["private"]
    finetuned = ("--head", head["head"])
    assert split(said("audit", target, *finetuned)) == "heldout"
    for more in (["--known", "0,all"], ["--game", "archive", "--known", "all"]):
        found = said("attack", target, *finetuned, *more)
        assert {row["when"] for row in found["worst"]} == {"before", "after"}
    assert bool(said("utility", target, *finetuned, code=0 if name == "labelled" else 2)) == (name == "labelled")
    assert said("canary", target, "--canaries", 4)["refuted"] is False
    assert linkage("ledger", "create", book, target, "--epsilon", 3, "--lift", 1e6, "--store", store, "--quiet") == 0
    kept = ("--secret", secret, "--new-secret", "--ledger", book)
    said("release", target, "--kind", "embeddings", *kept, "--unlimited", "--out", out)
    said("receive", out, *(("--cohort", target, "--split", "heldout") if name == "labelled" else ()))
    for page in PAGES if name == "labelled" else ("examples", "mitigation", "frontier"):
        app = open_page(page, store=store, cohort=name)
        assert not app.exception, page
        if page == "mitigation":
            assert re.search("The worst attacker(:| tried links)|Too few to say", words(app))
            assert any("needs labels" in str(box.options) for box in app.selectbox) == (name != "labelled")
        if page == "examples":
            assert "The true report is" in words(app)
    app = open_page("examples", store=store, cohort=name, second="@mitigation")
    assert "After:" in words(app)


def test_the_lab_of_a_cohort_fills_the_pages(
    store: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., AppTest]
) -> None:
    """Of each kind of head one, so that it takes seconds."""
    whole = grid.of_cohort

    def one_of_each(entry: Any, public: str | None = None) -> list[grid.Planned]:
        plan = whole(entry, public)
        assert all(one.options.seed is None for one in plan), "real patients: noise is secret"
        return list({one.mechanism: one for one in reversed(plan)}.values())[:3]

    instant = grid.quick
    assert [one.name for one in instant(Store(store).open("bare", "m"))] == [
        *(f"moment-oneshot-eps{epsilon:g}" for epsilon in grid.MAIN),
        "noise-only-moment-oneshot-eps0.34",
    ], "what Mitigation opens with where there are no labels"
    monkeypatch.setattr(grid, "quick", lambda entry: instant(entry)[:1])
    assert linkage("lab", "bare/m", "--quick", "--public", "x", "--store", store, "--quiet") == 2
    assert linkage("lab", "bare/m", "--quick", "--processes", 1, "--store", store, "--quiet") == 0
    there = measured.linkage(Store(store).open("bare", "m"))
    assert {"off-the-shelf", "moment-oneshot-eps0.34"} <= set(there["head"])
    monkeypatch.setattr(grid, "of_cohort", one_of_each)
    for name in ("labelled", "bare"):
        assert linkage("lab", f"{name}/m", "--processes", 1, "--store", store, "--quiet") == 0
        assert linkage("lab", f"{name}/m", "--processes", 1, "--store", store, "--quiet") == 0, "all is there"
        app = open_page("frontier", store=store, cohort=name)
        assert not app.exception
        answered = "Nothing here" in words(app) or "cannot be judged here: too few patients" in words(app)
        assert answered == (name == "labelled")
        if name == "labelled":
            assert "Read single records" in buttons(app, "frontier purpose").options
            assert buttons(app, "frontier purpose").value == "read", "nothing was trained on a release here"
        assert any("linkage lab bare/m" in code.value for code in app.code) == (name == "bare")


def test_nobody_is_measured_who_taught_the_head(store: Path) -> None:
    entry = Store(store).open("labelled", "m")
    learnt = settings.live(entry, Setting("label-oneshot", 1.0)).study
    assert learnt.split == "heldout"
    assert set(learnt.queries["split"]) == {"heldout"}
    command = ["finetune", "labelled/m", "--mechanism", "label-oneshot", "--epsilon", "1", "--name", "taught"]
    assert linkage(*command, "--store", store, "--quiet") == 0
    assert asked_split(entry.again(), "taught") == "heldout"
    with pytest.raises(InputError, match="helped to train it"):
        refuse_seen(entry.again(), "taught", "all")


def test_a_cohort_that_was_split_anew_is_no_hiding_place_for_those_who_taught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heads stay where a cohort is read again, and the new split may hold out who trained them."""
    store = imported(tmp_path, "again", labels=True, n_patients=60)
    taught = ["finetune", "again/m", "--mechanism", "label-oneshot", "--epsilon", "1", "--name", "h"]
    assert linkage(*taught, "--store", store, "--quiet") == 0
    assert linkage("audit", "again/m", "--head", "h", "--store", store, "--quiet") == 0
    files = [f"--{one}={tmp_path / 'again' / one}" for one in ("image.npy", "text.npy", "records.csv")]
    files = [file.replace(".npy=", "=", 1).replace(".csv=", "=", 1) for file in files]
    assert linkage("import", "again/m", *files, "--seed", 1, "--store", store, "--quiet") == 0
    entry = Store(store).open("again", "m")
    assert "heads/h.safetensors" in entry.manifest["files"], "nothing is lost"
    capsys.readouterr()
    for command in ("audit", "attack", "utility"):
        assert linkage(command, "again/m", "--head", "h", "--store", store, "--quiet") == 2
        assert "or may have, where the cohort was read again since" in capsys.readouterr().err


def test_a_cohort_too_small_says_what_is_not_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], open_page: Callable[..., AppTest]
) -> None:
    """Of five patients one is held out, and a pool needs two."""
    store = imported(tmp_path, "few", labels=True, n_patients=5)
    entry = Store(store).open("few", "m")
    assert "few has too few patients in its splits (finetune 3, attacker 1, heldout 1)" in str(why_untested(entry))
    for command in ("attack few/m", "attack few/m --game archive", "lab few/m"):
        assert linkage(*command.split(), "--store", store, "--quiet") == 2
        assert "--splits" in capsys.readouterr().err
    with pytest.raises(InputError, match="few has too few patients"):
        settings.live(entry, Setting("label-oneshot", 1.0))
    assert linkage("audit", "few/m", "--store", store, "--quiet") == 0
    app = open_page("mitigation", store=store, cohort="few")
    assert not app.exception
    assert "few has too few patients in its splits" in words(app)


def test_one_patient_has_nobody_to_be_taken_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = imported(tmp_path, "one", labels=False, n_patients=1)
    assert linkage("audit", "one/m", "--store", store, "--quiet") == 2
    assert "A pool needs two patients" in capsys.readouterr().err


def test_pools_that_cannot_be_filled_are_left_out_by_name(tmp_path: Path, store: Path) -> None:
    file = tmp_path / "said.json"
    command = [
        "audit",
        "labelled/m",
        "--pool-size",
        "3,100,99999",
        "--k",
        "1",
        "--hard-negatives",
        "--store",
        store,
        "--quiet",
    ]
    assert linkage(*command, "--json", file) == 0
    said = json.loads(file.read_text(encoding="utf-8"))
    assert {row["pool_size"] for row in said["rows"]} == {3}
    assert "no query has so many candidates; the largest N is" in said["left_out"]["m, N = 99,999"]
    assert linkage("audit", "labelled/m", "--pool-size", "99999", "--store", store, "--quiet") == 2
