"""The time that a page is about, as its address says: a range back from now or one's own, in the time zone of whoever looks.

Ranges themselves are `control/ranges.py`'s. Pure: the present is given. What somebody wrote into the address and cannot be meant
is said in words, and the page shows a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from slmgate.control.ranges import BadRange, Range, Step, between, check_zone, of_length

RANGES: Mapping[str, str] = {
    "1h": "Last hour",
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
}
USUAL = "24h"
STEPS: Mapping[Step, tuple[timedelta, str]] = {
    "1m": (timedelta(minutes=1), "minute"),
    "5m": (timedelta(minutes=5), "5 minutes"),
    "30m": (timedelta(minutes=30), "30 minutes"),
    "3h": (timedelta(hours=3), "3 hours"),
    "1d": (timedelta(days=1), "day"),
    "1w": (timedelta(days=7), "week"),
    "1M": (timedelta(days=30), "month"),
}
_FORM = "%Y-%m-%dT%H:%M"
_MOST = 40
"""Characters of a time in an address."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """`name`: one of `RANGES`, or `own`. `problem` says why it is not what was asked; empty: it is."""

    name: str
    range: Range
    problem: str = ""

    @property
    def since(self) -> datetime:
        return self.range.since

    @property
    def until(self) -> datetime:
        return self.range.until

    @property
    def live(self) -> bool:
        """It ends now, so that it looks otherwise in a while."""
        return self.name != "own"

    @property
    def step(self) -> timedelta:
        """How long a step of its charts is; about, where they are months."""
        return STEPS[self.range.step][0]

    @property
    def step_said(self) -> str:
        return STEPS[self.range.step][1]

    def said(self, zone: ZoneInfo) -> str:
        """In words."""
        if self.name in RANGES:
            return RANGES[self.name]
        return f"{self.since.astimezone(zone):%Y-%m-%d %H:%M} to {self.until.astimezone(zone):%Y-%m-%d %H:%M}"

    def form(self, zone: ZoneInfo) -> tuple[str, str]:
        """Both ends as a form's `datetime-local` has them."""
        return self.since.astimezone(zone).strftime(_FORM), self.until.astimezone(zone).strftime(_FORM)


def span_of(query: Mapping[str, str], now: datetime, zone: ZoneInfo) -> Span:
    """What `range`, or `from` and `to`, ask for; the minute at work is in it."""
    name = query.get("range", "own" if "from" in query else USUAL)
    if name in RANGES:
        return Span(name=name, range=of_length(name, now, zone.key))
    try:
        if name != "own":
            raise BadRange(f"There is no range {name[:20]!r}.")
        since, until = query.get("from", ""), query.get("to") or None
        if not since:
            raise BadRange("A range of one's own begins at some time: say `from`.")
        if max(len(since), len(until or "")) > _MOST:
            raise BadRange("A time is written 2026-11-28T16:00.")
        return Span(name="own", range=between(since, until, now, zone.key))
    except BadRange as error:
        day = of_length(USUAL, now, zone.key)
        return Span(name=USUAL, range=day, problem=f"{error} This is the last 24 hours.")


def zone_named(name: str) -> ZoneInfo | None:
    """The time zone of this name, None: there is none. Names come from outside."""
    try:
        return ZoneInfo(check_zone(name)) if 0 < len(name) <= 60 else None
    except BadRange:
        return None
