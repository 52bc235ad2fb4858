"""Question 2: what roles, and a request, come to.

The rules are told by small tables; `test_reference.py` holds the whole against a slow reading of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from slmgate.policy.access import Access, Admit
from slmgate.policy.decide import decide
from slmgate.policy.networks import number_of
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec, Scalar, TeamSpec
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.specs import ModelSpec, SnapshotSpec
from slmgate.terms import Ask, Key, Refuse

M, N = ModelSpec(name="m", instances=()), ModelSpec(name="n", instances=())
MONDAY_NOON = 1_763_985_600.0  # 2025-11-24 12:00 UTC


@dataclass
class Request:
    """What rules may ask of a request."""

    peer: str = "203.0.113.9"
    body_size: int = 100
    time: float = MONDAY_NOON
    parameters: dict[str, list[Scalar]] = field(default_factory=dict)

    @property
    def address(self) -> int:
        return number_of(self.peer)

    def second(self) -> float:
        return self.time

    def parameter(self, name: str) -> Sequence[Scalar]:
        return self.parameters.get(name, [])


def verdict(
    ask: Ask, *roles: RoleSpec, endpoint: str = "chat", facts: Request | None = None, models: tuple[ModelSpec, ...] = (M, N)
) -> Admit | Refuse:
    access = Access(roles, {model.name: model for model in models})
    return decide(access, ask, endpoint, facts or Request())


def told(found: Admit | Refuse) -> str:
    """A verdict in one word, with its rule."""
    return f"{found.role if isinstance(found, Admit) else found.code} {found.rule}"


ALL = RoleSpec(name="all")


@pytest.mark.parametrize(("asked", "models", "chosen"), [("m", (M,), M), ("n", (M, N), N), ("", (M,), M)])
def test_there(asked: str, models: tuple[ModelSpec, ...], chosen: ModelSpec) -> None:
    found = verdict(Ask(asked), ALL, models=models)
    assert isinstance(found, Admit)
    assert found.model is chosen


@pytest.mark.parametrize("asked", ["x", "M", "m ", "m/", "m.", "\N{FULLWIDTH LATIN SMALL LETTER M}"])
def test_not_there(asked: str) -> None:
    refused = verdict(Ask(asked), ALL)
    assert refused == Refuse("model_not_found", f"The model '{asked}' does not exist or you may not use it.", "model")


@pytest.mark.parametrize("models", [(), (M, N)], ids=["none", "several"])
def test_unnamed_where_there_is_not_one(models: tuple[ModelSpec, ...]) -> None:
    refused = verdict(Ask(""), ALL, models=models)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.param) == ("model_not_found", "model")


def test_unnamed_means_the_only_one_that_may_be_known() -> None:
    found = verdict(Ask(""), RoleSpec(name="r", models=("n",)))
    assert isinstance(found, Admit)
    assert found.model is N


def test_a_model_not_granted_is_refused_in_the_words_of_one_that_is_not_there() -> None:
    hidden, absent = verdict(Ask("n"), RoleSpec(name="r", models=("m",))), verdict(Ask("n"), ALL, models=(M,))
    assert isinstance(hidden, Refuse)
    assert hidden == absent


R = RoleSpec(name="r")


def role(name: str = "r", **changes: object) -> RoleSpec:
    return RoleSpec(name=name, **changes)  # type: ignore[arg-type]  # a table's rows name what they change


WORKDAY = Hours((0, 1, 2, 3, 4), 480, 1080, "UTC")
RULES = [
    ((), "permission_denied roles"),
    ((role(models=("m*",)),), "r roles.r"),
    ((role(models=("*x",)),), "model_not_found "),
    ((role(deny_models=("m",)),), "model_not_found roles.r.deny_models"),
    ((role("a"), role("b", models=("zzz",), deny_models=("*",))), "model_not_found roles.b.deny_models"),
    ((role(endpoints=("embeddings",)),), "permission_denied roles.r.endpoints"),
    ((role("a", endpoints=("embeddings",)), role("b")), "b roles.b"),
    ((role("a"), role("b", deny_endpoints=("chat",))), "permission_denied roles.b.deny_endpoints"),
    ((role("a", models=("n",)), role("b", endpoints=("embeddings",))), "permission_denied roles.b.endpoints"),
    ((role(networks=("203.0.113.0/24",)),), "r roles.r"),
    ((role(networks=("198.51.100.0/24",)),), "permission_denied roles.r.networks"),
    ((role(deny_networks=("203.0.113.9/32",)),), "permission_denied roles.r.deny_networks"),
    ((role("a"), role("b", models=("n",), deny_networks=("203.0.113.0/24",))), "permission_denied roles.b.deny_networks"),
    ((role(hours=(WORKDAY,)),), "r roles.r"),
    ((role(hours=(Hours((5, 6), 0, 1440),)),), "permission_denied roles.r.hours"),
    ((role("a", hours=(Hours((6,), 0, 60),)), role("b", networks=("10.0.0.0/8",)), role("c")), "c roles.c"),
    ((role(max_body=99),), "request_too_large roles.r.max_body"),
    ((role(max_body=100),), "r roles.r"),
    ((role(max_context=109),), "request_too_large roles.r.max_context"),
    ((role(max_context=110),), "r roles.r"),
    ((role("a", max_body=1), role("b", networks=("10.0.0.0/8",))), "request_too_large roles.a.max_body"),
]


@pytest.mark.parametrize(("roles", "expected"), RULES, ids=[str(number) for number in range(len(RULES))])
def test_rules(roles: tuple[RoleSpec, ...], expected: str) -> None:
    assert told(verdict(Ask("m", prompt_estimate=10, max_tokens=100), *roles)) == expected


@pytest.mark.parametrize(("stream", "expected"), [(False, "r roles.r"), (True, "parameter_not_allowed roles.r.stream")])
def test_stream(stream: bool, expected: str) -> None:
    assert told(verdict(Ask("m", stream), role(stream=False))) == expected


BOUNDS = [
    (ParameterRule(name="n", max=2), [2], ""),
    (ParameterRule(name="n", max=2), [3], "max"),
    (ParameterRule(name="n", max=2), [1, 3], "max"),
    (ParameterRule(name="n", max=2), [], ""),
    (ParameterRule(name="n", max=2), ["many", True], ""),
    (ParameterRule(name="n", max=2), [float("inf")], "max"),
    (ParameterRule(name="n", min=2), [1], "min"),
    (ParameterRule(name="n", min=2), [2, "x"], ""),
    (ParameterRule(name="n", deny=True), [1], "-"),
    (ParameterRule(name="n", deny=True), [False, ""], ""),
    (ParameterRule(name="n", deny=True), [0], "-"),  # `logprobs: 0` gives some, `keep_alive: 0` unloads
    (ParameterRule(name="n", max=2), ["3"], "max"),  # engines read numbers in texts
    (ParameterRule(name="n", max=2), [" 3.0 "], "max"),
    (ParameterRule(name="n", max=2), ["nan"], "max"),
    (ParameterRule(name="n", max=2), ["2"], ""),
    (ParameterRule(name="n", min=2), ["1"], "min"),
    (ParameterRule(name="n", min=2), ["nan"], "min"),
    (ParameterRule(name="n", allowed=(1, "a*", True)), [1, "abc", True], ""),
    (ParameterRule(name="n", allowed=(1, "a*")), ["b"], "allowed"),
    (ParameterRule(name="n", allowed=(1,)), [True], "allowed"),
    (ParameterRule(name="n", allowed=(True, "x")), [1], "allowed"),
]


@pytest.mark.parametrize(("rule", "given", "broken"), BOUNDS)
@pytest.mark.parametrize("where", ["role", "model"])
def test_parameters(rule: ParameterRule, given: list[Scalar], broken: str, where: str) -> None:
    of_role, of_model = ((rule,), ()) if where == "role" else ((), (rule,))
    models = (ModelSpec(name="m", instances=(), parameters=of_model),)
    found = verdict(Ask("m"), role(parameters=of_role), models=models, facts=Request(parameters={"n": given}))
    if not broken:
        assert told(found) == "r roles.r"
        return
    prefix = "roles.r" if where == "role" else "models.m"
    assert told(found) == f"parameter_not_allowed {prefix}.parameters.n" + (f".{broken}" if broken != "-" else "")
    assert isinstance(found, Refuse)
    assert found.param == "n"
    assert "roles" not in found.message


LENGTHS = [
    (ParameterRule(name="max_tokens", max=512), None, None, {"max_tokens": 512}),
    (ParameterRule(name="max_tokens", max=512, default=64), None, None, {"max_tokens": 64}),
    (ParameterRule(name="max_tokens", default=64), None, None, {"max_tokens": 64}),
    (ParameterRule(name="max_tokens", default=64), 9, None, {}),
    (ParameterRule(name="max_tokens", max=512), 9, None, {"max_tokens": 9}),
    (ParameterRule(name="max_tokens", max=512), None, ParameterRule(name="max_tokens", max=100), {"max_tokens": 100}),
    (ParameterRule(name="max_tokens", default=300), None, ParameterRule(name="max_tokens", max=100), {"max_tokens": 100}),
    (ParameterRule(name="max_tokens", allowed=(64, 128, "x")), None, None, {"max_tokens": 128}),
    (ParameterRule(name="max_tokens", allowed=(64, 128)), 64, None, {"max_tokens": 64}),
    (ParameterRule(name="max_tokens", allowed=("x",)), None, None, {}),
    (ParameterRule(name="temperature", default=0.7), None, None, {"temperature": 0.7}),
    (ParameterRule(name="temperature", default=2.5, max=1.5), None, None, {"temperature": 1.5}),
    (ParameterRule(name="seed", default="x"), None, None, {"seed": "x"}),
]


@pytest.mark.parametrize(("rule", "asked", "of_model", "settings"), LENGTHS)
def test_what_is_left_alone_is_set(
    rule: ParameterRule, asked: int | None, of_model: ParameterRule | None, settings: dict[str, Scalar]
) -> None:
    models = (ModelSpec(name="m", instances=(), parameters=() if of_model is None else (of_model,)),)
    facts = Request(parameters={} if asked is None else {"max_tokens": [asked]})
    found = verdict(Ask("m", max_tokens=asked), role(parameters=(rule,)), models=models, facts=facts)
    assert isinstance(found, Admit)
    assert dict(found.settings) == settings
    assert found.rule == "roles.r"


def test_a_length_under_a_name_of_another_api_does_not_keep_the_bound_away() -> None:
    for rule, settings in [
        (ParameterRule(name="max_tokens", max=512), {"max_tokens": 512}),
        (ParameterRule(name="max_tokens", default=64), {"max_tokens": 64}),
    ]:
        found = verdict(Ask("m"), role(parameters=(rule,)), facts=Request(parameters={"max_tokens": [1]}))
        assert isinstance(found, Admit)
        assert dict(found.settings) == settings


def test_a_length_without_bound_is_left_where_nothing_bounds_it() -> None:
    rule = ParameterRule(name="max_tokens", default=64)
    found = verdict(Ask("m"), role(parameters=(rule,)), facts=Request(parameters={"max_tokens": [float("inf")]}))
    assert isinstance(found, Admit)
    assert found.settings == ()


def test_nothing_is_generated_by_embeddings() -> None:
    rule = ParameterRule(name="max_tokens", max=512)
    found = verdict(Ask("m"), role(parameters=(rule,)), endpoint="embeddings")
    assert isinstance(found, Admit)
    assert found.settings == ()


@pytest.mark.parametrize(
    ("rules", "prompt", "settings"),
    [
        ((), 10, {"max_tokens": 90}),
        ((), 99, {"max_tokens": 1}),
        ((ParameterRule(name="max_tokens", max=90),), 10, {"max_tokens": 90}),
        ((ParameterRule(name="max_tokens", max=512),), 10, {"max_tokens": 90}),
        ((ParameterRule(name="max_tokens", default=64),), 10, {"max_tokens": 64}),
        ((ParameterRule(name="max_tokens", default="many"),), 10, {"max_tokens": 90}),
    ],
)
def test_an_answer_left_alone_gets_what_the_prompt_leaves_of_the_context(
    rules: tuple[ParameterRule, ...], prompt: int, settings: dict[str, Scalar]
) -> None:
    """Without a bound an engine writes until its own context is full, whatever the role says."""
    found = verdict(Ask("m", prompt_estimate=prompt), role(parameters=rules, max_context=100))
    assert isinstance(found, Admit)
    assert dict(found.settings) == settings


def test_a_context_bounds_the_answer_under_the_name_that_every_engine_knows() -> None:
    facts = Request(parameters={"max_tokens": [7]})
    for own, settings in ((7, {"max_tokens": 7}), (None, {"max_tokens": 90})):  # None: under a name of another API
        found = verdict(Ask("m", prompt_estimate=10, max_tokens=own), role(max_context=100), facts=facts)
        assert isinstance(found, Admit)
        assert dict(found.settings) == settings
    nothing = verdict(Ask("m", prompt_estimate=100), role(max_context=100), endpoint="embeddings")
    assert isinstance(nothing, Admit)
    assert nothing.settings == ()


def test_priority_and_weight_are_the_admitting_roles() -> None:
    found = verdict(Ask("m"), role("a", networks=("10.0.0.0/8",), priority=9), role("b", priority=3, weight=7))
    assert isinstance(found, Admit)
    assert (found.role, found.priority, found.weight) == ("b", 3, 7)


def test_listing() -> None:
    def names(*roles: RoleSpec, facts: Request | None = None) -> tuple[str, ...] | Refuse:
        return Access(roles, {"m": M, "n": N}).listing(Ask(""), facts or Request())

    assert names(ALL) == ("m", "n")
    assert names(role(models=("n",))) == ("n",)
    assert names(ALL, role("b", deny_models=("n",))) == ("m",)
    assert names(role("a", models=("m",)), role("b", models=("n",), networks=("10.0.0.0/8",))) == ("m",)
    for roles, rule in [
        ((), "roles"),
        ((role(endpoints=("chat",)),), "roles.r.endpoints"),
        ((ALL, role("b", deny_endpoints=("*",))), "roles.b.deny_endpoints"),
        ((role(hours=(Hours((6,), 0, 60),)),), "roles.r.hours"),
        ((ALL, role("b", deny_networks=("203.0.113.0/24",))), "roles.b.deny_networks"),
    ]:
        refused = names(*roles)
        assert isinstance(refused, Refuse)
        assert (refused.code, refused.rule) == ("permission_denied", rule)


def test_a_row_that_is_known_is_not_worked_out_again() -> None:
    access = Access([ALL], {"m": M})
    first = decide(access, Ask("m"), "chat", Request())
    assert isinstance(first, Admit)
    assert decide(access, Ask("m"), "chat", Request()) is first


def test_rows_are_kept_for_models_that_exist_only() -> None:
    access = Access([ALL], {"m": M})
    assert access.row("m", "chat") is access.row("m", "chat")
    for number in range(100):
        access.row(f"x{number}", "chat")
    assert len(access.rows) == 1
    assert repr(access) == "<Access all>"


def test_roles_of_a_principal_and_its_team() -> None:
    a, b = role("a"), role("b")
    spec = SnapshotSpec(generation=1, models=(M,), roles=(a, b), teams=(TeamSpec(name="t", roles=("b", "gone")),))
    snapshot = Snapshot(spec)
    assert snapshot.access(Key(id="k", name="k", roles=("b", "a"), team="t")).roles == (b, a)
    assert snapshot.access(Key(id="k", name="k", team="t")).roles == (b,)
    assert snapshot.access(Key(id="k", name="k", team="other", roles=("gone",))).roles == ()
    assert Snapshot(SnapshotSpec(generation=1)).access(Key(id="k", name="k")).names == "internal"


@pytest.mark.parametrize("fills", [(), (ParameterRule(name="temperature", default=0.5),)])
def test_what_the_role_wants_kept_goes_with_the_verdict(fills: tuple[ParameterRule, ...]) -> None:
    found = verdict(
        Ask("m"), RoleSpec(name="other", models=("n",), capture="both"), RoleSpec(name="r", capture="answers", parameters=fills)
    )
    assert isinstance(found, Admit)
    assert (found.role, found.capture, bool(found.settings)) == ("r", "answers", bool(fills))
