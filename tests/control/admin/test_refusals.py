"""Refused changes in the audit log: each one, up to so many a minute; of the others how many there were."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.admin import refusals
from slmgate.control.admin.refusals import PER_MINUTE, Refusals
from slmgate.stores.sql import SqlStore, open_store


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return open_store(tmp_path / "ledger")


def told(store: SqlStore) -> list[tuple[str, str, dict[str, str]]]:
    return [(row.actor, row.target, row.detail) for row in reversed(store.audit(1000)) if row.action == "refused"]


@pytest.mark.parametrize("count", [1, PER_MINUTE - 1, PER_MINUTE, PER_MINUTE + 1, PER_MINUTE + 7])
def test_so_many_a_minute(count: int, store: SqlStore) -> None:
    clock = Clock()
    noted = Refusals(lambda: store, clock)
    for _ in range(count):
        noted.note("key:ci", "POST /api/v1/keys", "owner")
    line = ("key:ci", "POST /api/v1/keys", {"needs": "owner"})
    assert told(store) == [line] * min(count, PER_MINUTE)
    noted.note("user:ann", "POST /api/v1/keys", "owner")  # another one's bound is another's
    clock.now += 60
    noted.note("key:ci", "POST /api/v1/reload", "operator")
    rest = told(store)[min(count, PER_MINUTE) + 1 :]
    more = [("key:ci", "more of the same", {"count": str(count - PER_MINUTE)})] if count > PER_MINUTE else []
    assert rest == [*more, ("key:ci", "POST /api/v1/reload", {"needs": "operator"})]


def test_so_many_operators_are_remembered(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "OPERATORS", 2)
    monkeypatch.setattr(refusals, "PER_MINUTE", 1)
    noted = Refusals(lambda: store, Clock())
    for name in ("a", "a", "b", "c"):
        noted.note(name, "x", "owner")
    assert [(actor, target) for actor, target, _ in told(store)] == [
        ("a", "x"),
        ("b", "x"),
        ("a", "more of the same"),
        ("c", "x"),
    ]
    assert len(noted._minutes) == 2
