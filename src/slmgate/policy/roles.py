"""What a role is: who it lets use which model, where from, when, and with which parameters; as plain records.

A role is one whole grant. How several add up is `access.py`'s affair, and how a file writes them down is the configuration's.
Nothing here is decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from slmgate.policy.limits import LimitSpec

Scalar = str | int | float | bool

DAY = 1440
"""Minutes."""


class Hours(msgspec.Struct, frozen=True):
    """A window of the week: on these days (0 is Monday), from minute `start` to minute `end` of the day, by the clock of `zone`.

    `end` is exclusive. Where it is not after `start`, the window passes midnight and belongs to the day it begins on.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str = "UTC"

    def __str__(self) -> str:
        names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        first, last = self.days[0], self.days[-1]
        row = len(self.days) > 2 and self.days == tuple(range(first, last + 1))
        days = f"{names[first]}-{names[last]}" if row else ",".join(names[day] for day in self.days)
        return f"{days} {_clock(self.start)}-{_clock(self.end)} {self.zone}"

    def holds(self, now: float) -> bool:
        """Whether the second `now` since the epoch lies in the window, by the wall clock of the zone at that second.

        So an hour that daylight saving skips never comes, and one that it repeats comes twice.
        """
        local = datetime.fromtimestamp(now, zone_of(self.zone))
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.end > self.start:
            return day in self.days and self.start <= minute < self.end
        if minute >= self.start:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name (IANA). Raises ZoneInfoNotFoundError or ValueError for another."""
    return ZoneInfo(name)


def edges(hours: Iterable[Hours], around: datetime) -> list[datetime]:
    """The moments (UTC) of the week before and after `around` at which one of the windows opens or closes, in their order.

    Where daylight saving skips or repeats hours, they are the seconds at which `Hours.holds` changes.
    """
    found: set[datetime] = set()
    for window in hours:
        zone = zone_of(window.zone)
        local = around.astimezone(zone)
        for offset in range(-8, 9):
            midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=offset)
            walls = (midnight + timedelta(minutes=minute) for minute in (0, window.start, window.end))
            for moment in (wall.replace(fold=fold).astimezone(UTC) for wall in walls for fold in (0, 1)):
                found.update(_near(moment, window))
            if (turn := _clock_turns(midnight)) is not None:
                found.update(_near(turn, window))
    week = timedelta(days=7)
    return sorted(moment for moment in found if abs(moment - around) <= week)


def _near(moment: datetime, window: Hours) -> Iterable[datetime]:
    """The moment, if the window opens or closes at it."""
    second = moment.timestamp()
    return () if window.holds(second) == window.holds(second - 1) else (moment,)


def _clock_turns(midnight: datetime) -> datetime | None:
    """The moment (UTC) of the day after `midnight` at which its zone's clocks are put forward or back, if they are."""
    zone, low = midnight.tzinfo, int(midnight.timestamp())
    before, high = midnight.utcoffset(), int((midnight + timedelta(days=1)).timestamp())
    if datetime.fromtimestamp(high, zone).utcoffset() == before:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if datetime.fromtimestamp(middle, zone).utcoffset() == before else (low, middle)
    return datetime.fromtimestamp(high, UTC)


class ParameterRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may set one parameter to. `name` is the one that all APIs share (`dialects/parameters.py`).

    `default` is set where the request sets nothing. `allowed` are values, or patterns of texts with `*`. `deny`: not at all.
    """

    name: str
    deny: bool = False
    min: float | None = None
    max: float | None = None
    default: Scalar | None = None
    allowed: tuple[Scalar, ...] | None = None


class RoleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One role. Empty `networks` and `hours` mean anywhere and any time; `models` and `endpoints` name what is meant, with `*`.

    `max_body` is in bytes, `max_context` in tokens of prompt and completion together. `priority` (more goes first) and `weight`
    are for the queue. `capture`: what of its requests is kept, `prompts`, `answers`, `both` or nothing.
    """

    name: str
    models: tuple[str, ...] = ("*",)
    deny_models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ("*",)
    deny_endpoints: tuple[str, ...] = ()
    parameters: tuple[ParameterRule, ...] = ()
    stream: bool = True
    max_body: int | None = None
    max_context: int | None = None
    networks: tuple[str, ...] = ()
    deny_networks: tuple[str, ...] = ()
    hours: tuple[Hours, ...] = ()
    priority: int = 0
    weight: int = 1
    limits: tuple[LimitSpec, ...] = ()
    capture: str = ""


class TeamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A team: its members have its roles beside their own, and come under its limits; `plan` names what they cost."""

    name: str
    roles: tuple[str, ...] = ()
    plan: str | None = None
    limits: tuple[LimitSpec, ...] = ()


INTERNAL = RoleSpec(name="internal")
"""The built-in role of every key where the configuration has no roles: all models, all endpoints, no bounds."""


def matches(pattern: str, name: str) -> bool:
    """Whether the whole of `name` fits `pattern`, in which `*` stands for any characters or none, and nothing else is special.

    Takes time in proportion to both at most: a name may be a URL of megabytes, written by whoever means to cost us time.
    """
    if "*" not in pattern:
        return name == pattern
    first, *inner, last = pattern.split("*")
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in inner:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def first_match(patterns: Iterable[str], name: str) -> str | None:
    """The first of `patterns` that `name` fits."""
    return next((pattern for pattern in patterns if matches(pattern, name)), None)
