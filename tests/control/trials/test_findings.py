"""Rules that do nothing or more than they seem to: each kind of finding, and configurations without any."""

from __future__ import annotations

import pytest

from slmgate.control.config import compile_snapshot, load_text
from slmgate.control.trials.findings import covers, findings, keeps
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec
from slmgate.policy.specs import ModelSpec

HASH = "sha256:" + "0" * 64
NOW = 1_790_000_000.0
MODEL = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'
HELD = "teams: {t: {roles: [a]}}"


def told(rest: str, roles: str, model: str = "") -> list[str]:
    text = f'models: {{m: {{instances: [{{url: "http://h:1"}}]{model}}}, n: {{instances: [{{url: "http://h:2"}}]}}}}\n'
    found = findings(load_text(f"{text}roles: {{{roles}}}\n{rest}\n").unwrap(), NOW)
    return [f"{one.kind} {one.where}: {one.text}" for one in found]


@pytest.mark.parametrize(
    ("rest", "roles", "expected"),
    [
        ("", "a: {models: [m]}", ["never roles.a: no team and no declared key has it"]),
        (HELD, "a: {models: [m]}", []),
        (HELD, "a: {models: [m, n], deny_models: [n]}", ["never roles.a.models: n: deny_models of the same role"]),
        (HELD, 'a: {models: ["*", m]}', ["redundant roles.a.models: m: * in the same list"]),
        (HELD, "a: {models: [m, m]}", ["redundant roles.a.models: m: m in the same list"]),
        (HELD, "a: {models: [m], endpoints: [chat], deny_endpoints: [chat]}", ["never roles.a.endpoints: chat"]),
        (HELD, "a: {models: [m], networks: [10.0.0.0/8, 10.1.0.0/16]}", ["redundant roles.a.networks: 10.1.0.0/16: it lies in"]),
        (
            HELD,
            'a: {models: [m], networks: ["::/0", "2001:db8::/32", 10.0.0.0/8]}',
            ["redundant roles.a.networks: 2001:db8::/32"],
        ),
        (HELD, "a: {models: [m], networks: [10.1.0.0/16], deny_networks: [10.0.0.0/8]}", ["never roles.a.networks: 10.1.0.0/16"]),
        (
            f"keys: [{{name: k, roles: [a], hash: '{HASH}', disabled: true}}]",
            "a: {models: [m]}",
            ["never keys.k: the key is dis"],
        ),
        (
            f"keys: [{{name: k, roles: [a], hash: '{HASH}', expires: 2020-01-01}}]",
            "a: {models: [m]}",
            ["never keys.k: the key has"],
        ),
        (f"{HELD}\nkeys: [{{name: k, hash: '{HASH}'}}]", "a: {models: [m]}", ["never keys.k: neither the key nor its team"]),
    ],
)
def test_of_one(rest: str, roles: str, expected: list[str]) -> None:
    found = told(rest, roles)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("role", "model", "expected"),
    [
        ("{max: 100}", "{max: 64}", ["never roles.a.parameters.n.max: 100 for m: models.m.parameters.n.max is 64 already"]),
        ("{max: 64}", "{max: 64}", []),
        ("{min: 1}", "{min: 2}", ["never roles.a.parameters.n.min: 1 for m: models.m.parameters.n.min is 2 already"]),
        ("{max: 64}", "deny", ["never roles.a.parameters.n: for m: models.m.parameters.n denies it altogether"]),
        ("deny", "deny", []),
    ],
)
def test_looser_than_the_model(role: str, model: str, expected: list[str]) -> None:
    assert told(HELD, f'a: {{models: ["*"], parameters: {{n: {role}}}}}', f", parameters: {{n: {model}}}") == expected
    assert told(HELD, f"a: {{models: [n], parameters: {{n: {role}}}}}", f", parameters: {{n: {model}}}") == []


BOTH = 'a: {models: ["*"]}, b: {models: [m], parameters: {max_tokens: {max: 9}}}'


def test_a_wide_role_before_a_narrow_one() -> None:
    assert told("teams: {t: {roles: [a, b]}}", BOTH) == [
        "shadowed roles.b: of team t: a admits all that it does",
        "widens roles.a: of team t: it makes void the bounds of b",
    ]


def test_a_team_that_undoes_what_its_keys_are_bound_by() -> None:
    found = told(f"teams: {{t: {{roles: [a]}}}}\nkeys: [{{name: k, team: t, roles: [b], hash: '{HASH}'}}]", BOTH)
    assert found[-1] == "widens roles.a: of key k: it comes with the team, and undoes the bounds of the key's own role b"


