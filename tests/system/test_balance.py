"""Several instances in real processes: a slow one among them, workers that know of one another's requests, and salts.

How a strategy decides is `tests/policy`'s; here it is shown that clients get it. Warm prompts on real models are shown by
`bench/balance.py`, which takes longer than a test may.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from bench.balance import SLOW, one_is_slow, slow_one
from tests.system.conftest import Launch
from tests.system.scenes import plain
from tests.tools.gate import OTHER, SECRET, Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, ask, chat, request


@pytest.fixture(scope="module")
def four() -> Iterator[list[MockUpstream]]:
    made = [MockUpstream() for _ in range(4)]
    yield made
    for each in made:
        each.close()


def test_a_slow_instance_among_four_is_left_alone(launch: Launch, four: list[MockUpstream]) -> None:
    """The 99th percentile of what clients wait is at least three times better than by turns."""
    gate = launch(one_is_slow(four))
    turns = slow_one(gate, "round_robin", 0.3)
    assert turns.at(0.99) >= SLOW, "void: nobody met the slow one"
    for balance in ("least_busy", "peak_ewma"):
        waits = slow_one(gate, balance, 3.0)
        print(f"{balance}: {waits}")
        assert waits.at(0.99) * 3 <= turns.at(0.99), f"{balance}: {waits}"


def wire_of(gate: Gate, worker: int) -> Wire:
    """A connection that this worker holds: the kernel chooses, so some are opened until it is the one."""
    for _ in range(200):
        wire = Wire(gate.port)
        port = wire.socket.getsockname()[1]
        if eventually(lambda: [pid for pid in gate.workers() if port in gate.ports_of(pid)], 5, "somebody has it") == [worker]:  # noqa: B023  # called at once
            return wire
        wire.__exit__()
    raise AssertionError("void: no connection came to this worker")


def at_work(*instances: MockUpstream) -> list[list[str]]:
    """The tags of the requests that came to each instance."""
    return [[json.loads(each["body"])["script"]["tag"] for each in instance.journal()] for instance in instances]


def test_what_one_worker_has_in_flight_counts_for_the_other(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """And counts no more once that worker was killed."""
    gate = launch({"tiny": model(upstream.url, second.url, balance="least_busy")}, workers=2)
    first, other = gate.workers()
    with wire_of(gate, first) as one, wire_of(gate, other) as two:
        one.send(plain("held", delay=60))
        eventually(lambda: at_work(upstream, second) == [["held"], []], 5, "the first instance has it")
        two.send(plain("seen", delay=0))
        assert two.answer().status == 200
        assert at_work(upstream, second) == [["held"], ["seen"]], "the other worker knows"
        os.kill(first, signal.SIGKILL)
        eventually(lambda: first not in gate.workers() and len(gate.workers()) == 2, 5, "it is replaced")
        two.send(plain("after", delay=0))
        assert two.answer().status == 200
        assert at_work(upstream, second) == [["held", "after"], ["seen"]], "what the dead one had is forgotten"


def test_vllm_is_told_a_salt_for_each_tenant(launch: Launch, upstream: MockUpstream) -> None:
    """The same after a restart, another one for another tenant, and never the client's own."""
    gate = launch({"tiny": model(upstream.url, engine="vllm")})

    def salt(secret: str, **fields: str) -> str:
        upstream.clear()
        body = json.dumps({**json.loads(chat()), **fields}).encode()
        answer = ask(gate.port, request(body, secret=secret))
        assert answer.status == 200, answer
        (asked,) = upstream.journal()
        return str(json.loads(asked["body"])["cache_salt"])

    mine, theirs = salt(SECRET), salt(OTHER)
    assert mine != theirs
    assert salt(OTHER, cache_salt=mine) == theirs
    assert gate.terminate() == 0
    gate.start()
    assert (salt(SECRET), salt(OTHER)) == (mine, theirs)
