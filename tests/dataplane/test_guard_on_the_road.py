"""The guard on the road: what a client sees of its address's limits and bans, slow and large requests, and a gate that is full.

How much is allowed is `test_guard.py`'s; the answers, what leaves no receipt, and what becomes of connections are shown here.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dataplane import guard as guarding
from slmgate.dataplane.client import IDLE_SECONDS, SAY_WHO_SECONDS, TRICKLE_SECONDS
from slmgate.policy.guard import GuardSpec, RateSpec
from slmgate.policy.specs import GateSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeTransport
from tests.tools.road import Road
from tests.tools.stage import SECRET, request

OVER = "429 !rate_limit_exceeded"
WRONG = request({"model": "m"}, key=b"wrong")
CHAT = request({"model": "m"})


def spec(**limits: Any) -> GateSpec:
    return GateSpec(guard=GuardSpec(**limits))


def rate(burst: int) -> RateSpec:
    return RateSpec(1, 60, burst, "1 request/minute")


def test_requests_over_the_limit_get_an_answer_and_no_receipt(open_road: OpenRoad) -> None:
    """Repeated heads and new ones, each in its dialect; the connection stays."""
    road = open_road(gate=spec(requests=rate(2)))
    road.plays(
        """
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> client  chat
        << client  429 !rate_limit_exceeded retry-after: 60
        >> client  other
        << client  429 !rate_limit_exceeded retry-after: 60
        >> client  wrong
        << client  429 !rate_limit_exceeded retry-after: 60
        >> client2 health
        << client2 429 !rate_limit_exceeded retry-after: 60
        >> clock   60
        >> client  health
        << client  200 content-type: text/plain | ok\\n
    """,
        other=request({"model": "m", "n": 1}, fields=b"x-other: 1\r\n"),
        wrong=WRONG,
        health=b"GET /healthz HTTP/1.1\r\nHost: g\r\n\r\n",
    )
    assert road.stage.worker.tally.guarded == 4


def test_a_flood_of_strangers_leaves_no_receipts(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get the same answers; who is known by a key has its receipts all the same, also of what is refused."""
    monkeypatch.setattr(guarding, "RECORDED", 1)
    road = open_road()
    road.plays(
        """
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client2 nowhere
        << client2 404 !not_found
        >> client  absent
        == 404     refused !model_not_found
        << client  404 !model_not_found
        >> clock   0.1
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
    """,
        wrong=WRONG,
        nowhere=request({"model": "m"}, line=b"POST /x HTTP/1.1"),
        absent=request({"model": "x"}),
    )
    assert road.stage.worker.tally.guarded == 2


def test_a_body_of_a_request_over_the_limit_is_read_past(open_road: OpenRoad) -> None:
    road = open_road(gate=spec(requests=rate(1)))
    road.plays(
        """
        >> client  health
        << client  200 content-type: text/plain | ok\\n
        >> client  head
        << client  429 !rate_limit_exceeded retry-after: 60
        >> client  0123456789
        >> clock   60
        >> client  health
        << client  200 content-type: text/plain | ok\\n
    """,
        head=b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\n",
        health=b"GET /healthz HTTP/1.1\r\nHost: g\r\n\r\n",
    )


def test_garbage_over_the_limit_is_not_answered(open_road: OpenRoad) -> None:
    road = open_road(gate=spec(requests=rate(1)))
    road.plays(r"""
        >> client  \x00\r\n\r\n
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  half-closed
        >> client2 \x00\r\n\r\n
        << client2 closed
    """)


