"""Limits of a file as workers get them: where they stand, for whom they count, and what their use is known by."""

from __future__ import annotations

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.compile import compile_snapshot
from slmgate.control.config.compile_limits import Limits, holders
from slmgate.policy.limits import LimitSpec
from slmgate.policy.specs import SnapshotSpec

FILE = """
models:
  m: {instances: [{url: "http://127.0.0.1:9"}], limits: [1 requests/second]}
limits: [2 requests/second]
roles:
  r: {models: ["*"], limits: [3 requests/second]}
teams:
  t: {limits: [4 requests/second]}
keys:
  - {name: k, hash: "sha256:%s", limits: [5 requests/second]}
""" % ("ab" * 32)


def compiled(text: str) -> SnapshotSpec:
    return compile_snapshot(load_text(text).unwrap(), 1)


def of_all(limits: str) -> tuple[LimitSpec, ...]:
    return compiled(f'models: {{m: {{instances: [{{url: "http://127.0.0.1:9"}}]}}}}\nlimits: [{limits}]\n').limits


def test_where_they_stand_and_for_whom_they_count() -> None:
    spec = compiled(FILE)
    found = [*spec.models[0].limits, *spec.limits, *spec.roles[0].limits, *spec.teams[0].limits, *spec.key_limits[0][1]]
    assert [(one.amount, one.name, one.per) for one in found] == [
        (1, "models.m.limits[0]", ()),
        (2, "limits[0]", ()),
        (3, "roles.r.limits[0]", ("principal",)),
        (4, "teams.t.limits[0]", ("team",)),
        (5, "keys.k.limits[0]", ("principal",)),
    ]
    assert spec.key_limits[0][0] == "declared:k"
    assert len({one.identity for one in found}) == 5
    assert len(list(holders(load_text(FILE).unwrap()))) == 5
    assert Limits(load_text(FILE).unwrap()).of("roles.none") == ()


@pytest.mark.parametrize(
    "other",
    [
        "9 requests/minute",
        "5 requests/minute burst 8",
        "5 requests/60 seconds",
        "{limit: 5 requests/minute, raised: {to: 9 requests/minute, until: 2030-01-01}}",
        "{limit: 5 requests/minute, per: all}",
    ],
)
def test_use_stays_known_when_an_amount_changes(other: str) -> None:
    assert of_all(other)[0].identity == of_all("5 requests/minute")[0].identity


def test_use_stays_known_whatever_stands_before() -> None:
    (alone,) = of_all("5 requests/minute")
    before = of_all("7 tokens/minute, 900 requests/minute, 5 requests/minute")
    assert before[2].identity == alone.identity
    assert len({one.identity for one in before}) == 3


@pytest.mark.parametrize(
    "other",
    [
        "5 tokens/day",
        "5 requests/week",
        "5 requests/24 hours",
        "{limit: 5 requests/day, timezone: Europe/Berlin}",
        "{limit: 5 requests/day, per: ip}",
        "{limit: 5 requests/day, per: [ip, model]}",
    ],
)
def test_what_counts_otherwise_is_known_otherwise(other: str) -> None:
    assert of_all(other)[0].identity != of_all("5 requests/day")[0].identity


def test_weeks_begin_on_different_days() -> None:
    monday, sunday = of_all("{limit: 5/week, week_starts: monday}, {limit: 5/week, week_starts: sunday}")
    assert (monday.first_day, sunday.first_day) == (0, 6)
    assert monday.identity != sunday.identity


def test_everything_else() -> None:
    (one,) = of_all("{limit: 5 tokens/day, per: [model, team], on_excess: clamp, raised: {to: 7 tokens/day, until: 1970-01-02}}")
    assert (one.text, one.per, one.clamp, one.raised, one.raised_until) == ("5 tokens/day", ("team", "model"), True, 7, 86_400.0)
