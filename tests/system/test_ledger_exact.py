"""The ledger's totals are what the clients saw, to the token, while every kind of process is killed at random moments.

The clients' own journal is the truth: for each answer that a client has whole there is one receipt with its tokens, and for each
request that reached the instance there is one, whatever became of it. The short form sends 5,000 requests, `SLMGATE_LONG=1` a
million, `SLMGATE_REQUESTS` as many as it says. A run that does not come to its number fails.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from typing import NamedTuple

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.limited import key, named, secret_of
from tests.tools.crowd import Caller, Crowd, Told
from tests.tools.gate import Gate, eventually, model
from tests.tools.load import LONG, Background
from tests.tools.upstream import MockUpstream

REQUESTS = int(os.environ.get("SLMGATE_REQUESTS") or (1_000_000 if LONG else 5000))
ROUND = min(10_000, REQUESTS // 2)
"""Of so many at a time the totals are compared."""
PACE, HEAD_START = 100, 120
"""Requests a second at the least, but for some seconds: a run that is slower is broken off, for it would take all day."""
CLIENTS = 64
NAMES = ("first", "second", "third")


class Line(NamedTuple):
    """What the totals need of a receipt."""

    request_id: str
    status: int
    ended: str
    prompt_tokens: int
    completion_tokens: int
    principal: str


def lines(gate: Gate, prefix: str) -> list[Line]:
    """The receipts of the requests whose ids begin with `prefix`."""
    with contextlib.closing(sqlite3.connect(f"file:{gate.state / 'ledger.sqlite3'}?mode=ro", uri=True, timeout=10)) as store:
        columns = ", ".join(Line._fields)
        found = store.execute(f"select {columns} from receipts where request_id > ? and request_id < ?", (prefix, prefix + "~"))
        return [Line(*row) for row in found]


def tokens_told(told: Told) -> tuple[int, int]:
    """Prompt's and answer's tokens as the client was told: in the answer's usage, or by the events that it counted."""
    if told.stream:
        return told.prompt, len(told.numbers)
    usage = json.loads(told.body)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


DEEDS = ("worker", "control", "worker", "everything", "worker", "control", "worker", "worker", "control", "worker")
"""What is killed, in turn. The first four are done in each round, however soon its requests are through."""


class Killer:
    """Kills a worker, the control process, or everything, at moments that chance chooses; what was killed is counted."""

    def __init__(self, gate: Gate, seed: int) -> None:
        self.gate, self.chance = gate, random.Random(seed)
        self.killed: Counter[str] = Counter()

    def strike(self, crowd: Crowd, count: int, until: float) -> None:
        """Go on until `count` requests were sent and each kind of process was killed among them."""
        for number, deed in enumerate(itertools.cycle(DEEDS)):
            if (len(crowd.journal) >= count and number >= 4) or time.monotonic() > until:
                break
            time.sleep(self.chance.uniform(0.2, 1.5))
            if deed == "everything":
                self.gate.kill_everything()
                time.sleep(self.chance.random() * 0.3)
                self.gate.start()
                self.killed[deed] += 1
                continue
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):  # it is being replaced, or ended between the two
                found = sorted(self.gate.workers()) if deed == "worker" else [self.gate.control()]
                psutil.Process(self.chance.choice(found)).send_signal(signal.SIGKILL)
                self.killed[deed] += 1
        crowd.stopped = True


@pytest.mark.timeout(120 + HEAD_START + REQUESTS // PACE)
def test_totals_are_what_clients_saw(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2, keys=[key(name) for name in NAMES])
    begun = time.monotonic()
    end = begun + HEAD_START + REQUESTS / PACE
    sent = whole = tokens = number = 0
    killer = Killer(gate, 430)
    killer.gate.kill_everything()
    gate.start()
    while sent < REQUESTS:
        assert time.monotonic() < end, f"void: {sent} requests of {REQUESTS} in {end - begun:.0f} s"
        callers = [Caller(name, secret_of(name), 3 + n, stream=n == 2) for n, name in enumerate(NAMES)]
        number += 1
        crowd = Crowd(gate.port, callers, seed=430 + number)
        with Background(crowd.press(CLIENTS, 300.0, pause=0.05), 400):
            killer.strike(crowd, min(ROUND, REQUESTS - sent), end)
        tokens += compare(gate, crowd, upstream)
        sent, whole = sent + len(crowd.journal), whole + sum(each.good for each in crowd.journal)
        upstream.clear()
    took = time.monotonic() - begun
    print(f"{sent} requests in {took:.0f} s, {whole} whole answers, {tokens} tokens; killed: {dict(killer.killed)}")
    assert all(killer.killed[deed] for deed in DEEDS), "void: too little was killed"
    rows = lines(gate, "c")
    assert len({row.request_id for row in rows}) == len(rows), "a request has two receipts"
    told_tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows if row.status == 200 and row.ended == "complete")
    assert told_tokens >= tokens


def compare(gate: Gate, crowd: Crowd, upstream: MockUpstream) -> int:
    """Assert that receipts and clients agree; the tokens of all whole answers."""
    whole = {each.id: each for each in crowd.journal if each.good}
    asked = {named(row) for row in upstream.journal()} & {each.id for each in crowd.journal}
    found: dict[str, Line] = {}

    def all_there() -> bool:
        found.clear()
        found.update((row.request_id, row) for row in lines(gate, crowd.prefix))
        return asked | set(whole) <= set(found)

    eventually(all_there, 20, "every request that reached the instance has its receipt", 0.3)
    rows = lines(gate, crowd.prefix)
    assert len(rows) == len(found), f"{len(rows) - len(found)} receipts too many"
    totals: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    booked: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    for name, told in whole.items():
        prompt, completion = tokens_told(told)
        totals[told.who].update(requests=1, prompt=prompt, completion=completion)
        row = found[name]
        # A worker that dies between a client's last byte and its own last step leaves a receipt that it had already written.
        assert (row.status, row.ended) == (200, "complete"), (str(told), row)
        booked[row.principal].update(requests=1, prompt=row.prompt_tokens, completion=row.completion_tokens)
    assert booked == totals
    cut = {row.ended for row in rows if row.request_id not in whole}
    assert cut <= {"unknown", "client_left", "gate_stopped", "upstream_error", "complete"}, cut
    return sum(each["prompt"] + each["completion"] for each in totals.values())