def test_a_ban(open_road: OpenRoad) -> None:
    """Only wrong credentials count. One too many gets its answer; who is idle is closed, what is under way goes on."""
    road = open_road(gate=spec(failed_auth=rate(2), ban=900))
    road.plays(
        """
        >> client2 connects
        >> client3 chat
        == intent  a
        << a       <chat>
        >> client  none
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  none
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  none
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        << client2 aborted
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer connection: close
        << client  closed
        >> a       200 {}
        == 200     complete a 4+1~
        << client3 200 connection: close | {}
        << client3 closed
        >> client4 connects
        << client4 aborted
        >> clock   900
        << a       aborted
        >> client4 wrong
        == 401     refused !invalid_api_key
        << client4 401 !invalid_api_key www-authenticate: Bearer
    """,
        wrong=WRONG,
        none=b"GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n",
    )
    tally = road.stage.worker.tally
    assert (tally.bans, tally.turned_away) == (1, 1)


def test_an_address_with_too_many_connections(open_road: OpenRoad) -> None:
    road = open_road(gate=spec(connections=1))
    road.plays("""
        >> client  connects
        >> client2 connects
        << client2 aborted
        >> client  leaves
        >> client2 connects
    """)
    assert road.stage.worker.tally.connections == 2


def test_a_good_key_is_noted(open_road: OpenRoad) -> None:
    stage = open_road(gate=spec(requests=rate(9))).stage
    end = stage.connect()
    client = stage.clients[0]
    end.feed(WRONG)
    assert not client.known
    end.feed(CHAT)
    assert client.known
    assert client.visitor is not None
    assert client.visitor.known


def test_a_banned_forwarded_address_is_answered(open_road: OpenRoad) -> None:
    """A proxy's connection is not closed for what one of its clients does."""
    road = open_road(gate=spec(failed_auth=rate(1), exempt=("192.0.2.7",)))
    road.end_of("client")
    client = road.stage.clients[0]
    assert client.visitor is None
    client.visitor = road.stage.worker.guard.visitor("203.0.113.7")
    road.plays(
        """
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        << client  429 !rate_limit_exceeded retry-after: 900
    """,
        wrong=WRONG,
    )


# --- slow and large requests


def upload(size: int) -> bytes:
    return request(b" " * size)[:-size]


def fed(road: Road, seconds: float, step: float, piece: bytes) -> tuple[FakeTransport, float]:
    """A body comes in such pieces; when it was answered, if within `seconds`."""
    end = road.end_of("client")
    end.feed(upload(1 << 20))
    passed = 0.0
    while passed < seconds and not road.played:
        road.stage.loop.turn(step)
        passed += step
        if not road.played:
            end.feed(piece)
    return end, passed


@pytest.mark.parametrize(
    ("gate", "piece", "ends"),
    [
        (GateSpec(body_rate=512), b"x" * 100, TRICKLE_SECONDS),  # 100 bytes a second: a minute, and what they bought
        (GateSpec(body_rate=100), b"x" * 100, 300),
        (GateSpec(body_rate=100, body_total=20), b"x" * 100, 20),
    ],
)
def test_a_body_may_neither_trickle_nor_take_for_ever(open_road: OpenRoad, gate: GateSpec, piece: bytes, ends: float) -> None:
    road = open_road(gate=gate)
    _, passed = fed(road, 400, 1, piece)
    assert road.played[1].startswith("<< client 408 !request_timeout")
    bought = ends * len(piece) / gate.body_rate if ends == TRICKLE_SECONDS else 0
    assert ends <= passed <= ends + 1.3 * bought + 2


def test_a_steady_body_is_waited_for(open_road: OpenRoad) -> None:
    road = open_road(gate=GateSpec())
    _, passed = fed(road, 290, 10, b"x" * 6000)
    assert passed == 290
    assert road.played == []


@pytest.mark.parametrize("over", [False, True])
def test_memory_for_bodies_is_bounded(open_road: OpenRoad, over: bool) -> None:
    road = open_road(gate=GateSpec(max_buffered=3000))
    worker = road.stage.worker
    for name in ("client", "client2", "client3"):
        road.end_of(name).feed(upload(5000) + b"x" * 1000)
    assert worker.buffered == 3000
    assert road.played == []
    if over:
        road.end_of("client2").feed(b"x")
        assert "<< client2 503 !overloaded retry-after: 1 connection: close" in road.played
        assert worker.buffered == 2000
        assert road.stage.receipts[-1]["status"] == 503
    road.end_of("client").lose()
    assert worker.buffered == (1000 if over else 2000)


