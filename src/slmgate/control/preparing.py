"""Preparing: what puts all clients in order is made of each day and month when it is over, so that no page has to wait for it.

A day or a month at a time; where receipts come later, it is made again. It decides when; the store does it. Knows no thread: the
one that carries journals into the ledger asks between its rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from slmgate.control.keyring import utc_now
from slmgate.stores.telling import TallyStore

BACK = timedelta(days=400)
"""As far as pages look back by themselves, and a month. What is older is made when it is asked for, and kept then."""
PAUSE = 60.0
"""Seconds between two looks when everything is ready."""


class Preparing:
    """Prepares step by step. `tallies` gives the store's."""

    def __init__(
        self,
        tallies: Callable[[], TallyStore],
        wall: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tallies = tallies
        self._wall = wall
        self._clock = clock
        self._next = 0.0  # of the monotonic clock: before it there is surely nothing to do

    def __repr__(self) -> str:
        return f"<Preparing, next look at {self._next:.0f}>"

    def step(self) -> bool:
        """Prepare one day or month; False: nothing was to be done. Raises LedgerUnavailable."""
        if self._clock() < self._next:
            return False
        now = self._wall()
        if self._tallies().prepare(now - BACK, now):
            return True
        self._next = self._clock() + PAUSE
        return False
