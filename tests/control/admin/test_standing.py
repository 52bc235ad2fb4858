"""Limits in use, told by the admin API: who is meant, page by page, and what cannot be told. What is used the test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin import standing
from slmgate.control.config import load_text
from slmgate.control.looking import NobodyLooks
from slmgate.stores.records import Batch
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.journal_writer import make_receipt

CONFIG = (
    'models: {tiny: {instances: [{url: "http://h:1"}], limits: [50 concurrent, {limit: 9/minute, per: ip}]}}\n'
    "roles: {user: {models: [tiny], limits: [60 requests/minute]}}\n"
    f'keys: [{{name: here, roles: [user], hash: "sha256:{"0" * 64}"}}]\n'
)


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG).unwrap()
    for number in range(3):
        made.keyring.create(f"k{number}", roles=("user",), limits=["100 requests/hour"] if number else [])
    made.keyring.create("gone", roles=("user",))
    made.keyring.revoke("gone")
    made.used = {("60 requests/minute", made.keyring.show("k1").id): 54, ("100 requests/hour", made.keyring.show("k2").id): 100}
    return made


@pytest.fixture
def client(gate: AdminGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as made:
        yield made


def asked(client: TestClient[Litestar], query: str = "") -> dict[str, Any]:
    answer = client.get(f"/api/v1/limits?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def told(page: dict[str, Any]) -> list[str]:
    return [f"{one['whose']}: {one['used']} of {one['limit']}" for one in page["limits"]]


ALL = [
    "everybody: 0 of 50 concurrent",
    "here: 0 of 60 requests/minute",
    "k0: 0 of 60 requests/minute",
    "k1: 54 of 60 requests/minute",
    "k1: 0 of 100 requests/hour",
    "k2: 0 of 60 requests/minute",
    "k2: 100 of 100 requests/hour",
]


def test_all_of_them(client: TestClient[Litestar]) -> None:
    page = asked(client)
    assert (told(page), page["next"]) == (ALL, None)
    assert page["limits"][3]["share"] == 0.9
    assert page["limits"][3]["left"] == 6


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_page_by_page(limit: int, client: TestClient[Litestar]) -> None:
    seen, query = [], f"limit={limit}"
    while True:
        page = asked(client, query)
        seen += told(page)
        if page["next"] is None:
            break
        query = f"limit={limit}&after={page['next']}"
    assert seen == ALL


def test_many_that_are_shared_come_in_pages_too(client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "MAX_SEATS", 1)
    page = asked(client)
    assert (told(page), page["next"]) == (ALL[:1], "shared:1")
    page = asked(client, "after=shared:1")
    assert told(page) == ALL[1:2]
    assert told(asked(client, f"after={page['next']}")) == ALL[2:3]


def test_only_those_that_are_near(client: TestClient[Litestar]) -> None:
    assert told(asked(client, "near=0.9")) == [ALL[3], ALL[6]]
    assert told(asked(client, "near=1")) == [ALL[6]]


def test_of_one_key(client: TestClient[Litestar], gate: AdminGate) -> None:
    for name in ("k1", gate.keyring.show("k1").id):
        assert told(asked(client, f"key={name}")) == [ALL[0], *ALL[3:5]]
    assert told(asked(client, "key=declared:here")) == ALL[:2]
    assert told(asked(client, "key=k1&near=0.5")) == [ALL[3]]
    assert "10.0.0.7: 0 of 9 requests/minute" in told(asked(client, "key=k1&address=10.0.0.7"))


def test_of_who_came_with_a_token(client: TestClient[Litestar], gate: AdminGate) -> None:
    gate.store.write(
        Batch(
            receipts=[
                make_receipt("r1", key="https://i#jane", principal="jane", roles="user"),
                make_receipt("r2", key="declared:past", principal="past", roles="user"),
                make_receipt("r3", key=None, principal="(none)"),
            ]
        )
    )
    gate.used = {("60 requests/minute", "https://i#jane"): 7}
    for name in ("jane", "https://i%23jane"):
        assert told(asked(client, f"key={name}")) == [ALL[0], "jane: 7 of 60 requests/minute"]
    for name in ("past", "(none)", "nobody"):
        assert client.get(f"/api/v1/limits?key={name}").status_code == 404


def test_what_cannot_be_told(client: TestClient[Litestar], gate: AdminGate) -> None:
    gone = client.get("/api/v1/limits?key=gone")
    assert (gone.status_code, "revoked" in gone.json()["detail"]) == (404, True)
    for query in ("address=nowhere", "near=-1", "near=x", "limit=0", "after=shared:", "after=shared:x"):
        assert client.get(f"/api/v1/limits?{query}").status_code == 400, query
    assert asked(client, "after=none")["limits"] == []
    gate.config = None
    assert client.get("/api/v1/limits").status_code == 400


def test_no_worker_tells(client: TestClient[Litestar], gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_: object) -> None:
        raise NobodyLooks("Try again.")

    monkeypatch.setattr(gate, "look", look)
    assert client.get("/api/v1/limits").status_code == 503
