"""`slmgate db`: schema, backup and export over a store with a few receipts."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from slmgate.cli import db
from slmgate.control.admin import local
from slmgate.stores import migrations
from slmgate.stores.migrations import HEAD
from slmgate.stores.records import Batch, LedgerUnavailable
from slmgate.stores.sql import open_store
from slmgate.terms import Receipt
from tests.tools.command import run
from tests.tools.journal_writer import make_receipt


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt(f"r{number}", path="=x") for number in range(5)]))
    store.close()
    return tmp_path


def test_upgrade() -> None:
    assert run("db", "upgrade").stdout == f"the schema is at revision {HEAD}, the newest\n"
    assert json.loads(run("db", "upgrade", "--json").stdout) == {"revision": HEAD}


def test_backup(here: Path) -> None:
    assert run("db", "backup", "copy.db").exit_code == 0
    assert stat.S_IMODE((here / "copy.db").stat().st_mode) == 0o600
    again = run("db", "backup", "copy.db")
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    nowhere = run("db", "backup", "none/copy.db")
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (1, True)
    assert json.loads(run("db", "backup", "two.db", "--json").stdout)["bytes"] == (here / "two.db").stat().st_size


def test_a_backup_changes_nothing_in_the_ledger_of_an_older_version(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made by the new version, before an upgrade, of what the old one goes back to."""

    def upgrade(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(migrations, "upgrade", upgrade)
    with sqlite3.connect(here / "slmgate-data" / "ledger.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    assert run("db", "backup", "copy.db").exit_code == 0
    with sqlite3.connect(here / "copy.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]


def test_a_ledger_of_another_user(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise LedgerUnavailable from PermissionError(errno.EACCES, "denied", "ledger.sqlite3")

    monkeypatch.setattr(local, "back_up", denied)
    ended = run("db", "backup", "copy.db")
    assert (ended.exit_code, "ledger.sqlite3 may not be used by this user" in ended.stderr) == (3, True)


def test_there_is_nothing_to_back_up(here: Path) -> None:
    (here / "slmgate-data" / "ledger.sqlite3").unlink()
    ended = run("db", "backup", "copy.db")
    assert (ended.exit_code, "slmgate-data/ledger.sqlite3 cannot be read: No such file" in ended.stderr) == (1, True)
    assert not (here / "slmgate-data" / "ledger.sqlite3").exists()


class Stopped:
    """A bar at which something happens."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def __call__(self, *_: object) -> AbstractContextManager[Stopped]:
        return nullcontext(self)

    def advance(self, count: int) -> None:
        self._happens()

    def reach(self, done: int, total: int) -> None:
        self._happens()


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted() -> None:
    raise KeyboardInterrupt


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("happens", "code", "told"), [(full, 1, "No space left"), (interrupted, 130, ""), (terminated, 143, "")])
@pytest.mark.parametrize("words", [("backup", "out"), ("export", "-o", "out")])
def test_who_stops_half_way_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], happens: Callable[[], object], code: int, told: str
) -> None:
    monkeypatch.setattr(db, "progress", Stopped(happens))
    ended = run("db", *words)
    assert (ended.exit_code, told in ended.stderr) == (code, True)
    assert list(here.glob("out*")) == []


def test_verify(here: Path) -> None:
    right = run("db", "verify")
    assert (right.exit_code, right.stdout) == (0, "20 sums compared, 0 wrong\n")
    assert json.loads(run("db", "verify", "--json").stdout) == {"rows": 20, "differences": []}
    with sqlite3.connect(here / "slmgate-data" / "ledger.sqlite3") as connection:
        connection.execute("UPDATE rollup_hours SET requests = 4, cost = 1")
    wrong = run("db", "verify")
    assert (wrong.exit_code, wrong.stdout.splitlines()) == (
        1,
        ["hours 2026-11-20T12:00Z facet 1: requests is 4, should be 5; cost is 1, should be 0", "20 sums compared, 1 wrong"],
    )
    assert [each["level"] for each in json.loads(run("db", "verify", "--json").stdout)["differences"]] == ["hours"]


def test_verify_shows_some_of_many(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_SHOWN", 2)
    with sqlite3.connect(here / "slmgate-data" / "ledger.sqlite3") as connection:
        connection.execute("DELETE FROM entries")
    assert run("db", "verify").stdout.splitlines()[2:] == [
        "... and 13 more; --json has all of them",
        "20 sums compared, 15 wrong",
    ]


def test_export_as_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_PAGE", 2)
    lines = run("db", "export").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["r0", "r1", "r2", "r3", "r4"]
    assert run("db", "export", "--since", "2090-01-01").stdout == ""


def test_export_as_csv(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_PAGE", 2)
    assert run("db", "export", "--format", "csv", "-o", "all.csv").exit_code == 0
    lines = (here / "all.csv").read_text().splitlines()
    assert lines[0].split(",") == list(Receipt.__struct_fields__)
    assert len(lines) == 6
    assert ",'=x," in lines[1]
    assert run("db", "export", "-o", "all.csv").exit_code == 1


def test_a_broken_store(here: Path) -> None:
    (here / "slmgate-data" / "ledger.sqlite3").write_bytes(b"no database, but longer than the header of one" * 10)
    ended = run("db", "upgrade")
    assert (ended.exit_code, "not a database" in ended.stderr) == (1, True)
