"""What a request is counted against and what it costs: the limits of its role, team, key and model and those of everybody, and
the price of its tokens.

Of several roles only the one that admitted the request lends it limits; all other limits hold whatever admitted it. Made once for
a snapshot. It counts nothing and knows no table: `limiting.py` and `dataplane/table.py` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from slmgate.policy.billing import cost, price_text
from slmgate.policy.limiting import Meter
from slmgate.policy.limits import NANO, LimitSpec, Per, Price, Unit
from slmgate.policy.roles import matches
from slmgate.policy.specs import SnapshotSpec
from slmgate.terms import Key, Principal, Usage

ENGINE_HOLD = 1_000_000
"""Microseconds of an instance's work that are held for a request under a limit on them: how long, nobody knows before."""

FREE = Price()

_COUNTS_ANSWERS: frozenset[Unit] = frozenset(("tokens", "completion_tokens", "cost"))


class Tariff:
    """What the requests of one principal for one model under one role are counted against, and what they cost."""

    __slots__ = ("bounded", "grows", "meters", "plan", "price", "price_text", "prompts", "subjects", "terms", "units")

    def __init__(self, counted: Iterable[tuple[LimitSpec, str]], plan: str, currency: str, price: Price) -> None:
        """`counted`: each limit with the text of whom it is counted for."""
        found = list(counted)
        self.meters = tuple(Meter(spec) for spec, _ in found)
        self.subjects = tuple(subject for _, subject in found)
        self.units = tuple(spec.unit for spec, _ in found)
        self.bounded = not _COUNTS_ANSWERS.isdisjoint(self.units)
        """Whether an answer's length is among what is counted, so that it must have a bound."""
        self.grows = self.bounded or "engine_time" in self.units
        """Whether a request comes to more the longer it goes on."""
        self.plan = plan
        self.price = price
        self.terms = tuple(_terms(unit, price) for unit in self.units)
        """For each limit: what a prompt token and a completion token count, what is held beside, what is charged beside, and
        what a microsecond of an instance counts.
        """
        self.prompts = any(terms[0] for terms in self.terms)
        """Whether a prompt's length is among what is counted."""
        self.price_text = price_text(currency, price) if price is not FREE else ""

    def __repr__(self) -> str:
        return f"<Tariff {', '.join(meter.spec.text for meter in self.meters)}>"

    def wants(self, prompt: int, completion: int) -> list[int]:
        """What is to be taken of each limit for so many tokens, before they are generated."""
        return [a * prompt + b * completion + held for a, b, held, _, _ in self.terms]

    def kept(self, prompt: int, generated: int = 0, engine_us: int = 0) -> list[int]:
        """What of it is charged in the end where the worker dies after it had come to so much as far as is known."""
        return [a * prompt + b * generated + fixed + c * engine_us for a, b, _, fixed, c in self.terms]

    def came_to(self, usage: Usage, engine_us: int) -> list[int]:
        """What the request is charged, now that it is over."""
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        return [a * prompt + b * completion + fixed + c * engine_us for a, b, _, fixed, c in self.terms]

    def cost(self, usage: Usage) -> int:
        """Billionths of the plan's currency."""
        return cost(usage.prompt_tokens, usage.completion_tokens, self.price)

    def tokens_for(self, index: int, left: int, prompt: int) -> int:
        """How long an answer may be with `left` of the limit `index`; negative where not even the prompt has room."""
        unit = self.units[index]
        if unit == "tokens":
            return left - prompt
        if unit == "completion_tokens":
            return left
        if unit == "cost" and self.price.completion:
            return (left - prompt * self.price.prompt) // self.price.completion
        return -1


def _terms(unit: Unit, price: Price) -> tuple[int, int, int, int, int]:
    """What one unit of each counts: prompt and completion tokens; what is held beside; what is charged beside; engine time."""
    if unit == "requests":
        return 0, 0, 1, 1, 0
    if unit == "tokens":
        return 1, 1, 0, 0, 0
    if unit == "cost":
        return price.prompt, price.completion, 0, 0, 0
    if unit == "prompt_tokens":
        return 1, 0, 0, 0, 0
    if unit == "completion_tokens":
        return 0, 1, 0, 0, 0
    return (0, 0, ENGINE_HOLD, 0, 1) if unit == "engine_time" else (0, 0, 1, 0, 0)


class Count(NamedTuple):
    """One count that a principal may come under: its limit, the text of whom it is counted for, and the role and the model that
    it is counted for apart (empty: for all together).
    """

    spec: LimitSpec
    subject: str
    role: str = ""
    model: str = ""