def test_memory_for_chunked_bodies_is_bounded(open_road: OpenRoad) -> None:
    road = open_road(gate=GateSpec(max_buffered=1500))
    head = CHAT.replace(b"Content-Length: 14", b"Transfer-Encoding: chunked")[: -len(b'{"model": "m"}')]
    end = road.end_of("client")
    end.feed(head + b"1000\r\n" + b"x" * 1000)
    assert road.played == []
    end.feed(b"x" * 600)
    assert road.played[1] == "<< client 503 !overloaded retry-after: 1 connection: close"
    assert road.stage.worker.buffered == 0


def test_memory_for_heads_is_bounded(open_road: OpenRoad) -> None:
    """No receipt: whose request it is was never said."""
    road = open_road(gate=GateSpec(max_buffered=1000))
    half = b"POST / HTTP/1.1\r\nHost: " + b"x" * 600
    road.end_of("client").feed(half)
    road.end_of("client2").feed(half)
    assert road.played[0] == "<< client2 503 !overloaded retry-after: 1 connection: close"
    assert road.stage.receipts == []
    road.end_of("client").feed(b"\r\n\r\n")
    assert road.stage.worker.buffered == 0


def test_what_is_under_way_is_kept_in_mind(open_road: OpenRoad) -> None:
    road = open_road()
    end = road.end_of("client")
    body = b'{"model": "m", "messages": "' + b"x" * 1000 + b'"}'
    whole = request(body)
    end.feed(whole[:-500])
    end.feed(whole[-500:])
    road.stage.loop.settle()
    assert road.stage.worker.buffered > 500
    road.end_of("a").feed(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
    road.stage.loop.settle()
    assert road.stage.worker.buffered == 0


# --- a full gate


def ranks(road: Road) -> list[tuple[int, float] | None]:
    now = road.stage.clock.monotonic()
    return [client.expendable(now) for client in road.stage.clients]


def test_a_refused_body_is_no_request_that_a_full_gate_waits_for(road: Road) -> None:
    """Its rest is read past to keep the connection: a stranger who lets it trickle holds no place by that."""
    road.stage.loop.told = lambda *_: None
    stranger, known = road.stage.connect(), road.stage.connect()
    known.feed(request({"model": "m"}, line=b"GET /v1/models HTTP/1.1"))
    half = b"POST /v1/%b HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %b\r\nContent-Length: 60000\r\n\r\nx"
    stranger.feed(half % (b"chat/completions", b"wrong"))
    known.feed(half % (b"nowhere", SECRET))
    road.stage.loop.turn(SAY_WHO_SECONDS)
    assert ranks(road) == [(0, -1000.0), None]


def test_whom_a_full_gate_can_do_without(road: Road) -> None:
    """Nobody in its first second; then strangers, the youngest first; at last those who were idle for long."""
    road.stage.loop.told = lambda *_: None
    known, busy, stranger = (road.stage.connect() for _ in range(3))
    known.feed(request({"model": "m"}, line=b"GET /v1/models HTTP/1.1"))
    busy.feed(CHAT)
    stranger.feed(WRONG)
    assert ranks(road) == [None] * 3
    road.stage.loop.turn(SAY_WHO_SECONDS)
    first, second, third = ranks(road)
    assert (first, second) == (None, None)
    assert third == (0, -1000.0)
    road.stage.loop.turn(IDLE_SECONDS)
    first, second, third = ranks(road)
    assert first is not None
    assert first[0] == 1
    assert second is None
    known.feed(b"GET /v1")
    assert ranks(road)[0] is None, "it has begun to ask for something"
