"""Rules that do nothing, or more than they seem to: never reached, shadowed by another role, or undone by a wider one.

It reads roles, teams and declared keys, and asks no verdict: what it says holds for every request. Keys of the store are unknown
here, so that a role which only they have counts as held by nobody, and is told so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from math import inf
from typing import Literal, NamedTuple

import msgspec

from slmgate.control.config import Config, compile_snapshot, declared_keys
from slmgate.dialects import ENDPOINTS
from slmgate.policy.limits import LimitSpec
from slmgate.policy.networks import parse_network
from slmgate.policy.roles import ParameterRule, RoleSpec, TeamSpec, first_match, matches
from slmgate.policy.specs import ModelSpec, SnapshotSpec
from slmgate.terms import Key

Kind = Literal["never", "redundant", "shadowed", "widens"]
Net = IPv4Network | IPv6Network
_DAYS = {"day": 1, "week": 7, "month": 31}


class Finding(msgspec.Struct, frozen=True, order=True):
    """`where` is the place in the configuration. `never`: it decides nothing; `redundant`: something beside it says the same;
    `shadowed`: another role admits all of it; `widens`: it admits what the role beside it would bound."""

    kind: Kind
    where: str
    text: str


class _Policy(NamedTuple):
    """A configuration as the road would decide by it."""

    models: tuple[ModelSpec, ...]
    roles: tuple[RoleSpec, ...]
    teams: tuple[TeamSpec, ...]
    keys: tuple[Key, ...]


def findings(config: Config, now: float) -> list[Finding]:
    """All of them, in a fixed order. `now`: seconds since the epoch, for keys that have ended."""
    compiled = compile_snapshot(config, 0)
    spec = _Policy(compiled.models, compiled.roles, compiled.teams, tuple(declared_keys(config).values()))
    found = [
        *_unheld(spec),
        *(one for role in spec.roles for one in _of_role(role, spec.models)),
        *_looser(spec),
        *_of_keys(spec, now),
        *_of_limits(compiled),
        *_beside_each_other(spec),
    ]
    return sorted(dict.fromkeys(found))


def _unheld(spec: _Policy) -> Iterator[Finding]:
    held = {name for team in spec.teams for name in team.roles} | {name for key in spec.keys for name in key.roles}
    for role in spec.roles:
        if role.name not in held:
            yield Finding(
                "never", f"roles.{role.name}", "no team and no declared key has it (keys of the store are not looked at)"
            )


# -- one role by itself


def _of_role(role: RoleSpec, models: Sequence[ModelSpec]) -> Iterator[Finding]:
    where = f"roles.{role.name}"
    names = [model.name for model in models]
    for pattern in role.models:
        meant = [name for name in names if matches(pattern, name)]
        if meant and all(first_match(role.deny_models, name) for name in meant):
            yield Finding("never", f"{where}.models", f"{pattern}: deny_models of the same role denies all of it")
    for endpoint in ENDPOINTS:
        if endpoint in role.endpoints and first_match(role.deny_endpoints, endpoint):
            yield Finding("never", f"{where}.endpoints", f"{endpoint}: deny_endpoints of the same role denies it")
    for option in ("models", "deny_models", "endpoints", "deny_endpoints"):
        yield from _doubled(f"{where}.{option}", getattr(role, option))
    for option in ("networks", "deny_networks"):
        yield from _nested(f"{where}.{option}", getattr(role, option))
    for network in role.networks:
        if _inside(network, role.deny_networks):
            yield Finding("never", f"{where}.networks", f"{network}: deny_networks of the same role denies all of it")


def _doubled(where: str, patterns: Sequence[str]) -> Iterator[Finding]:
    for place, pattern in enumerate(patterns):
        for other_place, other in enumerate(patterns):
            if other_place != place and matches(other, pattern) and (other != pattern or other_place < place):
                yield Finding("redundant", where, f"{pattern}: {other} in the same list means it already")
                break


def _nested(where: str, networks: Sequence[str]) -> Iterator[Finding]:
    for place, network in enumerate(networks):
        for other_place, other in enumerate(networks):
            if other_place != place and _inside(network, (other,)) and (other != network or other_place < place):
                yield Finding("redundant", where, f"{network}: it lies in {other} of the same list")
                break


def _inside(network: str, others: Sequence[str]) -> bool:
    """Whether one of `others` holds the whole of `network`."""
    inner = parse_network(network)
    return any(_within(inner, parse_network(other)) for other in others)


def _within(inner: Net, outer: Net) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


# -- a role beside its models


def _looser(spec: _Policy) -> Iterator[Finding]:
    """Rules of a role for which the model's own are tighter."""
    for role in spec.roles:
        for rule in role.parameters:
            for model in spec.models:
                if first_match(role.models, model.name) is None:
                    continue
                own = next((one for one in model.parameters if one.name == rule.name), None)
                if own is None:
                    continue
                where = f"roles.{role.name}.parameters.{rule.name}"
                of = f"models.{model.name}.parameters.{rule.name}"
                if own.deny and not rule.deny:
                    yield Finding("never", where, f"for {model.name}: {of} denies it altogether")
                elif rule.max is not None and own.max is not None and rule.max > own.max:
                    yield Finding("never", f"{where}.max", f"{rule.max:g} for {model.name}: {of}.max is {own.max:g} already")
                elif rule.min is not None and own.min is not None and rule.min < own.min:
                    yield Finding("never", f"{where}.min", f"{rule.min:g} for {model.name}: {of}.min is {own.min:g} already")


