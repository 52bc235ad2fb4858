"""`decide` against a slow reading of the written rule: random policies and requests, same verdict, role and settings.

The reference below is written from the rule in docs/policies.md, with wildcards, networks and hours read in the plainest way
that there is; it shares nothing with `src` but the records. Here some thousand policies are drawn, and 100,000 in
`tests/system/test_many_policies.py`; the seed is printed, and `SLMGATE_SEED` sets it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import inf
from zoneinfo import ZoneInfo

from slmgate.policy.access import Access, Admit
from slmgate.policy.decide import decide
from slmgate.policy.networks import number_of
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec, Scalar
from slmgate.policy.specs import ModelSpec
from slmgate.terms import Ask, Refuse

POLICIES = 3_000
REQUESTS = 2
"""Of each policy, so that what is kept of the first one is asked again."""


@dataclass
class Request:
    """One request, in the terms of the rule."""

    ask: Ask
    endpoint: str
    peer: str
    clock: float
    body_size: int
    parameters: dict[str, list[Scalar]] = field(default_factory=dict)

    @property
    def address(self) -> int:
        return number_of(self.peer)

    def second(self) -> float:
        return self.clock

    def parameter(self, name: str) -> Sequence[Scalar]:
        return self.parameters.get(name, [])


# --- the reference -------------------------------------------------------------------------------------------------------


def fits(pattern: str, name: str) -> bool:
    """`*` is any text: so some cut of the name must fit what comes before it and what comes after."""
    star = pattern.find("*")
    if star < 0:
        return pattern == name
    head, tail = pattern[:star], pattern[star + 1 :]
    return name[: len(head)] == head and any(fits(tail, name[cut:]) for cut in range(len(head), len(name) + 1))


def any_fits(patterns: Sequence[str], name: str) -> bool:
    return any(fits(pattern, name) for pattern in patterns)


def inside(peer: str, networks: Sequence[str]) -> bool:
    """An IPv4 address is also the IPv6 address `::ffff:a.b.c.d`, and the other way round."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    forms: list[IPv4Address | IPv6Address] = [address]
    if isinstance(address, IPv4Address):
        forms.append(IPv6Address(f"::ffff:{address}"))
    elif address.ipv4_mapped is not None:
        forms.append(address.ipv4_mapped)
    return any(form in ip_network(network) for network in networks for form in forms)


def open_at(second: float, hours: Sequence[Hours]) -> bool:
    """Write down, for yesterday and today of the zone's wall clock, the minutes of each window; look for this one."""
    for window in hours:
        wall = datetime.fromtimestamp(second, ZoneInfo(window.zone)).replace(tzinfo=None)
        this = wall.replace(second=0, microsecond=0)
        for back in (0, 1):
            midnight = datetime(wall.year, wall.month, wall.day) - timedelta(days=back)  # noqa: DTZ001 -- a wall clock's time
            if midnight.weekday() in window.days:
                length = window.end - window.start if window.end > window.start else window.end + 1440 - window.start
                if any(midnight + timedelta(minutes=window.start + minute) == this for minute in range(length)):
                    return True
    return False


def as_number(value: Scalar) -> float | None:
    """None: no number. Texts are numbers where an engine would read them so."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value


def keeps(rule: ParameterRule, given: Sequence[Scalar]) -> bool:
    """Whether all values that a request gives to a parameter are within one rule."""
    for value in given:
        if rule.deny:
            if value is not False and value != "":
                return False
            continue
        number = as_number(value)
        if number is not None and rule.max is not None and number > rule.max:
            return False
        if number is not None and rule.min is not None and number < rule.min:
            return False
        if rule.allowed is not None:
            same = [one for one in rule.allowed if type_of(one) == type_of(value)]
            if not any(fits(str(one), str(value)) if isinstance(one, str) else one == value for one in same):
                return False
    return True


def type_of(value: Scalar) -> str:
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def left_alone(rules: Sequence[ParameterRule], endpoint: str) -> dict[str, Scalar]:
    """What each parameter becomes that a request leaves alone: the first default, or a length's bound; never above a maximum."""
    becomes: dict[str, Scalar] = {}
    for name in dict.fromkeys(rule.name for rule in rules):
        mine = [rule for rule in rules if rule.name == name]
        found: Scalar | None = None
        for rule in mine:
            if found is None and rule.default is not None:
                found = rule.default
            elif found is None and name == "max_tokens" and (most := largest(rule)) is not None:
                found = int(most)
        if found is not None and type_of(found) == "number":
            for rule in mine:
                if rule.max is not None and float(found) > rule.max:
                    found = int(rule.max) if isinstance(found, int) else rule.max
        if found is not None and not (name == "max_tokens" and endpoint not in ("chat", "completions", "responses", "infill")):
            becomes[name] = found
    return becomes


