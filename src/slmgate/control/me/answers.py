"""What the holder of a key is told, and how it gets a new secret.

Everything is found by the key's id, which is never given twice, and never by its name: another key may have had that before. Of
what is counted together with others, a holder is told the bound and whether anything is left; how much the others used is theirs.
Only what is used by the team's keys is told as well, where the configuration says so. This module knows no HTTP and no link.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

import msgspec

from slmgate.control import audit
from slmgate.control.admin.views import decimal_text
from slmgate.control.config import Config, declared_keys
from slmgate.control.keyfields import DECLARED, BadKeyInput, parse_duration
from slmgate.control.keyring import KeyRevoked, Keyring, UnknownKey, as_term
from slmgate.control.standing import Amount, Seat, Standing
from slmgate.control.statements import NoStatement, Statement, make_statement
from slmgate.link.messages import Mine
from slmgate.policy.billing import month_bounds, month_of
from slmgate.policy.identify import WRONG
from slmgate.stores.base import Store
from slmgate.stores.records import KeyRecord, ReceiptFilter, UsageRow
from slmgate.terms import Key, Refuse, Unit

MAX_LIMITS = 200
MAX_MODELS = 200
MAX_SECRETS = 5
"""Secrets of one key that work at once, before its holder has to wait for one to end."""
BETWEEN = timedelta(seconds=60)
"""Between two new secrets that a holder gets: each is a line in the audit log, for good."""
ROTATES_AS = "key:"
"""So begins the actor of a change that a key's holder made, in the audit log; no operator's name does."""
OTHER = "(other)"
"""Models that the holder may not know of: they stood in for one that it asked for, or there is none."""

Whose = Literal["you", "team", "shared"]


class Refused(Exception):
    """The holder is not told; `refuse` says why."""

    def __init__(self, refuse: Refuse) -> None:
        super().__init__(refuse.code)
        self.refuse = refuse


class OwnSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One secret of the key. `this`: it is the one that was shown now. `until` null: it has no end."""

    created: datetime | None
    until: datetime | None
    this: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The key. `declared`: it stands in the gate's configuration. `rotates`: its holder may give it a new secret now; else
    `why_not` says why not. `overlap` is how long the old secret may go on at the most, in seconds."""

    id: str
    name: str
    team: str | None
    roles: Sequence[str]
    models: Sequence[str]
    created: datetime | None
    expires: datetime | None
    declared: bool
    secrets: Sequence[OwnSecret]
    rotates: bool
    why_not: str
    overlap: int


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """`cost` has an exact decimal for each currency, before anything that a plan includes."""

    requests: int
    refused: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost: dict[str, str]


class OfModel(Sums, frozen=True, kw_only=True):
    model: str


class OfDay(Sums, frozen=True, kw_only=True):
    day: str


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Days and months are those of UTC."""

    time: datetime
    today: Sums
    month: Sums
    models: Sequence[OfModel]
    """This month, the most tokens first."""
    days: Sequence[OfDay]
    """This month's days with any use, in order."""


class OwnLimit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit. `whose`: `you` alone, your `team` together, or `shared` with others beside.

    `left` and `used` are null where they would tell what others used; `any_left` says whether there is room at all.
    """

    limit: str
    whose: Whose
    model: str | None
    unit: Unit
    currency: str
    amount: Amount
    used: Amount | None
    left: Amount | None
    any_left: bool
    whole: datetime | None
    """When all is there again at the latest, if nothing more is used."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    time: datetime
    limits: Sequence[OwnLimit]


