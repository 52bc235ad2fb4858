"""An open-loop loader that keeps the clients' own journal: what each was told, and when.

Requests start at their appointed times whether or not earlier ones are done, so waiting is counted. Only POST is sent
and nothing is ever retried. Each request carries its own `x-request-id` and tag, by which its receipt and every byte of its
answer can be told from any other's. The loader knows HTTP and the mock instance's numbered events, nothing of the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import msgspec

LONG = bool(os.environ.get("SLMGATE_LONG"))
"""Run the full figures of the reliability goals instead of the short ones."""
RATE, STREAMS = (200, 100) if LONG else (100, 30)
"""The load beside which faults are made: short requests a second, and streams that are open all along."""


def rounds(short: int, long: int) -> int:
    """How often a fault is made in one test: `SLMGATE_ROUNDS` if that is set, else by the form of the run."""
    return int(os.environ.get("SLMGATE_ROUNDS") or (long if LONG else short))


class Event(msgspec.Struct):
    """One event of a stream as far as the journal cares."""

    n: int | None = None
    tag: str = ""
    t: float = 0.0
    error: Any = None


EVENTS = msgspec.json.Decoder(Event)


@dataclass
class Outcome:
    """What one client saw of one request. Times are CLOCK_MONOTONIC seconds."""

    id: str
    stream: bool
    due: float
    sent: float = 0.0
    port: int = 0
    status: int = 0
    first: float | None = None
    end: float | None = None
    complete: bool = False
    """The last byte that the framing promised has come."""
    error: str | None = None
    numbers: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    done: bool = False
    """`[DONE]` was seen."""
    error_event: bool = False
    strange: int = 0
    """Events that carry another request's tag."""
    body: bytes = b""
    retry_after: str | None = None

    @property
    def good(self) -> bool:
        """A success by all that the client can tell: 200, whole, its own, in order, with a clean end."""
        whole = self.status == 200 and self.complete and not self.strange and not self.error_event
        return whole and (not self.stream or (self.done and self.numbers == list(range(len(self.numbers)))))

    @property
    def took(self) -> float:
        """Seconds from when it was due to its end; endless when it had none."""
        return float("inf") if self.end is None else self.end - self.due

    def __str__(self) -> str:
        ran = None if self.end is None else round(self.end - self.sent, 3)
        seen = f"{len(self.numbers)} events" if self.stream else f"{len(self.body)} bytes"
        return f"{self.id} {self.status} complete={self.complete} error={self.error} after {ran} s, {seen} {self.body[:120]!r}"


class Link(asyncio.Protocol):
    """One client connection; carries one request at a time."""

    def __init__(self) -> None:
        self.lost = False
        self.outcome: Outcome | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def begin(self, outcome: Outcome, data: bytes) -> asyncio.Future[None]:
        self.outcome, self.rest = outcome, b""
        self.parser = httptools.HttpResponseParser(self)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcome.port, outcome.sent = self.port, time.monotonic()
        self.transport.write(data)
        return self.over

    def data_received(self, data: bytes) -> None:
        if self.outcome is None:
            self.transport.abort()
            return
        if self.outcome.first is None:
            self.outcome.first = time.monotonic()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self.finish(f"broken answer: {fault}")
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.outcome is not None and name.lower() == b"retry-after":
            self.outcome.retry_after = value.decode()

    def on_headers_complete(self) -> None:
        assert self.outcome is not None
        self.outcome.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        assert self.outcome is not None
        if not (self.outcome.stream and self.outcome.status == 200):
            self.outcome.body += body
            return
        *whole, self.rest = (self.rest + body).split(b"\n\n")
        now = time.monotonic()
        for block in whole:
            data = block.partition(b"data: ")[2]
            if data.startswith(b"[DONE]"):
                self.outcome.done = True
            elif data.startswith(b"{"):
                event = EVENTS.decode(data)
                self.outcome.error_event |= event.error is not None
                self.outcome.strange += bool(event.tag) and event.tag != self.outcome.id
                if event.n is not None:
                    self.outcome.numbers.append(event.n)
                    self.outcome.delays.append(now - event.t)

    def on_message_complete(self) -> None:
        if self.outcome is not None:
            self.outcome.complete = True
            body = self.outcome.body
            self.outcome.strange += body.count(b'"tag"') and f'"tag": "{self.outcome.id}"'.encode() not in body
            self.keep = self.parser.should_keep_alive()
            self.finish(None)

    def finish(self, error: str | None) -> None:
        if self.outcome is not None:
            self.outcome.error, self.outcome.end = error, time.monotonic()
            self.outcome = None
            if not self.over.done():
                self.over.set_result(None)

    def connection_lost(self, fault: Exception | None) -> None:
        self.lost = True
        seen = "cut" if self.outcome is not None and self.outcome.first is not None else "closed without an answer"
        self.finish(f"{seen}: {fault!r}")


