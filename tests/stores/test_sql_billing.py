"""Billing's tables: what the statements and notices of tests/control do not show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from slmgate.stores.billing import ChargeRow, NoticeRecord
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.journal_writer import NOON, make_receipt

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
NOTE = NoticeRecord(id="nt_1", team="acme", plan="gold", payload=b'{"a":1}', created=NOON, retry=NOON)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


def row(team: str, requests: int, **fields: object) -> ChargeRow:
    values: dict[str, object] = {
        "team": team, "requests": requests, "prompt_tokens": 7 * requests, "completion_tokens": 5 * requests, "plan": "gold",
        "price": "EUR 1 2", "model": "smollm2", "cost": 17 * requests, "estimated": 0, "unknown": 0,
    }  # fmt: skip
    return msgspec.convert(values | fields, ChargeRow)


def put(store: SqlStore, *ids: str, **fields: object) -> None:
    values: dict[str, object] = {"plan": "gold", "price": "EUR 1 2", "cost": 17, **fields}
    store.write(Batch(receipts=[make_receipt(id, **values) for id in ids]))


def test_sums_by_what_is_charged_alike(store: SqlStore) -> None:
    put(store, "r1", "r2", endpoint="chat")
    put(store, "r3", endpoint="completions", estimated=True)
    put(store, "r4", ended="unknown", price="EUR 3 4", cost=41)
    put(store, "r5", team="beta")
    put(store, "r6", team=None)
    put(store, "r7", verdict="refuse")
    put(store, "r8", verdict="shadow")
    span = NOON, NOON + DAY
    mine = [row("acme", 3, estimated=1), row("acme", 1, price="EUR 3 4", cost=41, unknown=1)]
    assert store.billing.charges(*span, "acme") == mine
    assert store.billing.charges(*span) == [*mine, row("beta", 1)]
    assert store.billing.charges(*span, "nobody") == []
    assert store.billing.charges(NOON - DAY, NOON) == []
    assert store.billing.charges(NOON + timedelta(microseconds=1), NOON + DAY) == []


def test_only_what_is_new(store: SqlStore) -> None:
    span = NOON, NOON + DAY
    assert store.billing.newest() == 0
    put(store, "r1", "r2")
    before = store.billing.newest()
    put(store, "r3")
    assert store.billing.charges(*span, after=before) == [row("acme", 1)]
    assert store.billing.charges(*span, upto=before) == [row("acme", 2)]
    assert store.billing.charges(*span, after=store.billing.newest()) == []


def test_a_notice_is_made_once(store: SqlStore) -> None:
    billing = store.billing
    assert billing.add_notice(NOTE)
    other = NoticeRecord(id="nt_1", team="x", plan="x", payload=b"x", created=NOON + SECOND, retry=NOON)
    assert not billing.add_notice(other)
    assert billing.notices(9) == [NOTE]


def test_notices_that_are_due(store: SqlStore) -> None:
    billing = store.billing
    billing.add_notice(NOTE)
    later = NoticeRecord(id="nt_2", team="acme", plan="gold", payload=b"2", created=NOON, retry=NOON + DAY)
    billing.add_notice(later)
    assert billing.due_notices(NOON - SECOND, 9) == []
    assert billing.due_notices(NOON, 9) == [NOTE]
    assert billing.due_notices(NOON + DAY, 1) == [NOTE]
    assert billing.due_notices(NOON + DAY, 9) == [NOTE, later]
    hooked = NoticeRecord(id="nt_3", team="acme", plan="", payload=b"3", created=NOON, retry=NOON + DAY, webhook="ops")
    billing.add_notice(hooked)
    assert billing.due_notices(NOON + DAY, 9, [("", "gold")]) == [hooked]
    assert billing.due_notices(NOON + DAY, 9, [("ops", "")]) == [NOTE, later]
    assert billing.due_notices(NOON + DAY, 9, [("ops", ""), ("", "gold")]) == []
    billing.save_notice(msgspec.structs.replace(hooked, retry=None))
    billing.save_notice(
        NoticeRecord(id="nt_1", team="acme", plan="gold", payload=NOTE.payload, created=NOON, attempts=1, delivered=NOON)
    )
    assert billing.due_notices(NOON + DAY, 9) == [later]
    assert {notice.id: notice.delivered for notice in billing.notices(9)} == {
        "nt_1": datetime(2026, 11, 20, 12, tzinfo=UTC),
        "nt_2": None,
        "nt_3": None,
    }
