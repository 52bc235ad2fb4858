"""What happens to the gate that somebody may want to be told of: instances and models that fail, certificates, bans, limits.

Each look at the gate is compared with what was told before; what stays wrong is told once, and once more when it is well again.
What was told by a control process that has died since, the store says. It sends nothing and asks nobody: looks are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from slmgate.control.acme.status import CertificateStatus
from slmgate.control.admin.context import GateStatus
from slmgate.control.config.notify_options import Topic
from slmgate.control.standing import Stand
from slmgate.link.messages import Ban

LOOKS = 2
"""In so many looks in a row something is as it is, before it is told."""
DAYS = (14, 7, 1, 0)
"""How long before its end a certificate is told of, each once."""
NAMED = 20
"""Addresses that one event names; the others are counted."""
BANS_APART = timedelta(minutes=1)
KEPT = timedelta(days=1)
"""For so long behind a period's end it is known which of its limits were told of, for clocks that are set back."""

Datum = str | int | float | bool | None | Sequence[str]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, and the body of its webhook. `id` is the same however often it is told; `summary` is a sentence for people."""

    id: str
    type: str
    created: datetime
    subject: str
    summary: str
    data: dict[str, Datum] = {}

    @property
    def topic(self) -> str:
        return self.type.partition(".")[0]


class Condition(NamedTuple):
    """Something that is well or not, now. `why` is empty when it is; `good` and `bad` end the types of its events."""

    topic: Topic
    subject: str
    why: str
    bad: str
    good: str
    data: dict[str, Datum]


class Watch:
    """What has been told, and what was seen in the looks since."""

    def __init__(self, told: Callable[[Sequence[str]], dict[str, str]]) -> None:
        """`told` names, of subjects, the type of the event that was told last; it may block."""
        self._told = told
        self._bad: dict[str, bool] = {}
        self._differs: dict[str, int] = {}  # in how many looks in a row it is otherwise than was told
        self._once: set[str] = set()  # the ids of what is told once of certificates
        self._reached: dict[datetime | None, set[str]] = {}  # and of limits, by when their period ends
        self._banned: frozenset[str] | None = None
        self._news: dict[str, Ban] = {}
        self._bans_told: datetime | None = None

    def look(self, status: GateStatus, now: datetime) -> list[Event]:
        """The events that this look makes. Blocks, and raises what `told` does."""
        conditions = {one.subject: one for one in conditions_of(status)}
        for gone in self._bad.keys() - conditions.keys():
            del self._bad[gone]
            self._differs.pop(gone, None)
        fresh = [subject for subject in conditions if subject not in self._bad]
        before = self._told(fresh) if fresh else {}
        for subject in fresh:
            one = conditions[subject]
            self._bad[subject] = before.get(subject) == f"{one.topic}.{one.bad}"
        events = [event for one in conditions.values() if (event := self._changed(one, now)) is not None]
        for certificate in status.certificates:
            events += self._ending(certificate, now)
        return events

    def _changed(self, one: Condition, now: datetime) -> Event | None:
        is_bad = bool(one.why)
        if is_bad == self._bad[one.subject]:
            self._differs.pop(one.subject, None)
            return None
        looks = self._differs[one.subject] = self._differs.get(one.subject, 0) + 1
        if looks < LOOKS:
            return None
        del self._differs[one.subject]
        self._bad[one.subject] = is_bad
        word = one.bad if is_bad else one.good
        summary = f"{one.subject}: {one.why}" if is_bad else f"{one.subject} is well again"
        type = f"{one.topic}.{word}"
        return Event(
            id=identity(type, one.subject, now.isoformat()),
            type=type,
            created=now,
            subject=one.subject,
            summary=summary,
            data=one.data | ({"why": one.why} if is_bad else {}),
        )

    def _ending(self, one: CertificateStatus, now: datetime) -> Iterator[Event]:
        """Of a certificate that ends soon: the nearest of `DAYS` that is reached, once."""
        if one.not_after is None:
            return
        reached = [days for days in DAYS if one.not_after - now <= timedelta(days=days)]
        if not reached:
            return
        days, subject = min(reached), _certificate(one)
        type = "certificate.expiring" if days else "certificate.expired"
        id = identity(type, subject, one.not_after.isoformat(), str(days))
        if id in self._once:
            return
        self._once.add(id)
        ends = one.not_after.isoformat(timespec="minutes")
        summary = f"{subject} {'ends' if days else 'has ended'} at {ends}"
        data: dict[str, Datum] = {"names": one.names, "source": one.source, "not_after": one.not_after.isoformat(), "days": days}
        yield Event(id=id, type=type, created=now, subject=subject, summary=summary, data=data)

    def banned(self, bans: Iterable[Ban], now: datetime) -> list[Event]:
        """Whose ban is new since the last time; those of the first time are taken as known. One event a minute at the most."""
        there = {ban.address: ban for ban in bans}
        if self._banned is not None:
            self._news |= {address: ban for address, ban in there.items() if address not in self._banned}
        self._banned = frozenset(there)
        if not self._news or (self._bans_told is not None and now - self._bans_told < BANS_APART):
            return []
        news, self._news = sorted(self._news.values(), key=lambda ban: (-ban.seconds, ban.address)), {}
        self._bans_told = now
        first = ", ".join(ban.address for ban in news[:3])
        more = f" and {len(news) - 3} more" if len(news) > 3 else ""
        return [
            Event(
                id=identity("ban.made", now.isoformat(), *(ban.address for ban in news)),
                type="ban.made",
                created=now,
                subject="bans",
                summary=f"banned for too many wrong API keys: {first}{more}",
                data={"count": len(news), "addresses": [ban.address for ban in news[:NAMED]]},
            )
        ]

    @property
    def has_news(self) -> bool:
        """Whether bans wait to be told, because the last ones were told just now."""
        return bool(self._news)

    def reached(self, stands: Iterable[Stand], at: Iterable[int], now: datetime) -> list[Event]:
        """Calendar limits of which so many percent are used, each of them once in its period."""
        events = []
        for over in [until for until in self._reached if until is not None and until < now - KEPT]:
            del self._reached[over]  # what comes has another period, and so another id
        for stand in stands:
            told = self._reached.setdefault(stand.whole, set())
            for percent in at:
                if round(stand.share * 10_000) < percent * 100:  # in whole numbers: 0.29 times 100 is less than 29
                    continue
                until = stand.whole.isoformat() if stand.whole is not None else ""
                type = "limit.near" if percent < 100 else "limit.reached"
                id = identity(type, stand.name, stand.whose, stand.limit, until, str(percent))
                if id not in told:
                    told.add(id)
                    events.append(_limit_event(id, type, percent, stand, now))
        return events


def conditions_of(status: GateStatus) -> Iterator[Condition]:
    """What of the gate is well or not."""
    for one in status.instances:
        if one.draining or one.source == "removed" or one.process in ("stopped", "starting", "stopping"):
            continue  # somebody wants it so
        why = "" if one.healthy else (one.why or one.state)
        data: dict[str, Datum] = {"instance": one.id, "model": one.model, "state": one.state}
        yield Condition("instance", f"instance {one.id}", why, "down", "up", data)
    for model in status.models:
        if not model.hidden:
            why = "" if model.ready else "no instance takes its requests"
            yield Condition("model", f"model {model.name}", why, "unavailable", "available", {"model": model.name})
    for certificate in status.certificates:
        if certificate.error or certificate.source != "file":
            data = {"names": certificate.names, "source": certificate.source}
            yield Condition("certificate", _certificate(certificate), certificate.error, "failed", "renewed", data)
    yield Condition("configuration", "configuration", "; ".join(map(str, status.faults))[:1000], "refused", "applied", {})


def identity(*parts: str) -> str:
    """What an event is known by."""
    return f"ev_{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]}"


def _certificate(one: CertificateStatus) -> str:
    return f"certificate {', '.join(one.names)[:500]}"


def _limit_event(id: str, type: str, percent: int, stand: Stand, now: datetime) -> Event:
    said = f"{percent} %" if percent < 100 else "all"
    return Event(
        id=id,
        type=type,
        created=now,
        subject=f"limit {stand.name} of {stand.whose}",
        summary=f"{stand.whose} has used {said} of {stand.limit} ({stand.name})",
        data={
            "limit": stand.limit,
            "name": stand.name,
            "whose": stand.whose,
            "principal": stand.principal,
            "client": stand.client,
            "team": stand.team,
            "at": percent,
            "unit": stand.unit,
            "amount": stand.amount,
            "used": stand.used,
            "currency": stand.currency,
            "until": stand.whole.isoformat() if stand.whole is not None else None,
        },
    )