class Charges:
    """What a snapshot says of limits and prices."""

    __slots__ = ("_all", "_keys", "_models", "_plans", "_roles", "_teams", "any", "keys_as_of")

    def __init__(self, spec: SnapshotSpec, keys_as_of: int = 0) -> None:
        """`keys_as_of`: `KeyTable.limited` of the keys beside it."""
        self._all = spec.limits
        self._keys = dict(spec.key_limits)
        self._models = {model.name: model.limits for model in spec.models if model.limits}
        self._roles = {role.name: role.limits for role in spec.roles if role.limits}
        self._teams = {team.name: team for team in spec.teams if team.limits or team.plan is not None}
        self._plans = {plan.name: plan for plan in spec.plans}
        self.keys_as_of = keys_as_of
        self.any = bool(self._all or self._keys or self._models or self._roles or self._teams or keys_as_of)
        """Whether there is anything to count or to charge."""

    def again(self, keys_as_of: int) -> Charges:
        """The same beside keys whose limits are others: whoever kept a tariff asks anew."""
        other = copy(self)
        other.keys_as_of = keys_as_of
        other.any = True
        return other

    def tariff(self, principal: Principal, model: str, role: str, address: str) -> Tariff:
        """`address` is the client's, as text; where no limit counts by it, the tariff is the same for all."""
        team = self._teams.get(principal.team) if principal.team is not None else None
        limits = (
            *self._all,
            *self._models.get(model, ()),
            *(team.limits if team is not None else ()),
            *self._roles.get(role, ()),
            *self.of_key(principal),
        )
        plan = self._plans.get(team.plan) if team is not None and team.plan is not None else None
        counted = [(spec, _subject(spec.per, principal, model, role, address)) for spec in limits]
        if plan is None:
            return Tariff(counted, "", "", FREE)
        price = next((price for pattern, price in plan.prices if matches(pattern, model)), FREE)
        return Tariff(counted, plan.name, plan.currency, price)

    def counts(self, principal: Principal, roles: Sequence[str], models: Sequence[str], address: str = "") -> Iterator[Count]:
        """Every count that requests of this principal for one of `models`, admitted by one of `roles`, come under, each once.

        Those by address are left out where none is given.
        """
        team = self._teams.get(principal.team) if principal.team is not None else None
        groups: list[tuple[Iterable[LimitSpec], Sequence[str], Sequence[str]]] = [
            (self._all, roles, models),
            *((self._models.get(model, ()), roles, (model,)) for model in models),
            (team.limits if team is not None else (), roles, models),
            *((self._roles.get(role, ()), (role,), models) for role in roles),
            (self.of_key(principal), roles, models),
        ]
        for limits, some_roles, some_models in groups:
            for spec in limits:
                if "ip" in spec.per and not address:
                    continue
                for role in some_roles if "role" in spec.per else ("",):
                    for model in some_models if "model" in spec.per else ("",):
                        yield Count(spec, _subject(spec.per, principal, model, role, address), role, model)

    def of_key(self, principal: Principal) -> tuple[LimitSpec, ...]:
        """The limits of this one key, declared or stored."""
        declared = self._keys.get(principal.id, ())
        return (*declared, *principal.limits) if isinstance(principal, Key) and principal.limits else declared

    def by_address(self, principal: Principal, model: str, role: str) -> bool:
        """Whether a limit of theirs counts by the client's address."""
        return any("ip" in meter.spec.per for meter in self.tariff(principal, model, role, "").meters)


def _subject(per: tuple[Per, ...], principal: Principal, model: str, role: str, address: str) -> str:
    """Whom a limit is counted for. Who has no team is a team alone."""
    parts = {
        "principal": principal.id,
        "team": f"team {principal.team}" if principal.team is not None else principal.id,
        "role": role,
        "model": model,
        "ip": network_of(address),
    }
    return "\0".join(parts[one] for one in per)


def network_of(address: str) -> str:
    """Whom an address stands for: an IPv4 address for itself, an IPv6 address for its /64, which is one customer's."""
    try:
        number = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(number, IPv6Address):
        if number.ipv4_mapped is not None:
            return str(number.ipv4_mapped)
        return f"{IPv6Address(int(number) >> 64 << 64)}/64"
    return str(number)


def amount_text(spec: LimitSpec, amount: int) -> str:
    """An amount in the limit's own measure, for people."""
    if spec.unit == "cost":
        whole, part = divmod(amount, NANO)
        return f"{whole}.{part:09d}".rstrip("0").ljust(len(str(whole)) + 3, "0") + f" {spec.currency}"
    if spec.unit == "engine_time":
        return f"{amount / 1e6:g}"
    return str(amount)
