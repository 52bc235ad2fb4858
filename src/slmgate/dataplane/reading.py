"""Between a TLS transport and a connection: what is decrypted goes into one buffer of the worker, not into one for each read.

To read without it, the event loop has Python's `ssl` make 256 KiB of bytes each time and give back all but a few hundred: the
allocator asks the kernel for memory, and returns it, at every request. This module looks at nothing that passes.
"""

from __future__ import annotations

import asyncio

from slmgate.dataplane.client import ClientConnection

BUFFER = 64 * 1024
"""Bytes that are handed on at once, at most: a few TLS records."""


def buffer() -> memoryview:
    """What all connections of a worker may share: it is empty again before the loop looks at the next."""
    return memoryview(bytearray(BUFFER))


class Reading(asyncio.BufferedProtocol):
    """Stands before one connection, which notices nothing of it."""

    __slots__ = ("_buffer", "_received", "client")

    def __init__(self, client: ClientConnection, buffer: memoryview) -> None:
        self.client = client
        self._buffer = buffer
        self._received = client.data_received

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received(bytes(self._buffer[:nbytes]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client.connection_made(transport)

    def eof_received(self) -> bool:
        return self.client.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.client.connection_lost(exc)

    def pause_writing(self) -> None:
        self.client.pause_writing()

    def resume_writing(self) -> None:
        self.client.resume_writing()
