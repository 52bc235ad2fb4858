"""The admin API without a gate: open to whoever owns the files, and it says that nothing runs."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from slmgate.control.admin import create_app
from slmgate.control.admin.local import LocalApi, LocalContext
from slmgate.control.keyring import Keyring
from slmgate.control.state_dir import LOCK_FILE, own
from slmgate.stores.records import KeyRecord


def test_it_is_a_context(tmp_path: Path) -> None:
    state = tmp_path / "state"
    context = LocalContext(state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    with TestClient(create_app(context), base_url="http://127.0.0.1") as client:
        client.headers["authorization"] = "Bearer any"
        assert client.get("/api/v1/status").json()["running"] is False
        assert client.get("/readyz").status_code == 503
        assert client.post("/api/v1/reload").status_code == 409
        client.post("/api/v1/keys", json={"name": "bot"})
    assert context.store.audit(9)[-1].actor == "cli"
    context.store.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    api = LocalApi(LocalContext(tmp_path))
    yield api
    api.close()


def test_it_answers_as_the_api_does(api: LocalApi, tmp_path: Path) -> None:
    status, made = api.ask("POST", "/api/v1/keys", {}, {"name": "bot"})
    assert (status, made["key"]["name"]) == (200, "bot")
    with TestClient(create_app(LocalContext(tmp_path)), base_url="http://127.0.0.1") as client:
        client.headers["authorization"] = "Bearer any"
        for path in ("/api/v1/keys", "/api/v1/keys/bot", "/api/v1/status", "/api/v1/usage", "/api/v1/receipts", "/api/v1/audit"):
            assert api.ask("GET", path, {}, None) == (200, client.get(path).json())
        assert client.get("/api/v1/audit").json()["changes"][0]["actor"] == "cli"


def test_no_gate_starts_while_something_is_changed(api: LocalApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not hear of what is changed behind its first look: a key that was revoked would open everything."""
    revoke, could_start = Keyring.revoke, []

    def slow(self: Keyring, key: str, actor: str) -> KeyRecord:
        with (tmp_path / LOCK_FILE).open("r+") as gate:
            could_start.append(own(gate.fileno(), 0.0))
        return revoke(self, key, actor)

    monkeypatch.setattr(Keyring, "revoke", slow)
    assert api.ask("POST", "/api/v1/keys", {}, {"name": "bot"})[0] == 200
    with (tmp_path / LOCK_FILE).open("r+") as gate:
        assert own(gate.fileno())
        status, answer = api.ask("POST", "/api/v1/keys/bot/revoke", {}, {})
        assert (status, could_start) == (503, [])
        assert "A gate has started" in answer["detail"]
        assert api.ask("GET", "/api/v1/keys/bot", {}, None)[1]["state"] == "active"
    assert api.ask("POST", "/api/v1/keys/bot/revoke", {}, {})[0] == 200
    assert could_start == [False]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/keys/none", None, 404),
        ("GET", "/api/v1/cows", None, 404),
        ("POST", "/api/v1/keys", {"name": ""}, 400),
        ("POST", "/api/v1/keys", {"nom": "x"}, 400),
        ("POST", "/api/v1/keys", {"name": "old"}, 409),
        ("POST", "/api/v1/keys/gone/enable", {}, 409),
        ("GET", "/readyz", None, 409),
        ("GET", "/api/v1/limits", None, 409),
        ("POST", "/api/v1/reload", {}, 409),
        ("POST", "/api/v1/instances/drain", {"id": "m/a:1"}, 409),
    ],
)
def test_what_goes_wrong(method: str, path: str, body: dict[str, str] | None, status: int, api: LocalApi) -> None:
    for name in ("old", "gone"):
        assert api.ask("POST", "/api/v1/keys", {}, {"name": name})[0] == 200
    assert api.ask("POST", "/api/v1/keys/gone/revoke", {}, {})[0] == 200
    found, answer = api.ask(method, path, {}, body)
    assert found == status
    assert answer["detail"]
