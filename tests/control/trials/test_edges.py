"""Cases at the edges: which are found for which rule, that they pass as they are, and that they are the same each time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.trials.edges import Edge, find_edges, next_change, trial_of, written
from slmgate.control.trials.wish import parse_when

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC).timestamp()  # a Tuesday
MODELS = 'models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}\n'
HASH = "sha256:" + "0" * 64


def config(role: str, rest: str = "teams: {t: {roles: [a]}}", models: str = MODELS) -> Config:
    return load_text(f"{models}roles: {{a: {{models: [m], endpoints: [chat], {role}}}}}\n{rest}\n").unwrap()


def edges(role: str, rest: str = "teams: {t: {roles: [a]}}", models: str = MODELS) -> list[Edge]:
    return find_edges(config(role, rest, models), NOW).cases


def told(found: list[Edge], about: str, option: str) -> list[tuple[object, str]]:
    return [(edge.given[option], edge.verdict.code) for edge in found if about in edge.about]


def test_hours() -> None:
    found = edges('hours: "Mon-Fri 08:00-18:00 Europe/Berlin"')
    assert told(found, "hours", "at") == [
        ("2026-11-24 07:59 Europe/Berlin", "permission_denied"),
        ("2026-11-24 08:01 Europe/Berlin", "ok"),
        ("2026-11-24 17:59 Europe/Berlin", "ok"),
        ("2026-11-24 18:00 Europe/Berlin", "permission_denied"),
        ("2026-11-24 18:01 Europe/Berlin", "permission_denied"),
        ("2027-03-28 01:59 Europe/Berlin", "permission_denied"),
        ("2027-03-28 03:00 Europe/Berlin", "permission_denied"),
        ("2027-10-31 02:30 Europe/Berlin", "permission_denied"),
        ("2027-10-31T02:30:00+01:00", "permission_denied"),
    ]
    assert told(found, "plain", "at") == [("2026-11-24 08:00 Europe/Berlin", "ok")]
    assert len(told(edges('hours: "00:00-24:00"'), "hours", "at")) == 0


def test_networks() -> None:
    assert told(edges("networks: [10.0.0.0/30]"), "networks", "address") == [
        ("9.255.255.255", "permission_denied"),
        ("10.0.0.0", "ok"),
        ("10.0.0.3", "ok"),
        ("10.0.0.4", "permission_denied"),
    ]
    found = edges('networks: ["::/0"], deny_networks: [192.0.2.0/24]')
    assert [address for address, _ in told(found, "networks: the", "address")] == [
        "::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "192.0.2.0",
        "192.0.2.255",
    ]
    assert told(edges("deny_networks: [192.0.2.0/24]"), "plain", "address") == [("198.51.100.1", "ok")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("max_tokens: {max: 64}", [({"max_tokens": 64}, "ok"), ({"max_tokens": 65}, "parameter_not_allowed")]),
        ("n: {min: 2}", [({"n": 2}, "ok"), ({"n": 1}, "parameter_not_allowed")]),
        ("temperature: {max: 1.5}", [({"temperature": 1.5}, "ok"), ({"temperature": 1.51}, "parameter_not_allowed")]),
        ("logprobs: deny", [({"logprobs": 1}, "parameter_not_allowed")]),
        ("user: {allowed: [a*, b]}", [({"user": "ax"}, "ok"), ({"user": "something-else"}, "parameter_not_allowed")]),
        ("n: {allowed: [1, 3]}", [({"n": 1}, "ok"), ({"n": 4}, "parameter_not_allowed")]),
    ],
)
def test_parameters(rule: str, expected: list[tuple[object, str]]) -> None:
    found = [edge for edge in edges(f"parameters: {{{rule}}}") if "parameters" in edge.given]
    assert [(edge.given["parameters"], edge.verdict.code) for edge in found] == expected
    of_model = f'models: {{m: {{instances: [{{url: "http://h:1"}}], parameters: {{{rule}}}}}}}\n'
    found = [edge for edge in edges("stream: true", models=of_model) if "parameters" in edge.given]
    assert [(edge.given["parameters"], edge.verdict.code) for edge in found] == expected


def test_what_is_set_where_it_is_left_alone() -> None:
    (plain,) = [edge for edge in edges("parameters: {seed: {default: 7}}") if edge.verdict.settings]
    assert plain.verdict.settings == {"seed": 7}


def test_sizes_and_streams() -> None:
    assert told(edges("max_body: 100"), "max_body", "body_size") == [(100, "ok"), (101, "request_too_large")]
    assert told(edges("max_context: 100"), "max_context", "prompt_tokens") == [(84, "ok"), (85, "request_too_large")]
    assert told(edges("stream: false"), "stream", "stream") == [(True, "parameter_not_allowed")]


def used(found: list[Edge], about: str) -> list[tuple[object, object, str]]:
    return [(edge.given.get("used"), edge.given["at"], edge.verdict.code) for edge in found if about in edge.about]


def test_limits() -> None:
    at = "2026-11-24 02:00 UTC"
    place = "roles.a.limits[0]"
    found = edges("limits: [60 requests/minute]")
    assert [(given, code) for given, _, code in used(found, "limits")] == [
        ({place: 59}, "ok"),
        ({place: 60}, "rate_limit_exceeded"),
    ]
    found = edges("parameters: {max_tokens: {max: 100}}, limits: [{limit: 1k tokens/day, timezone: Europe/Berlin}]")
    assert used(found, "limits") == [
        ({place: 900}, at, "ok"),
        ({place: 1000}, at, "quota_exceeded"),
        ({place: 901}, at, "quota_exceeded"),
        ({place: 1000}, "2026-11-24 23:59:59 Europe/Berlin", "quota_exceeded"),
        (None, "2026-11-25 00:00 Europe/Berlin", "ok"),
    ]
    assert used(edges("limits: [5 prompt tokens/minute]"), "limits") == []  # the plain request has no prompt
    by_day = edges('hours: "Mon-Fri 08:00-18:00", limits: [9 requests/day]')
    assert [code for _, _, code in used(by_day, "limits")] == [
        "ok",
        "quota_exceeded",
    ]  # it begins anew while the role does not hold


def test_a_limit_that_is_raised_and_one_of_money() -> None:
    found = edges("limits: [{limit: 5 requests/hour, raised: {to: 9 requests/hour, until: 2026-12-01}}]")
    assert used(found, "raise") == [
        ({"roles.a.limits[0]": 5}, "2026-11-30 23:59:59 UTC", "ok"),
        ({"roles.a.limits[0]": 5}, "2026-12-01 00:00 UTC", "rate_limit_exceeded"),
    ]
    rest = "teams: {t: {roles: [a], plan: p}}\nplans: {p: {currency: EUR, prices: {m: {completion: 1/1M}}}}"
    found = edges("parameters: {max_tokens: {max: 100}}, limits: [1 EUR/month]", rest)
    assert [(given, code) for given, _, code in used(found, "limits")][:3] == [
        ({"roles.a.limits[0]": 0.9999}, "ok"),
        ({"roles.a.limits[0]": 1}, "quota_exceeded"),
        ({"roles.a.limits[0]": 0.999900001}, "quota_exceeded"),
    ]


def test_limits_of_a_key_beside_others() -> None:
    keys = (
        f"keys: [{{name: j, roles: [a], hash: '{HASH}'}}, {{name: k, roles: [a], hash: '{HASH[:-1]}1', limits: [2 concurrent]}}]"
    )
    found = find_edges(config("limits: [60 requests/minute]", keys), NOW)
    assert [(edge.user, edge.about) for edge in found.cases if "limits" in edge.about] == [
        ("j", "roles.a.limits[0]: just enough is left"),
        ("j", "roles.a.limits[0]: used up"),
        ("k", "roles.a.limits[0]: just enough is left"),
        ("k", "roles.a.limits[0]: used up"),
        ("k", "keys.k.limits[0]: just enough is left"),
        ("k", "keys.k.limits[0]: used up"),
    ]


def test_keys() -> None:
    keys = f"keys: [{{name: k, roles: [a], hash: '{HASH}', expires: 2027-01-01}}]"
    found = find_edges(config("stream: true", keys), NOW)
    assert found.users == {"k": {"key": "k"}}
    assert told(found.cases, "expires", "at") == [
        ("2026-12-31 23:59:59 UTC", "ok"),
        ("2027-01-01 00:00:01 UTC", "invalid_api_key"),
    ]


def test_models_and_endpoints() -> None:
    found = edges("stream: true")
    assert told(found, "granted by no role", "model") == [("n", "model_not_found"), ("m", "permission_denied")]
    assert told(found, "not there", "model") == [("m-x", "model_not_found")]
    both = "teams: {t: {roles: [a, b]}}"
    wide = MODELS + "roles: {a: {models: [m]}, b: {models: ['*']}}\n" + both
    cases = find_edges(load_text(wide).unwrap(), NOW).cases
    assert [edge.about for edge in cases if "several" in edge.about] == []  # the plain request is that case already
    assert "n is granted by no role" not in [edge.about for edge in cases]


def test_whoever_has_a_role_is_a_user_once() -> None:
    rest = f"teams: {{t: {{roles: [a]}}}}\nkeys: [{{name: k, team: t, hash: '{HASH}'}}]"
    assert list(find_edges(config("stream: true", rest), NOW).users) == ["k"]
    assert list(find_edges(config("stream: true", ""), NOW).users) == ["role-a"]
    listing = load_text(MODELS + "roles: {a: {models: [m], endpoints: [models]}}").unwrap()
    (plain,) = find_edges(listing, NOW).cases
    assert plain.verdict.models == ("m",)
    nothing = load_text(MODELS + "roles: {a: {models: [m], deny_models: [m]}}").unwrap()
    assert find_edges(nothing, NOW).cases == []


def test_the_same_each_time_and_none_twice() -> None:
    made = config('hours: "Mon-Fri 08:00-18:00", networks: [10.0.0.0/8], parameters: {n: {max: 1, min: 1}}')
    found = find_edges(made, NOW)
    assert found == find_edges(made, NOW)
    assert len({(edge.user, str(edge.given)) for edge in found.cases}) == len(found.cases)


def test_clocks_that_change() -> None:
    spring = next_change("Europe/Berlin", NOW)
    assert spring is not None and (written(spring[0], "UTC"), spring[1]) == ("2027-03-28 01:00 UTC", 3600)
    autumn = next_change("Europe/Berlin", spring[0])
    assert autumn is not None and (written(autumn[0], "UTC"), autumn[1]) == ("2027-10-31 01:00 UTC", -3600)
    assert next_change("UTC", NOW) is None


def test_moments_are_written_so_that_they_are_read_again() -> None:
    autumn = datetime(2027, 10, 31, 1, 0, tzinfo=UTC).timestamp()
    for second in (NOW, NOW + 1, autumn - 1800, autumn + 1800):
        assert parse_when(written(second, "Europe/Berlin")) == second
    assert trial_of({"at": written(NOW, "UTC"), "model": "m"}).at == NOW
