"""What the routes answer, over a real store; what stands before them is in test_app.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin.context import ModelStatus
from slmgate.control.admin.routes import MAX_BODY
from slmgate.control.catalogue import Catalogue
from slmgate.control.config.limit_options import Limit
from slmgate.control.config.limit_words import parse
from slmgate.control.config.options import DeclaredKey
from slmgate.stores.records import AuditRecord, Batch, KeyFilter, KeyUse, LedgerUnavailable
from tests.tools.admin_gate import READY, AdminGate, asking
from tests.tools.journal_writer import NOON, make_receipt


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
    assert (answer.status_code, answer.json()) == (
        200,
        {"ready": True, "draining": False, "models": {"smollm2": True}, "instances": {}, "missing": {}, "notes": 0},
    )
    gate.now = msgspec.structs.replace(READY, models=[ModelStatus(name="smollm2", ready=False)])
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["models"]) == (503, {"smollm2": False})
    out = msgspec.structs.replace(READY.instances[0], healthy=False, state="ejected", again=2.4)
    gate.now = msgspec.structs.replace(READY, instances=[out, msgspec.structs.replace(out, id="b", draining=True)])
    assert client.get("/readyz").json()["instances"] == {out.id: "ejected for 3 s", "b": "draining, 3 in flight"}
    there, elsewhere = Catalogue(state="listed", text="listed"), Catalogue(state="missing", text="m is not there: it lists x")
    rows = [msgspec.structs.replace(out, catalogue=there), msgspec.structs.replace(out, id="b", catalogue=elsewhere)]
    gate.now = msgspec.structs.replace(READY, instances=rows, notes=["vllm.svc: no DNS server answers for it"])
    ready = client.get("/readyz").json()
    assert (ready["missing"], ready["notes"]) == ({"b": "m is not there: it lists x"}, 1)


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
    assert client.get("/api/v1/keys").json() == {"keys": [key], "next": None}
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


def test_everything_that_a_key_can_have(gate: AdminGate, client: TestClient[Litestar]) -> None:
    body = {"name": "bot", "owner": "jane", "roles": ["a"], "tags": ["t"], "networks": ["10.0.0.0/8"]}
    body["limits"] = ["60 requests/minute", "{limit: 4 concurrent, per: [model]}"]
    made = client.post("/api/v1/keys", json=body).json()["key"]
    assert {name: made[name] for name in body} == body
    assert (made["used"], made["declared"]) == (None, False)
    gate.store.write(Batch(used={made["id"]: KeyUse(NOON, "192.0.2.1")}))
    assert client.get("/api/v1/keys/bot").json()["used"] == {"time": "2026-11-20T12:00:00Z", "address": "192.0.2.1"}


def test_an_edit(client: TestClient[Litestar]) -> None:
    client.post("/api/v1/keys", json={"name": "bot", "owner": "jane", "team": "acme", "tags": ["t"], "expires": "30d"})
    edited = client.post("/api/v1/keys/bot", json={"owner": None, "roles": ["a"], "expires": "never"}).json()
    assert (edited["owner"], edited["team"], edited["roles"], edited["tags"], edited["expires"]) == (
        None,
        "acme",
        ["a"],
        ["t"],
        None,
    )
    assert client.get("/api/v1/keys/bot").json() == edited
    assert client.post("/api/v1/keys/bot", json={"tags": [], "expires": "2030-01-01"}).json()["tags"] == []
    assert client.post("/api/v1/keys/bot", json={"limits": ["9/minute"]}).json()["limits"] == ["9 requests/minute"]
    assert client.post("/api/v1/keys/bot", json={"limits": ["9 per minute"]}).json()["detail"] == (
        "'9 per minute' is not spelled as a limit is (write 9 requests/minute)"
    )
    for body in ({"nme": "x"}, {"roles": "a"}, {"roles": None}, {"tags": ["a b"]}, {"expires": "2020-01-01"}, {"team": ""}):
        assert client.post("/api/v1/keys/bot", json=body).status_code == 400, body
    assert client.post("/api/v1/keys/none", json={}).status_code == 404
    client.post("/api/v1/keys/bot/revoke")
    assert client.post("/api/v1/keys/bot", json={"owner": "joe"}).status_code == 409


def test_keys_page_by_page(gate: AdminGate, client: TestClient[Litestar]) -> None:
    """Declared ones come first, and a page may hold some of both."""
    gate.keyring.declared = lambda: [DeclaredKey(name=f"d{n}", hash=bytes([n]) * 32) for n in range(3)]
    for number in range(4):
        client.post("/api/v1/keys", json={"name": f"s{number}"})
    for limit in (1, 2, 3, 4, 5, 7, 8):
        seen, query = [], f"limit={limit}"
        while True:
            page = client.get(f"/api/v1/keys?{query}").json()
            assert len(page["keys"]) <= limit
            seen += [key["name"] for key in page["keys"]]
            if page["next"] is None:
                break
            query = f"limit={limit}&after={page['next']}"
        assert seen == ["d0", "d1", "d2", "s0", "s1", "s2", "s3"], limit


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["here", "off", "stored"]),
        ("owner=jane", ["here", "stored"]),
        ("team=acme", ["here"]),
        ("role=a", ["here", "stored"]),
        ("tag=t", ["here"]),
        ("search=ERE", ["here"]),
        ("search=declared:", ["here", "off"]),
        ("in_state=disabled", ["off"]),
        ("in_state=active&owner=jane", ["here", "stored"]),
        ("in_state=expired", []),
        ("key=here", ["here"]),
        ("key=declared:off", ["off"]),
        ("key=stored", ["stored"]),
    ],
)
def test_declared_keys_beside_stored_ones(query: str, names: list[str], gate: AdminGate, client: TestClient[Litestar]) -> None:
    here = DeclaredKey(name="here", hash=b"h" * 32, owner="jane", team="acme", roles=("a",), tags=("t",))
    gate.keyring.declared = lambda: [here, DeclaredKey(name="off", hash=b"o" * 32, disabled=True)]
    client.post("/api/v1/keys", json={"name": "stored", "owner": "jane", "roles": ["a"]})
    assert [key["name"] for key in client.get(f"/api/v1/keys?{query}").json()["keys"]] == names


def test_a_declared_key(gate: AdminGate, client: TestClient[Litestar]) -> None:
    gate.keyring.declared = lambda: [
        DeclaredKey(name="here", hash=b"h" * 32, expires=NOON, limits=(Limit(limit=parse("60/minute"), on_excess="clamp"),))
    ]
    gate.store.write(Batch(used={"declared:here": KeyUse(NOON, "192.0.2.1")}))
    key = client.get("/api/v1/keys/here").json()
    assert (key["id"], key["declared"], key["created"], key["secrets"]) == ("declared:here", True, None, [])
    assert (key["used"]["address"], key["state"]) == ("192.0.2.1", "expired")
    assert key["limits"] == ["{limit: 60 requests/minute, on_excess: clamp}"]
    assert client.get("/api/v1/keys").json()["keys"] == [key]
    for change in ("", "/rotate", "/disable", "/enable", "/revoke"):
        answer = client.post(f"/api/v1/keys/here{change}", json={} if not change else None)
        assert (answer.status_code, "declared in the configuration" in answer.text) == (409, True), change
    assert client.post("/api/v1/keys", json={"name": "here"}).status_code == 409


def test_bad_questions_about_keys(client: TestClient[Litestar]) -> None:
    for query in ("in_state=junk", "limit=0", "limit=1001"):
        assert client.get(f"/api/v1/keys?{query}").status_code == 400
    assert client.get("/api/v1/keys?key=none").status_code == 404
    assert client.get("/api/v1/keys?after=none").json() == {"keys": [], "next": None}


def test_import_and_export(gate: AdminGate, client: TestClient[Litestar]) -> None:
    rows: list[dict[str, Any]] = [{"name": "old", "hash": "sha256:" + "0a" * 32, "roles": ["a"]}, {"name": "new"}]
    assert client.post("/api/v1/keys/import", json={"keys": rows, "dry_run": True}).json() == {"count": 0, "secrets": []}
    assert gate.keyring.page(KeyFilter(), 9) == []
    answer = client.post("/api/v1/keys/import", json={"keys": rows})
    assert answer.json()["count"] == 2
    (made,) = answer.json()["secrets"]
    assert (made["name"], made["secret"].startswith(f"sk-slm-{made['id']}-")) == ("new", True)
    again = client.post("/api/v1/keys/import", json={"keys": rows})
    assert (again.status_code, "line 1: the name is the key" in again.json()["detail"]) == (400, True)
    client.post("/api/v1/keys", json={"name": "gone"})
    client.post("/api/v1/keys/gone/revoke")
    first = client.get("/api/v1/keys/export?limit=2").json()
    rest = client.get(f"/api/v1/keys/export?limit=2&after={first['next']}").json()
    assert ([row["name"] for row in first["keys"]], rest) == (["old", "new"], {"keys": [], "next": None})
    assert first["keys"][0]["hash"] == rows[0]["hash"]
    for row in first["keys"]:
        row |= {"name": row["name"] + "2", "id": row["id"] + "2", "hash": "sha256:" + row["hash"][:6:-1]}
    assert client.post("/api/v1/keys/import", json={"keys": first["keys"]}).json() == {"count": 2, "secrets": []}


def test_an_import_may_be_larger_than_other_requests(client: TestClient[Litestar]) -> None:
    large = "x" * MAX_BODY
    assert client.post("/api/v1/keys", json={"name": large}).status_code == 413
    assert client.post("/api/v1/keys/import", json={"keys": [{"name": large}]}).status_code == 400


@pytest.mark.parametrize("body", [{"name": "a", "expires": "soon"}, {"name": ""}, {"name": "a", "expires": "2020-01-01"}])
def test_a_key_that_cannot_be(body: dict[str, str], gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert client.post("/api/v1/keys", json=body).status_code == 400
    assert gate.keyring.page(KeyFilter(), 9) == []


def test_usage(client: TestClient[Litestar]) -> None:
    report = client.get("/api/v1/usage?by=client,%20day&since=2026-11-01&until=2026-12-01").json()
    assert report["by"] == ["client", "day"]
    assert report["rows"] == [
        {
            "group": {"client": "bot", "day": "2026-11-20"},
            "requests": 5, "refused": 0, "errors": 0, "prompt_tokens": 35, "completion_tokens": 25, "total_tokens": 60,
            "estimated_share": 0.0, "cost": {},
        }
    ]  # fmt: skip
    assert client.get("/api/v1/usage?client=eve").json()["rows"] == []
    assert client.get("/api/v1/usage?shadow=true").json()["rows"] == []
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


def test_a_reload_that_cannot_be_noted_is_told_as_it_was(
    gate: AdminGate, client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The configuration is in force by then, and nobody may be told that nothing was changed."""

    def away(record: AuditRecord) -> None:
        raise LedgerUnavailable("The database is away.")

    monkeypatch.setattr(gate.store, "append_audit", away)
    answer = client.post("/api/v1/reload")
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("The configuration was read and is in force, but the audit log")
    assert "reload of configuration by admin is not in the audit log: The database is away." in caplog.text
    gate.faults = ["slmgate.yaml:3:1: no such option"]
    answer = client.post("/api/v1/reload")
    assert answer.status_code == 503
    assert "no such option; the old one stays, but the audit log" in answer.json()["detail"]


def test_the_audit_log_page_by_page(gate: AdminGate, client: TestClient[Litestar]) -> None:
    for name in "abc":
        gate.keyring.create(name)
    first = client.get("/api/v1/audit?limit=2").json()
    rest = client.get(f"/api/v1/audit?limit=2&before={first['next']}").json()
    assert [change["detail"]["name"] for change in first["changes"] + rest["changes"]] == ["c", "b", "a"]
    assert rest["next"] is None
