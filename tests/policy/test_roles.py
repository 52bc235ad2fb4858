"""Hours by the wall clock of a zone, also where it jumps; patterns; and the built-in role.

Moments are written in UTC and are arguments: no clock is read.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.roles import INTERNAL, Hours, RoleSpec, edges, first_match, matches, zone_of

EVERY = (0, 1, 2, 3, 4, 5, 6)
BERLIN, YORK, HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# 2026-03-02 is a Monday.
WEEK = [
    (Hours((0,), 480, 1080), "2026-03-02 07:59:59", False),
    (Hours((0,), 480, 1080), "2026-03-02 08:00:00", True),
    (Hours((0,), 480, 1080), "2026-03-02 17:59:59", True),
    (Hours((0,), 480, 1080), "2026-03-02 18:00:00", False),
    (Hours((0,), 480, 1080), "2026-03-03 12:00:00", False),
    (Hours((0,), 0, 1), "2026-03-02 00:00:59", True),
    (Hours((0,), 0, 1), "2026-03-02 00:01:00", False),
    (Hours((0,), 0, 1440), "2026-03-02 00:00:00", True),
    (Hours((0,), 0, 1440), "2026-03-02 23:59:59.999", True),
    (Hours((0,), 0, 1440), "2026-03-03 00:00:00", False),
    (Hours((0,), 0, 1440), "2026-03-01 23:59:59", False),
    (Hours((0,), 1439, 1440), "2026-03-02 23:59:00", True),
    # past midnight: it belongs to the day it begins on
    (Hours((0,), 1320, 360), "2026-03-02 21:59:59", False),
    (Hours((0,), 1320, 360), "2026-03-02 22:00:00", True),
    (Hours((0,), 1320, 360), "2026-03-03 05:59:59", True),
    (Hours((0,), 1320, 360), "2026-03-03 06:00:00", False),
    (Hours((0,), 1320, 360), "2026-03-02 05:00:00", False),
    (Hours((6,), 1320, 360), "2026-03-02 05:00:00", True),
    (Hours((0,), 1320, 0), "2026-03-02 23:59:59", True),
    (Hours((0,), 1320, 0), "2026-03-03 00:00:00", False),
    # zones
    (Hours((0,), 480, 1080, BERLIN), "2026-03-02 06:59:59", False),
    (Hours((0,), 480, 1080, BERLIN), "2026-03-02 07:00:00", True),
    (Hours((0,), 480, 1080, BERLIN), "2026-03-30 06:00:00", True),  # summer time by then
    (Hours((0,), 480, 1080, BERLIN), "2026-03-30 16:00:00", False),
    (Hours((0,), 0, 60, "Pacific/Kiritimati"), "2026-03-01 10:00:00", True),  # already Monday there
    (Hours((0,), 0, 60, "Asia/Kathmandu"), "2026-03-01 18:15:00", True),
    (Hours((0,), 0, 60, "Asia/Kathmandu"), "2026-03-01 18:14:59", False),
    # 02:00 to 03:00 of 2026-03-29 does not come in Berlin
    (Hours((6,), 120, 180, BERLIN), "2026-03-29 00:59:59", False),
    (Hours((6,), 120, 180, BERLIN), "2026-03-29 01:00:00", False),
    (Hours((6,), 150, 240, BERLIN), "2026-03-29 00:59:59", False),
    (Hours((6,), 150, 240, BERLIN), "2026-03-29 01:00:00", True),
    (Hours((6,), 150, 240, BERLIN), "2026-03-29 01:59:59", True),
    (Hours((6,), 150, 240, BERLIN), "2026-03-29 02:00:00", False),
    (Hours((5,), 1380, 180, BERLIN), "2026-03-29 00:59:59", True),
    (Hours((5,), 1380, 180, BERLIN), "2026-03-29 01:00:00", False),
    # and on 2026-10-25 it comes twice
    (Hours((6,), 120, 180, BERLIN), "2026-10-24 23:59:59", False),
    (Hours((6,), 120, 180, BERLIN), "2026-10-25 00:00:00", True),
    (Hours((6,), 120, 180, BERLIN), "2026-10-25 01:59:59", True),
    (Hours((6,), 120, 180, BERLIN), "2026-10-25 02:00:00", False),
    (Hours((6,), 150, 240, BERLIN), "2026-10-25 00:30:00", True),
    (Hours((6,), 150, 240, BERLIN), "2026-10-25 01:00:00", False),
    (Hours((6,), 150, 240, BERLIN), "2026-10-25 01:30:00", True),
    # New York: 2026-03-08 and 2026-11-01, both at 02:00
    (Hours((6,), 120, 180, YORK), "2026-03-08 07:00:00", False),
    (Hours((6,), 60, 120, YORK), "2026-03-08 06:59:59", True),
    (Hours((6,), 180, 240, YORK), "2026-03-08 07:00:00", True),
    (Hours((6,), 60, 120, YORK), "2026-11-01 05:00:00", True),
    (Hours((6,), 60, 120, YORK), "2026-11-01 06:59:59", True),
    (Hours((6,), 60, 120, YORK), "2026-11-01 07:00:00", False),
    # Lord Howe turns by half an hour: 2026-04-05 back from 02:00 to 01:30, 2026-10-04 from 02:00 to 02:30
    (Hours((6,), 90, 120, HOWE), "2026-04-04 14:30:00", True),
    (Hours((6,), 90, 120, HOWE), "2026-04-04 15:29:59", True),
    (Hours((6,), 90, 120, HOWE), "2026-04-04 15:30:00", False),
    (Hours((6,), 120, 150, HOWE), "2026-10-03 15:30:00", False),
    (Hours((6,), 90, 120, HOWE), "2026-10-03 15:29:59", True),
    (Hours((6,), 150, 151, HOWE), "2026-10-03 15:30:00", True),
]


@pytest.mark.parametrize(("window", "moment", "holds"), WEEK)
def test_hours(window: Hours, moment: str, holds: bool) -> None:
    assert window.holds(at(moment)) is holds


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (Hours((0, 1, 2, 3, 4), 480, 1080, BERLIN), "Mon-Fri 08:00-18:00 Europe/Berlin"),
        (Hours(EVERY, 0, 1440), "Mon-Sun 00:00-24:00 UTC"),
        (Hours((5, 6), 1320, 360), "Sat,Sun 22:00-06:00 UTC"),
        (Hours((3,), 1, 2), "Thu 00:01-00:02 UTC"),
        (Hours((0, 2, 4), 0, 60), "Mon,Wed,Fri 00:00-01:00 UTC"),
    ],
)
def test_hours_in_words(window: Hours, text: str) -> None:
    assert str(window) == text


def said(window: Hours, around: str) -> list[str]:
    return [f"{moment:%a %d %H:%M}" for moment in edges([window], datetime.fromtimestamp(at(around), UTC))]


@pytest.mark.parametrize(
    ("window", "around", "expected"),
    [
        (Hours((0,), 480, 1080), "2026-03-04 12:00", ["Mon 02 08:00", "Mon 02 18:00", "Mon 09 08:00", "Mon 09 18:00"]),
        (Hours((2,), 1320, 360), "2026-03-04 12:00", ["Wed 25 22:00", "Thu 26 06:00", "Wed 04 22:00", "Thu 05 06:00"]),
        (Hours(EVERY, 0, 1440), "2026-03-04 12:00", []),
        (Hours((6,), 120, 180, BERLIN), "2026-03-29 00:00", ["Sun 22 01:00", "Sun 22 02:00"]),
        (Hours((6,), 150, 240, BERLIN), "2026-03-31 00:00", ["Sun 29 01:00", "Sun 29 02:00"]),
        (Hours((6,), 150, 240, BERLIN), "2026-10-27 00:00", ["Sun 25 00:30", "Sun 25 01:00", "Sun 25 01:30", "Sun 25 03:00"]),
    ],
)
def test_edges(window: Hours, around: str, expected: list[str]) -> None:
    found = said(window, around)
    assert found[: len(expected)] == expected
    if not expected:
        assert found == []


@given(
    st.builds(
        Hours,
        st.sets(st.sampled_from(EVERY), min_size=1).map(lambda days: tuple(sorted(days))),
        st.integers(0, 1439),
        st.integers(0, 1440),
        st.sampled_from(["UTC", BERLIN, YORK, HOWE]),
    ).filter(lambda window: window.start != window.end),
    st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05", "2026-10-04", "2026-06-01"]),
)
def test_edges_are_where_a_window_opens_or_closes_and_nowhere_else(window: Hours, day: str) -> None:
    around = datetime.fromtimestamp(at(f"{day} 12:00"), UTC)
    found = set(edges([window], around))
    first, minutes = around - timedelta(days=2), 4 * 1440
    states = [window.holds((first + timedelta(minutes=minute)).timestamp()) for minute in range(minutes + 1)]
    changes = {first + timedelta(minutes=minute) for minute in range(1, minutes + 1) if states[minute] != states[minute - 1]}
    assert {moment for moment in found if first < moment <= first + timedelta(minutes=minutes)} == changes


@pytest.mark.parametrize("name", ["Europe/Berlln", "../etc/passwd", "/etc/passwd", "europe\0berlin"])
def test_zones_that_are_none(name: str) -> None:
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        zone_of(name)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "", True),
        ("*", "anything\n", True),
        ("m", "m", True),
        ("m", "M", False),
        ("m", "mm", False),
        ("m", "m\n", False),
        ("m*", "m", True),
        ("m*", "xm", False),
        ("*m", "m", True),
        ("*m", "mx", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*ba", "aba", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "ac", False),
        ("a*b*c", "acb", False),
        ("*b*", "abc", True),
        ("*b*", "ac", False),
        ("a**b", "ab", True),
        ("a*ab*b", "aab", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("a?c", "abc", False),
        ("(a|b)*", "(a|b)c", True),
        ("a*c", "a\nc", True),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def naive(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return naive(pattern[1:], name) or (name != "" and naive(pattern, name[1:]))
    return name[:1] == pattern[0] and naive(pattern[1:], name[1:])


@given(st.text("ab*", max_size=7), st.text("ab*", max_size=7))
def test_patterns_as_a_slow_reading_has_them(pattern: str, name: str) -> None:
    assert matches(pattern, name) is naive(pattern, name)


def test_a_pattern_takes_no_more_time_than_its_text_is_long() -> None:
    started = time.process_time()
    assert not matches("*a*b*a*b*c", "ab" * 1_000_000)
    assert time.process_time() - started < 1


def test_first_match() -> None:
    assert first_match(("x", "m*", "*"), "mm") == "m*"
    assert first_match((), "m") is None


def test_the_built_in_role_bounds_nothing() -> None:
    assert RoleSpec(name="internal") == INTERNAL
    assert (INTERNAL.models, INTERNAL.endpoints, INTERNAL.stream) == (("*",), ("*",), True)
    assert not any((INTERNAL.deny_models, INTERNAL.parameters, INTERNAL.networks, INTERNAL.hours, INTERNAL.max_body))
