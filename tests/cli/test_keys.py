"""`slmgate keys`, over the store itself: what is printed where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.command import run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_secret_is_alone_on_stdout() -> None:
    made = run("keys", "create", "--name", "bot", "--team", "acme", "--expires", "30d")
    assert made.exit_code == 0
    assert made.stdout.count("\n") == 1
    assert made.stdout.startswith("sk-slm-")
    assert "bot" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_a_keys_life() -> None:
    issued = json.loads(run("keys", "create", "--name", "a/b", "--json").stdout)
    id = issued["key"]["id"]
    assert "a/b" in run("keys", "list").stdout
    assert json.loads(run("keys", "list", "--json").stdout)["keys"] == [issued["key"]]
    assert "never" in run("keys", "show", "a/b").stdout
    assert run("keys", "rotate", "a/b", "--overlap", "24h").stdout.startswith(f"sk-slm-{id}-")
    old, new = json.loads(run("keys", "show", id, "--json").stdout)["secrets"]
    assert old["created"] <= new["created"] < old["until"]
    assert new["until"] is None
    assert "until 20" in run("keys", "show", id).stdout
    assert "disabled" in run("keys", "disable", "a/b").stdout
    assert "active" in run("keys", "enable", id).stdout
    assert "revoked" in run("keys", "revoke", "a/b").stdout
    assert issued["secret"] not in run("keys", "list", "--json").stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "none"), 1, "keys list"),
        (("revoke", "none"), 1, "keys list"),
        (("create", "--name", "bot"), 1, "choose another"),
        (("create", "--name", " "), 2, "space"),
        (("create", "--name", "x", "--expires", "soon"), 2, "not a time"),
        (("create",), 2, "--name"),
        (("rotate", "bot", "--overlap", "1"), 2, "not a duration"),
        (("enable", "gone"), 1, "cannot be undone"),
        (("rotate", "gone"), 1, "cannot be undone"),
    ],
)
def test_refusals(words: tuple[str, ...], code: int, message: str) -> None:
    run("keys", "create", "--name", "bot")
    run("keys", "create", "--name", "gone")
    run("keys", "revoke", "gone")
    ended = run("keys", *words)
    assert ended.exit_code == code
    assert message in ended.stderr
    assert ended.stdout == ""
