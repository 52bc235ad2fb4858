"""How long the ledger has not been up to date, for whoever asks while the thread that fills it is at work, or hangs.

A round of that thread ends well or fails; one that does neither for long waits for a database that does not answer. It knows no
ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SLOW_SECONDS = 30.0
"""A round that takes longer is told of as a failed one is. Much to take in, or a month to prepare, takes less."""


class Lag:
    """Told by one thread, asked by others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()  # the last round that ended well, or the beginning
        self._never = True
        self._failing = False

    def __repr__(self) -> str:
        return f"<Lag {self.seconds}>"

    def none(self) -> None:
        """A round has ended well: everything is in the ledger."""
        self._since, self._never, self._failing = self._clock(), False, False

    def failed(self) -> None:
        """A round has failed."""
        self._failing = True

    @property
    def seconds(self) -> float | None:
        """Since the ledger was up to date; 0.0: it is. None: nobody knows yet."""
        waited = self._clock() - self._since
        if self._failing or waited > SLOW_SECONDS:
            return waited
        return None if self._never else 0.0
