"""A name is not markup in the terminal either: nothing ends a command, acts on the terminal or is read as style."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest

from helpers.command import linkage
from helpers.hostile_names import NAMES, build
from helpers.shared import Built
from linkage_core.cli import console, main, printing
from linkage_core.cohorts.base import rejects_table
from linkage_core.errors import InputError
from linkage_core.store.entry import new_name
from linkage_core.visible import visible

ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def fresh_consoles() -> None:
    """The consoles keep the width and the stream of their first use."""
    console.output.cache_clear()
    console.messages.cache_clear()


@pytest.fixture(scope="module")
def ward(built: Built) -> Path:
    return built(build)


def letters(text: str) -> str:
    """Without what wrapping and tables put between."""
    return re.sub(r"\s+", "", text)


def test_every_name_in_every_kind_of_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        console.say(f"Note: {console.plain(name)}.", soft_wrap=True)
        console.say(console.strong(console.plain(name)), console.plain(name), soft_wrap=True)
        console.note(console.plain(name), soft_wrap=True)
    out, err = capsys.readouterr()
    assert not ACTING.search(out + err)
    lines = out.splitlines()
    assert lines[0::2] == [f"Note: {visible(name)}." for name in NAMES]
    assert [line.strip() for line in lines[1::2]] == [f"{visible(name)} {visible(name)}".strip() for name in NAMES]
    assert err.splitlines() == [visible(name) for name in NAMES]


def test_tables_and_what_forgets_the_function_show_letters_alone(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(name, "reason", f"{name} is no file.", name) for name in NAMES]
    printing.rejects(rejects_table(rows), most=len(rows))
    for name in NAMES:
        console.say(name, soft_wrap=True)
    out = capsys.readouterr().out
    assert not ACTING.search(out.replace("\n", ""))
    for name in NAMES:
        assert letters(visible(name))[:12] in letters(out)


def test_an_error_with_any_name_in_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        for error in (InputError(f"{name} is taken.", f"Rename {name}."), OSError(name), MemoryError(name)):

            def fail(error: Exception = error, **_: object) -> None:
                raise error

            monkeypatch.setattr(main, "app", fail)
            assert linkage("audit") == 2
    err = capsys.readouterr().err
    assert not ACTING.search(err.replace("\n", ""))
    assert err.count("Error:") == 3 * len(NAMES) + sum(name.count("Error:") for name in NAMES) * 4
    assert len(err.splitlines()) == 7 * len(NAMES), "no name begins a line; what memory needs takes two"


def test_a_folder_with_such_ids_and_columns_is_read_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usable = [name for name in NAMES if "\x00" not in name]
    table = pd.DataFrame({"record_id": usable, "image": usable, "report": usable, "patient_id": usable})
    table = table.assign(**dict.fromkeys(usable, "x"))
    table.to_csv(tmp_path / "manifest.csv", index=False, lineterminator="\n")
    code = linkage("cohort", "folder", tmp_path, "--rejects", tmp_path / "rejects.csv")
    out, err = capsys.readouterr()
    assert code in (0, 2), err
    assert not ACTING.search((out + err).replace("\n", ""))
    assert "manifest.csv" in out + err


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "ward", "--pool-size", "10", "--hard-negatives", "--compare"),
        ("verify",),
        ("verify", "ward/m0"),
        pytest.param(("doctor",), marks=pytest.mark.soak),
        ("labels", "ward"),
        pytest.param(("utility", "ward/m0"), marks=pytest.mark.soak),
        ("report", "ward", "--out", "report.html", "--identifiers"),
        ("audit", NAMES[0]),
        ("audit", "[/b]/\\[/b]"),
        ("finetune", "ward/m0", "--name", "[/b]"),
        ("\\[/b]",),
        ("embed", "folder", "\x1b[2J[/b]"),
    ],
)
def test_no_command_ends_or_acts_by_a_name(
    command: tuple[str, ...],
    ward: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = () if command[0].startswith("\\") else ("--store", ward)
    assert linkage(*command, *where) in (0, 1, 2)
    out, err = capsys.readouterr()
    assert not ACTING.search((out + err).replace("\n", "").replace("\t", ""))
    for page in tmp_path.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "Content-Security-Policy" in text or "<script" not in text
        assert not re.search(r"<(script|iframe|base|form|object|link)\b|<img src=(x|http)", text)


def test_progress_with_a_name_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from linkage_core.cli.options import progress_bars

    written = io.StringIO()
    screen = console._console(file=written, force_terminal=True, width=100, color_system=None)
    assert isinstance(screen, Console)
    monkeypatch.setattr(console, "messages", lambda: screen)
    with progress_bars(False) as update:
        for name in ("[/b]", "\\[/b]", "\x1b]0;title\x07"):
            update(name, 1, 2)
            update(name, 0, 0)
    assert "[/b]" in written.getvalue()
    assert "\x1b]0;" not in written.getvalue()


def test_what_new_cohorts_and_models_may_be_called() -> None:
    for name in ("clip", "hf:ORG/our-model", "hf:./models/CLIP (v2)", "Röntgen 胸部", "St Mary's", "a+b=c@d", "C:\\x"):
        assert new_name(name) == name
    bad = [name for name in NAMES if not re.fullmatch(r"[\w .+=,@~:/\\()'-]+", name)]
    assert len(bad) > 200
    for name in (*bad, "a\x1b[2J", "![m](x)", "<b>", "[b]", "a\nb", "`x`", "$x$", "a\u202eb", "", "x" * 301):
        with pytest.raises(InputError, match="cannot be the name"):
            new_name(name)


def test_an_import_under_such_a_name_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from helpers.toy import toy_arrays, toy_cohort, toy_records
    from linkage_core.embed.embedding import import_arrays
    from linkage_core.store.entry import Store

    records = toy_records(5)
    with pytest.raises(InputError, match="cannot be the name"):
        import_arrays(toy_cohort("c", records), "![m](x)", *toy_arrays(records, 1.0), Store(tmp_path / "s"))
    assert not (tmp_path / "s").exists()
