"""`slmgate instances list`: the table of a gate's status, and the answer where no gate runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from slmgate.cli import instances
from slmgate.control.admin.context import InstanceStatus
from tests.tools.admin_gate import READY
from tests.tools.command import run


def test_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("instances", "list")
    assert (ended.exit_code, "slmgate serve" in ended.stderr) == (3, True)


def test_what_is_shown_of_one_that_is_out() -> None:
    row = InstanceStatus(
        id="m/a:1",
        model="m",
        healthy=False,
        state="half_open",
        why="it answered 503",
        again=3.2,
        failures=5,
        check="GET /health answered 200",
        since=datetime(2027, 1, 15, 8, 0, tzinfo=UTC),
    )
    assert instances._shown(msgspec.to_builtins(row)) == [
        "m",
        "m/a:1",
        "half-open for 4 s",
        0,
        0,
        5,
        "GET /health answered 200",
        "2027-01-15T08:00:00Z",
        "it answered 503",
    ]


def test_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def get(self, path: str) -> object:
            assert path == "/api/v1/status"
            return msgspec.to_builtins(READY)

    @contextmanager
    def session(*_: object) -> Iterator[Client]:
        yield Client()

    monkeypatch.setattr(instances, "session", session)
    shown = run("instances", "list").stdout.splitlines()[1].split()
    assert shown == ["smollm2", "http://10.0.0.5:8000", "healthy", "3", "1", "0", "-"]
    assert json.loads(run("instances", "list", "--json").stdout)[0]["in_flight"] == 3
