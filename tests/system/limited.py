"""What the limit tests share: keys under limits of every kind and size, deaths of workers, and the proof from three observers.

An admission happened after its client asked and before the instance heard of it: these two are on one clock and trust the gate in
nothing. The gate's receipts say the same more narrowly: not before `time`, the request's first byte, and not after
`time` + `queue_us`, when it went to the instance. Windows are counted from both with `windows.surely`, which finds only what no
delay on the way can explain. Nothing here is a test; it knows the documented configuration and no cell of any table.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psutil

from tests.tools.crowd import Caller, Crowd, Told
from tests.tools.gate import Gate, digest
from tests.tools.load import LONG
from tests.tools.upstream import MockUpstream
from tests.tools.windows import Span, could, surely

WORKERS = 8 if LONG or (os.cpu_count() or 1) >= 8 else 2
CLIENTS = 500
SECONDS = 2
"""The length of the windows here."""
LENGTH = SECONDS * 1_000_000
SIZES = (1, 7, 100, 10_000)
PRICE = "1000/1M"
"""Of a prompt's and of an answer's tokens: a thousandth each."""


def secret_of(name: str) -> str:
    return f"sk-limited-{name}-0123456789abcdef"


@dataclass(frozen=True)
class Row:
    """A key of its own under one limit; `weigh` says what a request is in the limit's unit."""

    caller: Caller
    limit: str
    amount: int
    weigh: Callable[[Told], int]

    @property
    def name(self) -> str:
        return self.caller.name


KINDS: dict[str, tuple[str, Callable[[Told], int]]] = {
    "requests": ("{} requests/{} seconds", lambda told: 1),
    "tokens": ("{} tokens/{} seconds", lambda told: told.tokens),
    "prompt": ("{} prompt tokens/{} seconds", lambda told: told.prompt),
    "completion": ("{} completion tokens/{} seconds", lambda told: told.completion),
    "cost": ("{} EUR/{} seconds", lambda told: told.tokens),
}
ANSWERS = {1: 1, 7: 1, 100: 5, 10_000: 60}
"""Completion tokens of one request, by the size of the limit, so that several fit."""


def rows(kinds: Iterable[str] = KINDS, sizes: Iterable[int] = SIZES, delay: float = 0.0) -> list[Row]:
    """A row for each kind and size, each request at work for `delay` seconds. Of one larger than its limit nothing may pass."""
    made = []
    for kind in kinds:
        words, weigh = KINDS[kind]
        for size in sizes:
            name, pad = f"{kind}-{size}", 400 if size == 10_000 else 0
            caller = Caller(name, secret_of(name), ANSWERS[size], pad, delay=delay, rest=0.15)
            amount = f"{size / 1000:f}".rstrip("0").rstrip(".") if kind == "cost" else str(size)
            made.append(Row(caller, words.format(amount, SECONDS), size, weigh))
    return made


def settings(limited: Sequence[Row]) -> dict[str, Any]:
    """The options that put each row's key under its limit, and under a plan with prices where cost is counted."""
    priced = any("EUR" in row.limit for row in limited)
    plan = {"currency": "EUR", "prices": {"*": {"prompt": PRICE, "completion": PRICE}}}
    keys = [
        {"name": row.name, "hash": digest(row.caller.secret), "roles": [row.name], **({"team": "paying"} if priced else {})}
        for row in limited
    ]
    return {
        "roles": {row.name: {"models": ["*"], "endpoints": ["*"], "limits": [row.limit]} for row in limited},
        "keys": keys,
        **({"teams": {"paying": {"plan": "plain"}}, "plans": {"plain": plan}} if priced else {}),
    }


def key(name: str, **options: Any) -> dict[str, Any]:
    """A declared key of this name."""
    return {"name": name, "hash": digest(secret_of(name)), **options}


class Deaths:
    """kill -9 of workers at random moments. `times` are when each was told to die, on the monotonic clock."""

    def __init__(self, gate: Gate, seed: int) -> None:
        self.gate, self.chance = gate, random.Random(seed)
        self.times: list[float] = []

    def strike(self, seconds: float, least: float = 0.3, longest: float = 1.2) -> None:
        """Kill one worker every now and then, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, self.chance.uniform(least, longest)))
            if not (found := sorted(self.gate.workers())):
                continue
            self.times.append(time.monotonic())
            self.kill(self.chance.choice(found))

    @staticmethod
    def kill(pid: int) -> None:
        psutil.Process(pid).send_signal(signal.SIGKILL)

    def ended(self, asked: dict[str, Any]) -> float:
        """When work at the instance surely was over: a dead worker's when it died, which the instance learns a moment later."""
        end = float(asked["end_time"] or time.monotonic())
        if asked["ended"] in ("complete", None):
            return end
        return min([end, *(death for death in self.times if death >= asked["time"])])


