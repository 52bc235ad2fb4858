"""The routes about instances: drain, enable, add and remove, what they answer, what they refuse and who may call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.admin.context import GateStatus
from slmgate.control.admin.instances import NewInstance
from slmgate.control.config import load_text
from slmgate.control.picture import picture
from tests.tools.admin_gate import READY, AdminGate, asking

CONFIG = load_text('models: {m: {instances: [{url: "http://a:1"}]}, n: {instances: [{url: "http://b:1"}]}}').unwrap()


class InstanceGate(AdminGate):
    """Its status is the picture of a configuration and of its roster."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.roster.config = lambda: self.roster.expand(CONFIG)

    def status(self) -> GateStatus:
        models, instances = picture(self.roster.config(), (), drained=self.roster.drained, source=self.roster.source)
        return msgspec.structs.replace(READY, models=models, instances=instances)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[InstanceGate]:
    gate = InstanceGate(tmp_path)
    yield gate
    gate.store.close()


@pytest.fixture
def client(gate: InstanceGate) -> Iterator[TestClient[Litestar]]:
    with asking(gate) as client:
        yield client


def test_drained_and_enabled(gate: InstanceGate, client: TestClient[Litestar]) -> None:
    row = client.post("/api/v1/instances/drain", json={"id": "m/a:1"})
    assert (row.status_code, row.json()["id"], row.json()["draining"], row.json()["source"]) == (200, "m/a:1", True, "file")
    assert client.get("/api/v1/instances").json()[0] == row.json()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["models"]) == (503, {"m": False, "n": True})
    assert ready.json()["instances"] == {"m/a:1": "draining, 0 in flight"}
    assert client.post("/api/v1/instances/enable", json={"id": "m/a:1"}).json()["draining"] is False
    assert client.get("/readyz").json()["instances"] == {}
    assert [(line.actor, line.action) for line in gate.store.audit(9)] == [
        ("admin", "instance.enable"),
        ("admin", "instance.drain"),
    ]


def test_added_and_removed(gate: InstanceGate, client: TestClient[Litestar]) -> None:
    made = client.post("/api/v1/instances", json={"model": "m", "url": "http://c:1", "engine": "vllm", "max_in_flight": 4})
    assert (made.status_code, made.json()["id"], made.json()["source"]) == (201, "m/c:1", "added")
    assert gate.roster.config().models["m"].instances[1].max_in_flight == 4
    again = client.post("/api/v1/instances", json={"model": "m", "url": "http://c:1"})
    assert (again.status_code, again.json()["detail"]) == (409, "m/c:1 is an instance of m already.")
    gone = client.post("/api/v1/instances/remove", json={"id": "m/c:1"})
    assert (gone.status_code, gone.json()["id"], gone.json()["source"]) == (200, "m/c:1", "removed")
    assert [row["id"] for row in client.get("/api/v1/instances").json()] == ["m/a:1", "n/b:1"]
    of_file = client.post("/api/v1/instances/remove", json={"id": "m/a:1"})
    assert (of_file.status_code, "stands in the configuration" in of_file.json()["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("drain", {"id": "m/a:2"}, 404),
        ("enable", {"id": "m/a:2"}, 404),
        ("remove", {"id": "m/a:2"}, 404),
        ("drain", {"id": 1}, 400),
        ("drain", {"name": "m/a:1"}, 400),
        ("", {"model": "o", "url": "http://c:1"}, 404),
        ("", {"model": "m", "url": "c:1"}, 400),
        ("", {"model": "m", "url": "http://c:1", "weight": 0}, 400),
        ("", {"model": "m", "url": "http://c:1", "bearer": "secret"}, 400),
        ("", {"model": "m", "url": "http://c:1", "bearer_env": "NOT_SET_ANYWHERE"}, 400),
    ],
)
def test_what_goes_wrong(
    gate: InstanceGate, client: TestClient[Litestar], path: str, body: dict[str, object], status: int
) -> None:
    answer = client.post(f"/api/v1/instances/{path}".rstrip("/"), json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"] and "secret" not in answer.text
    assert gate.store.audit(9) == []


@pytest.mark.parametrize(
    ("role", "path", "allowed"),
    [
        ("viewer", "/drain", False),
        ("operator", "/drain", True),
        ("operator", "/enable", True),
        ("operator", "/remove", False),
        ("operator", "", False),
        ("owner", "/remove", True),
        ("owner", "", True),
    ],
)
def test_who_may(gate: InstanceGate, client: TestClient[Litestar], role: str, path: str, allowed: bool) -> None:
    _, secret = gate.accounts.create_key("x", role, None, "admin")
    answer = client.post(f"/api/v1/instances{path}", json={}, headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == (400 if allowed else 403)


def test_the_options_of_a_new_one() -> None:
    assert NewInstance(model="m", url="u").options() == {"url": "u"}
    made = NewInstance(model="m", url="u", weight=2, bearer_env="X")
    assert made.options() == {"url": "u", "weight": 2, "bearer": "${env:X}"}
    assert NewInstance(model="m", url="u", server_name="a.test").options() == {"url": "u", "tls": {"server_name": "a.test"}}
