"""How messages travel between control and its workers: length-prefixed msgpack over a Unix socket in the state directory.

The worker's end reconnects for as long as it lives, so that a control process may come and go; the control's end accepts as
many workers as there are. Neither knows what a message is for. A broken peer costs its connection and nothing else.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any

import msgspec

from slmgate.link.messages import Hello, Message

_LENGTH = Struct("!I")
MAX_MESSAGE = 256 * 1024 * 1024
RECONNECT_SECONDS = 0.1
_LEAVES_THE_PATH: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""Of a server: its end is not the socket's, which a successor goes on with."""
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def pack(message: Message) -> bytes:
    """A message as it goes on the wire: its length in four bytes, then msgpack."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None when the peer is gone or speaks something else."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_MESSAGE:
            return None
        return _decoder.decode(await reader.readexactly(length))
    except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
        return None


class LinkClient:
    """A worker's end. `hello` makes its first words at each connect; `told` is called with each message."""

    def __init__(self, path: str, hello: Callable[[], Hello], told: Callable[[Message], None]) -> None:
        self._path = path
        self._hello = hello
        self._told = told
        self._writer: asyncio.StreamWriter | None = None

    def send(self, message: Message) -> None:
        """Send if control is there; without it the message is dropped (the next tally says it anew)."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(pack(message))

    @property
    def connected(self) -> bool:
        """Whether control is there, as far as is known."""
        return self._writer is not None and not self._writer.is_closing()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            self._writer = writer
            self.send(self._hello())
            try:
                while (message := await receive(reader)) is not None:
                    self._told(message)
            finally:
                self._writer = None
                writer.close()
            await asyncio.sleep(RECONNECT_SECONDS)


class Peer:
    """One connected worker, as control sees it."""

    __slots__ = ("_writer", "hello")

    def __init__(self, writer: asyncio.StreamWriter, hello: Hello) -> None:
        self._writer = writer
        self.hello = hello

    def send(self, packed: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(packed)

    async def drained(self) -> bool:
        """Wait until the worker has taken most of what was sent. False: it is gone."""
        try:
            await self._writer.drain()
        except OSError:
            return False
        return not self._writer.is_closing()


class LinkServer:
    """Control's end. `joined`, `told` and `left` are called on the event loop."""

    def __init__(
        self,
        joined: Callable[[Peer], None],
        told: Callable[[Peer, Message], None],
        left: Callable[[Peer], None],
    ) -> None:
        self._joined = joined
        self._told = told
        self._left = left
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening Unix socket, which outlives this process in the supervisor: workers find it again."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, **_LEAVES_THE_PATH)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve_peer(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await receive(reader)
        if not isinstance(hello, Hello):
            return
        peer = Peer(writer, hello)
        self._joined(peer)
        try:
            while (message := await receive(reader)) is not None:
                self._told(peer, message)
        finally:
            self._left(peer)

    def close(self) -> None:
        """Workers look for another control at once."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
