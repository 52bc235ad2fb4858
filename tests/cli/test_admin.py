"""`slmgate admin`, over the store itself: what is printed where, how it ends, and where a password comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slmgate.cli import admin
from slmgate.cli.app import build
from slmgate.cli.ends import CommandFailed
from slmgate.control import accounts
from slmgate.control.passwords import Passwords
from tests.tools.admin_gate import CHEAP

WORDS = "some long words"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accounts, "Passwords", lambda: Passwords(CHEAP))


def run(*words: str, typed: str = f"{WORDS}\n") -> Result:
    return CliRunner().invoke(build(["admin"]), ["admin", *words], prog_name="slmgate", input=typed)


def test_an_accounts_life() -> None:
    made = run("users", "add", "ann", "--role", "viewer")
    assert (made.exit_code, made.stdout) == (0, "account ann made, with the role viewer\n")
    assert json.loads(run("users", "list", "--json").stdout)["accounts"][0]["name"] == "ann"
    assert "viewer" in run("users", "list").stdout
    assert "owner" in run("users", "role", "ann", "--role", "owner").stdout
    assert "new password" in run("users", "password", "ann", typed="quite other words\r\n").stdout
    assert json.loads(run("users", "remove", "ann", "--json").stdout)["role"] == "owner"
    assert json.loads(run("users", "list", "--json").stdout) == {"accounts": []}


def test_an_admin_keys_life() -> None:
    made = run("keys", "create", "--name", "c/i", "--role", "operator", "--expires", "30d")
    assert made.exit_code == 0
    assert made.stdout.startswith("sk-slm-admin-")
    assert made.stdout.count("\n") == 1
    assert made.stdout.strip() not in made.stderr
    assert json.loads(run("keys", "create", "--name", "x", "--role", "viewer", "--json").stdout)["key"]["role"] == "viewer"
    assert "c/i" in run("keys", "list").stdout
    assert "revoked" in run("keys", "revoke", "c/i").stdout
    listed = json.loads(run("keys", "list", "--json").stdout)["keys"]
    assert [key["revoked"] is None for key in listed] == [False, True]
    assert made.stdout.strip() not in json.dumps(listed)


def test_no_browser_is_signed_in() -> None:
    assert json.loads(run("sessions", "list", "--json").stdout) == {"sessions": []}
    assert "operator" in run("sessions", "list").stdout


@pytest.mark.parametrize(
    ("words", "typed", "code", "message"),
    [
        (("users", "add", "ann", "--role", "viewer"), "", 2, "no password came"),
        (("users", "add", "ann", "--role", "viewer"), "\n", 2, "no password came"),
        (("users", "add", "ann", "--role", "viewer"), "short\n", 2, "12 characters"),
        (("users", "add", "ann", "--role", "root"), f"{WORDS}\n", 2, "viewer, operator, owner"),
        (("users", "add", "An n", "--role", "viewer"), f"{WORDS}\n", 2, "name"),
        (("users", "add", "old", "--role", "viewer"), f"{WORDS}\n", 1, "There is an account"),
        (("users", "add", "ann"), f"{WORDS}\n", 2, "--role"),
        (("users", "add", "ann", "--password", "x"), f"{WORDS}\n", 2, "password"),
        (("users", "password", "none"), f"{WORDS}\n", 1, "users list"),
        (("users", "role", "../x", "--role", "viewer"), "", 1, "users list"),
        (("users", "remove", "none"), "", 1, "users list"),
        (("keys", "revoke", "none"), "", 1, "keys list"),
        (("keys", "create", "--name", "x", "--role", "viewer", "--expires", "soon"), "", 2, "not a time"),
        (("sessions", "end", "../x"), "", 1, "sessions list"),
        (("sessions", "end", "abcdefghijkl"), "", 1, "sessions list"),
    ],
)
def test_refusals(words: tuple[str, ...], typed: str, code: int, message: str) -> None:
    run("users", "add", "old", "--role", "viewer")
    ended = run(*words, typed=typed)
    assert (ended.exit_code, message in ended.stderr) == (code, True), ended.stderr
    assert WORDS not in ended.output


def test_a_password_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["one", "one", "one", "two"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    assert admin.read_password() == "one"
    with pytest.raises(CommandFailed, match="differ"):
        admin.read_password()