class PlanTold(msgspec.Struct, frozen=True, kw_only=True):
    """The team's plan, as it is for all of its keys together."""

    name: str
    currency: str
    timezone: str
    included: str
    overage: Literal["allow", "stop"]


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The month by the plan's clock, or UTC's without one. `own` is this key's part, before anything that is included.

    `statement` is the whole team's, null unless the configuration lets holders see it (`me.team`).
    """

    team: str | None
    plan: PlanTold | None
    month: str
    since: datetime
    own: Sums
    models: Sequence[OfModel]
    statement: Statement | None


class NewSecret(msgspec.Struct, frozen=True, kw_only=True):
    """The new secret, which is shown this once. `old_until`: so long the one that was shown goes on working."""

    secret: str
    old_until: datetime


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    overlap: str = "24h"


class Figures:
    """What is told under one configuration. All but `seats` and `limits` ask the store, and block."""

    def __init__(self, config: Config, store: Store, keyring: Keyring) -> None:
        self.config, self.keyring = config, keyring
        self._store = store
        self._standing = Standing(config)
        self._declared = declared_keys(config)

    def holder(self, id: str, digest: bytes) -> Key:
        """The key with this id, if the secret with this digest opens it now. Raises Refused, LedgerUnavailable."""
        key = self._declared.get(id)
        if key is None and not id.startswith(DECLARED):
            record = self._store.key(id)
            key = None if record is None or record.id != id or record.revoked is not None else as_term(record)
        now = self.keyring.now().timestamp()
        if key is None or key.disabled or (key.expires is not None and key.expires <= now):
            raise Refused(WRONG)
        if not any(one == digest and (until is None or now < until) for one, until in key.digests):
            raise Refused(WRONG)
        return key

    def record(self, key: Key) -> KeyRecord | None:
        """As the store has it; None: it is declared."""
        return None if key.id in self._declared else self._store.key(key.id)

    def facts(self, key: Key, digest: bytes) -> Facts:
        record = self.record(key)
        now = self.keyring.now()
        why_not = self.why_not(record, digest, now)
        roles, models = self._standing.reached(key)
        return Facts(
            id=key.id,
            name=key.name,
            team=key.team,
            roles=roles,
            models=models[:MAX_MODELS],
            created=None if record is None else record.created,
            expires=None if key.expires is None else datetime.fromtimestamp(key.expires, UTC),
            declared=record is None,
            secrets=[
                OwnSecret(created=one.created, until=one.until, this=one.digest == digest)
                for one in ([] if record is None else record.secrets)
                if one.until is None or one.until > now
            ],
            rotates=why_not is None,
            why_not="" if why_not is None else why_not.message,
            overlap=int(self.config.me.overlap),
        )

    def why_not(self, record: KeyRecord | None, digest: bytes, now: datetime) -> Refuse | None:
        """Why whoever shows this secret gets no new one; None: it would."""
        if not self.config.me.rotate:
            return Refuse("permission_denied", "Here only the operator of the gate gives keys new secrets. Ask there.")
        if record is None:
            message = "This key is declared in the gate's configuration, where its secret is changed too. Ask the operator."
            return Refuse("permission_denied", message)
        live = [one for one in record.secrets if one.until is None or one.until > now]
        shown = next((one for one in live if one.digest == digest), None)
        if shown is None or shown.until is not None:
            # whoever has got hold of an old secret must not lock out the holder of the new one
            return Refuse("permission_denied", "This secret has been replaced already, and ends soon. Rotate with the new one.")
        if len(live) >= MAX_SECRETS:
            ends = min(one.until for one in live if one.until is not None)
            message = f"{len(live)} secrets of this key work still. The next one of them ends at {ends:%Y-%m-%d %H:%M} UTC."
            return Refuse("permission_denied", message)
        since = now - shown.created
        if shown.created > record.created and since < BETWEEN:
            wait = BETWEEN - since
            message = "This secret has only just been made. Wait a minute before the next."
            return Refuse("rate_limit_exceeded", message, retry_after=max(1, int(wait.total_seconds())))
        return None

    def usage(self, key: Key) -> Usage:
        now = self.keyring.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        since = midnight.replace(day=1)
        days = self._usage(["day"], key, since)
        models = self._usage(["model"], key, since)
        today = [row for row in days if row.group[0] == f"{now:%Y-%m-%d}"]
        return Usage(
            time=now,
            today=_sums(today),
            month=_sums(days),
            models=self._by_model(key, models),
            days=[OfDay(day=row.group[0], **_fields([row])) for row in days],
        )

    def _usage(self, by: list[str], key: Key, since: datetime, until: datetime | None = None) -> list[UsageRow]:
        return self._store.usage(by, ReceiptFilter(key=key.id, since=since, until=until))

    def _by_model(self, key: Key, rows: Sequence[UsageRow]) -> list[OfModel]:
        known = set(self._standing.reached(key)[1])
        groups: dict[str, list[UsageRow]] = {}
        for row in rows:
            groups.setdefault(row.group[0] if row.group[0] in known else OTHER, []).append(row)
        found = [OfModel(model=name, **_fields(each)) for name, each in groups.items()]
        return sorted(found, key=lambda one: (-(one.prompt_tokens + one.completion_tokens), -one.requests, one.model))

    def seats(self, key: Key, address: str) -> list[Seat]:
        """The limits that its requests come under."""
        return list(islice(self._standing.at(address).all(key), MAX_LIMITS))

    def limits(self, key: Key, address: str, seats: Sequence[Seat], used: Sequence[tuple[int, int]]) -> Limits:
        """Those limits, with what is used of each and may be at most."""
        now, standing = self.keyring.now(), self._standing.at(address)
        told = []
        for seat, (spent, most) in zip(seats, used, strict=True):
            stand = standing.stand(seat, spent, most, now)
            whose = _whose(seat)
            shows = whose == "you" or (whose == "team" and self.config.me.team)
            told.append(
                OwnLimit(
                    limit=stand.limit,
                    whose=whose,
                    model=stand.model,
                    unit=stand.unit,
                    currency=stand.currency,
                    amount=stand.amount,
                    used=stand.used if shows else None,
                    left=stand.left if shows else None,
                    any_left=spent < most,
                    whole=stand.whole if shows else None,
                )
            )
        return Limits(time=now, limits=told)

    def statement(self, key: Key) -> Month:
        """The month until now. Raises LedgerUnavailable."""
        now = self.keyring.now()
        team = self.config.teams.get(key.team or "")
        name = None if team is None else team.plan
        plan = None if name is None else self.config.plans.get(name)
        zone = "UTC" if plan is None else plan.timezone
        month = month_of(now, zone)
        bounds = month_bounds(month, zone)
        assert bounds is not None  # it is a month, by `month_of`
        rows = self._usage(["model"], key, bounds[0], bounds[1])
        whole = None
        if self.config.me.team and name is not None and key.team is not None:
            try:
                whole = make_statement(self._store.billing, self.config.plans, key.team, name, month, now)
            except NoStatement:  # retention has deleted some of it
                whole = None
        return Month(
            team=key.team,
            plan=None
            if plan is None or name is None
            else PlanTold(
                name=name,
                currency=plan.currency,
                timezone=plan.timezone,
                included="" if plan.included is None else str(plan.included),
                overage=plan.overage,
            ),
            month=month,
            since=bounds[0],
            own=_sums(rows),
            models=self._by_model(key, rows),
            statement=whole,
        )


def rotate(figures: Figures, key: Key, question: Mine) -> NewSecret:
    """Give the key a new secret, as its holder wishes. Raises Refused, LedgerUnavailable."""
    try:
        wanted = msgspec.json.decode(question.body or b"{}", type=_Wanted)
        overlap = parse_duration(wanted.overlap)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused(_bad('Send nothing, or a JSON object such as {"overlap": "24h"}.')) from None
    except BadKeyInput as wrong:
        raise Refused(_bad(f"overlap: {wrong}")) from None
    most = timedelta(seconds=figures.config.me.overlap)
    if overlap > most:
        raise Refused(_bad(f"overlap: the old secret may go on for {int(most.total_seconds())}s at the most."))
    record, now = figures.record(key), figures.keyring.now()
    why_not = figures.why_not(record, question.digest, now)
    if why_not is not None:
        raise Refused(why_not)
    audit.asked_from.set(question.address)
    try:
        changed, secret = figures.keyring.rotate(key.id, overlap, f"{ROTATES_AS}{key.name}")
    except (UnknownKey, KeyRevoked):  # in this moment
        raise Refused(WRONG) from None
    ends = [one.until for one in changed.secrets if one.digest == question.digest and one.until is not None]
    return NewSecret(secret=secret, old_until=ends[0] if ends else now)


def _whose(seat: Seat) -> Whose:
    if seat.principal is not None:
        return "you"
    return "team" if "team" in seat.counted.spec.per else "shared"


def _bad(message: str) -> Refuse:
    return Refuse("invalid_request", message, "overlap")


def _sums(rows: Collection[UsageRow]) -> Sums:
    return Sums(**_fields(rows))


def _fields(rows: Collection[UsageRow]) -> dict[str, Any]:
    costs: dict[str, int] = {}
    for row in rows:
        for currency, cost in row.costs.items():
            costs[currency] = costs.get(currency, 0) + cost
    names = ("requests", "refused", "errors", "prompt_tokens", "completion_tokens")
    added = {name: sum(getattr(row, name) for row in rows) for name in names}
    return {**added, "cost": {currency: decimal_text(cost) for currency, cost in costs.items()}}
