"""Receipts found in a ledger of any size, in a time that is bounded: who asks gets what was found in it, and where to go on.

Receipts stand in the order in which they came to the ledger, which is that of their ends; a filter that few of them fit may have
to walk through all. So they are looked at in windows, as many as there is time for. It knows no page.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from slmgate.stores.base import LedgerStore
from slmgate.stores.records import NumberedReceipt, ReceiptFilter

WINDOW = 20_000
"""Cursors in one window: what is walked through within some milliseconds."""
PATIENCE = 0.2
"""Seconds of looking, at the most but for the last window."""
LONGEST = timedelta(days=1)
"""No request takes longer, so that this is how far the order of ends may be from that of beginnings."""


class Found(NamedTuple):
    """Receipts, the newest first. `older` and `newer` are the cursors to go on from, None: there are no more that way.

    `all` False: time was up before there were as many as wanted, and there may be more beyond `older` (or `newer`).
    """

    receipts: list[NumberedReceipt]
    older: int | None
    newer: int | None
    all: bool


def search(
    store: LedgerStore,
    which: ReceiptFilter,
    limit: int,
    clock: Callable[[], float],
    *,
    before: int | None = None,
    after: int | None = None,
    patience: float | None = None,
) -> Found:
    """At most `limit` receipts, the newest ones below the cursor `before`; or, with `after`, the nearest ones above that."""
    newest = store.receipts(ReceiptFilter(), 1)
    if not newest:
        return Found([], None, None, all=True)
    bottom, top = _bounds(store, which, newest[0].seq)
    until = clock() + (PATIENCE if patience is None else patience)
    if after is not None:
        return _upwards(store, which, limit, max(after, bottom), top, lambda: clock() < until)
    return _downwards(store, which, limit, top if before is None else min(before, top), bottom, before, lambda: clock() < until)


def _bounds(store: LedgerStore, which: ReceiptFilter, newest: int) -> tuple[int, int]:
    """All that is meant is above the first of these cursors and below the second."""
    bottom = None if which.since is None else store.cursors_at(which.since - LONGEST)[0]
    top = None if which.until is None else store.cursors_at(which.until + LONGEST)[1]
    return bottom or 0, newest + 1 if top is None else top


def _downwards(
    store: LedgerStore,
    which: ReceiptFilter,
    limit: int,
    top: int,
    bottom: int,
    before: int | None,
    goes_on: Callable[[], bool],
) -> Found:
    found: list[NumberedReceipt] = []
    while top > bottom + 1:
        low = max(bottom, top - WINDOW)
        found += store.receipts(which, limit + 1 - len(found), before=top, after=low, oldest_first=False)
        top = low + 1
        if len(found) > limit:
            return Found(found[:limit], found[limit - 1].seq, _first(found, before), all=True)
        if top > bottom + 1 and not goes_on():
            return Found(found, top, _first(found, before), all=False)
    return Found(found, None, _first(found, before), all=True)


def _first(found: list[NumberedReceipt], before: int | None) -> int | None:
    """From where the page before this one goes on; None: this is the first."""
    if before is None:
        return None
    return found[0].seq if found else before - 1


def _upwards(store: LedgerStore, which: ReceiptFilter, limit: int, low: int, top: int, goes_on: Callable[[], bool]) -> Found:
    begin = low
    found: list[NumberedReceipt] = []
    while low < top - 1:
        high = min(top, low + WINDOW)
        found += store.receipts(which, limit + 1 - len(found), before=high, after=low, oldest_first=True)
        low = high - 1
        if len(found) > limit:
            return Found(found[:limit][::-1], found[0].seq, found[limit - 1].seq, all=True)
        if low < top - 1 and not goes_on():
            return Found(found[::-1], found[0].seq if found else begin + 1, low, all=False)
    return Found(found[::-1], found[0].seq if found else begin + 1, None, all=True)
