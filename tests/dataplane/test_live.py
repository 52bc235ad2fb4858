"""What is under way in a worker, as operators are told of it, and how one of it is ended: each state, and every way it may go.

That the instance sees it within a second, and that other workers tell the same, is shown with real processes
(`tests/system/test_live.py`).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from slmgate.dataplane import live as module
from slmgate.dataplane.live import A_PART, CLIENTS
from slmgate.link.messages import Cancelled, CancelLive, ListLive, Live, LiveFilter, LiveRequest, Message, Verified
from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import TeamSpec
from slmgate.policy.specs import AuthSpec
from slmgate.terms import Bearer, Key
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import KEY, instance, model, request

CHAT = request({"model": "m", "max_tokens": 5})


def answers(road: Road, most: int = 1000, **which: str) -> list[Live]:
    """All parts of a list."""
    sent: list[Message] = []
    module.tell(road.stage.worker, ListLive(7, LiveFilter(**which), most), sent.append)
    road.stage.loop.settle()
    parts = [one for one in sent if isinstance(one, Live)]
    assert [one.last for one in parts] == [False] * (len(parts) - 1) + [True]
    assert {one.number for one in parts} == {7}
    assert len(parts) == len(sent)
    return parts


def listed(road: Road, **which: str) -> list[LiveRequest]:
    return [row for part in answers(road, 1000, **which) for row in part.requests]


def only(road: Road) -> LiveRequest:
    (row,) = listed(road)
    return row


def cancelled(road: Road, id: str, look: bool = False) -> Cancelled:
    found = module.cancel(road.stage.worker, CancelLive(9, id, look))
    road.stage.loop.settle()
    assert found.number == 9
    return found


def said(road: Road, host: str = "client") -> list[bytes]:
    """What one end is told from now on; `lost` stands for its connection's end."""
    told: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: told.append(data or what.encode()) if who == host else None
    return told


def asks(road: Road, data: bytes = CHAT, name: str = "client") -> Any:
    client = road.stage.connect(name)
    client.feed(data)
    road.stage.loop.settle()
    return client


