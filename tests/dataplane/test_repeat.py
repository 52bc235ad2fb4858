"""Repeated heads: a request whose head came before fares as it did the first time, for the client, the instance and the records.

Each case is played on a fresh connection and again on one that has seen the same heads; what all sides see must be the same.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from slmgate.dataplane.client import MAX_UNLIKE, ClientConnection
from slmgate.dataplane.upstream import UpstreamConnection
from slmgate.policy.specs import GateSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import STREAMED, Road
from tests.tools.shown import shown
from tests.tools.stage import KEY, Stage, instance, model, reply, request

CHAT: dict[str, Any] = {"model": "m"}
NAMED = b"X-Request-Id: mine\r\n"
USED = b'{"usage":{"prompt_tokens":5,"completion_tokens":7}}'
EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


def chunks(*pieces: bytes, end: bool = True) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" * end


CASES: dict[str, tuple[bytes, list[bytes]]] = {
    "as usual": (request(CHAT), [reply(USED)]),
    "no usage": (request(CHAT), [reply(b"{}")]),
    "another body": (request({"model": "m", "max_tokens": 99, "messages": ["hello"]}), [reply(USED + b" " * 99)]),
    "an id": (request(CHAT, NAMED), [reply(USED)]),
    "an id that is not sane": (request(CHAT, b"X-Request-Id: <a>\r\n"), [reply(USED)]),
    "fields that pass": (request(CHAT, b"User-Agent: me\r\nAccept: x/y\r\nConnection: accept\r\n"), [reply(USED)]),
    "closing": (request(CHAT, b"Connection: close\r\n"), [reply(USED)]),
    "HTTP/1.0": (request(CHAT, b"Connection: keep-alive\r\n", b"POST /v1/chat/completions HTTP/1.0"), [reply(USED)]),
    "compressed": (request(CHAT, b"Content-Encoding: gzip\r\n"), []),
    "no model": (request({"a": 1}), []),
    "another model": (request({"model": "x"}), []),
    "no JSON": (request(b"{"), []),
    "another dialect": (request({**CHAT, "max_tokens": 5}, line=b"POST /v1/messages HTTP/1.1"), [reply(b'{"usage":{}}')]),
    "in pieces": (request(CHAT), [reply(USED)[:20], reply(USED)[20:60], reply(USED)[60:]]),
    "body behind the head": (request(CHAT), [reply(USED)[: -len(USED)], USED]),
    "an error": (request(CHAT), [reply(b'{"error":{"code":"x"}}', 400)]),
    "a failure": (request(CHAT), [reply(b"oh", 500)]),
    "an instance that closes": (request(CHAT), [reply(USED, fields=b"Connection: close\r\n")]),
    "a page": (request(CHAT), [reply(b"<html>", fields=b"content-type: text/html\r\n")]),
    "bytes behind": (request(CHAT), [reply(USED) + b"x"]),
    "chunked": (request(CHAT), [STREAMED.replace(b"text/event-stream", b"application/json") + chunks(USED)]),
    "a stream": (request({**CHAT, "stream": True}), [STREAMED, chunks(EVENT, end=False), chunks(EVENT, b"data: [DONE]\n\n")]),
    "a stream in one": (request({**CHAT, "stream": True}), [STREAMED + chunks(EVENT, EVENT, b"data: [DONE]\n\n")]),
    "a sized stream": (request({**CHAT, "stream": True}), [reply(EVENT, fields=b"content-type: text/event-stream\r\n")]),
    "odd chunks": (
        request({**CHAT, "stream": True}),
        [STREAMED, chunks(EVENT[:9], EVENT[9:], end=False), b"0" + chunks(EVENT, b"data: [DONE]\n\n")],
    ),
    "a chunk that lies": (request({**CHAT, "stream": True}), [STREAMED, chunks(EVENT, end=False), b"5\r\nabcdefgh\r\n"]),
}


def play(stage: Stage, client: Any, asks: bytes, answers: list[bytes]) -> list[str]:
    """What all sides saw of one request, and its records, without what differs from request to request."""
    seen: list[str] = []
    stage.read_journal()

    def told(who: str, what: str, data: bytes) -> None:
        seen.append(f"{who.rstrip('0123456789')} {shown(data) if what == 'write' else what}")

    stage.loop.told = told
    client.feed(asks)
    stage.loop.settle()
    for answer in answers:
        for end in stage.loop.opened.get("a", ())[-1:]:
            if not end.closing:
                end.feed(answer)
        stage.loop.settle()
    passing = ("id", "time", "request_id", "queue_us", "first_byte_us", "total_us", "receive_us", "connect_us", "overhead_us")
    for kind, record in stage.read_journal():
        named = record["request_id"] if record["request_id"] != record["id"] else "its own"
        seen.append(f"{kind!r} {named} { {name: value for name, value in record.items() if name not in passing} }")
    return seen


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("answered", [True, False], ids=["both repeat", "the client repeats"])
def test_a_repetition_fares_as_the_first(open_road: OpenRoad, case: str, answered: bool) -> None:
    asks, answers = CASES[case]
    head, _, _ = asks.partition(b"\r\n\r\n")
    stage = open_road(model(instance("a"), retry_on=())).stage
    first = play(stage, stage.connect(), asks, answers)
    stage = open_road(model(instance("a"), retry_on=())).stage
    client = stage.connect()
    # other bodies under the same heads come before
    for body in (b'{"model": "m", "max_tokens": 1}', b'{"model": "m"}'):
        if not client.closing:
            before = head.replace(b"Content-Length: %d" % len(asks.partition(b"\r\n\r\n")[2]), b"Content-Length: %d" % len(body))
            play(stage, client, before + b"\r\n\r\n" + body, [reply(USED)] if answered else [reply(USED)[:9], reply(USED)[9:]])
    if client.closing:
        return  # who closes does not repeat
    assert play(stage, client, asks, answers) == first


def repeats(stage: Stage) -> bool:
    client = stage.clients[-1]
    assert isinstance(client, ClientConnection)
    return client._repeat is not None


def test_what_is_kept(road: Road) -> None:
    stage = road.stage
    client = stage.connect()
    play(stage, client, request(line=b"GET /v1/models HTTP/1.1"), [])
    assert not repeats(stage)
    play(stage, client, request(CHAT, key=b"wrong"), [])
    assert not repeats(stage), "a stranger is not remembered"
    play(stage, client, request(CHAT), [reply(USED)])
    assert repeats(stage)
    assert repr(stage.clients[-1]._repeat) == "<Repeat POST /v1/chat/completions of acme-bot>"


def test_clients_whose_heads_all_differ(road: Road) -> None:
    """A few are kept in vain, then none: a client that repeats itself later is read the long way, and served all the same."""
    stage = road.stage
    client = stage.connect()
    for number in range(MAX_UNLIKE + 3):
        seen = play(stage, client, request(CHAT, b"Traceparent: 00-%d\r\n" % number), [reply(USED)])
        assert f"traceparent: 00-{number}" in seen[0]
    kept = stage.clients[-1]._repeat
    assert kept is not None
    assert kept.head.fields[b"traceparent"] == b"00-%d" % MAX_UNLIKE


def test_a_key_that_is_revoked_between_two_requests(road: Road) -> None:
    stage = road.stage
    client = stage.connect()
    for _ in range(3):
        play(stage, client, request(CHAT), [reply(USED)])
    stage.publish(keys=())
    assert play(stage, client, request(CHAT), [])[0] == "client 401 !invalid_api_key www-authenticate: Bearer"
    stage.publish(keys=(KEY,))
    assert "client 200" in play(stage, client, request(CHAT), [reply(USED)])[1]


def test_a_key_that_ends_between_two_requests(open_road: OpenRoad) -> None:
    stage = open_road().stage
    stage.publish(keys=(replace(KEY, expires=stage.clock.time() + 10),))
    client = stage.connect()
    for _ in range(3):
        play(stage, client, request(CHAT), [reply(USED)])
    stage.loop.turn(11)
    assert play(stage, client, request(CHAT), [])[0] == "client 401 !invalid_api_key www-authenticate: Bearer"


def test_a_new_snapshot_is_looked_at_afresh(road: Road) -> None:
    """The instance's credential and the model's name for it are the new snapshot's, on a connection that goes on."""
    stage = road.stage
    client = stage.connect()
    for _ in range(3):
        play(stage, client, request(CHAT), [reply(USED)])
    stage.publish(model(instance("a", bearer="new", upstream_model="M")))
    seen = play(stage, client, request(CHAT), [reply(USED)])
    assert seen[0] == r'a POST /v1/chat/completions authorization: Bearer new | {"model":"M"}'
    assert "client 200" in play(stage, client, request(CHAT), [reply(USED)])[1]


