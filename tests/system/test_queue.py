"""The line before a full instance, in real processes: who has many waiting delays nobody, and shares match the weights.

The mock instance takes a fixed time for each request and says in which order they came to it. How the queue decides is
`tests/policy/test_queue.py`'s; here it is shown that clients get it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.system.scenes import plain, tags
from tests.tools.gate import OTHER, SECRET, digest, eventually, model
from tests.tools.load import Background, Loader, percentile
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, chat, request


def full(url: str, **queue: Any) -> dict[str, Any]:
    """A model with one instance that takes one request at a time."""
    models = model(url, queue={"waiting": 600, "timeout": "60s", **queue})
    models["instances"][0]["max_in_flight"] = 1
    return {"tiny": models}


def test_one_with_five_hundred_waiting_delays_another_by_one(launch: Launch, upstream: MockUpstream) -> None:
    """The second's wait is at most twice an instance's service time, every single time."""
    service, many, turns = 0.2, 500, 15
    gate = launch(full(upstream.url), workers=1)
    single = Loader(gate.port, OTHER, seed=2)
    crowd = [Wire(gate.port) for _ in range(many + 1)]
    for wire in crowd:
        wire.send(plain("greedy", delay=service))

    async def load() -> None:
        for _ in range(turns):
            await single.one(delay=service)
        for link in single.idle:
            link.transport.abort()

    eventually(upstream.journal, 5, "the first of them is at work")
    with Background(load()):
        pass
    for wire in crowd:
        wire.__exit__()
    assert not single.bad(), single.told()
    asked = tags(upstream)
    served = sum(1 for each in upstream.journal() if "greedy" in each["body"])
    assert {each.id for each in single.journal} <= asked
    assert turns - 1 <= served < many - 400, f"void: the first was served {served} times, or had no line"
    rows = gate.receipts(each.id for each in single.journal)
    waits = [row["queue_us"] / 1e6 for row in rows.values()]
    print(f"waits: median {percentile(waits, 0.5):.3f} s, longest {max(waits):.3f} s of {2 * service} s")
    assert max(waits) <= 2 * service, sorted(waits)


SHARES = {"light": 1, "middle": 2, "heavy": 4}
"""Principals, with the weights of their roles."""


@pytest.mark.parametrize("fairness", ["tokens", "requests"])
def test_shares_match_the_weights(launch: Launch, upstream: MockUpstream, fairness: str) -> None:
    """Of tokens or of requests: who asks for longer answers gets no more of them than its weight says."""
    if fairness == "tokens":
        longest, many = {"light": 5_000, "middle": 10_000, "heavy": 20_000}, dict.fromkeys(SHARES, 100)
    else:
        longest, many = {"light": 20_000, "middle": 10_000, "heavy": 5_000}, {"light": 40, "middle": 75, "heavy": 140}
    secrets = {name: f"sk-test-{name}-0123456789abcdef" for name in SHARES}
    gate = launch(
        full(upstream.url, fairness=fairness),
        workers=1,
        roles={name: {"models": ["*"], "weight": weight} for name, weight in SHARES.items()},
        keys=[{"name": name, "hash": digest(secret), "roles": [name]} for name, secret in secrets.items()],
    )
    wires: list[Wire] = []

    def send(name: str, delay: float) -> None:
        body = {**json.loads(chat(tag=name, delay=delay)), "max_tokens": longest[name]}
        wires.append(Wire(gate.port))
        wires[-1].send(request(json.dumps(body).encode(), secret=secrets[name]))

    send("light", 3.0)  # behind it, all the others stand in line
    for name in SHARES:
        for _ in range(many[name]):
            send(name, 0.01)
    counted = 210
    eventually(lambda: len(upstream.journal()) > counted, 30, "enough of them have gone", 0.2)
    order = [json.loads(asked["body"])["script"]["tag"] for asked in upstream.journal()[1 : counted + 1]]
    for wire in wires:
        wire.__exit__()
    gone = Counter(order)
    assert all(gone[name] < many[name] for name in SHARES), f"void: not all had a line: {gone}"
    had = {name: gone[name] * (longest[name] if fairness == "tokens" else 1) for name in SHARES}
    whole = sum(had.values())
    for name, weight in SHARES.items():
        share, fair = had[name] / whole, weight / sum(SHARES.values())
        print(f"{name}: {share:.3f} of {fair:.3f}")
        assert share == pytest.approx(fair, rel=0.05), (name, gone)


def test_the_line_is_served_before_the_gate_goes(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch(full(upstream.url), workers=1)
    loader = Loader(gate.port, SECRET, seed=3)
    with Background(loader.run(200, 0.1, delay=0.1)):
        eventually(lambda: len(loader.journal) == 20 and upstream.journal(), 5, "they stand in line")
        time.sleep(0.2)
        assert gate.terminate() == 0
    assert not loader.bad(), loader.told()
