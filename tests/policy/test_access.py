"""What roles come to before a request is known, and what a check says of itself; `test_decide.py` has the verdicts.

No request is parsed here: facts are given.
"""

from __future__ import annotations

from math import inf

import pytest

from slmgate.policy.access import Access, Admit, Offers, no_such_model
from slmgate.policy.networks import NOWHERE, number_of
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec, Scalar
from slmgate.policy.specs import ModelSpec
from slmgate.terms import Ask, Refuse

M, N = ModelSpec(name="m", instances=()), ModelSpec(name="n", instances=())
MODELS = {"m": M, "n": N}
MONDAY_NOON = 1_763_985_600.0  # 2025-11-24 12:00 UTC


class Given:
    """Facts with these values of every parameter."""

    def __init__(self, *values: Scalar, peer: str = "203.0.113.9", body_size: int = 0) -> None:
        self.values = values
        self.address = number_of(peer)
        self.body_size = body_size
        self.now = MONDAY_NOON

    def second(self) -> float:
        return self.now

    def parameter(self, name: str) -> tuple[Scalar, ...]:
        return self.values


def role(name: str = "r", **changes: object) -> RoleSpec:
    return RoleSpec(name=name, **changes)  # type: ignore[arg-type]  # a table's rows name what they change


def test_a_role_without_conditions_is_an_answer_before_the_request() -> None:
    row = Access([role()], MODELS).row("m", "chat")
    assert isinstance(row, Admit)
    assert (row.model, row.role, row.rule, row.settings) == (M, "r", "roles.r", ())


