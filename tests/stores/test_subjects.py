"""Whom receipts are counted for, and that names which clients make up do not make subjects. Sums are in tests/contracts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slmgate.stores import subjects
from slmgate.stores.records import Batch, LedgerUnavailable
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.subjects import ALL, OTHER, coarser, names_of
from tests.tools.journal_writer import make_receipt

NOON, LATER = datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_names() -> None:
    facet = {"verdict": "admit", "reason": "ok", "principal": "bot", "model": "m", "instance": "i"}
    assert names_of(facet) == (("client", "bot", ""), ("model", "m", ""), ("instance", "m", "i"))
    assert names_of(facet | {"model": "", "instance": ""}) == (("client", "bot", ""), None, None)
    refused = facet | {"verdict": "refuse", "reason": "model_not_found", "model": "made up", "instance": ""}
    assert names_of(refused) == (("client", "bot", ""), ("model", OTHER, ""), None)
    assert names_of(facet | {"verdict": "shadow"}) == (None, None, None)


def test_spans_are_added_up() -> None:
    assert coarser({(1, 7): {0: 1}, (3, 7): {0: 2, "-x": 1}, (3, 8): {0: 5}}, lambda start: start - start % 4) == {
        (0, 7): {0: 3, "-x": 1}, (0, 8): {0: 5},
    }  # fmt: skip


def test_made_up_models_are_one(store: SqlStore) -> None:
    refused = {"verdict": "refuse", "reason": "model_not_found", "instance": "", "status": 404, "ended": "refused"}
    store.write(Batch(receipts=[make_receipt(f"r{n}", time=NOON, model=f"m{n}", **refused) for n in range(1200)]))
    assert store.tallies.subjects("model") == [("model", OTHER, "")]
    assert store.tallies.read([("model", OTHER, "")], [NOON, LATER]) == [[{0: 1200, 1: 1200, "-model_not_found": 1200}]]


def test_there_are_no_more_models_than_may_be(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "MOST_MODELS", 3)
    for n in range(6):
        receipt = make_receipt(f"r{n}", time=NOON, model=f"m{n}", instance=f"i{n}")
        store.write(Batch(receipts=[receipt, make_receipt(f"again{n}", time=NOON, model="m0", instance="i0", path=f"/{n}")]))
    assert store.tallies.subjects("model") == [("model", name, "") for name in (OTHER, "m0", "m1", "m2")]
    found = store.tallies.read([("model", OTHER, ""), ("model", "m0", ""), ("instance", OTHER, ""), ALL], [NOON, LATER])
    assert [tally[0] for (tally,) in found] == [3, 7, 3, 12]
    assert [difference.told() for day in store.verify() for difference in day.differences] == []


def test_facets_are_remembered_until_there_are_too_many(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "MAX_FACETS", 2)
    for n in range(5):
        store.write(Batch(receipts=[make_receipt(f"r{n}", time=NOON, principal=f"c{n}")]))
        assert len(store._subjects._known) <= 2
    assert repr(store._subjects) == "<SubjectWriter 1 facets known>"


def test_what_failed_is_not_remembered(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise LedgerUnavailable("full")

    monkeypatch.setattr(store._keys, "note_uses", full)
    batch = Batch(receipts=[make_receipt("r1", time=NOON)], used={"k1": None})  # type: ignore[dict-item]  # is not looked at
    with pytest.raises(LedgerUnavailable):
        store.write(batch)
    assert store._subjects._known == {}
    monkeypatch.undo()
    store.write(Batch(receipts=[make_receipt("r1", time=NOON)]))
    assert store.tallies.read([ALL], [NOON, LATER])[0][0][0] == 1
