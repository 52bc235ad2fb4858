"""Instances and their connections on fakes: back-off, idle connections, reloads that keep counts, who is served next.

Which instance is chosen is `policy/balance.py`'s; a whole request's way is `test_exchange.py`'s.
"""

from __future__ import annotations

import ssl

import pytest

from slmgate.dataplane.pool import FIRST_BACK_OFF, IDLE_SECONDS, LONGEST_BACK_OFF, Instance, ModelPool
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import Stage, instance, model, reply, request

CHAT = request({"model": "m"})


def pool(road: Road) -> ModelPool:
    return road.stage.worker.pools.models["m"]


def first(road: Road) -> Instance:
    return pool(road).instances[0]


def serve(stage: Stage, host: str = "a") -> None:
    """One request, answered by whoever gets it."""
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    stage.loop.opened[host][-1].feed(reply(b"{}"))
    client.lose()
    stage.loop.settle()


def test_back_off_doubles_up_to_its_bound(road: Road) -> None:
    road.stage.loop.doors["a"] = "refuses"
    waits = []
    for _ in range(7):
        road.stage.connect().feed(CHAT)
        road.stage.loop.settle()
        waits.append(first(road).down_until - road.stage.clock.passed)
    assert waits == [FIRST_BACK_OFF, 1.0, 2.0, 4.0, 8.0, LONGEST_BACK_OFF, LONGEST_BACK_OFF]
    assert not pool(road).ready(road.stage.clock.passed)
    road.stage.loop.doors["a"] = "opens"
    serve(road.stage)
    assert first(road).down_until == 0.0
    road.stage.loop.opened["a"][0].lose()
    road.stage.loop.doors["a"] = "refuses"
    road.stage.connect().feed(CHAT)
    road.stage.loop.settle()
    assert first(road).down_until - road.stage.clock.passed == FIRST_BACK_OFF


def test_who_comes_back_is_not_flooded_to_catch_up(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    road.stage.loop.doors["a"] = "refuses"
    for _ in range(6):
        serve(road.stage, "b")
    a, b = pool(road).instances
    assert a.served < b.served
    road.stage.loop.doors["a"] = "opens"
    road.stage.loop.turn(20)
    serve(road.stage, "a")
    assert a.served == b.served


def test_the_warmest_connection_is_used_and_the_oldest_ages_out(road: Road) -> None:
    stage = road.stage
    clients = [stage.connect() for _ in range(2)]
    for client in clients:
        client.feed(CHAT)
    stage.loop.settle()
    one, two = stage.loop.opened["a"]
    one.feed(reply(b"{}"))
    stage.loop.turn(30)
    two.feed(reply(b"{}"))
    assert repr(first(road)) == "<Instance a: 0 busy, 2 idle>"
    stage.loop.turn(20)
    clients[0].feed(CHAT)
    stage.loop.settle()
    two.feed(reply(b"{}"))
    stage.loop.turn(IDLE_SECONDS - 50 + 2)
    assert (one.lost, two.lost) == (True, False)
    stage.loop.turn(IDLE_SECONDS)
    assert two.lost
    assert repr(first(road)) == "<Instance a: 0 busy, 0 idle>"


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_idle_connections_are_bounded(road: Road, monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    monkeypatch.setattr("slmgate.dataplane.pool.IDLE_CONNECTIONS", bound)
    stage = road.stage
    for _ in range(bound + 1):
        stage.connect().feed(CHAT)
    stage.loop.settle()
    for connection in stage.loop.opened["a"]:
        connection.feed(reply(b"{}"))
    stage.loop.settle()
    assert len(first(road).idle) == bound
    assert [connection.lost for connection in stage.loop.opened["a"]] == [False] * bound + [True]


def test_a_closing_connection_is_passed_over(road: Road) -> None:
    serve(road.stage)
    road.stage.loop.opened["a"][0].closing = True  # closed, but our side has yet to be told
    serve(road.stage)
    assert len(road.stage.loop.opened["a"]) == 2


def test_a_reload_keeps_what_is_known(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    serve(road.stage, "a")
    serve(road.stage, "b")
    a, b = pool(road).instances
    road.stage.publish(model(instance("b", weight=5, max_in_flight=3, bearer="new"), "c"))
    assert pool(road).instances[0] is b
    assert (b.weight, b.max_in_flight, b.fields) == (5, 3, b"host: b\r\nauthorization: Bearer new\r\n")
    assert len(b.idle) == 1
    assert pool(road).instances[1].served == b.served, "a newcomer starts where the others are"
    assert repr(a) == "<Instance a: 0 busy, 0 idle, removed>"
    assert road.stage.loop.opened["a"][0].lost
    assert repr(pool(road)) == "<ModelPool m: [<Instance b: 0 busy, 1 idle>, <Instance c: 0 busy, 0 idle>], 0 waiting>"


def test_a_removed_instance_ends_what_it_does(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"))
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
    """)
    road.played = []
    road.stage.publish(model("b"))
    road.plays(r"""
        >> a       200 {}
        << a       aborted
        == 200     complete a 4+1~
        << client  200 | {}
    """)


def test_more_room_by_a_reload_serves_those_who_wait(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    for number in range(3):
        road.stage.connect(f"client{number}").feed(CHAT)
    road.stage.loop.settle()
    assert (first(road).busy, len(pool(road).waiting)) == (1, 2)
    road.stage.publish(model(instance("a", max_in_flight=3)))
    assert (first(road).busy, len(pool(road).waiting)) == (3, 0)


def test_a_model_without_instances(open_road: OpenRoad) -> None:
    road = open_road()
    road.stage.publish(model("a").__class__(name="m", instances=()))
    road.plays(r"""
        >> client  chat
        == 503     refused !overloaded
        << client  503 !overloaded retry-after: 1
    """)


def test_who_cannot_be_served_does_not_keep_the_others_waiting(open_road: OpenRoad) -> None:
    """First in line is one that has tried `a` and waits for `b`; `a` has room for the one behind."""
    road = open_road(model("a", instance("b", max_in_flight=1), retry_on=("502",)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
        == intent   b
        << b        <chat>
        >> a        502 {}
        >> client3  chat
        == intent   a
        << a        <chat>
        >> a        200 {}
        == 200      complete a 4+1~
        << client3  200 | {}
        >> b        200 {}
        == 200      complete b 4+1~
        << b        <chat>
        << client2  200 | {}
        >> b        200 {}
        == 200      complete b 4+1~
        << client   200 | {}
    """)


def test_a_failed_connection_serves_who_waits(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1), attempts=1))
    road.plays(r"""
        >> door     a hangs
        >> client   chat
        >> client2  chat
        >> door     a refuses
        >> clock    0.25
        == 502      upstream_error a !upstream_error
        << client   502 !upstream_error
        == 502      upstream_error a !upstream_error
        << client2  502 !upstream_error
    """)


def test_tls_to_an_instance(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", tls=True)))
    context = first(road)._context
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    serve(road.stage)


def test_every_instance_is_visited(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b"), model("c", name="n"))
    seen: list[str] = []
    road.stage.worker.pools.each_instance(lambda one: seen.append(one.spec.id))
    assert seen == ["a", "b", "c"]
