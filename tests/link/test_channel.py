"""The link's two ends on streams fed by hand: messages cut anywhere, strangers, peers that go and come back.

Connecting is replaced: `LinkClient` asks asyncio for a pair of streams, and gets the test's.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from slmgate.link import channel
from slmgate.link.channel import MAX_MESSAGE, RECONNECT_SECONDS, LinkClient, LinkServer, Peer, pack, receive
from slmgate.link.messages import Confirm, Hello, Message, Publish
from slmgate.policy.specs import SnapshotSpec
from tests.tools.fakes import Clock, FakeLoop

HELLO = Hello(0, 1, "0123456789ab")
MESSAGES: list[Message] = [HELLO, Confirm(0, 7), Publish(SnapshotSpec(generation=7))]
WIRE = b"".join(pack(message) for message in MESSAGES)


class FakeWriter:
    """What a stream's writer is to the link."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    async def drain(self) -> None:
        if self.closed:
            raise ConnectionResetError

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def run(work: Coroutine[Any, Any, Any]) -> Any:
    loop = FakeLoop(Clock())
    try:
        return loop.run_until_complete(work)
    finally:
        loop.shut()


async def received(*pieces: bytes) -> list[Message]:
    reader = asyncio.StreamReader()
    task = asyncio.ensure_future(all_of(reader))
    for piece in pieces:
        reader.feed_data(piece)
        await asyncio.sleep(0)
    reader.feed_eof()
    return await task


async def all_of(reader: asyncio.StreamReader) -> list[Message]:
    got: list[Message] = []
    while (message := await receive(reader)) is not None:
        got.append(message)
    return got


def test_messages_cut_anywhere() -> None:
    assert run(received(WIRE)) == MESSAGES
    assert run(received(*(bytes((byte,)) for byte in WIRE))) == MESSAGES
    for place in range(1, len(WIRE), 5):
        assert run(received(WIRE[:place], WIRE[place:])) == MESSAGES


@pytest.mark.parametrize("end", range(1, 20, 3))
def test_a_message_cut_off_is_none(end: int) -> None:
    assert run(received(pack(HELLO) + pack(HELLO)[:end])) == [HELLO]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 3,
        struct.pack("!I", MAX_MESSAGE + 1) + b"x",
        struct.pack("!I", 0),
        struct.pack("!I", 1) + b"\xc1",
    ],
    ids=["another protocol", "too long", "empty", "no msgpack"],
)
def test_a_peer_that_speaks_something_else(data: bytes) -> None:
    assert run(received(data)) == []


def test_a_peer_that_is_reset() -> None:
    async def reset() -> Message | None:
        reader = asyncio.StreamReader()
        reader.set_exception(ConnectionResetError())
        return await receive(reader)

    assert run(reset()) is None


# --- a worker's end


class Control:
    """Stands for control behind `asyncio.open_unix_connection`: each entry of `answers` is one try to connect."""

    def __init__(self, patch: pytest.MonkeyPatch, *answers: bool) -> None:
        self.answers = list(answers)
        self.tries = 0
        self.ends: list[tuple[asyncio.StreamReader, FakeWriter]] = []
        patch.setattr(asyncio, "open_unix_connection", self.open)

    async def open(self, path: str) -> tuple[asyncio.StreamReader, FakeWriter]:
        assert path == "/run/link"
        self.tries += 1
        if not self.answers or not self.answers.pop(0):
            raise ConnectionRefusedError
        self.ends.append((asyncio.StreamReader(), FakeWriter()))
        return self.ends[-1]


@pytest.fixture
def loop() -> Any:
    loop = FakeLoop(Clock())
    yield loop
    loop.shut()


