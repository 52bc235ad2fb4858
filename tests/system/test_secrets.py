"""Canaries: secrets of every kind are given to a gate, and then looked for in all that it writes, answers and shows.

Where a secret must be (the configuration file with its copy, the digest of a key) is listed; anywhere else it must not be, in no
spelling of its bytes. The positive control: each secret did its work, and the search finds one where it is put.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.system.conftest import Launch
from tests.tools.gate import Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ask, request

CANARIES = {
    "bearer": "canary-bearer-7Qx2vTq9LmZp4Rk8",
    "bearer from the environment": "canary-environ-3Jw8sYe6UbNc1Hd5",
    "client secret": "canary-client-9Fg4kXo2IvBt7Ma3",
    "password": "canary-password-5Zr1pWu8EqDy6Lh2",
    "prompt": "canary prompt that nobody may ever read again",
    "wrong key": "sk-canary-wrong-8Tn3cGj7OsVf2Kx6",
    "token": "eyJhbGciOiJSUzI1NiJ9.Y2FuYXJ5LXRva2Vu.Y2FuYXJ5LXNpZ25hdHVyZQ",
}
COMMAND = [sys.executable, "-m", "slmgate"]


def spelled(secret: str) -> list[bytes]:
    """The bytes by which one finds it: as it is, in base64 at any offset, in hexadecimal, and backwards from an escape."""
    data = secret.encode()
    ways = [data, data.hex().encode(), json.dumps(secret).encode().strip(b'"')]
    return ways + [base64.b64encode(b"\0" * offset + data)[4 if offset else 0 : -4] for offset in range(3)]


def hits(where: str, data: bytes, secrets: dict[str, str]) -> list[str]:
    return [f"{kind} in {where}" for kind, secret in secrets.items() if any(way in data for way in spelled(secret))]


def command(gate: Gate, *words: str, stdin: str = "") -> bytes:
    env = {**os.environ, "CANARY": CANARIES["bearer from the environment"]}
    done = subprocess.run(
        [*COMMAND, *words, "-c", str(gate.file)], input=stdin.encode(), capture_output=True, timeout=120, env=env
    )
    return done.stdout + done.stderr


def shown_by_processes(gate: Gate) -> bytes:
    """What `ps` shows of the gate's processes: their names and arguments."""
    found = b""
    for process in gate.processes():
        for name in ("cmdline", "comm", "status"):
            found += Path(f"/proc/{process.pid}/{name}").read_bytes()
    return found


def test_no_canary_is_found_where_it_must_not_be(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    models = {"tiny": model(upstream.url), "other": model(upstream.url)}
    models["tiny"]["instances"][0]["bearer"] = CANARIES["bearer"]
    models["other"]["instances"][0]["bearer"] = "${env:CANARY}"
    introspection = {"url": "https://127.0.0.1:1/", "client_id": "gate", "client_secret": CANARIES["client secret"]}
    gate = launch(
        models,
        auth={"introspection": [introspection]},
        env={"CANARY": CANARIES["bearer from the environment"]},
        wait=False,
    )
    gate.wait_ready(60.0)
    issued = json.loads(command(gate, "keys", "create", "--name", "canary", "--json"))["secret"]
    secrets = {**CANARIES, "issued key": issued}

    # each secret does its work, in requests that go well, fail, are refused and are cut
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": CANARIES["prompt"]}]}
    answers: list[bytes] = []

    def say(secret: str, **more: Any) -> int:
        answer = ask(gate.port, request(json.dumps({**body, **more}).encode(), secret=secret))
        answers.append(repr(answer).encode() + answer.body)
        return answer.status

    eventually(lambda: say(issued) == 200, 10.0, "the new key opens the gate")
    assert [say(issued, stream=True) for _ in range(3)] == [200] * 3
    assert say(issued, model="other") == 200
    asked = [json.dumps(one) for one in upstream.journal()]
    for kind in ("bearer", "bearer from the environment"):
        assert any(CANARIES[kind] in one for one in asked), f"an instance is shown its {kind}"
    echo = json.dumps({"error": {"message": f"bad: {CANARIES['prompt']}, {CANARIES['bearer']}, {issued}"}})
    for status in (400, 401, 422, 500):
        raw = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(echo)}\r\n\r\n{echo}"
        upstream.default(do="raw", bytes=raw, then="close")
        assert say(issued) in (400, 502)
    upstream.default(do="raw", bytes="garbage", then="close")
    assert say(issued) == 502
    upstream.default()
    assert say(CANARIES["wrong key"]) in (401, 503)  # it may be an opaque token, and its issuer is away
    assert say(CANARIES["token"]) in (401, 503)
    odd = (b"not json " + CANARIES["prompt"].encode(), json.dumps({**body, "model": "unknown"}).encode())
    answers += [ask(gate.port, request(one, secret=issued)).body for one in odd]
    command(gate, "admin", "users", "add", "anna", "--role", "viewer", stdin=CANARIES["password"] + "\n")

    # a reload that fails, a crash, a dead worker
    text = gate.file.read_text()
    gate.file.write_text(text + f"wrong: {CANARIES['bearer']}\n")
    os.kill(gate.process.pid, signal.SIGHUP)
    eventually(lambda: "wrong" in gate.text(), 20.0, "the fault of the reload is told")
    reports = command(gate, "check")
    gate.file.write_text(text)
    for number in (signal.SIGABRT, signal.SIGKILL):
        psutil.Process(gate.workers()[0]).send_signal(number)
        eventually(lambda: say(issued) == 200, 20.0, "another worker serves")

    shown = {
        "answers": b"".join(answers),
        "check of a wrong file": reports,
        "ps": shown_by_processes(gate),
        **{
            " ".join(words): command(gate, *words)
            for words in (
                ("config", "show"), ("config", "show", "--json"), ("logs",), ("keys", "list"), ("keys", "list", "--json"),
                ("usage",), ("instances", "list", "--json"), ("audit", "list", "--json"), ("db", "export"), ("doctor", "--json"),
                ("explain", "--as", "canary", "--model", "tiny"), ("admin", "users", "list", "--json"),
            )
        },
    }  # fmt: skip
    backup = tmp_path / "backup.sqlite3"
    command(gate, "db", "backup", str(backup))
    gate.terminate()
    shown["gate.log"] = gate.log.read_bytes()
    shown["backup"] = backup.read_bytes()
    found = [hit for where, data in shown.items() for hit in hits(where, data, secrets)]
    assert not found, found
    assert b"Usage:" not in b"".join(shown.values()), "a command was misused, and proves nothing"

    # files: what is there is its owner's alone, and only the copy of the configuration repeats what that says
    for path in [gate.state, *gate.state.rglob("*")]:
        if not path.is_symlink():
            assert path.stat().st_mode & 0o077 == 0, f"{path} may be used by others"
        if path.is_file():
            of_the_file = ["bearer", "client secret"] if path.name == "last-good.yaml" else []
            found += [hit for hit in hits(path.name, path.read_bytes(), secrets) if hit.partition(" in ")[0] not in of_the_file]
    assert not found, found
    assert hits("here", b"x" + base64.b64encode(b"ab" + issued.encode()), secrets) == ["issued key in here"], (
        "the search can find"
    )
    assert not list(gate.home.rglob("core*")), "nothing of memory comes to a disk"
