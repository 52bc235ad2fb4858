"""Past receipts held against a proposed configuration: who would newly be refused, limited or admitted, and by which rule.

Receipts come one by one and leave only counts behind, so that millions of them need no more memory than a few. What they do not
hold is counted too, and told. Where receipts come from is not known here, and nothing of a request is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from slmgate.control.config import Config, declared_keys
from slmgate.control.keyfields import DECLARED
from slmgate.control.trials.asked import as_asked, declared_key, snapshot_of
from slmgate.control.trials.pacing import Pace
from slmgate.control.trials.told import LIMITED, judged, unread
from slmgate.dialects import TABLE
from slmgate.dialects.parameters import NOTED, read_noted
from slmgate.policy.access import LISTING, Access, Admit
from slmgate.policy.decide import decide
from slmgate.policy.explain import identity
from slmgate.policy.networks import number_of
from slmgate.policy.roles import Scalar
from slmgate.terms import Ask, Principal, Receipt, Refuse

MAX_GROUPS = 5000
"""Lines of the report; what more there is, is summed up in one line for each kind of change."""
OTHERS = "(others)"
MAX_KNOWN = 100_000
"""Verdicts remembered, some hundred bytes each."""
_NOTED = frozenset(NOTED)
_GONE = Refuse("invalid_api_key", "", rule="keys")
"""Of a declared key that the proposal does not declare."""

Kind = Literal["refused", "limited", "admitted", "reason"]
"""`limited`: refused for want of room in a limit. `reason`: refused before and after, with another code."""

_parameters = lru_cache(maxsize=16_384)(read_noted)
_number = lru_cache(maxsize=65_536)(number_of)


class Change(msgspec.Struct, kw_only=True):
    """Requests of one client for one model that would end otherwise, by one rule. `before` and `after` are `ok` or a code."""

    kind: Kind
    client: str
    model: str
    endpoint: str
    before: str
    after: str
    rule: str
    count: int
    first: datetime
    last: datetime
    example: str
    """The id of one of them, for `slmgate explain --request`."""


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """`judged` receipts were compared, `same` of them end as before. `left_out` says why others were not, with counts.

    `missing` says what rules asked for and receipts do not hold, with counts: those verdicts are as good as can be known.
    """

    receipts: int
    judged: int
    same: int
    refused: int
    limited: int
    admitted: int
    reason: int
    changes: Sequence[Change]
    left_out: dict[str, int]
    missing: dict[str, int]


class _Facts:
    """What rules ask of a receipt; `asked` gathers the parameters that receipts do not keep."""

    __slots__ = ("asked", "parameters", "receipt")

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def of(self, receipt: Receipt, parameters: Mapping[str, list[Scalar]]) -> _Facts:
        """The same object for another receipt: a million of them need not be made."""
        self.receipt = receipt
        self.parameters = parameters
        self.asked.clear()
        return self

    @property
    def address(self) -> int:
        return _number(self.receipt.address)

    @property
    def body_size(self) -> int:
        return self.receipt.bytes_in

    def second(self) -> float:
        return self.receipt.time.timestamp()

    def parameter(self, name: str) -> Sequence[Scalar]:
        if name not in _NOTED:
            self.asked.add(name)
        return self.parameters.get(name, ())


class Judged(NamedTuple):
    """A verdict on a receipt: `ok` or a code, the rule, and the parameters that were asked for and are in no receipt.

    Of a yes also the role that admitted, and what it sets.
    """

    code: str
    rule: str
    asked: tuple[str, ...] = ()
    role: str = ""
    settings: tuple[tuple[str, Scalar], ...] = ()


class Judge:
    """One configuration asked about receipts. `stored` are the stored keys that are known now, by id."""

    def __init__(self, config: Config, stored: Mapping[str, Principal]) -> None:
        self._config = config
        self._snapshot = snapshot_of(config)
        self._stored = stored
        # The principal of a receipt by what it says of it; None: a declared key that this configuration does not have.
        self._principals: dict[tuple[str | None, str | None, str], Principal | None] = {}
        self._facts = _Facts()
        charges = self._snapshot.charges
        limited = charges.any or any(charges.of_key(one) for one in stored.values())
        self.pace = Pace(charges) if limited else None
        roles = config.roles.values()
        self.bounds_context = any(role.max_context is not None for role in roles)
        self._bounds_body = any(role.max_body is not None for role in roles)
        self._bounds_place = any(role.networks or role.deny_networks for role in roles) or any(
            one.networks for one in (*declared_keys(config).values(), *stored.values())
        )
        ends = any(key.expires is not None for key in config.keys)
        # Seconds of which only the first matters: windows of hours begin with a minute, keys end with a second. 0: none matters.
        self._moment = 1 if ends else 60 if any(role.hours is not None for role in roles) else 0
        # Verdicts by the facts that this configuration can ask for: most receipts of a client differ in none of them.
        self._known: dict[tuple[object, ...], Judged] = {}

    def verdict(self, receipt: Receipt, endpoint: str) -> Judged:
        """What this configuration says of a past request."""
        which = (
            receipt.key,
            receipt.team,
            receipt.roles,
            receipt.model,
            endpoint,
            receipt.stream,
            receipt.parameters,
            receipt.address if self._bounds_place else "",
            receipt.bytes_in if self._bounds_body else 0,
            receipt.prompt_tokens if self.bounds_context else 0,
            receipt.time.timestamp() // self._moment if self._moment else 0,
        )
        found = self._known.get(which)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[which] = self._judge(receipt, endpoint)
        return found if self.pace is None or not found.role else self._paced(self.pace, receipt, endpoint, found)

    def _paced(self, pace: Pace, receipt: Receipt, endpoint: str, found: Judged) -> Judged:
        """The verdict with what the limits say, by what was used before."""
        principal = self._principal(receipt)
        assert principal is not None
        parameters: dict[str, list[Scalar]] = {**_parameters(receipt.parameters)} if receipt.parameters else {}
        for name, value in found.settings:
            parameters[name] = [*parameters.get(name, ()), value]
        refuse = pace.take(receipt, principal, found.role, endpoint, parameters)
        return found if refuse is None else Judged(refuse.code, refuse.rule, found.asked)

    def _judge(self, receipt: Receipt, endpoint: str) -> Judged:
        principal = self._principal(receipt)
        if principal is None:
            return Judged(_GONE.code, _GONE.rule)
        parameters = _parameters(receipt.parameters) if receipt.parameters else {}
        facts = self._facts.of(receipt, parameters)
        _, refused = identity(principal, facts)
        found = refused or self._decide(self._snapshot.access(principal), receipt, endpoint, parameters)
        asked = tuple(sorted(facts.asked))
        if isinstance(found, Refuse):
            return Judged(found.code, found.rule, asked)
        return Judged("ok", "", asked, found.role, found.settings) if isinstance(found, Admit) else Judged("ok", "", asked)

    def _decide(self, access: Access, receipt: Receipt, endpoint: str, parameters: Mapping[str, list[Scalar]]) -> object:
        most = parameters.get("max_tokens")
        bound = int(most[0]) if most and isinstance(most[0], int) else None
        ask = Ask(receipt.model, receipt.stream, prompt_estimate=receipt.prompt_tokens, max_tokens=bound)
        return access.listing(ask, self._facts) if endpoint == LISTING else decide(access, ask, endpoint, self._facts)

    def _principal(self, receipt: Receipt) -> Principal | None:
        which = receipt.key, receipt.team, receipt.roles
        if which not in self._principals:
            if len(self._principals) >= MAX_GROUPS * 4:
                self._principals.clear()
            self._principals[which] = self._find(receipt)
        return self._principals[which]

    def _find(self, receipt: Receipt) -> Principal | None:
        id = receipt.key or ""
        if id.startswith(DECLARED):
            return declared_key(self._config, id)
        if id in self._stored:
            return self._stored[id]
        roles = tuple(name for name in receipt.roles.split(",") if name)
        return Principal(id=id, name=receipt.principal, team=receipt.team, roles=roles)


class Replay:
    """Takes receipts, keeps counts. `against`: what the proposal is compared with, in place of what was decided then."""

    def __init__(self, proposed: Judge, against: Judge | None = None) -> None:
        self._proposed = proposed
        self._against = against
        self._groups: dict[tuple[str, ...], Change] = {}
        self._receipts = 0
        self._counts: dict[str, int] = {"same": 0, "refused": 0, "limited": 0, "admitted": 0, "reason": 0}
        self._left_out: dict[str, int] = {}
        self._missing: dict[str, int] = {}

    def take(self, receipt: Receipt) -> None:
        """Count one receipt."""
        self._receipts += 1
        route = TABLE.get((receipt.method, receipt.path))
        if route is None or receipt.key is None:
            _count(self._left_out, "no credential or no endpoint of the gate")
            return
        if unread(receipt):
            _count(self._left_out, "ended before the body was read, so that no model is known")
            return
        if receipt.verdict == "shadow":
            _count(self._left_out, "a copy of a request, which nobody asked for")
            return
        receipt = as_asked(receipt)
        was = False if receipt.reason in LIMITED else judged(receipt)
        if was is None and self._against is None:
            _count(self._left_out, f"ended with {receipt.reason or receipt.ended}, which roles have no part in")
            return
        before = ("ok" if was else receipt.reason) if self._against is None else self._against.verdict(receipt, route.access).code
        after, rule, asked, *_ = self._proposed.verdict(receipt, route.access)
        self._note_missing(receipt, asked)
        if before == after:
            self._counts["same"] += 1
            return
        lost: Kind = "limited" if after in LIMITED else "refused"
        kind: Kind = lost if before == "ok" else "admitted" if after == "ok" else "reason"
        self._counts[kind] += 1
        self._group(kind, receipt, route.access, before, after, rule)

    def _note_missing(self, receipt: Receipt, asked: Sequence[str]) -> None:
        for name in asked:
            _count(self._missing, f"the parameter {name}, which receipts do not keep: it counts as left alone")
        if self._proposed.pace is not None and not receipt.attempts:
            _count(self._missing, "what a request would have used that no instance was asked for: no tokens are counted")
        if self._proposed.bounds_context:
            what = (
                "the engine's count stands for the gate's estimate"
                if receipt.attempts
                else "no instance was asked, so none is known"
            )
            _count(self._missing, f"the prompt's length: {what}")

    def _group(self, kind: Kind, receipt: Receipt, endpoint: str, before: str, after: str, rule: str) -> None:
        which = (kind, receipt.principal, receipt.model, endpoint, before, after, rule)
        change = self._groups.get(which)
        if change is None and len(self._groups) >= MAX_GROUPS:
            which = (kind, OTHERS, "", "", "", "", "")
            change = self._groups.get(which)
        if change is None:
            _, client, model, endpoint, before, after, rule = which
            self._groups[which] = Change(
                kind=kind,
                client=client,
                model=model,
                endpoint=endpoint,
                before=before,
                after=after,
                rule=rule,
                count=1,
                first=receipt.time,
                last=receipt.time,
                example=receipt.id,
            )
            return
        change.count += 1
        change.first = min(change.first, receipt.time)
        change.last = max(change.last, receipt.time)

    def report(self) -> ReplayReport:
        """What it came to so far: those who lose something first, the most first."""
        order = ("refused", "limited", "admitted", "reason")
        changes = sorted(
            self._groups.values(),
            key=lambda change: (order.index(change.kind), -change.count, change.client, change.model, change.rule),
        )
        return ReplayReport(
            receipts=self._receipts, judged=sum(self._counts.values()), changes=changes, left_out=self._left_out,
            missing=self._missing, **self._counts,
        )  # fmt: skip


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1