def largest(rule: ParameterRule) -> float | None:
    if rule.max is not None:
        return rule.max
    numbers = [float(one) for one in rule.allowed or () if type_of(one) == "number"]
    return max(numbers) if numbers else None


Answer = tuple[str, str, dict[str, Scalar]]
"""Code (`admit` for yes), the role that admitted, what it set."""


def reference(roles: Sequence[RoleSpec], models: dict[str, ModelSpec], request: Request) -> Answer:
    """The written rule, sentence by sentence."""
    ask = request.ask
    if not roles:
        return "permission_denied", "", {}

    def known(model: str) -> bool:
        granted = any(any_fits(role.models, model) for role in roles)
        return granted and not any(any_fits(role.deny_models, model) for role in roles)

    name = ask.model
    if not name:  # it means the only model that the caller may know of
        candidates = [model for model in models if known(model)]
        if len(candidates) != 1:
            return "model_not_found", "", {}
        name = candidates[0]
    if name not in models or not known(name):  # unknown and hidden are one
        return "model_not_found", "", {}
    # what any role denies is denied
    if any(any_fits(role.deny_endpoints, request.endpoint) for role in roles):
        return "permission_denied", "", {}
    granting = [role for role in roles if any_fits(role.models, name) and any_fits(role.endpoints, request.endpoint)]
    if not granting:
        return "permission_denied", "", {}
    if any(inside(request.peer, role.deny_networks) for role in roles):
        return "permission_denied", "", {}
    # each role is one whole grant; of the refusals, the one that came furthest is told
    refusals: list[tuple[int, int, str]] = []
    for order, role in enumerate(granting):
        rules = [*role.parameters, *models[name].parameters]
        becomes = left_alone(rules, request.endpoint)
        generates = request.endpoint in ("chat", "completions", "responses", "infill")
        # a length left alone needs room for one token; one that is given counts by whatever name
        least = ask.max_tokens if ask.max_tokens is not None else 1 if generates else 0
        numbers = [as_number(value) for value in request.parameters.get("max_tokens", [])]
        length = max(least, *(number for number in numbers if number is not None), least)
        if role.max_context is not None and generates:  # and gets no more than the prompt leaves
            left, fill = role.max_context - ask.prompt_estimate, becomes.get("max_tokens")
            becomes["max_tokens"] = left if fill is None or isinstance(fill, str) or fill > left else fill
        if (role.networks and not inside(request.peer, role.networks)) or (role.hours and not open_at(request.clock, role.hours)):
            refusals.append((1, order, "permission_denied"))
        elif not role.stream and ask.stream:
            refusals.append((2, order, "parameter_not_allowed"))
        elif (role.max_body is not None and request.body_size > role.max_body) or (
            role.max_context is not None and ask.prompt_estimate + length > role.max_context
        ):
            refusals.append((2, order, "request_too_large"))
        elif not all(keeps(rule, request.parameters.get(rule.name, [])) for rule in rules):
            refusals.append((3, order, "parameter_not_allowed"))
        else:
            return "admit", role.name, settings(rules, becomes, request, generates and role.max_context is not None)
    furthest = max(stage for stage, _, _ in refusals)
    return next(code for stage, _, code in refusals if stage == furthest), "", {}


