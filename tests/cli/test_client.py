"""How commands find a gate, and what becomes of its answers: exit codes and messages. No socket: transports are stand-ins."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import typer

from slmgate.cli.client import NO, UNREACHABLE, USAGE, AdminClient, CommandFailed, connect, exits, find
from slmgate.control.operators import create_first_admin_key

YAML = "models:\n  m:\n    instances:\n      - {url: http://127.0.0.1:9000}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLMGATE_ADMIN_KEY", raising=False)
    return tmp_path


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> AdminClient:
    return AdminClient(httpx.MockTransport(answer), "http://gate:1", "secret")


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
        (httpx.Response(500, json=["oh"]), NO, "oh"),
        (httpx.Response(200, text="<html>"), UNREACHABLE, "not slmgate's"),
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


def test_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, exits():
        raise CommandFailed(3, "not there")
    assert left.value.exit_code == 3
    assert capsys.readouterr().err == "slmgate: not there\n"


def test_places(here: Path) -> None:
    place = find(None, None)  # no file: what `serve --upstream` uses
    assert (place.url, place.state_dir) == ("http://127.0.0.1:8081", Path("slmgate-data"))
    (here / "slmgate.yaml").write_text(YAML + "admin: {address: '0.0.0.0:99'}\nstate_dir: ./s\n")
    place = find(None, None)
    assert (place.url, place.state_dir) == ("http://127.0.0.1:99", here / "s")
    assert find(None, "https://gate.lan").url == "https://gate.lan"
    (here / "other.yaml").write_text(YAML + "admin: {address: '[::]:99'}\n")
    assert find(Path("other.yaml"), None).url == "http://[::1]:99"


@pytest.mark.parametrize("url", ["gate:1", "ftp://gate", "http://", "", "/path"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(CommandFailed, match="admin address") as failed:
        find(None, url)
    assert failed.value.code == USAGE


def test_files_that_are_none(here: Path) -> None:
    with pytest.raises(CommandFailed, match="slmgate init") as failed:
        find(Path("none.yaml"), None)
    assert failed.value.code == USAGE
    (here / "slmgate.yaml").write_text("modles: {}\n")
    with pytest.raises(CommandFailed, match="modles"):
        find(None, None)


def test_the_key(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = find(None, None)
    assert place.admin_key() is None
    secret = create_first_admin_key(here / "slmgate-data")
    assert place.admin_key() == secret
    monkeypatch.setenv("SLMGATE_ADMIN_KEY", "mine")
    assert place.admin_key() == "mine"


def test_the_store_itself_when_no_gate_runs(here: Path) -> None:
    with connect(None, None) as client:
        assert client.get("/api/v1/status")["running"] is False
    (here / "slmgate-data" / "ledger.sqlite3").write_bytes(b"no database, but longer than the header of one" * 10)
    with pytest.raises(CommandFailed, match="not a database"):
        connect(None, None)


def test_the_gate_when_one_runs(here: Path) -> None:
    create_first_admin_key(here / "slmgate-data")
    with (here / "slmgate-data" / "serve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with connect(None, None) as client:
            assert str(client._http.base_url) == "http://127.0.0.1:8081"
    (here / "slmgate-data" / "admin.key").unlink()
    with pytest.raises(CommandFailed, match="SLMGATE_ADMIN_KEY"):
        connect(None, "http://gate:1")
