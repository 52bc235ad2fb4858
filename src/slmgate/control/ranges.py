"""Ranges of time that people look at: of a length or between two times, in their own time zone, cut into steps.

A range is half-open and of whole minutes. Steps begin where a clock of its zone says so (at half past, at midnight, on Monday, on
the first of the month), so a day is of 23 or 25 hours when clocks change. `now` is always given; nothing here knows what is
counted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from slmgate.control.keyfields import BadKeyInput, parse_duration, parse_moment

Step = Literal["1m", "5m", "30m", "3h", "1d", "1w", "1M"]
"""Minutes, hours, days, weeks (from Monday) and months."""

NAMES: tuple[str, ...] = ("1h", "24h", "7d", "30d", "365d")
"""The ranges that pages offer. Any other length will do too."""

MOST_STEPS = 400
"""Of one range, whatever its length and step."""
LONGEST = timedelta(days=3660)
YEARS = range(1000, 9001)
"""Years in which a range may lie: at the ends of the calendar there is no week before, and no month to come."""

_EVEN: dict[Step, int] = {"1m": 1, "5m": 5, "30m": 30}
"""Minutes of the steps that an hour is cut into: clocks that change do not disturb them."""
_MINUTE = timedelta(minutes=1)
# The step that is chosen for a range of at most this length: 50 to 70 points, a few more or less at the ends.
_CHOSEN: tuple[tuple[timedelta, Step], ...] = (
    (timedelta(hours=2), "1m"),
    (timedelta(hours=6), "5m"),
    (timedelta(days=2), "30m"),
    (timedelta(days=9), "3h"),
    (timedelta(days=92), "1d"),
    (timedelta(days=750), "1w"),
)


class BadRange(ValueError):
    """No range of time; the message says why, and what would do."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` to `until`, which does not belong to it: UTC, whole minutes. `name` is how it was asked for: 24h, or empty.

    `zone` is of the IANA time zone database; its clock cuts the range into `steps` of `step`.
    """

    since: datetime
    until: datetime
    zone: str
    step: Step
    name: str = ""

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    def before(self) -> Range:
        """The range of the same length on the clock that ends where this one begins."""
        since, until = self._wall(self.since), self._wall(self.until)
        try:
            start = _utc(since - (until - since), self.zone)
        except OverflowError:
            start = datetime(1970, 1, 1, tzinfo=UTC)
        if start >= self.since:  # of an hour or less, around the moment when clocks are set back
            start = self.since - self.length
        return Range(since=start, until=self.since, zone=self.zone, step=self.step)

    def steps(self) -> list[datetime]:
        """Where each step begins, oldest first; the first begins with the range, and the last may end after it."""
        found = [self.since]
        at = floor(self.since, self.step, self.zone)
        wall = self._wall(at)
        while True:
            if self.step in _EVEN:
                # as hours pass, and not as they are shown: none of them is left out or there twice
                at += timedelta(minutes=_EVEN[self.step])
            else:
                wall = _next_wall(wall, self.step)
                at = _utc(wall, self.zone)
            if at >= self.until:
                return found
            if at > found[-1]:
                found.append(at)

    def _wall(self, time: datetime) -> datetime:
        return time.astimezone(_zone(self.zone)).replace(tzinfo=None)


def of_length(name: str, now: datetime, zone: str = "UTC", step: Step | None = None) -> Range:
    """The last `name` (24h, 30d), up to the end of this minute. It begins with a whole step, so it may be somewhat longer.

    Raises BadRange.
    """
    try:
        length = parse_duration(name)
    except BadKeyInput as error:
        raise BadRange(str(error)) from None
    if not _MINUTE <= length <= LONGEST:
        raise BadRange(f"A range of {name} is none: it is of a minute at least, and of {LONGEST.days}d at the most.")
    until = _ceil_minute(now)
    chosen = step or step_for(length)
    since = floor(until - length, chosen, check_zone(zone))
    return _checked(Range(since=since, until=until, zone=zone, step=chosen, name=name))


def between(since: str, until: str | None, now: datetime, zone: str = "UTC", step: Step | None = None) -> Range:
    """From one time to another, or to now. Days, and times without an offset, are of the zone. Raises BadRange."""
    check_zone(zone)
    start = _floor_minute(_moment(since, now, zone))
    end = _ceil_minute(now if until is None else _moment(until, now, zone))
    if start >= end:
        raise BadRange("A range begins before it ends: `since` must be before `until`.")
    if end - start > LONGEST:
        raise BadRange(f"A range is of {LONGEST.days} days at the most.")
    return _checked(Range(since=start, until=end, zone=zone, step=step or step_for(end - start)))


def step_for(length: timedelta) -> Step:
    """The step for a range of this length: as many as a chart can show."""
    return next((step for most, step in _CHOSEN if length <= most), "1M")


def floor(time: datetime, step: Step, zone: str) -> datetime:
    """Where the step that holds this time begins."""
    local = time.astimezone(_zone(zone))
    if step in _EVEN:
        back = timedelta(minutes=local.minute % _EVEN[step], seconds=local.second, microseconds=local.microsecond)
        return time.astimezone(UTC) - back
    hour = local.replace(minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    if step == "3h":
        return _utc(hour.replace(hour=hour.hour - hour.hour % 3), zone)
    day = hour.replace(hour=0)
    if step == "1w":
        day -= timedelta(days=day.weekday())
    elif step == "1M":
        day = day.replace(day=1)
    return _utc(day, zone)


def check_zone(zone: str) -> str:
    """The same name, if there is such a time zone. Raises BadRange."""
    try:
        _zone(zone)
    except (OSError, ValueError, LookupError):  # a directory, a name that leads elsewhere, an unknown one
        raise BadRange(f"There is no time zone {zone[:64]!r}; write one as in Europe/Berlin, or UTC.") from None
    return zone


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _checked(range: Range) -> Range:
    width = {"1m": 60, "5m": 300, "30m": 1800, "3h": 10_800, "1d": 86_400, "1w": 604_800, "1M": 2_419_200}[range.step]
    if range.length.total_seconds() / width > MOST_STEPS:
        raise BadRange(f"Steps of {range.step} are too many for this range; it may have {MOST_STEPS} at the most.")
    return range


def _next_wall(wall: datetime, step: Step) -> datetime:
    """What a clock shows when the next step begins, of those that are longer than an hour."""
    if step == "1M":
        return wall.replace(year=wall.year + wall.month // 12, month=wall.month % 12 + 1, day=1, hour=0)
    if step == "3h":
        return wall.replace(hour=wall.hour - wall.hour % 3) + timedelta(hours=3)
    return wall.replace(hour=0) + timedelta(days=7 if step == "1w" else 1)


def _utc(wall: datetime, zone: str) -> datetime:
    """What a clock shows, as a time. Of a time that it shows twice the first; one that it skips is when it skips it."""
    return wall.replace(tzinfo=_zone(zone)).astimezone(UTC)


def _moment(text: str, now: datetime, zone: str) -> datetime:
    try:
        found = _read(text, now, zone)
    except BadKeyInput as error:
        raise BadRange(str(error)) from None
    if found.year not in YEARS:
        raise BadRange(f"{text.strip()[:64]!r} is too far away: a range lies in the years {YEARS[0]} to {YEARS[-1]}.")
    return found


def _read(text: str, now: datetime, zone: str) -> datetime:
    try:
        naive = datetime.fromisoformat(text.strip())
        if naive.tzinfo is None:
            return _utc(naive, zone)
    except (ValueError, OverflowError):
        pass
    return parse_moment(text, now)


def _floor_minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def _ceil_minute(time: datetime) -> datetime:
    start = _floor_minute(time)
    return start if start == time else start + _MINUTE
