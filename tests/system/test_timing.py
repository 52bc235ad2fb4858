"""Whether the time of a refusal tells anything about a secret: wrong keys that share more or less with a right one.

Welch's t over interleaved requests on one connection, without the slowest tenth (the machine's other work); below 4.5 nothing
can be told. The normal run takes some hundreds of each kind, `SLMGATE_LONG=1` 20,000; the figures are printed.
"""

from __future__ import annotations

import random
import secrets
import statistics
import time
from math import sqrt

from tests.system.attacks import KEYS
from tests.system.conftest import Launch
from tests.tools.gate import SECRET, Gate, digest, model
from tests.tools.load import LONG
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, request

EACH = 20_000 if LONG else 400
BOUND = 4.5


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t of two samples, each without its slowest tenth."""
    first, second = (sorted(sample)[: len(sample) * 9 // 10] for sample in (one, other))
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return (statistics.fmean(first) - statistics.fmean(second)) / sqrt(spread)


def wrong(shared: int) -> str:
    """A wrong secret of the right length that has this many leading characters of the right one."""
    rest = len(SECRET) - shared
    tail = secrets.token_hex(rest)[:rest]
    return SECRET[:shared] + tail if SECRET[:shared] + tail != SECRET else wrong(shared)


def timed(gate: Gate, kinds: dict[str, int]) -> dict[str, list[float]]:
    """Nanoseconds of refusals, the kinds in random order, each request with a secret of its own."""
    found: dict[str, list[float]] = {name: [] for name in kinds}
    order = [name for name in kinds for _ in range(EACH)]
    random.shuffle(order)
    with Wire(gate.port) as wire:
        for name in order:
            data = request(None, method="GET", path="/v1/models", secret=wrong(kinds[name]))
            began = time.perf_counter_ns()
            answer = wire.ask(data, "GET")
            found[name].append(float(time.perf_counter_ns() - began))
            assert answer.status == 401
    return found


def test_wrong_keys_take_one_time(shared_upstream: MockUpstream, launch: Launch) -> None:
    keys = [{"name": name, "hash": digest(secret)} for name, secret in {**KEYS, "main": SECRET}.items()]
    gate = launch({"tiny": model(shared_upstream.url)}, keys=keys, workers=1, log={"access": "off"})
    kinds = {"nothing": 0, "nothing again": 0, "the prefix": 3, "half": len(SECRET) // 2, "all but eight": len(SECRET) - 8}
    found = timed(gate, kinds)
    figures = {name: welch(found["nothing"], sample) for name, sample in found.items() if name != "nothing"}
    for name, t in figures.items():
        print(f"{EACH} each, sharing {name}: median {statistics.median(found[name]) / 1000:.1f} us, t = {t:.2f}")
    assert max(map(abs, figures.values())) < BOUND, figures