class Loader:
    """A set of clients. `journal` holds every request ever started."""

    def __init__(self, port: int, secret: str, seed: int, model: str = "tiny") -> None:
        print(f"loader seed {seed}")
        self.model = model
        self.port, self.secret = port, secret
        self.chance = random.Random(seed)
        self.prefix = f"load-{seed}-{self.chance.getrandbits(24):06x}"
        self.journal: list[Outcome] = []
        self.idle: list[Link] = []

    async def link(self) -> Link:
        while self.idle:
            link = self.idle.pop()
            if not link.lost and not link.transport.is_closing():
                return link
        _, fresh = await asyncio.get_running_loop().create_connection(Link, "127.0.0.1", self.port)
        return fresh

    async def one(self, *, stream: bool = False, due: float | None = None, limit: float = 60.0, **script: Any) -> Outcome:
        """One request, told to the mock by `script`. Never raises: what went wrong is in the outcome."""
        name = f"{self.prefix}-{len(self.journal)}"
        outcome = Outcome(name, stream, due or time.monotonic())
        self.journal.append(outcome)
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": "hi"}],
            "script": {"tag": name, **script},
        }
        body = json.dumps({**fields, "stream": True} if stream else fields).encode()
        credential = f"Authorization: Bearer {self.secret}"
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate.test\r\n{credential}\r\nX-Request-Id: {name}\r\n"
        try:
            link = await self.link()
        except OSError as fault:
            outcome.error, outcome.end = f"not connected: {fault!r}", time.monotonic()
            return outcome
        over = link.begin(outcome, f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            await asyncio.wait_for(over, limit)
        except TimeoutError:
            link.finish(f"nothing more within {limit} s")
            link.transport.abort()
        if outcome.complete and not link.lost and link.keep:
            self.idle.append(link)
        else:
            link.transport.abort()
        return outcome

    async def run(
        self, rate: float, seconds: float, streams: int = 0, events: int = 0, event_rate: float = 10, **script: Any
    ) -> None:
        """`rate` short requests a second for `seconds`, beside `streams` streams that start in the first second.

        Streams of `events` events run once. Without that figure they last to the end, and one that is cut is followed by
        another, so that a later fault meets the same load.
        """
        start = time.monotonic()
        end = start + seconds

        async def lasting(due: float) -> None:
            while True:
                left = max(1, int((end - max(due, time.monotonic())) * event_rate))
                if (await self.one(stream=True, due=due, limit=seconds + 60, events=left, rate=event_rate)).good:
                    return
                due = time.monotonic() + 0.5
                if due > end - 1:
                    return
                await asyncio.sleep(0.5)

        plan = [(start + at / rate, False) for at in range(int(rate * seconds))] + [
            (start + self.chance.random(), True) for _ in range(streams)
        ]
        running: list[asyncio.Task[Any]] = []
        for due, stream in sorted(plan):
            if (pause := due - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            if not stream:
                work: Coroutine[Any, Any, Any] = self.one(due=due, **script)
            elif events:
                work = self.one(stream=True, due=due, limit=seconds + 60, events=events, rate=event_rate)
            else:
                work = lasting(due)
            running.append(asyncio.create_task(work))
        await asyncio.gather(*running)
        for link in self.idle:
            link.transport.abort()

    def bad(self) -> list[Outcome]:
        return [each for each in self.journal if not each.good]

    def told(self) -> str:
        """The first failures, one a line, for a test's message."""
        return f"{len(self.bad())} of {len(self.journal)} failed:\n" + "\n".join(str(each) for each in self.bad()[:10])


class Background(threading.Thread):
    """Runs a coroutine on a loop of its own while a test does its deeds. Leaving the `with` block waits for its end."""

    def __init__(self, work: Coroutine[Any, Any, None], within: float = 120.0) -> None:
        super().__init__(daemon=True)
        self.work, self.within = work, within
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self.work)
        except BaseException as fault:  # noqa: BLE001  # whatever it is, `__exit__` raises it in the test's own thread
            self.fault = fault

    def __enter__(self) -> Background:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.join(self.within)
        if kind is None:
            assert not self.is_alive(), "the load does not end"
            if self.fault is not None:
                raise self.fault


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed."""
    with contextlib.suppress(IndexError):
        return sorted(values)[min(len(values) - 1, int(share * len(values)))]
    return 0.0
