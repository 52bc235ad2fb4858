"""Requests under way by the admin API: the list with its figures, and one cancelled, with its line in the audit log.

Workers are fakes that tell what a test has them; what they do with it is `tests/dataplane/test_live.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from slmgate.control import live as live_module
from slmgate.control.admin import live as module
from slmgate.control.admin.context import GateStatus, InstanceStatus, ModelStatus
from slmgate.control.admin.routes import ROUTES
from slmgate.control.operators import Permission
from slmgate.link.messages import LiveRequest
from slmgate.stores.records import Batch, LedgerUnavailable
from slmgate.terms import Receipt
from tests.control.test_live import FakePeer
from tests.tools.admin_gate import AdminGate, asking

Client = TestClient[Litestar]
ID = f"{7:012x}00000001"


@pytest.fixture(autouse=True)
def _unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "pack", lambda message: message)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[Client]:
    with asking(gate) as made:
        yield made


def row(number: int = 1, **fields: Any) -> LiveRequest:
    told: dict[str, Any] = {
        "id": f"{7:012x}{number:08x}",
        "request_id": f"r{number}",
        "since": time.time() - 5,
        "state": "waiting",
    }
    return LiveRequest(**told | fields)


def peer(gate: AdminGate, *rows: LiveRequest) -> FakePeer:
    assert gate.live is not None
    return FakePeer(gate.live, 7, rows)


def receipt(id: str) -> Receipt:
    told = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "verdict": "admit",
        "reason": "",
        "ended": "complete",
    }
    return Receipt(id=id, request_id="r1", time=datetime.now(UTC), principal="bot", **told)  # type: ignore[arg-type]  # as text


def test_nothing_is_under_way(client: Client) -> None:
    found = client.get("/api/v1/live").json()
    assert (found["total"], found["matching"], found["silent"], found["requests"], found["clients"]) == (0, 0, 0, [], [])
    assert found["models"] == [{"model": "smollm2", "ready": True, "in_flight": 3, "queued": 1, "recent": None}]
    assert found["instances"] == [
        {
            "id": "http://10.0.0.5:8000",
            "model": "smollm2",
            "in_flight": 3,
            "state": "healthy",
            "healthy": True,
            "draining": False,
        }
    ]


def test_one_request(gate: AdminGate, client: Client) -> None:
    peer(gate, row(client="bot", key="k1", team="acme", model="m", instance="m/a", state="streaming", tokens=12, stream=True))
    found = client.get("/api/v1/live").json()
    (one,) = found["requests"]
    assert 5 <= one.pop("seconds") < 60
    assert datetime.fromisoformat(one.pop("since")).tzinfo is not None
    assert one == {
        "id": ID, "request_id": "r1", "client": "bot", "key": "k1", "team": "acme", "model": "m", "instance": "m/a",
        "dialect": None, "endpoint": None, "stream": True, "state": "streaming", "position": None, "prompt_tokens": 0,
        "tokens": 12, "attempts": 0, "address": "", "worker": 0,
    }  # fmt: skip
    assert found["clients"] == [{"client": "bot", "in_flight": 1, "queued": 1, "recent": None}]


def test_the_workers_are_asked_for_what_is_meant(gate: AdminGate, client: Client) -> None:
    asked = peer(gate).asked
    query = {"client": "bot", "team": "acme", "model": "m", "instance": "m/a", "in_state": "queued", "limit": "7"}
    assert client.get("/api/v1/live", params=query).status_code == 200
    assert client.get("/api/v1/live").status_code == 200
    first, second = asked
    assert (first.which.client, first.which.team, first.which.model) == ("bot", "acme", "m")
    assert (first.which.instance, first.which.state, first.most) == ("m/a", "queued", 7)
    assert (second.which.client, second.most) == ("", 100)


@pytest.mark.parametrize(
    "query", ["in_state=over", "in_state=", "limit=0", "limit=1001", "limit=x", "clients=bot", "client=a&client=b"]
)
def test_a_query_that_nobody_can_answer(gate: AdminGate, client: Client, query: str) -> None:
    asked = peer(gate).asked
    assert client.get(f"/api/v1/live?{query}").status_code == 400
    assert asked == []


def test_a_thousand(gate: AdminGate, client: Client) -> None:
    peer(gate, *[row(number) for number in range(1, 1201)])
    found = client.get("/api/v1/live?limit=1000").json()
    assert (found["total"], len(found["requests"])) == (1200, 1000)


def test_a_models_line_is_told_once(gate: AdminGate, client: Client) -> None:
    """Each of its instances tells of it."""
    each = [InstanceStatus(id=name, model="m", in_flight=2, waiting=5) for name in "ab"]
    gate.now = GateStatus(models=[ModelStatus(name="m", ready=True), ModelStatus(name="n", ready=False)], instances=each)
    assert client.get("/api/v1/live").json()["models"] == [
        {"model": "m", "ready": True, "in_flight": 4, "queued": 5, "recent": None},
        {"model": "n", "ready": False, "in_flight": 0, "queued": 0, "recent": None},
    ]


def test_what_was_lately(gate: AdminGate, client: Client) -> None:
    """Of clients, also of those that have nothing under way now, and of models: requests, tokens, and how long they took."""
    peer(gate, row(client="bot", model="smollm2"))
    fields: dict[str, Any] = {"model": "smollm2", "attempts": 1, "completion_tokens": 9, "total_us": 2000, "first_byte_us": 1000}
    both = [replace(receipt(f"{number:020}"), principal=name, **fields) for number, name in enumerate(("bot", "other", "other"))]
    old = replace(receipt("9" * 20), principal="old", time=datetime.now(UTC) - timedelta(minutes=3))
    gate.store.write(Batch(receipts=[*both, old]))
    found = client.get("/api/v1/live").json()
    assert [(one["client"], one["in_flight"], one["recent"]["requests"]) for one in found["clients"]] == [
        ("bot", 1, 1),
        ("other", 0, 2),
    ]
    (one,) = found["models"]
    assert (one["recent"]["requests"], one["recent"]["completion_tokens"]) == (3, 27)
    assert one["recent"]["latency"]["total"]["count"] == 3
    assert 1800 <= one["recent"]["latency"]["total"]["p50"] <= 2200
    since = datetime.fromisoformat(found["recent_since"])
    assert (since.second, since.microsecond) == (0, 0)
    assert 60 <= (datetime.fromisoformat(found["time"]) - since).total_seconds() < 121


def test_a_ledger_that_cannot_be_read(gate: AdminGate, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way is seen all the same."""

    def away(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("away")

    peer(gate, row(client="bot"))
    monkeypatch.setattr("slmgate.control.analytics.Analytics.clients", away)
    found = client.get("/api/v1/live").json()
    assert (found["total"], found["clients"][0]["recent"], found["models"][0]["recent"]) == (1, None, None)


def test_one_is_cancelled(gate: AdminGate, client: Client) -> None:
    peer(gate, row(client="bot", model="m", instance="m/a"))
    answer = client.post(f"/api/v1/live/{ID}/cancel")
    assert (answer.status_code, answer.json()["id"], answer.json()["client"]) == (200, ID, "bot")
    (noted,) = gate.store.audit(10)
    assert (noted.actor, noted.action, noted.target) == ("admin", "cancel", ID)
    assert noted.detail == {"client": "bot", "model": "m", "instance": "m/a", "request_id": "r1", "state": "waiting"}
    assert client.get("/api/v1/live").json()["total"] == 0
    # once more: nobody knows of it, as far as this worker says
    assert client.post(f"/api/v1/live/{ID}/cancel").status_code == 404
    assert len(gate.store.audit(10)) == 1


def test_whoever_may_only_look_cancels_nothing() -> None:
    rows = {row.path: row.permission for row in ROUTES if row.path.startswith("/api/v1/live")}
    assert rows == {"/api/v1/live": Permission.VIEWER, "/api/v1/live/{id:str}/cancel": Permission.OPERATOR}


def test_one_that_is_over(gate: AdminGate, client: Client) -> None:
    peer(gate)
    over = client.post(f"/api/v1/live/{7:012x}00000099/cancel")  # of which its worker knows
    assert (over.status_code, over.json()["detail"]) == (409, "The request has come to its end already; its receipt says how.")
    gone = "f" * 20  # of a worker that has ended
    assert client.post(f"/api/v1/live/{gone}/cancel").status_code == 404
    gate.store.write(Batch(receipts=[receipt(gone)]))
    assert client.post(f"/api/v1/live/{gone}/cancel").status_code == 409
    assert gate.store.audit(10) == []


def test_one_that_ends_meanwhile(gate: AdminGate, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the line in the audit log and its end it came to its own."""
    has_it = peer(gate, row())
    written = gate.store.append_audit

    def slow(record: Any) -> None:
        written(record)
        has_it.rows.clear()

    monkeypatch.setattr(gate.store, "append_audit", slow)
    assert client.post(f"/api/v1/live/{ID}/cancel").status_code == 404
    assert len(gate.store.audit(10)) == 1


def test_a_worker_that_does_not_answer(gate: AdminGate, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SECONDS", 0.001)
    peer(gate, row()).parts = 0
    assert client.get("/api/v1/live").json()["silent"] == 1
    answer = client.post(f"/api/v1/live/{ID}/cancel")
    assert (answer.status_code, "does not answer now" in answer.json()["detail"]) == (503, True)
    assert gate.store.audit(10) == []


def test_where_no_gate_runs(gate: AdminGate, client: Client) -> None:
    gate.live = None
    for answer in (client.get("/api/v1/live"), client.post(f"/api/v1/live/{ID}/cancel")):
        assert (answer.status_code, answer.json()["detail"]) == (400, "No gate runs here, so that no request is under way.")
    assert module.STATES == ("reading", "queued", "connecting", "waiting", "streaming")