# -- keys


def _of_keys(spec: _Policy, now: float) -> Iterator[Finding]:
    teams = {team.name: team.roles for team in spec.teams}
    roles = {role.name: role for role in spec.roles}
    for key in spec.keys:
        where = f"keys.{key.name}"
        if key.disabled:
            yield Finding("never", where, "the key is disabled")
        elif key.expires is not None and key.expires <= now:
            yield Finding("never", where, "the key has expired")
        held = [*key.roles, *teams.get(key.team or "", ())]
        if spec.roles and not held:
            yield Finding("never", where, "neither the key nor its team has a role, so that everything is refused")
        for name in dict.fromkeys(held):
            role = roles.get(name)
            if role is not None and _apart(key, role):
                yield Finding("never", f"{where}.roles", f"{name}: its networks and those of the key have no address in common")


def _apart(key: Key, role: RoleSpec) -> bool:
    if not key.networks or not role.networks:
        return False
    return not any(_inside(one, role.networks) or _inside(other, key.networks) for one in key.networks for other in role.networks)


# -- limits beside each other


def _of_limits(spec: SnapshotSpec) -> Iterator[Finding]:
    """Limits of one list that another of the same list never lets anybody reach."""
    holders = [spec.limits, *(limits for _, limits in spec.key_limits), *(role.limits for role in spec.roles)]
    holders += [*(team.limits for team in spec.teams), *(model.limits for model in spec.models)]
    for limits in holders:
        for place, limit in enumerate(limits):
            for other_place, other in enumerate(limits):
                if other_place != place and keeps(other, limit) and not (keeps(limit, other) and place < other_place):
                    yield Finding("never", limit.name, f"{limit.text}: {other.text} of the same list is used up before it")
                    break


def keeps(tight: LimitSpec, loose: LimitSpec) -> bool:
    """Whether `tight` lets nobody use more than `loose` does, whatever comes when."""
    if (tight.unit, tight.per, tight.currency) != (loose.unit, loose.per, loose.currency) or loose.burst is not None:
        return False
    most = max(tight.amount, tight.raised or 0)
    if tight.burst is not None:
        return False
    return most * _times(tight, loose) <= loose.amount


