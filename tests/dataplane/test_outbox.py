"""The outbox: everything goes out in one turn and in order, and one connection's fault is not the others'.

Then the whole road: what one fault, one closed line or one slow client may not cost. Each case puts the second event into
the same turn of the loop as the first, or breaks one call of our own.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from slmgate.dataplane.outbox import MOST, Outbox
from slmgate.policy.specs import GateSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import STREAMED, Road
from tests.tools.stage import Stage, instance, model, reply, request

CHAT: dict[str, Any] = {"model": "m"}
EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


class Line:
    """A transport that notes what it is told; `fails` at writing."""

    def __init__(self, name: str, seen: list[str], fails: bool = False) -> None:
        self.name, self.seen, self.fails, self.closing = name, seen, fails, False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.fails:
            raise MemoryError
        self.seen.append(f"{self.name} {data.decode()}")

    def abort(self) -> None:
        self.seen.append(f"{self.name} aborted")


def test_order_and_turns() -> None:
    seen: list[str] = []
    turns: list[Any] = []
    outbox = Outbox(turns.append, lambda: seen.append("fault"))
    a, b, c = Line("a", seen), Line("b", seen, fails=True), Line("c", seen)
    lines: list[Any] = [a, b, c]
    for line in lines:
        outbox.put(line, b"1")
    outbox.put(lines[0], b"2")
    assert (seen, repr(outbox), len(turns)) == ([], "<Outbox 4 waiting>", 1)
    c.closing = True
    turns.pop()()
    assert seen == ["a 1", "fault", "b aborted", "a 2"]
    assert repr(outbox) == "<Outbox 0 waiting>"
    outbox.put(lines[0], b"3")
    outbox.flush()
    outbox.put(lines[0], b"4")
    assert seen[4:] == ["a 3"]
    for turn in turns:
        turn()
    assert seen[4:] == ["a 3", "a 4"], "written once, whoever comes first"


def no_memory(*_: object) -> None:
    raise MemoryError


def watched(stage: Stage) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    stage.loop.told = lambda who, what, _: seen.append((who, what))
    return seen


def test_a_half_close_right_behind_a_request_keeps_its_answer(road: Road) -> None:
    seen = watched(road.stage)
    client = road.stage.connect()
    client.feed(request(line=b"GET /v1/models HTTP/1.1"))
    client.end()
    road.stage.loop.settle()
    assert seen == [("client", "write"), ("client", "closed")]


def test_a_half_close_in_the_turn_of_the_answer_keeps_it(road: Road) -> None:
    stage = road.stage
    seen = watched(stage)
    client = stage.connect()
    client.feed(request(CHAT))
    stage.loop.settle()
    stage.loop.opened["a"][0].feed(reply(b"{}"))
    client.end()
    stage.loop.settle()
    assert seen == [("a", "write"), ("client", "write"), ("client", "closed")]
    assert [one["ended"] for one in stage.receipts] == ["complete"]


def test_a_fault_before_the_intent_leaves_the_count_of_intents_right(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = road.stage.worker.journal
    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.exchange.intent_of", no_memory)
        road.stage.connect().feed(request(CHAT))
        road.stage.loop.settle()
    assert journal.open_intents == 0
    assert [one["ended"] for one in road.stage.receipts] == ["gate_failed"]


@pytest.mark.parametrize("short", [True, False], ids=["a whole answer again", "in pieces"])
def test_a_fault_behind_the_hand_over_spares_the_next_in_line(
    open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    """The connection serves the next in line already, when what is left to do for the first goes wrong."""
    stage = open_road(model(instance("a", max_in_flight=1))).stage
    first, second = stage.connect(), stage.connect("client2")
    first.feed(request(CHAT))
    stage.loop.settle()
    [end] = stage.loop.opened["a"]
    end.feed(reply(b"{}"))
    stage.loop.settle()
    seen = watched(stage)
    for client in (first, second):
        client.feed(request(CHAT))
        stage.loop.settle()
    with monkeypatch.context() as patch:
        whole = reply(b"{}")
        if short:
            patch.setattr("slmgate.dataplane.exchange.whole_answer", no_memory)
            end.feed(whole)
        else:
            patch.setattr("slmgate.dataplane.exchange.Exchange._framed", no_memory)
            end.feed(whole[:30])
            end.feed(whole[30:])
    stage.loop.settle()
    end.feed(reply(b"{}"))
    stage.loop.settle()
    assert seen == [("a", "write"), ("a", "write"), ("client", "write"), ("client2", "write")]
    assert [one["ended"] for one in stage.receipts] == ["complete", "gate_failed", "complete"]


def test_an_answer_that_cannot_be_put_out_costs_the_line(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = road.stage
    client = stage.connect()
    client.feed(request(CHAT))
    stage.loop.settle()
    with monkeypatch.context() as patch:
        patch.setattr(stage.worker.outbox, "_soon", no_memory)
        stage.loop.opened["a"][0].feed(reply(b"{}"))
    stage.loop.settle()
    assert client.lost, "else it waits for ever"


def test_a_log_that_takes_nothing(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError(28, "No space left on device")

        flush = write

    stage = road.stage
    client = stage.connect()
    client.feed(request(CHAT))
    stage.loop.settle()
    seen = watched(stage)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Full())
        stage.loop.opened["a"][0].lose()  # a complaint
        stage.loop.settle()
        patch.setattr("slmgate.dataplane.exchange.decide", no_memory)
        client.feed(request(CHAT))  # a fault
        stage.loop.settle()
    assert [what for who, what in seen if who == "client"] == ["write", "write", "closed"], "a 502, and a 500 that closes"


def streaming(stage: Stage) -> Any:
    client = stage.connect()
    client.feed(request({**CHAT, "stream": True}))
    stage.loop.settle()
    stage.loop.opened["a"][0].feed(STREAMED)
    stage.loop.opened["a"][0].feed(CHUNK)
    stage.loop.settle()
    return client


@pytest.mark.parametrize(("idle", "gap"), [(0.1, 0.05), (1.0, 0.9)])
def test_a_stream_that_keeps_to_a_short_limit_goes_on(open_road: OpenRoad, idle: float, gap: float) -> None:
    stage = open_road(model(idle_timeout=idle)).stage
    streaming(stage)
    for _ in range(20):
        stage.loop.turn(gap)
        stage.loop.settle()
        stage.loop.opened["a"][0].feed(CHUNK)
    assert stage.clients[0].exchange is not None
    stage.loop.turn(idle + 0.5)
    assert stage.clients[0].exchange is None


def test_an_instance_that_was_held_back_has_its_time_afterwards(open_road: OpenRoad) -> None:
    stage = open_road(model(idle_timeout=10.0), gate=GateSpec(send_timeout=60.0)).stage
    client = streaming(stage)
    client.protocol.pause_writing()
    stage.loop.turn(20)
    client.protocol.resume_writing()
    stage.loop.turn(9)
    assert stage.clients[0].exchange is not None
    stage.loop.turn(2)
    assert stage.clients[0].exchange is None


def test_blanks_behind_the_coding(road: Road) -> None:
    client = road.stage.connect()
    client.feed(request(CHAT))
    road.stage.loop.settle()
    coding = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nTransfer-Encoding: chunked \r\n\r\n"
    road.stage.loop.opened["a"][0].feed(coding + b"2\r\n{}\r\n0\r\n\r\n")
    road.stage.loop.settle()
    assert [one["status"] for one in road.stage.receipts] == [200]


@pytest.mark.parametrize("past", [0, 1])
def test_what_waits_is_bounded(past: int) -> None:
    seen: list[str] = []
    line: Any = Line("a", seen)
    outbox = Outbox(lambda _: None, lambda: None)
    outbox.put(line, b"x")
    outbox.put(line, b"y" * (MOST - 1 + past))
    assert len(seen) == 2 * past
    assert repr(outbox) == f"<Outbox {0 if past else 2} waiting>"
    outbox.flush()
    outbox.put(line, b"z" * MOST)
    assert len(seen) == 2, "counted anew"
