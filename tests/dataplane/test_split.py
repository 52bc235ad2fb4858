"""Another version of a model serves some of its requests: which, by whose permission, limits and price, and what is said of it.

How shares come about is told by `tests/policy/test_split.py`, fallbacks by `test_fallback.py`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import ParameterRule, RoleSpec, TeamSpec
from slmgate.policy.split import CanarySpec
from slmgate.terms import Key
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import KEY, instance, model, request

OTHER = r'POST /v1/chat/completions | {"model":"n"}'
SERVED = "x-slmgate-model: n"
ALL = {"share": 1.0}
BY_VERSION = f"""
    >> client  chat
    == intent  b
    << b       {OTHER}
    >> b       200 <used>
    == 200     complete b 5+7
    << client  200 {SERVED} | <used>
"""
BY_ITSELF = r"""
    >> client  chat
    == intent  a
    << a       <chat>
    >> a       200 <used>
    == 200     complete a 5+7
    << client  200 | <used>
"""


def canary(**settings: Any) -> CanarySpec:
    lists = {name: frozenset(value) for name, value in settings.items() if isinstance(value, set)}
    return CanarySpec(model="n", **(settings | lists))


def pair(open_road: OpenRoad, first: Any = "a", second: Any = "b", other: dict[str, Any] | None = None, **settings: Any) -> Road:
    """The model `m`, and `n`, a hidden version of it."""
    spec = settings.pop("canary", canary(**ALL))
    return open_road(model(first, canary=spec, **settings), model(second, name="n", hidden=True, **(other or {})))


def told(road: Road, which: int = -1) -> tuple[Any, ...]:
    receipt = road.stage.receipts[which]
    return receipt["model"], receipt["parameters"], receipt["instance"], receipt["attempts"]


def served(road: Road, count: int, **sent: Any) -> list[str]:
    """So many requests by one client, one after the other, each answered: the instances that they went to."""
    client, loop = road.stage.connect(), road.stage.loop
    for _ in range(count):
        client.feed(request({"model": "m"}, **sent))
        loop.settle()
        for ends in loop.opened.values():
            for end in ends:
                if not end.closing and getattr(end.protocol, "exchange", None) is not None:
                    end.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
        loop.settle()
    client.lose()
    return [one["instance"] for one in road.stage.receipts[-count:]]


def test_who_is_sent_to_it_and_what_is_said(open_road: OpenRoad) -> None:
    road = pair(open_road)
    road.plays(BY_VERSION)
    assert told(road) == ("n", "canary=m", "b", 1)
    road.plays(
        rf"""
        >> client  long
        == intent  b
        << b       POST /v1/chat/completions | {{"model":"n","max_tokens":5}}
        >> b       200 {{}}
        == 200     complete b 8+1~
        << client  200 {SERVED} | {{}}
        """,
        long=request({"model": "m", "max_tokens": 5}),
    )
    assert told(road)[1] == "canary=m max_tokens=5"


def test_none_of_the_share(open_road: OpenRoad) -> None:
    road = pair(open_road, canary=canary())
    road.plays(BY_ITSELF)
    assert told(road) == ("m", "", "a", 1)


def test_a_share_of_the_requests(open_road: OpenRoad) -> None:
    road = pair(open_road, canary=canary(share=0.3, by="request"))
    assert served(road, 100).count("b") in (29, 30, 31)
    road.stage.publish(model("a", canary=canary(share=0.0, by="request")), model("b", name="n"))
    assert served(road, 20).count("b") == 0
    road.stage.publish(model("a", canary=canary(share=1.0, by="request")), model("b", name="n"))
    assert served(road, 20).count("b") == 20


def test_a_share_of_the_callers(open_road: OpenRoad) -> None:
    """Each stays where it is, and who was of a share is of a larger one."""
    road = pair(open_road, canary=canary(share=0.3))
    secrets = [b"sk-slm-unit-caller-%04d" % number for number in range(40)]
    keys = tuple(Key(id=f"k{i}", name=f"n{i}", digests=((sha256(one).digest(), None),)) for i, one in enumerate(secrets))
    road.stage.publish(keys=keys)
    before = [set(served(road, 3, key=one)) for one in secrets]
    assert {len(each) for each in before} == {1}
    assert 5 <= before.count({"b"}) <= 20
    road.stage.publish(model("a", canary=canary(share=0.6)), model("b", name="n"), keys=keys)
    after = [set(served(road, 1, key=one)) for one in secrets]
    assert after.count({"b"}) > before.count({"b"})
    assert all(now == {"b"} for was, now in zip(before, after, strict=True) if was == {"b"})


def test_a_share_of_conversations(open_road: OpenRoad) -> None:
    road = pair(open_road, canary=canary(share=0.5, by="header X-Session"))
    sessions = [set(served(road, 2, fields=b"x-session: s%d\r\n" % number)) for number in range(40)]
    assert {len(each) for each in sessions} == {1}
    assert 10 <= sessions.count({"b"}) <= 30
    assert len(set(served(road, 5))) == 1, "who names none goes by who it is"


@pytest.mark.parametrize(
    ("named", "expected"),
    [({"principals": {"acme-bot"}}, "b"), ({"teams": {"acme"}}, "b"), ({"roles": {"tester"}}, "b"), ({"roles": {"x"}}, "a")],
)
def test_who_is_named(open_road: OpenRoad, named: dict[str, set[str]], expected: str) -> None:
    road = pair(open_road, canary=canary(**named))
    tester = Key(id="k1", name="acme-bot", team="acme", digests=KEY.digests, roles=("all", "tester"))
    road.stage.publish(roles=(RoleSpec(name="all", models=("*",)), RoleSpec(name="tester", models=("x",))), keys=(tester,))
    assert served(road, 1) == [expected]


def test_nobody_may_ask_for_a_hidden_one(open_road: OpenRoad) -> None:
    road = pair(open_road)
    road.plays(
        r"""
        >> client  itself
        == 404     refused !model_not_found
        << client  404 !model_not_found
        """,
        itself=request({"model": "n"}),
    )
    client = road.stage.connect("lister")
    seen: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: seen.append(data)
    client.feed(request(line=b"GET /v1/models HTTP/1.1"))
    road.stage.loop.settle()
    assert b'"id":"m"' in seen[0] and b'"id":"n"' not in seen[0]


# --- permission, limits and price are those of the model that was asked for

LIMITS = (LimitSpec(name="one", text="1 request", identity="one", unit="requests", amount=1, seconds=60, per=("model",)),)


def test_permission_and_rules_on_parameters(open_road: OpenRoad) -> None:
    rules = (ParameterRule(name="max_tokens", max=5),)
    road = pair(open_road, parameters=rules, other={"parameters": (ParameterRule(name="max_tokens", deny=True),)})
    road.stage.publish(roles=(RoleSpec(name="own", models=("m",), deny_models=("n",)),), keys=(_with("own"),))
    road.plays(rf"""
        >> client  chat
        == intent  b
        << b       POST /v1/chat/completions | {{"model":"n","max_tokens":5}}
        >> b       200 {{}}
        == 200     complete b 4+1~
        << client  200 {SERVED} | {{}}
    """)
    assert road.stage.receipts[0]["rule"] == "roles.own"


def _with(*roles: str) -> Key:
    return Key(id="k1", name="acme-bot", team="acme", digests=KEY.digests, roles=roles)


def test_limits_of_both_versions_are_one(open_road: OpenRoad) -> None:
    road = pair(open_road, canary=canary(share=0.5, by="request"))
    road.stage.publish(limits=LIMITS)
    assert served(road, 2) == ["a", ""]
    assert road.stage.receipts[-1]["reason"] == "rate_limit_exceeded"
    assert told(road) == ("m", "", "", 0), "the version had no room either"


def test_the_price_is_that_of_what_was_asked_for(open_road: OpenRoad) -> None:
    """Though the same head comes for either on one connection."""
    road = open_road(model("a", canary=canary(share=0.5, by="request")), model("b", name="n"))
    plan = PlanSpec(name="gold", currency="EUR", prices=(("m", Price(1, 2)), ("n", Price(100, 200))))
    road.stage.publish(teams=(TeamSpec(name="acme", plan="gold"),), plans=(plan,))
    client, loop = road.stage.connect(), road.stage.loop
    for name in ("m", "m", "n", "m", "m", "n", "m", "n", "n", "m", "m", "m"):
        client.feed(request({"model": name}))
        loop.settle()
        for end in [*loop.opened.get("a", []), *loop.opened.get("b", [])]:
            if getattr(end.protocol, "exchange", None) is not None:
                end.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
        loop.settle()
    seen = {(one["model"], one["parameters"], one["price"]) for one in road.stage.receipts}
    assert seen == {("m", "", "EUR 1 2"), ("n", "canary=m", "EUR 1 2"), ("n", "", "EUR 100 200")}
    assert all(one["cost"] for one in road.stage.receipts)


# --- a version that cannot serve

FALLEN = r"""
    >> client  chat
    == intent  a
    << a       <chat>
    >> a       200 <used>
    == 200     complete a 5+7
    << client  200 | <used>
