"""What a request beside the client's own is sent as, and what it gives back; `test_shadow.py` has it whole."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dataplane.second import Second, is_refusal
from slmgate.http1.heads import AnswerHead
from slmgate.policy.split import ShadowSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import instance, model, request


class Plain(Second):
    """One that only notes what becomes of it."""

    noted: list[Any]

    def failed(self, reason: str) -> None:
        self.noted.append(reason)
        self.done = True
        self.give_back(None)

    def answer_began(self, head: AnswerHead) -> None:
        self.noted.append(head.status)

    def answer_data(self, data: bytes) -> None:
        self.noted.append(data)

    def answer_ended(self, data: bytes, connection: Any) -> None:
        self.noted.append((data, connection is not None))
        self.done = True
        self.give_back(connection)


def second(road: Road, name: str | None = "n") -> Plain:
    """One beside a request for `m` that is under way, given to an instance of `n`."""
    client = road.stage.connect("client9")
    client.feed(request({"model": "m"}))
    road.stage.loop.settle()
    exchange = road.stage.clients[-1].exchange
    assert exchange is not None
    pool = road.stage.worker.pools.models["n"]
    one = Plain(exchange, pool, name, b"r2")
    one.noted = []
    road.stage.read_journal()
    assert pool.begin_now(one.as_exchange())
    return one


@pytest.fixture
def pair(open_road: OpenRoad) -> Road:
    return open_road(model("a"), model("b", name="n"))


def test_asked_and_answered(pair: Road) -> None:
    one = second(pair)
    assert (repr(one), one.attempts) == ("<Plain r2 waiting>", 1)
    pair.stage.loop.settle()
    assert repr(one) == "<Plain r2 asked>"
    (end,) = pair.stage.loop.opened["b"]
    end.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n01")
    end.feed(b"23")
    assert one.noted == [200, b"01", (b"23", True)]
    assert repr(one) == "<Plain r2 over>"
    assert [len(each.idle) for each in one.pool.instances] == [1], "the connection may serve again"


@pytest.mark.parametrize(("own", "name", "sent"), [(None, "n", "n"), ("Big/N", "n", "Big/N"), (None, None, "m")])
def test_the_models_name(open_road: OpenRoad, own: str | None, name: str | None, sent: str) -> None:
    road = open_road(model("a"), model(instance("b", upstream_model=own), name="n"))
    written: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: written.append(data) if who == "b" else None
    one = second(road, name)
    road.stage.loop.settle()
    assert f'"model":"{sent}"'.encode() in written[0].replace(b'": "', b'":"')
    assert b"x-request-id: r2" in written[0]
    one.failed("over")


def test_the_tenants_own_salt(open_road: OpenRoad) -> None:
    road = open_road(model("a"), model(instance("b", engine="vllm"), name="n"))
    written: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: written.append(data) if who == "b" else None
    one = second(road)
    road.stage.loop.settle()
    assert road.stage.worker.salts.of(one.principal).encode() in written[0]
    one.failed("over")


def test_nobody_there_and_a_connection_that_nobody_wants(pair: Road) -> None:
    pair.stage.loop.doors["b"] = "refuses"
    one = second(pair)
    pair.stage.loop.settle()
    assert one.noted == ["upstream_error"]
    one.connect_failed(one.pool.instances[0], "again")
    assert one.noted == ["upstream_error"], "it is over"
    pair.stage.loop.doors["b"] = "opens"
    pair.stage.loop.turn(1)
    other = second(pair)
    other.failed("left")
    pair.stage.loop.settle()
    assert other.connection is None
    assert [(each.busy, len(each.idle)) for each in other.pool.instances] == [(0, 1)]


@pytest.mark.parametrize(("after", "noted"), [(0.05, []), (0.25, ["upstream_error"])])
def test_a_kept_connection_that_is_lost(pair: Road, after: float, noted: list[str]) -> None:
    """At once: it was being closed. Later: it is a failure, and nothing is sent again."""
    one = second(pair)
    pair.stage.loop.settle()
    pair.stage.loop.opened["b"][0].feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert one.done
    other = second(pair)
    pair.stage.clock.passed += after
    pair.stage.loop.opened["b"][0].lose()
    pair.stage.loop.settle()
    assert other.noted == noted
    assert len(pair.stage.loop.opened["b"]) == (1 if noted else 2)
    if not noted:
        pair.stage.loop.opened["b"][1].lose()
        assert other.noted == ["upstream_error"]


def test_a_fault_of_our_own(pair: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmgate.dataplane.second.client_fields", None)
    one = second(pair)
    pair.stage.loop.settle()
    assert one.noted == ["internal_error"]
    assert pair.stage.loop.opened["b"][0].closing


def test_it_is_never_put_in_line(open_road: OpenRoad) -> None:
    road = open_road(
        model("a", shadow=ShadowSpec(model="n", share=1.0)), model(instance("b", max_in_flight=0), name="n", hidden=True)
    )
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    assert road.stage.worker.tally.shadows_dropped == 1
    assert not road.stage.worker.pools.models["n"].waiting


@pytest.mark.parametrize(
    ("status", "refusal"),
    [(200, False), (204, False), (302, True), (400, False), (401, True), (422, False), (429, True), (500, True)],
)
def test_whom_a_status_is_about(status: int, refusal: bool) -> None:
    assert is_refusal(status) is refusal
