"""`slmgate explain`: by a file, by the running gate, and of requests that were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from slmgate.cli import explain
from slmgate.cli.client import AdminClient, Network
from slmgate.control.config import load
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.admin_gate import AdminGate, asking
from tests.tools.command import run
from tests.tools.journal_writer import make_receipt

CONFIG = """\
models: {smollm2: {instances: [{url: "http://h:1"}]}}
roles:
  partner:
    models: [smollm2]
    endpoints: [chat, models]
    parameters: {max_tokens: {max: 512}}
    networks: [203.0.113.0/24]
teams: {acme: {roles: [partner]}}
keys: [{name: acme-bot, team: acme, hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]
"""
ASK = ("explain", "--as", "acme-bot", "--model", "smollm2", "--ip", "203.0.113.9", "--at", "2026-11-24")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slmgate.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def store(home: Path) -> SqlStore:
    (home / "slmgate-data").mkdir()
    return open_store(home / "slmgate-data" / "ledger.sqlite3")


def test_admitted(home: Path) -> None:
    ended = run(*ASK)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.splitlines()[:9] == [
        "admitted by roles.partner",
        "it sets max_tokens=512",
        "",
        "who       acme-bot (declared:acme-bot), team acme",
        "roles     partner",
        "model     smollm2",
        "endpoint  chat",
        "address   203.0.113.9",
        "time      Tue 2026-11-24 00:00:00 UTC",
    ]
    assert not (home / "slmgate-data").exists()


def test_refused(home: Path) -> None:
    ended = run(*ASK, "--param", "max_tokens=900", "--stream", "--body-size", "70", "--prompt-tokens", "8")
    assert ended.exit_code == 1
    assert ended.stdout.startswith("refused with parameter_not_allowed by roles.partner.parameters.max_tokens.max\n")
    assert "the caller is told: max_tokens may be at most 512." in ended.stdout
    for line in ("endpoint    chat, streamed", "parameters  max_tokens=900", "body        70 bytes", "prompt      8 tokens"):
        assert line in ended.stdout
    assert "  NO  parameters.max_tokens.max  max_tokens at most 512" in ended.stdout


def test_what_is_used_up(home: Path) -> None:
    (home / "limited.yaml").write_text(CONFIG.replace("networks:", "limits: [60 requests/minute]\n    networks:"))
    for used, code, figures in ((59, 0, "used 59 of 60, takes 1, then 60"), (60, 1, "used 60 of 60, takes 1: no room")):
        ended = run(*ASK, "--used", f"60 requests/minute={used}", "-c", "limited.yaml")
        assert (ended.exit_code, figures in ended.stdout) == (code, True), ended.output


def test_json(home: Path) -> None:
    ended = run(*ASK, "--json")
    found = json.loads(ended.stdout)
    assert (found["verdict"]["admitted"], found["roles"][0]["name"]) == (True, "partner")


def test_a_would_be_principal_and_another_file(home: Path) -> None:
    (home / "other.yaml").write_text(CONFIG.replace("512", "5"))
    ended = run("explain", "--roles", "partner, partner", "--endpoint", "models", "-c", "other.yaml")
    assert ended.exit_code == 1
    assert "note: address was not given" in ended.stdout
    ended = run("explain", "--team", "acme", "--model", "smollm2", "--ip", "203.0.113.9", "-c", "other.yaml")
    assert "it sets max_tokens=5" in ended.stdout


def test_a_stored_key(home: Path, store: SqlStore) -> None:
    assert run("keys", "create", "--name", "late", "--team", "acme").exit_code == 0
    ended = run("explain", "--as", "late", "--model", "smollm2", "--ip", "203.0.113.9")
    assert ended.exit_code == 0, ended.output
    assert run("keys", "disable", "late").exit_code == 0
    ended = run("explain", "--as", "late", "--model", "smollm2", "--ip", "203.0.113.9")
    assert "refused with invalid_api_key by keys.late.disabled" in ended.stdout
    run("keys", "revoke", "late")
    assert "no key 'late'" in run("explain", "--as", "late", "--model", "smollm2").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say who asks"),
        (("--as", "x", "--team", "t", "--model", "m"), "not both"),
        (("--as", "x"), "Name the model"),
        (("--as", "x", "--model", "m", "--param", "n"), "write it like max_tokens=900"),
        (("--as", "x", "--model", "m", "--at", "noon"), "is not a time"),
        (("--as", "x", "--model", "m", "--used", "60 requests/minute"), "says of no limit how much is used"),
        (("--request", "r", "--as", "x"), "leave out --as"),
        (("--request", "r", "--used", "x=1"), "leave out --as"),
        (("--as", "x", "--model", "m", "-c", "none.yaml"), "no file none.yaml"),
    ],
)
def test_misuse(home: Path, words: tuple[str, ...], said: str) -> None:
    ended = run("explain", *words)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_files_that_cannot_be_used(home: Path) -> None:
    ended = run("explain", "--as", "nobody", "--model", "smollm2")
    assert (ended.exit_code, "no key 'nobody'" in ended.stderr) == (1, True)
    (home / "slmgate.yaml").write_text("models: 1\n")
    ended = run("explain", "--as", "x", "--model", "m", "-c", "slmgate.yaml")
    assert (ended.exit_code, "slmgate.yaml:1:9" in ended.stderr) == (2, True)
    (home / "slmgate.yaml").unlink()
    ended = run("explain", "--as", "x", "--model", "m")
    assert (ended.exit_code, "start the gate" in ended.stderr) == (2, True)


def test_a_past_request(home: Path, store: SqlStore) -> None:
    facts: dict[str, object] = {
        "key": "declared:acme-bot", "principal": "acme-bot", "roles": "partner", "rule": "roles.partner",
        "address": "203.0.113.9", "parameters": "max_tokens=600", "queue_us": 1500, "first_byte_us": 90_000, "bytes_in": 70,
    }  # fmt: skip
    store.write(Batch(receipts=[make_receipt("r1", **facts), make_receipt("r2", key=None, request_id="mine", principal="")]))
    ended = run("explain", "--request", "r1")
    assert ended.exit_code == 0, ended.output
    for line in (
        "request     r1",
        "verdict     admit by roles.partner",
        "reason      ok, status 200, ended complete",
        "parameters  max_tokens=600",
        "waited      in line 1.5 ms, first byte after 90.0 ms, all of it 1.2 ms",
        "tokens      7 read, 5 written",
        "  - Then it was admitted by roles.partner; today it would be refused with parameter_not_allowed by",
        "the configuration in force would say",
    ):
        assert line in ended.stdout
    assert json.loads(run("explain", "--request", "r1", "--json").stdout)["today"]["verdict"]["admitted"] is False
    ended = run("explain", "--request", "mine")
    assert "request     mine (r2)" in ended.stdout
    assert "what cannot be known" in ended.stdout
    ended = run("explain", "--request", "none")
    assert (ended.exit_code, "no receipt 'none'" in ended.stderr) == (1, True)


class Asked:
    """The admin API of a gate that runs in this process, in the place of a network."""

    def __init__(self, client: TestClient[Litestar]) -> None:
        self._client = client

    def ask(
        self, method: str, path: str, query: Mapping[str, object], body: Mapping[str, object] | None, timeout: float = 0.0
    ) -> tuple[int, Any]:
        answer = self._client.request(method, path, json=body)
        return answer.status_code, answer.json()

    def close(self) -> None:
        pass


def test_the_running_gate_is_asked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir()
    gate = AdminGate(state)
    gate.config = load(home / "slmgate.yaml").unwrap()
    gate.store.write(Batch(receipts=[make_receipt("r1", key="declared:acme-bot"), make_receipt("r2", key="none")]))
    gate.keyring.create("late", "acme")
    with asking(gate) as client:
        monkeypatch.setattr(explain, "_running", lambda _: AdminClient(Asked(client)))
        ended = run(*ASK)
        assert (ended.exit_code, "admitted by roles.partner" in ended.stdout) == (0, True), ended.output
        assert run("explain", "--as", "late", "--model", "smollm2", "--ip", "203.0.113.9").exit_code == 0
        ended = run("explain", "--as", "nobody", "--model", "smollm2")
        assert (ended.exit_code, "no key 'nobody'" in ended.stderr) == (1, True)
        assert "the configuration in force would say" in run("explain", "--request", "r1").stdout
        assert "not a key that is known now" in run("explain", "--request", "r2").stdout
        assert client.post("/api/v1/explain", json={"as": "late"}).status_code == 400
        gate.config = None
        assert client.post("/api/v1/explain", json={"as": "late", "model": "m"}).status_code == 400


def test_whether_a_gate_runs(home: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain._running(None) is None
    monkeypatch.setenv("SLMGATE_ADMIN_KEY", "x")
    client = explain._running("http://127.0.0.1:1")
    assert client is not None and isinstance(client.road, Network)
    client.road.close()
