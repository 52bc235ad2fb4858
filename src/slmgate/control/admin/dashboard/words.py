"""Figures in words for people: counts, tokens, times, shares, money, each with its unit, long for tables and short for axes.

Pure: what is shown is given, and so are the present and the time zone. It knows no page.
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from decimal import Decimal
from math import floor, log10

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
"""For a figure that there is not; 0 is a figure."""
_SHORT = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def count(value: float | None) -> str:
    """12,345: a whole number, or one with a decimal where it is small and not whole."""
    if value is None:
        return NONE
    if value != int(value) and abs(value) < 100:
        return f"{value:,.1f}" if abs(value) >= 0.95 else f"{value:.2g}"
    return f"{value:,.0f}"


def short(value: float | None) -> str:
    """12.3k: three digits that count, for axes and tiles."""
    if value is None:
        return NONE
    for size, letter in _SHORT:
        if abs(value) >= size * 0.9995:
            return f"{_digits(value / size)}{letter}"
    return count(value) if abs(value) < 100 or value == int(value) else f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """8 ms, 1.24 s, 3.5 min: three digits that count."""
    if seconds is None:
        return NONE
    size = abs(seconds)
    for unit, letter in _TIMES:
        if size >= unit:
            return f"{_digits(seconds / unit)} {letter}"
    if size >= 0.9995:
        return f"{_digits(seconds)} s"
    if size >= 0.0009995 or size == 0:
        return f"{_digits(seconds * 1e3)} ms"
    return f"{_digits(seconds * 1e6)} µs"


def share(value: float | None) -> str:
    """0.123 as 12.3 %. What is not nothing is not shown as nothing, nor what is not all as all."""
    if value is None:
        return NONE
    percent = value * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def money(amount: str | Decimal | float | None, currency: str) -> str:
    """12.34 EUR; small amounts with as many decimals as it takes to see them."""
    if amount is None:
        return NONE
    value = Decimal(str(amount))
    places = 2
    if 0 < abs(value) < Decimal("0.1"):
        places = min(9, 1 - value.adjusted())
    return f"{value:,.{places}f} {currency}".rstrip()


def size(octets: float | None) -> str:
    """1.5 MiB."""
    if octets is None:
        return NONE
    for unit, letter in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(octets) >= unit:
            return f"{_digits(octets / unit)} {letter}"
    return f"{octets:.0f} B"


def moment(time: datetime | None, zone: tzinfo) -> str:
    """2026-11-28 16:04:05, in this zone."""
    return NONE if time is None else f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def minute(time: datetime | None, zone: tzinfo) -> str:
    """2026-11-28 16:04, in this zone."""
    return NONE if time is None else f"{time.astimezone(zone):%Y-%m-%d %H:%M}"


def ago(time: datetime | None, now: datetime) -> str:
    """3 min ago; in 2 h."""
    if time is None:
        return "never"
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "now"
    said = duration(floor(abs(seconds)))
    return f"{said} ago" if seconds > 0 else f"in {said}"


def change(now: float | None, before: float | None) -> str:
    """+12.3 % against the period before; empty where there is nothing to compare with."""
    if now is None or not before:
        return ""
    part = (now - before) / before
    if abs(part) >= 9.995:
        return f"{short(now / before)} times" if part > 0 else f"{MINUS}{short(-part)} times"
    said = f"{abs(part) * 100:.1f}".removesuffix(".0")
    return "±0 %" if said == "0" else f"{'+' if part > 0 else MINUS}{said} %"


def amount(value: float | None, unit: str, *, brief: bool = False) -> str:
    """A figure of this unit: `seconds`, `share`, `bytes`, `money:EUR`, or else a noun such as `tokens`."""
    if unit == "seconds":
        return duration(value)
    if unit == "share":
        return share(value)
    if unit == "bytes":
        return size(value)
    if unit.startswith("money:"):
        currency = unit.removeprefix("money:")
        return f"{short(value)} {currency}" if brief and value is not None and abs(value) >= 1000 else money(value, currency)
    if brief or value is None:
        return short(value)
    return f"{count(value)} {unit}".rstrip()


def _digits(value: float) -> str:
    """Three digits that count, without zeros at the end of decimals."""
    if value == 0:
        return "0"
    places = max(0, 2 - floor(log10(abs(value))))
    said = f"{value:,.{places}f}"
    return said.rstrip("0").rstrip(".") if "." in said else said
