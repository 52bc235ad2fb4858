"""An exchange's records are tested as a whole in `test_exchange.py`; here is what a receipt says when little is known.

Tokens are the engine's where it said them, estimates where it did not, and nothing where nothing was generated.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from slmgate.dataplane.account import SHOWN_AGENT, SHOWN_PATH, overhead_us, plain_receipt, receipt_of, usage_of
from slmgate.dataplane.exchange import NO_HEAD, Exchange
from slmgate.dataplane.fallback import Detour
from slmgate.dialects import TABLE
from slmgate.dialects.openai import ChunkScanner
from slmgate.terms import Ask, Ended, Intent, Receipt, Usage
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import TEXTS, Road
from tests.tools.stage import INTENT, model, reply, request

ASK = Ask("m", prompt_estimate=9)
SAID = Usage(5, 7)


def exchange(**facts: Any) -> Exchange:
    nobody: Any = None
    made = Exchange(nobody, nobody, NO_HEAD, b"id", b"rid", 0.0)
    for name, value in {"attempts": 1, "asked_at": 1.0, "ask": ASK, "upstream_status": 200, "status": 200, **facts}.items():
        setattr(made, name, value)
    return made


def scanner(said: Usage | None) -> ChunkScanner:
    made = ChunkScanner()
    made.usage, made.tokens_seen = said, 3
    return made


@pytest.mark.parametrize(
    ("facts", "usage"),
    [
        ({"attempts": 0}, Usage()),
        ({"usage": SAID}, SAID),
        ({"scanner": scanner(SAID)}, SAID),
        ({"scanner": scanner(None)}, Usage(9, 3, True)),
        ({"upstream_status": 0, "status": 502}, Usage(9, 0, True)),
        ({"upstream_status": 299, "status": 299}, Usage(9, 0, True)),
        ({"upstream_status": 300}, Usage()),
        ({"asked_at": 0.0}, Usage()),
        ({"upstream_status": 400}, Usage()),
        ({"bytes_out": 0}, Usage(9, 0, True)),
        ({"bytes_out": 1}, Usage(9, 1, True)),
        ({"bytes_out": 4}, Usage(9, 1, True)),
        ({"bytes_out": 5}, Usage(9, 2, True)),
        ({"bytes_out": 500, "status": 502}, Usage(9, 0, True)),
        ({"bytes_out": 500, "route": TABLE["POST", "/v1/chat/completions"]}, Usage(9, 125, True)),
        ({"bytes_out": 500, "route": TABLE["POST", "/api/embeddings"]}, Usage(9, 0, True)),
        ({"bytes_out": 500, "route": TABLE["POST", "/v1/rerank"]}, Usage(9, 0, True)),
    ],
)
def test_tokens(facts: dict[str, Any], usage: Usage) -> None:
    assert usage_of(exchange(**facts)) == usage


def detour(since: float) -> Detour:
    made = Detour(())
    made.since = since
    return made


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({}, 0),  # it was handed to nobody
        ({"handed_at": 5.0, "sent_at": 6.0}, 6),  # a connection was there
        ({"queued_at": 2.0, "handed_at": 5.0, "sent_at": 6.0}, 3),  # less waiting for one
        ({"whole_at": 1.0, "queued_at": 2.0, "handed_at": 5.0, "sent_at": 6.0}, 2),  # and before it was whole
        ({"detour": detour(0.0), "whole_at": 1.0, "handed_at": 5.0, "sent_at": 6.0}, 5),  # of a version of its model
        ({"detour": detour(4.5), "whole_at": 1.0, "handed_at": 5.0, "sent_at": 6.0}, 1.5),  # another model had failed
    ],
)
def test_the_gates_own_share(facts: dict[str, Any], seconds: float) -> None:
    assert overhead_us(exchange(**facts)) == seconds * 1e6


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (">> a 200 <used>", "complete"),
        (">> a leaves", "upstream_error"),
        (">> client leaves", "client_left"),
        (">> clock 200", "upstream_timeout"),
        (">> a 503 {}", "refused"),
        (">> gate drains\n>> clock 40", "gate_stopped"),
    ],
)
def test_both_ways_to_write_a_receipt_say_the_same(
    open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch, answer: str, ended: str
) -> None:
    """The texts put together beforehand, and the record built field by field."""
    road = open_road(model("a", retry_on=()))
    both: list[tuple[Any, Any]] = []

    def written(exchange: Exchange, ended: Ended, reason: str) -> bytes:
        line = receipt_of(exchange, ended, reason)
        assert exchange.what is not None
        plain = msgspec.json.encode(plain_receipt(exchange, ended, reason))
        both.append((msgspec.json.decode(line), msgspec.json.decode(plain)))
        assert list(both[-1][0]) == list(both[-1][1]), "in the same order"
        assert msgspec.json.decode(line, type=Receipt) == msgspec.json.decode(plain, type=Receipt)
        return line

    monkeypatch.setattr("slmgate.dataplane.exchange.receipt_of", written)
    for line in (">> client chat", *answer.splitlines()):
        who, what = line[3:].split(" ", 1)
        road._do(who, what, TEXTS)
        road.stage.loop.settle()
    assert [one["ended"] for one, _ in both] == [ended]


AGENT, REFERER = b"OpenAI/Python 1.99", b"https://chat.example/?a=1"


def test_what_a_client_calls_itself(road: Road) -> None:
    """It stands in receipts while somebody wants it in the access log; in refusals too, and in no intent."""
    client = road.end_of("client")
    ask = request({"model": "m"}, b"User-Agent: %b\r\nReferer: %b\r\n" % (AGENT, REFERER))
    refused = request({"model": "m"}, b"User-Agent: \xe9\xff\r\n", key=b"sk-nobody-knows-this-one-at-all")
    for agents in (False, True, True, False):  # the second time its head is known
        road.stage.publish(agents=agents) if agents != road.stage.worker.snapshot.agents else None
        client.feed(ask)
        road.stage.loop.settle()
        road.end_of("a").feed(reply(b"{}"))
        road.stage.loop.settle()
        road.stage.connect().feed(refused)
        road.stage.loop.settle()
    told = [(one.get("referer"), one.get("user_agent")) for one in road.stage.receipts]
    known, stranger = (REFERER.decode(), AGENT.decode()), (None, "\xe9\xff")
    assert told == [(None, None), (None, None), known, stranger, known, stranger, (None, None), (None, None)]
    assert [one["status"] for one in road.stage.receipts] == [200, 401] * 4
    assert not any("user_agent" in record for kind, record in road.stage.records if kind == INTENT)


@pytest.mark.parametrize("letter", [b"a", b'"', "é".encode(), b"\xff", "\U0001f600".encode()])
@pytest.mark.parametrize("size", [SHOWN_AGENT - 1, SHOWN_AGENT, SHOWN_AGENT + 1, 8000])
def test_what_it_calls_itself_is_bounded(road: Road, letter: bytes, size: int) -> None:
    road.stage.publish(agents=True)
    road.stage.connect().feed(request({"model": "zzz"}, b"User-Agent: %b\r\n" % (letter * (size // len(letter)))))
    (told,) = [one["user_agent"] for one in road.stage.receipts]
    said = len(msgspec.json.encode(told)) - 2
    assert SHOWN_AGENT - 12 < said <= SHOWN_AGENT
    assert set(told) == {
        letter.decode("latin-1" if letter == b"\xff" or "\ufffd" in letter.decode(errors="replace") else "utf-8")
    }


def test_an_intent_is_one(road: Road) -> None:
    road.end_of("client").feed(request({"model": "m", "stream": True}))
    road.stage.loop.settle()
    kind, fields = road.stage.records[-1]
    intent = msgspec.convert(fields, Intent)
    assert (kind, intent.principal, intent.key, intent.team) == (INTENT, "acme-bot", "k1", "acme")
    assert (intent.model, intent.instance, intent.dialect, intent.endpoint, intent.stream) == ("m", "a", "openai", "chat", True)
    assert (intent.address, intent.worker, intent.prompt_tokens) == ("192.0.2.7", 0, 8)
    assert intent.time.timestamp() == pytest.approx(road.stage.clock.time())


def test_a_request_that_could_not_be_read(road: Road) -> None:
    road.plays(r"""
        >> client  \x00\r\n\r\n
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  half-closed
    """)
    receipt = road.stage.receipts[0]
    empty = {name: receipt[name] for name in ("method", "path", "principal", "key", "team", "model", "instance", "endpoint")}
    assert empty == {**dict.fromkeys(empty, ""), "key": None, "team": None}
    assert (receipt["verdict"], receipt["dialect"], receipt["address"]) == ("refuse", "openai", "192.0.2.7")


@pytest.mark.parametrize("past", [0, 1])
def test_a_path_in_no_row_is_shortened(road: Road, past: int) -> None:
    road.end_of("client").feed(b"GET /%b HTTP/1.1\r\nHost: g\r\n\r\n" % (b"x" * (SHOWN_PATH - 1 + past)))
    assert road.stage.receipts[0]["path"] == "/" + "x" * (SHOWN_PATH - 1)
