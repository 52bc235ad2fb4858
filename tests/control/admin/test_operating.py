"""The routes about operators: what they answer, and that no answer or log holds what lets somebody in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin import operating
from slmgate.control.admin.signin.sessions import Sessions, Signed
from tests.tools.admin_gate import AdminGate, asking

WORDS = "some long words"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    gate = AdminGate(tmp_path)
    yield gate
    gate.store.close()


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def test_who_calls(client: TestClient[Litestar]) -> None:
    assert client.get("/api/v1/whoami").json() == {"name": "admin", "role": "owner"}


def test_accounts(gate: AdminGate, client: TestClient[Litestar]) -> None:
    made = client.post("/api/v1/admin/users", json={"name": "ann", "role": "viewer", "password": WORDS})
    assert made.status_code == 201
    assert set(made.json()) == {"name", "role", "created", "changed"}
    assert client.get("/api/v1/admin/users").json() == {"accounts": [made.json()]}
    assert client.post("/api/v1/admin/users", json={"name": "ann", "role": "viewer", "password": WORDS}).status_code == 409
    assert client.post("/api/v1/admin/users/ann/role", json={"role": "owner"}).json()["role"] == "owner"
    assert client.post("/api/v1/admin/users/ann/password", json={"password": "other long words"}).status_code == 200
    short = client.post("/api/v1/admin/users/ann/password", json={"password": "sh0rt!"})
    assert (short.status_code, "sh0rt!" in short.text) == (400, False)
    assert client.post("/api/v1/admin/users/ann/remove").json()["name"] == "ann"
    assert client.post("/api/v1/admin/users/ann/remove").status_code == 404
    log = client.get("/api/v1/audit").text
    assert "words" not in log and "argon2" not in log
    assert {change.actor for change in gate.store.audit(9)} == {"admin"}


def test_admin_keys(client: TestClient[Litestar]) -> None:
    made = client.post("/api/v1/admin/keys", json={"name": "ci", "role": "viewer", "expires": "30d"})
    assert made.status_code == 201
    secret, key = made.json()["secret"], made.json()["key"]
    assert client.get("/api/v1/admin/keys").json() == {"keys": [key]}
    assert client.get("/api/v1/whoami", headers={"authorization": f"Bearer {secret}"}).json() == {
        "name": "key:ci",
        "role": "viewer",
    }
    assert client.post(f"/api/v1/admin/keys/{key['id']}/revoke").json()["revoked"]
    assert client.get("/api/v1/whoami", headers={"authorization": f"Bearer {secret}"}).status_code == 401
    assert secret not in client.get("/api/v1/audit").text


def test_sessions(gate: AdminGate, client: TestClient[Litestar]) -> None:
    account = gate.accounts.add("ann", "owner", WORDS, "admin")
    cookie = Sessions(gate.accounts).start(Signed("user:ann", "owner", account), gate.admin.auth, "192.0.2.1", "")
    answer = client.get("/api/v1/admin/sessions")
    (found,) = answer.json()["sessions"]
    assert (found["operator"], found["role"], found["address"]) == ("user:ann", "owner", "192.0.2.1")
    assert cookie is not None and cookie not in answer.text
    assert client.post(f"/api/v1/admin/sessions/{found['id']}/end").status_code == 200
    assert client.post(f"/api/v1/admin/sessions/{found['id']}/end").status_code == 404


def test_bodies_do_not_show_their_password() -> None:
    assert WORDS not in repr(operating.NewAccount(name="ann", role="owner", password=WORDS))
    assert WORDS not in repr(operating.NewPassword(password=WORDS))
