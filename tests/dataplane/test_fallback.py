"""A model that cannot serve, and another that does: when, for whom, under whose rules and limits, and what is said of it.

What may be tried again within one model is told by `test_exchange.py` and `test_pool.py`.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from slmgate.policy.limits import LimitSpec
from slmgate.policy.roles import ParameterRule, RoleSpec
from slmgate.terms import Key
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import TEXTS, Road
from tests.tools.stage import KEY, instance, model, reply, request

OTHER = r'POST /v1/chat/completions | {"model":"n"}'
SERVED = "x-slmgate-model: n"


def pair(open_road: OpenRoad, first: Any = "a", second: Any = "b", **settings: Any) -> Road:
    """The model `m`, and `n` that stands in for it."""
    other = model(second, name="n", fallback=("m",), **settings.pop("other", {}))
    return open_road(model(first, fallback=("n",), **settings), other)


def told(road: Road, which: int = -1) -> tuple[Any, ...]:
    receipt = road.stage.receipts[which]
    return receipt["model"], receipt["parameters"], receipt["instance"], receipt["attempts"]


FALLEN = f"""
    >> client  chat
    == intent  b
    << b       {OTHER}
    >> b       200 <used>
    == 200     complete b 5+7
    << client  200 {SERVED} | <used>
"""


def test_when_it_cannot_be_reached(open_road: OpenRoad) -> None:
    road = pair(open_road)
    road.plays(">> door a refuses\n" + FALLEN)
    assert told(road) == ("n", "model=m", "b", 2)
    road.plays(FALLEN)
    assert road.stage.loop.knocks == ["a", "b"], "while it is passed over, nobody knocks there"
    assert told(road) == ("n", "model=m", "b", 1)
    road.plays(r"""
        >> door    a opens
        >> clock   1
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)
    assert told(road) == ("m", "", "a", 1)


def test_every_instance_is_tried_before(open_road: OpenRoad) -> None:
    road = open_road(model("a", "c", fallback=("n",)), model("b", name="n"))
    road.plays(">> door a refuses\n>> door c refuses\n" + FALLEN)
    assert road.stage.loop.knocks == ["a", "c", "b"]
    assert told(road)[3] == 3


def test_what_ties_a_request_is_what_the_other_says(open_road: OpenRoad) -> None:
    """A session stays with its instance, however it comes to the model."""
    names = [f"b{number}" for number in range(6)]
    other = model(*names, name="n", balance="consistent_hash", balance_by="header session")
    stage = open_road(model("a", "c", fallback=("n",), balance="consistent_hash"), other).stage
    stage.loop.doors |= {"a": "refuses", "c": "refuses"}
    served: dict[str, list[str]] = {}
    for which in ("n", "m"):
        client = stage.connect()
        for session in map(str, range(8)):
            client.feed(request({"model": which}, b"session: %b\r\n" % session.encode()))
            stage.loop.settle()
            ends = [one for name in names for one in stage.loop.opened.get(name, ())]
            (end,) = [one for one in ends if getattr(one.protocol, "exchange", None) is not None]
            end.feed(reply(b"{}"))
            served.setdefault(session, []).append(stage.receipts[-1]["instance"])
            stage.loop.turn(15)  # those that cannot be reached are tried again
        client.lose()
    assert all(direct == fallen for direct, fallen in served.values()), served


@pytest.mark.parametrize("answer", ["503 {}", "502 {}", "leaves", "429 {}"])
def test_when_it_refuses_or_dies_before_its_answer(open_road: OpenRoad, answer: str) -> None:
    """The intent of the model before is taken back, and another one written."""
    road = pair(open_road)
    road.plays(f"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       {answer}
        == intent  b
        << b       {OTHER}
        >> b       200 <used>
        == 200     complete b 5+7
        << client  200 {SERVED} | <used>
    """)
    assert told(road) == ("n", "model=m", "b", 2)


def test_not_for_what_is_not_worth_another_try(open_road: OpenRoad) -> None:
    pair(open_road).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       500 {}
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
        >> client  chat
        == intent  a
        << a       <chat>
        >> clock   121
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 4+0~
        << client  504 !upstream_timeout
    """)


