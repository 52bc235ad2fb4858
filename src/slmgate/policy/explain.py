"""The road to a verdict, told: every rule that was looked at, what it wanted, what the request had, whether it passed.

The verdict itself is `decide`'s, asked like any other; here the same checks are walked to their end, also those that it had no
need to look at. What is told is for the operator. It knows no limit, no file and no screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import IPv6Address

import msgspec

from slmgate.policy.access import LISTING, Access, Admit, Check, Facts, conditions_of, offer_of
from slmgate.policy.decide import decide, settled
from slmgate.policy.networks import NOWHERE, networks_of
from slmgate.policy.roles import Hours, RoleSpec, Scalar, first_match, zone_of
from slmgate.terms import Ask, Key, Principal, Refuse

NOT_SET = "not set"
ANYWHERE_UNKNOWN = "no address"


class Step(msgspec.Struct, frozen=True):
    """One rule looked at: its place in the configuration, what it wants, what the request had."""

    rule: str
    wants: str
    had: str
    passed: bool


class Walk(msgspec.Struct, frozen=True):
    """One role, rule by rule. `settings` are what it would set; `shows` are the models that it adds to a list of models.

    After a model or an endpoint that the role does not grant, its other rules say nothing and are left out.
    """

    role: str
    steps: tuple[Step, ...]
    settings: tuple[tuple[str, Scalar], ...] = ()
    shows: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(step.passed for step in self.steps)


class Explanation(msgspec.Struct, frozen=True):
    """`verdict` is that of the road: yes, no, or the models that are listed. `first` are rules that hold whatever the role."""

    verdict: Admit | Refuse | tuple[str, ...]
    first: tuple[Step, ...]
    walks: tuple[Walk, ...]


def explain(access: Access, ask: Ask, endpoint: str, facts: Facts) -> Explanation:
    """Why the roles of `access` admit or refuse this request; the arguments are those of `decide`."""
    if endpoint == LISTING:
        return _listing(access, ask, facts)
    verdict = decide(access, ask, endpoint, facts)
    known = access.known()
    name = ask.model or (known[0] if len(known) == 1 else "")
    model = access.models.get(name)
    exists = Step("models", "a model that exists", name or "no model named", model is not None)
    if model is None:
        return Explanation(verdict, (exists,), ())
    denials = [
        Step(f"roles.{role.name}.deny_{what}s", f"not {_list(patterns)}", had, first_match(patterns, had) is None)
        for role in access.roles
        for what, patterns, had in (("model", role.deny_models, name), ("endpoint", role.deny_endpoints, endpoint))
        if patterns
    ]
    denials += [_step(check, ask, facts, ()) for check in access.denials()]
    walks = []
    for role in access.roles:
        steps = [_granted(role, "models", role.models, name)]
        if steps[0].passed:
            steps.append(_granted(role, "endpoints", role.endpoints, endpoint))
        if not steps[-1].passed:
            walks.append(Walk(role.name, tuple(steps)))
            continue
        offer = offer_of(role, model, endpoint)
        steps += (_step(check, ask, facts, role.hours) for check in offer.checks)
        walks.append(Walk(role.name, tuple(steps), settled(offer, ask, facts).settings))
    return Explanation(verdict, (exists, *denials), tuple(walks))


def _listing(access: Access, ask: Ask, facts: Facts) -> Explanation:
    denied = [
        Step(f"roles.{role.name}.deny_endpoints", f"not {_list(role.deny_endpoints)}", LISTING, not _denies_listing(role))
        for role in access.roles
        if role.deny_endpoints
    ]
    denied += [_step(check, ask, facts, ()) for check in access.denials()]
    walks = []
    for role in access.roles:
        conditions = tuple(_step(check, ask, facts, role.hours) for check in conditions_of(role))
        open_now = all(step.passed for step in conditions)
        shows = tuple(name for name in access.known() if open_now and first_match(role.models, name) is not None)
        walks.append(Walk(role.name, (_granted(role, "endpoints", role.endpoints, LISTING), *conditions), shows=shows))
    return Explanation(access.listing(ask, facts), tuple(denied), tuple(walks))


def _denies_listing(role: RoleSpec) -> bool:
    return first_match(role.deny_endpoints, LISTING) is not None


def identity(principal: Principal, facts: Facts) -> tuple[tuple[Step, ...], Refuse | None]:
    """What is looked at before any role: whether the key still opens, and from where the principal may call."""
    where = f"{principal.kind}s.{principal.name}"
    steps: list[Step] = []
    refused: Refuse | None = None
    if isinstance(principal, Key):
        wrong = "The API key is not valid. Ask the operator of this gate for a key."
        if principal.disabled:
            steps.append(Step(f"{where}.disabled", "a key that is not disabled", "disabled", False))
            refused = Refuse("invalid_api_key", wrong, rule=steps[-1].rule)
        if principal.expires is not None:
            now = facts.second()
            steps.append(Step(f"{where}.expires", f"before {moment(principal.expires)}", moment(now), now < principal.expires))
            if refused is None and not steps[-1].passed:
                refused = Refuse("invalid_api_key", wrong, rule=steps[-1].rule)
    if principal.networks:
        inside = networks_of(principal.networks).holds(facts.address)
        steps.append(Step(f"{where}.networks", f"from {_list(principal.networks)}", address_text(facts.address), inside))
        if refused is None and not inside:
            told = "This credential may not be used from your address."
            refused = Refuse("permission_denied", told, rule=steps[-1].rule)
    return tuple(steps), refused


class _Watched:
    """The facts of a request, with a note of what a check asked for."""

    def __init__(self, facts: Facts, zone: str) -> None:
        self._facts = facts
        self._zone = zone
        self.seen: dict[str, str] = {}

    @property
    def address(self) -> int:
        found = self._facts.address
        self.seen["address"] = address_text(found)
        return found

    @property
    def body_size(self) -> int:
        found = self._facts.body_size
        self.seen["body"] = f"{found} bytes"
        return found

    def second(self) -> float:
        found = self._facts.second()
        self.seen["now"] = moment(found, self._zone)
        return found

    def parameter(self, name: str) -> Sequence[Scalar]:
        found = self._facts.parameter(name)
        self.seen[name] = ", ".join(_plain(value) for value in found) or NOT_SET
        return found


def _step(check: Check, ask: Ask, facts: Facts, hours: Sequence[Hours]) -> Step:
    watched = _Watched(facts, hours[0].zone if hours else "UTC")
    passed = check.test(ask, watched) is None
    if check.rule.endswith(".max_context"):
        answer = watched.seen["max_tokens"]
        if answer == NOT_SET and ask.max_tokens is not None:
            answer = str(ask.max_tokens)
        had = f"a prompt of about {ask.prompt_estimate}, {'no max_tokens' if answer == NOT_SET else f'max_tokens {answer}'}"
    elif watched.seen:
        had = ", ".join(watched.seen.values())
    else:
        had = "streamed" if ask.stream else "not streamed"
    return Step(check.rule, check.demand, had, passed)


def _granted(role: RoleSpec, what: str, patterns: tuple[str, ...], had: str) -> Step:
    return Step(f"roles.{role.name}.{what}", _list(patterns), had, first_match(patterns, had) is not None)


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)


def _plain(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == float("inf"):
        return "as many as there are"
    return value if isinstance(value, str) else f"{value:.15g}"


def address_text(number: int) -> str:
    """An address as people write it, from its number (`networks.number_of`)."""
    if number == NOWHERE:
        return ANYWHERE_UNKNOWN
    found = IPv6Address(number)
    return str(found.ipv4_mapped or found)


def moment(second: float, zone: str = "UTC") -> str:
    """A second since the epoch by the wall clock of `zone`: `Tue 2026-11-24 12:00:00 UTC`."""
    local = datetime.fromtimestamp(second, zone_of(zone))
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[local.weekday()]
    return f"{day} {local:%Y-%m-%d %H:%M:%S} {zone}"
