"""`slmgate certificates` over a faked gate: what its rows show, and a gate that is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slmgate.cli import certificates as module
from tests.tools.command import run

ROW: dict[str, Any] = {
    "names": ["a.example.com"],
    "source": "acme.test",
    "state": "waiting",
    "issuer": "",
    "serial": "",
    "not_before": None,
    "not_after": None,
    "next_try": "2027-01-01T00:00:00Z",
    "error": "port 80\x1b must lead here",
    "error_at": "2026-12-31T00:00:00Z",
}


class FakeClient:
    def get(self, path: str) -> list[dict[str, Any]]:
        assert path == "/api/v1/certificates"
        return [ROW]


@contextmanager
def fake(*_: object) -> Iterator[FakeClient]:
    yield FakeClient()


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "session", fake)
    done = run("certificates", "list")
    assert done.exit_code == 0
    for word in ("a.example.com", "acme.test", "waiting", "2027-01-01T00:00:00Z", "must lead here (2026-12-31T00:00:00Z)"):
        assert word in done.output
    assert "\x1b" not in done.output


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "session", fake)
    assert json.loads(run("certificates", "list", "--json").output) == [ROW]


def test_without_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("certificates", "list")
    assert done.exit_code == 1 and "slmgate serve" in done.output
