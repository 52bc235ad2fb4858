"""Retention: what the configuration no longer wants kept goes from the ledger, a little at a time.

Whole days (UTC) are deleted, oldest first, a few thousand rows a step, so that no step holds the database for long. It decides
when and how much; the store does it. Knows no thread: the one that carries journals into the ledger asks between its rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from slmgate.control.config.ledger_options import Ledger
from slmgate.control.keyring import utc_now
from slmgate.stores.base import LedgerStore

STEP = 2000
"""Rows of one step: some 50 ms of a database on a slow disk."""
PAUSE = 60.0
"""Seconds between two looks when there is nothing to delete."""


def due(keep: Ledger, now: datetime) -> dict[str, datetime]:
    """What is to be deleted -> everything of it from before that midnight."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    times = {"receipts": keep.receipts, "minutes": keep.minutes, "hours": keep.hours, "days": keep.days}
    # one midnight further back than today's: nothing goes before its time is over
    return {what: today - timedelta(seconds=-(-length // 86_400) * 86_400) for what, length in times.items() if length != "never"}


class Retention:
    """Deletes step by step from a store. `keep` gives the options in force."""

    def __init__(
        self,
        store: LedgerStore,
        keep: Callable[[], Ledger],
        wall: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keep = keep
        self._wall = wall
        self._clock = clock
        self._next = 0.0  # of the monotonic clock: before it there is surely nothing to do

    def step(self) -> int:
        """Delete at most `STEP` rows; returns how many. Raises LedgerUnavailable, with nothing deleted."""
        if self._clock() < self._next:
            return 0
        for what, before in due(self._keep(), self._wall()).items():
            gone = self._store.forget(what, before, STEP)
            if gone:
                return gone
        self._next = self._clock() + PAUSE
        return 0
