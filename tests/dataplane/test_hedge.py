"""Embeddings that an instance lets wait: when a second one is asked, who wins, and what is left of the other.

Everything is as if there had been one: one answer, one receipt, one charge, and nothing held, which the stage checks.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.policy.limits import LimitSpec
from slmgate.policy.split import CanarySpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import model, request

LINE = b"POST /v1/embeddings HTTP/1.1"
ASK = {"model": "m", "input": "x"}
SENT = r'POST /v1/embeddings | {"model": "m", "input": "x"}'
TEXTS = {"embed": request(ASK, line=LINE), "keyed": request(ASK, b"Idempotency-Key: k\r\n", LINE)}
TEXTS["bounded"] = request(ASK, b"X-Request-Timeout: 2\r\n", LINE)
HEDGED = rf"""
    >> client  embed
    == intent  a
    << a       {SENT}
    >> clock   0.25
    << b       {SENT}
"""


class Embedding(Road):
    """A road whose scripts know the texts above."""

    def plays(self, script: str, **texts: bytes) -> None:
        super().plays(script, **TEXTS, **texts)


def hedged(open_road: OpenRoad, *names: str, **settings: Any) -> Road:
    road = open_road(model(*(names or ("a", "b")), **({"hedge_after": 0.2} | settings)))
    return Embedding(road.stage)


def told(road: Road) -> tuple[Any, ...]:
    receipt = road.stage.receipts[-1]
    return receipt["instance"], receipt["attempts"], receipt["status"]


def idle(road: Road) -> list[int]:
    return [len(one.idle) for one in road.stage.worker.pools.models["m"].instances]


def test_the_second_wins(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(HEDGED)
    road.plays(r"""
        >> b       200 <used>
        << a       aborted
        == 200     complete b 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("b", 2, 200)
    assert idle(road) == [0, 1]


