"""Where commands find the gate: by the file, by the last good one while the file is broken, or by an address that is given.

And to whom the owner's key is sent: to the address of the configuration that it belongs to, and nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmgate.cli.ends import UNREACHABLE, USAGE, CommandFailed
from slmgate.cli.place import find
from slmgate.control.operators import create_first_admin_key
from slmgate.control.state_dir import note_admin_address

YAML = "models:\n  m:\n    instances:\n      - {url: http://127.0.0.1:9000}\n"
OWN = YAML + "admin: {address: '127.0.0.1:99'}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLMGATE_ADMIN_KEY", raising=False)
    return tmp_path


def test_places(here: Path) -> None:
    place = find(None, None)  # no file: what `serve --upstream` uses
    assert (place.url, place.state_dir) == ("http://127.0.0.1:8081", Path("slmgate-data"))
    (here / "slmgate.yaml").write_text(YAML + "admin: {address: '0.0.0.0:99', plain_http: true}\nstate_dir: ./s\n")
    place = find(None, None)
    assert (place.url, place.state_dir) == ("http://127.0.0.1:99", here / "s")
    assert find(None, "https://gate.lan").url == "https://gate.lan"
    (here / "other.yaml").write_text(YAML + "admin: {address: '[::]:99', plain_http: true}\n")
    assert find(Path("other.yaml"), None).url == "http://[::1]:99"


@pytest.mark.parametrize(
    ("noted", "url"), [("127.0.0.1:99", "http://127.0.0.1:99"), ("[::]:99", "http://[::1]:99"), ("junk", None), ("", None)]
)
def test_a_gate_without_a_file_left_word_of_its_address(here: Path, noted: str, url: str | None) -> None:
    """`serve --upstream URL --admin ADDRESS`: commands go there, with the key of that state directory."""
    (here / "slmgate-data").mkdir()
    note_admin_address(here / "slmgate-data", noted)
    place = find(None, None)
    assert (place.url, place.state_dir) == (url or "http://127.0.0.1:8081", Path("slmgate-data"))
    (here / "slmgate.yaml").write_text(YAML)
    assert find(None, None).url == "http://127.0.0.1:8081"  # a file says it better


@pytest.mark.parametrize("url", ["gate:1", "ftp://gate", "http://", "", "/path", "http://h:99999", "http://[::1", "http://h:0"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(CommandFailed, match="admin address") as failed:
        find(None, url)
    assert failed.value.code == USAGE


def test_a_file_that_is_none() -> None:
    with pytest.raises(CommandFailed, match="slmgate init") as failed:
        find(Path("none.yaml"), None)
    assert failed.value.code == USAGE


def test_a_file_of_another_user(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "slmgate.yaml").write_text(OWN)
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)  # the superuser may read all
        with pytest.raises(CommandFailed, match="run it as the gate's user") as failed:
            find(None, None)
    assert failed.value.code == UNREACHABLE

    def is_file(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(CommandFailed, match=r"slmgate\.yaml may not be used"):
        find(None, None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99", "http://127.0.0.1:99/", "http://localhost:99", "http://[::1]:99"])
def test_the_key_goes_to_its_own_gate(url: str, here: Path) -> None:
    (here / "slmgate.yaml").write_text(OWN)
    secret = create_first_admin_key(here / "slmgate-data")
    assert find(None, None).admin_key() == find(None, url).admin_key() == secret


@pytest.mark.parametrize(
    "url",
    [
        "http://gate.lan:99",
        "http://127.0.0.1:98",
        "http://127.0.0.1",
        "https://127.0.0.1:99",
        "http://me@127.0.0.1:99",
        "http://127.0.0.1.evil.example:99",
    ],
)
def test_the_key_goes_nowhere_else(url: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "slmgate.yaml").write_text(OWN)
    create_first_admin_key(here / "slmgate-data")
    with pytest.raises(CommandFailed, match="SLMGATE_ADMIN_KEY") as failed:
        find(None, url).admin_key()
    assert failed.value.code == USAGE
    monkeypatch.setenv("SLMGATE_ADMIN_KEY", "mine")
    assert find(None, url).admin_key() == "mine"


def test_no_key_at_all(here: Path) -> None:
    with pytest.raises(CommandFailed, match=r"admin\.key"):
        find(None, None).admin_key()


def test_an_address_and_a_key_need_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "slmgate.yaml").write_text("modles: {}\n")
    assert find(None, "http://gate.lan").state_dir is None
    monkeypatch.setenv("SLMGATE_ADMIN_KEY", "mine")
    monkeypatch.setattr("slmgate.control.config.load", None)  # is not asked
    assert find(Path("none.yaml"), "http://127.0.0.1:8081").admin_key() == "mine"


@pytest.mark.parametrize(
    ("broken", "state"),
    [
        ("modles: {}\n", "slmgate-data"),
        ("models: {\nstate_dir: ./s # here\n", "s"),
        ("state_dir: './s'\nmodels: [\n", "s"),
        ("state_dir: ./s\nmodels: {m: {instances: [{url: 'http://h:1', bearer: '${env:NOT_SET_HERE}'}]}}\n", "s"),
        ("state_dir: ${env:NOT_SET_HERE}\n", "slmgate-data"),
        ("- a list\n", "slmgate-data"),
        ("\x00", "slmgate-data"),
    ],
)
def test_a_broken_file(broken: str, state: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "slmgate.yaml").write_text(broken)
    with pytest.raises(CommandFailed, match=r"slmgate\.yaml") as failed:
        find(None, None)  # no gate has run by it
    assert failed.value.code == USAGE
    (here / state).mkdir()
    assert find(None, None) == ("http://127.0.0.1:8081", here / state, False)
    assert f"the state directory {here / state}" in capsys.readouterr().err
    (here / state / "last-good.yaml").write_text(OWN)
    assert find(None, None) == ("http://127.0.0.1:99", here / state, False)
    warning = capsys.readouterr().err
    assert "slmgate.yaml has faults (`slmgate check` shows them)" in warning
    assert "last-good.yaml" in warning


def test_what_a_broken_file_still_says(here: Path) -> None:
    (here / "slmgate-data").mkdir()
    (here / "slmgate.yaml").write_text(OWN + "bogus: 1\n")
    assert find(None, None).url == "http://127.0.0.1:99"
    (here / "slmgate.yaml").write_text("admin: {address: nowhere}\n")
    assert find(None, None).url == "http://127.0.0.1:8081"
