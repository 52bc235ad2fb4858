"""`slmgate audit`, over the store itself: what is listed, and how a verification ends."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slmgate.cli import audit
from slmgate.stores.records import AuditRecord
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.command import run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlStore:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    for number in range(5):
        time = datetime(2026, 11, 20, 12, 0, number, tzinfo=UTC)
        address = "" if number else "192.0.2.1"
        detail = {"name": f"b{number}\x1b[2J\u202e"}
        store.append_audit(
            AuditRecord(time=time, actor="ann", action="key.create", target=f"k{number}", address=address, detail=detail)
        )
    return store


def test_list(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_PAGE", 2)
    lines = run("audit", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["row", "1", "2", "3", "4", "5"]
    assert lines[1].split() == ["1", "2026-11-20", "12:00:00", "ann", "192.0.2.1", "key.create", "k0", "name=b0\ufffd[2J\ufffd"]
    assert lines[2].split()[4] == "-"
    assert [line.split()[0] for line in run("audit", "list", "--limit", "3").stdout.splitlines()[1:]] == ["3", "4", "5"]
    assert [row["id"] for row in json.loads(run("audit", "list", "--json", "--limit", "1").stdout)["changes"]] == [5]
    assert run("audit", "list", "--limit", "0").exit_code == 2


def test_verify(store: SqlStore, tmp_path: Path) -> None:
    done = run("audit", "verify")
    assert done.exit_code == 0
    head = store.verify_audit().head
    assert done.stdout == f"5 rows, all as they were written; the newest is {head}\n"
    assert run("audit", "verify", "--head", head).exit_code == 0
    assert run("audit", "verify", "--head", "nonsense").exit_code == 2
    assert run("audit", "verify", "--head", "4:" + "ab" * 32).exit_code == 1
    assert json.loads(run("audit", "verify", "--json").stdout)["right"] is True
    with sqlite3.connect(tmp_path / "slmgate-data" / "ledger.sqlite3") as db:
        db.execute("DROP TRIGGER audit_not_changed")
        db.execute("UPDATE audit SET actor = 'eve' WHERE id = 3")
    done = run("audit", "verify")
    assert done.exit_code == 1
    assert done.stdout.startswith("NOT as it was written, from row 3 on: row 3 was changed")
    assert "2 rows before that are right, up to 2:" in done.stdout
    done = run("audit", "verify", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["first_bad"] == 3


def test_verify_where_only_the_note_is_damaged(store: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "slmgate-data" / "audit.head").write_text("x")
    done = run("audit", "verify")
    assert (done.exit_code, "from row" in done.stdout) == (1, False)


def test_nothing_to_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("audit", "verify").stdout == "0 rows, all as they were written; the newest is none\n"
