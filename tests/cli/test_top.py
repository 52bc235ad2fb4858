"""`slmgate top` without a terminal: tables once, or data, over a faked gate; and a gate that is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slmgate.cli import top as module
from slmgate.cli.top_figures import TABLES
from tests.cli.test_top_figures import BUSY, QUIET, STATUS, TOOK, USED
from tests.tools.command import run

ANSWERS: dict[str, Any] = {
    "/api/v1/live": BUSY,
    "/api/v1/usage": USED,
    "/api/v1/analytics/models": TOOK,
    "/api/v1/status": STATUS,
}


class FakeClient:
    def __init__(self, live: dict[str, Any]) -> None:
        self._live = live

    def get(self, path: str, query: dict[str, Any] | None, timeout: float) -> Any:
        assert timeout == module.TIMEOUT
        assert query is None or query.get("since", "60s") == "60s"
        return self._live if path == "/api/v1/live" else ANSWERS[path]


def faked(monkeypatch: pytest.MonkeyPatch, live: dict[str, Any]) -> None:
    @contextmanager
    def fake(*_: object) -> Iterator[FakeClient]:
        yield FakeClient(live)

    monkeypatch.setattr(module, "session", fake)


def test_it_is_shown_once_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, BUSY)
    for words in (["top"], ["top", "--once"]):
        done = run(*words)
        assert done.exit_code == 0
        for word in ("ready  2.0 requests/s", "queued, 3.", "bob", "1.25 s", "draining"):
            assert word in done.output


def test_a_quiet_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, {**QUIET, "models": []})
    monkeypatch.setitem(ANSWERS, "/api/v1/usage", {"rows": []})
    assert [line for line in run("top").output.splitlines() if line.startswith("no ")] == [f"no {name}" for name in TABLES]


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, BUSY)
    found = json.loads(run("top", "--json").output)
    assert found == {"live": BUSY, "usage": USED, "latencies": TOOK, "status": STATUS}


def test_without_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("top")
    assert done.exit_code == 1 and "slmgate serve" in done.output
