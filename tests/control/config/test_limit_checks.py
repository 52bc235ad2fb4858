"""Faults between the options of a limit, and of money that nothing could ever count."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text

FILE = """
models:
  m: {instances: [{url: "http://127.0.0.1:9"}]}
plans:
  gold: {currency: EUR, prices: {m: {prompt: 1/1M, completion: 1/1M}}}
teams:
  t: {plan: gold, limits: [%s]}
limits: [%s]
"""


def faults(team: str = "", everyone: str = "") -> list[str]:
    return [fault.problem for fault in load_text(FILE % (team, everyone)).faults]


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ("{limit: 5/day, per: [all, team]}", "all and others cannot be counted together"),
        ("{limit: 5/day, per: [team, team]}", "one of them stands twice"),
        ("{limit: 5/minute, timezone: UTC}", "5 requests/minute has no day of the calendar"),
        ("{limit: 5/day, week_starts: monday}", "5 requests/day has no week"),
        ("{limit: 5/day, on_excess: clamp}", "max_tokens does not change 5 requests/day"),
        ("{limit: 5 prompt tokens/day, on_excess: clamp}", "max_tokens does not change 5 prompt tokens/day"),
        (
            "{limit: 5/day, raised: {to: 5/hour, until: 2030-01-01}}",
            "5 requests/hour is not of the unit and window of 5 requests/day",
        ),
        ("{limit: 5/hour, raised: {to: 9/hour burst 9, until: 2030-01-01}}", "a burst cannot be raised"),
        ("{limit: 5/day, raised: {to: 5/day, until: 2030-01-01}}", "5 requests/day is not more than 5 requests/day"),
        ("5 CHF/month", "no plan counts in CHF"),
    ],
)
def test_faults(limit: str, problem: str) -> None:
    assert faults(everyone=limit) == [problem]
    assert faults(team=limit) == [problem]


@pytest.mark.parametrize(
    "limit",
    [
        "5 EUR/month",
        "{limit: 5/day, per: all}",
        "{limit: 5 tokens/week, week_starts: sunday, timezone: UTC, on_excess: clamp}",
        "{limit: 5/day, raised: {to: 6/day, until: 2030-01-01}}",
    ],
)
def test_right(limit: str) -> None:
    assert faults(limit, limit) == []


def test_money_of_another_plan() -> None:
    other = FILE.replace("plans:\n", "plans:\n  silver: {currency: USD, prices: {m: {prompt: 1/1M, completion: 1/1M}}}\n")
    found = load_text(other % ("5 USD/month", "5 USD/month")).faults
    assert [(fault.option, fault.problem) for fault in found] == [
        ("teams.t.limits[0].limit", "the plan of this team, gold, counts in EUR")
    ] or [fault.problem for fault in found] == ["the plan of this team, gold, counts in EUR"]


def test_money_without_any_plan() -> None:
    text = 'models: {m: {instances: [{url: "http://127.0.0.1:9"}]}}\nlimits: [5 EUR/month]\n'
    (fault,) = load_text(text).faults
    assert "the file has no plans at all" in (fault.hint or "")