def test_roles_that_are_the_same_and_roles_that_are_not() -> None:
    same = "a: {models: [m]}, b: {models: [m], deny_networks: [10.0.0.0/8]}"
    assert told("teams: {t: {roles: [a, b]}}", same) == [
        "shadowed roles.b: of team t: a admits all that it does; only its denials count"
    ]
    assert told("teams: {t: {roles: [a, b]}}", "a: {models: [m]}, b: {models: [n]}") == []
    first = "a: {models: [m], limits: [5 requests/minute], priority: 2}, b: {models: ['*']}"
    assert "; only its limits and place in line count" in told("teams: {t: {roles: [a, b]}}", first)[0]
    assert "only" not in told("teams: {t: {roles: [b, a]}}", first)[0]  # behind the wide one it admits nothing any more
    many = "teams: {" + ", ".join(f"t{number}: {{roles: [a, b]}}" for number in range(7)) + "}"
    assert "and 2 more" in told(many, BOTH)[0]


MODELS = (ModelSpec(name="m", instances=()), ModelSpec(name="n", instances=()))
DAY = (Hours((0,), 0, 60),)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ({}, {"models": ("m",)}, True),
        ({"models": ("m",)}, {}, False),
        ({"endpoints": ("chat",)}, {}, False),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ("10.1.0.0/16", "10.2.0.0/16")}, True),
        ({"networks": ("10.0.0.0/8",)}, {}, False),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ("::/0",)}, False),
        ({"hours": DAY}, {"hours": DAY}, True),
        ({"hours": DAY}, {}, False),
        ({"stream": False}, {}, False),
        ({"max_body": 5}, {"max_body": 4}, True),
        ({"max_body": 5}, {"max_body": 6}, False),
        ({"max_context": 5}, {}, False),
        (
            {"parameters": (ParameterRule(name="n", max=5, min=1),)},
            {"parameters": (ParameterRule(name="n", max=4, min=2),)},
            True,
        ),
        ({"parameters": (ParameterRule(name="n", min=3),)}, {"parameters": (ParameterRule(name="n", min=2),)}, False),
        ({"parameters": (ParameterRule(name="n", max=5),)}, {"parameters": (ParameterRule(name="n", deny=True),)}, True),
        ({"parameters": (ParameterRule(name="n", deny=True),)}, {"parameters": (ParameterRule(name="n", max=5),)}, False),
        (
            {"parameters": (ParameterRule(name="n", allowed=(1, 2)),)},
            {"parameters": (ParameterRule(name="n", allowed=(1,)),)},
            True,
        ),
        ({"parameters": (ParameterRule(name="n", allowed=(1, 2)),)}, {}, False),
    ],
)
def test_covers(wide: dict[str, object], narrow: dict[str, object], expected: bool) -> None:
    one, other = RoleSpec(name="w", **wide), RoleSpec(name="n", **narrow)  # type: ignore[arg-type]  # rows name what they change
    assert covers(one, other, MODELS) is expected


@pytest.mark.parametrize(
    ("tight", "loose", "expected"),
    [
        ("60 requests/minute", "60 requests/minute", True),
        ("60 requests/minute", "59 requests/minute", False),
        ("10 requests/minute", "600 requests/hour", True),
        ("10 requests/minute", "599 requests/hour", False),
        ("10 requests/7 seconds", "90 requests/minute", True),
        ("10 requests/7 seconds", "89 requests/minute", False),
        ("10 requests/hour", "250 requests/day", True),  # a day may have 25 hours
        ("10 requests/hour", "249 requests/day", False),
        ("10 requests/hour", "5 requests/minute", False),
        ("10 requests/hour", "10 requests/minute", True),
        ("100 requests/day", "700 requests/week", True),
        ("100 requests/day", "3100 requests/month", True),
        ("100 requests/day", "3099 requests/month", False),
        ("100 requests/week", "500 requests/month", False),
        ("100 requests/day", "100 requests/24 hours", False),
        ("100 tokens/day", "100 requests/day", False),
        ("1 requests/minute burst 5", "100 requests/minute", False),
        ("1 requests/minute", "1 requests/minute burst 5", False),
        ("4 concurrent", "5 concurrent", True),
        ("5 concurrent", "4 concurrent", False),
        ("{limit: 5/minute, per: ip}", "9/minute", False),
        ("{limit: 5/day, timezone: Europe/Berlin}", "5/day", False),
        ("{limit: 5/minute, raised: {to: 9/minute, until: 2030-01-01}}", "8/minute", False),
        ("{limit: 5/week, week_starts: sunday}", "5/week", False),
    ],
)
def test_limits_that_no_one_reaches(tight: str, loose: str, expected: bool) -> None:
    spec = compile_snapshot(load_text(f"{MODEL}limits: [{tight}, {loose}]\n").unwrap(), 0)
    assert keeps(spec.limits[0], spec.limits[1]) is expected


def test_limits_beside_each_other() -> None:
    role = "a: {models: [m], limits: [600 requests/hour, 10 requests/minute, 10 requests/minute, 4 concurrent]}"
    text = f"{MODEL}roles: {{{role}}}\nteams: {{t: {{roles: [a]}}}}\n"
    found = findings(load_text(text).unwrap(), NOW)
    assert [(one.kind, one.where, one.text) for one in found] == [
        ("never", "roles.a.limits[0]", "600 requests/hour: 10 requests/minute of the same list is used up before it"),
        ("never", "roles.a.limits[2]", "10 requests/minute: 10 requests/minute of the same list is used up before it"),
    ]
