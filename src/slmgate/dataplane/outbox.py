"""What is to be written in this turn of the event loop: it goes out at the turn's end, in the order it was put here.

A write to a local peer is dear: the kernel carries it through to the other side and wakes who sleeps there. Done in the
middle of the work, each evicts the code and the data that the next request needs, and wakes a peer that goes to sleep
again before the next comes; done together they cost clearly less, and the work between them too. It knows neither who
writes nor what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MOST = 64 * 1024
"""Bytes that wait; more go out at once, so that what a thousand instances say in one turn is not all held at a time."""


class Outbox:
    """Writes of one worker, held back until the loop has handed over all bytes that have come. Nothing waits longer."""

    __slots__ = ("_faulty", "_size", "_soon", "_waiting", "flushed")

    def __init__(self, soon: Callable[[Callable[[], None]], object], faulty: Callable[[], None]) -> None:
        """`soon` calls in the next turn of the loop (`call_soon`); `faulty` is called while a write's exception is handled."""
        self._soon = soon
        self._faulty = faulty
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._size = 0  # bytes of them
        self.flushed = 0  # times; who remembers it at `put` knows whether that went out since

    def __repr__(self) -> str:
        return f"<Outbox {len(self._waiting)} waiting>"

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data` at the end of this turn at the latest. Who closes the transport before calls `flush` first."""
        waiting = self._waiting
        if not waiting:
            self._soon(self.flush)
        waiting.append((transport, data))
        self._size += len(data)
        if self._size > MOST:
            self.flush()

    def flush(self) -> None:
        """Write now what waits."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        self.flushed += 1
        for transport, data in waiting:
            try:
                if not transport.is_closing():  # else there is nobody left to read it
                    transport.write(data)
            except Exception:  # noqa: BLE001  # what hits one connection must not keep the bytes of the others
                self._faulty()
                transport.abort()
