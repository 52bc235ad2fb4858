"""The chain of the audit log against whoever may write to the database: every edit is found, and the first bad row named.

The edits are made with the triggers removed, as their maker would. Two writers of one store are two stores over its file.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from slmgate.stores import migrations
from slmgate.stores.records import AuditRecord, AuditVerdict, LedgerUnavailable
from slmgate.stores.sealing import HEAD_FILE, KEY_FILE, START, seal
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.sql_audit import SqlAudit

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
COLUMNS = ("id", "previous", "seal", "time", "actor", "action", "target", "address", "detail")


def line(number: int) -> AuditRecord:
    return AuditRecord(
        time=NOON,
        actor="ann",
        action="key.create",
        target=f"k{number}",
        address="192.0.2.1",
        detail={"b": "é\n", "a": str(number)},
    )


def filled(path: Path, rows: int) -> SqlStore:
    store = open_store(path)
    for number in range(1, rows + 1):
        store.append_audit(line(number))
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def forced(path: Path) -> sqlite3.Connection:
    """The database for somebody who does what the triggers refuse."""
    made = sqlite3.connect(path, isolation_level=None)
    for (name,) in made.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        made.execute(f"DROP TRIGGER {name}")
    return made


def test_what_is_read_is_what_was_written(path: Path) -> None:
    told: list[tuple[AuditRecord, str]] = []
    store = open_store(path)
    store.on_audit = lambda record, trouble: told.append((record, trouble))
    for number in (1, 2, 3):
        store.append_audit(line(number))
    rows = store.audit(9)[::-1]
    assert [(row.id, row.address, row.detail["a"]) for row in rows] == [(n, "192.0.2.1", str(n)) for n in (1, 2, 3)]
    assert told == [(row, "") for row in rows]
    verdict = store.verify_audit()
    assert verdict == AuditVerdict(right=True, rows=3, first_bad=None, why="", keyed_from=1, head=f"3:{rows[-1].seal}")
    assert (path.parent / HEAD_FILE).read_text().split() == [f"{3:019}", rows[-1].seal]
    assert store.verify_audit(verdict.head).right
    assert store.verify_audit(f"2:{rows[1].seal}").right
    with pytest.raises(ValueError, match="NUMBER:SEAL"):
        store.verify_audit("3")


def test_an_empty_log_is_right(path: Path) -> None:
    verdict = open_store(path).verify_audit()
    assert (verdict.right, verdict.rows, verdict.head) == (True, 0, "")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "DELETE FROM audit WHERE id = 2",
        "REPLACE INTO audit SELECT * FROM audit WHERE id = 2", "INSERT OR REPLACE INTO audit SELECT * FROM audit",
        "INSERT INTO audit SELECT 9, time, actor, action, target, address, detail, previous, seal FROM audit WHERE id = 1",
    ],
)  # fmt: skip
def test_the_database_itself_refuses(path: Path, statement: str) -> None:
    filled(path, 3)
    with pytest.raises(sqlite3.IntegrityError, match="only added to"):
        sqlite3.connect(path).execute(statement)


# Every kind of edit, with the number of the first row that it makes bad.
def _edit(db: sqlite3.Connection, row: int, rows: int) -> int:
    db.execute("UPDATE audit SET actor = 'eve' WHERE id = ?", [row])
    return row


def _delete(db: sqlite3.Connection, row: int, rows: int) -> int:
    db.execute("DELETE FROM audit WHERE id = ?", [row])
    return row


def _cut(db: sqlite3.Connection, row: int, rows: int) -> int:
    db.execute("DELETE FROM audit WHERE id >= ?", [row])
    return row


def _close_up(db: sqlite3.Connection, row: int, rows: int) -> int:
    db.execute("DELETE FROM audit WHERE id = ?", [row])
    db.execute("UPDATE audit SET id = -id WHERE id > ?", [row])
    db.execute("UPDATE audit SET id = -id - 1 WHERE id < 0")
    return row


def _insert(db: sqlite3.Connection, row: int, rows: int) -> int:
    db.execute("UPDATE audit SET id = -id WHERE id >= ?", [row])
    db.execute("UPDATE audit SET id = -id + 1 WHERE id < 0")
    columns = ", ".join(COLUMNS[1:])
    db.execute(f"INSERT INTO audit (id, {columns}) SELECT ?, {columns} FROM audit WHERE id = ?", [row, row + 1])
    return row + 1  # the first of the two is the very row that was there


def _swap(db: sqlite3.Connection, row: int, rows: int) -> int:
    other = row % rows + 1
    db.execute("UPDATE audit SET id = -1 WHERE id = ?", [row])
    db.execute("UPDATE audit SET id = ? WHERE id = ?", [row, other])
    db.execute("UPDATE audit SET id = ? WHERE id = -1", [other])
    return min(row, other)


def _append(db: sqlite3.Connection, row: int, rows: int) -> int:
    columns = ", ".join(COLUMNS[1:])
    db.execute(f"INSERT INTO audit (id, {columns}) SELECT ?, {columns} FROM audit WHERE id = ?", [rows + 1, row])
    return rows + 1


def _recompute(db: sqlite3.Connection, row: int, rows: int) -> int:
    """A row is changed, and the whole chain from there made anew by somebody who has not the key."""
    db.execute("UPDATE audit SET actor = 'eve' WHERE id = ?", [row])
    before = db.execute("SELECT seal FROM audit WHERE id = ?", [row - 1]).fetchone()
    previous = before[0] if before else START
    for found in db.execute(f"SELECT {', '.join(COLUMNS)} FROM audit WHERE id >= ? ORDER BY id", [row]).fetchall():
        sealed = seal(b"", previous, found[0], found[3:])
        db.execute("UPDATE audit SET previous = ?, seal = ? WHERE id = ?", [previous, sealed, found[0]])
        previous = sealed
    return row


EDITS: list[Callable[[sqlite3.Connection, int, int], int]] = [
    _edit, _delete, _cut, _close_up, _insert, _swap, _append, _recompute,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("row", [1, 3, 5])
def test_every_kind_of_edit_is_found(path: Path, edit: Callable[[sqlite3.Connection, int, int], int], row: int) -> None:
    store = filled(path, 5)
    expected = edit(forced(path), row, 5)
    verdict = store.verify_audit()
    assert (verdict.right, verdict.first_bad, verdict.rows) == (False, expected, expected - 1)
    assert verdict.why


VALUES: dict[str, st.SearchStrategy[object]] = {
    "id": st.integers(-(2**63), 2**63 - 1),
    "previous": st.binary(max_size=40) | st.text(max_size=4),
    "seal": st.binary(max_size=40) | st.text(max_size=4) | st.integers(0, 9),
    "time": st.integers(-(2**63), 2**63 - 1) | st.text(alphabet="abc", min_size=1) | st.floats(allow_nan=False),
    **{name: st.text(st.characters(codec="utf-8")) | st.binary() for name in COLUMNS[4:]},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite3"
    filled(path, 6).close()
    forced(path).close()  # with which all of it is in the one file
    return path


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_edit_of_any_cell_is_found(whole: Path, data: st.DataObject) -> None:
    """One value of one row is changed to another, whatever it is, of whatever type; and nothing else is wrong after all."""
    column = data.draw(st.sampled_from(COLUMNS))
    row = data.draw(st.integers(1, 6))
    value = data.draw(VALUES[column])
    with tempfile.TemporaryDirectory() as made:
        for name in (whole.name, KEY_FILE, HEAD_FILE):
            shutil.copy(whole.parent / name, made)
        path = Path(made) / whole.name
        db = sqlite3.connect(path, isolation_level=None)
        before = db.execute("SELECT * FROM audit ORDER BY id").fetchall()
        try:
            db.execute(f"UPDATE audit SET {column} = ? WHERE id = ?", [value, row])
        except (sqlite3.IntegrityError, OverflowError):  # it is another row's number, or none at all
            return
        changed = db.execute("SELECT * FROM audit ORDER BY id").fetchall() != before
        db.close()
        store = open_store(path)
        verdict = store.verify_audit()
        store.close()
    assert verdict.right is not changed
    if changed:
        assert verdict.first_bad is not None and verdict.first_bad <= row


def test_a_cut_is_not_grown_over(path: Path) -> None:
    store = filled(path, 5)
    told: list[str] = []
    store.on_audit = lambda record, trouble: told.append(trouble)
    forced(path).execute("DELETE FROM audit WHERE id > 3")
    for number in range(6, 12):
        store.append_audit(line(number))
    assert all("audit.head" in trouble for trouble in told) and len(told) == 6
    verdict = store.verify_audit()
    assert (verdict.right, verdict.first_bad) == (False, 5)
    assert "written anew" in verdict.why
    (path.parent / HEAD_FILE).unlink()  # what an operator does who knows why
    store.append_audit(line(12))
    assert store.verify_audit().right
    assert told[-1] == ""


def test_who_has_the_key_too_is_found_by_a_head_that_was_kept_elsewhere(path: Path) -> None:
    store = filled(path, 4)
    kept = store.verify_audit().head
    key = bytes.fromhex((path.parent / KEY_FILE).read_text().split()[1])
    db, previous = forced(path), START
    db.execute("UPDATE audit SET actor = 'eve' WHERE id = 2")
    for found in db.execute(f"SELECT {', '.join(COLUMNS)} FROM audit ORDER BY id").fetchall():
        sealed = seal(key, previous, found[0], found[3:])
        db.execute("UPDATE audit SET previous = ?, seal = ? WHERE id = ?", [previous, sealed, found[0]])
        previous = sealed
    (path.parent / HEAD_FILE).write_text(f"4:{previous.hex()}")
    assert store.verify_audit().right
    assert store.verify_audit(kept).first_bad == 4
    assert not store.verify_audit("5:" + "ab" * 32).right


def test_a_damaged_note_is_no_all_clear(path: Path) -> None:
    store = filled(path, 2)
    (path.parent / HEAD_FILE).write_text("x")
    verdict = store.verify_audit()
    assert (verdict.right, verdict.first_bad, verdict.rows) == (False, None, 2)
    told: list[str] = []
    store.on_audit = lambda record, trouble: told.append(trouble)
    store.append_audit(line(3))
    assert "audit.head" in told[0]


def test_another_key_makes_no_right_rows(path: Path) -> None:
    filled(path, 2).close()
    (path.parent / KEY_FILE).unlink()
    store = open_store(path)
    store.append_audit(line(3))
    verdict = store.verify_audit()
    assert (verdict.right, verdict.first_bad, verdict.keyed_from) == (False, 1, 3)
    assert "another key" in verdict.why


def test_a_file_that_is_no_key_opens_no_store(path: Path) -> None:
    (path.parent / KEY_FILE).write_text("nonsense")
    with pytest.raises(LedgerUnavailable, match=KEY_FILE):
        open_store(path)


def test_a_key_that_cannot_be_made_opens_no_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slmgate.stores.sql_audit.make_key", fail)
    with pytest.raises(LedgerUnavailable, match="No space left"):
        open_store(path)


def test_what_was_rolled_back_is_not_noted(path: Path) -> None:
    store = filled(path, 1)
    told: list[AuditRecord] = []
    store.on_audit = lambda record, trouble: told.append(record)

    def fail() -> None:
        with store._writing() as connection:
            store._audit.add(connection, line(2))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store._writing():
        pass
    assert told == []
    assert store.verify_audit().right
    store.append_audit(line(2))
    assert [record.id for record in told] == [2]


def test_a_note_that_cannot_be_written_fails_no_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(path, 1)

    def fail() -> None:
        raise LedgerUnavailable("cannot be synced")

    told: list[str] = []
    store.on_audit = lambda record, trouble: told.append(trouble)
    monkeypatch.setattr(store, "make_durable", fail)
    store.append_audit(line(2))
    assert told == ["cannot be synced"]
    assert store.verify_audit().right


def test_two_writers_never_fork_the_chain(path: Path) -> None:
    stores = [filled(path, 1), *(open_store(path) for _ in range(3))]

    def write(store: SqlStore) -> None:
        for number in range(25):
            store.append_audit(line(number))

    threads = [threading.Thread(target=write, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = stores[0].verify_audit()
    assert (verdict.right, verdict.rows) == (True, 101)
    assert (path.parent / HEAD_FILE).read_text().startswith(f"{101:019}")


def test_more_rows_than_a_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.stores.sql_audit._PAGE", 2)
    store = filled(path, 4)
    assert store.verify_audit().rows == 4
    forced(path).execute("UPDATE audit SET detail = '{}' WHERE id = 4")
    assert store.verify_audit().first_bad == 4


@pytest.mark.parametrize("keyed", [False, True])
def test_rows_from_before_there_was_a_chain(path: Path, keyed: bool) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    migrations.upgrade(engine, "0010")
    with engine.begin() as connection:
        insert = sa.text("INSERT INTO audit (time, actor, action, target, detail) VALUES (5, 'ann', 'sign-in', 'admin', :detail)")
        for detail in ({"how": "password", "address": "192.0.2.7"}, {"é\n": '"'}, {}):
            connection.execute(insert, {"detail": json.dumps(detail)})
    engine.dispose()
    store = open_store(path)
    assert [(row.address, row.detail) for row in store.audit(9)[::-1]] == [
        ("192.0.2.7", {"how": "password"}), ("", {"é\n": '"'}), ("", {}),
    ]  # fmt: skip
    assert store.verify_audit().keyed_from == 4
    db = forced(path)
    if keyed:
        store.append_audit(line(4))
        assert (store.verify_audit().right, store.verify_audit().rows) == (True, 4)
    for row in (3, 2, 1):
        db.execute("UPDATE audit SET actor = 'eve' WHERE id = ?", [row])
        assert store.verify_audit().first_bad == row
    _recompute(db, 1, 4)  # which anybody can, as far as there is no key: up to the row that a key or the note holds fast
    assert store.verify_audit().first_bad == (4 if keyed else 3)


def test_without_a_home_there_is_neither_key_nor_note(path: Path) -> None:
    log = SqlAudit(None)
    assert log.has_key
    log.find_key()
    assert repr(log) == "<SqlAudit SealKey(first=1)>"
    store = SqlStore(filled(path, 2)._engine, path, None)
    assert store.verify_audit().first_bad == 1  # which was sealed with a key
