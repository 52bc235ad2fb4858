"""A stream's usual chunk on its way through: what goes on at once, what is looked at, and that all of it is counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from slmgate.dataplane.passing import Passing
from slmgate.dataplane.worker import TICK
from slmgate.dialects.masking import Swap
from slmgate.dialects.openai import ChunkScanner
from slmgate.http1.framing import USUAL
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import STREAMED, TEXTS
from tests.tools.stage import model

EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":7}}\n\ndata: [DONE]\n\n'


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Client:
    """Stands for the client's transport."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if not data:
            raise MemoryError
        self.got.append(data)


class Connection(Passing):
    """Stands for the instance's connection."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []
        self.faults = 0

    def received(self, data: bytes) -> None:
        self.read.append(data)

    def failed(self) -> None:
        self.faults += 1


def passing(client: Client, usual: Any = ChunkScanner.usual) -> Connection:
    connection = Connection()
    connection.let_pass(usual, cast(Any, client), cast(Any, SimpleNamespace(now=5.0)))
    return connection


def test_a_usual_chunk_goes_on_as_it_came() -> None:
    client = Client()
    connection = passing(client)
    data = framed(EVENT)
    for _ in range(3):
        connection.data_received(data)
    assert all(got is data for got in client.got)
    assert (len(client.got), connection.read) == (3, [])
    assert connection.passed() == (5.0, 3 * len(EVENT), 3)
    assert connection.passed() == (0.0, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"0\r\n\r\n",
        framed(LAST),
        framed(EVENT[:-1]),
        framed(EVENT)[:-1],
        framed(EVENT) + b"1",
        framed(EVENT) * 2,
        framed(EVENT)[:-2] + b"\n\n",
        framed(EVENT[:-2] + b" " * 4096 + b"\n\n"),
    ],
    ids=["nothing", "the end", "usage", "half an event", "half a chunk", "more", "two chunks", "a bad end", "a long one"],
)
def test_anything_else_is_looked_at(data: bytes) -> None:
    client = Client()
    connection = passing(client)
    connection.data_received(data)
    assert (connection.read, client.got, connection.passed()) == ([data], [], (0.0, 0, 0))


def test_nothing_passes_before_it_is_let_nor_after() -> None:
    client = Client()
    data = framed(EVENT)
    fresh = Connection()
    fresh.data_received(data)
    connection = passing(client)
    connection.stop_passing()
    connection.data_received(data)
    assert (fresh.read, connection.read, client.got) == ([data], [data], [])


def test_nobody_is_left_to_read_it() -> None:
    client = Client()
    client.closing = True
    connection = passing(client)
    connection.data_received(framed(EVENT))
    assert (client.got, connection.read, connection.faults) == ([], [], 0)


def test_a_fault_in_between_is_the_requests_own() -> None:
    def faulty(_chunk: bytes) -> int:
        raise MemoryError

    connection = passing(Client(), faulty)
    connection.data_received(framed(EVENT))
    assert connection.faults == 1


def test_a_base_has_no_reader() -> None:
    with pytest.raises(NotImplementedError):
        Passing().received(b"")
    with pytest.raises(NotImplementedError):
        Passing().failed()


@pytest.mark.parametrize("cut", [1, 7, len(framed(EVENT)) - 2])
def test_all_in_one_turn_of_the_loop_keeps_its_order(open_road: OpenRoad, cut: int) -> None:
    """What waits for the turn's end (the head, an event that came in halves) goes before what passes at once."""
    stage = open_road(model("a")).stage
    got: list[bytes] = []
    stage.loop.told = lambda who, what, data: got.append(data) if (who, what) == ("client", "write") else None
    client = stage.connect()
    client.feed(TEXTS["stream"])
    stage.loop.settle()
    end = stage.loop.opened["a"][0]
    numbered = [framed(EVENT.replace(b'"a"', b'"%d"' % number)) for number in range(6)]
    end.feed(STREAMED)
    end.feed(numbered[0])
    end.feed(numbered[1])
    end.feed(numbered[2][:cut])
    end.feed(numbered[2][cut:])
    end.feed(numbered[3])
    end.feed(numbered[4] + numbered[5])
    end.feed(framed(LAST) + b"0\r\n\r\n")
    stage.loop.settle()
    body = b"".join(got).partition(b"\r\n\r\n")[2]
    places = [body.find(b'"content":"%d"' % number) for number in range(6)]
    assert -1 not in places
    assert places == sorted(places)
    assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    (receipt,) = stage.receipts
    assert (receipt["ended"], receipt["prompt_tokens"], receipt["completion_tokens"]) == ("complete", 1, 7)
    assert receipt["bytes_out"] == 6 * len(EVENT) + len(b"data: [DONE]\n\n")


