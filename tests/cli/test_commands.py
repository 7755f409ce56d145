"""The table of commands: what each line says, what is imported when, and help that fits a screen."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers.toy import toy_arrays, toy_records
from linkage_core.cli import main, screens
from linkage_core.cli.options import AS_IT_IS
from linkage_core.cohorts import table
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import STOPPED
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

ROOT = Path(__file__).resolve().parents[2]
WORKING = [row for row in main.TABLE if row.function]
SCREEN = 30

HEAVY = ("faiss", "numba", "opacus", "plotly", "scipy.stats", "sklearn", "streamlit", "torch", "transformers")
MAY_LOAD: dict[str, set[str]] = {
    "doctor": {"faiss", "torch"},  # are they here, and which?
    "audit": {"numba"},  # exact counts, compiled; those of the phantom are stored
    "embed": {"numba", "torch"},
    "import": {"numba"},
    "report": {"numba", "scipy.stats"},
    "attack": {"numba"},
    "utility": {"numba", "scipy.stats"},
    "receive": {"numba", "scipy.stats"},  # as utility, where a cohort was given
    "lab": {"numba", "scipy.stats", "sklearn"},  # attackers on released records, however it ends
    "canary": {"scipy.stats"},  # the accountants
    "finetune": {"opacus", "scipy.stats", "torch"},  # an accountant of Opacus
    "study": {"numba", "scipy.stats", "torch"},
    "phantom build": {"numba", "scipy.stats", "sklearn", "torch"},
}
"""What is slow to import -> the commands that work with it. Every other command runs without all of HEAVY."""


def words(row: main.Row) -> list[str]:
    """What is typed to call it."""
    return [row.name] if row.under == "linkage" else [row.under, row.name]


def in_a_new_process(code: str, *arguments: str) -> Any:
    """What a script prints last, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def command() -> Any:
    """The command of a row, with the context it is called in."""
    root: Any = typer.main.get_command(main.app)

    def of(row: main.Row) -> tuple[Any, Any]:
        context = root.context_class(root, info_name="linkage", **root.context_settings)
        for name in words(row):
            found = context.command.get_command(context, name)
            context = found.context_class(found, info_name=name, parent=context)
        return context.command, context

    return of


def test_each_line_is_the_first_of_its_function() -> None:
    assert len({(row.under, row.name) for row in main.TABLE}) == len(main.TABLE)
    groups = {row.name for row in main.TABLE if not row.function}
    assert {row.under for row in main.TABLE} == {"linkage", *groups}
    for row in WORKING:
        function = getattr(import_module(f"linkage_core.cli.{row.module}"), row.function)
        assert inspect.getdoc(function).split("\n")[0] == row.line, row.name


def test_the_page_of_all_lists_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in ((["--help"], 0), ([], 2)):
        with pytest.raises(SystemExit) as stopped:
            main.main(arguments)
        said = capsys.readouterr()
        assert (stopped.value.code or 0, said.err) == (code, "")
        for row in main.TABLE:
            if row.under == "linkage":
                assert re.search(rf"^  {row.name} +{re.escape(row.line.split()[0])}", said.out, re.M), row.name
                assert f"{row.heading}:\n" in said.out
    with pytest.raises(SystemExit):
        main.main(["ledger", "--help"])
    said = capsys.readouterr()
    assert all(f"\n  {row.name} " in said.out for row in main.TABLE if row.under == "ledger")


