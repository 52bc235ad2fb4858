"""`slmgate logs`: the newest receipts, filters, and following what comes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmgate.cli import logs
from slmgate.cli.client import connect
from slmgate.stores.base import Batch
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.command import run
from tests.tools.journal_writer import make_receipt


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlStore:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate-data").mkdir()
    store = open_store(tmp_path / "slmgate-data" / "ledger.sqlite3")
    store.write(Batch(receipts=[make_receipt(f"r{number}", status=200 + number) for number in range(3)]))
    return store


def test_lines(store: SqlStore) -> None:
    lines = run("logs").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["r0", "r1", "r2"]
    assert lines[0] == "2026-11-20T12:00:00Z  200  bot  smollm2  chat  ok  7+5 tokens  1.2 ms  r0"
    assert [line.split()[-1] for line in run("logs", "--limit", "1").stdout.splitlines()] == ["r2"]
    assert [line.split()[-1] for line in run("logs", "--status", "201").stdout.splitlines()] == ["r1"]
    assert run("logs", "--client", "eve").stdout == ""
    assert json.loads(run("logs", "--request", "r1", "--json").stdout)["id"] == "r1"
    assert run("logs", "--limit", "0").exit_code == 2


def test_a_line_shows_no_control_characters(store: SqlStore) -> None:
    store.write(Batch(receipts=[make_receipt("x", model="\x1b[2J\n", ended="unknown", reason="worker_died", status=0)]))
    line = run("logs", "--limit", "1").stdout
    assert "\x1b" not in line
    assert line.count("\n") == 1
    assert "worker_died unknown" in line


def test_following(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        store.write(Batch(receipts=[make_receipt(f"new{len(waits)}")]))

    monkeypatch.setattr("slmgate.cli.logs.time.sleep", wait)
    with connect(None, None) as client:
        following = logs.receipts(client, {}, 2, follow=True)
        assert [next(following)["id"] for _ in range(5)] == ["r1", "r2", "new1", "new2", "new3"]
        nobody = logs.receipts(client, {"client": "eve"}, 2, follow=True)
        store.write(Batch(receipts=[make_receipt("e", principal="eve")]))
        assert next(nobody)["id"] == "e"
