"""Cases at the edges of every rule: what a policy test should hold, worked out from the configuration, with today's verdicts.

For each role of each declared key and team, a request that the role admits is sought, and moved to both sides of each bound. The
verdicts are `policy`'s. It prints nothing; the same configuration and moment give the same cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address

import msgspec

from slmgate.control.config import Config, declared_keys
from slmgate.control.trials.asked import Trial, Verdict, judge, plain_parameters, snapshot_of
from slmgate.control.trials.limited import SCALES
from slmgate.dialects import ENDPOINTS
from slmgate.policy.access import GENERATING, LISTING
from slmgate.policy.limiting import Meter
from slmgate.policy.limits import LimitSpec
from slmgate.policy.networks import networks_of, number_of, parse_network
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec, Scalar, edges, first_match, zone_of
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Key, Principal

MINUTE = 60
SHORT = 16
"""The answer's length in cases about the context, in tokens."""
ANYWHERE = "192.0.2.1"
"""Where cases call from that no network bounds: an address of documentation (RFC 5737)."""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One case: `about` says which edge it stands at; `given` are its options as a file of tests has them."""

    about: str
    user: str
    given: dict[str, object]
    verdict: Verdict


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """`users` as a file of tests has them."""

    users: dict[str, dict[str, object]]
    cases: list[Edge]


class _Base(msgspec.Struct, frozen=True):
    """A request from which the edges of one role are looked for."""

    model: str
    endpoint: str
    address: str
    at: float
    zone: str

    def given(self, **changes: object) -> dict[str, object]:
        """The options of a case: this request with something else."""
        said = {"model": self.model, "endpoint": self.endpoint, "address": self.address, "at": written(self.at, self.zone)}
        return {name: value for name, value in (said | changes).items() if value is not None}


def find_edges(config: Config, now: float) -> Edges:
    """The cases at the edges of `config`, from `now` on (seconds since the epoch)."""
    snapshot = snapshot_of(config)
    users: dict[str, dict[str, object]] = {}
    cases: list[Edge] = []
    seen: set[tuple[object, ...]] = set()
    for name, said, principal in _principals(config, tuple(declared_keys(config).values()), list(config.roles)):
        which = principal.team, principal.roles, principal.networks
        timed = isinstance(principal, Key) and principal.expires is not None
        if which in seen and not timed and not snapshot.charges.of_key(principal):
            continue
        known = which in seen
        own_limits = bool(snapshot.charges.of_key(principal))
        seen.add(which)
        users[name] = said
        roles = snapshot.access(principal).roles
        for place, role in enumerate(roles):
            base = _base(principal, role, roles, snapshot, now)
            if base is None:
                continue
            found = [] if known else list(_of_role(role, base, snapshot))
            found += [] if known and not own_limits else list(_of_limits(principal, base, snapshot))
            if place == 0:
                found = [("the plain request", base.given()), *found]
                found += _of_principal(principal, base)
                found += [] if known else list(_of_models(roles, base, snapshot))
            for about, given in found:
                verdict = judge(snapshot, principal, trial_of(given))
                cases.append(Edge(about=about, user=name, given=given, verdict=verdict))
    return Edges(users={name: users[name] for name in users if any(case.user == name for case in cases)}, cases=_once(cases))


def _once(cases: list[Edge]) -> list[Edge]:
    made: dict[tuple[str, str], Edge] = {}
    for case in cases:
        made.setdefault((case.user, repr(sorted(case.given.items()))), case)
    return list(made.values())


def _principals(config: Config, keys: tuple[Key, ...], roles: list[str]) -> Iterator[tuple[str, dict[str, object], Principal]]:
    """Whoever the configuration speaks of: declared keys, teams, and roles that none of them has."""
    held: set[str] = set()
    for key in keys:
        held.update(key.roles, config.teams[key.team].roles if key.team in config.teams else ())
        yield key.name, {"key": key.name}, key
    for team, options in config.teams.items():
        held.update(options.roles)
        yield f"team-{team}", {"team": team}, Principal(id=team, name=team, team=team)
    for role in roles:
        if role not in held:
            yield f"role-{role}", {"roles": [role]}, Principal(id=role, name=role, roles=(role,))


def _base(principal: Principal, role: RoleSpec, roles: tuple[RoleSpec, ...], snapshot: Snapshot, now: float) -> _Base | None:
    """A request that `role` should admit; None: there is no model or endpoint that it could be for."""
    access = snapshot.access(principal)
    models = [name for name in access.known() if first_match(role.models, name) is not None]
    endpoints = [
        name for name in ENDPOINTS if first_match(role.endpoints, name) is not None and access.denies_endpoint(name) is None
    ]
    if not models or not endpoints:
        return None
    denied = [text for one in roles for text in one.deny_networks]
    address = _address(role.networks or principal.networks, denied)
    zone = role.hours[0].zone if role.hours else "UTC"
    at = now if not role.hours or any(window.holds(now) for window in role.hours) else _opening(role.hours, now)
    return _Base(models[0], endpoints[0], address, at, zone)


def _address(networks: tuple[str, ...], denied: list[str]) -> str:
    """An address in one of the networks and in none of the denied ones, if that is easily found."""
    shut = networks_of(tuple(denied))
    candidates = [ANYWHERE, "198.51.100.1", "2001:db8::1"] if not networks else []
    for text in networks:
        network = parse_network(text)
        candidates += [str(network[min(place, network.num_addresses - 1)]) for place in (1, 0)] + [str(network[-1])]
    return next((one for one in candidates if not shut.holds(number_of(one))), candidates[0])


def _opening(hours: tuple[Hours, ...], now: float) -> float:
    """The next moment at which one of the windows is open."""
    return next((at for at in _changes(hours, now) if any(window.holds(at) for window in hours)), now)


def _changes(hours: tuple[Hours, ...], now: float) -> list[float]:
    """When windows open or close in the week to come."""
    start = datetime.fromtimestamp(now, UTC)
    return [at.timestamp() for at in edges(hours, start + timedelta(days=4)) if at > start]


# -- edges; each is (what it is about, the options of its case)

_Found = tuple[str, dict[str, object]]


def _of_role(role: RoleSpec, base: _Base, snapshot: Snapshot) -> Iterator[_Found]:
    yield from _of_hours(role, base)
    for option in ("networks", "deny_networks"):
        for text in getattr(role, option):
            yield from _of_network(f"roles.{role.name}.{option}", text, base)
    if base.endpoint == LISTING:
        return
    for about, rule in _rules(role, base, snapshot):
        yield from _of_parameter(about, rule, base)
    if not role.stream:
        yield f"roles.{role.name}.stream: streamed", base.given(stream=True)
    if role.max_body is not None:
        for size in (role.max_body, role.max_body + 1):
            yield f"roles.{role.name}.max_body: {_beyond(size > role.max_body)}", base.given(body_size=size)
    if role.max_context is not None:
        for prompt in (role.max_context - SHORT, role.max_context - SHORT + 1):
            about = f"roles.{role.name}.max_context: {_beyond(prompt + SHORT > role.max_context)}"
            yield about, base.given(prompt_tokens=max(0, prompt), parameters={"max_tokens": SHORT})


def _beyond(past: bool) -> str:
    return "one past the bound" if past else "at the bound"


def _rules(role: RoleSpec, base: _Base, snapshot: Snapshot) -> Iterator[tuple[str, ParameterRule]]:
    for rule in role.parameters:
        yield f"roles.{role.name}.parameters.{rule.name}", rule
    for rule in snapshot.models[base.model].parameters:
        yield f"models.{base.model}.parameters.{rule.name}", rule


def _of_hours(role: RoleSpec, base: _Base) -> Iterator[_Found]:
    where = f"roles.{role.name}.hours"
    seen: set[str] = set()
    for at in _changes(role.hours, base.at - MINUTE):
        opens = any(window.holds(at) for window in role.hours)
        what = "opens" if opens else "closes"
        if what in seen:
            continue
        seen.add(what)
        for offset, words in ((-MINUTE, "a minute before it"), (0, "as it"), (MINUTE, "a minute after it")):
            yield f"{where}: {words} {what}", base.given(at=written(at + offset, base.zone))
    if role.hours:
        yield from _of_clock(where, base)


def _of_clock(where: str, base: _Base) -> Iterator[_Found]:
    """The next two times that the zone's clock is put forward or back."""
    at = base.at
    for _ in range(2):
        change = next_change(base.zone, at)
        if change is None:
            return
        at, gain = change
        if gain > 0:
            yield f"{where}: a minute before the clock skips an hour", base.given(at=written(at - MINUTE, base.zone))
            yield f"{where}: as the clock has skipped an hour", base.given(at=written(at, base.zone))
        else:
            yield f"{where}: in the hour that comes twice, at first", base.given(at=written(at + gain // 2, base.zone))
            yield f"{where}: in the hour that comes twice, again", base.given(at=written(at - gain // 2, base.zone))


def next_change(zone: str, after: float) -> tuple[float, int] | None:
    """When the clock of `zone` is next put forward (seconds gained) or back (seconds lost, negative), within 400 days."""
    local = zone_of(zone)

    def offset(second: float) -> int:
        found = datetime.fromtimestamp(second, local).utcoffset()
        return 0 if found is None else int(found.total_seconds())

    low = float(int(after) // MINUTE * MINUTE)
    for _ in range(400):
        high = low + 86_400
        if offset(high) != offset(low):
            gain = offset(high) - offset(low)
            before = offset(low)
            while high - low > MINUTE:
                middle = low + (high - low) // 2 // MINUTE * MINUTE
                low, high = (middle, high) if offset(middle) == before else (low, middle)
            return high, gain
        low = high
    return None


def _of_network(where: str, text: str, base: _Base) -> Iterator[_Found]:
    network = parse_network(text)
    first, last = int(network[0]), int(network[-1])
    highest = 2**network.max_prefixlen - 1
    for number, words in ((first - 1, "just below"), (first, "the first of"), (last, "the last of"), (last + 1, "just above")):
        if 0 <= number <= highest:
            address = str(ip_address(number) if network.version == 4 else ip_address(number.to_bytes(16, "big")))
            yield f"{where}: {words} {text}", base.given(address=address)


def _of_parameter(where: str, rule: ParameterRule, base: _Base) -> Iterator[_Found]:
    def case(value: Scalar) -> dict[str, object]:
        return base.given(parameters={rule.name: value})

    if rule.deny:
        yield f"{where}: set, which is denied", case(1)
    for bound, step, name in ((rule.max, 1, "max"), (rule.min, -1, "min")):
        if bound is not None:
            at: Scalar = int(bound) if float(bound).is_integer() else bound
            past: Scalar = at + step if isinstance(at, int) else round(bound + step / 100, 6)
            yield f"{where}.{name}: at the bound", case(at)
            yield f"{where}.{name}: one past the bound", case(past)
    if rule.allowed is not None:
        yield f"{where}.allowed: the first of them", case(_sample(rule.allowed[0]))
        yield f"{where}.allowed: none of them", case(_stranger(rule.allowed))
    bounds_length = rule.name == "max_tokens" and base.endpoint in GENERATING
    if rule.default is not None or (bounds_length and rule.max is not None):
        yield f"{where}: left alone", base.given()


def _of_limits(principal: Principal, base: _Base, snapshot: Snapshot) -> Iterator[_Found]:
    """Each limit with just enough left, just too little, and used up; and what happens when it begins anew."""
    plain = judge(snapshot, principal, trial_of(base.given()))
    if not plain.limits:
        return
    meters = snapshot.charges.tariff(principal, base.model, plain.role, base.address).meters
    for meter, row in zip(meters, plain.limits, strict=True):
        spec, where = meter.spec, row.rule
        if not row.takes:
            continue
        left = row.amount - row.takes
        used = [(left, "just enough is left"), (row.amount, "used up"), (left + 1, "one less than it takes is left")]
        for amount, words in used:
            if 0 <= amount <= row.amount:
                yield f"{where}: {words}", base.given(used={where: in_words(spec, amount)})
        for about, given in _of_reset(meter, row.amount, base):
            plain_then = base.given(at=given["at"])  # at night there may be no edge: the role does not hold
            if judge(snapshot, principal, trial_of(plain_then)).admitted:
                yield f"{where}: {about}", given


def _of_reset(meter: Meter, amount: int, base: _Base) -> Iterator[_Found]:
    """The moments at which a limit begins anew, or is not raised any more. What was used before the first is nothing after it."""
    spec = meter.spec
    if spec.calendar is not None:
        end = float(meter.period_at(base.at)[1])
        full = {spec.name: in_words(spec, amount)}
        yield "used up, a second before it begins anew", base.given(at=written(end - 1, spec.zone), used=full)
        yield "as it has begun anew", base.given(at=written(end, spec.zone))
    if spec.raised is not None and base.at < spec.raised_until:
        usual = {spec.name: in_words(spec, meter.amount)}
        for offset, words in ((-1, "a second before the raise ends"), (0, "as the raise has ended")):
            at = written(spec.raised_until + offset, "UTC")
            yield f"as much as usual is used, {words}", base.given(at=at, used=usual)


def in_words(spec: LimitSpec, amount: int) -> Scalar:
    """An amount of a limit's own measure, as a file of tests has it."""
    scale = SCALES.get(spec.unit, 1)
    return amount // scale if amount % scale == 0 else float(Decimal(amount) / scale)


def _sample(value: Scalar) -> Scalar:
    return value.replace("*", "x") if isinstance(value, str) else value


def _stranger(allowed: tuple[Scalar, ...]) -> Scalar:
    """A value like those allowed, and none of them."""
    numbers = [value for value in allowed if isinstance(value, int | float) and not isinstance(value, bool)]
    return max(numbers) + 1 if numbers else "something-else"


def _of_principal(principal: Principal, base: _Base) -> Iterator[_Found]:
    where = f"keys.{principal.name}"
    if isinstance(principal, Key) and principal.expires is not None:
        for offset, words in ((-1, "a second before it"), (1, "a second after it")):
            yield f"{where}.expires: {words}", base.given(at=written(principal.expires + offset, "UTC"))
    for text in principal.networks:
        yield from _of_network(f"{where}.networks", text, base)


def _of_models(roles: tuple[RoleSpec, ...], base: _Base, snapshot: Snapshot) -> Iterator[_Found]:
    """Models that several patterns mean, that none does, and one that is not there; and an endpoint that is not granted."""
    if base.endpoint == LISTING:
        return
    for name in snapshot.model_names:
        patterns = [f"{role.name}: {pattern}" for role in roles for pattern in role.models if first_match((pattern,), name)]
        if len(patterns) > 1:
            yield f"{name} is meant by several ({', '.join(patterns)})", base.given(model=name)
        elif not patterns:
            yield f"{name} is granted by no role", base.given(model=name)
    yield "a model that is not there", base.given(model=f"{base.model}-x")
    shut = next(
        (one for one in ENDPOINTS if one != LISTING and not any(first_match(role.endpoints, one) for role in roles)), None
    )
    if shut is not None:
        yield f"{shut} is granted by no role", base.given(endpoint=shut)


def written(second: float, zone: str) -> str:
    """A moment as a file of tests has it: by the zone's clock, with the offset where that alone would not tell which."""
    local = datetime.fromtimestamp(second, zone_of(zone))
    shape = "%Y-%m-%d %H:%M:%S" if local.second else "%Y-%m-%d %H:%M"
    plain = local.replace(fold=0).timestamp() == second
    return f"{local:{shape}} {zone}" if plain else local.isoformat(timespec="seconds")


def trial_of(given: Mapping[str, object]) -> Trial:
    """The request that the options of a case stand for."""
    from slmgate.control.trials.wish import parse_when

    known = {name: value for name, value in given.items() if name not in ("at", "parameters")}
    parameters = given.get("parameters", {})
    assert isinstance(parameters, dict)
    return msgspec.convert(known | {"at": parse_when(str(given["at"])), "parameters": plain_parameters(parameters)}, Trial)
