"""What the strategies of `balance` are good for, shown with real processes: one slow instance of four, and prompts that are warm.

`python -m bench.balance` runs both. The first has mock instances, one of which takes three hundred times as long, and compares
the 99th percentile of what clients wait. The second has two llama.cpp servers with a real small model and some long prompts that
many requests share, and compares the time to the first token. It knows no strategy's inside.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.tools.engine import Engine
from tests.tools.gate import SECRET, Gate, model
from tests.tools.load import Loader, percentile
from tests.tools.upstream import MockUpstream

SLOW, FAST, CLIENTS = 3.0, 0.01, 6
"""Seconds of the slow instance's answers and of the others', and clients that each ask again as soon as they are answered."""
APPLICATIONS, SLOTS = 6, 4
"""Long prompts that are shared, and how many conversations an instance keeps."""
RULES = 25
"""Lines of each such prompt: about 500 tokens."""


@dataclass
class Waits:
    """What clients waited, in seconds."""

    each: list[float]

    def at(self, share: float) -> float:
        return percentile(self.each, share)

    @property
    def mean(self) -> float:
        return fmean(self.each)

    def __str__(self) -> str:
        return f"mean {self.mean:7.3f} s, median {self.at(0.5):7.3f} s, p99 {self.at(0.99):7.3f} s of {len(self.each)}"


def one_is_slow(instances: Sequence[MockUpstream]) -> dict[str, Any]:
    """Slow the first of them down; the models of a gate over them, each called as its strategy."""
    for number, instance in enumerate(instances):
        instance.default(delay=FAST if number else SLOW)
    strategies = ("round_robin", "least_busy", "peak_ewma")
    return {balance: model(*(one.url for one in instances), balance=balance) for balance in strategies}


def slow_one(gate: Gate, balance: str, seconds: float) -> Waits:
    """Waits for answers of the model that is called so."""
    loader = Loader(gate.port, SECRET, seed=5, model=balance)
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            await loader.one()

    async def clients() -> None:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        for link in loader.idle:
            link.transport.abort()

    asyncio.run(clients())
    if loader.bad():
        raise SystemExit(loader.told())
    return Waits([each.took for each in loader.journal])


def prompt(application: int) -> str:
    """The long prompt of one application, unlike that of any other from its first line on."""
    chance = random.Random(application)
    words = [f"word{chance.randrange(1000)}" for _ in range(40)]
    lines = (f"{number}. Of {chance.choice(words)} say no more than {chance.choice(words)}." for number in range(RULES))
    return f"You are the assistant of application {application * 7919}.\n" + "\n".join(lines)


def first_token(port: int, application: int, turn: int) -> float:
    """Seconds to the first token of one streamed answer."""
    messages = [{"role": "system", "content": prompt(application)}, {"role": "user", "content": f"Question {turn}: what now?"}]
    body = json.dumps({"model": "tiny", "stream": True, "max_tokens": 4, "messages": messages})
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        began = time.monotonic()
        link.request(
            "POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
        )
        answer = link.getresponse()
        while line := answer.readline():
            if b'"content":"' in line:
                break
        took = time.monotonic() - began
        if answer.status != 200 or not line:
            raise SystemExit(f"the model did not answer: {answer.status}")
        answer.read()
        return took
    finally:
        link.close()


def warm(home: Path, engines: Sequence[Engine], balance: str, turns: int) -> Waits:
    """Times to the first token of a client that asks for the applications in no order, one at a time, after one round of all."""
    home.mkdir()
    gate = Gate(home, {"tiny": model(*(one.url for one in engines), engine="llamacpp", balance=balance)}, workers=1)
    order = random.Random(11)
    try:
        for application in range(APPLICATIONS):
            first_token(gate.port, application, -1)
        return Waits([first_token(gate.port, order.randrange(APPLICATIONS), turn) for turn in range(turns)])
    finally:
        gate.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of load on each strategy, with one slow instance")
    parser.add_argument("--only", choices=("slow", "warm"), help="one of the two")
    parser.add_argument("--turns", type=int, default=40, help="requests to the real models on each strategy")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slmgate-balance-") as name:
        if given.only != "warm":
            _slow(Path(name), given.seconds)
        if given.only != "slow":
            _warm(Path(name), given.turns)
    return 0


def _slow(directory: Path, seconds: float) -> None:
    print(f"four instances, one of which takes {SLOW} s and the others {FAST} s; {CLIENTS} clients, two workers")
    mocks = [MockUpstream() for _ in range(4)]
    try:
        models = one_is_slow(mocks)
        directory = directory / "slow"
        directory.mkdir()
        gate = Gate(directory, models)
        try:
            waits = {balance: slow_one(gate, balance, seconds) for balance in models}
        finally:
            gate.stop()
    finally:
        for mock in mocks:
            mock.close()
    _tell(waits, "p99", {balance: each.at(0.99) for balance, each in waits.items()})


def _warm(directory: Path, turns: int) -> None:
    print(f"two llama.cpp servers of {SLOTS} slots, {APPLICATIONS} prompts of {len(prompt(0))} bytes; to the first token:")
    waits: dict[str, Waits] = {}
    for balance in ("round_robin", "least_busy", "prefix"):
        engines = [Engine(slots=SLOTS, context=SLOTS * 2048, kept_mib=0) for _ in range(2)]
        try:
            waits[balance] = warm(directory / f"warm-{balance}", engines, balance, turns)
        finally:
            for engine in engines:
                engine.close()
    _tell(waits, "mean", {balance: each.mean for balance, each in waits.items()})


def _tell(waits: dict[str, Waits], what: str, compared: dict[str, float]) -> None:
    usual = compared["round_robin"]
    for balance, each in waits.items():
        print(f"  {balance:12} {each}; {what} {usual / compared[balance]:.1f} times better than round_robin", flush=True)


if __name__ == "__main__":
    sys.exit(main())
