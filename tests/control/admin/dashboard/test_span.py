"""The time of a page: ranges, one's own, what cannot be meant, and time zones whose names come from outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from slmgate.control.admin.dashboard.span import RANGES, STEPS, span_of, zone_named
from slmgate.control.ranges import NAMES

NOW = datetime(2026, 11, 28, 12, 0, 30, tzinfo=UTC)
END = datetime(2026, 11, 28, 12, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("name", "hours", "step"), [("1h", 1, "minute"), ("24h", 24, "30 minutes"), ("7d", 168, "3 hours"), ("30d", 720, "day")]
)
def test_ranges_back_from_now(name: str, hours: int, step: str) -> None:
    span = span_of({"range": name}, NOW, BERLIN)
    assert (span.name, span.until, span.problem, span.live, span.step_said) == (name, END, "", True, step)
    assert timedelta(hours=hours) <= span.until - span.since <= timedelta(hours=hours) + span.step
    assert span.said(BERLIN) == RANGES[name]


def test_ranges_are_known_elsewhere_too() -> None:
    assert set(RANGES) <= set(NAMES)
    assert set(STEPS) == {"1m", "5m", "30m", "3h", "1d", "1w", "1M"}


def test_a_day_is_usual() -> None:
    assert span_of({}, NOW, BERLIN).name == "24h"


def test_ones_own() -> None:
    span = span_of({"from": "2026-11-01T00:00", "to": "2026-11-02T12:30"}, NOW, BERLIN)
    assert (span.name, span.live) == ("own", False)
    assert (span.since, span.until) == (datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 2, 11, 30, tzinfo=UTC))
    assert span.form(BERLIN) == ("2026-11-01T00:00", "2026-11-02T12:30")
    assert span.said(BERLIN) == "2026-11-01 00:00 to 2026-11-02 12:30"
    assert span_of({"range": "own", "from": "2026-11-01T00:00Z"}, NOW, BERLIN).until == END


@pytest.mark.parametrize(
    "query",
    [
        {"range": "5y"},
        {"range": "<script>"},
        {"range": "own"},
        {"from": "yesterday"},
        {"from": "2026-11-01T00:00", "to": "x"},
        {"from": "2026-11-02T00:00", "to": "2026-11-01T00:00"},
        {"from": "2026-11-02T00:00", "to": "2026-11-02T00:00"},
        {"from": "1971-01-01T00:00"},
        {"from": "0001-01-01T00:00"},
        {"from": "2026-11-02T00:00" * 9},
    ],
)
def test_what_cannot_be_meant(query: dict[str, str]) -> None:
    span = span_of(query, NOW, BERLIN)
    assert (span.name, span.until) == ("24h", END)
    assert span.problem.endswith("24 hours.")


@pytest.mark.parametrize(
    "name", ["", "Nowhere/City", "/etc/passwd", "../../etc/passwd", "Europe", "a" * 61, "\0", "Europe/Berlin\n"]
)
def test_names_that_are_no_zone(name: str) -> None:
    assert zone_named(name) is None


def test_zones() -> None:
    assert zone_named("Europe/Berlin") == BERLIN
    assert zone_named("UTC") is not None
