"""Ranges and their steps in time zones, with the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmgate.control.ranges import LONGEST, MOST_STEPS, NAMES, BadRange, Range, Step, between, check_zone, floor, of_length

NOW = datetime(2026, 11, 28, 16, 38, 12, 5, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "zone", "since", "step", "steps"),
    [
        ("1h", "UTC", "2026-11-28T15:39", "1m", 60),
        ("24h", "UTC", "2026-11-27T16:30", "30m", 49),
        ("24h", "Asia/Kathmandu", "2026-11-27T16:15", "30m", 49),
        ("7d", "UTC", "2026-11-21T15:00", "3h", 57),
        ("7d", BERLIN, "2026-11-21T14:00", "3h", 57),
        ("30d", "UTC", "2026-10-29T00:00", "1d", 31),
        ("30d", BERLIN, "2026-10-28T23:00", "1d", 31),
        ("365d", "UTC", "2025-11-24T00:00", "1w", 53),
        ("1000d", BERLIN, "2024-02-29T23:00", "1M", 33),
    ],
)
def test_of_length(name: str, zone: str, since: str, step: Step, steps: int) -> None:
    range = of_length(name, NOW, zone)
    assert range == Range(since=moment(since), until=moment("2026-11-28T16:39"), zone=zone, step=step, name=name)
    assert len(range.steps()) == steps
    assert range.steps()[0] == range.since


def test_a_whole_minute_is_not_rounded_up() -> None:
    assert of_length("1h", moment("2026-11-28T16:00"), "UTC").until == moment("2026-11-28T16:00")


def test_days_when_clocks_change_are_of_23_and_25_hours() -> None:
    def hours(since: str, until: str) -> list[int]:
        range = between(since, until, NOW, BERLIN, "1d")
        return [round((b - a) / timedelta(hours=1)) for a, b in pairwise([*range.steps(), range.until])]

    assert hours("2026-03-28", "2026-03-31") == [24, 23, 24]
    assert hours("2026-10-24", "2026-10-27") == [24, 25, 24]


def test_steps_of_hours_pass_a_change_of_clocks_without_a_hole_or_a_repeat() -> None:
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25)):
        range = between(day, day + "T23:59", NOW, BERLIN, "30m")
        starts = range.steps()
        assert len(starts) == hours * 2
        assert {b - a for a, b in pairwise(starts)} == {timedelta(minutes=30)}
    threes = between("2026-10-25", "2026-10-26", NOW, BERLIN, "3h").steps()
    assert [time.astimezone(ZoneInfo(BERLIN)).hour for time in threes] == [0, 3, 6, 9, 12, 15, 18, 21]


@pytest.mark.parametrize(
    ("since", "until", "before"),
    [
        ("2026-11-02", "2026-11-03", "2026-11-01"),
        ("2026-10-26", "2026-10-27", "2026-10-25"),  # the day before has 25 hours
        ("2026-11-01T10:00", "2026-11-01T10:01", "2026-11-01T09:59"),
    ],
)
def test_before_is_as_long_on_the_clock(since: str, until: str, before: str) -> None:
    range = between(since, until, NOW, BERLIN)
    assert range.before().until == range.since
    assert range.before().since.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None) == datetime.fromisoformat(before)


def test_before_is_never_empty() -> None:
    twice = between("2026-10-25T01:00:00+00:00", "2026-10-25T01:30:00+00:00", NOW, BERLIN)  # 02:00 for the second time
    assert twice.before().since < twice.before().until == twice.since
    assert between("1970-01-02", "1975-01-01", NOW).before().since < datetime(1970, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("x",), "not a duration"),
        (("0s",), "a minute at least"),
        (("59s",), "a minute at least"),
        (("3661d",), "3660d at the most"),
        (("999999999d",), "3660d at the most"),
        (("99999999999d",), "not a duration"),
    ],
)
def test_no_length(arguments: tuple[str], told: str) -> None:
    with pytest.raises(BadRange, match=told):
        of_length(*arguments, NOW)


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        ("2026-01-02", "2026-01-02", "begins before it ends"),
        ("2026-01-03", "2026-01-02", "begins before it ends"),
        ("yesterday", None, "is not a time"),
        ("2026-01-01", "soon", "is not a time"),
        ("1971-01-01", None, "3660 days"),
        ("8999-12-31T23:59:59", None, "begins before it ends"),
        ("0001-01-01", None, "years 1000 to 9000"),
        ("1000-01-01", None, "3660 days"),
        ("9990-01-01", "9999-12-31T23:59:59", "years 1000 to 9000"),
    ],
)
def test_no_range(since: str, until: str | None, told: str) -> None:
    with pytest.raises(BadRange, match=told):
        between(since, until, NOW)


@pytest.mark.parametrize(
    "zone", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "Europe", "UTC\0", "x" * 5000, "Europe/berlin\n"]
)
def test_no_zone(zone: str) -> None:
    with pytest.raises(BadRange, match="no time zone"):
        check_zone(zone)


def test_too_many_steps_are_none() -> None:
    assert len(between("2026-01-01", "2027-01-01", NOW, step="1d").steps()) <= MOST_STEPS
    with pytest.raises(BadRange, match="too many"):
        of_length("30d", NOW, step="30m")


def test_a_given_step_is_taken() -> None:
    assert of_length("7d", NOW, step="1d").step == "1d"
    assert between("2026-11-01", None, NOW, step="1w").until == moment("2026-11-28T16:39")


def test_times_of_the_zone_and_times_with_an_offset() -> None:
    assert between("2026-11-01", "2026-11-02T00:00:00+00:00", NOW, BERLIN).since == moment("2026-10-31T23:00")
    assert between("2h", None, NOW, BERLIN).since == moment("2026-11-28T14:38")


ZONES = st.sampled_from(
    ["UTC", BERLIN, "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo"]
)

FIRST, LAST = (moment(text).replace(tzinfo=None) for text in ("1990-01-01", "2037-01-01"))


@settings(max_examples=200, deadline=None)
@given(st.datetimes(FIRST, LAST), st.integers(1, 60 * 24 * 800), ZONES)
def test_steps_cut_every_range(start: datetime, minutes: int, zone: str) -> None:
    now = start.replace(tzinfo=UTC)
    range = of_length(f"{minutes}m", now, zone)
    starts = range.steps()
    assert starts[0] == range.since <= range.until - min(timedelta(minutes=minutes), LONGEST)
    assert all(a < b for a, b in pairwise([*starts, range.until]))
    assert all(floor(time, range.step, zone) == time for time in starts)
    assert len(starts) <= MOST_STEPS
    assert range.before().until == range.since > range.before().since


def test_the_names_are_lengths() -> None:
    assert [of_length(name, NOW).name for name in NAMES] == list(NAMES)
