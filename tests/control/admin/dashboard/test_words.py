"""Figures in words: at nothing, at each border between units, and beyond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from slmgate.control.admin.dashboard import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        (0, "0"),
        (1, "1"),
        (999, "999"),
        (12345, "12,345"),
        (0.25, "0.25"),
        (3.14159, "3.1"),
        (1234.5, "1,234"),
    ],
)
def test_count(value: float | None, said: str) -> None:
    assert words.count(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        (0, "0"),
        (12, "12"),
        (999, "999"),
        (999.4, "999"),
        (1000, "1k"),
        (1234, "1.23k"),
        (12345, "12.3k"),
        (999_499, "999k"),
        (999_600, "1M"),
        (1_500_000, "1.5M"),
        (2.5e9, "2.5G"),
        (3e12, "3T"),
        (0.5, "0.5"),
    ],
)
def test_short(value: float | None, said: str) -> None:
    assert words.short(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 ms"),
        (0.0000005, "0.5 µs"),
        (0.00025, "250 µs"),
        (0.001, "1 ms"),
        (0.0125, "12.5 ms"),
        (0.9994, "999 ms"),
        (1, "1 s"),
        (1.2345, "1.23 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (5400, "1.5 h"),
        (86400 * 3, "3 d"),
    ],
)
def test_duration(value: float | None, said: str) -> None:
    assert words.duration(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 %"),
        (0.0001, "< 0.1 %"),
        (0.123, "12.3 %"),
        (0.5, "50 %"),
        (0.9999, "> 99.9 %"),
        (1, "100 %"),
        (1.5, "150 %"),
    ],
)
def test_share(value: float | None, said: str) -> None:
    assert words.share(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\N{EN DASH}"),
        ("0", "0.00 EUR"),
        ("12.3456", "12.35 EUR"),
        ("0.05", "0.050 EUR"),
        ("0.00012", "0.00012 EUR"),
        ("1234567", "1,234,567.00 EUR"),
    ],
)
def test_money(value: str | None, said: str) -> None:
    assert words.money(value, "EUR") == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, "\N{EN DASH}"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3 GiB")]
)
def test_size(value: float | None, said: str) -> None:
    assert words.size(value) == said


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (1, None, ""),
        (1, 0, ""),
        (None, 1, ""),
        (110, 100, "+10 %"),
        (90, 100, "\N{MINUS SIGN}10 %"),
        (100, 100, "±0 %"),
        (0, 100, "\N{MINUS SIGN}100 %"),
        (2500, 100, "25 times"),
    ],
)
def test_change(now: float | None, before: float | None, said: str) -> None:
    assert words.change(now, before) == said


def test_times() -> None:
    time = datetime(2026, 11, 28, 23, 30, 5, tzinfo=UTC)
    zone = ZoneInfo("Europe/Berlin")
    assert words.moment(time, zone) == "2026-11-29 00:30:05"
    assert words.minute(time, zone) == "2026-11-29 00:30"
    assert words.moment(None, zone) == words.minute(None, zone) == "\N{EN DASH}"
    assert words.ago(time, time) == "now"
    assert words.ago(time, time + timedelta(minutes=3)) == "3 min ago"
    assert words.ago(time, time - timedelta(hours=2)) == "in 2 h"
    assert words.ago(None, time) == "never"


@pytest.mark.parametrize(
    ("unit", "long", "brief"),
    [
        ("seconds", "1.5 s", "1.5 s"),
        ("share", "150 %", "150 %"),
        ("bytes", "2 B", "2 B"),
        ("money:EUR", "1.50 EUR", "1.50 EUR"),
        ("requests", "1.5 requests", "1.5"),
        ("", "1.5", "1.5"),
    ],
)
def test_amount(unit: str, long: str, brief: str) -> None:
    assert words.amount(1.5, unit) == long
    assert words.amount(1.5, unit, brief=True) == brief


def test_an_amount_of_much_money_is_short() -> None:
    assert words.amount(12000.0, "money:EUR", brief=True) == "12k EUR"
    assert words.amount(12000.0, "money:EUR") == "12,000.00 EUR"
