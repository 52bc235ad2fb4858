"""The door itself: which file a command is in, the version, and the exit codes that everyone relies on.

It runs `main` in this process and starts no server; the commands have test files of their own.
"""

from __future__ import annotations

import sys
import types

import pytest
import typer

from slmgate import __version__
from slmgate.cli import app


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        app.main(arguments)
    return int(end.value.code or 0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An application of one command, `keys`, that notes what it was called with."""
    called: list[str] = []

    def register(typer_app: typer.Typer) -> None:
        @typer_app.command("keys")
        def keys(name: str) -> None:
            called.append(name)
            if name == "gone":
                raise typer.Exit(3)
            if name == "pipe":
                raise BrokenPipeError

    module = types.ModuleType("slmgate.cli.keys")
    module.register = register  # type: ignore[attr-defined]  # a module made here has any attribute
    monkeypatch.setitem(sys.modules, "slmgate.cli.keys", module)
    monkeypatch.setattr(app, "FILES", {"keys": "keys"})
    return called


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_needs_no_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(flag) == 0
    assert capsys.readouterr().out == f"slmgate {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["keys", "list"], ["keys"]),
        (["config", "show"], ["config_cmd"]),
        (["--help"], list(app.FILES.values())),
        ([], list(app.FILES.values())),
        (["kyes"], list(app.FILES.values())),
    ],
)
def test_only_what_is_asked_for_is_imported(arguments: list[str], files: list[str]) -> None:
    assert app.files_for(arguments) == files


def test_every_command_is_there_and_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert [name for name in app.FILES if f" {name} " not in shown] == []


def test_a_command_runs(small: list[str]) -> None:
    assert run("keys", "acme") == 0
    assert small == ["acme"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["keys", "gone"], 3), (["keys"], 2), (["kyes"], 2), (["keys", "a", "--wrong"], 2)]
)
def test_exit_codes(arguments: list[str], code: int, small: list[str]) -> None:
    assert run(*arguments) == code


def test_a_reader_that_left_is_no_failure(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[tuple[int, int]] = []
    monkeypatch.setattr("os.dup2", lambda old, new: replaced.append((old, new)))
    monkeypatch.setattr("os.open", lambda path, flags: 99)
    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(fileno=lambda: 1, flush=lambda: None, write=lambda text: None))
    assert run("keys", "pipe") == 0
    assert replaced == [(99, 1)]
