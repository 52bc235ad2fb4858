"""The page of teams: none, some, thousands; links lead to keys and statements."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from slmgate.control.admin import teams as api
from slmgate.control.admin.dashboard import teams
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from tests.tools.page_ask import ask, complaints

(ROW,) = teams.PAGES


def plan(**fields: Any) -> api.PlanUse:
    given = {
        "name": "gold", "month": "2026-11", "since": datetime(2026, 11, 1, tzinfo=UTC), "currency": "EUR", "unit": "tokens",
        "included": 1000, "used": 900, "share": 0.9, "overage": "allow", **fields,
    }  # fmt: skip
    return api.PlanUse(**given)


def team(name: str = "acme", **fields: Any) -> api.TeamView:
    given = {
        "name": name, "declared": True, "roles": ["user"], "limits": ["200 requests/minute"], "keys": 3, "plan": plan(),
        "requests": 12, "tokens": 900, "cost": {"EUR": "1.50"}, **fields,
    }  # fmt: skip
    return api.TeamView(**given)


def page(monkeypatch: pytest.MonkeyPatch, found: list[api.TeamView], **query: str) -> str:
    monkeypatch.setattr(api, "teams", lambda context: found)
    asked = ask("/teams", query)
    made = render(teams.team_list(asked), asked, ROW, PAGES)
    assert complaints(made) == []
    return made.decode()


def test_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No teams yet" in page(monkeypatch, [])
    assert "No team is called like that" in page(monkeypatch, [team()], search="zzz")


def test_one_team(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = page(monkeypatch, [team()])
    assert 'href="/keys?team=acme"' in shown and 'href="/statements?team=acme&amp;month=2026-11"' in shown
    assert "90 %" in shown and "900 of 1k tokens" in shown and "1.50 EUR" in shown


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (plan(unit="cost", included="5.00", used="7.50", share=1.5), "7.50 of 5.00 EUR"),
        (plan(unit=None, included=None, used=None, share=None), "gold"),
        (None, "acme"),
    ],
)
def test_other_plans(monkeypatch: pytest.MonkeyPatch, used: api.PlanUse | None, said: str) -> None:
    assert said in page(monkeypatch, [team(plan=used)])


def test_a_team_that_only_keys_name(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = page(monkeypatch, [team("<ghost>", declared=False, plan=None)])
    assert "&lt;ghost&gt; (not in the configuration)" in shown and "adds no roles" in shown


def test_a_hundred_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [team(f"t{number:05}") for number in range(100_000)]
    shown = page(monkeypatch, many)
    assert len(shown) < 60_000 and "of 100,000" in shown
    view = teams.team_list(ask("/teams", {"csv": "table"}))
    assert view.tables[0].csv().count(b"\n") == 100_001
