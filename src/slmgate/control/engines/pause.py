"""How long an engine that has failed is left alone before it is started again: longer each time, with a little chance in it.

It knows no process and no clock: `now` and chance are arguments.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST = 1.0
LONGEST = 60.0
STEADY = 60.0
"""Seconds after which one that runs is taken to be well: what was before counts no more."""
SPREAD = 0.2
"""The part of a pause that is left to chance, so that engines that fail together do not start together for ever."""


class Pause:
    """One engine's. `until` is when it may be started again; 0: at any time. `chance` gives numbers from 0 to 1."""

    __slots__ = ("_chance", "failures", "until")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self.failures = 0  # in a row
        self.until = 0.0

    def __repr__(self) -> str:
        return f"<Pause: {self.failures} failures in a row>"

    def failed(self, now: float, served: float | None = None) -> float:
        """It has ended, or did not become ready; `served`: it had been ready for so many seconds. Returns the pause in seconds.

        One that has been ready may be started again at once, the first time.
        """
        if served is not None and served >= STEADY:
            self.failures = 0
        before, self.failures = self.failures, self.failures + 1
        seconds = 0.0
        if before or served is None:
            seconds = min(FIRST * 2 ** min(before, 16), LONGEST) * (1.0 - SPREAD * self._chance())
        self.until = now + seconds
        return seconds

    def steady(self) -> None:
        """It has been ready for long."""
        self.failures = 0
