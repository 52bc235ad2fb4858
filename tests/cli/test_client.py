"""What becomes of a gate's answers: exit codes and messages. No socket: transports are stand-ins."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from slmgate.cli import client as module
from slmgate.cli.client import AdminClient, Network, connect, open_local, session
from slmgate.cli.ends import NO, UNREACHABLE, USAGE, CommandFailed
from slmgate.control.admin.routes import MARK
from slmgate.control.operators import create_first_admin_key


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLMGATE_ADMIN_KEY", raising=False)
    return tmp_path


def answering(answer: Callable[[httpx.Request], httpx.Response], mark: bool = True) -> AdminClient:
    def marked(request: httpx.Request) -> httpx.Response:
        answered = answer(request)
        if mark:
            answered.headers[MARK] = "1"
        return answered

    return AdminClient(Network("http://gate:1", "secret", httpx.MockTransport(marked)))


def test_the_mark_is_the_apis() -> None:
    assert module._MARK == MARK


def test_a_question_and_its_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret"
        return httpx.Response(200, json={"url": str(request.url), "body": request.content.decode()})

    with answering(answer) as client:
        assert client.get("/a", {"x": 1, "y": None, "z": "&"})["url"] == "http://gate:1/a?x=1&z=%26"
        assert client.post("/b", {"n": None})["body"] == '{"n":null}'
        assert client.post("/b")["body"] == "{}"


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (httpx.Response(404, json={"detail": "no such key"}), NO, "no such key"),
        (httpx.Response(401, json={"detail": "who?"}), NO, "who?"),
        (httpx.Response(400, json={"detail": "bad name"}), USAGE, "bad name"),
        (httpx.Response(409, json={"detail": "revoked"}), NO, "revoked"),
        (httpx.Response(500, json=["oh"]), NO, "oh"),
        (httpx.Response(200, text="<html>"), UNREACHABLE, "not a slmgate admin API"),
        (httpx.ConnectError("refused"), UNREACHABLE, "refused"),
        (httpx.ReadTimeout(""), UNREACHABLE, "timed out"),
        (httpx.RemoteProtocolError(""), UNREACHABLE, "RemoteProtocolError"),
    ],
)
def test_what_goes_wrong(answer: httpx.Response | Exception, code: int, message: str) -> None:
    def give(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with answering(give) as client, pytest.raises(CommandFailed, match=message) as failed:
        client.get("/a")
    assert failed.value.code == code


@pytest.mark.parametrize("status", [200, 401, 404])
def test_something_else_that_speaks_json(status: int) -> None:
    strange = httpx.Response(status, json={"object": "list", "detail": "mine"})
    with (
        answering(lambda _: strange, mark=False) as client,
        pytest.raises(CommandFailed, match="not a slmgate admin API") as failed,
    ):
        client.get("/api/v1/keys")
    assert failed.value.code == UNREACHABLE


def test_the_store_itself_when_no_gate_runs(here: Path) -> None:
    with session(None, None) as client:
        assert client.get("/api/v1/status")["running"] is False
    (here / "slmgate-data" / "ledger.sqlite3").write_bytes(b"no database, but longer than the header of one" * 10)
    with pytest.raises(CommandFailed, match="not a database"):
        connect(None, None)


def test_the_gate_when_one_runs(here: Path) -> None:
    create_first_admin_key(here / "slmgate-data")
    with (here / "slmgate-data" / "serve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with connect(None, None) as client:
            assert isinstance(client.road, Network)
            assert str(client.road._http.base_url) == "http://127.0.0.1:8081"
    with pytest.raises(CommandFailed, match="SLMGATE_ADMIN_KEY"):
        connect(None, "http://gate:1")


def denied(*_: object, **__: object) -> int:
    raise PermissionError(errno.EACCES, "Permission denied", "slmgate-data/serve.lock")


def test_a_state_directory_of_another_user(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.control.state_dir.os.open", denied)
    for attempt in (lambda: connect(None, None), lambda: open_local(here)):
        with pytest.raises(CommandFailed, match="run it as the gate's user, or give --admin and SLMGATE_ADMIN_KEY") as failed:
            attempt()
        assert failed.value.code == UNREACHABLE
    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(CommandFailed, match="run it as the gate's user"):
        open_local(here)