def test_the_first_wins(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(HEDGED)
    road.plays(r"""
        >> a       200 <used>
        << b       aborted
        == 200     complete a 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("a", 2, 200)
    assert idle(road) == [1, 0]


def test_an_answer_in_time(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(rf"""
        >> client  embed
        == intent  a
        << a       {SENT}
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
        >> clock   5
    """)
    assert told(road) == ("a", 1, 200)
    assert road.stage.loop.knocks == ["a"]


def test_an_answer_that_has_begun_is_waited_for(open_road: OpenRoad) -> None:
    hedged(open_road).plays(rf"""
        >> client  embed
        == intent  a
        << a       {SENT}
        >> a       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n
        >> clock   5
        >> a       {{}}
        == 200     complete a 7+0~
        << client  200 | {{}}
    """)


def test_answers_in_pieces(open_road: OpenRoad) -> None:
    """The second one's head comes first; later ones' pieces are the exchange's."""
    road = hedged(open_road)
    road.plays(HEDGED)
    road.plays(r"""
        >> b       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{
        << a       aborted
        >> b       1:}
        == 200     complete b 7+0~
        << client  200 | {1:}
    """)


def test_a_whole_answer_with_a_head_that_came_before(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    for _ in range(2):
        road.plays(rf"""
            >> client  embed
            == intent  a
            << a       {SENT}
            >> a       200 <used>
            == 200     complete a 5+7
            << client  200 | <used>
            >> client  embed
            == intent  b
            << b       {SENT}
            >> b       200 <used>
            == 200     complete b 5+7
            << client  200 | <used>
        """)
    road.plays(HEDGED)
    road.plays(r"""
        >> b       200 <used>
        << a       aborted
        == 200     complete b 5+7
        << client  200 | <used>
    """)


def test_both_answer_at_once(open_road: OpenRoad) -> None:
    """The second one's answer comes when the first has begun: it is not read, and its connection not used again."""
    road = hedged(open_road)
    road.plays(HEDGED)
    road.plays(r"""
        >> a       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n
        >> b       200 {}
        << b       aborted
        >> a       {}
        == 200     complete a 7+0~
        << client  200 | {}
    """)


@pytest.mark.parametrize("line", ["chat", "stream"])
def test_nothing_else_is_hedged(open_road: OpenRoad, line: str) -> None:
    hedged(open_road).plays(rf"""
        >> client  {line}
        == intent  a
        << a       <{line}>
        >> clock   5
        >> client  leaves
        << a       aborted
        == 499     client_left a !client_left {"4+0~" if line == "chat" else "8+0~"}
    """)


# --- one of them fails


@pytest.mark.parametrize("answer", ["503 {}", "500 {}", "leaves", "429 {}"])
def test_the_first_fails_and_the_second_is_waited_for(open_road: OpenRoad, answer: str) -> None:
    """Whether or not it is worth another try: that one is under way."""
    road = hedged(open_road, attempts=1)
    road.plays(HEDGED)
    road.plays(f"""
        >> a       {answer}
        >> clock   1
        >> b       200 <used>
        == 200     complete b 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("b", 2, 200)


@pytest.mark.parametrize("answer", ["503 {}", "500 {}", "leaves", "200 <html>"])
def test_the_second_fails_and_the_first_is_waited_for(open_road: OpenRoad, answer: str) -> None:
    road = hedged(open_road)
    road.plays(HEDGED)
    if answer == "200 <html>":
        road.plays(r"""
            >> b       HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nno
            << b       aborted
        """)
    elif answer == "leaves":
        road.plays(">> b leaves")
    else:
        road.plays(f">> b {answer}\n<< b aborted")
    road.plays(r"""
        >> clock   1
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("a", 2, 200)


def test_the_second_fails_and_then_the_first(open_road: OpenRoad) -> None:
    """A third one is tried, and none that was."""
    road = hedged(open_road, "a", "b", "c", attempts=3)
    road.plays(HEDGED)
    road.plays(rf"""
        >> b       leaves
        >> a       leaves
        << c       {SENT}
        >> c       200 <used>
        == 200     complete c 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("c", 3, 200)


def test_a_refusal_under_way_when_the_second_answers(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(HEDGED)
    road.plays(r"""
        >> a       HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n
        >> b       200 <used>
        << a       aborted
        == 200     complete b 5+7
        << client  200 | <used>
    """)


def test_both_are_silent(open_road: OpenRoad) -> None:
    """The second has its time too, from when it was asked."""
    road = hedged(open_road, first_byte_timeout=2.0)
    road.plays(HEDGED)
    road.plays(r"""
        >> clock   1.75
        << a       aborted
        >> clock   0.25
        << b       aborted
        == 504     upstream_timeout b !upstream_timeout 7+0~
        << client  504 !upstream_timeout
    """)


def test_the_second_cannot_be_reached(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(rf"""
        >> door    b refuses
        >> client  embed
        == intent  a
        << a       {SENT}
        >> clock   1
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("a", 1, 200)


@pytest.mark.parametrize("end", ["a 200 {}", "client leaves", "a leaves"])
def test_the_first_ends_before_the_second_is_there(open_road: OpenRoad, end: str) -> None:
    """Who comes too late is asked nothing; its connection waits for others."""
    road = hedged(open_road, retry_on=())
    seen = {
        "a 200 {}": "== 200 complete a 7+0~\n<< client 200 | {}",
        "client leaves": "<< a aborted\n== 499 client_left a !client_left 7+0~",
        "a leaves": "== 502 upstream_error a !upstream_error 7+0~\n<< client 502 !upstream_error",
    }
    road.plays(rf"""
        >> door    b hangs
        >> client  embed
        == intent  a
        << a       {SENT}
        >> clock   0.25
        >> {end}
        {seen[end]}
    """)
    assert told(road)[:2] == ("a", 1)


# --- when there is none


def test_no_second_instance_or_none_with_room(open_road: OpenRoad) -> None:
    road = hedged(open_road, "a")
    road.plays(rf"""
        >> client  embed
        == intent  a
        << a       {SENT}
        >> clock   5
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)
    assert told(road) == ("a", 1, 200)


def test_no_more_than_there_may_be_retries(open_road: OpenRoad) -> None:
    road = hedged(open_road, retry_budget=0.0)
    road.plays(rf"""
        >> client  embed
        == intent  a
        << a       {SENT}
        >> clock   5
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)


def test_who_waits_in_line_or_for_a_connection_has_its_time_from_then(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(r"""
        >> door    a hangs
        >> client  embed
        >> clock   1
        >> client  leaves
        == 499     client_left a !client_left
    """)
    assert road.stage.loop.knocks == ["a"], "an instance that is not reached is a matter of retries"


def test_a_reload_that_switches_it_off(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(f">> client embed\n== intent a\n<< a {SENT}\n")
    road.stage.publish(model("a", "b", hedge_after=3600.0))
    road.stage.publish(model("a", "b"))
    road.stage.loop.turn(1)
    assert road.stage.loop.knocks == ["a", "b"], "what it began with holds"


# --- with other features


def test_one_charge(open_road: OpenRoad) -> None:
    limit = LimitSpec(name="two", text="2 requests", identity="two", unit="requests", amount=2, seconds=60, per=("principal",))
    road = hedged(open_road)
    road.stage.publish(limits=(limit,))
    for number in range(3):
        client = road.stage.connect(f"client{number}")
        client.feed(TEXTS["embed"])
        road.stage.loop.turn(0.5)
        for name in ("a", "b"):
            for end in road.stage.loop.opened.get(name, []):
                if not end.closing and getattr(end.protocol, "exchange", None) is not None:
                    end.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
        road.stage.loop.settle()
    assert [(one["status"], one["attempts"]) for one in road.stage.receipts] == [(200, 2), (200, 2), (429, 0)]


def test_the_bound_of_the_whole(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(rf"""
        >> client  bounded
        == intent  a
        << a       {SENT}
        >> clock   0.25
        << b       {SENT}
        >> clock   1.75
        << b       aborted
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 7+0~
        << client  504 !upstream_timeout
    """)


def test_an_answer_that_is_kept(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(rf"""
        >> client  keyed
        == intent  a
        << a       {SENT}
        >> clock   0.25
        << b       {SENT}
        >> b       200 <used>
        << a       aborted
        == 200     complete b 5+7
        << client  200 | <used>
        >> client  keyed
        == 200     complete !replayed
        << client  200 idempotent-replayed: true | <used>
    """)


def test_at_a_version_of_the_model(open_road: OpenRoad) -> None:
    canary = CanarySpec(model="n", share=1.0)
    road = open_road(model("a", canary=canary), model("b", "c", name="n", hidden=True, hedge_after=0.2))
    road.plays(
        r"""
        >> client  embed
        == intent  b
        << b       POST /v1/embeddings | {"model":"n","input":"x"}
        >> clock   0.25
        << c       POST /v1/embeddings | {"model":"n","input":"x"}
        >> c       200 <used>
        << b       aborted
        == 200     complete c 5+7
        << client  200 x-slmgate-model: n | <used>
        """,
        **TEXTS,
    )


def test_the_gate_stops(open_road: OpenRoad) -> None:
    road = hedged(open_road)
    road.plays(HEDGED)
    hedge = road.stage.clients[-1].exchange
    assert hedge is not None and repr(hedge.alarm).startswith("<Hedge <Rival ")
    road.plays(r"""
        >> client  leaves
        << b       aborted
        << a       aborted
        == 499     client_left a !client_left 7+0~
    """)
    assert repr(road.stage.worker.pools.models["m"]).count("0 busy") == 2


def test_a_fault_of_our_own(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = hedged(open_road)
    monkeypatch.setattr("slmgate.dataplane.hedge.Rival", None)
    road.plays(rf"""
        >> client  embed
        == intent  a
        << a       {SENT}
        >> clock   1
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)


def test_the_second_says_that_it_failed(open_road: OpenRoad) -> None:
    """Under a status that says the contrary, in one piece and with a head that came before: the first is waited for."""
    road = hedged(open_road, balance="round_robin")
    for name in ("a", "b"):
        road.plays(rf"""
            >> client  embed
            == intent  {name}
            << {name}  {SENT}
            >> {name}  200 <used>
            == 200     complete {name} 5+7
            << client  200 | <used>
        """)
    road.plays(HEDGED)
    road.plays(r"""
        >> b       200 {"error": "no"}
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)
