"""Receipts found in windows: every page of every search, in both directions, and what happens when time is up.

A page is held against what the store gives when it is asked for everything at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control import searching as module
from slmgate.control.searching import Found, search
from slmgate.stores.base import Store
from slmgate.stores.records import Batch, ReceiptFilter
from slmgate.stores.sql import open_store
from slmgate.terms import Receipt

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
MANY = 30


def receipt(number: int, **fields: Any) -> Receipt:
    told: dict[str, Any] = {
        "id": f"r{number}",
        "request_id": f"r{number}",
        "time": NOON + timedelta(minutes=number),
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 429 if number % 7 == 0 else 200,
        "verdict": "admit",
        "reason": "",
        "ended": "complete",
        "principal": "bot",
    }
    return Receipt(**told | fields)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path / "ledger.sqlite3")
    yield made
    made.close()


@pytest.fixture
def full(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With some receipts, looked at four at a time."""
    store.write(Batch(receipts=[receipt(number) for number in range(MANY)]))
    monkeypatch.setattr(module, "WINDOW", 4)
    return store


class Steps:
    """A clock that goes on by so much with each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def ids(found: Found) -> list[str]:
    return [one.receipt.id for one in found.receipts]


def test_an_empty_ledger(store: Store) -> None:
    assert search(store, ReceiptFilter(), 10, Steps()) == Found([], None, None, all=True)
    assert store.cursors_at(NOON) == (None, None)


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 29, 30, 31])
@pytest.mark.parametrize(
    "which",
    [
        ReceiptFilter(),
        ReceiptFilter(status=429),
        ReceiptFilter(status=500),
        ReceiptFilter(client="nobody"),
        ReceiptFilter(since=NOON + timedelta(minutes=5)),
        ReceiptFilter(until=NOON + timedelta(minutes=20)),
        ReceiptFilter(since=NOON + timedelta(minutes=5), until=NOON + timedelta(minutes=20), status=200),
        ReceiptFilter(since=NOON + timedelta(days=9)),
        ReceiptFilter(until=NOON - timedelta(days=9)),
    ],
    ids=str,
)
def test_every_page_down_and_up_again(full: Store, which: ReceiptFilter, limit: int) -> None:
    everything = [one.receipt.id for one in full.receipts(which, 1000)]
    page = search(full, which, limit, Steps())
    pages = [page]
    while page.older is not None:
        page = search(full, which, limit, Steps(), before=page.older)
        pages.append(page)
    assert [id for each in pages for id in ids(each)] == everything
    assert all(each.all for each in pages)
    assert pages[0].newer is None
    assert [len(each.receipts) for each in pages[:-1]] == [limit] * (len(pages) - 1)
    back = []
    while page.newer is not None:
        page = search(full, which, limit, Steps(), after=page.newer)
        back.append(page)
    assert [ids(each) for each in back] == [ids(each) for each in pages[-2::-1]]


def test_time_is_up(full: Store) -> None:
    """After the window that it was up in: with what was found so far, and where to go on."""
    found = search(full, ReceiptFilter(status=500), 10, Steps(1.0), patience=2.5)
    assert (found.receipts, found.all, found.newer) == ([], False, None)
    assert found.older is not None and 0 < found.older < MANY
    looks = 0
    older: int | None = found.older
    got: list[str] = []
    while older is not None:
        found = search(full, ReceiptFilter(status=429), 10, Steps(1.0), before=older, patience=0.5)
        got += ids(found)
        older = found.older
        looks += 1
    assert looks > 2
    assert set(got) <= {"r0", "r7", "r14", "r21", "r28"}
    up = search(full, ReceiptFilter(status=500), 10, Steps(1.0), after=0, patience=0.5)
    assert (up.receipts, up.all, up.older) == ([], False, 1)
    assert up.newer == 3
    assert found.all


def test_what_has_left_is_gone_on_from_all_the_same(full: Store) -> None:
    """A cursor from before retention, or of nobody."""
    assert ids(search(full, ReceiptFilter(), 3, Steps(), before=10**9)) == ["r29", "r28", "r27"]
    assert search(full, ReceiptFilter(), 3, Steps(), before=0).receipts == []
    assert search(full, ReceiptFilter(), 3, Steps(), after=10**9).receipts == []


def test_a_long_request_is_found_by_its_beginning(store: Store) -> None:
    """It began before the others and came to the ledger after them."""
    store.write(Batch(receipts=[receipt(number) for number in range(10)]))
    store.write(Batch(receipts=[receipt(99, time=NOON - timedelta(hours=20))]))
    day = ReceiptFilter(since=NOON - timedelta(hours=21), until=NOON - timedelta(hours=19))
    assert ids(search(store, day, 10, Steps())) == ["r99"]
    assert ids(search(store, ReceiptFilter(since=NOON), 10, Steps()))[-1] == "r0"
