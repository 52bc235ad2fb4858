"""`slmgate bans` over a faked gate: what its rows show, how a ban is lifted, and a gate that is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slmgate.cli import bans as module
from tests.tools.command import run

ROW: dict[str, Any] = {"address": "2001:db8::/64", "seconds": 90_000, "times": 3}


class FakeClient:
    def get(self, path: str, query: Mapping[str, object]) -> dict[str, Any]:
        assert (path, query) == ("/api/v1/bans", {"limit": 100})
        return {"count": 2, "bans": [ROW]}

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        assert (path, body) == ("/api/v1/bans/lift", {"address": "2001:db8::9"})
        return ROW


@contextmanager
def fake(*_: object) -> Iterator[FakeClient]:
    yield FakeClient()


@pytest.fixture(autouse=True)
def _faked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tmp_path" not in request.fixturenames:
        monkeypatch.setattr(module, "session", fake)


def test_the_table() -> None:
    done = run("bans", "list")
    assert done.exit_code == 0
    for word in ("2001:db8::/64", "1 day, 1:00:00", "3", "1 of 2; --limit shows more"):
        assert word in done.output


def test_json() -> None:
    assert json.loads(run("bans", "list", "--json").stdout) == [ROW]
    assert json.loads(run("bans", "lift", "2001:db8::9", "--json").stdout) == ROW


def test_a_ban_is_lifted() -> None:
    done = run("bans", "lift", "2001:db8::9")
    assert "2001:db8::/64 is not banned any more (it was for 1 day, 1:00:00)" in done.output


def test_without_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("bans", "list")
    assert done.exit_code == 1 and "slmgate serve" in done.output