def test_silence_where_it_is_worth_another_try(open_road: OpenRoad) -> None:
    pair(open_road, retry_on=("timeout",)).plays(rf"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> clock   120.25
        << a       aborted
        == intent  b
        << b       {OTHER}
        >> b       200 <used>
        == 200     complete b 5+7
        << client  200 {SERVED} | <used>
    """)


def test_never_after_the_first_byte(open_road: OpenRoad) -> None:
    pair(open_road).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 10\r\n\r\n01234
        << client  200 content-type: audio/mpeg content-length: 10 | 01234
        >> a       leaves
        == 200     upstream_error a !upstream_error 4+2~
        << client  closed
    """)


def test_when_the_line_is_full_or_takes_too_long(open_road: OpenRoad) -> None:
    road = pair(open_road, instance("a", max_in_flight=1), queue_waiting=1, queue_timeout=5.0)
    road.plays(rf"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
        >> client3  chat
        == intent   b
        << b        {OTHER}
        >> clock    5.25
        == intent   b
        << b2       {OTHER}
        >> b        200 {{}}
        == 200      complete b 4+1~
        << client3  200 {SERVED} | {{}}
        >> b2       200 {{}}
        == 200      complete b 4+1~
        << client2  200 {SERVED} | {{}}
        >> a        200 {{}}
        == 200      complete a 4+1~
        << client   200 | {{}}
    """)
    assert not road.stage.worker.pools.models["m"].waiting


def test_it_waits_in_the_line_of_the_other(open_road: OpenRoad) -> None:
    """And is refused there by that model's bounds; nobody goes on to the other's fallback, which would be a circle."""
    road = pair(open_road, second=instance("b", max_in_flight=1), other={"queue_timeout": 2.0})
    road.plays(rf"""
        >> door     a refuses
        >> client   chat
        == intent   b
        << b        {OTHER}
        >> client2  chat
        >> client3  chat
        >> clock    1
        >> client3  leaves
        == 499      client_left !client_left
        >> clock    1.25
        == 503      refused !overloaded
        << client2  503 !overloaded retry-after: 2
        >> b        200 {{}}
        == 200      complete b 4+1~
        << client   200 {SERVED} | {{}}
    """)
    assert [one["instance"] for one in road.stage.receipts] == ["", "", "b"]


def test_all_of_them_gone(open_road: OpenRoad) -> None:
    """The last one's fault is told, once; who comes while both are passed over tries its own model."""
    road = pair(open_road)
    road.plays(r"""
        >> door    a refuses
        >> door    b refuses
        >> client  chat
        == 502     upstream_error b !upstream_error
        << client  502 !upstream_error
        >> client  chat
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """)
    assert [told(road, 0), told(road, 1)] == [("n", "model=m", "b", 2), ("m", "", "a", 1)]


def test_several_in_their_order(open_road: OpenRoad) -> None:
    """Those that are gone from the configuration, passed over or full are left out."""
    full = model(instance("c", max_in_flight=0), name="full", queue_waiting=0)
    road = open_road(model("a", fallback=("gone", "full", "n")), full, model("b", name="n"))
    road.plays(">> door a refuses\n" + FALLEN)


def test_a_stream_and_the_instances_own_name(open_road: OpenRoad) -> None:
    road = pair(open_road, second=instance("b", upstream_model="Big/N"))
    road.plays(rf"""
        >> door    a refuses
        >> client  stream
        == intent  b
        << b       POST /v1/chat/completions | {{"stream_options":{{"include_usage":true}},"model":"Big/N","stream":true}}
        >> b       events
        >> b       chunk <x>
        << client  200 content-type: text/event-stream transfer-encoding: chunked {SERVED} | 2f\r\n<x>\r\n
        >> b       chunk <done>
        >> b       end
        == 200     complete b 8+1~
        << client  e\r\n<done>\r\n0\r\n\r\n
    """)


# --- permission

ROLES = (
    RoleSpec(name="all", models=("*",)),
    RoleSpec(name="first", models=("m",)),
    RoleSpec(name="chatting", models=("n",), endpoints=("embeddings",)),
    RoleSpec(name="short", models=("n",), parameters=(ParameterRule(name="max_tokens", max=5),)),
    RoleSpec(name="never", models=("*",), deny_models=("n",)),
)


def key(*roles: str) -> Key:
    return Key(id="k1", name="acme-bot", team="acme", digests=KEY.digests, roles=roles)


@pytest.mark.parametrize("roles", [("first",), ("first", "chatting"), ("all", "never"), ("never",)])
def test_who_may_not_use_the_other_is_told_the_fault(open_road: OpenRoad, roles: tuple[str, ...]) -> None:
    road = pair(open_road)
    road.stage.publish(roles=ROLES, keys=(key(*roles),))
    road.plays(r"""
        >> door    a refuses
        >> client  chat
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """)
    assert road.stage.loop.knocks == ["a"]
    assert road.stage.receipts[0]["rule"] == f"roles.{roles[0]}"


def test_its_rules_on_parameters_hold(open_road: OpenRoad) -> None:
    """What the model before set is not sent, what the other sets is; and who asks for too much of it is told the fault."""
    first = (ParameterRule(name="temperature", default=0.5),)
    road = pair(open_road, parameters=first)
    road.stage.publish(roles=ROLES, keys=(key("first", "short"),))
    road.plays(
        rf"""
        >> door    a refuses
        >> client  chat
        == intent  b
        << b       POST /v1/chat/completions | {{"model":"n","max_tokens":5}}
        >> b       200 {{}}
        == 200     complete b 4+1~
        << client  200 {SERVED} | {{}}
        >> clock   5
        >> client  long
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
        """,
        long=request({"model": "m", "max_tokens": 6}),
    )
    assert [one["rule"] for one in road.stage.receipts] == ["roles.short", "roles.first"]


def test_a_role_that_changes_while_it_stands_in_the_line_of_the_other(open_road: OpenRoad) -> None:
    road = pair(open_road, second=instance("b", max_in_flight=1))
    road.stage.publish(roles=ROLES, keys=(key("all"),))
    road.plays(rf"""
        >> door     a refuses
        >> client   chat
        == intent   b
        << b        {OTHER}
        >> client2  chat
    """)
    road.stage.publish(roles=(RoleSpec(name="all", models=("m",)),), keys=(key("all"),))
    road.plays(rf"""
        >> b        200 {{}}
        == 404      refused b !model_not_found
        == 200      complete b 4+1~
        << client2  404 !model_not_found
        << client   200 {SERVED} | {{}}
    """)


# --- limits


def limit(name: str, amount: int, per: tuple[Any, ...] = ("model",), unit: Any = "requests") -> LimitSpec:
    return LimitSpec(name=name, text=f"{amount} {unit}", identity=name, unit=unit, amount=amount, seconds=60, per=per)


def counted(open_road: OpenRoad, *limits: LimitSpec) -> Road:
    road = pair(open_road)
    road.stage.publish(limits=limits)
    road.stage.loop.doors["a"] = "refuses"
    return road


def chats(road: Road, count: int) -> list[tuple[int, str, str]]:
    """So many requests, each answered by `b` if it gets there: status, model and reason of their receipts."""
    for _ in range(count):
        client = road.stage.connect()
        client.feed(request({"model": "m"}))
        road.stage.loop.settle()
        for end in road.stage.loop.opened.get("b", []):
            if not end.closing and getattr(end.protocol, "exchange", None) is not None:
                end.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
        road.stage.loop.settle()
        client.lose()
    return [(one["status"], one["model"], one["reason"]) for one in road.stage.receipts]


def test_the_limits_of_the_one_that_serves_are_used(open_road: OpenRoad) -> None:
    """One request each minute of each model: that of the first is untouched, that of the second is used up."""
    road = counted(open_road, limit("one", 1))
    assert chats(road, 2) == [(200, "n", ""), (502, "m", "upstream_error")]
    road.stage.loop.doors["a"] = "opens"
    road.plays(r"""
        >> clock   1
        >> client  chat
        == intent  a
        << a       <chat>
        >> client  leaves
        << a       aborted
        == 499     client_left a !client_left 4+0~
    """)
    assert told(road) == ("m", "", "a", 1), "the first model's own limit had not been used"


@pytest.mark.parametrize("unit", ["requests", "concurrent"])
def test_a_limit_of_both_is_used_once(open_road: OpenRoad, unit: str) -> None:
    road = counted(open_road, limit("both", 3 if unit == "requests" else 1, per=("principal",), unit=unit))
    assert chats(road, 3) == [(200, "n", "")] * 3


def test_what_it_came_to_is_charged_when_nobody_serves(open_road: OpenRoad) -> None:
    """The first model's instance was asked and came to nothing, the other has no room: nobody gets its work for nothing."""
    units: dict[Any, int] = {"requests": 1, "prompt_tokens": 4, "tokens": 4, "engine_time": 120_000_000}
    own = [limit(unit, 10**9, per=("principal",), unit=unit) for unit in units]
    road = pair(open_road, retry_on=("timeout",), other={"limits": (limit("full", 0, per=()),)})
    road.stage.publish(limits=tuple(own))
    road.stage.connect().feed(request({"model": "m"}))
    road.stage.loop.turn(121)
    (receipt,) = road.stage.receipts
    assert (receipt["reason"], receipt["instance"], receipt["prompt_tokens"]) == ("upstream_timeout", "a", 4)
    worker = road.stage.worker
    account = worker.limiter.account(worker.snapshot.charges, KEY, "m", "", "")
    found = worker.limiter.look(account.spots, time.time())
    assert found is not None
    assert {unit: used for unit, (used, _) in zip(units, found, strict=True)} == units


def test_the_other_has_no_place_in_line_and_nothing_stays_taken(open_road: OpenRoad) -> None:
    road = open_road(model("a", fallback=("n",)), model(instance("b", max_in_flight=0), name="n", queue_waiting=0))
    road.stage.publish(limits=(limit("both", 1, per=("principal",), unit="concurrent"),))
    road.stage.loop.doors["a"] = "refuses"
    assert chats(road, 3) == [(502, "m", "upstream_error")] * 3


# --- with other features


def test_an_answer_that_is_kept_says_it_again(open_road: OpenRoad) -> None:
    road = pair(open_road)
    road.plays(
        rf"""
        >> door    a refuses
        >> client  keyed
        == intent  b
        << b       {OTHER}
        >> b       200 {{}}
        == 200     complete b 4+1~
        << client  200 {SERVED} | {{}}
        >> client  keyed
        == 200     complete !replayed
        << client  200 idempotent-replayed: true {SERVED} | {{}}
        """,
        keyed=request({"model": "m"}, b"Idempotency-Key: k\r\n"),
    )


def test_the_clients_deadline_holds_for_all_of_it(open_road: OpenRoad) -> None:
    pair(open_road, connect_timeout=1.0, other={"total_timeout": 1.0}).plays(
        rf"""
        >> door    a hangs
        >> client  bounded
        >> clock   1.25
        == intent  b
        << b       {OTHER}
        >> clock   0.75
        << b       aborted
        == 504     upstream_timeout b !upstream_timeout 4+0~
        << client  504 !upstream_timeout {SERVED}
        """,
        bounded=request({"model": "m"}, b"X-Request-Timeout: 2\r\n"),
    )


def test_time_lost_with_the_other_model_is_not_the_gates(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1), queue_timeout=5.0, fallback=("n",)), model(instance("b"), name="n"))
    for who in ("client", "client2"):
        road.end_of(who).feed(TEXTS["chat"])
        road.stage.loop.settle()
    road.stage.loop.turn(6)
    road.end_of("b").feed(reply(b"{}"))
    (receipt,) = road.stage.receipts
    assert receipt["model"] == "n" and receipt["queue_us"] >= 5_000_000 and receipt["overhead_us"] < 1_000_000
