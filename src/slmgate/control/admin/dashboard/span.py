"""The time that a page is about: a range back from now or one's own, in the time zone of whoever looks, and the same before.

Pure: the present is given. What somebody wrote into the address and cannot be meant is said in words, and the page shows a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

RANGES: Mapping[str, tuple[str, timedelta]] = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
USUAL = "24h"
LONGEST = timedelta(days=366 * 3)
_FORM = "%Y-%m-%dT%H:%M"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` up to and without `until`. `name`: one of `RANGES`, or `own`. `problem` says why it is not what was asked."""

    name: str
    since: datetime
    until: datetime
    problem: str = ""

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    @property
    def before(self) -> Span:
        """The period before, of the same length."""
        return Span(name="own", since=self.since - self.length, until=self.since)

    @property
    def live(self) -> bool:
        """It ends now, so that it looks otherwise in a while."""
        return self.name != "own"

    def said(self, zone: ZoneInfo) -> str:
        """In words."""
        if self.name in RANGES:
            return RANGES[self.name][0]
        return f"{self.since.astimezone(zone):%Y-%m-%d %H:%M} to {self.until.astimezone(zone):%Y-%m-%d %H:%M}"

    def form(self, zone: ZoneInfo) -> tuple[str, str]:
        """Both ends as a form's `datetime-local` has them."""
        return self.since.astimezone(zone).strftime(_FORM), self.until.astimezone(zone).strftime(_FORM)


def span_of(query: Mapping[str, str], now: datetime, zone: ZoneInfo) -> Span:
    """What `range`, or `from` and `to`, ask for. Ends on a whole minute, as sums are kept by it; the minute at work is in it."""
    until = now.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    name = query.get("range", "own" if "from" in query else USUAL)
    if name in RANGES:
        return Span(name=name, since=until - RANGES[name][1], until=until)
    day = Span(name=USUAL, since=until - RANGES[USUAL][1], until=until)
    if name != "own":
        return msgspec.structs.replace(day, problem=f"There is no range {name[:20]!r}; this is the last 24 hours.")
    since = _moment(query.get("from", ""), zone)
    end = _moment(query.get("to", ""), zone) if query.get("to") else until
    if since is None or end is None:
        return msgspec.structs.replace(day, problem="A time is written 2026-11-28T16:00; this is the last 24 hours.")
    if end <= since:
        return msgspec.structs.replace(day, problem="The range ends before it begins; this is the last 24 hours.")
    if end - since > LONGEST:
        return msgspec.structs.replace(day, problem="A range has three years at the most; this is the last 24 hours.")
    return Span(name="own", since=since, until=end)


def _moment(text: str, zone: ZoneInfo) -> datetime | None:
    if len(text) > 25:
        return None
    try:
        found = datetime.fromisoformat(text).replace(second=0, microsecond=0)
        found = found if found.tzinfo is not None else found.replace(tzinfo=zone)
        return found.astimezone(UTC) if 1970 < found.year < 9000 else None
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=100)
def zone_named(name: str) -> ZoneInfo | None:
    """The time zone of this name, None: there is none. Names come from outside."""
    if not 0 < len(name) <= 60 or name.startswith("/") or ".." in name:
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a folder of zones is an OSError
        return None
