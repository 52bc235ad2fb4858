"""The arithmetic of limits: how use grows old, what is left, and how long until there is room; in integers, rounded nowhere.

Time is an argument: rolling windows count microseconds of a clock that only goes forward, calendars the seconds since the epoch.
It holds no state: what was used lives in cells, which `dataplane/table.py` keeps and shows to these functions as plain numbers.

A rolling window without a burst is counted in `RING` slices of time, the current one and `SLICES` before it. Together they
cover every window of the limit's length, so that none ever holds more than the amount; room comes back at most one slice late.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from slmgate.policy.limits import Calendar, LimitSpec
from slmgate.policy.roles import zone_of

SLICES = 119
"""Into how many a rolling window is cut."""
RING = SLICES + 1
"""How many are kept."""

SLIDING, BUCKET, CALENDAR, CONCURRENT = range(1, 5)
"""The ways to count."""

SECOND = 1_000_000
"""Microseconds."""

NEVER = 1 << 60
"""A wait without end, in microseconds."""


class Meter:
    """A limit made ready for counting. `amount` is what a cell may hold at most; `period` is in microseconds (rolling only)."""

    __slots__ = ("_end", "_start", "amount", "final", "kind", "period", "rate", "spec", "temporary")

    def __init__(self, spec: LimitSpec) -> None:
        self.spec = spec
        self.period = spec.seconds * SECOND
        self.rate = spec.amount  # of a bucket: what drains in a period
        self.amount = spec.amount if spec.burst is None else spec.burst
        self.temporary = spec.raised is not None
        self.final = spec.unit == "requests"  # what is taken is what it comes to, whatever becomes of the request
        # the calendar's period in which somebody asked last, seconds since the epoch
        self._start = 0
        self._end = 0
        if spec.seconds:
            self.kind = SLIDING if spec.burst is None else BUCKET
        else:
            self.kind = CONCURRENT if spec.calendar is None else CALENDAR

    def __repr__(self) -> str:
        return f"<Meter {self.spec.name}: {self.spec.text}>"

    def amount_at(self, second: float) -> int:
        """What a cell may hold at that second since the epoch."""
        spec = self.spec
        if spec.raised is not None and second < spec.raised_until:
            return max(spec.raised, self.amount)
        return self.amount

    def falls(self, second: float, wait: int) -> int:
        """By how much less a cell may hold `wait` microseconds after that second, because a raise ends meanwhile."""
        spec = self.spec
        if spec.raised is None or not second < spec.raised_until <= second + wait / SECOND:
            return 0
        return max(spec.raised, self.amount) - self.amount

    def period_at(self, second: float) -> tuple[int, int]:
        """First and last (exclusive) second of the calendar's period in which `second` lies."""
        if not self._start <= second < self._end:
            assert self.spec.calendar is not None
            self._start, self._end = period_of(self.spec.calendar, self.spec.zone, self.spec.first_day, second)
        return self._start, self._end


def period_of(calendar: Calendar, zone: str, first_day: int, second: float) -> tuple[int, int]:
    """The day, week or month in which `second` lies by the clock of `zone`, as seconds since the epoch: from, and to before.

    A midnight that daylight saving skips is the first moment after it; of one that it repeats, the first counts.
    """
    local = datetime.fromtimestamp(second, zone_of(zone))
    first = datetime(local.year, local.month, local.day)  # noqa: DTZ001  a date on the wall; the zone comes at the end
    if calendar == "day":
        after = first + timedelta(days=1)
    elif calendar == "week":
        first -= timedelta(days=(first.weekday() - first_day) % 7)
        after = first + timedelta(days=7)
    else:
        first = first.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return int(first.replace(tzinfo=zone_of(zone)).timestamp()), int(after.replace(tzinfo=zone_of(zone)).timestamp())


def slice_at(now: int, period: int) -> int:
    """The number of the slice that the microsecond `now` lies in."""
    return now * SLICES // period


def outdated(ring: Sequence[int], base: int, head: int, current: int) -> int:
    """How much of what a ring holds has left the window, when the slice `current` begins and `head` was the last one.

    The ring's places are `ring[base : base + RING]`; a slice has the place of its number modulo `RING`.
    """
    if current - head >= RING:
        return sum(ring[base : base + RING])
    return sum(ring[base + number % RING] for number in range(head + 1, current + 1))


def sliding_wait(ring: Sequence[int], base: int, head: int, now: int, period: int, excess: int) -> int:
    """Microseconds until at least `excess` of what the window still holds has left it; `NEVER` if it never does."""
    for number in range(max(head, slice_at(now, period)) - SLICES, head + 1):
        excess -= ring[base + number % RING]
        if excess <= 0:
            # a slice is gone when its place is wanted for the one that comes `RING` later
            return -(-(number + RING) * period // SLICES) - now
    return NEVER


def drained(used: int, rest: int, passed: int, rate: int, period: int) -> tuple[int, int]:
    """What a bucket still holds after `passed` microseconds, `rate` of which drain in a `period`; and the part of a unit over.

    `rest` is that part as it was before, in units of 1/period.
    """
    gone = passed * rate + rest
    left = used - gone // period
    return (left, gone % period) if left > 0 else (0, 0)


def bucket_wait(rest: int, rate: int, period: int, excess: int) -> int:
    """Microseconds until `excess` units have drained."""
    return min(NEVER, max(0, -(-(excess * period - rest) // rate))) if rate else NEVER
