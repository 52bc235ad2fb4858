"""Copies of requests: when they are sent and when not, that the request never notices, and what their receipts say.

What usage and statements make of those receipts is told by `tests/contracts` and `tests/system/test_versions.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import TeamSpec
from slmgate.policy.split import ShadowSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import instance, model, reply, request

COPY = r'POST /v1/chat/completions | {"model":"n"}'
GO = r"""
    >> client  chat
    == intent  a
    << a       <chat>
    << b       POST /v1/chat/completions | {"model":"n"}
"""
SERVED = r"""
    >> a       200 <used>
    == 200     complete a 5+7
    << client  200 | <used>
"""


def shadowed(open_road: OpenRoad, second: Any = "b", other: dict[str, Any] | None = None, **shadow: Any) -> Road:
    """The model `m`, all of whose requests are copied to `n`."""
    share = shadow.pop("share", 1.0)
    spec = ShadowSpec(model="n", share=share, **shadow)
    return open_road(model("a", shadow=spec), model(second, name="n", hidden=True, **(other or {})))


def copies(road: Road) -> list[dict[str, Any]]:
    return [one for one in road.stage.receipts if one["verdict"] == "shadow"]


def dropped(road: Road) -> tuple[int, int]:
    tally = road.stage.worker.tally
    return tally.shadows, tally.shadows_dropped


def test_a_copy_beside_its_request(open_road: OpenRoad) -> None:
    """It goes out behind it, and its answer goes nowhere."""
    road = shadowed(open_road)
    road.plays(GO)
    road.plays(SERVED)
    road.plays(r"""
        >> b       200 <used>
        == 200     complete b 5+7
    """)
    first, copy = road.stage.receipts
    assert (copy["verdict"], copy["model"], copy["instance"], copy["attempts"]) == ("shadow", "n", "b", 1)
    assert copy["parameters"] == f"shadow={first['id']}"
    assert copy["request_id"] == copy["id"] != first["id"]
    assert {copy[name] == first[name] for name in ("principal", "key", "team", "roles", "rule", "path", "address")} == {True}
    assert (copy["plan"], copy["price"], copy["cost"]) == ("", "", 0)
    assert dropped(road) == (1, 0) and road.stage.worker.tally.requests == 1


def test_a_stream(open_road: OpenRoad) -> None:
    road = shadowed(open_road)
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        << b       POST /v1/chat/completions | {"stream_options":{"include_usage":true},"model":"n","stream":true}
        >> b       events
        >> b       chunk <x>
        >> b       chunk <x>
        >> client  leaves
        << a       aborted
        == 499     client_left a !client_left 8+0~
        >> b       chunk <done>
        >> b       end
        == 200     complete b 8+2~
    """)
    assert copies(road)[0]["stream"] is True