@pytest.mark.parametrize("how", ["client leaves", "instance leaves", "silence"])
def test_what_passed_is_in_the_receipt_however_it_ends(open_road: OpenRoad, how: str) -> None:
    stage = open_road(model("a", idle_timeout=5.0)).stage
    client = stage.connect()
    client.feed(TEXTS["stream"])
    stage.loop.settle()
    end = stage.loop.opened["a"][0]
    end.feed(STREAMED)
    for _ in range(5):
        end.feed(framed(EVENT))
        stage.loop.turn(4.0)  # each of them moves the time limit
    if how == "client leaves":
        client.lose()
    elif how == "instance leaves":
        end.lose()
    else:
        stage.loop.turn(6.0)
    stage.loop.settle()
    (receipt,) = stage.receipts
    ended = {"client leaves": "client_left", "instance leaves": "upstream_error", "silence": "upstream_timeout"}[how]
    assert (receipt["ended"], receipt["completion_tokens"]) == (ended, 5)
    assert receipt["bytes_out"] >= 5 * len(EVENT)


@pytest.mark.parametrize(("idle", "calm"), [(60.0, 1), (2.0 + TICK, 1), (1.5, 0)])
def test_a_stream_with_time_left_is_looked_at_seldom(open_road: OpenRoad, idle: float, calm: int) -> None:
    """In each fourth tick, until little of its time is left: a long time limit is noticed a second late at most."""
    stage = open_road(model("a", idle_timeout=idle)).stage
    client = stage.connect()
    client.feed(TEXTS["stream"])
    stage.loop.settle()
    end = stage.loop.opened["a"][0]
    end.feed(STREAMED)
    end.feed(framed(EVENT))
    stage.loop.settle()
    assert len(stage.worker.calm) == calm
    begun = stage.clock.passed
    for _ in range(8):
        stage.loop.turn(TICK)
        end.feed(framed(EVENT))
    heard = stage.clock.passed
    while not stage.receipts:
        stage.loop.turn(TICK)
        assert stage.clock.passed < heard + idle + 1 + 3 * TICK
    assert stage.clock.passed >= heard + idle - TICK > begun
    (receipt,) = stage.receipts
    assert (receipt["ended"], receipt["completion_tokens"]) == ("upstream_timeout", 9)
    assert not stage.worker.calm


@pytest.mark.parametrize("how", ["its end", "a client that stops reading", "a client that leaves"])
def test_what_makes_a_stream_be_looked_at_again(open_road: OpenRoad, how: str) -> None:
    stage = open_road(model("a", idle_timeout=60.0)).stage
    client = stage.connect()
    client.feed(TEXTS["stream"])
    stage.loop.settle()
    end = stage.loop.opened["a"][0]
    end.feed(STREAMED)
    end.feed(framed(EVENT))
    assert stage.worker.calm
    if how == "its end":
        end.feed(framed(LAST))
    elif how == "a client that stops reading":
        client.protocol.pause_writing()
    else:
        client.lose()
    assert not stage.worker.calm


def test_a_fault_in_a_passing_stream(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It costs that request, which is broken off with a receipt."""
    stage = open_road(model("a")).stage
    client = stage.connect()
    client.feed(TEXTS["stream"])
    stage.loop.settle()
    end = stage.loop.opened["a"][0]
    end.feed(STREAMED)
    end.feed(framed(EVENT))
    stage.loop.settle()

    def faulty(_chunk: bytes) -> int:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(end.protocol, "_usual", faulty)
    end.feed(framed(EVENT))
    stage.loop.settle()
    (receipt,) = stage.receipts
    assert (receipt["ended"], receipt["status"], end.lost, client.lost) == ("gate_failed", 200, True, True)
    assert "a fault of ours" in capsys.readouterr().err


@pytest.mark.parametrize("size", [1, 4000, 4090, 9000])
def test_a_masked_chunk_goes_on_with_its_own_size_line(size: int) -> None:
    inside, outside = b'"model":"/srv/models/a.gguf"', b'"model":"m"'
    swap = Swap([(inside, outside)], ChunkScanner.usual, b"\n\n")
    connection, client = Connection(), Client()
    connection.let_pass(ChunkScanner.usual, cast(Any, client), cast(Any, SimpleNamespace(now=5.0)), swap)
    event = b'data: {%b,"choices":[{"delta":{"content":"%b"}}]}\n\n' % (inside, b"a" * size)
    odd = framed(EVENT)
    connection.data_received(framed(event))
    connection.data_received(odd)
    masked = event.replace(inside, outside)
    if len(framed(event)) < USUAL:
        assert client.got == [framed(masked)]
        assert connection.read == [odd]
        assert connection.passed() == (5.0, len(masked), 1)
    else:
        assert connection.read == [framed(event), odd], "too long to be known at a glance"
