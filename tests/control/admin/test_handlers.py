"""What the routes answer, over a real store; what stands before them is in test_app.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin.context import ModelStatus
from slmgate.stores.base import Batch
from tests.tools.admin_gate import READY, AdminGate, asking
from tests.tools.journal_writer import make_receipt


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    gate = AdminGate(tmp_path)
    gate.store.write(Batch(receipts=[make_receipt(f"r{number}", request_id=f"mine{number}") for number in range(5)]))
    yield gate
    gate.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def test_health(gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "draining": False, "models": {"smollm2": True}})
    gate.now = msgspec.structs.replace(READY, models=[ModelStatus(name="smollm2", ready=False)])
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["models"]) == (503, {"smollm2": False})


def test_status_and_instances(client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/status").json() == msgspec.json.decode(msgspec.json.encode(READY))
    assert client.get("/api/v1/instances").json() == msgspec.to_builtins(READY.instances)


def test_a_keys_life(gate: AdminGate, client: TestClient[Litestar]) -> None:
    made = client.post("/api/v1/keys", json={"name": "bot", "team": "acme", "expires": "30d"})
    assert made.status_code == 201
    key, secret = made.json()["key"], made.json()["secret"]
    assert secret.startswith(f"sk-slm-{key['id']}-")
    assert (key["name"], key["team"], key["state"]) == ("bot", "acme", "active")
    assert key["secrets"] == [{"created": key["created"], "until": None}]
    assert client.get("/api/v1/keys").json() == {"keys": [key]}
    assert client.get("/api/v1/keys/bot").json() == client.get(f"/api/v1/keys/{key['id']}").json() == key
    rotated = client.post("/api/v1/keys/bot/rotate", json={"overlap": "24h"}).json()
    assert rotated["secret"] not in ("", secret)
    assert len(rotated["key"]["secrets"]) == 2
    assert len(client.post("/api/v1/keys/bot/rotate").json()["key"]["secrets"]) == 1
    assert client.post("/api/v1/keys/bot/disable").json()["state"] == "disabled"
    assert client.post("/api/v1/keys/bot/enable").json()["state"] == "active"
    assert client.post("/api/v1/keys/bot/revoke").json()["state"] == "revoked"
    for change in ("enable", "disable", "rotate"):
        assert client.post(f"/api/v1/keys/bot/{change}").status_code == 409
    assert client.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    assert client.post("/api/v1/keys", json={"name": "bot"}).status_code == 409
    changes = client.get("/api/v1/audit").json()["changes"]
    assert [change["action"] for change in changes[:-1]] == [
        "key.create", "key.revoke", "key.enable", "key.disable", "key.rotate", "key.rotate",
    ]  # fmt: skip
    assert {change["actor"] for change in changes} == {"admin"}
    assert secret not in client.get("/api/v1/audit").text


@pytest.mark.parametrize("body", [{"name": "a", "expires": "soon"}, {"name": ""}, {"name": "a", "expires": "2020-01-01"}])
def test_a_key_that_cannot_be(body: dict[str, str], gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert client.post("/api/v1/keys", json=body).status_code == 400
    assert gate.keyring.all() == []


def test_usage(client: TestClient[Litestar]) -> None:
    report = client.get("/api/v1/usage?by=client,%20day&since=2026-11-01&until=2026-12-01").json()
    assert report["by"] == ["client", "day"]
    assert report["rows"] == [
        {
            "group": {"client": "bot", "day": "2026-11-20"},
            "requests": 5, "refused": 0, "errors": 0, "prompt_tokens": 35, "completion_tokens": 25, "total_tokens": 60,
            "estimated_share": 0.0,
        }
    ]  # fmt: skip
    assert client.get("/api/v1/usage?client=eve").json()["rows"] == []
    for query in ("by=cow", "by=day,day", "since=junk"):
        assert client.get(f"/api/v1/usage?{query}").status_code == 400


def test_receipts_page_by_page(client: TestClient[Litestar]) -> None:
    seen, query = [], "limit=2"
    while True:
        page = client.get(f"/api/v1/receipts?{query}").json()
        seen += [entry["receipt"]["id"] for entry in page["receipts"]]
        if page["next"] is None:
            break
        query = f"limit=2&before={page['next']}"
    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    following = client.get("/api/v1/receipts?after=3").json()
    assert [entry["receipt"]["id"] for entry in following["receipts"]] == ["r3", "r4"]
    assert client.get("/api/v1/receipts?after=1&before=2").status_code == 400
    assert client.get("/api/v1/receipts?status=429").json()["receipts"] == []
    for query in (f"before={2**63}", "after=-1", "status=1000", f"status={2**70}"):
        assert client.get(f"/api/v1/receipts?{query}").status_code == 400
    assert client.get(f"/api/v1/audit?before={2**63}").status_code == 400


def test_one_receipt(client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/receipts/r1").json() == client.get("/api/v1/receipts/mine1").json()
    assert client.get("/api/v1/receipts/r1").json()["prompt_tokens"] == 7
    assert client.get("/api/v1/receipts/none").status_code == 404


def test_reload(gate: AdminGate, client: TestClient[Litestar]) -> None:
    answer = client.post("/api/v1/reload")
    assert (answer.status_code, answer.json()) == (200, {"applied": True, "faults": []})
    gate.faults = ["slmgate.yaml:3:1: no such option"]
    answer = client.post("/api/v1/reload")
    assert (answer.status_code, answer.json()["faults"]) == (409, gate.faults)
    assert [line.detail["applied"] for line in gate.store.audit(9)] == ["no", "yes"]


def test_the_audit_log_page_by_page(gate: AdminGate, client: TestClient[Litestar]) -> None:
    for name in "abc":
        gate.keyring.create(name)
    first = client.get("/api/v1/audit?limit=2").json()
    rest = client.get(f"/api/v1/audit?limit=2&before={first['next']}").json()
    assert [change["detail"]["name"] for change in first["changes"] + rest["changes"]] == ["c", "b", "a"]
    assert rest["next"] is None
