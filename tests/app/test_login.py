"""The settings of a login, and who may enter: what is refused before anything is served."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from explorer.frame import login
from linkage_core.errors import InputError

ADDRESS = "https://reports.hospital.example/linkage/"
AUTH = {
    "redirect_uri": "https://reports.hospital.example/linkage/oauth2callback",
    "cookie_secret": "c" * 32,
    "client_id": "linkage",
    "client_secret": "hunter2",
    "server_metadata_url": "https://login.hospital.example/.well-known/openid-configuration",
}
ANN = {"sub": "7", "email": "Ann@Clinic.example", "email_verified": True, "iat": 1000}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"client_id": ""}, "lacks client_id"),
        ({"cookie_secret": "short"}, "shorter than 32 letters"),
        ({"redirect_uri": "https://reports.hospital.example/oauth2callback"}, "browsers see this server at"),
        ({"server_metadata_url": "http://login.hospital.example/x"}, "no address by TLS"),
        ({"server_metadata_url": "login.hospital.example"}, "no address by TLS"),
    ],
)
def test_settings_that_would_not_do_are_named(changed: dict[str, str], said: str) -> None:
    login.check(AUTH, [], ADDRESS)
    with pytest.raises(InputError, match=said) as refused:
        login.check(AUTH | changed, [], ADDRESS)
    assert AUTH["client_secret"] not in str(refused.value)


def test_a_login_without_its_package_and_a_file_that_others_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text("")
    file.chmod(0o640)
    with pytest.raises(InputError, match="can be read by other accounts"):
        login.check(AUTH, [tmp_path / "none.toml", file], ADDRESS)
    file.chmod(0o600)
    login.check(AUTH, [tmp_path / "none.toml", file], ADDRESS)
    monkeypatch.setitem(sys.modules, "authlib.integrations.starlette_client", None)
    with pytest.raises(InputError, match="is not installed"):
        login.check(AUTH, [], ADDRESS)


@pytest.mark.parametrize("content", [b"[auth\n", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_does_not_open_the_door(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secrets.toml"
    login.refuse_broken([file])
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"secrets.toml cannot be read"):
        login.refuse_broken([file])


@pytest.mark.parametrize(
    ("listed", "claims", "enters"),
    [
        ([], {}, True),
        (["ann@clinic.example"], {}, True),
        (["@clinic.example"], {}, True),
        (["sub:7"], {"email_verified": False}, True),
        (["ann@clinic.example"], {"email_verified": False}, False),
        (["ann@clinic.example"], {"email_verified": "true"}, False),
        (["@clinic.example"], {"email": "ann@evil.example"}, False),
        (["@clinic.example"], {"email": "x@clinic.example@evil.example"}, False),
        (["@clinic.example"], {"email": "ann@sub.clinic.example"}, False),
        (["sub:8"], {}, False),
        (["@klinic.example"], {"email": "ann@\u212alinic.example"}, False),
        (["sub:None"], {"sub": None, "email_verified": False}, False),
        (["@clinic.example"], {"sub": "x@clinic.example", "email_verified": False}, False),
        ([], {"iat": 1000 - 13 * 3600}, False),
        ([], {"iat": 99_999}, False),
        ([], {"iat": "soon"}, False),
        ([], {"iat": None}, False),
    ],
)
def test_who_may_enter(listed: list[str], claims: dict[str, Any], enters: bool) -> None:
    listed = list(filter(None, login.checked(listed).split(",")))
    assert (login.why_not(ANN | claims, listed, now=1060.0) == "") == enters


@pytest.mark.parametrize("account", ["", "ann", "@", "ann@host", "a@b.example,c@d.example", "a b@c.example", "sub:"])
def test_what_is_no_account_is_refused(account: str) -> None:
    with pytest.raises(InputError, match="is no account"):
        login.checked([account])


def test_no_iat_is_no_login() -> None:
    assert login.why_not({key: value for key, value in ANN.items() if key != "iat"}, [], now=1060.0 * 1000)


def test_accounts_of_the_environment_are_read_as_those_of_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(login.REQUIRED, "")
    monkeypatch.setattr(login, "settings", dict)
    monkeypatch.setenv(login.ACCOUNTS, "Ann@Clinic.example, nobody")
    with pytest.raises(InputError, match="'nobody' is no account"):
        login.begin([tmp_path / "secrets.toml"], ADDRESS)
    monkeypatch.setenv(login.ACCOUNTS, " Ann@Clinic.example")
    with pytest.raises(InputError, match="nobody has to log in"):
        login.begin([tmp_path / "secrets.toml"], ADDRESS)
    monkeypatch.setattr(login, "settings", lambda: AUTH)
    login.begin([tmp_path / "secrets.toml"], ADDRESS)
    assert login.required()
    assert login.why_not(ANN, login.accounts(), now=1060.0) == ""