def test_a_stream_that_says_its_end_and_not_the_answers(open_road: OpenRoad) -> None:
    road = shadowed(open_road)
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        << b       POST /v1/chat/completions | {"stream_options":{"include_usage":true},"model":"n","stream":true}
        >> b       events
        >> b       chunk <x>
        >> b       chunk <done>
        >> clock   0.5
        << b       aborted
        == 200     complete b 8+1~
    """)


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        ("b 500 {}", "== 500 upstream_error b !upstream_error"),
        (r'b 200 {"error": {"message": "no"}}', "== 500 upstream_error b !upstream_error"),
        ("b 503 {}", "== 503 upstream_error b !upstream_error"),
        ("b 400 {}", "== 400 complete b"),
        ("b leaves", "== 502 upstream_error b !upstream_error 4+0~"),
    ],
)
def test_a_copy_that_fails_costs_nobody_anything(open_road: OpenRoad, deed: str, seen: str) -> None:
    road = shadowed(open_road)
    road.plays(GO)
    road.plays(f">> {deed}\n{seen}\n")
    road.plays(SERVED)
    assert road.stage.loop.knocks == ["a", "b"], "it was tried again"


def test_an_answer_that_breaks_off(open_road: OpenRoad) -> None:
    road = shadowed(open_road)
    road.plays(GO)
    road.plays(r"""
        >> b       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{
        >> b       ends
        << b       closed
        == 200     upstream_error b !upstream_error 4+1~
    """)
    road.plays(SERVED)


def test_an_answer_that_ends_with_its_connection(open_road: OpenRoad) -> None:
    """Whole if its JSON is, whether it says its figures or not."""
    road = shadowed(open_road)
    road.plays(GO)
    road.plays(r"""
        >> b       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"a":1}
        >> b       ends
        << b       closed
        == 200     complete b 4+2~
    """)
    road.plays(SERVED)


def test_a_completion_that_is_said_without_its_prompt(open_road: OpenRoad) -> None:
    road = shadowed(open_road)
    body = rb'{"generated_text":"x","details":{"generated_tokens":3}}'
    stage = road.stage
    client = stage.connect()
    client.feed(request({"model": "m", "inputs": "hi"}, line=b"POST /generate HTTP/1.1"))
    stage.loop.settle()
    for one in ("a", "b"):
        stage.loop.opened[one][0].feed(reply(body))
    stage.loop.settle()
    assert [(one["completion_tokens"], one["estimated"]) for one in road.stage.receipts] == [(3, True)] * 2


def test_nobody_there(open_road: OpenRoad) -> None:
    """Once that is known, copies are dropped."""
    road = shadowed(open_road)
    road.plays(r"""
        >> door    b refuses
        >> client  chat
        == intent  a
        == 502     upstream_error b !upstream_error
        << a       <chat>
    """)
    road.plays(SERVED)
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    road.plays(SERVED)
    assert dropped(road) == (1, 1)


def test_silence(open_road: OpenRoad) -> None:
    """Its model's time limits hold, and its own for all of it."""
    road = shadowed(open_road, other={"first_byte_timeout": 1.0, "idle_timeout": 2.0}, timeout=5.0)
    road.plays(GO)
    road.plays(r"""
        >> clock   1.25
        << b       aborted
        == 504     upstream_timeout b !upstream_timeout 4+0~
    """)
    road.plays(SERVED)
    assert road.stage.worker.pools.models["n"].instances[0].health.failures == 1
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        << b2      POST /v1/chat/completions | {"stream_options":{"include_usage":true},"model":"n","stream":true}
        >> b2      events
        >> clock   1.5
        >> b2      chunk <x>
        >> clock   1.5
        >> b2      chunk <x>
        >> clock   1.5
        >> b2      chunk <x>
        >> clock   0.75
        << b2      aborted
        == 200     upstream_timeout b !upstream_timeout 8+3~
        >> client  leaves
        << a       aborted
        == 499     client_left a !client_left 8+0~
    """)
    assert road.stage.worker.pools.models["n"].instances[0].health.failures == 1, "its own time is not the instance's fault"


def test_a_kept_connection_that_was_being_closed(open_road: OpenRoad) -> None:
    road = shadowed(open_road)
    road.plays(GO)
    road.plays(SERVED)
    road.plays(r"""
        >> b       200 <used>
        == 200     complete b 5+7
        >> client  chat
        == intent  a
        << a       <chat>
        << b       POST /v1/chat/completions | {"model":"n"}
        >> b       leaves
        << b2      POST /v1/chat/completions | {"model":"n"}
        >> b2      200 <used>
        == 200     complete b 5+7
    """)
    road.plays(SERVED)


# --- bounds


def test_no_more_than_so_many_at_once(open_road: OpenRoad) -> None:
    road = shadowed(open_road, in_flight=1)
    road.plays(GO)
    road.plays(r"""
        >> client2  chat
        == intent   a
        << a2       <chat>
        >> b        200 <used>
        == 200      complete b 5+7
        >> client3  chat
        == intent   a
        << b        POST /v1/chat/completions | {"model":"n"}
        << a3       <chat>
    """)
    assert dropped(road) == (1, 1)
    assert repr(road.stage.worker.shadows) == "<Shadows 1>"


@pytest.mark.parametrize("second", [instance("b", max_in_flight=0), instance("b", draining=True)])
def test_no_instance_has_room(open_road: OpenRoad, second: Any) -> None:
    """It is not put in line, where it would stand before those who want an answer."""
    road = shadowed(open_road, second=second)
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    road.plays(SERVED)
    assert dropped(road) == (0, 1)
    assert repr(road.stage.worker.shadows) == "<Shadows 0>"


def test_a_body_that_is_too_large_and_a_model_that_is_gone(open_road: OpenRoad) -> None:
    road = shadowed(open_road, max_body=10)
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    road.plays(SERVED)
    assert dropped(road) == (0, 1)
    road.stage.publish(model("a", shadow=ShadowSpec(model="n", share=1.0)))
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    road.plays(SERVED)
    assert dropped(road) == (0, 2)


def test_only_a_share_and_none_after_a_reload(open_road: OpenRoad) -> None:
    road = shadowed(open_road, share=0.0)
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    road.plays(SERVED)
    assert dropped(road) == (0, 0)


def test_a_refused_request_is_not_copied_nor_is_a_copy_counted(open_road: OpenRoad) -> None:
    road = shadowed(open_road)
    limit = LimitSpec(name="two", text="2 requests", identity="two", unit="requests", amount=2, seconds=60, per=("principal",))
    plan = PlanSpec(name="gold", currency="EUR", prices=(("*", Price(1, 2)),))
    road.stage.publish(limits=(limit,), teams=(TeamSpec(name="acme", plan="gold"),), plans=(plan,))
    loop = road.stage.loop
    for _ in range(3):
        client = road.stage.connect()
        client.feed(request({"model": "m"}))
        loop.settle()
        for end in [*loop.opened.get("a", []), *loop.opened.get("b", [])]:
            if getattr(end.protocol, "exchange", None) is not None:
                end.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
        loop.settle()
        client.lose()
    assert [one["status"] for one in road.stage.receipts if one["verdict"] != "shadow"] == [200, 200, 429]
    assert [(one["price"], one["cost"]) for one in copies(road)] == [("", 0)] * 2


def test_the_gate_stops(open_road: OpenRoad) -> None:
    """It does not wait for copies."""
    road = shadowed(open_road)
    road.plays(GO)
    road.plays(r"""
        >> gate    drains
        << b       aborted
        == 503     gate_stopped b !overloaded 4+0~
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 connection: close | <used>
        << client  closed
    """)


def test_a_reload_under_a_copy(open_road: OpenRoad) -> None:
    """What it waits for goes: it ends where it is."""
    road = shadowed(open_road)
    road.plays(GO)
    road.stage.publish(model("a"))
    road.plays(r"""
        >> b       200 <used>
        << b       aborted
        == 200     complete b 5+7
    """)
    road.plays(SERVED)


def test_a_fault_of_our_own(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = shadowed(open_road)

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of a test")

    monkeypatch.setattr("slmgate.dataplane.second.client_fields", broken)
    road.plays(r"""
        >> client  chat
        == intent  a
        << b       aborted
        == 500     gate_failed b !internal_error 4+0~
        << a       <chat>
    """)
    road.plays(SERVED)
    monkeypatch.setattr("slmgate.dataplane.shadow.Shadow.__init__", broken)
    road.plays(">> client chat\n== intent a\n<< a <chat>\n")
    road.plays(SERVED)
