"""The way to a collector: what is to be told waits in a bounded line, and a thread sends it in batches over OTLP/HTTP.

Whoever hands something over never waits. A collector that is slow, away or refuses costs what does not fit into the line any
more, and that is counted. No redirect is followed and no proxy of the environment used. It does not know what is told.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import httpx

from slmgate.control.tracing.wire import rejected

MAX_WAITING = 8 * 1024 * 1024
"""Bytes that may wait to be sent; what comes beyond is dropped."""
MAX_BATCH = 1024 * 1024
"""Bytes of one request, about."""
GATHER_SECONDS = 1.0
"""How long what comes is gathered before it is sent, unless there is a whole batch before."""
TIMEOUT = 10.0
"""Seconds that a step of a request may take."""
WHOLE_TIMEOUT = 30.0
"""Seconds that a request may take until its answer is there: who answers byte by byte has a next byte in time, for ever."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two tries of the same batch: the first and the longest pause."""
MAX_ANSWER = 64 * 1024
AGAIN = (429, 502, 503, 504)
"""Statuses after which a batch is sent again, as OTLP says; after any other it is not."""

_log = logging.getLogger("slmgate.otlp")

Items = list[tuple[bytes, int]]
"""What is to be told, each with how many spans or log records it is."""


class Target:
    """Where to, and as whom. `transport` stands for the network in tests."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        ca: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self.headers = dict(headers)
        self.ca = ca
        self.transport = transport

    def __repr__(self) -> str:
        return f"<Target {self.url}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and (self.url, self.headers, self.ca) == (other.url, other.headers, other.ca)

    __hash__ = None  # type: ignore[assignment]  # headers are a dict, and nobody looks one up

    def client(self) -> httpx.AsyncClient:
        """Raises OSError when the file of authorities cannot be used."""
        verify: ssl.SSLContext | bool = True
        if self.transport is None and self.url.startswith("https:"):
            verify = ssl.create_default_context(cafile=self.ca)
        return httpx.AsyncClient(
            transport=self.transport,
            verify=verify,
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=False,
            headers=self.headers
            | {"content-type": "application/x-protobuf", "user-agent": "slmgate", "accept-encoding": "identity"},
        )


class Reply(NamedTuple):
    """A collector's answer, as far as anything follows from it. `again_in`: the seconds that it asks for."""

    status: int
    body: bytes
    again_in: float


class Way:
    """The connections to one collector, for one thread, in a loop of its own: so that a whole request can be bounded in time."""

    def __init__(self, target: Target) -> None:
        """Raises OSError when the file of authorities cannot be used."""
        self._url = target.url
        self._client = target.client()
        self._runner = asyncio.Runner()

    def __repr__(self) -> str:
        return f"<Way to {self._url}>"

    def post(self, content: bytes) -> Reply:
        """Raises httpx.TransportError, also when it takes too long."""
        return self._runner.run(self._post(content))

    async def _post(self, content: bytes) -> Reply:
        try:
            async with asyncio.timeout(WHOLE_TIMEOUT), self._client.stream("POST", self._url, content=content) as answer:
                return Reply(answer.status_code, await _body_of(answer), _retry_after(answer))
        except TimeoutError:
            raise httpx.ReadTimeout("the answer does not come to its end") from None

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


class Exporter:
    """Sends what `put` is given. Start it by making it, end it with `close`. `around` makes a request of items."""

    def __init__(
        self,
        name: str,
        target: Target,
        around: Callable[[Iterable[bytes]], bytes],
    ) -> None:
        self.name = name
        self.target = target
        self._around = around
        # Shared with the thread, guarded by the condition's lock.
        self._line: deque[tuple[bytes, int]] = deque()
        self._waiting = 0
        self._closing = False
        self.dropped = 0  # since it was made; reading it from elsewhere is a picture of a moment
        self.sent = 0
        self._changed = threading.Condition()
        # The thread's own.
        self._down = False
        self._thread = threading.Thread(target=self._run, name=f"otlp-{name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Exporter of {self.name}: {self._waiting} bytes waiting, {self.sent} sent, {self.dropped} dropped>"

    def put(self, items: Items) -> None:
        """Take what is to be told. Never blocks and never fails."""
        with self._changed:
            for item in items:
                if self._waiting + len(item[0]) > MAX_WAITING or self._closing:
                    self.dropped += item[1]
                else:
                    self._line.append(item)
                    self._waiting += len(item[0])
            if self._waiting >= MAX_BATCH or self._closing:
                self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Send what waits, for at most `timeout` seconds, and end. What is left then is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout + 0.1)
        with self._changed:
            self.dropped += sum(count for _, count in self._line)
            self._line.clear()
            self._waiting = 0

    # -- the thread

    def _run(self) -> None:
        way: Way | None = None
        while True:
            with self._changed:
                if not self._closing and self._waiting < MAX_BATCH:
                    self._changed.wait(GATHER_SECONDS)
                batch = self._take()
                if not batch and self._closing:
                    break
            if not batch:
                continue
            try:
                way = way or Way(self.target)
                self._send(way, batch)
            except Exception as error:  # noqa: BLE001  # whatever it was: this thread is what spans go through, and goes on
                self._drop(batch, f"{type(error).__name__}: {error}")
        if way is not None:
            way.close()

    def _take(self) -> Items:
        batch: Items = []
        size = 0
        while self._line and (not batch or size + len(self._line[0][0]) <= MAX_BATCH):
            item = self._line.popleft()
            size += len(item[0])
            batch.append(item)
        self._waiting -= size
        return batch

    def _send(self, way: Way, batch: Items) -> None:
        """Send one batch, again where that may help, until it is through or there is no time for it any more."""
        request = self._around(piece for piece, _ in batch)
        count = sum(spans for _, spans in batch)
        pause = FIRST_PAUSE
        while True:
            try:
                reply = way.post(request)
            except httpx.TransportError as error:
                reply, why = Reply(0, b"", 0.0), type(error).__name__
            else:
                why = f"it answered {reply.status}"
            if 200 <= reply.status < 300:
                self._through(count, min(rejected(reply.body), count))
                return
            if reply.status and reply.status not in AGAIN:
                self._drop(batch, why)
                return
            self._say_down(why)
            if not self._pause(max(pause, min(reply.again_in, LONGEST_PAUSE))):
                self._drop(batch, why)
                return
            pause = min(pause * 2, LONGEST_PAUSE)

    def _pause(self, seconds: float) -> bool:
        """Wait before another try. False: there is no time for one."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closing and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._closing

    def _through(self, count: int, refused: int) -> None:
        with self._changed:
            self.sent += count - refused
            self.dropped += refused
        if self._down:
            _log.info("the collector at %s takes %s again", self.target.url, self.name)
            self._down = False
        if refused:
            _log.warning("the collector at %s did not take %d of %d %s", self.target.url, refused, count, self.name)

    def _drop(self, batch: Items, why: str) -> None:
        count = sum(spans for _, spans in batch)
        with self._changed:
            self.dropped += count
        self._say_down(why)

    def _say_down(self, why: str) -> None:
        if not self._down:
            _log.warning(
                "the collector at %s does not take %s (%s); requests are served all the same", self.target.url, self.name, why
            )
            self._down = True


async def _body_of(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER:
            return b""
    return bytes(body)


def _retry_after(answer: httpx.Response) -> float:
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() and len(said) < 6 else 0.0