def begun_stream(road: Road) -> Any:
    """A client whose stream has come to two tokens, the second of which passed by."""
    client = asks(road, request({"model": "m", "stream": True}))
    (upstream,) = road.stage.loop.opened["a"]
    upstream.feed(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    road.stage.loop.settle()
    assert (only(road).state, only(road).tokens) == ("waiting", 0)
    for _ in range(2):
        event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
        upstream.feed(b"%x\r\n%b\r\n" % (len(event), event))
        road.stage.loop.settle()
    return client


# --- telling


def test_nothing_is_under_way(road: Road) -> None:
    assert answers(road) == [Live(7, (), True)]
    asks(road)
    road.stage.loop.opened["a"][0].feed(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
    road.stage.loop.settle()
    assert answers(road) == [Live(7, (), True)]


def test_a_body_that_is_coming(road: Road) -> None:
    client = asks(road, CHAT[:-5])
    assert only(road).state == "reading"
    assert (only(road).client, only(road).endpoint, only(road).model) == ("acme-bot", "chat", "")
    told = said(road)
    assert cancelled(road, only(road).id).request is not None
    assert b"HTTP/1.1 403 " in told[0] and b'"cancelled"' in told[0]
    client.feed(CHAT[-5:])  # is read past
    road.stage.loop.settle()
    (receipt,) = road.stage.receipts
    assert (receipt["ended"], receipt["reason"], receipt["status"], receipt["verdict"]) == (
        "gate_stopped",
        "cancelled",
        403,
        "none",
    )


def test_who_calls_is_being_found_out(road: Road) -> None:
    road.stage.publish(auth=AuthSpec(signed=True))
    asks(road, request({"model": "m"}, key=b"aaa.bbb.ccc"))
    assert (only(road).state, only(road).client) == ("reading", "")
    assert answers(road)[0].clients == ()
    assert cancelled(road, only(road).id).request is not None
    assert listed(road) == []
    verdict = Verified(1, Bearer(id="https://i#bot", name="bot", kind="token", grounds="g"), 9e9)
    road.stage.worker.tokens.verified(verdict, 0.0)  # comes too late, and opens nothing
    road.stage.loop.settle()
    assert [one["reason"] for one in road.stage.receipts] == ["cancelled"]


def test_a_connection_is_being_made(road: Road) -> None:
    road.stage.loop.doors["a"] = "hangs"
    asks(road)
    row = only(road)
    assert (row.state, row.instance, row.attempts, row.stream) == ("connecting", "a", 1, False)
    assert cancelled(road, row.id) == Cancelled(9, row)
    assert road.stage.worker.pools.models["m"].instances[0].busy == 0
    (receipt,) = road.stage.receipts
    assert (receipt["ended"], receipt["status"], receipt["verdict"]) == ("gate_stopped", 403, "admit")


def test_waiting_for_the_first_byte(road: Road) -> None:
    asks(road)
    row = only(road)
    assert (row.state, row.instance, row.model, row.dialect, row.endpoint) == ("waiting", "a", "m", "openai", "chat")
    assert (row.client, row.key, row.team, row.address, row.worker) == ("acme-bot", "k1", "acme", "192.0.2.7", 0)
    assert row.since == pytest.approx(road.stage.clock.time())
    told = said(road, "a")
    assert cancelled(road, row.id) == Cancelled(9, row)
    assert told == [b"aborted"]


def test_a_stream(road: Road) -> None:
    begun_stream(road)
    row = only(road)
    assert (row.state, row.tokens, row.stream, row.position) == ("streaming", 2, True, 0)
    told = said(road)
    assert cancelled(road, row.id) == Cancelled(9, row)
    assert b'"code":"cancelled"' in told[0]
    assert b"0\r\n\r\n" not in told[0]  # nobody takes it for whole
    assert told[-1] == b"closed"
    assert road.stage.loop.opened["a"][0].lost
    (receipt,) = road.stage.receipts
    assert (receipt["ended"], receipt["reason"], receipt["status"]) == ("gate_stopped", "cancelled", 200)
    assert (receipt["completion_tokens"], receipt["estimated"], receipt["instance"]) == (2, True, "a")


def test_an_unstreamed_answer_that_has_begun(road: Road) -> None:
    """Its client has seen nothing of it yet, and gets the fault as its answer."""
    asks(road)
    road.stage.loop.opened["a"][0].feed(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{")
    road.stage.loop.settle()
    assert only(road).state == "streaming"
    told = said(road)
    cancelled(road, only(road).id)
    assert b"HTTP/1.1 403 " in told[0] and b"chunked" not in told[0]


def test_the_line(open_road: OpenRoad) -> None:
    """Where each stands, as the queue has it; and who is cancelled in it leaves its place to the next."""
    road = open_road(model(instance("a", max_in_flight=1)))
    clients = [asks(road, name=f"client{number}") for number in range(4)]
    rows = listed(road)
    assert [(row.state, row.position, row.instance) for row in rows] == [
        ("waiting", 0, "a"), ("queued", 1, ""), ("queued", 2, ""), ("queued", 3, ""),
    ]  # fmt: skip
    assert [row.state for row in listed(road, state="queued")] == ["queued"] * 3
    (part,) = answers(road, 1000, state="queued")
    assert (part.total, part.matching, part.clients) == (4, 3, (("acme-bot", 4, 3),))
    assert cancelled(road, rows[2].id) == Cancelled(9, rows[2])
    assert [(row.id, row.position) for row in listed(road, state="queued")] == [(rows[1].id, 1), (rows[3].id, 2)]
    cancelled(road, rows[0].id)
    assert [(row.id, row.state) for row in listed(road)] == [(rows[1].id, "waiting"), (rows[3].id, "queued")]
    assert [one["queue_us"] for one in road.stage.receipts] == [0, 0]
    assert len(clients) == 4


def test_a_client_that_stays_connected_after_it(open_road: OpenRoad) -> None:
    """What has not begun to be answered is answered with a fault, and costs nobody the connection."""
    road = open_road(model(instance("a", max_in_flight=1)))
    asks(road, name="other")
    client = asks(road)
    cancelled(road, listed(road)[1].id)
    assert not client.lost
    client.feed(CHAT)
    road.stage.loop.settle()
    assert [row.state for row in listed(road)] == ["waiting", "queued"]


def test_filters(open_road: OpenRoad) -> None:
    other = Key(id="k2", name="other", digests=((sha256(b"sk-slm-unit-other-0123456789").digest(), None),))
    road = open_road(model("a"), model("b", name="n"))
    road.stage.publish(keys=(KEY, other))
    asks(road, name="one")
    asks(road, request({"model": "n"}, key=b"sk-slm-unit-other-0123456789"), name="two")

    def found(**which: str) -> list[str]:
        return [row.model for row in listed(road, **which)]

    assert found() == ["m", "n"]
    assert found(client="other") == found(model="n") == found(instance="b") == ["n"]
    assert found(team="acme") == ["m"]
    assert found(client="nobody") == found(team="x") == found(model="x") == found(instance="x") == found(state="queued") == []
    assert found(client="other", model="m") == []
    assert answers(road)[0].clients == (("acme-bot", 1, 0), ("other", 1, 0))


def test_many_are_told_in_parts(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(segment_size=1 << 20)
    for number in range(A_PART + 1):
        asks(road, name=f"client{number}")
    parts = answers(road)
    assert [len(part.requests) for part in parts] == [A_PART, 1]
    assert [(part.total, part.matching) for part in parts] == [(A_PART + 1, A_PART + 1), (0, 0)]
    assert [len(part.requests) for part in answers(road, A_PART)] == [A_PART]
    ids = [row.id for part in parts for row in part.requests]
    assert ids == sorted(ids)  # the oldest first
    assert [row.id for row in answers(road, 2)[0].requests] == ids[:2]
    # what ends between two parts is in none
    sent: list[Message] = []
    module.tell(road.stage.worker, ListLive(1, LiveFilter(), 1000), sent.append)
    cancelled(road, ids[-1])
    assert [len(part.requests) for part in sent if isinstance(part, Live)] == [A_PART, 0]
    monkeypatch.setattr(module, "CLIENTS", 0)
    assert answers(road)[0].clients == ()
    assert CLIENTS == 200


# --- ending


def test_what_is_not_under_way(road: Road) -> None:
    asks(road)
    row = only(road)
    assert cancelled(road, row.id, look=True) == Cancelled(9, row)  # only looked at
    assert only(road) == row
    assert cancelled(road, row.id) == Cancelled(9, row)
    assert cancelled(road, row.id) == cancelled(road, row.id, look=True) == Cancelled(9, None, over=True)
    later = row.id[:-1] + "9"
    assert cancelled(road, later) == cancelled(road, row.id[:-8] + "00000000") == Cancelled(9, None)
    assert cancelled(road, "f" * 20) == Cancelled(9, None)
    assert len(road.stage.receipts) == 1


def test_the_dialects_own_end_has_passed(road: Road) -> None:
    """The answer is whole: its client has that, and nobody is told that it was cut."""
    begun_stream(road)
    id = only(road).id
    end = b"data: [DONE]\n\n"
    road.stage.loop.opened["a"][0].feed(b"%x\r\n%b\r\n" % (len(end), end))
    road.stage.loop.settle()
    assert cancelled(road, id) == Cancelled(9, None, over=True)
    (receipt,) = road.stage.receipts
    assert (receipt["ended"], receipt["reason"]) == ("complete", "")


def test_its_limits_are_settled(road: Road) -> None:
    """As those of any request that is cut: what it came to is charged, and what was held beside is free again."""
    limit = LimitSpec(name="limits[0]", text="1000 tokens/minute", identity="t", unit="tokens", amount=1000, seconds=60)
    at_once = LimitSpec(name="limits[1]", text="1 concurrent", identity="c", unit="concurrent", amount=1)
    plan = PlanSpec(name="gold", currency="EUR", prices=(("*", Price(100, 300)),))
    road.stage.publish(limits=(limit, at_once), plans=(plan,), teams=(TeamSpec(name="acme", plan="gold"),))
    begun_stream(road)
    cancelled(road, only(road).id)
    (receipt,) = road.stage.receipts
    assert (receipt["completion_tokens"], receipt["cost"]) == (2, receipt["prompt_tokens"] * 100 + 2 * 300)
    asks(road, name="next")
    assert only(road).state == "waiting"  # the one that may be under way at once


def test_one_that_goes_on_without_its_client(road: Road) -> None:
    """Who sent an Idempotency-Key has left, and its request goes on: it is seen, and can be ended."""
    keyed = request({"model": "m"}, b"Idempotency-Key: first\r\n")
    client = asks(road, keyed)
    other = asks(road, keyed, name="other")
    assert [row.state for row in listed(road)] == ["waiting", "queued"]  # the second one behind the first
    client.lose()
    other.lose()
    road.stage.loop.settle()
    row = only(road)
    assert row.state == "waiting"
    assert cancelled(road, row.id) == Cancelled(9, row)
    assert listed(road) == []


def test_a_fault_in_it_costs_this_request(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no")

    asks(road)
    row = only(road)
    monkeypatch.setattr("slmgate.dataplane.exchange.Exchange.cut_short", fails)
    assert cancelled(road, row.id) == Cancelled(9, row)
    (receipt,) = road.stage.receipts
    assert (receipt["ended"], receipt["status"]) == ("gate_failed", 500)


def test_the_worker_answers_over_the_link(road: Road) -> None:
    worker, sent = road.stage.worker, list[Message]()
    worker._link.send = sent.append  # type: ignore[method-assign, assignment]  # there is no control
    asks(road)
    row = only(road)
    worker._told(ListLive(1, LiveFilter(), 10))
    worker._told(CancelLive(2, row.id))
    assert sent == [Live(1, (row,), True, 1, 1, (("acme-bot", 1, 0),)), Cancelled(2, row)]
