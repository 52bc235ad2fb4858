"""`slmgate instances list`: the table of a gate's status, and the answer where no gate runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from slmgate.cli import instances
from tests.tools.admin_gate import READY
from tests.tools.command import run


def test_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("instances", "list")
    assert (ended.exit_code, "slmgate serve" in ended.stderr) == (3, True)


def test_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def get(self, path: str) -> object:
            assert path == "/api/v1/status"
            return msgspec.to_builtins(READY)

    @contextmanager
    def session(*_: object) -> Iterator[Client]:
        yield Client()

    monkeypatch.setattr(instances, "session", session)
    assert run("instances", "list").stdout.splitlines()[1].split() == ["smollm2", "http://10.0.0.5:8000", "healthy", "3", "1"]
    assert json.loads(run("instances", "list", "--json").stdout)[0]["in_flight"] == 3
