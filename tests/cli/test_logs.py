"""`slmgate logs`: the newest receipts, filters, and following what comes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slmgate.cli import logs
from slmgate.cli.client import AdminClient, connect
from slmgate.cli.ends import NO, UNREACHABLE, CommandFailed
from slmgate.stores.contents import ContentRecord
from slmgate.stores.records import Batch
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


class Road:
    """A road on which the gate answers from a script: pages of cursors, or what goes wrong."""

    def __init__(self, script: list[object]) -> None:
        self.script = script
        self.asked: list[Mapping[str, object]] = []

    def ask(self, method: str, path: str, query: Mapping[str, object], body: object, timeout: float = 0.0) -> tuple[int, Any]:
        self.asked.append(query)
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, int):
            return step, {"detail": "not now"}
        assert isinstance(step, list)
        return 200, {"receipts": [{"cursor": cursor, "receipt": {"id": f"r{cursor}"}} for cursor in step]}

    def close(self) -> None:
        """Nothing to close."""


def followed(script: list[object], monkeypatch: pytest.MonkeyPatch, query: Mapping[str, object]) -> tuple[list[str], Road]:
    monkeypatch.setattr("slmgate.cli.logs.time.sleep", lambda _: None)
    road = Road([*script, KeyboardInterrupt()])
    got: list[str] = []
    receipts = logs.receipts(AdminClient(road), query, 10, follow=True)
    with pytest.raises(KeyboardInterrupt):
        got.extend(receipt["id"] for receipt in receipts)
    return got, road


def test_a_gate_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    away = CommandFailed(UNREACHABLE, "it does not answer")
    script: list[object] = [[2], [2, 1], [3], away, away, 503, [4, 5], [], away]
    got, road = followed(script, monkeypatch, {"client": None})
    assert got == ["r1", "r2", "r3", "r4", "r5"]
    assert [query.get("after") for query in road.asked] == [None, None, 2, 3, 3, 3, 3, 5, 5, 5]
    assert capsys.readouterr().err.count("waiting for it") == 2  # once for each time that it is away


def test_what_does_not_fit_is_passed_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    got, road = followed([[90], [], [95], [], [99], [97], [99], []], monkeypatch, {"client": "eve"})
    assert got == ["r97"]
    assert [query["after"] for query in road.asked if "after" in query] == [90, 95, 99]


def test_a_refusal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    road = Road([[1], [1], CommandFailed(NO, "this needs a key")])
    with pytest.raises(CommandFailed, match="needs a key"):
        list(logs.receipts(AdminClient(road), {}, 10, follow=True))


def test_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not logs._nobody_reads()  # pytest's stdout is no pipe, or one that is read
    read, write = os.pipe()
    with os.fdopen(write, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert not logs._nobody_reads()
        os.close(read)
        assert logs._nobody_reads()
        road = Road([[1], [1], []])
        assert [receipt["id"] for receipt in logs.receipts(AdminClient(road), {}, 10, follow=True)] == ["r1"]
    monkeypatch.undo()


def test_contents(store: SqlStore) -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    later = datetime(2126, 11, 28, 12, tzinfo=UTC)
    asked = ContentRecord(
        id="r1", role="kept", time=now, expires=later, prompt='{"a":1}\nb\x1b[2J', answer="told", answer_cut=True
    )
    store.contents.put([asked])
    shown = run("logs", "--content", "r1").stdout.splitlines()
    assert shown[0].startswith("r1  2026-11-28T12:00:00Z  role kept  kept until 2126-11-28T12:00:00Z  0 masked")
    assert shown[1:4] == ["", "prompt:", '{"a":1}']
    assert "\x1b" not in shown[4]
    assert shown[5:] == ["", "answer (its beginning):", "told"]
    assert json.loads(run("logs", "--content", "r1", "--json").stdout)["answer"] == "told"
    assert [(line.action, line.target) for line in store.audit(9)] == [("read", "content/r1")] * 2
    none = run("logs", "--content", "r2")
    assert none.exit_code == 1
    assert "Nothing is kept" in none.stderr
    store.contents.put([ContentRecord(id="r0", role="kept", time=now, expires=later, prompt="only this")])
    assert "answer" not in run("logs", "--content", "r0").stdout
