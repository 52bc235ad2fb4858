"""What people say is used of limits, and what a would-be request may come to."""

from __future__ import annotations

from math import inf

import pytest

from slmgate.control.config import load_text
from slmgate.control.trials import limited
from slmgate.control.trials.asked import Trial, Verdict, judge, snapshot_of
from slmgate.policy.charges import Tariff
from slmgate.policy.roles import Scalar
from slmgate.policy.room import Need
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Principal

TEXT = """
models:
  m: {instances: [{url: "http://h:1"}], limits: [100 requests/minute]}
  free: {instances: [{url: "http://h:2"}]}
roles:
  r:
    models: ["*"]
    parameters: {n: {max: 4}}
    limits: [60 requests/minute, {limit: 20k tokens/day, on_excess: clamp}, 25 EUR/month, 600 gpu-seconds/day, 4 concurrent]
  plain: {models: [free]}
  more: {models: [free], limits: [{limit: 5 requests/hour, raised: {to: 9 requests/hour, until: 2030-01-01}}]}
teams: {t: {roles: [r], plan: gold}}
plans: {gold: {currency: EUR, prices: {"*": {prompt: 1/1M, completion: 2/1M}}}}
"""
WHO = Principal(id="w", name="w", team="t")


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return snapshot_of(load_text(TEXT).unwrap())


@pytest.fixture(scope="module")
def tariff(snapshot: Snapshot) -> Tariff:
    return snapshot.charges.tariff(WHO, "m", "r", "")


def verdict(
    snapshot: Snapshot, model: str = "m", at: float | None = 1_800_000_000.0, who: Principal = WHO, **given: object
) -> Verdict:
    return judge(snapshot, who, Trial(model=model, at=at, **given))  # type: ignore[arg-type]  # a row names what it gives


def test_limits_are_named_by_place_and_by_words(tariff: Tariff) -> None:
    given = {"roles.r.limits[0]": 59, "20_000 tokens/day": 19_999, "25 EUR/month": 24.99, "600 gpu-seconds/day": 1.5}
    used, strange = limited.amounts(tariff, given)
    assert used == [0, 59, 19_999, 24_990_000_000, 1_500_000, 0]
    assert strange == []
    assert limited.amounts(tariff, {"7 requests/minute": 1, "x": 1, "": 1})[1] == ["7 requests/minute", "x", ""]


@pytest.mark.parametrize(
    ("endpoint", "parameters", "expected"),
    [
        ("chat", {}, Need(7, None, 1)),
        ("chat", {"max_tokens": [9, "12"], "n": [3], "best_of": [2]}, Need(7, 12, 3)),
        ("chat", {"max_tokens": [9, inf]}, Need(7, None, 1)),
        ("chat", {"max_tokens": ["x"], "n": [inf, True]}, Need(7, None, 1)),
        ("embeddings", {"max_tokens": [9]}, Need(7, 0, 1)),
    ],
)
def test_what_it_may_come_to(tariff: Tariff, endpoint: str, parameters: dict[str, list[Scalar]], expected: Need) -> None:
    assert limited.need(tariff, endpoint, 7, parameters) == expected
    assert limited.need(Tariff([], "", "", tariff.price), "chat", 7, {}) == Need(7, 0, 1)


def test_the_figures_before_and_after(snapshot: Snapshot) -> None:
    found = verdict(snapshot, prompt_tokens=100, parameters={"max_tokens": [50], "n": [2]}, used={"60 requests/minute": 59})
    assert found.admitted
    assert found.route == ("m/h:1",)
    assert [(row.rule, row.used, row.takes) for row in found.limits] == [
        ("models.m.limits[0]", 0, 1),
        ("roles.r.limits[0]", 59, 1),
        ("roles.r.limits[1]", 0, 200),
        ("roles.r.limits[2]", 0, 300_000),
        ("roles.r.limits[3]", 0, 1_000_000),
        ("roles.r.limits[4]", 0, 1),
    ]


@pytest.mark.parametrize(
    ("used", "code", "rule"),
    [
        ({"60 requests/minute": 60}, "rate_limit_exceeded", "roles.r.limits[0]"),
        ({"100 requests/minute": 100}, "rate_limit_exceeded", "models.m.limits[0]"),
        ({"25 EUR/month": 25}, "quota_exceeded", "roles.r.limits[2]"),
        ({"4 concurrent": 4}, "rate_limit_exceeded", "roles.r.limits[4]"),
        ({"20k tokens/day": 20_000}, "quota_exceeded", "roles.r.limits[1]"),
    ],
)
def test_what_is_used_up(snapshot: Snapshot, used: dict[str, float], code: str, rule: str) -> None:
    found = verdict(snapshot, parameters={"max_tokens": [50]}, used=used)
    assert (found.admitted, found.code, found.rule, found.role, found.route) == (False, code, rule, "", ())
    assert set(found.caller) == {"code", "message"}
    assert "roles" not in found.message


def test_an_answer_is_made_shorter(snapshot: Snapshot) -> None:
    assert verdict(snapshot, parameters={"max_tokens": [50]}, used={"20k tokens/day": 19_990}).settings == {"max_tokens": 10}
    assert verdict(snapshot).settings == {"max_tokens": 4096}


def test_where_there_are_no_limits(snapshot: Snapshot) -> None:
    found = verdict(snapshot, "free", None, Principal(id="p", name="p", roles=("plain",)), used={"60 requests/minute": 1})
    assert (found.limits, found.strange, found.lacking) == ((), ("60 requests/minute",), ())
    assert verdict(snapshot, "gone", used={"x": 1}).strange == ()


def test_a_raise_hangs_on_the_time(snapshot: Snapshot) -> None:
    more = Principal(id="p", name="p", roles=("more",))
    assert verdict(snapshot, "free", None, more).lacking == ("at",)
    for at, admitted in ((1_893_455_999.0, True), (1_893_456_000.0, False)):
        assert verdict(snapshot, "free", at, more, used={"5 requests/hour": 5}).admitted is admitted
