"""The routes about money, over a real store: who is meant, what is refused, and what stands around the page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.config import load_text
from slmgate.stores.billing import NoticeRecord
from slmgate.stores.records import Batch
from tests.control.test_statements import CONFIG, charged
from tests.tools.admin_gate import AdminGate, asking

TEAMS = "teams: {acme: {plan: gold}, free: {}}\n"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    gate = AdminGate(tmp_path)
    gate.config = load_text(CONFIG + TEAMS).unwrap()
    gate.store.write(Batch(receipts=[charged("r1", prompt_tokens=1_000_000), charged("r2", plan="full", prompt_tokens=10)]))
    yield gate
    gate.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def test_the_teams_plan_or_the_named_one(client: TestClient[Litestar]) -> None:
    answer = client.get("/api/v1/statement?team=acme&month=2026-11")
    assert (answer.status_code, answer.json()["plan"], answer.json()["total"]) == (200, "gold", "0.10")
    answer = client.get("/api/v1/statement?team=acme&month=2026-11&plan=full")
    assert (answer.json()["requests"], answer.json()["total"]) == (1, "29.00")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("team=free&month=2026-11", "has no plan"),
        ("team=nobody&month=2026-11", "has no plan"),
        ("team=acme&month=2026-11&plan=cow", "There is no plan 'cow'"),
        ("team=acme&month=lately", "is not a month"),
        ("team=acme", "is not a month"),
        ("month=2026-11", "Say whose statement"),
    ],
)
def test_what_cannot_be_answered(client: TestClient[Litestar], query: str, told: str) -> None:
    answer = client.get(f"/api/v1/statement?{query}")
    assert (answer.status_code, told in answer.json()["detail"]) == (400, True)


def test_without_a_configuration(gate: AdminGate, client: TestClient[Litestar]) -> None:
    gate.config = None
    answer = client.get("/api/v1/statement?team=acme&month=2026-11")
    assert (answer.status_code, "No configuration" in answer.json()["detail"]) == (400, True)


def test_the_page(client: TestClient[Litestar]) -> None:
    answer = client.get("/api/v1/statement.html?team=acme&month=2026-11")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers.get_list("content-security-policy")
    assert len(policy) == 1
    assert "script" not in policy[0]
    assert policy[0].startswith("default-src 'none'")
    assert "EUR 0.10" in answer.text


def test_strangers_see_nothing(client: TestClient[Litestar]) -> None:
    client.headers.pop("authorization")
    for path in ("statement", "statement.html", "notices"):
        assert client.get(f"/api/v1/{path}?team=acme&month=2026-11").status_code == 401


def test_notices(gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/notices").json() == []
    gate.store.billing.add_notice(NoticeRecord(id="nt_1", team="acme", plan="gold", payload=b"{}", created=NOON, retry=NOON))
    assert client.get("/api/v1/notices").json() == [
        {
            "id": "nt_1",
            "team": "acme",
            "plan": "gold",
            "created": "2026-11-20T12:00:00Z",
            "attempts": 0,
            "retry": "2026-11-20T12:00:00Z",
            "delivered": None,
            "type": "plan.threshold",
            "webhook": "",
            "subject": "",
        }
    ]
