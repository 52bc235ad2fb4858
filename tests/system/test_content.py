"""Prompts and answers that a role wants kept, on a real gate: masked before they are anywhere, and whoever reads them is noted.

Each private text is a canary: after all that the gate did, no file of it, and no line that it said, holds one.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.system.test_commands import slmgate
from tests.system.test_processes import send
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, request

CANARIES = ("jane.doe@example.com", "4111 1111 1111 1111", "DE89370400440532013000", "ACME-123456", "j.roe@example.org")
HIDDEN = "write to \\u006aane.doe\\u0040example.com"  # as JSON may say it
EVENTS = ["I wrote to j.r", "oe@exam", "ple.org", " and ACME-12", "3456."]


def prompt(text: str, **more: Any) -> bytes:
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "X"}], **more})
    return body.replace('"X"', f'"{text}"').encode()


def answered(body: str, kind: str) -> dict[str, Any]:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return {"do": "raw", "bytes": head + body, "then": "keep"}


def stream() -> dict[str, Any]:
    events = [json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}) for text in EVENTS]
    return answered("".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]), "text/event-stream")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_upstream: MockUpstream) -> Iterator[Gate]:
    gate = Gate(
        tmp_path_factory.mktemp("content"),
        {"tiny": model(shared_upstream.url)},
        workers=1,
        log={"access": "stdout", "content": "roles"},
        roles={
            "kept": {"models": ["*"], "content": {"capture": "both", "patterns": ["ACME-[0-9]{6}", "(a+)+$"]}},
            "plain": {"models": ["*"]},
        },
        keys=[
            {"name": "main", "hash": digest(SECRET), "roles": ["kept"]},
            {"name": "other", "hash": digest(OTHER), "roles": ["plain"]},
        ],
    )
    yield gate
    gate.stop()


def ask(gate: Gate, body: bytes, id: str, secret: str = SECRET, *more: str) -> None:
    with Wire(gate.port) as wire:
        answer = wire.ask(request(body, secret=secret, headers=(f"X-Request-Id: {id}", *more)))
        assert answer.status == 200, answer


def content(gate: Gate, id: str) -> dict[str, Any]:
    """What the ledger has of it, once it is there."""
    eventually(lambda: id in kept(gate), 20, f"the content of {id} is kept")
    return kept(gate)[id]


def kept(gate: Gate) -> dict[str, dict[str, Any]]:
    """All that is kept, by the ids that clients know."""
    with contextlib.closing(sqlite3.connect(f"file:{gate.state / 'ledger.sqlite3'}?mode=ro", uri=True, timeout=5)) as store:
        store.row_factory = sqlite3.Row
        rows = store.execute("select receipts.request_id, contents.* from contents join receipts on receipts.id = contents.id")
        return {row["request_id"]: dict(row) for row in rows}


def shown(gate: Gate, id: str) -> tuple[int, str]:
    """What the command says of it, and how it ends."""
    done = slmgate(gate.home, "logs", "--content", id, "-c", str(gate.file))
    return done.returncode, done.stdout


def test_what_is_kept_is_masked(shared: Gate, shared_upstream: MockUpstream) -> None:
    text = f"{CANARIES[0]} {CANARIES[1]} {CANARIES[2]} {CANARIES[3]}, {HIDDEN}"
    whole = json.dumps({"id": "c", "choices": [{"message": {"content": f"Mail {CANARIES[4]}"}}], "usage": {}})
    shared_upstream.default(**answered(whole, "application/json"))
    ask(shared, prompt(text), "whole")
    ask(shared, prompt(text), "keyed", SECRET, "Idempotency-Key: one")
    ask(shared, prompt(text), "plain", OTHER)
    shared_upstream.default(**stream())
    ask(shared, prompt("hi", stream=True), "streamed")
    found = content(shared, "whole")
    asked = json.loads(found["prompt"])["messages"][0]["content"]
    assert asked == "[email] [card] [iban] [masked], write to [email]"
    assert json.loads(found["answer"])["choices"][0]["message"]["content"] == "Mail [email]"
    assert (found["role"], found["masked"], found["prompt_cut"], found["answer_cut"]) == ("kept", 6, 0, 0)
    assert content(shared, "keyed")["prompt"] == found["prompt"]
    # an address that comes in three events is one
    assert content(shared, "streamed")["answer"] == "I wrote to [email] and [masked]."
    # whoever looks is in the audit log
    code, text = shown(shared, "streamed")
    assert code == 0
    assert "answer:\nI wrote to [email] and [masked]." in text
    assert shown(shared, "plain") == (1, "")
    audit = json.loads(slmgate(shared.home, "audit", "list", "--json", "-c", str(shared.file)).stdout)
    looked = [line for line in audit["changes"] if line["action"] == "read"]
    assert [(line["target"], line["detail"]["client"]) for line in looked] == [
        (f"content/{content(shared, 'streamed')['id']}", "main")
    ]


def test_it_outlives_control(shared: Gate, shared_upstream: MockUpstream) -> None:
    """What control had not kept when it was killed comes again, to its successor."""
    shared_upstream.default(**stream())
    for number in range(10):
        if number in (3, 6):
            send(shared.control(), signal.SIGKILL)
        ask(shared, prompt(f"{number} {CANARIES[0]}", stream=True), f"round-{number}")
    for number in range(10):
        assert f"{number} [email]" in content(shared, f"round-{number}")["prompt"]


def test_a_pattern_that_takes_for_ever_costs_its_record_alone(shared: Gate, shared_upstream: MockUpstream) -> None:
    shared_upstream.default(**stream())
    control = shared.control()
    ask(shared, prompt("a" * 60 + "!"), "endless")
    ask(shared, prompt("after it"), "after")
    assert "after it" in content(shared, "after")["prompt"]
    assert shared.control() == control
    assert "contents of 1 requests are lost: masking it took too long" in shared.text()
    assert "endless" not in kept(shared)


def test_nothing_is_kept_unless_both_say_so(shared: Gate, shared_upstream: MockUpstream) -> None:
    """The role asks for it all the time; what `log.content` says is in force on reload."""
    shared_upstream.default(**stream())
    for content in ("never", "roles"):
        before = generation(shared)
        shared.write(log={"access": "stdout", "content": content})
        eventually(partial(is_newer, shared, before), 20, "a new configuration is in force")
        time.sleep(0.5)  # for the worker, too
        ask(shared, prompt(content, stream=True), content)
    found = eventually(lambda: set(kept(shared)) & {"never", "roles"}, 20, "something is kept")
    assert found == {"roles"}  # what came before it would have been kept before it


def is_newer(gate: Gate, before: int) -> bool:
    return generation(gate) > before


def generation(gate: Gate) -> int:
    key = (gate.state / "admin.key").read_text().strip()
    told = httpx.get(f"http://127.0.0.1:{gate.admin}/api/v1/status", headers={"authorization": f"Bearer {key}"}, timeout=20)
    return int(told.json()["generation"])


def test_nothing_unmasked_is_anywhere(shared: Gate) -> None:
    """The last of these tests: all files of the gate, whatever they are, but for answers that an Idempotency-Key asks to keep."""
    answers = shared.state / "answers"
    files = [path for path in shared.home.rglob("*") if path.is_file() and not path.is_relative_to(answers)]
    assert shared.log in files
    for path in files:
        data = path.read_bytes()
        for canary in CANARIES:
            assert canary.encode() not in data, f"{canary} is in {path}"
        assert b"ane.doe" not in data, path
