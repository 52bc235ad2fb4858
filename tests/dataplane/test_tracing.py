"""Which trace a request is part of: what the instance is told, what the receipt says, and that both are of one mind."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slmgate.dataplane.tracing import DRAWN, Tracer, tracer_of
from slmgate.http1.trace_context import is_chosen, threshold
from slmgate.policy.specs import TracingSpec
from slmgate.policy.split import ShadowSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.stage import Stage, instance, model, reply, request

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
ALL, NONE, HALF = TracingSpec(threshold(1.0)), TracingSpec(threshold(0.0)), TracingSpec(threshold(0.5))
ALONE = TracingSpec(threshold(1.0), trust=False)
USED = b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}'
CHAT = {"model": "m"}
EMBED = b"POST /v1/embeddings HTTP/1.1"


class Watched:
    """A stage that traces, and keeps the heads that instances are sent."""

    def __init__(self, stage: Stage, tracing: TracingSpec | None, **more: Any) -> None:
        self.stage = stage
        self.sent: list[str] = []
        stage.publish(tracing=tracing, **more)
        stage.loop.told = self._told
        self.client = stage.connect()

    def _told(self, who: str, what: str, data: bytes) -> None:
        if what == "write" and not who.startswith("client"):
            self.sent.append(data.partition(b"\r\n\r\n")[0].decode("latin-1"))

    def ask(self, fields: str = "", line: bytes = b"POST /v1/chat/completions HTTP/1.1", answer: bytes = reply(USED)) -> None:
        self.client.feed(request(CHAT, fields.encode(), line))
        self.stage.loop.settle()
        for end in self.stage.loop.opened.get("a", ())[-1:]:
            if not end.closing:
                end.feed(answer)
        self.stage.loop.settle()

    def said(self, at: int = -1) -> tuple[str, str, str]:
        """The trace, span and flags that an instance was told, in the one header that there is."""
        (line,) = re.findall(r"\r\ntraceparent: (.*)", self.sent[at])
        found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", line.strip())
        assert found is not None, line
        return found[1], found[2], found[3]

    def state(self, at: int = -1) -> list[str]:
        return [line.strip() for line in re.findall(r"\r\ntracestate: (.*)", self.sent[at])]

    @property
    def receipt(self) -> dict[str, Any]:
        return self.stage.receipts[-1]


def test_off_a_clients_context_passes_as_it_came(open_road: OpenRoad) -> None:
    one = Watched(open_road().stage, None)
    for value in (PARENT, "anything"):
        one.ask(f"Traceparent: {value}\r\nTracestate: a=1\r\n")
        assert f"\r\ntraceparent: {value}\r\ntracestate: a=1" in one.sent[-1]
        assert one.receipt["trace"] == ""
    one.ask()
    assert "trace" not in one.sent[-1]


def test_a_trace_that_begins_here(open_road: OpenRoad) -> None:
    one = Watched(open_road().stage, ALL)
    seen = set()
    for _ in range(3):
        one.ask("Tracestate: a=1\r\n")  # of no use without the other
        trace, span, flags = one.said()
        assert one.receipt["trace"] == trace
        assert span == one.receipt["id"][-16:]
        assert (flags, one.state()) == ("03", [])
        seen |= {trace, span}
    assert len(seen) == 6


def test_one_that_is_not_recorded(open_road: OpenRoad) -> None:
    """The instance is told so, and the receipt says nothing: there is nothing to be found."""
    one = Watched(open_road().stage, NONE)
    one.ask()
    assert one.said()[2] == "02"
    assert one.receipt["trace"] == ""


@pytest.mark.parametrize(("flags", "out"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("04", "00")])
@pytest.mark.parametrize("tracing", [ALL, NONE])
def test_a_clients_trace_and_its_decision(open_road: OpenRoad, flags: str, out: str, tracing: TracingSpec) -> None:
    one = Watched(open_road().stage, tracing)
    one.ask(f"Traceparent: 00-{TRACE}-{SPAN}-{flags}\r\nTracestate: a=1 , b=2\r\n")
    trace, span, told = one.said()
    assert (trace, told, one.state()) == (TRACE, out, ["a=1 , b=2"])
    assert span == one.receipt["id"][-16:] != SPAN
    assert one.receipt["trace"] == f"{TRACE}-{SPAN}-{out}"


@pytest.mark.parametrize(
    "fields",
    [
        "Traceparent: \r\n",
        "Traceparent: 00\r\n",
        f"Traceparent: {PARENT.upper()}\r\n",
        f"Traceparent: {PARENT}x\r\n",
        f"Traceparent: {PARENT}, {PARENT}\r\n",
        f"Traceparent: {PARENT}\r\nTraceparent: {PARENT}\r\n",
        f"Traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n",
        f"Traceparent: ff{PARENT[2:]}\r\n",
        f"Trace-Parent: {PARENT}\r\n",
    ],
)
def test_a_malformed_one_is_none(open_road: OpenRoad, fields: str) -> None:
    one = Watched(open_road().stage, ALL)
    one.ask(fields + "Tracestate: a=1\r\n")
    trace, _, flags = one.said()
    assert trace != TRACE
    assert (flags, one.state(), one.receipt["trace"], one.receipt["status"]) == ("03", [], trace, 200)


@pytest.mark.parametrize("state", ["A=1", "a", "a=1,b", "@a=1", "a=" + "x" * 600])
def test_a_malformed_state_stays_behind(open_road: OpenRoad, state: str) -> None:
    one = Watched(open_road().stage, ALL)
    one.ask(f"Traceparent: {PARENT}\r\nTracestate: {state}\r\n")
    assert (one.said()[0], one.state()) == (TRACE, [])


def test_states_that_come_in_parts(open_road: OpenRoad) -> None:
    one = Watched(open_road().stage, ALL)
    one.ask(f"Traceparent: {PARENT}\r\nTracestate: a=1\r\nTracestate: b=2\r\n")
    assert one.state() == ["a=1, b=2"]


def test_nobody_is_believed_where_it_is_said(open_road: OpenRoad) -> None:
    one = Watched(open_road().stage, ALONE)
    one.ask(f"Traceparent: {PARENT}\r\nTracestate: a=1\r\n")
    trace, _, _ = one.said()
    assert trace != TRACE
    assert (one.state(), one.receipt["trace"]) == ([], trace)


def test_heads_that_repeat_have_traces_of_their_own(open_road: OpenRoad) -> None:
    """What is worked out once for a head holds no trace; heads that differ by their `traceparent` go the long way."""
    one = Watched(open_road().stage, ALL)
    for number in range(1, 8):
        one.ask()
        one.ask(f"Traceparent: 00-{number:032x}-{SPAN}-01\r\n")
        assert one.said()[0] == f"{number:032x}"
    assert len({one.said(at)[0] for at in range(len(one.sent))}) == 14


@pytest.mark.parametrize(("before", "after"), [(None, ALL), (ALL, None), (ALL, HALF), (ALL, ALL)])
def test_a_reload_while_heads_repeat(open_road: OpenRoad, before: TracingSpec | None, after: TracingSpec | None) -> None:
    one = Watched(open_road().stage, before)
    fields = f"Traceparent: {PARENT}\r\n"
    for _ in range(3):
        one.ask(fields)
    tracer = one.stage.worker.tracer
    one.stage.publish(tracing=after)
    assert (one.stage.worker.tracer is tracer) == (before == after)
    for _ in range(3):
        one.ask(fields)
    told = [one.said(at) for at in range(6)]  # never two
    assert [span == SPAN for _, span, _ in told] == [before is None] * 3 + [after is None] * 3


def test_a_reload_while_one_stands_in_line(open_road: OpenRoad) -> None:
    """It was begun untraced; what was kept for its head is not what its instance is told."""
    stage = open_road(model(instance("a", max_in_flight=1))).stage
    one = Watched(stage, None)
    fields = f"Traceparent: {PARENT}\r\n"
    one.ask(fields)
    other = stage.connect()
    other.feed(request(CHAT))
    stage.loop.settle()
    one.client.feed(request(CHAT, fields.encode()))
    stage.loop.settle()
    stage.publish(tracing=ALL)
    for _ in range(2):
        stage.loop.opened["a"][-1].feed(reply(USED))
        stage.loop.settle()
    trace, span, _ = one.said()
    assert trace == TRACE and span != SPAN


def test_a_refused_request_has_a_trace_too(open_road: OpenRoad) -> None:
    one = Watched(open_road().stage, ALL)
    one.client.feed(request({"model": "none"}, f"Traceparent: {PARENT}\r\n".encode()))
    one.client.feed(request({"model": "none"}))
    one.stage.loop.settle()
    of_client, own = (receipt["trace"] for receipt in one.stage.receipts)
    assert of_client == f"{TRACE}-{SPAN}-01"
    assert re.fullmatch("[0-9a-f]{32}", own)
    assert one.sent == []


def test_a_request_without_a_head_that_can_be_read(open_road: OpenRoad) -> None:
    one = Watched(open_road().stage, ALL)
    one.client.feed(b"\x00\x01\r\n\r\n")
    one.stage.loop.settle()
    assert re.fullmatch("[0-9a-f]{32}", one.receipt["trace"])


@pytest.mark.parametrize("fields", ["", f"Traceparent: {PARENT}\r\nTracestate: a=1\r\n"])
def test_every_try_is_part_of_the_same(open_road: OpenRoad, fields: str) -> None:
    stage = open_road(model("b", "a")).stage
    one = Watched(stage, ALL)
    one.client.feed(request(CHAT, fields.encode()))
    stage.loop.settle()
    stage.loop.opened["b"][-1].feed(reply(b"{}", status=503))
    stage.loop.settle()
    stage.loop.opened["a"][-1].feed(reply(USED))
    stage.loop.settle()
    assert len(one.sent) == 2
    assert one.said(0) == one.said(1)
    assert one.state(0) == one.state(1)
    assert one.receipt["attempts"] == 2
    assert one.receipt["trace"][:32] == one.said()[0]


def test_a_second_that_is_asked_beside_is_part_of_it(open_road: OpenRoad) -> None:
    stage = open_road(model("b", "a", hedge_after=0.2)).stage
    one = Watched(stage, ALL)
    one.client.feed(request(CHAT, f"Traceparent: {PARENT}\r\nTracestate: a=1\r\n".encode(), EMBED))
    stage.loop.settle()
    stage.loop.turn(0.25)
    assert len(one.sent) == 2
    assert one.said(0) == one.said(1) and one.said(0)[0] == TRACE
    stage.loop.opened["a"][-1].feed(reply(USED))
    stage.loop.settle()


def test_a_copy_is_part_of_it(open_road: OpenRoad) -> None:
    first = model("a", shadow=ShadowSpec(model="next", share=1.0))
    stage = open_road(first, model("b", name="next")).stage
    one = Watched(stage, ALL)
    one.ask(f"Traceparent: {PARENT}\r\n")
    assert len(one.sent) == 2
    assert one.said(0) == one.said(1)
    assert {receipt["trace"] for receipt in stage.receipts} == {f"{TRACE}-{SPAN}-01"}
    stage.loop.opened["b"][-1].feed(reply(USED))
    stage.loop.settle()
    assert [receipt["trace"] for receipt in stage.receipts if receipt["verdict"] == "shadow"] == [""]


def test_the_share_is_chosen_by_the_traces_id() -> None:
    tracer = Tracer(HALF)
    recorded = 0
    for number in range(2 * DRAWN):
        exchange = Bare(number)
        line = tracer.lines(exchange).decode()  # type: ignore[arg-type]  # it has what a tracer looks at
        trace, flags = line[16:48], line[-4:-2]
        assert is_chosen(trace.encode(), HALF.threshold) == (flags == "03") == bool(exchange.trace)
        recorded += flags == "03"
    assert DRAWN // 2 < recorded < 3 * DRAWN // 2
    assert repr(tracer) == "<Tracer from 80000000000000, trusting>"


class Bare:
    """What a tracer looks at of an exchange."""

    def __init__(self, number: int) -> None:
        self.id = b"%012x%08x" % (7, number)
        self.trace = b""
        self.head = type("Head", (), {"fields": {}})


def test_a_tracer_stays_while_nothing_changes() -> None:
    first = tracer_of(ALL, None)
    assert first is not None
    assert tracer_of(TracingSpec(threshold(1.0)), first) is first
    assert tracer_of(ALONE, first) is not first
    assert tracer_of(None, first) is None
    assert repr(tracer_of(ALONE, first)) == "<Tracer from 00000000000000, alone>"
