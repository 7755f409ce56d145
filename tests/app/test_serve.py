"""`linkage app` serves with the settings of `make app`, from any folder; what cannot be served is said."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from explorer import serve
from linkage_core.cli import main
from linkage_core.errors import InputError

from .conftest import ROOT

AS_MADE = """
from streamlit import config
from streamlit.web import bootstrap

config._main_script_path = "app.py"  # as `streamlit run app.py`
bootstrap.load_config_options({"server_port": 8777})
"""
AS_SERVED = """
from pathlib import Path

from explorer import serve
from streamlit import config
from streamlit.web.server.starlette.starlette_server import UvicornRunner

UvicornRunner.run = lambda self: None  # everything but listening
serve.serve(Path(%r), 8777)
"""
SHOWN = """
import json, os
options = {name: option.value for name, option in config.get_config_options().items()}
del options["server.cookieSecret"]  # drawn at every start
print(json.dumps([options, os.getcwd(), config.get_where_defined("server.address")], default=str))
"""


def settings_of(code: str, folder: Path, script: Path) -> tuple[dict, str, str]:
    """After this code has run in this folder, from a file: every option of Streamlit, the working directory, and where
    the address is from."""
    script.write_text(code + SHOWN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return tuple(json.loads(ran.stdout.splitlines()[-1]))


def test_every_setting_is_that_of_make_app_even_in_a_folder_with_settings_of_its_own(tmp_path: Path) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text(
        '[server]\naddress = "0.0.0.0"\nbaseUrlPath = "elsewhere"\n[logger]\nlevel = "debug"\n'
        '[[theme.fontFaces]]\nfamily = "x"\nurl = "https://attacker.example/x.woff2"\n'
    )
    made, _, _ = settings_of(AS_MADE, ROOT, tmp_path / "made.py")
    hostile, _, _ = settings_of(AS_MADE, tmp_path, tmp_path / "hostile.py")
    assert hostile["server.baseUrlPath"] == "elsewhere", "the folder's settings would count"
    served, folder, given = settings_of(AS_SERVED % str(tmp_path), tmp_path, tmp_path / "served.py")
    assert served == made
    assert given == "command-line argument or environment variable", "given, and not found by Streamlit's own search"
    assert (served["server.address"], served["server.port"], served["theme.fontFaces"]) == ("127.0.0.1", 8777, None)
    assert folder == str(ROOT)


def test_the_settings_are_read_from_the_one_file() -> None:
    written = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    found = serve.settings()
    assert found["theme.light.sidebar.backgroundColor"] == written["theme"]["light"]["sidebar"]["backgroundColor"]
    assert found["server.allowedHosts"] == written["server"]["allowedHosts"]
    assert not any(isinstance(value, dict) for value in found.values())


def test_what_cannot_be_served_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port} is taken"):
            serve.serve(tmp_path, port)
    with pytest.raises(InputError, match="There is no store"):
        serve.serve(tmp_path / "nowhere", port)
    with pytest.raises(SystemExit) as stopped:
        main.main(["app", "--store", str(tmp_path / "nowhere"), "--no-browser"])
    assert stopped.value.code == 2
    assert "There is no store" in capsys.readouterr().err


@pytest.mark.parametrize(("environment", "screen"), [({}, False), ({"DISPLAY": ":0"}, True)])
def test_a_browser_is_opened_only_where_it_can_appear(
    environment: dict[str, str], screen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert serve.has_screen() is screen


def test_streamlit_is_imported_only_when_the_app_runs() -> None:
    names = "linkage_core.cli.main, linkage_core.cli.app, explorer.serve"
    code = f"import sys, {names}; sys.exit('streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
