"""Requests with an Idempotency-Key, over all workers and over their deaths: one call of the instance, one charge, one answer.

The mock instance's journal says how often it was asked, the ledger what was charged. Processes are ended by pid only.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import psutil

from tests.system.conftest import Launch
from tests.tools.gate import OTHER, SECRET, Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, ClosedEarlyError, Wire, ask, chat, request


def keyed(key: str, secret: str = SECRET, **script: Any) -> bytes:
    return request(chat(**script), secret=secret, headers=(f"Idempotency-Key: {key}",))


def asked(upstream: MockUpstream, tag: str) -> int:
    return sum(json.loads(each["body"])["script"].get("tag") == tag for each in upstream.journal())


def receipts(gate: Gate, answers: list[Answer]) -> list[dict[str, Any]]:
    return list(gate.receipts(str(answer.header("x-request-id")) for answer in answers).values())


def connected(gate: Gate) -> list[Wire]:
    """Connections that have been let in, which the kernel spreads over the workers."""
    wires = [Wire(gate.port) for _ in range(24)]
    assert all(wire.ask(keyed("")).status == 400 for wire in wires)
    return wires


def test_asked_again(gate: Gate, upstream: MockUpstream) -> None:
    key = f"again-{time.monotonic_ns()}"
    answers = [ask(gate.port, keyed(key, tag="one")) for _ in range(3)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert [answer.header("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    assert asked(upstream, "one") == 1
    assert ask(gate.port, keyed(key, tag="two")).code == "idempotency_conflict"
    assert [ask(gate.port, keyed(key + "s", tag="streamed", stream=True)).status for _ in range(2)] == [200, 200]
    assert asked(upstream, "streamed") == 2, "a stream is worked on each time"


def test_many_at_once_on_all_workers(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    wires = connected(gate)
    assert all(gate.ports_of(pid) for pid in gate.workers()), "void: all are on one worker"
    for wire in wires:
        wire.send(keyed("parallel", tag="once", delay=0.5))
    answers = [wire.answer() for wire in wires]
    answers += [ask(gate.port, keyed("parallel", tag="once", delay=0.5)) for _ in range(8)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert sum(answer.header("idempotent-replayed") == "true" for answer in answers) == len(answers) - 1
    assert asked(upstream, "once") == 1
    rows = receipts(gate, answers)
    assert len(rows) == len(answers), "each has an id of its own"
    assert sorted((row["prompt_tokens"], row["completion_tokens"]) for row in rows) == [(0, 0)] * (len(rows) - 1) + [(7, 5)]
    for wire in wires:
        assert wire.ask(keyed("parallel", tag="other")).code == "idempotency_conflict"
        wire.__exit__()
    assert asked(upstream, "other") == 0
    theirs = ask(gate.port, keyed("parallel", OTHER, tag="theirs"))
    assert (theirs.status, theirs.header("idempotent-replayed"), asked(upstream, "theirs")) == (200, None, 1)


def test_a_client_that_gave_up_finds_its_answer(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    with Wire(gate.port) as wire:
        wire.send(keyed("impatient", tag="late", delay=1.0))
        eventually(lambda: asked(upstream, "late"), 2, "the instance is at work")
        wire.reset()
    answers = [ask(gate.port, keyed("impatient", tag="late", delay=1.0)) for _ in range(4)]
    assert {(answer.status, answer.header("idempotent-replayed")) for answer in answers} == {(200, "true")}
    assert asked(upstream, "late") == 1


def test_kept_answers_outlive_all_processes(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    first = ask(gate.port, keyed("lasting", tag="kept"))
    gate.kill_everything()
    gate.start()
    again = ask(gate.port, keyed("lasting", tag="kept"))
    assert (again.status, again.body, again.header("idempotent-replayed")) == (200, first.body, "true")
    assert asked(upstream, "kept") == 1


def test_a_worker_that_dies_leaves_its_keys_to_others(launch: Launch, upstream: MockUpstream) -> None:
    """Nobody waits for the dead: whoever waited on another worker takes over, and what was begun is in the ledger as unknown."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    working, other = gate.workers()
    wires = connected(gate)
    ports = gate.ports_of(working)
    on_working = [wire for wire in wires if wire.socket.getsockname()[1] in ports]
    on_other = [wire for wire in wires if wire not in on_working]
    assert on_working and on_other, "void: all are on one worker"
    on_working[0].send(keyed("orphan", tag="dies", delay=1.0))
    eventually(lambda: asked(upstream, "dies"), 2, "the instance is at work")
    on_other[0].send(keyed("orphan", tag="dies", delay=1.0))
    time.sleep(0.3)
    assert asked(upstream, "dies") == 1, "it waits"
    psutil.Process(working).kill()
    with contextlib.suppress(ClosedEarlyError, OSError):
        on_working[0].answer()
        raise AssertionError("the dead answered")
    answer = on_other[0].answer()
    assert (answer.status, answer.header("idempotent-replayed"), asked(upstream, "dies")) == (200, None, 2)
    assert other in gate.workers()
    rows = eventually(lambda: [row for row in gate.rows() if row["ended"] == "unknown"], 10, "the first one is settled")
    assert len(rows) == 1
    for wire in wires:
        wire.__exit__()