@pytest.mark.parametrize("past", [0, 1])
def test_the_bound_of_a_body(open_road: OpenRoad, past: int) -> None:
    stage = open_road(gate=GateSpec(max_body=100)).stage
    client = stage.connect()
    for _ in range(2):
        play(stage, client, request(CHAT), [reply(USED)])
    body = b'{"model": "m"' + b" " * (86 + past) + b"}"
    seen = play(stage, client, request(body), [reply(USED)])
    assert ("413" in seen[0]) is bool(past)


def test_the_bound_of_a_head(open_road: OpenRoad) -> None:
    """A head so near the bound that more digits could take it past is read the long way each time."""
    size = len(request(CHAT).partition(b"\r\n\r\n")[0])
    stage = open_road(gate=GateSpec(max_header=size + 10)).stage
    client = stage.connect()
    for _ in range(2):
        assert "client 200" in play(stage, client, request(CHAT), [reply(USED)])[1]
    assert not repeats(stage)


def test_half_a_request_and_two_at_once(road: Road) -> None:
    stage = road.stage
    client = stage.connect()
    for _ in range(2):
        play(stage, client, request(CHAT), [reply(USED)])
    whole = request(CHAT)
    play(stage, client, whole[:-3], [])
    seen = play(stage, client, whole[-3:] + whole, [reply(USED), reply(USED)])
    assert [line[:10] for line in seen if line.startswith("client")] == ["client 200", "client 200"]


def test_a_fault_of_our_own_costs_one_request(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = road.stage
    client = stage.connect()
    for _ in range(2):
        play(stage, client, request(CHAT), [reply(USED)])

    def faulty(*_: object) -> None:
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.exchange.decide", faulty)
        seen = play(stage, client, request(CHAT), [])
    assert seen[0].startswith("client 500 !internal_error")
    assert [one["ended"] for one in stage.receipts] == ["complete", "complete", "gate_failed"]


def test_the_parser_is_spared(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = road.stage
    client = stage.connect()
    play(stage, client, request(CHAT), [reply(USED)])
    monkeypatch.setattr(ClientConnection, "_read_head", None)
    monkeypatch.setattr(UpstreamConnection, "_read_heads", None)
    longer = {**CHAT, "messages": [{"role": "user", "content": "x" * 1000}]}
    assert "client 200" in play(stage, client, request(longer), [reply(USED + b" " * 100)])[1]
