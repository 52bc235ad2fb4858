"""What stands before every route of the admin API: host, origin, credential, permission; and its problems' form."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate import __version__
from slmgate.control.admin.app import _known_host
from slmgate.control.admin.dashboard.routes import ROUTES as DASHBOARD
from slmgate.control.admin.routes import MARK, ROUTES
from slmgate.control.admin.signin.routes import PAGES
from slmgate.control.operators import Operator, Permission
from slmgate.stores.records import KeyFilter, LedgerUnavailable
from tests.tools.admin_gate import AdminGate, asking

OPEN = {"/api", "/api/openapi.json", "/api/{path:str}"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    gate = AdminGate(tmp_path)
    yield gate
    gate.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def test_every_answer_is_marked(client: TestClient[Litestar]) -> None:
    for path in ("/healthz", "/api/v1/keys", "/api/v1/keys/none", "/nope", "/api/openapi.json"):
        assert client.get(path).headers["slmgate-admin-api"] == __version__
    assert MARK in client.delete("/api/v1/keys").headers
    assert MARK in client.get("/api/v1/keys", headers={"authorization": ""}).headers


def test_every_route_is_a_row(client: TestClient[Litestar]) -> None:
    assert {route.path for route in client.app.routes} == {row.path for row in (*ROUTES, *PAGES, *DASHBOARD)} | OPEN


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
@pytest.mark.parametrize(
    "credential", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {}", "{}", "Bearer {}x", "Bearer sk-slm-a-b"]
)
def test_no_row_without_a_credential(row: object, credential: str | None, gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert hasattr(row, "path")
    assert hasattr(row, "permission")
    assert hasattr(row, "method")
    del client.headers["authorization"]
    headers = {} if credential is None else {"authorization": credential.format(gate.secret)}
    answer = client.request(row.method, row.path.replace("{id:str}", "x"), headers=headers)
    if row.permission is Permission.PUBLIC:
        assert answer.status_code == 200
        return
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert gate.store.audit(1) == []


@pytest.mark.parametrize("held", list(Permission))
def test_the_matrix_of_permissions(held: Permission, gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.admin_keys, "check", lambda _: Operator("ann", held))
    with asking(gate) as client:
        for row in ROUTES:
            answer = client.request(row.method, row.path.replace("{id:str}", "x"))
            assert (answer.status_code == 403) == (row.permission > held), row


@pytest.mark.parametrize("name", ["bearer", "BEARER", "Bearer"])
def test_the_scheme_is_read_in_any_case(name: str, gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/keys", headers={"authorization": f"{name} {gate.secret}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8081", "[::1]", "[::1]:8081", "localhost", "LOCALHOST:1", "gate.lan", "10.0.0.1:80"]
)
def test_known_hosts(host: str, gate: AdminGate) -> None:
    with asking(gate, "Gate.lan") as client:
        assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8081",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[::1",
        "[::1]x",
        "127.0.0.1:x",
        "::1x",
    ],
)
def test_unknown_hosts(host: str, client: TestClient[Litestar]) -> None:
    assert not _known_host(host, {"localhost"})
    if host:
        for path in ("/healthz", "/api/v1/keys", "/api/openapi.json"):
            assert client.get(path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:8082", "file://", "ftp://127.0.0.1:8081"]
)
def test_foreign_origins(origin: str, gate: AdminGate, client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/keys", headers={"origin": origin}).status_code == 403
    assert client.post("/api/v1/keys", json={"name": "bot"}, headers={"origin": origin}).status_code == 403
    assert gate.keyring.page(KeyFilter(), 9) == []


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8081", "https://127.0.0.1:8081"])
def test_its_own_origin(origin: str, client: TestClient[Litestar]) -> None:
    answer = client.get("/api/v1/keys", headers={"origin": origin})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx"]
)
def test_a_form_is_not_json(kind: str, gate: AdminGate, client: TestClient[Litestar]) -> None:
    answer = client.post("/api/v1/keys", content=b'{"name":"bot"}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert gate.keyring.page(KeyFilter(), 9) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/nope", None, 404, "Not Found"),
        ("DELETE", "/api/v1/keys", None, 405, "Method Not Allowed"),
        ("GET", "/api/v1/keys/none", None, 404, "There is no key 'none'; `slmgate keys list` shows all."),
        ("POST", "/api/v1/keys", b"", 400, "The request needs a JSON body."),
        ("POST", "/api/v1/keys", b"{", 400, "Input data was truncated"),
        ("POST", "/api/v1/keys", b"[]", 400, "data: Expected `object`, got `array`"),
        ("POST", "/api/v1/keys", b'{"name":1}', 400, "name: Expected `str`, got `int`"),
        ("POST", "/api/v1/keys", b'{"name":"a","hash":"x"}', 400, "data: Object contains unknown field `hash`"),
        (
            "POST",
            "/api/v1/keys",
            b'{"name":"a\\u0000"}',
            400,
            "The name must have visible characters only, no control characters.",
        ),
        ("GET", "/api/v1/receipts?limit=0", None, 400, "limit: Expected `int` >= 1"),
        ("GET", "/api/v1/receipts?limit=1001", None, 400, "limit: Expected `int` <= 1000"),
    ],
)
def test_problems(method: str, path: str, body: bytes | None, status: int, detail: str, client: TestClient[Litestar]) -> None:
    headers = {"content-type": "application/json"} if body is not None else {}
    answer = client.request(method, path, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"] == detail


def test_a_body_over_the_bound(client: TestClient[Litestar]) -> None:
    assert client.post("/api/v1/keys", json={"name": "a" * (1024 * 1024)}).status_code == 413


@pytest.mark.parametrize(
    ("error", "status"), [(LedgerUnavailable("disk full at /secret/path"), 503), (RuntimeError("/secret/path"), 500)]
)
def test_failures_say_nothing_of_the_inside(
    error: Exception, status: int, gate: AdminGate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(gate.keyring, "page", fail)
    with asking(gate) as client, caplog.at_level(logging.ERROR, "slmgate.admin"):
        answer = client.get("/api/v1/keys")
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert "/secret/path" in caplog.text
    assert ("retry-after" in answer.headers) == (status == 503)


def test_the_description_is_openapi_3_1(client: TestClient[Litestar]) -> None:
    del client.headers["authorization"]
    described = client.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert {path for path in described["paths"] if path.startswith("/api/v1")} == {
        row.path.replace(":str", "") for row in ROUTES if row.path.startswith("/api/v1")
    }
    assert "digest" not in str(described)


def test_who_changed_what_from_where(gate: AdminGate, client: TestClient[Litestar]) -> None:
    made = client.post("/api/v1/keys", json={"name": "bot"}).json()["key"]["id"]
    client.post(f"/api/v1/keys/{made}", json={"owner": "jane"})
    client.post("/api/v1/reload")
    rows = gate.store.audit(9)[::-1]
    assert [(row.actor, row.action, row.address) for row in rows] == [
        ("admin", action, "testclient") for action in ("key.create", "key.edit", "reload")
    ]
    assert rows[1].detail == {"owner": "jane", "owner.before": "none"}
    assert client.get("/api/v1/audit/verify").json()["right"] is True
    assert client.get("/api/v1/audit/verify?head=nonsense").status_code == 400


def test_a_refused_change_is_in_the_audit_log(gate: AdminGate, client: TestClient[Litestar]) -> None:
    _, secret = gate.accounts.create_key("ci", "viewer", None, "admin")
    headers = {"authorization": f"Bearer {secret}"}
    before = len(gate.store.audit(9))
    assert client.get("/api/v1/admin/users", headers=headers).status_code == 403  # nothing would have changed
    assert client.post("/api/v1/keys/%0aforged/revoke", headers=headers).status_code == 403
    rows = gate.store.audit(9)
    assert len(rows) == before + 1
    assert (rows[0].actor, rows[0].action, rows[0].target, rows[0].address, rows[0].detail) == (
        "key:ci", "refused", "POST /api/v1/keys/{id}/revoke", "testclient", {"needs": "owner"},
    )  # fmt: skip


def test_a_change_that_cannot_be_noted_is_still_refused(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise LedgerUnavailable("disk full")

    _, secret = gate.accounts.create_key("ci", "viewer", None, "admin")
    monkeypatch.setattr(gate.store, "append_audit", fail)
    with asking(gate) as client:
        answer = client.post("/api/v1/keys", json={"name": "x"}, headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 503
    assert gate.keyring.page(KeyFilter(), 9) == []


def test_parameters_that_nobody_knows(client: TestClient[Litestar]) -> None:
    answer = client.get("/api/v1/keys?state=revoked&limit=5")
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "This has no parameter 'state'; it takes after, in_state, key, limit, owner, role, search, tag, team.",
    )
    assert client.get("/api/v1/whoami?x=").json()["detail"] == "This has no parameter 'x'."
    assert client.get("/api/v1/keys?limit=5&limit=6").json()["detail"].startswith("A parameter is there twice")
    assert client.post("/api/v1/keys?dry_run=true", json={"name": "bot"}).status_code == 400
    assert client.get("/healthz?t=1").status_code == 200
    assert client.get("/login?x=1").status_code == 200
    del client.headers["authorization"]
    assert client.get("/api/v1/keys?state=revoked").status_code == 401  # strangers learn nothing of what there is


def test_the_description_says_what_else_may_come(client: TestClient[Litestar]) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert set(paths["/api/v1/keys"]["post"]["responses"]) == {
        "201", "400", "401", "403", "404", "409", "413", "415", "421", "503",
    }  # fmt: skip
    assert list(paths["/api/v1/keys"]["post"]["responses"]["409"]["content"]) == ["application/problem+json"]
    assert list(paths["/api/v1/reload"]["post"]["responses"]["409"]["content"]) == ["application/json"]
    assert list(paths["/api/v1/statement.html"]["get"]["responses"]["200"]["content"]) == ["text/html"]
    assert (paths["/healthz"]["get"]["security"], "security" in paths["/api/v1/keys"]["post"]) == ([{}], False)
    assert "/api/{path}" not in paths
