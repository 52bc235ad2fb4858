"""Teams, told by the admin API: their keys, and how far their plans are used in the month of each plan's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from slmgate.control.admin import teams
from slmgate.control.admin.handlers import BadQuery
from slmgate.control.config import load_text
from slmgate.stores.records import Batch
from tests.control.test_statements import charged
from tests.tools.admin_gate import AdminGate, asking

CONFIG = f"""\
models: {{m: {{instances: [{{url: "http://h:1"}}]}}}}
roles: {{user: {{models: [m]}}}}
teams:
  acme: {{roles: [user], plan: full, limits: [{{limit: 200 requests/minute, per: team}}]}}
  fives: {{plan: fiver}}
  berlin: {{plan: local}}
  plain: {{}}
plans:
  full: {{currency: EUR, included: 1000 tokens/month}}
  fiver: {{currency: EUR, included: 5 EUR/month, overage: stop}}
  local: {{currency: EUR, timezone: Europe/Berlin}}
keys: [{{name: fixed, team: acme, hash: "sha256:{"0" * 64}"}}]
"""
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG).unwrap()
    monkeypatch.setattr(teams, "utc_now", lambda: NOW)
    yield made
    made.store.close()


def found(gate: AdminGate) -> dict[str, teams.TeamView]:
    return {team.name: team for team in teams.teams(gate)}


def test_nothing_used(gate: AdminGate) -> None:
    told = found(gate)
    assert list(told) == ["acme", "berlin", "fives", "plain"]
    acme = told["acme"]
    assert (acme.keys, acme.roles, acme.limits, acme.requests) == (1, ("user",), ["200 requests/minute"], 0)
    assert acme.plan is not None and (acme.plan.included, acme.plan.used, acme.plan.share) == (1000, 0, 0.0)
    assert told["plain"].plan is None and told["plain"].keys == 0


def test_keys_and_use(gate: AdminGate) -> None:
    for name, team in (("a", "acme"), ("b", "acme"), ("g", "ghosts"), ("n", None)):
        gate.keyring.create(name, team)
    gate.keyring.create("gone", "acme")
    gate.keyring.revoke("gone")
    late = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)  # in Berlin, November has begun
    gate.store.write(
        Batch(
            receipts=[
                charged("a1", team="acme", plan="full", prompt_tokens=1000, completion_tokens=500),
                charged("a0", team="acme", plan="full", time=late),
                charged("b0", team="berlin", plan="local", time=late),
                msgspec.structs.replace(charged("f1", team="fives", plan="fiver"), cost=6_000_000_000),
            ]
        )
    )
    told = found(gate)
    acme, fives = told["acme"].plan, told["fives"].plan
    assert acme is not None and fives is not None
    assert (told["acme"].keys, told["ghosts"].keys, told["ghosts"].declared) == (3, 1, False)
    assert (acme.used, acme.share, told["acme"].requests) == (1500, 1.5, 1)
    assert (fives.unit, fives.included, fives.used, fives.share) == ("cost", "5.00", "6.00", 1.2)
    assert told["berlin"].requests == 1 and told["berlin"].plan is not None and told["berlin"].plan.share is None


def test_no_gate_runs(gate: AdminGate) -> None:
    gate.config = None
    with pytest.raises(BadQuery):
        teams.teams(gate)


def test_over_http(gate: AdminGate) -> None:
    with asking(gate) as client:
        assert [team["name"] for team in client.get("/api/v1/teams").json()] == ["acme", "berlin", "fives", "plain"]