def test_it_connects_again_for_as_long_as_it_lives(loop: FakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control(monkeypatch, False, True, False, True)
    told: list[Message] = []
    client = LinkClient("/run/link", lambda: HELLO, told.append)
    client.send(HELLO)  # nobody is there: dropped
    task = loop.create_task(client.run())
    loop.settle()
    assert control.ends == []
    loop.turn(2 * RECONNECT_SECONDS + 0.1)
    reader, writer = control.ends[0]
    assert writer.sent == pack(HELLO)
    client.send(Confirm(0, 7))
    assert writer.sent == pack(HELLO) + pack(Confirm(0, 7))
    reader.feed_data(pack(MESSAGES[2]))
    loop.settle()
    assert told == [MESSAGES[2]]
    reader.feed_eof()
    loop.settle()
    assert writer.closed
    client.send(HELLO)
    loop.turn(1)
    assert control.ends[1][1].sent == pack(HELLO)
    control.ends[1][1].closed = True
    client.send(HELLO)
    assert control.ends[1][1].sent == pack(HELLO)
    task.cancel()
    loop.settle()
    assert control.ends[1][1].closed
    assert loop.failures == []


# --- control's end


class Ears:
    """Hears what a `LinkServer` says."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.server = LinkServer(
            lambda peer: self.heard.append(("joined", peer.hello.slot)),
            lambda peer, message: self.heard.append((peer.hello.slot, message)),
            lambda peer: self.heard.append(("left", peer.hello.slot)),
        )


def served(*pieces: bytes) -> tuple[list[object], FakeWriter]:
    ears, writer = Ears(), FakeWriter()

    async def serve() -> None:
        reader = asyncio.StreamReader()
        task = asyncio.ensure_future(ears.server._serve(reader, writer))  # type: ignore[arg-type]  # a fake writer
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()
        await task

    run(serve())
    return ears.heard, writer


def test_a_worker_joins_tells_and_leaves() -> None:
    heard, writer = served(pack(HELLO), pack(Confirm(0, 7)))
    assert heard == [("joined", 0), (0, Confirm(0, 7)), ("left", 0)]
    assert writer.closed


@pytest.mark.parametrize("data", [b"", pack(Confirm(0, 7)), b"\0\0\0\1\xc1"], ids=["nothing", "no hello", "garbage"])
def test_who_does_not_say_hello_does_not_join(data: bytes) -> None:
    heard, writer = served(data)
    assert heard == []
    assert writer.closed


def test_a_worker_that_speaks_nonsense_later_leaves() -> None:
    heard, _ = served(pack(HELLO) + b"\0\0\0\1\xc1" + pack(Confirm(0, 7)))
    assert heard == [("joined", 0), ("left", 0)]


def test_a_peer_is_sent_to_until_it_closes() -> None:
    writer: Any = FakeWriter()
    peer = Peer(writer, HELLO)
    peer.send(b"one")
    writer.closed = True
    peer.send(b"two")
    assert writer.sent == b"one"


def test_who_sends_much_waits_for_the_peer() -> None:
    writer: Any = FakeWriter()
    peer = Peer(writer, HELLO)
    assert run(peer.drained())
    writer.closed = True
    assert not run(peer.drained())


def test_listening(monkeypatch: pytest.MonkeyPatch, loop: FakeLoop) -> None:
    ears = Ears()
    closed: list[bool] = []
    ears.server.close()  # never started: nothing to close

    class Server:
        def close(self) -> None:
            closed.append(True)

    async def start(serve: object, sock: object) -> Server:
        assert (serve, sock) == (ears.server._serve, "socket")
        return Server()

    monkeypatch.setattr(asyncio, "start_unix_server", start)
    listener: Any = "socket"
    loop.run_until_complete(ears.server.start(listener))
    ears.server.close()
    assert closed == [True]


def test_the_bound_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(msgspec.msgpack.encode(HELLO))
    for bound, got in ((size - 1, []), (size, [HELLO])):
        monkeypatch.setattr(channel, "MAX_MESSAGE", bound)
        assert run(received(pack(HELLO))) == got


def test_a_control_that_ends_lets_its_workers_go() -> None:
    """They look for its successor at once."""
    ears, writer = Ears(), FakeWriter()

    async def serve() -> None:
        reader = asyncio.StreamReader()
        task = asyncio.ensure_future(ears.server._serve(reader, writer))  # type: ignore[arg-type]  # a fake writer
        reader.feed_data(pack(HELLO))
        await asyncio.sleep(0)
        ears.server.close()
        assert writer.closed
        reader.feed_eof()
        await task
        ears.server.close()

    run(serve())
    assert ears.heard == [("joined", 0), ("left", 0)]