class Proof:
    """What three observers say of the requests that went through: the clients, the instance, the receipts."""

    def __init__(self, gate: Gate, crowd: Crowd, upstream: MockUpstream) -> None:
        offset = time.time() - time.monotonic()
        self.told = {each.id: each for each in crowd.journal}
        self.asked = {named(row): row for row in upstream.journal() if named(row) in self.told}
        self.receipts = gate.receipts(self.asked, 20)
        for name, receipt in self.receipts.items():
            if receipt["ended"] == "unknown":
                # how far an answer was that is not streamed, nobody knows when its worker dies: its prompt is charged alone
                assert not (self.told[name].complete or self.told[name].stream), self.told[name]
                self.told[name] = replace(self.told[name], completion=0)
        self.seen = {name: Span(int(self.told[name].sent * 1e6), int(row["time"] * 1e6) + 1) for name, row in self.asked.items()}
        self.said: dict[str, Span] = {}
        for name, receipt in self.receipts.items():
            first = int(parsed(receipt["time"]) * 1e6)
            # an intent whose worker died says when it came only; what came of it the instance knows
            late = (
                int((self.asked[name]["time"] + offset) * 1e6) if receipt["ended"] == "unknown" else first + receipt["queue_us"]
            )
            self.said[name] = Span(first, max(first, late) + 3)

    def of(self, who: str) -> list[str]:
        return [name for name in self.asked if self.told[name].who == who]

    def check(self, limited: Iterable[Row], seconds: int = SECONDS) -> None:
        """Nothing above the limit in any window, by either account."""
        for row in limited:
            self.none_over([row.name], row.amount, row.weigh, seconds)

    def none_over(self, whose: Sequence[str], amount: int, weigh: Callable[[Told], int], seconds: int = SECONDS) -> None:
        names = [name for who in whose for name in self.of(who)]
        for observer, spans in (("instance", self.seen), ("receipts", self.said)):
            found = surely([spans[name]._replace(weight=weigh(self.told[name])) for name in names], seconds * 1_000_000)
            assert found <= amount, f"{whose}: {found} of {amount} in {seconds} s, says the {observer}"

    def share(self, row: Row, seconds: int = SECONDS) -> tuple[int, int]:
        """What passed, and what a limiter at 98 % of the rate would have let through of the same requests.

        The last half second is left out of what could be: what asked then may have been answered after the end.
        """
        mine = [told for told in self.told.values() if told.who == row.name and told.status]
        last = max((told.sent for told in mine), default=0.0) - 0.5
        asked = [(int(told.sent * 1e6), row.weigh(told)) for told in mine if told.sent < last]
        return sum(row.weigh(self.told[name]) for name in self.of(row.name)), could(
            asked, row.amount, int(seconds * 1_000_000 / 0.98)
        )

    def delays(self) -> list[int]:
        """By how many microseconds an admission's instant is uncertain, by the receipts."""
        return sorted(last - first for first, last, _ in self.said.values())


def named(asked: dict[str, Any]) -> str:
    """The request id under which a request reached the instance."""
    return next((value for name, value in asked["headers"] if name == "x-request-id"), "")


def parsed(text: Any) -> float:
    """Seconds since the epoch of a receipt's time (UTC), however the store writes it."""
    if isinstance(text, int | float):
        return float(text) / (1e6 if text > 1e14 else 1)
    found = datetime.fromisoformat(str(text))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def remaining(told: Told, what: str) -> int:
    return int(told.headers[f"x-ratelimit-remaining-{what}"])


def check_headers(told: Iterable[Told]) -> None:
    """What every answer under a limit says of it makes sense by itself."""
    for each in told:
        for name, value in each.headers.items():
            if name.startswith(("x-ratelimit-limit-", "x-ratelimit-remaining-")):
                assert value.isdecimal(), f"{each.id}: {name}: {value}"
        for what in ("requests", "tokens"):
            if f"x-ratelimit-remaining-{what}" in each.headers:
                assert remaining(each, what) <= int(each.headers[f"x-ratelimit-limit-{what}"]), each.headers
        if each.status == 429:
            assert each.retry_after is not None and each.retry_after.isdecimal() and int(each.retry_after) >= 1, each
            assert each.code in ("rate_limit_exceeded", "quota_exceeded"), each.body
