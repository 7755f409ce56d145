"""docs/deploy.md is taken at its word: its examples are parsed, and started where nginx and systemd are there."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from helpers.places import ROOT
from linkage_core.cli import main

TEXT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(ini|toml|nginx)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
UNIT, CONF = BLOCKS["ini"], BLOCKS["nginx"]
COMMAND = shlex.split(re.search(r"^ExecStart=(.*?[^\\])$", UNIT, re.DOTALL | re.MULTILINE)[1].replace("\\\n", " "))


def test_the_service_calls_the_command_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMAND[:2] == ["/opt/linkage/bin/linkage", "app"]
    options = [word for word in COMMAND if word.startswith("--")]
    with pytest.raises(SystemExit):
        main.main(["app", "--help"])
    said = capsys.readouterr().out
    assert all(option in said or option == "--no-browser" for option in options), options
    port = COMMAND[COMMAND.index("--port") + 1]
    base = COMMAND[COMMAND.index("--base-path") + 1]
    assert f"proxy_pass http://127.0.0.1:{port};" in CONF
    assert f"location {base}/ {{" in CONF
    name = COMMAND[COMMAND.index("--public-address") + 1].removeprefix("https://")
    assert f"server_name {name};" in CONF
    assert f"https://{name}{base}/oauth2callback" == tomllib.loads(BLOCKS["toml"])["auth"]["redirect_uri"]


def test_the_unit_is_one(tmp_path: Path) -> None:
    sections = re.findall(r"^\[(\w+)\]$", UNIT, re.MULTILINE)
    assert sections == ["Unit", "Service", "Install"]
    lines = [line for line in UNIT.replace("\\\n", " ").splitlines() if line and line[0] not in "#["]
    assert all(re.match(r"[A-Z]\w+=", line) for line in lines), lines
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: the unit was only parsed")
    unit = tmp_path / "linkage.service"
    here = UNIT.replace("/opt/linkage/bin/linkage", sys.executable).replace("=linkage\n", "=root\n", 2)
    unit.write_text(here)
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    ours = [line for line in said.stderr.splitlines() if "linkage.service" in line]
    assert not [line for line in ours if "Unknown" in line or "Failed to parse" in line or "Invalid" in line], ours


def test_the_configuration_of_nginx_is_one() -> None:
    depth = 0
    for line in CONF.splitlines():
        said = line.split("#")[0].strip()
        if not said:
            continue
        assert said[-1] in "{};", line
        depth += said.count("{") - said.count("}")
        assert depth >= 0
    assert depth == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: its example was only parsed")
def test_the_app_answers_through_nginx(tmp_path: Path) -> None:
    outside, inside = free_port(), free_port()
    conf = re.sub(r"^ *ssl_.*\n", "", CONF, flags=re.MULTILINE)
    conf = conf.replace("listen 443 ssl", f"listen 127.0.0.1:{outside}").replace(
        "127.0.0.1:8501", f"127.0.0.1:{inside}"
    )
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error;\ndaemon off;\nevents {{}}\nhttp {{\naccess_log off;\n"
    file = tmp_path / "nginx.conf"
    file.write_text(f"{whole}{temporary}{conf}}}\n")
    checked = subprocess.run(["nginx", "-t", "-c", file, "-e", tmp_path / "error"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    (tmp_path / "store").mkdir()
    arguments = COMMAND[1:]
    arguments[arguments.index("--port") + 1] = str(inside)
    arguments[arguments.index("--public-address") + 1] = f"http://127.0.0.1:{outside}"
    arguments[arguments.index("--access-log") + 1] = str(tmp_path / "access.log")
    arguments[arguments.index("--store") + 1] = str(tmp_path / "store")
    command = [sys.executable, "-m", "linkage_core", *arguments, "--without-login"]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
        subprocess.Popen(["nginx", "-c", file, "-e", tmp_path / "error"]),
    ]
    site = f"http://127.0.0.1:{outside}"
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", inside)) == 0:
                    break
            assert started[0].poll() is None, started[0].communicate()[0]
            time.sleep(0.2)
        assert asked(f"{site}/linkage/_stcore/health") == (200, "ok")
        status, page = asked(f"{site}/linkage/")
        assert status == 200
        assert "<title>Streamlit" in page or '<div id="root">' in page
        assert "streamlit" not in asked(f"{site}/")[1].lower()
        assert asked(f"{site}/linkage/", Origin="https://elsewhere.example")[0] == 403
        assert asked(f"{site}/linkage/", Origin=site)[0] == 200
        line = next(line for line in started[0].stdout if "token" in line)
        assert f"{site}/linkage/?" in line
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(30)