def test_what_depends_on_the_request_waits_for_it() -> None:
    roles = [role("a", networks=("10.0.0.0/8",), hours=(Hours((0,), 0, 60),)), role("b", deny_networks=("10.0.0.0/8",))]
    row = Access(roles, MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    assert [check.rule for check in row.denials] == ["roles.b.deny_networks"]
    assert [offer.admit.role for offer in row.offers] == ["a", "b"]
    assert [check.rule for check in row.offers[0].checks] == ["roles.a.networks", "roles.a.hours"]


def test_a_later_role_without_conditions_does_not_hide_the_first_ones_settings() -> None:
    row = Access([role("a", parameters=(ParameterRule(name="seed", default=1),)), role("b")], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    assert row.offers[0].fills == (("seed", 1),)


DEMANDS = [
    (role(networks=("10.0.0.0/8", "::1")), ["from 10.0.0.0/8, ::1"]),
    (role(hours=(Hours((0, 1), 0, 60), Hours((6,), 5, 6))), ["at Mon,Tue 00:00-01:00 UTC or Sun 00:05-00:06 UTC"]),
    (role(stream=False), ["not streamed"]),
    (role(max_body=7), ["a body of at most 7 bytes"]),
    (role(max_context=7), ["a context of at most 7 tokens"]),
    (
        role(parameters=(ParameterRule(name="n", min=1, max=2.5, allowed=(1, True, "x")),)),
        ["n at most 2.5", "n at least 1", "n one of 1, true, x"],
    ),
    (role(parameters=(ParameterRule(name="n", deny=True, max=3),)), ["n not set"]),
]


@pytest.mark.parametrize(("one", "demands"), DEMANDS)
def test_a_check_says_what_it_wants(one: RoleSpec, demands: list[str]) -> None:
    row = Access([one], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    assert [check.demand for check in row.offers[0].checks] == demands


def test_the_client_is_told_neither_the_rule_nor_another_s_words() -> None:
    every = role(
        "secret-role",
        stream=False,
        max_body=1,
        max_context=1,
        networks=("10.0.0.0/8",),
        hours=(Hours((6,), 0, 60),),
        parameters=(ParameterRule(name="n", min=5, max=4, allowed=(9,)),),
    )
    row = Access([every, role("denier", deny_networks=("203.0.113.0/24",))], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    ask, facts = Ask("m", True, prompt_estimate=9), Given(7, body_size=9)
    for check in (*row.denials, *row.offers[0].checks):
        refused = check.test(ask, facts) if check.rule != "roles.secret-role.parameters.n.min" else check.test(ask, Given(1))
        assert refused is not None, check
        assert refused.rule == check.rule
        assert "role" not in refused.message
        assert "203.0.113" not in refused.message
        assert "10.0.0" not in refused.message


@pytest.mark.parametrize(
    ("value", "name", "broken"),
    [
        (4, "n", False),
        (5, "n", True),
        (4.0001, "n", True),
        (inf, "n", True),
        (-inf, "n", False),
        (True, "n", False),
        ("text", "n", False),
        ("4", "n", False),
        ("5", "n", True),
        ("1e9", "n", True),
        ("\u0665", "n", True),  # a digit five, which Python's int reads
        ("nan", "n", True),
        ("5", "stop", False),
        ("2024", "input", False),
    ],
)
def test_a_maximum(value: Scalar, name: str, broken: bool) -> None:
    row = Access([role(parameters=(ParameterRule(name=name, max=4),))], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    assert (row.offers[0].checks[0].test(Ask("m"), Given(value)) is not None) is broken


def test_fills() -> None:
    def fills(*rules: ParameterRule, endpoint: str = "chat", of_model: tuple[ParameterRule, ...] = ()) -> dict[str, Scalar]:
        model = ModelSpec(name="m", instances=(), parameters=of_model)
        row = Access([role(parameters=rules)], {"m": model}).row("m", endpoint)
        return dict(row.offers[0].fills) if isinstance(row, Offers) else {}

    rule = ParameterRule
    assert fills(rule(name="t", default="x", max=1)) == {"t": "x"}
    assert fills(rule(name="t", default=True, max=0)) == {"t": True}
    assert fills(rule(name="t", default=3, max=1.5)) == {"t": 1}
    assert fills(rule(name="t", default=3.0, max=1.5)) == {"t": 1.5}
    assert fills(rule(name="t", default=1), of_model=(rule(name="t", default=2),)) == {"t": 1}
    assert fills(rule(name="max_tokens", max=9.9), of_model=(rule(name="max_tokens", allowed=(4, 8)),)) == {"max_tokens": 9}
    for endpoint in ("chat", "completions", "responses", "infill"):
        assert fills(rule(name="max_tokens", max=9), endpoint=endpoint) == {"max_tokens": 9}
    for endpoint in ("embeddings", "rerank", "tokenize", "speech"):
        assert fills(rule(name="max_tokens", max=9), endpoint=endpoint) == {}


@pytest.mark.parametrize(
    ("endpoint", "prompt", "own", "given", "broken"),
    [
        ("chat", 9, None, (), False),
        ("chat", 10, None, (), True),  # no room for an answer
        ("embeddings", 10, None, (), False),
        ("embeddings", 11, None, (), True),
        ("chat", 5, 5, (5,), False),
        ("chat", 5, 6, (6,), True),
        ("chat", 5, None, (6,), True),  # under a name of another API, which engines know all the same
        ("chat", 5, 1, (1, 6), True),
        ("chat", 5, 1, (1, "6"), True),
        ("chat", 5, None, ("many",), False),
        ("chat", 5, None, (inf,), True),
        ("chat", 10, 0, (0,), False),
    ],
)
def test_a_context(endpoint: str, prompt: int, own: int | None, given: tuple[Scalar, ...], broken: bool) -> None:
    row = Access([role(max_context=10)], MODELS).row("m", endpoint)
    assert isinstance(row, Offers)
    (check,) = row.offers[0].checks
    refused = check.test(Ask("m", prompt_estimate=prompt, max_tokens=own), Given(*given))
    assert (refused is not None) is broken
    assert refused is None or ("no bound" in refused.message) is (inf in given)


def test_hours_turn_at_the_second_though_a_minute_is_remembered() -> None:
    row = Access([role(hours=(Hours((0,), 720, 722),))], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    (check,) = row.offers[0].checks
    given = Given()
    seen = []
    for offset in (-0.001, 0, 59.9, 60, 119.999, 120, 0, -60, 121):  # a clock may be put back
        given.now = MONDAY_NOON + offset
        seen.append(check.test(Ask("m"), given) is None)
    assert seen == [False, True, True, True, True, False, True, False, False]


def test_what_may_be_known() -> None:
    access = Access([role("a", models=("m",)), role("b", models=("*",), deny_models=("n",))], MODELS)
    assert [access.knows(name) for name in ("m", "n")] == [True, False]
    assert access.denies_model("n") == "roles.b.deny_models"
    assert access.denies_model("m") is None
    assert access.denies_endpoint("chat") is None
    assert repr(access) == "<Access a,b>"
    assert access.names == "a,b"


def test_a_hidden_model_and_an_absent_one_are_told_in_the_same_bytes() -> None:
    access = Access([role(models=("m",))], MODELS)
    assert access.row("n", "chat") == no_such_model("n")
    assert access.row("x", "chat") == no_such_model("x")
    denied = Access([role(), role("d", deny_models=("n",))], MODELS).row("n", "chat")
    assert isinstance(denied, Refuse)
    assert (denied.code, denied.message, denied.param) == ("model_not_found", no_such_model("n").message, "model")


def test_an_unnamed_model_is_the_only_known_one() -> None:
    both, one = Access([role()], MODELS), Access([role(models=("n",))], MODELS)
    none = Access([role(models=("zzz",))], MODELS)
    row = one.row("", "chat")
    assert isinstance(row, Admit)
    assert row.model is N
    for access in (both, none):
        refused = access.row("", "chat")
        assert isinstance(refused, Refuse)
        assert refused.code == "model_not_found"


def test_without_roles_nothing() -> None:
    access = Access([], MODELS)
    for found in (access.row("m", "chat"), access.row("", "chat"), access.listing(Ask(""), Given())):
        assert isinstance(found, Refuse)
        assert (found.code, found.rule) == ("permission_denied", "roles")


def test_no_address_is_in_no_network() -> None:
    nowhere = Given(peer="")
    assert nowhere.address == NOWHERE
    assert isinstance(Access([role(networks=("::/0",))], MODELS).listing(Ask(""), nowhere), Refuse)
    assert Access([role(deny_networks=("::/0",))], MODELS).listing(Ask(""), nowhere) == ("m", "n")


def test_a_list_shows_what_another_role_opens_from_here() -> None:
    roles = [role("lists", models=("m",), networks=("203.0.113.0/24",)), role("uses", models=("n",), endpoints=("chat",))]
    assert Access(roles, MODELS).listing(Ask(""), Given()) == ("m", "n")
    refused = Access(roles, MODELS).listing(Ask(""), Given(peer="10.0.0.1"))
    assert isinstance(refused, Refuse)
    assert refused.rule == "roles.lists.networks"
    shut = Access([role("uses", endpoints=("chat",))], MODELS).listing(Ask(""), Given())
    assert isinstance(shut, Refuse)
    assert shut.rule == "roles.uses.endpoints"
    denied = Access([role(), role("d", deny_endpoints=("models",))], MODELS).listing(Ask(""), Given())
    assert isinstance(denied, Refuse)
    assert denied.rule == "roles.d.deny_endpoints"
    banned = Access([role(), role("d", deny_networks=("203.0.113.9",))], MODELS).listing(Ask(""), Given())
    assert isinstance(banned, Refuse)
    assert banned.rule == "roles.d.deny_networks"
    assert Access([role(), role("d", deny_models=("m",))], MODELS).listing(Ask(""), Given()) == ("n",)


@pytest.mark.parametrize(("size", "passes"), [(0, True), (1, True), (2, False)])
def test_the_size_of_a_body(size: int, passes: bool) -> None:
    row = Access([role(max_body=1)], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    assert (row.offers[0].checks[0].test(Ask("m"), Given(body_size=size)) is None) is passes


def test_endpoints() -> None:
    shut = Access([role("a", endpoints=("chat",)), role("b", endpoints=("embeddings",))], MODELS)
    assert isinstance(shut.row("m", "chat"), Admit)
    refused = shut.row("m", "rerank")
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.rule) == ("permission_denied", "roles.a.endpoints")
    denied = Access([role(), role("d", deny_endpoints=("chat",))], MODELS).row("m", "chat")
    assert isinstance(denied, Refuse)
    assert denied.rule == "roles.d.deny_endpoints"


def test_allowed_values() -> None:
    rule = ParameterRule(name="image_url", allowed=("data:*", 1, True))
    row = Access([role(parameters=(rule,))], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    test = row.offers[0].checks[0].test
    for value in ("data:image/png;base64,xx", 1, 1.0, True):
        assert test(Ask("m"), Given(value)) is None, value
    for value in ("DATA:x", "https://e.example/?data:x", "1", 2, False):
        assert test(Ask("m"), Given(value)) is not None, value
    assert test(Ask("m"), Given()) is None


def test_denied_parameters() -> None:
    row = Access([role(parameters=(ParameterRule(name="tools", deny=True),))], MODELS).row("m", "chat")
    assert isinstance(row, Offers)
    test = row.offers[0].checks[0].test
    assert [test(Ask("m"), Given(value)) is None for value in (False, "", 0, True, "x", 3)] == [True, True] + [False] * 4