"""


def test_one_that_cannot_be_reached(open_road: OpenRoad) -> None:
    """Its model serves, under its own name, and while the version is passed over nobody knocks there."""
    road = pair(open_road)
    road.plays(">> door b refuses\n" + FALLEN)
    assert told(road) == ("m", "", "a", 2)
    road.plays(FALLEN)
    assert told(road) == ("m", "", "a", 1)
    assert road.stage.loop.knocks == ["b", "a"]
    road.plays(">> door b opens\n>> clock 1\n" + BY_VERSION)


@pytest.mark.parametrize("answer", ["503 {}", "leaves"])
def test_one_that_fails_before_its_answer(open_road: OpenRoad, answer: str) -> None:
    road = pair(open_road)
    road.plays(rf"""
        >> client  chat
        == intent  b
        << b       {OTHER}
        >> b       {answer}
        == intent  a
        << a       <chat>
        >> a       200 {{}}
        == 200     complete a 4+1~
        << client  200 | {{}}
    """)
    assert told(road) == ("m", "", "a", 2)


def test_one_that_is_drained_or_gone(open_road: OpenRoad) -> None:
    road = pair(open_road, second=instance("b", draining=True))
    road.plays(BY_ITSELF)
    road.stage.publish(model("a", canary=canary(**ALL)))
    road.plays(BY_ITSELF)


def test_both_fail_and_a_fallback_serves(open_road: OpenRoad) -> None:
    road = open_road(model("a", canary=canary(**ALL), fallback=("f",)), model("b", name="n"), model("c", name="f"))
    road.plays(r"""
        >> door    a refuses
        >> door    b refuses
        >> client  chat
        == intent  c
        << c       POST /v1/chat/completions | {"model":"f"}
        >> c       200 {}
        == 200     complete c 4+1~
        << client  200 x-slmgate-model: f | {}
    """)
    assert told(road) == ("f", "model=m", "c", 3)


def test_its_line_is_full(open_road: OpenRoad) -> None:
    road = pair(open_road, second=instance("b", max_in_flight=1), other={"queue_waiting": 0})
    road.plays(rf"""
        >> client   chat
        == intent   b
        << b        {OTHER}
        >> client2  chat
        == intent   a
        << a        <chat>
        >> a        200 {{}}
        == 200      complete a 4+1~
        << client2  200 | {{}}
        >> b        200 {{}}
        == 200      complete b 4+1~
        << client   200 {SERVED} | {{}}
    """)


def test_a_reload_while_it_stands_in_the_line_of_the_version(open_road: OpenRoad) -> None:
    """The version goes, and with it its line: its model serves instead."""
    road = pair(open_road, second=instance("b", max_in_flight=1))
    road.plays(rf"""
        >> client   chat
        == intent   b
        << b        {OTHER}
        >> client2  chat
    """)
    road.stage.publish(model("a", canary=canary(**ALL)))
    loop = road.stage.loop
    loop.settle()
    for name in ("a", "b"):
        loop.opened[name][0].feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
    loop.settle()
    assert [(one["status"], one["model"], one["instance"]) for one in road.stage.receipts] == [(200, "m", "a"), (200, "n", "b")]


def test_a_share_that_changes_while_one_stands_in_line(open_road: OpenRoad) -> None:
    road = pair(open_road, second=instance("b", max_in_flight=1))
    road.plays(rf"""
        >> client   chat
        == intent   b
        << b        {OTHER}
        >> client2  chat
    """)
    road.stage.publish(model("a", canary=canary(share=0.0)), model(instance("b", max_in_flight=1), name="n", hidden=True))
    road.plays(rf"""
        >> b        200 {{}}
        == intent   b
        == 200      complete b 4+1~
        << b        {OTHER}
        << client   200 {SERVED} | {{}}
        >> b        200 {{}}
        == 200      complete b 4+1~
        << client2  200 {SERVED} | {{}}
    """)


def test_an_answer_that_is_kept_says_it_again(open_road: OpenRoad) -> None:
    pair(open_road).plays(
        rf"""
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


def test_the_bound_of_the_model_that_was_asked_for(open_road: OpenRoad) -> None:
    road = pair(open_road, total_timeout=2.0)
    road.plays(rf"""
        >> client  chat
        == intent  b
        << b       {OTHER}
        >> clock   2
        << b       aborted
        == 504     upstream_timeout b !upstream_timeout 4+0~
        << client  504 !upstream_timeout {SERVED}
    """)
    assert road.stage.receipts[0]["rule"] == "models.m.timeouts.total"
