"""The admin API without a gate: open to whoever owns the files, and it says that nothing runs."""

from __future__ import annotations

import stat
from pathlib import Path

from litestar.testing import TestClient

from slmgate.control.admin import create_app
from slmgate.control.admin.local import LocalContext


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
