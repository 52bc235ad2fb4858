"""Verdicts told by the admin API: of declared and stored keys, of requests that were, and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.config import load_text
from slmgate.stores.records import Batch
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.journal_writer import make_receipt

CONFIG = (
    'models: {smollm2: {instances: [{url: "http://h:1"}]}}\n'
    "roles: {partner: {models: [smollm2], parameters: {n: {max: 1}}}}\n"
    "teams: {acme: {roles: [partner]}}\n"
    f'keys: [{{name: bot, team: acme, hash: "sha256:{"0" * 64}"}}]\n'
)


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG).unwrap()
    made.keyring.create("late", "acme", networks=("10.0.0.0/8",))
    return made


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as made:
        yield made


def verdict(client: TestClient[Litestar], **wish: object) -> tuple[int, str]:
    answer = client.post("/api/v1/explain", json={"model": "smollm2"} | wish)
    body = answer.json()
    return answer.status_code, str(body["verdict"]["code"] if answer.status_code < 400 else body["detail"])


def test_would_be_requests(client: TestClient[Litestar], gate: AdminGate) -> None:
    assert verdict(client, **{"as": "bot"}) == (200, "ok")
    assert verdict(client, **{"as": "bot", "parameters": {"n": 2}}) == (200, "parameter_not_allowed")
    assert verdict(client, **{"as": "late", "address": "10.1.1.1"}) == (200, "ok")
    assert verdict(client, **{"as": "late", "address": "9.9.9.9"}) == (200, "permission_denied")
    assert verdict(client, team="acme") == (200, "ok")
    gate.keyring.edit("late", {"limits": ["2 requests/minute"]})
    wish = {"as": "late", "address": "10.1.1.1", "used": {"2 requests/minute": 2}}
    assert verdict(client, **wish) == (200, "rate_limit_exceeded")
    gate.keyring.disable("late")
    assert verdict(client, **{"as": "late", "address": "10.1.1.1"}) == (200, "invalid_api_key")
    gate.keyring.revoke("late")
    assert verdict(client, **{"as": "late"})[0] == 404
    assert verdict(client, **{"as": "nobody"}) == (
        404,
        "There is no key 'nobody' that could still be used; `slmgate keys list` shows all.",
    )


def test_what_cannot_be_told(client: TestClient[Litestar], gate: AdminGate) -> None:
    assert verdict(client) == (400, "Say who asks: a key by its name or id, or roles, or a team.")
    assert verdict(client, **{"as": "bot", "modell": "x"})[0] == 400
    assert client.get("/api/v1/explain/none").status_code == 404
    gate.config = None
    assert verdict(client, **{"as": "bot"})[0] == 400


def test_past_requests(client: TestClient[Litestar], gate: AdminGate) -> None:
    late = gate.keyring.show("late").id
    receipts = [
        make_receipt("r1", key="declared:bot", roles="partner", rule="roles.partner", parameters="n=2"),
        make_receipt("r2", key=late, roles="partner", rule="roles.partner", address="10.0.0.1"),
        make_receipt("r3", key=None),
        make_receipt("r4", key="gone"),
    ]
    gate.store.write(Batch(receipts=receipts))
    told = {id: client.get(f"/api/v1/explain/{id}").json() for id in ("r1", "r2", "r3", "r4")}
    assert told["r1"]["differs"][0].startswith("Then it was admitted by roles.partner; today it would be refused with parameter")
    assert (told["r2"]["today"]["verdict"]["admitted"], told["r2"]["differs"]) == (True, [])
    assert told["r3"]["today"] is None
    assert "not a key that is known now" in told["r4"]["unknown"][0]
    gate.keyring.revoke("late")
    assert "The key is revoked now" in str(client.get("/api/v1/explain/r2").json()["differs"])
