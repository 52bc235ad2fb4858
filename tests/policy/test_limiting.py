"""The arithmetic of limits against slow readings of what it means: windows, buckets, and the calendars of three time zones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.limiting import (
    BUCKET,
    CALENDAR,
    CONCURRENT,
    NEVER,
    RING,
    SECOND,
    SLICES,
    SLIDING,
    Meter,
    bucket_wait,
    drained,
    outdated,
    period_of,
    slice_at,
    sliding_wait,
)
from slmgate.policy.limits import Calendar, LimitSpec


def limit(**fields: object) -> LimitSpec:
    return LimitSpec(**{"name": "n", "text": "5 requests/minute", "identity": "i", "unit": "requests", "amount": 5, **fields})  # type: ignore[arg-type]  # a table of fields


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp())


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"seconds": 60}, SLIDING),
        ({"seconds": 60, "burst": 9}, BUCKET),
        ({"calendar": "day"}, CALENDAR),
        ({"unit": "concurrent"}, CONCURRENT),
    ],
)
def test_ways_to_count(fields: dict[str, object], kind: int) -> None:
    meter = Meter(limit(**fields))
    assert meter.kind == kind
    assert meter.amount == fields.get("burst", 5)
    assert repr(meter) == "<Meter n: 5 requests/minute>"


@pytest.mark.parametrize(("second", "amount"), [(99.9, 50), (100.0, 5), (100.1, 5)])
def test_a_raise_has_an_end(second: float, amount: int) -> None:
    assert Meter(limit(seconds=60, raised=50, raised_until=100.0)).amount_at(second) == amount


@pytest.mark.parametrize(
    ("second", "wait", "less"),
    [(90.0, 9.9, 0), (90.0, 10.0, 45), (99.9, 0.1, 45), (100.0, 60.0, 0), (0.0, 1000.0, 45), (0.0, 0.0, 0)],
)
def test_by_how_much_a_limit_falls_while_somebody_waits(second: float, wait: float, less: int) -> None:
    spec = limit(seconds=60, raised=50, raised_until=100.0)
    assert Meter(spec).falls(second, round(wait * SECOND)) == less
    assert Meter(limit(seconds=60)).falls(second, round(wait * SECOND)) == 0
    assert Meter(limit(seconds=60, raised=3, raised_until=100.0)).falls(second, round(wait * SECOND)) == 0


def test_a_raise_takes_nothing_away() -> None:
    assert Meter(limit(seconds=60, raised=3, raised_until=100.0)).amount_at(0) == 5
    assert Meter(limit(seconds=60)).amount_at(0) == 5


@pytest.mark.parametrize(
    ("calendar", "zone", "first_day", "moment", "start", "end"),
    [
        ("day", "UTC", 0, "2026-11-24T23:59:59+00:00", "2026-11-24T00:00:00+00:00", "2026-11-25T00:00:00+00:00"),
        ("month", "UTC", 0, "2026-11-30T23:59:59+00:00", "2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00"),
        ("month", "Europe/Berlin", 0, "2026-10-31T23:59:59+01:00", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("month", "Asia/Tokyo", 0, "2026-12-31T23:59:59+09:00", "2026-12-01T00:00:00+09:00", "2027-01-01T00:00:00+09:00"),
        ("month", "America/New_York", 0, "2024-02-29T23:59:59-05:00", "2024-02-01T00:00:00-05:00", "2024-03-01T00:00:00-05:00"),
        ("week", "UTC", 0, "2026-11-24T12:00:00+00:00", "2026-11-23T00:00:00+00:00", "2026-11-30T00:00:00+00:00"),
        ("week", "UTC", 6, "2026-11-24T12:00:00+00:00", "2026-11-22T00:00:00+00:00", "2026-11-29T00:00:00+00:00"),
        ("day", "Europe/Berlin", 0, "2026-10-25T12:00:00+01:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("day", "America/Sao_Paulo", 0, "2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"),
    ],
)
def test_calendars(calendar: Calendar, zone: str, first_day: int, moment: str, start: str, end: str) -> None:
    expected = (seconds(start), seconds(end))
    assert period_of(calendar, zone, first_day, seconds(moment)) == expected
    meter = Meter(limit(calendar=calendar, zone=zone, first_day=first_day))
    assert meter.period_at(seconds(moment)) == expected
    assert meter.period_at(expected[0]) == expected
    assert meter.period_at(expected[1] - 0.5) == expected
    assert meter.period_at(expected[1])[0] == expected[1]
    assert meter.period_at(expected[0] - 0.5)[1] == expected[0]


class Naive:
    """A sliding count as the table does it, on plain lists."""

    def __init__(self, amount: int, period: int) -> None:
        self.amount, self.period = amount, period
        self.ring = [0] * (2 + RING)
        self.head = self.total = 0

    def take(self, now: int, want: int) -> float | None:
        """None: taken; else how long to wait."""
        current = slice_at(now, self.period)
        total = self.total
        if current > self.head:
            total -= outdated(self.ring, 1, self.head, current)
        if total + want > self.amount:
            return sliding_wait(self.ring, 1, self.head, now, self.period, total + want - self.amount)
        if current > self.head:
            for number in range(max(self.head + 1, current - SLICES), current + 1):
                self.ring[1 + number % RING] = 0
            self.head = current
        self.ring[1 + current % RING] += want
        self.total = total + want
        return None


PERIODS = st.sampled_from([SECOND, 2 * SECOND, 60 * SECOND, 7_777_777])


@given(PERIODS, st.integers(0, 50), st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 7)), max_size=120))
def test_no_window_holds_more(period: int, amount: int, asked: list[tuple[int, int]]) -> None:
    naive, now = Naive(amount, period), 0
    taken: list[tuple[int, int]] = []
    for passed, want in asked:
        now += passed
        if naive.take(now, want) is None:
            taken.append((now, want))
            assert sum(each for at, each in taken if at > now - period) <= amount


@given(PERIODS, st.integers(1, 50), st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 7)), min_size=1, max_size=60))
def test_who_waits_as_told_is_served(period: int, amount: int, asked: list[tuple[int, int]]) -> None:
    naive, now = Naive(amount, period), 0
    for passed, want in asked:
        now += passed
        wait = naive.take(now, want)
        if wait is not None and want <= amount:
            assert 0 < wait <= period * RING // SLICES + period
            now += int(wait)
            assert naive.take(now, want) is None, "after the wait"
        elif wait is not None:
            assert wait == NEVER


@given(PERIODS, st.integers(1, 30))
def test_room_comes_back_soon(period: int, amount: int) -> None:
    """At most one slice after a window has passed, all of it is there again."""
    naive = Naive(amount, period)
    assert naive.take(period * 5 + 1, amount) is None
    assert naive.take(period * 6 + 1 + period // SLICES + 1, amount) is None


@given(
    st.integers(0, 1000),
    st.integers(1, 90),
    PERIODS,
    st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 20)), max_size=80),
)
def test_a_bucket_drains_exactly(burst: int, rate: int, period: int, asked: list[tuple[int, int]]) -> None:
    used, rest, last, now = 0, 0, 0, 0
    taken: list[tuple[int, int]] = []
    for passed, want in asked:
        now += passed
        used, rest = drained(used, rest, now - last, rate, period)
        last = now
        assert used >= 0 and 0 <= rest < period
        if used + want <= burst:
            used += want
            taken.append((now, want))
            for begin in range(len(taken)):
                window = now - taken[begin][0]
                assert sum(each for _, each in taken[begin:]) * period <= burst * period + rate * window + period
        elif want <= burst:
            wait = bucket_wait(rest, rate, period, used + want - burst)
            assert drained(used, rest, int(wait), rate, period)[0] + want <= burst, "after the wait"
            assert drained(used, rest, max(0, int(wait) - 1), rate, period)[0] + want > burst, "and not before"


def test_a_bucket_without_rate_never_drains() -> None:
    assert bucket_wait(0, 0, SECOND, 1) == NEVER
    assert drained(5, 0, 10 * SECOND, 0, SECOND) == (5, 0)
