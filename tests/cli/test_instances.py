"""`slmgate instances`: the table of a gate's status, what changes ask of the admin API, waiting, and no gate at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slmgate.cli import instances
from slmgate.cli.ends import CommandFailed, exits
from slmgate.control.admin.context import InstanceStatus
from tests.tools.admin_gate import READY
from tests.tools.command import run

ROW: dict[str, Any] = msgspec.to_builtins(READY.instances[0])
ID = ROW["id"]


class Client:
    """An admin API that notes what is asked; its instance is as the next of `rows` has it, and stays as the last one."""

    def __init__(self, *rows: Mapping[str, object] | None) -> None:
        self.rows = [None if row is None else {**ROW, **row} for row in rows] or [ROW]
        self.asked: list[tuple[str, object]] = []

    def get(self, path: str) -> object:
        assert path == "/api/v1/status"
        row = self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]
        return {**msgspec.to_builtins(READY), "instances": [] if row is None else [row]}

    def post(self, path: str, body: object) -> object:
        self.asked.append((path.removeprefix("/api/v1/instances"), body))
        return {**ROW, "draining": path.endswith("drain")}


class Turned:
    """Stands for the module `time`: sleeping makes it pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def against(monkeypatch: pytest.MonkeyPatch, client: Client, *words: str) -> Any:
    @contextmanager
    def session(*_: object) -> Iterator[Client]:
        with exits():
            yield client

    monkeypatch.setattr(instances, "session", session)
    monkeypatch.setattr(instances, "time", Turned())
    return run("instances", *words)


@pytest.mark.parametrize(
    "words", [["list"], ["drain", "m/a:1"], ["enable", "m/a:1"], ["add", "m", "http://a:1"], ["remove", "m/a:1"]]
)
def test_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("instances", *words)
    assert (ended.exit_code, "slmgate serve" in ended.stderr) == (3 if words == ["list"] else 1, True)


def test_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = against(monkeypatch, Client(), "list").stdout.splitlines()
    assert shown[1].split() == ["smollm2", "http://10.0.0.5:8000", "healthy", "3", "1", "file", "0", "-", "-"]
    shown = against(monkeypatch, Client({"draining": True}), "list").stdout.splitlines()
    assert "draining, 3 in flight" in shown[1]
    assert json.loads(against(monkeypatch, Client(), "list", "--json").stdout)[0]["in_flight"] == 3


def test_a_model_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, also where that is why the instance is not asked; a terminal is told nothing that it would obey."""
    text = "tiny is not there: it lists a\x1b[2J"
    missing = {"catalogue": {"state": "missing", "text": text, "serves": ["a"], "count": 1, "absent": True}}
    shown = against(monkeypatch, Client({**missing, "state": "unhealthy", "why": text}), "list").stdout
    assert shown.count("tiny is not there: it lists a\N{REPLACEMENT CHARACTER}[2J") == 1
    shown = against(monkeypatch, Client({**missing, "why": "it answered 503"}), "list").stdout
    assert "it answered 503" in shown
    assert "tiny is not there" in shown


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
        "file",
        5,
        "GET /health answered 200",
        "2027-01-15T08:00:00Z",
        "-",
        "it answered 503",
    ]


def test_the_process_id_is_shown() -> None:
    row = msgspec.to_builtins(InstanceStatus(id="m/sh-1", model="m", process="starting", pid=4711))
    assert instances._shown(row)[2] == "starting, pid 4711"


def test_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    assert against(monkeypatch, client, "drain", ID).stdout == f"{ID}: draining, 3 in flight\n"
    assert json.loads(against(monkeypatch, client, "enable", ID, "--json").stdout)["draining"] is False
    assert against(monkeypatch, client, "remove", ID).exit_code == 0
    assert client.asked == [("/drain", {"id": ID}), ("/enable", {"id": ID}), ("/remove", {"id": ID})]


def test_add(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    assert against(monkeypatch, client, "add", "m", "http://a:1").exit_code == 0
    options = ["--engine", "vllm", "--weight", "2", "--max-in-flight", "3", "--upstream-model", "x", "--bearer-env", "KEY"]
    assert against(monkeypatch, client, "add", "m", "http://a:1", *options).exit_code == 0
    assert client.asked == [
        ("", {"model": "m", "url": "http://a:1"}),
        (
            "",
            {
                "model": "m",
                "url": "http://a:1",
                "engine": "vllm",
                "weight": 2,
                "max_in_flight": 3,
                "upstream_model": "x",
                "bearer_env": "KEY",
            },
        ),
    ]


DRAINING = {"draining": True}
DRAINED = {"draining": True, "drained": True, "in_flight": 0}


def test_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(DRAINING, DRAINING, DRAINED)
    ended = against(monkeypatch, client, "drain", ID, "--wait")
    assert (ended.exit_code, ended.stdout) == (0, f"{ID}: drained\n")


@pytest.mark.parametrize("timeout", ["2s", "0s"])
def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch, timeout: str) -> None:
    ended = against(monkeypatch, Client(DRAINING), "drain", ID, "--wait", "--timeout", timeout)
    assert (ended.exit_code, ended.stderr) == (1, f"slmgate: {ID} still has 3 in flight after {timeout}; it stays drained.\n")


@pytest.mark.parametrize("row", [None, {}])
def test_who_is_waited_for_is_no_more_drained(monkeypatch: pytest.MonkeyPatch, row: dict[str, object] | None) -> None:
    ended = against(monkeypatch, Client(DRAINING, row), "drain", ID, "--wait")
    assert (ended.exit_code, "not drained any more" in ended.stderr) == (1, True)


def test_a_wrong_time_limit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    assert against(monkeypatch, client, "drain", ID, "--wait", "--timeout", "soon").exit_code == 2
    assert client.asked == []


def test_removed_when_nothing_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client({"source": "added"}, DRAINING, DRAINED)
    assert against(monkeypatch, client, "remove", ID, "--wait").exit_code == 0
    assert [path for path, _ in client.asked] == ["/drain", "/remove"]
    stays = Client({"source": "added"}, DRAINING)
    assert against(monkeypatch, stays, "remove", ID, "--wait", "--timeout", "1s").exit_code == 1
    assert [path for path, _ in stays.asked] == ["/drain"]


def test_one_of_the_file_is_not_drained_by_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Client):
        def post(self, path: str, body: object) -> object:
            super().post(path, body)
            raise CommandFailed(1, "it stands in the configuration")

    client = Refusing({})
    assert against(monkeypatch, client, "remove", ID, "--wait").exit_code == 1
    assert [path for path, _ in client.asked] == ["/remove"]
