"""An invented clock for the limit table, and what a bucket makes of use over time. It knows no table."""

from __future__ import annotations

NOON = 1_800_000_000.0
"""What the wall clock says when the other one says 0."""


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 5_000_000_000_000

    def __call__(self) -> int:
        return self.now

    @property
    def us(self) -> int:
        return self.now // 1000

    @property
    def second(self) -> float:
        return NOON + self.now / 1e9

    def go(self, us: float) -> None:
        self.now += int(us) * 1000


def over_bucket(used: list[tuple[int, int]], burst: int, rate: int, period: int) -> int:
    """By how much a bucket of `burst` that drains `rate` in a period would have run over; counted in units of 1/period."""
    level = worst = last = 0
    for at, weight in sorted(used):
        level = max(0, level - (at - last) * rate) + weight * period
        last = at
        worst = max(worst, level - burst * period)
    return worst
