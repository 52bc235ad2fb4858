"""A crowd of slow clients: heads that never end, bodies that stop coming, answers that nobody takes.

Each keeps its own time of the end that the gate made of it, and what it was told. They know HTTP/1.1 and the mock instance's
flood, and nothing of the gate's limits: what a limit should have done is for the test to say.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Literal, cast

from tests.tools.wire import CHAT, chat, request

Kind = Literal["head", "body", "read"]
BODY_SIZE = 10_000
"""Bytes that a slow body promises."""
FLOOD = 1 << 24
"""Bytes of the answer that a slow reader asks for and does not take: more than all buffers on its way."""


@dataclass
class Slow(asyncio.Protocol):
    """One slow client. Times are CLOCK_MONOTONIC seconds."""

    kind: Kind
    name: str
    secret: str
    model: str
    sent: float = 0.0
    """When it last sent something."""
    began: float = 0.0
    ended: float | None = None
    """When the gate ended its side; a reader that does not read never learns of that."""
    told: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.began = time.monotonic()
        flood = chat(stream=True, model=self.model, do="flood", size=FLOOD)
        whole = request(flood, secret=self.secret, headers=(f"X-Request-Id: {self.name}",))
        if self.kind == "read":
            self.transport.pause_reading()
            self.send(whole)
        elif self.kind == "head":
            self.send(whole[: whole.index(b"\r\n") + 2])
        else:
            length = f"Content-Length: {BODY_SIZE}"
            self.send(request(None, secret=self.secret, path=CHAT, headers=(f"X-Request-Id: {self.name}", length)))

    def itself(self) -> Slow:
        """For the loop, which asks for a protocol by a call."""
        return self

    async def go_on(self, pause: float, beats: int) -> None:
        """Send a little more now and then, until the gate has enough."""
        for beat in range(beats if self.kind == "body" else 0 if self.kind == "read" else 90):
            await asyncio.sleep(pause)
            if self.ended:
                return
            self.send(b" " if self.kind == "body" else b"X-Slow-%d: 1\r\n" % beat)

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.sent = time.monotonic()
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.told += data

    def eof_received(self) -> bool:
        self.ended = self.ended or time.monotonic()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self.ended = self.ended or time.monotonic()

    @property
    def status(self) -> int:
        """Of the gate's answer; 0 when there was none."""
        return int(self.told[9:12]) if self.told.startswith(b"HTTP/1.1 ") else 0

    @property
    def request_id(self) -> str:
        """What the gate calls the request, by its answer."""
        head = self.told.partition(b"\r\n\r\n")[0].decode("latin-1").lower()
        return head.partition("x-request-id: ")[2].partition("\r\n")[0]


class Crowd:
    """`count` slow clients of each kind, who ask for `model`; `clients` are all of them, in order of coming."""

    def __init__(self, port: int, secret: str, count: int, model: str) -> None:
        self.port = port
        kinds: tuple[Kind, ...] = ("head", "body", "read")
        self.clients = [Slow(kind, f"slow-{kind}-{n}", secret, model) for n in range(count) for kind in kinds]

    def of(self, kind: Kind) -> list[Slow]:
        return [each for each in self.clients if each.kind == kind]

    async def run(self, coming: float, seconds: float, pause: float, beats: int) -> None:
        """All come within `coming` seconds and are gone after `seconds`.

        A head goes on by a field each `pause` seconds without end, a body by a byte, `beats` times.
        """
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        going: set[asyncio.Task[None]] = set()
        for n, each in enumerate(self.clients):
            await asyncio.sleep(max(0.0, start + n * coming / len(self.clients) - time.monotonic()))
            await loop.create_connection(each.itself, sock=self.dial())
            going.add(loop.create_task(each.go_on(pause, beats)))
        await asyncio.sleep(start + seconds - time.monotonic())
        for task in going:
            task.cancel()
        for each in self.clients:
            each.transport.abort()

    def dial(self) -> socket.socket:
        """A connection with a small receive buffer, so that who reads nothing holds little."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.port))
        sock.setblocking(False)
        return sock
