"""The mock instance that all targets share: one process on uvloop, as cheap as it can be, its CPU in no figure.

It answers every POST with one fixed chat completion, or, when the body asks for a stream, with `max_tokens` events at
a fixed rate, each stamped with the clock and its number so that the loader can see delay, loss and disorder. It checks
no credentials and knows no proxy. Run as `python -m bench.upstream PORT [CHUNKS_PER_SECOND]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import uvloop

from bench import wire
from bench.machine import raise_nofile

TICK = 0.002
"""Seconds between two looks at the streams that are due: each look sends at most a few, so they do not come in one burst."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STREAM = re.compile(rb'"stream" ?: ?true')
_MAX_TOKENS = re.compile(rb'"max_(?:completion_)?tokens" ?: ?(\d+)')


def _plain(content: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


ANSWER = _plain(wire.answer())
MODELS = _plain(json.dumps({"object": "list", "data": [{"id": wire.MODEL, "object": "model", "owned_by": "bench"}]}).encode())
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(delta: str, rest: str) -> str:
    common = f'"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"{wire.MODEL}"'
    return f"data: {{{common},{delta}{rest}}}\n\n"


_EVENT = _event('"choices":[{"index":0,"delta":{"content":"@%019d.%08d@"},"logprobs":null,"finish_reason":null}]', "").encode()
_FRAME = b"%x\r\n" % len(_EVENT % (0, 0)) + _EVENT + b"\r\n"
_LAST = (
    _event('"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]', "")
    + _event('"choices":[]', ',"usage":{"prompt_tokens":34,"completion_tokens":64,"total_tokens":98}')
    + "data: [DONE]\n\n"
).encode()
LAST = b"%x\r\n" % len(_LAST) + _LAST + b"\r\n0\r\n\r\n"


class Instance(asyncio.Protocol):
    """One connection from a proxy. `sent` counts the events of the stream under way, `left` those still to come."""

    __slots__ = ("buffer", "left", "mock", "sent", "transport")

    def __init__(self, mock: Mock) -> None:
        self.mock = mock
        self.buffer = b""
        self.sent = 0
        self.left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.left = -1

    def data_received(self, data: bytes) -> None:
        self.buffer = data = self.buffer + data if self.buffer else data
        while data:
            head = data.find(b"\r\n\r\n")
            if head < 0:
                return
            if data.startswith(b"POST"):
                found = _LENGTH.search(data, 0, head + 2)
                if found:
                    end = head + 4 + int(found[1])
                    if len(data) < end:
                        return
                elif _CHUNKED.search(data, 0, head + 2):
                    last = data.find(b"\r\n0\r\n\r\n", head + 2)
                    if last < 0:
                        return
                    end = last + 7
                else:
                    end = head + 4
                self.answer(data, head, end)
            else:
                end = head + 4
                self.transport.write(MODELS)
            self.buffer = data = data[end:]

    def answer(self, data: bytes, head: int, end: int) -> None:
        if not _STREAM.search(data, head, end):
            self.transport.write(ANSWER)
            return
        wanted = _MAX_TOKENS.search(data, head, end)
        self.sent, self.left = 0, int(wanted[1]) if wanted else 64
        self.transport.write(STREAM_HEAD)
        self.mock.enter(self)

    def tick(self) -> bool:
        """Send the next event; False when the stream is over."""
        if self.left > 0:
            self.sent += 1
            self.left -= 1
            self.transport.write(_FRAME % (time.monotonic_ns(), self.sent))
            return True
        if self.left == 0:
            self.transport.write(LAST)
        return False


class Mock:
    """All streams, in the order in which they are due: each period is the same, so a queue is a timer wheel."""

    def __init__(self, rate: float) -> None:
        self.period = 1 / rate
        self.due: deque[tuple[float, Instance]] = deque()

    def enter(self, instance: Instance) -> None:
        self.due.append((time.monotonic() + self.period, instance))

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        due = self.due
        while due and due[0][0] <= now:
            at, instance = due.popleft()
            if instance.tick():
                due.append((max(at + self.period, now), instance))
        loop.call_later(TICK, self.run, loop)


async def serve(port: int, rate: float, more: Sequence[str] = ()) -> None:
    """Listen on that port of the loopback address, and of `more` of them."""
    loop = asyncio.get_running_loop()
    mock = Mock(rate)
    server = await loop.create_server(lambda: Instance(mock), ["127.0.0.1", *more], port, backlog=4096)
    mock.run(loop)
    await server.serve_forever()


if __name__ == "__main__":
    raise_nofile()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 10.0, sys.argv[3:]))
