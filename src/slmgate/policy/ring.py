"""Consistent hashing with bounded loads: the same key goes to the same instance, unless that has more than its share.

Each instance has points on a ring, by its name alone, so that every worker and every restart sees the same ring, and an instance
that comes or goes moves no keys but its own. The bound is that of Mirrokni, Thorup and Zadimoghaddam (2016): nobody has more
than 1.25 times the average in flight, for its weight. It does not know what a key is.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Sequence
from hashlib import blake2b
from math import ceil

from slmgate.policy.balance import Affinity, C, Chooser, LeastBusy, is_open

SLACK = 1.25
"""How much of the average in flight an instance may have."""
POINTS = 64
"""Points of an instance of weight 1, as long as there are no more than `MOST_POINTS` in all."""
MOST_POINTS = 65_536
STEPS = 64
"""How many points are looked at before the least busy one is taken instead. So many all fail only where hardly any is open."""
_EACH = 8  # points in one digest of 64 bytes


def point_of(key: bytes) -> int:
    """The place of a key on the ring."""
    return int.from_bytes(blake2b(key, digest_size=8).digest())


class Ring(Chooser[C]):
    """The instances on their ring; `choose` without a point is least busy's."""

    by = "key"

    def __init__(self, candidates: Sequence[C]) -> None:
        super().__init__(candidates)
        self._least = LeastBusy(candidates)
        self._weight = sum(one.weight for one in candidates)
        self._points: list[int] = []
        self._owners: list[C] = []

    def choose(
        self, now: float, tried: Collection[C] = (), number: int = 0, in_flight: int = 0, affinity: Affinity | None = None
    ) -> C | None:
        if affinity is not None and affinity.point >= 0:
            found = self.near(affinity.point, now, tried, in_flight)
            if found is not None:
                return found
        return self._least.choose(now, tried, number)

    def near(self, point: int, now: float, tried: Collection[C], in_flight: int) -> C | None:
        """The next on the ring that is open and has no more than its share; None where that is none of the next `STEPS`."""
        points, owners = self._points, self._owners
        if not points:
            self._draw()  # only where it is used: there may be thousands of models
            points, owners = self._points, self._owners
            if not points:
                return None
        at = bisect(points, point)
        size = len(points)
        share = SLACK * (in_flight + 1) / self._weight
        last = None
        for step in range(min(STEPS, size)):
            one = owners[(at + step) % size]
            if one is not last and one.busy + one.others < ceil(share * one.weight) and is_open(one, now, tried):
                return one
            last = one
        return None

    def least(self, now: float, tried: Collection[C], number: int) -> C | None:
        return self._least.choose(now, tried, number)

    def share(self, one: C, in_flight: int) -> int:
        """How many in flight `one` may have at most, with one more than `in_flight` in all."""
        return ceil(SLACK * (in_flight + 1) * one.weight / self._weight)

    def _draw(self) -> None:
        each = min(float(POINTS), MOST_POINTS / self._weight) if self._weight else 0.0
        drawn = [
            (point, index) for index, one in enumerate(self.candidates) for point in _points(one.name, ceil(each * one.weight))
        ]
        drawn.sort()
        self._points = [point for point, _ in drawn]
        self._owners = [self.candidates[index] for _, index in drawn]


def _points(name: str, count: int) -> list[int]:
    points: list[int] = []
    for block in range(-(-count // _EACH)):
        digest = blake2b(f"{block} {name}".encode()).digest()
        points += (int.from_bytes(digest[start : start + 8]) for start in range(0, 64, 8))
    return points[:count]
