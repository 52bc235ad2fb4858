"""What is SQLite's own in the SQL store: its file, its locks, its faults, its backup. The rest is in tests/contracts.

A full disk is a file that may not grow; a busy database is another connection's transaction.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from slmgate.stores import sql
from slmgate.stores.records import Batch, LedgerUnavailable, NotOffered
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.journal_writer import make_receipt
from tests.tools.stored import all_receipts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}


def test_its_files_are_its_owners_only(path: Path) -> None:
    path.touch(0o644)
    store = open_store(path)
    store.write(Batch(receipts=[make_receipt("r1")]))
    assert {file.name for file in path.parent.iterdir()} >= {"ledger.db", "ledger.db-wal"}
    assert modes(path) == {0o600}
    assert repr(store) == "<SqlStore sqlite>"


@pytest.mark.parametrize(("full", "level"), [(False, 1), (True, 2)])
def test_pragmas(path: Path, full: bool, level: int) -> None:
    store = open_store(path, full_sync=full)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000


def test_reopening_keeps_what_is_there(path: Path) -> None:
    store = open_store(path)
    store.write(Batch(receipts=[make_receipt("r1")], positions={"a": 1}))
    store.make_durable()
    store.close()
    assert open_store(path).positions() == {"a": 1}


def test_make_durable_without_a_log(path: Path) -> None:
    store = open_store(path)
    store.close()  # the last connection takes the log with it
    SqlStore(store._engine, path).make_durable()


def test_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="state_dir"):
        open_store(tmp_path / "none" / "ledger.db")


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than a header of one" * 10)
    with pytest.raises(LedgerUnavailable, match=r"not a database.*restore a backup.*slmgate db backup.*or move the file away"):
        open_store(path)


def test_a_file_that_was_damaged(path: Path) -> None:
    store = open_store(path)
    store.write(Batch(receipts=[make_receipt(f"r{number}") for number in range(200)]))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(LedgerUnavailable, match=r"malformed.*restore a backup"):
        all_receipts(SqlStore(sql._sqlite_engine(path, False), path))


def test_a_full_disk_writes_nothing_and_passes(path: Path) -> None:
    store = open_store(path)
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    batch = Batch(receipts=[make_receipt(f"r{number}") for number in range(1000)], positions={"a": 9})
    with pytest.raises(LedgerUnavailable, match="full"):
        store.write(batch)
    assert store.positions() == {}
    assert all_receipts(store) == []
    with store._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
    store.write(batch)
    assert store.positions() == {"a": 9}


def test_a_busy_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_BUSY_TIMEOUT", 0)
    store = open_store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        store.write(Batch(receipts=[make_receipt("r1")]))
    assert all_receipts(store) == []  # readers are not kept out
    other.execute("ROLLBACK")
    store.write(Batch(receipts=[make_receipt("r1")]))


def test_a_reader_does_not_keep_a_writer_out(path: Path) -> None:
    store = open_store(path)
    store.write(Batch(receipts=[make_receipt("r1")]))
    with store._reading() as reading:
        assert reading.exec_driver_sql("SELECT count(*) FROM receipts").scalar() == 1
        store.write(Batch(receipts=[make_receipt("r2")]))
        assert reading.exec_driver_sql("SELECT count(*) FROM receipts").scalar() == 1


def test_backup(path: Path, tmp_path: Path) -> None:
    store = open_store(path)
    store.write(Batch(receipts=[make_receipt("r1")]))
    target = tmp_path / "copy.db"
    store.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [each.id for each in all_receipts(open_store(target))] == ["r1"]
    with pytest.raises(FileExistsError):
        store.backup(target)


def test_a_backup_ends_however_much_is_written_meanwhile(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_BACKUP_PAGES", 1)
    store = open_store(path)
    store.write(Batch(receipts=[make_receipt("r1")]))
    told: list[tuple[int, int]] = []

    def progress(done: int, pages: int) -> None:
        told.append((done, pages))
        if len(told) < 500:
            store.write(Batch(receipts=[make_receipt(f"later{len(told)}")]))

    store.backup(tmp_path / "copy.db", progress)
    assert told == [(page, len(told)) for page in range(1, len(told) + 1)]
    assert [each.id for each in all_receipts(open_store(tmp_path / "copy.db"))] == ["r1"]
    assert len(all_receipts(store)) == len(told) + (len(told) < 500)


def test_a_backup_that_fails_leaves_nothing(path: Path, tmp_path: Path) -> None:
    store = open_store(path)
    store.close()
    path.write_bytes(b"not a database, and longer than a header of one" * 10)
    with pytest.raises(LedgerUnavailable, match="backup"):
        store.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_backup_that_is_stopped_leaves_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_BACKUP_PAGES", 1)
    store = open_store(path)
    there = sorted(tmp_path.rglob("copy*"))

    def stop(done: int, pages: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.backup(tmp_path / "copy.db", stop)
    assert sorted(tmp_path.rglob("copy*")) == there == []
    store.backup(tmp_path / "copy.db")


def test_a_backup_on_a_disk_that_fills_up_leaves_nothing(path: Path, tmp_path: Path) -> None:
    """Nor what SQLite has beside it, and cannot take away any more."""
    store = open_store(path)
    store.close()
    with closing(sqlite3.connect(path)) as connection, connection:  # more than SQLite keeps in memory until it commits
        connection.execute("CREATE TABLE much AS SELECT zeroblob(5000000)")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
    try:
        with pytest.raises(LedgerUnavailable, match="Nothing was kept of it"):
            store.backup(tmp_path / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.glob("copy*")) == []


def test_a_backup_that_is_stopped_as_it_begins_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, close = open_store(path), os.close

    def stop(file: int) -> None:
        close(file)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", stop)
    with pytest.raises(KeyboardInterrupt):
        store.backup(tmp_path / "copy.db")
    monkeypatch.undo()
    assert list(tmp_path.glob("copy*")) == []


def test_postgresql_backs_itself_up(path: Path, tmp_path: Path) -> None:
    store = open_store(path)
    store._path = None
    with pytest.raises(NotOffered, match="pg_dump"):
        store.backup(tmp_path / "copy.db")
    store.make_durable()
