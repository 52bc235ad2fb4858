"""The workers of a gate that this one has taken over from: what they still have under way, until each of them is gone.

Their slots are those of their own gate, so they have numbers here that no slot has. They are known by their connections, and what
they say of how fit instances are does not count. It knows no process, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from msgspec.structs import replace

from slmgate.link.messages import Tally, Wanted

NOT_HERE_YET = -1
"""The number of whoever may yet come: nobody ever speaks for it."""


class Speaker(Protocol):
    """A connection; each is its own."""

    def __hash__(self) -> int: ...


class Elders:
    """Those that are connected, by numbers below `NOT_HERE_YET`."""

    def __init__(self) -> None:
        self._numbers: dict[Speaker, int] = {}
        self._told: dict[Speaker, Tally] = {}
        self._last = NOT_HERE_YET

    def __repr__(self) -> str:
        return f"<Elders: {len(self._numbers)}>"

    def joined(self, peer: Speaker) -> None:
        self._last -= 1
        self._numbers[peer] = self._last

    def left(self, peer: Speaker) -> int | None:
        """The number that it had; None: it is none of these."""
        self._told.pop(peer, None)
        return self._numbers.pop(peer, None)

    def tally(self, peer: Speaker, tally: Tally) -> Tally:
        """Take note of what one tells. Returns the same under its number."""
        self._told[peer] = tally = replace(tally, slot=self._numbers[peer])
        return tally

    def wanted(self, peer: Speaker, message: Wanted) -> Wanted:
        """What one of them wants, under its number."""
        return replace(message, slot=self._numbers[peer])

    @property
    def numbers(self) -> Collection[int]:
        return self._numbers.values()

    @property
    def tallies(self) -> Collection[Tally]:
        """The last word of each."""
        return self._told.values()

    @property
    def silent(self) -> bool:
        """Whether one has told nothing yet."""
        return len(self._told) < len(self._numbers)
