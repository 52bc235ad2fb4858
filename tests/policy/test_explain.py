"""Verdicts told: the walk through the rules comes to what `decide` says, for whatever roles and requests; and its words.

Requests and roles are drawn at random from a seed, so that a failure comes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from slmgate.policy.access import Access, Admit
from slmgate.policy.decide import decide
from slmgate.policy.explain import Explanation, Step, address_text, explain, identity, moment
from slmgate.policy.networks import NOWHERE, number_of
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec, Scalar
from slmgate.policy.specs import ModelSpec
from slmgate.terms import Ask, Key, Principal, Refuse

MONDAY_NOON = 1_763_985_600.0  # 2025-11-24 12:00 UTC
ROUNDS = 5000
MODELS = {
    "m": ModelSpec(name="m", instances=(), parameters=(ParameterRule(name="max_tokens", max=300),)),
    "n": ModelSpec(name="n", instances=()),
    "mini": ModelSpec(name="mini", instances=()),
}
WORKDAY = Hours((0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin")
NIGHT = Hours((0,), 1320, 360, "UTC")


@dataclass
class Request:
    """What rules may ask of a request."""

    peer: str = "203.0.113.9"
    body_size: int = 100
    moment: float = MONDAY_NOON
    parameters: dict[str, list[Scalar]] = field(default_factory=dict)

    @property
    def address(self) -> int:
        return number_of(self.peer)

    def second(self) -> float:
        return self.moment

    def parameter(self, name: str) -> Sequence[Scalar]:
        return self.parameters.get(name, [])


def some_role(draw: Random, name: str) -> RoleSpec:
    def maybe(*values: object) -> object:
        return draw.choice(values)

    changes: dict[str, object] = {
        "models": maybe(("*",), ("m",), ("m*",), ("n", "mini"), ("none",)),
        "deny_models": maybe((), (), (), ("n",), ("mi*",)),
        "endpoints": maybe(("*",), ("*",), ("chat",), ("embeddings", "models")),
        "deny_endpoints": maybe((), (), (), ("chat",), ("models",)),
        "parameters": maybe(
            (),
            (),
            (ParameterRule(name="max_tokens", max=200),),
            (ParameterRule(name="max_tokens", default=50), ParameterRule(name="n", deny=True)),
            (ParameterRule(name="n", max=2, min=1), ParameterRule(name="user", allowed=("a*", True))),
        ),
        "stream": maybe(True, True, False),
        "max_body": maybe(None, None, 100),
        "max_context": maybe(None, None, 150),
        "networks": maybe((), (), ("203.0.113.0/24",), ("10.0.0.0/8", "2001:db8::/32")),
        "deny_networks": maybe((), (), (), ("203.0.113.9/32",)),
        "hours": maybe((), (), (WORKDAY,), (NIGHT, WORKDAY)),
    }
    return RoleSpec(name=name, **changes)  # type: ignore[arg-type]  # each is drawn from values of its field


def some_request(draw: Random) -> tuple[Ask, str, Request]:
    most = draw.choice((None, 10, 200, 201, 301))
    ask = Ask(
        draw.choice(("m", "n", "mini", "none", "")), draw.random() < 0.3, prompt_estimate=draw.choice((0, 140)), max_tokens=most
    )
    given: dict[str, list[Scalar]] = {} if most is None else {"max_tokens": [most]}
    if draw.random() < 0.3:
        given["n"] = [draw.choice((0, 1, 3, True))]
    if draw.random() < 0.2:
        given["user"] = [draw.choice(("abc", "b", True))]
    facts = Request(
        peer=draw.choice(("203.0.113.9", "203.0.113.10", "10.1.1.1", "2001:db8::1", "unix")),
        body_size=draw.choice((100, 101)),
        moment=MONDAY_NOON + draw.choice((0, 12 * 3600, 6 * 86_400)),
        parameters=given,
    )
    return ask, draw.choice(("chat", "embeddings", "models")), facts


def failed(steps: tuple[Step, ...]) -> list[str]:
    return [step.rule for step in steps if not step.passed]


def check(told: Explanation, access: Access, endpoint: str) -> None:
    """What the walk says must be what was decided."""
    verdict = told.verdict
    passed = [walk for walk in told.walks if walk.passed]
    if isinstance(verdict, Admit):
        assert not failed(told.first)
        assert passed[0].role == verdict.role
        assert passed[0].settings == verdict.settings
    elif isinstance(verdict, Refuse):
        assert failed(told.first) or not passed
        rules = failed(told.first) + [rule for walk in told.walks for rule in failed(walk.steps)]
        if verdict.rule not in ("", "roles"):
            assert verdict.rule in rules
        if not access.roles:
            assert verdict.rule == "roles"
        elif verdict.rule == "":
            ungranted = all(f"roles.{walk.role}.models" in failed(walk.steps) for walk in told.walks)
            assert verdict.code == "model_not_found" and ("models" in failed(told.first) or ungranted)
    else:
        assert endpoint == "models" and passed
        assert set(verdict) == {name for walk in told.walks for name in walk.shows}


def test_the_walk_comes_to_the_verdict() -> None:
    draw = Random(20)
    kinds: set[str] = set()
    for _ in range(ROUNDS):
        access = Access([some_role(draw, f"r{place}") for place in range(draw.randrange(4))], MODELS)
        ask, endpoint, facts = some_request(draw)
        told = explain(access, ask, endpoint, facts)
        if endpoint != "models":
            assert told.verdict == decide(access, ask, endpoint, facts)
        else:
            assert told.verdict == access.listing(ask, facts)
        check(told, access, endpoint)
        kinds.add(told.verdict.code if isinstance(told.verdict, Refuse) else type(told.verdict).__name__)
    assert kinds == {
        "Admit",
        "tuple",
        "model_not_found",
        "permission_denied",
        "parameter_not_allowed",
        "request_too_large",
    }


def words(*roles: RoleSpec, ask: Ask | None = None, facts: Request | None = None, endpoint: str = "chat") -> list[str]:
    told = explain(Access(roles, MODELS), ask or Ask("m"), endpoint, facts or Request())
    steps = [*told.first, *(step for walk in told.walks for step in walk.steps)]
    return [f"{'ok' if step.passed else 'NO'} {step.rule}: {step.wants}; {step.had}" for step in steps]


def test_what_the_request_had() -> None:
    role = RoleSpec(
        name="r",
        models=("m", "x*"),
        parameters=(ParameterRule(name="n", max=1), ParameterRule(name="stop", allowed=(1.5, "a*"))),
        stream=False,
        max_body=99,
        max_context=100,
        networks=("10.0.0.0/8",),
        deny_networks=("203.0.113.0/24",),
        hours=(WORKDAY,),
    )
    facts = Request(parameters={"n": [float("inf"), True], "stop": ["b", 2]})
    told = words(role, ask=Ask("m", True, prompt_estimate=90, max_tokens=11), facts=facts)
    assert told == [
        "ok models: a model that exists; m",
        "NO roles.r.deny_networks: not from 203.0.113.0/24; 203.0.113.9",
        "ok roles.r.models: m, x*; m",
        "ok roles.r.endpoints: *; chat",
        "NO roles.r.networks: from 10.0.0.0/8; 203.0.113.9",
        "ok roles.r.hours: at Mon-Fri 08:00-18:00 Europe/Berlin; Mon 2025-11-24 13:00:00 Europe/Berlin",
        "NO roles.r.stream: not streamed; streamed",
        "NO roles.r.max_body: a body of at most 99 bytes; 100 bytes",
        "NO roles.r.max_context: a context of at most 100 tokens; a prompt of about 90, max_tokens 11",
        "NO roles.r.parameters.n.max: n at most 1; as many as there are, true",
        "NO roles.r.parameters.stop.allowed: stop one of 1.5, a*; b, 2",
        "ok models.m.parameters.max_tokens.max: max_tokens at most 300; not set",
    ]


def test_what_it_did_not_have() -> None:
    role = RoleSpec(name="r", max_context=100, stream=False, networks=("10.0.0.0/8",))
    told = words(role, facts=Request(peer="unix"))
    assert "NO roles.r.networks: from 10.0.0.0/8; no address" in told
    assert "ok roles.r.stream: not streamed; not streamed" in told
    assert any(line.endswith("a prompt of about 0, no max_tokens") for line in told)
    assert words(role, ask=Ask("")) == ["NO models: a model that exists; no model named"]
    assert words(RoleSpec(name="r", models=("n",)), ask=Ask(""))[0] == "ok models: a model that exists; n"


def test_denials_come_first_and_a_list_of_models_has_its_own() -> None:
    role = RoleSpec(name="r", models=("m*",), deny_models=("n",), deny_endpoints=("models", "chat"))
    assert words(role, ask=Ask("n")) == [
        "ok models: a model that exists; n",
        "NO roles.r.deny_models: not n; n",
        "NO roles.r.deny_endpoints: not models, chat; chat",
        "NO roles.r.models: m*; n",
    ]
    listed = RoleSpec(name="l", deny_networks=("10.0.0.0/8",))
    assert words(role, listed, ask=Ask(""), endpoint="models") == [
        "NO roles.r.deny_endpoints: not models, chat; models",
        "ok roles.l.deny_networks: not from 10.0.0.0/8; 203.0.113.9",
        "ok roles.r.endpoints: *; models",
        "ok roles.l.endpoints: *; models",
    ]


BOT = Key(id="k", name="bot", expires=MONDAY_NOON, networks=("203.0.113.0/24",))


@pytest.mark.parametrize(
    ("who", "facts", "steps", "rule"),
    [
        (Principal(id="p", name="p"), Request(), [], None),
        (BOT, Request(moment=MONDAY_NOON - 1), [True, True], None),
        (BOT, Request(), [False, True], "keys.bot.expires"),
        (BOT, Request(moment=MONDAY_NOON - 1, peer="10.0.0.1"), [True, False], "keys.bot.networks"),
        (BOT, Request(peer="10.0.0.1"), [False, False], "keys.bot.expires"),
        (Key(id="k", name="bot", disabled=True, expires=1.0), Request(), [False, False], "keys.bot.disabled"),
        (Principal(id="t", name="t", kind="token", networks=("2001:db8::/32",)), Request(), [False], "tokens.t.networks"),
    ],
)
def test_who_it_is(who: Principal, facts: Request, steps: list[bool], rule: str | None) -> None:
    found, refused = identity(who, facts)
    assert [step.passed for step in found] == steps
    assert (refused.rule if refused else None) == rule


def test_addresses_and_moments() -> None:
    assert address_text(NOWHERE) == "no address"
    assert [address_text(number_of(text)) for text in ("192.0.2.1", "2001:db8::1")] == ["192.0.2.1", "2001:db8::1"]
    assert moment(MONDAY_NOON) == "Mon 2025-11-24 12:00:00 UTC"