def settings(rules: Sequence[ParameterRule], becomes: dict[str, Scalar], request: Request, context: bool) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    bounded = context or (
        request.endpoint in ("chat", "completions", "responses", "infill")
        and any(rule.name == "max_tokens" and largest(rule) is not None for rule in rules)
    )
    for name, value in becomes.items():
        given = request.parameters.get(name, [])
        if name != "max_tokens":
            if not given:
                found[name] = value
        elif request.ask.max_tokens is not None:  # only a bound is repeated under the name that every engine knows
            if bounded:
                found[name] = request.ask.max_tokens
            elif not given:
                found[name] = value
        elif inf not in given:
            found[name] = value
    return found


# --- random policies and requests ----------------------------------------------------------------------------------------

NAMES = ("m", "mm", "m-1", "n", "n-1", "x.y")
PATTERNS = (*NAMES, "*", "m*", "*-1", "n*1", "*m*", "z*", "M")
ENDPOINTS = ("chat", "completions", "embeddings", "rerank")
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::/32", "::ffff:10.0.0.0/104", "192.0.2.0/31")
PEERS = ("10.1.2.3", "10.1.2.4", "10.255.0.1", "11.0.0.0", "192.0.2.1", "192.0.2.2", "::1", "2001:db8::9", "::ffff:10.9.9.9", "")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
PARAMETERS = ("max_tokens", "n", "tools", "image_url", "temperature")
VALUES: tuple[Scalar, ...] = (0, 1, 2, 64, 512, 513, 0.5, 1.5, True, False, "", "a", "data:x", "3", "1e3", inf)
ALLOWED: tuple[Scalar, ...] = (0, 1, 64, 0.5, True, False, "a", "data:*", "*", "3")