def _times(tight: LimitSpec, loose: LimitSpec) -> float:
    """How many windows of `tight` it takes at most to cover one of `loose`; infinite where that cannot be said."""
    if tight.unit == "concurrent":
        return 1
    if tight.calendar is None:
        longest = loose.seconds if loose.calendar is None else _DAYS[loose.calendar] * 86_400 + 3600  # clocks are put back
        return -(-longest // tight.seconds)
    if loose.calendar is None or tight.zone != loose.zone:
        return inf
    if (tight.calendar, tight.first_day) == (loose.calendar, loose.first_day):
        return 1
    return _DAYS[loose.calendar] if tight.calendar == "day" else inf


# -- roles beside each other


def _beside_each_other(spec: _Policy) -> Iterator[Finding]:
    """What the roles of one principal do to each other. Principals are declared keys, and teams by themselves."""
    roles = {role.name: role for role in spec.roles}
    teams = {team.name: team.roles for team in spec.teams}
    holders: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [(f"team {team.name}", (), team.roles) for team in spec.teams]
    holders += [(f"key {key.name}", key.roles, teams.get(key.team or "", ())) for key in spec.keys]
    met: dict[tuple[str, str, bool, bool], list[str]] = {}
    for who, own, of_team in holders:
        names = [name for name in dict.fromkeys((*own, *of_team)) if name in roles]
        for place, name in enumerate(names):
            for later in names[place + 1 :]:
                undone = name in own and later not in own
                if covers(roles[name], roles[later], spec.models):
                    met.setdefault((name, later, False, False), []).append(who)
                elif covers(roles[later], roles[name], spec.models):
                    met.setdefault((later, name, undone, True), []).append(who)
    for (wide, narrow, undone, first), whose in met.items():
        yield from _pair(roles[wide], roles[narrow], whose, undone, first, spec.models)


def _pair(
    wide: RoleSpec, narrow: RoleSpec, whose: Sequence[str], undone: bool, first: bool, models: Sequence[ModelSpec]
) -> Iterator[Finding]:
    """`first`: the narrow role comes before the wide one, so that what it admits is counted, set and queued by its own rules."""
    listed = ", ".join(whose[:5]) + (f" and {len(whose) - 5} more" if len(whose) > 5 else "")
    counts = ["denials"] if narrow.deny_models or narrow.deny_endpoints or narrow.deny_networks else []
    if first:
        counts += ["limits"] if narrow.limits != wide.limits else []
        counts += ["place in line"] if (narrow.priority, narrow.weight) != (wide.priority, wide.weight) else []
    left = f"; only its {' and '.join(counts)} count" if counts else ""
    yield Finding("shadowed", f"roles.{narrow.name}", f"of {listed}: {wide.name} admits all that it does{left}")
    if not covers(narrow, wide, models):
        how = "it comes with the team, and undoes the bounds of the key's own role" if undone else "it makes void the bounds of"
        yield Finding("widens", f"roles.{wide.name}", f"of {listed}: {how} {narrow.name}")


def covers(wide: RoleSpec, narrow: RoleSpec, models: Sequence[ModelSpec]) -> bool:
    """Whether `wide` surely admits every request that `narrow` does. Hours count as covered only where they are the same."""
    return (
        all(first_match(wide.models, one.name) is not None for one in models if first_match(narrow.models, one.name) is not None)
        and all(
            first_match(wide.endpoints, one) is not None for one in ENDPOINTS if first_match(narrow.endpoints, one) is not None
        )
        and (not wide.networks or (bool(narrow.networks) and all(_inside(one, wide.networks) for one in narrow.networks)))
        and (not wide.hours or wide.hours == narrow.hours)
        and (wide.stream or not narrow.stream)
        and _at_most(narrow.max_body, wide.max_body)
        and _at_most(narrow.max_context, wide.max_context)
        and all(_rule_covers(rule, narrow.parameters) for rule in wide.parameters)
    )


def _at_most(narrow: float | None, wide: float | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)


def _rule_covers(wide: ParameterRule, others: Sequence[ParameterRule]) -> bool:
    """Whether what `others` let through of this parameter passes `wide`."""
    narrow = next((rule for rule in others if rule.name == wide.name), ParameterRule(name=wide.name))
    if narrow.deny:
        return True
    if wide.deny:
        return False
    low = None if narrow.min is None else -narrow.min
    allowed = wide.allowed is None or (narrow.allowed is not None and set(narrow.allowed) <= set(wide.allowed))
    return _at_most(narrow.max, wide.max) and _at_most(low, None if wide.min is None else -wide.min) and allowed
