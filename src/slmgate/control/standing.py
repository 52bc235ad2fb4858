"""Where principals stand: which limits there are to look at, for whom each is counted, and the figures as people read them.

It is made from one configuration and the keys that it is given; what is used is asked of the workers by whoever calls. It knows
no store, no link and no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from slmgate.control.config import Config
from slmgate.control.keylimits import raised_text
from slmgate.control.trials.asked import snapshot_of
from slmgate.policy.charges import Count, amount_text, network_of
from slmgate.policy.limiting import Meter
from slmgate.policy.roles import INTERNAL
from slmgate.policy.room import whole_in
from slmgate.terms import LimitSpec, Principal, Unit

Amount = int | float | str


class Seat(NamedTuple):
    """A count, and whose it is; None: nobody's alone."""

    counted: Count
    principal: Principal | None
    team: str | None


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """One limit and where somebody stands with it.

    `name` is where it is written (`key.limits[0]`: the first of a key's own), `whose` who is counted together, in words; what
    that is made of follows. `amount`, `used` and `left` are in `unit`; money is an exact decimal in `currency`, as text. `used`
    is with what requests under way have reserved. `share` is the part of the amount that is used; over 1, the rest is owed.
    `whole` is when all is there again at the latest, if nothing more is used; null where nothing is, and for `concurrent`.
    """

    name: str
    limit: str
    whose: str
    principal: str | None
    client: str | None
    team: str | None
    role: str | None
    model: str | None
    address: str | None
    unit: Unit
    currency: str
    amount: Amount
    used: Amount
    left: Amount
    share: float
    whole: datetime | None
    raised: str | None
    """The limit as it is until `raised_until`."""
    raised_until: datetime | None


class Standing:
    """The limits of one configuration. `address`: a client's, for those that count by it; empty: they are left out."""

    def __init__(self, config: Config, address: str = "") -> None:
        self._snapshot = snapshot_of(config)
        self._roles = tuple(config.roles) or (INTERNAL.name,)
        self._teams = tuple(config.teams)
        self._address = address
        self._reach: dict[tuple[str | None, tuple[str, ...]], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def at(self, address: str) -> Standing:
        """The same for a client at this address."""
        other = copy(self)
        other._address = address
        return other

    def reached(self, principal: Principal) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The roles that it has and the models that it may know of; most keys share theirs."""
        which = principal.team, principal.roles
        found = self._reach.get(which)
        if found is None:
            access = self._snapshot.access(principal)
            found = self._reach[which] = tuple(role.name for role in access.roles), tuple(access.known())
        return found

    def shared(self) -> Iterator[Seat]:
        """What is nobody's alone, each once; and then what is of those who show no credential."""
        charges, models = self._snapshot.charges, self._snapshot.model_names
        seen: set[tuple[str, str]] = set()
        for team in (None, *self._teams):
            somebody = Principal(id="", name="", team=team)
            for count in charges.counts(somebody, self._roles, models, self._address):
                if not _is_alone(count, somebody) and (which := (count.spec.identity, count.subject)) not in seen:
                    seen.add(which)
                    yield Seat(count, None, team)
        if self._snapshot.anonymous is not None:
            yield from self.alone(self._snapshot.anonymous)

    def alone(self, principal: Principal) -> Iterator[Seat]:
        """What is counted for this principal by itself."""
        return (seat for seat in self.all(principal) if seat.principal is not None)

    def all(self, principal: Principal) -> Iterator[Seat]:
        """Everything that requests of this principal may come under."""
        roles, models = self.reached(principal)
        for count in self._snapshot.charges.counts(principal, roles, models, self._address) if roles and models else ():
            yield Seat(count, principal if _is_alone(count, principal) else None, principal.team)

    def stand(self, seat: Seat, used: int, amount: int, now: datetime) -> Stand:
        """A seat with what is used of it and what may be at most."""
        count, spec = seat.counted, seat.counted.spec
        wait = whole_in(Meter(spec), used, now.timestamp())
        raised = spec.raised is not None and now.timestamp() < spec.raised_until
        who, per = seat.principal, spec.per
        return Stand(
            name=spec.name,
            limit=spec.text,
            whose=self._whose(seat),
            principal=None if who is None else who.id,
            client=None if who is None else who.name,
            team=seat.team if "team" in per or who is not None else None,
            role=count.role or None,
            model=count.model or None,
            address=network_of(self._address) if "ip" in per else None,
            unit=spec.unit,
            currency=spec.currency,
            amount=_amount(spec, amount),
            used=_amount(spec, used),
            left=_amount(spec, max(0, amount - used)),
            share=used * 10_000 // amount / 10_000 if amount else 1.0,  # downwards: 1 is said of what is all used
            whole=None if wait is None else datetime.fromtimestamp(now.timestamp() + wait, UTC).replace(microsecond=0),
            raised=raised_text(spec) if raised else None,
            raised_until=datetime.fromtimestamp(spec.raised_until, UTC) if raised else None,
        )

    def _whose(self, seat: Seat) -> str:
        count, per = seat.counted, seat.counted.spec.per
        parts = [] if seat.principal is None else [seat.principal.name]
        if "team" in per and seat.team is not None:
            parts.append(f"team {seat.team}")
        parts += [f"{what} {name}" for what, name in (("role", count.role), ("model", count.model)) if name]
        if "ip" in per:
            parts.append(network_of(self._address))
        return ", ".join(parts) or "everybody"


def _is_alone(count: Count, principal: Principal) -> bool:
    """Whether it counts this principal's use and nobody else's. Who has no team is a team alone."""
    return "principal" in count.spec.per or ("team" in count.spec.per and principal.team is None)


def _amount(spec: LimitSpec, amount: int) -> Amount:
    if spec.unit == "cost":
        return amount_text(spec, amount).partition(" ")[0]
    return amount / 1_000_000 if spec.unit == "engine_time" else amount