class Maker:
    """Draws policies and requests. Small alphabets, so that rules and requests meet."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def some(self, things: Sequence[str], likely: float, most: int = 3) -> tuple[str, ...]:
        if self.chance.random() > likely:
            return ()
        return tuple(self.chance.sample(things, self.chance.randint(1, most)))

    def maybe(self, likely: float, *things: int) -> int | None:
        return self.chance.choice(things) if self.chance.random() < likely else None

    def hours(self) -> Hours:
        start, end = self.chance.sample((0, 1, 60, 90, 120, 150, 180, 480, 720, 1080, 1439, 1440), 2)
        days = tuple(sorted(self.chance.sample(range(7), self.chance.randint(1, 7))))
        return Hours(days, start % 1440, end, self.chance.choice(ZONES)) if start % 1440 != end else Hours(days, 0, 1440)

    def rule(self) -> ParameterRule:
        chance = self.chance
        if chance.random() < 0.2:
            return ParameterRule(name=chance.choice(PARAMETERS), deny=True)
        return ParameterRule(
            name=chance.choice(PARAMETERS),
            min=self.maybe(0.15, 0, 1),
            max=self.maybe(0.5, 0, 1, 64, 512),
            default=chance.choice((0, 1, 64, 700, 0.5, "a", True)) if chance.random() < 0.3 else None,
            allowed=tuple(chance.sample(ALLOWED, chance.randint(1, 4))) if chance.random() < 0.25 else None,
        )

    def rules(self, likely: float) -> tuple[ParameterRule, ...]:
        found = [self.rule() for _ in range(self.chance.randint(1, 3))] if self.chance.random() < likely else []
        return tuple({rule.name: rule for rule in found}.values())

    def role(self, name: str) -> RoleSpec:
        return RoleSpec(
            name=name,
            models=("*",) if self.chance.random() < 0.5 else self.some(PATTERNS, 1),
            deny_models=self.some(PATTERNS, 0.08, 1),
            endpoints=("*",) if self.chance.random() < 0.6 else self.some(ENDPOINTS, 1),
            deny_endpoints=self.some(ENDPOINTS, 0.06, 1),
            parameters=self.rules(0.5),
            stream=self.chance.random() < 0.85,
            max_body=self.maybe(0.15, 1, 99, 100, 1000),
            max_context=self.maybe(0.15, 10, 74, 522, 100_000),
            networks=self.some(NETWORKS, 0.25, 2),
            deny_networks=self.some(NETWORKS, 0.06, 1),
            hours=tuple(self.hours() for _ in range(self.chance.randint(1, 2))) if self.chance.random() < 0.25 else (),
        )

    def policy(self) -> tuple[list[RoleSpec], dict[str, ModelSpec]]:
        roles = [self.role(name) for name in "abcd"[: self.chance.choice((0, 1, 1, 2, 2, 3, 4))]]
        models = [ModelSpec(name=name, instances=(), parameters=self.rules(0.2)) for name in self.some(NAMES, 1, 4)]
        return roles, {model.name: model for model in models}

    def request(self, models: Sequence[str]) -> Request:
        chance = self.chance
        model = chance.choice((*models, *models, *models, *NAMES[:2], "", "gone"))
        given = {name: [chance.choice(VALUES) for _ in range(chance.randint(1, 2))] for name in self.some(PARAMETERS, 0.6)}
        # As dialects read it: the largest whole number under a name of theirs, or none under a name of another API.
        lengths = [value for value in given.get("max_tokens", []) if type(value) is int]
        length = max(lengths) if lengths and chance.random() < 0.8 else None
        transition = chance.choice(
            ("2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-10-03T15:30", "2026-06-01T00:00")
        )
        moment = datetime.fromisoformat(transition).replace(tzinfo=UTC).timestamp()
        near = chance.choice((-1, 0, 1, 1800, -1800, 3600, -3600, chance.randint(-604_800, 604_800)))
        return Request(
            Ask(model, chance.random() < 0.3, False, chance.choice((0, 9, 10, 11)), length),
            chance.choice(ENDPOINTS),
            chance.choice(PEERS),
            moment + near,
            chance.choice((0, 1, 2, 99, 100, 101)),
            given,
        )


def found(access: Access, request: Request) -> Answer:
    verdict = decide(access, request.ask, request.endpoint, request)
    if isinstance(verdict, Refuse):
        return verdict.code, "", {}
    assert isinstance(verdict, Admit)
    return "admit", verdict.role, dict(verdict.settings)


def typed(answer: Answer) -> tuple[str, str, list[tuple[str, str, Scalar]]]:
    """With the types of what is set, since 1 and True are equal."""
    return answer[0], answer[1], sorted((name, type(value).__name__, value) for name, value in answer[2].items())


def compare(policies: int) -> None:
    """Draw so many policies, and hold every verdict against the reference's."""
    seed = int(os.environ.get("SLMGATE_SEED") or random.randrange(2**32))
    print(f"seed {seed}, {policies} policies of {REQUESTS} requests")
    maker = Maker(seed)
    told: Counter[str] = Counter()
    for number in range(policies):
        roles, models = maker.policy()
        access = Access(roles, models)
        for _ in range(REQUESTS):
            request = maker.request(tuple(models))
            expected, got = reference(roles, models, request), found(access, request)
            assert typed(got) == typed(expected), f"seed {seed}, policy {number}: {request}\n{roles}\n{models}"
            told[expected[0]] += 1
            told["with settings"] += bool(expected[2])
    print(dict(told))
    kinds = ("admit", "permission_denied", "model_not_found", "parameter_not_allowed", "request_too_large", "with settings")
    assert all(told[kind] > policies / 100 for kind in kinds), f"void: {told}"


def test_same_verdicts() -> None:
    compare(POLICIES)


def test_the_reference_itself() -> None:
    """The one case that each sentence of the rule is about, so that the reference is not only as wrong as the code."""
    models = {"m": ModelSpec(name="m", instances=()), "n": ModelSpec(name="n", instances=())}
    request = Request(Ask("m"), "chat", "10.0.0.1", 0.0, 0)
    every, denier = RoleSpec(name="every"), RoleSpec(name="denier", models=("n",), deny_networks=("10.0.0.0/8",))
    assert reference([], models, request)[0] == "permission_denied"
    assert reference([every], models, request) == ("admit", "every", {})
    assert reference([every, denier], models, request)[0] == "permission_denied"
    assert reference([RoleSpec(name="r", models=("n",))], models, request)[0] == "model_not_found"
    half, other = RoleSpec(name="half", networks=("11.0.0.0/8",)), RoleSpec(name="other", stream=False)
    assert reference([half, other], models, request) == ("admit", "other", {})
    streamed = Request(Ask("m", True), "chat", "10.0.0.1", 0.0, 0)
    assert reference([half, other], models, streamed)[0] == "parameter_not_allowed"