@pytest.mark.parametrize(
    ("typed", "near"), [(["audti"], "audit"), (["finetun"], "finetune"), (["ledger", "verfy", "x"], "verify")]
)
def test_a_command_that_there_is_not_names_the_nearest(
    typed: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(typed)
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert f"Did you mean '{near}'?" in said.err
    assert said.out == ""


LISTED = """
import json, sys
before = set(sys.modules)
sys.argv = ["linkage", *sys.argv[1:]]
from linkage_core.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
OURS = {"", ".__main__", ".cli", ".cli.main", ".cli.options", ".cli.screens", ".errors"}
OTHERS = {"typer", "annotated_doc", "shellingham"}  # typer and what it brings; not even rich


def test_help_loads_the_table_and_typer_alone() -> None:
    loaded = in_a_new_process(LISTED, "--help")
    ours = {name.removeprefix("linkage_core") for name in loaded if name.split(".")[0] == "linkage_core"}
    assert ours == OURS
    assert {name.split(".")[0] for name in loaded} - sys.stdlib_module_names - {"linkage_core"} == OTHERS


STEPS = """
import contextlib, io, json, os, sys
from linkage_core.cli import main
heavy, steps, folder = json.loads(sys.argv[1])
os.chdir(folder)
if any(name == "attack" for name, _, _ in steps):  # who trains takes a few steps: it matters what that loads
    from dataclasses import replace
    from linkage_core.attacks import dual
    dual.SETTINGS, dual._NETWORKS = tuple(replace(one, passes=1, least=4) for one in dual.SETTINGS), 2
    assert not [one for one in heavy if one in sys.modules], "then nothing would be told of what loads it"
found = []
for name, arguments, code in steps:
    before = {one for one in heavy if one in sys.modules}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main.main(arguments)
        except SystemExit as stop:
            assert (stop.code or 0) == code, (arguments, stop.code, said.getvalue())
    found.append((name, sorted({one for one in heavy if one in sys.modules} - before)))
print(json.dumps(found))
"""


def test_the_help_of_a_command_loads_nothing_heavy(tmp_path: Path) -> None:
    steps = [(" ".join(words(row)), [*words(row), "--help"], 0) for row in WORKING]
    for name, loaded in in_a_new_process(STEPS, json.dumps([HEAVY, steps, str(tmp_path)])):
        assert loaded == [], name


@pytest.fixture
def toy(tmp_path: Path, store: Store) -> Entry:
    """Enough patients in each split for every command."""
    records = toy_records(160)
    records.to_csv(tmp_path / "records.csv", index=False)
    found = replace(table.read(tmp_path / "records.csv", "toy"), default_split="heldout")
    return import_arrays(found, "m", *toy_arrays(records, 1.0), store)


def test_a_command_loads_what_it_works_with(toy: Entry, store: Store, tmp_path: Path) -> None:
    """In the order of what they may load: what is there already was allowed to an earlier one."""
    arrays = {"image": "a.npy", "text": "a.npy", "records": "a.csv"}
    asked: dict[str, tuple[str, int]] = {
        "verify": ("toy", 0),
        "labels": ("toy", 2),  # whose text is not at hand
        "phantom export": ("exported --studies 3 --size 32", 0),
        "cohort": ("folder exported --no-images", 0),
        "identifiers": ("folder exported --words-in 0", 0),
        "audit": ("toy/m --pool-size 10 --k 1", 0),
        "import": ("mine/m " + " ".join(f"--{name} {file}" for name, file in arrays.items()), 2),
        "ledger create": ("book toy/m --epsilon 3 --lift 1000", 0),
        "ledger show": ("book --cohort toy/m", 0),
        "ledger add": ("book toy/m", 0),
        "release": ("toy/m --kind statistics --epsilon 1 --ledger book --out out", 0),
        "ledger verify": ("book --release out", 0),
        "ledger confirm": ("book out", 0),
        "app": ("--no-browser", 2),
        "pull": ("nowhere", 2),
        "bundle": ("bundled --python 4", 2),
        "report": ("toy/m --out report.html --pool-size 10", 0),
        "attack": ("toy/m --known 0 --pool-size 10", 0),
        "utility": ("toy/m", 0),
        "receive": ("out --cohort toy/m", 0),
        "canary": ("toy/m --canaries 4", 0),
        "finetune": ("toy/m --epsilon 1 --steps 2 --findings Pneumonia", 0),
        "study": ("--mimic nowhere --out study", 2),
        "embed": ("folder exported --model phantom-nothing", 2),
        "phantom build": ("--lab --splits finetune", 2),
        "lab": ("toy/m --public toy", 2),
        "doctor": ("", 0),
    }
    assert set(asked) == {" ".join(words(row)) for row in WORKING}
    no_store = {"bundle", "identifiers", "phantom export", "ledger verify", "ledger confirm"}
    steps = [
        (
            name,
            [*name.split(), *more.split(), *([] if name in no_store else ["--store", str(store.root)])],
            code,
        )
        for name, (more, code) in asked.items()
    ]
    steps[list(asked).index("app")][1][-1] = "nowhere"  # where it is refused, just before it would serve
    for name, loaded in in_a_new_process(STEPS, json.dumps([HEAVY, steps, str(tmp_path)])):
        assert set(loaded) <= MAY_LOAD.get(name, set()), name


def page(found: Any, context: Any, columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    return re.sub(r"\x1b\[\d+m", "", found.get_help(context))


@pytest.mark.parametrize("row", WORKING, ids=lambda row: " ".join(words(row)))
def test_the_first_screen_of_help(row: main.Row, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does, an example that can be pasted, arguments and at most three options within a screen."""
    found, context = command(row)
    for columns in (80, 100):
        text = page(found, context, columns, monkeypatch)
        lines = text.splitlines()
        headings = [i for i, line in enumerate(lines) if re.fullmatch(r"[A-Z][a-z ]+:", line)]
        named = {lines[i]: i for i in headings}
        beyond = [i for i in headings if lines[i] not in ("For example:", "Arguments:", "Options:")]
        assert beyond[0] <= SCREEN, f"{beyond[0]} lines at {columns} columns"
        assert lines[beyond[-1]] == f"{screens.STORE_AND_OUTPUT}:"
        assert named["For example:"] < min(named.get("Options:", beyond[0]), named.get("Arguments:", beyond[0]))
        assert max(len(line) for line in lines) <= 100
        assert "linkage_core" not in text, "a name that was not filled in"
    on_it = [one for one in found.params if one.param_type_name == "option" and not one.rich_help_panel]
    assert len(on_it) <= 3
    for one in found.params:
        name = one.opts[0] if one.param_type_name == "option" else one.display_name_raw
        assert re.search(rf"^  {re.escape(name)}( |$)", text, re.M), f"{name} stands nowhere"


@pytest.mark.parametrize("row", WORKING, ids=lambda row: " ".join(words(row)))
def test_the_examples_of_help_parse(row: main.Row, command: Any) -> None:
    found, context = command(row)
    block = found.help.split("For example:\n")[1].split("\n\n")[0]
    examples = [shlex.split(line) for line in block.replace("\\\n", "").splitlines()]
    assert examples
    start = ["linkage", *words(row)]
    for example in examples:
        assert example[: len(start)] == start
        found.make_context(row.name, example[len(start) :], parent=context.parent)  # a usage error would be raised


def test_help_takes_its_names_from_the_tables(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from linkage_core.attacks.attackers import ATTACKERS
    from linkage_core.attacks.held import RELEASES
    from linkage_core.audit.study import DIRECTIONS, POOLS
    from linkage_core.cohorts.phantom.layouts import LAYOUTS
    from linkage_core.cohorts.registry import KINDS
    from linkage_core.encoders.hub import PUBLISHED
    from linkage_core.mitigation.canary_run import MECHANISMS as WITH_CANARIES
    from linkage_core.mitigation.mechanisms import MECHANISMS, NEED_PUBLIC, SHADOWS
    from linkage_core.release.certificate import KINDS as RELEASE_KINDS
    from linkage_core.report.names import OPTIONAL
    from linkage_core.study.design import PRESETS

    tables: dict[str, list[Any]] = {
        "cohort": [KINDS],
        "embed": [KINDS],
        "identifiers": [KINDS],
        "export": [LAYOUTS],
        "pull": [PUBLISHED],
        "audit": [DIRECTIONS, POOLS],
        "attack": [ATTACKERS, RELEASES],
        "finetune": [MECHANISMS, SHADOWS, NEED_PUBLIC],
        "canary": [WITH_CANARIES],
        "release": [RELEASE_KINDS],
        "study": [PRESETS],
        "report": [OPTIONAL],
    }
    for row in WORKING:
        if row.name in tables:
            text = "".join(page(*command(row), 100, monkeypatch).split())  # names are wrapped at their dashes
            for table in tables[row.name]:
                assert ",".join(table) in text, row.name
    row = next(row for row in WORKING if row.name == "release")
    told = re.search(r"with what each needs:\n((?:    .*\n?)+)", screens.filled(command(row)[0].help))
    assert told
    assert tuple(line.split()[0] for line in told[1].splitlines()) == tuple(RELEASE_KINDS)
    assert AS_IT_IS == OFF_THE_SHELF


def test_a_name_that_is_not_there_fails() -> None:
    with pytest.raises(AttributeError):
        screens.filled("{linkage_core.errors.NOTHING}")


LATE = """
import os, signal, sys
class Import:
    def find_spec(self, name, path, target=None):
        if name == "linkage_core.audit.full":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                [None for _ in range(1000)]
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Import())
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background of a script ignores it
sys.argv = ["linkage", "audit", "phantom"]
from linkage_core.__main__ import main
main()
"""


def test_ctrl_c_is_not_lost_in_an_import_of_a_command_that_runs() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", STOPPED + "\n")
