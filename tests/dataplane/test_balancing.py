"""What ties requests to instances on the road: callers, addresses, headers, prompts; and what other workers are told.

How a strategy chooses is `test_balance.py`'s, `test_ring.py`'s and `test_prefix.py`'s.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from slmgate.dataplane.balancing import NOTHING, chooser_of, shares_loads
from slmgate.dataplane.pool import LOOK_SECONDS, ModelPool
from slmgate.link.loads import MARK, Loads, create
from slmgate.policy.balance import InTurn, LeastBusy, PeakEwma
from slmgate.policy.prefix import Prefix
from slmgate.policy.ring import Ring
from slmgate.terms import Key
from tests.dataplane.conftest import OpenRoad
from tests.tools.stage import KEY, Stage, instance, model, reply, request

HOSTS = tuple("abcdefgh")
LONG = "Answer as the handbook of the house says. " * 40


def ask(stage: Stage, body: dict[str, Any] | None = None, fields: bytes = b"", key: bytes | None = None) -> str:
    """The host that gets one request, which is answered."""
    told: list[tuple[str, bytes]] = []
    stage.loop.told = lambda who, what, data: told.append((who, data)) if what == "write" and who in HOSTS else None
    client = stage.connect()
    content = {"model": "m", **(body or {})}
    client.feed(request(content, fields) if key is None else request(content, fields, key=key))
    stage.loop.settle()
    ((host, sent),) = told
    stage.loop.opened[host][-1].feed(reply(b"{}"))
    stage.loop.settle()
    client.lose()
    stage.loop.settle()
    stage.sent = json.loads(sent.partition(b"\r\n\r\n")[2])  # type: ignore[attr-defined]  # for the tests of this file
    return host


def pool(stage: Stage) -> ModelPool:
    return stage.worker.pools.models["m"]


@pytest.mark.parametrize(
    ("balance", "kind", "shares"),
    [
        ("round_robin", InTurn, False),
        ("weighted", InTurn, False),
        ("least_busy", LeastBusy, True),
        ("peak_ewma", PeakEwma, True),
        ("consistent_hash", Ring, True),
        ("prefix", Prefix, True),
    ],
)
def test_every_strategy_has_its_chooser(balance: str, kind: type, shares: bool) -> None:
    assert type(chooser_of(model(balance=balance), (), None)) is kind
    assert shares_loads(balance) is shares


def test_a_caller_stays_with_an_instance(open_road: OpenRoad) -> None:
    stage = open_road(model(*HOSTS, balance="consistent_hash")).stage
    assert len({ask(stage) for _ in range(5)}) == 1


def test_callers_spread(open_road: OpenRoad) -> None:
    stage = open_road(model(*HOSTS, balance="consistent_hash")).stage
    secrets = [b"sk-slm-unit-%d-" % number + b"x" * 20 for number in range(12)]
    keys = tuple(
        Key(id=f"key{number}", name="a", digests=((sha256(secret).digest(), None),)) for number, secret in enumerate(secrets)
    )
    stage.publish(keys=(KEY, *keys))
    assert len({ask(stage, key=secret) for secret in secrets}) > 3


def test_a_header_ties(open_road: OpenRoad) -> None:
    stage = open_road(model(*HOSTS, balance="consistent_hash", balance_by="header X-Session-Id")).stage
    sessions = [b"x-session-id: s%d\r\n" % number for number in range(12)]
    first = [ask(stage, fields=fields) for fields in sessions]
    assert len(set(first)) > 3
    assert [ask(stage, fields=fields) for fields in sessions] == first
    without = ask(stage)
    stage.publish(model(*HOSTS, balance="consistent_hash"))
    assert ask(stage) == without, "without the header: by who calls"


def test_an_address_ties(open_road: OpenRoad) -> None:
    stage = open_road(model(*HOSTS, balance="consistent_hash", balance_by="address")).stage
    assert len({ask(stage, fields=b"x-session-id: %d\r\n" % number) for number in range(3)}) == 1


def test_prompts_that_begin_alike_go_together(open_road: OpenRoad) -> None:
    stage = open_road(model(*HOSTS, balance="prefix")).stage
    shared = [ask(stage, {"messages": [{"role": "user", "content": f"{LONG}{number}"}]}) for number in range(6)]
    assert len(set(shared)) == 1
    others = [ask(stage, {"messages": [{"role": "user", "content": f"{number} {LONG}"}]}) for number in range(12)]
    assert len(set(others)) > 3
    home = shared[0]
    stage.publish(model(*HOSTS[::-1], balance="prefix"))
    assert ask(stage, {"messages": [{"role": "user", "content": f"{LONG}again"}]}) == home, "a reload forgets nothing"


def test_what_has_no_text_goes_to_the_least_busy(open_road: OpenRoad) -> None:
    stage = open_road(model("a", "b", balance="prefix")).stage
    picture = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x" * 999}}]}]}
    assert [ask(stage, picture) for _ in range(4)] == ["a", "b", "a", "b"]
    assert [ask(stage, {"messages": [{"role": "user", "content": "short"}]}) for _ in range(4)] == ["a", "b", "a", "b"]
    assert NOTHING.blocks == ()


def test_in_line_the_key_decides_among_those_that_have_room(open_road: OpenRoad) -> None:
    stage = open_road(model(*(instance(host, max_in_flight=1) for host in "ab"), balance="consistent_hash")).stage
    home = ask(stage)
    clients = [stage.connect(f"client{number}") for number in range(4)]
    for client in clients:
        client.feed(request({"model": "m"}))
        stage.loop.settle()
    assert [one.busy for one in pool(stage).instances] == [1, 1]
    assert len(pool(stage).waiting) == 2
    other = "b" if home == "a" else "a"
    stage.loop.opened[other][-1].feed(reply(b"{}"))
    stage.loop.settle()
    assert [one.busy for one in pool(stage).instances] == [1, 1], "room is room"
    assert len(pool(stage).waiting) == 1


# --- salts


def test_an_engine_with_salts_is_told_one(open_road: OpenRoad) -> None:
    stage = open_road(model(instance("a", engine="vllm"))).stage
    salt = stage.worker.salts.of(KEY)
    ask(stage)
    assert stage.sent == {"model": "m", "cache_salt": salt}  # type: ignore[attr-defined]  # see `ask`
    ask(stage, {"cache_salt": "another tenant's"})
    assert stage.sent == {"model": "m", "cache_salt": salt}  # type: ignore[attr-defined]  # see `ask`


@pytest.mark.parametrize(("engine", "option"), [("llamacpp", "tenant"), ("vllm", "none")])
def test_others_are_not(open_road: OpenRoad, engine: str, option: str) -> None:
    stage = open_road(model(instance("a", engine=engine), cache_salt=option)).stage
    ask(stage)
    assert stage.sent == {"model": "m"}  # type: ignore[attr-defined]  # see `ask`


def test_prompts_of_two_tenants_are_told_apart_where_their_caches_are(open_road: OpenRoad) -> None:
    secret = b"sk-slm-unit-of-another-one"
    other = Key(id="k9", name="other", digests=((sha256(secret).digest(), None),))
    prompt = {"messages": [{"role": "user", "content": LONG}]}
    for engine, entries in (("vllm", 2), ("llamacpp", 1)):
        stage = open_road(model(*(instance(host, engine=engine) for host in HOSTS), balance="prefix")).stage
        stage.publish(keys=(KEY, other))
        ask(stage, prompt)
        one = len(_kept(stage))
        ask(stage, prompt, key=secret)
        assert len(_kept(stage)) == entries * one


def _kept(stage: Stage) -> dict[int, tuple[str, ...]]:
    chooser = pool(stage)._chooser
    assert isinstance(chooser, Prefix)
    return chooser.kept


# --- how slow they are


def test_slowness_is_learned_from_answers(open_road: OpenRoad) -> None:
    stage = open_road(model("a", "b", balance="peak_ewma")).stage
    a, b = pool(stage).instances
    for _ in range(2):
        stage.connect().feed(request({"model": "m"}))
        stage.loop.settle()
    stage.loop.turn(2)
    body = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 16, "total_tokens": 17}}).encode()
    stage.loop.opened["a"][-1].feed(reply(body))
    stage.loop.opened["b"][-1].feed(reply(b"{}", 500))
    assert a.slowness == pytest.approx(1.0), "the half of it, for sixteen tokens"
    assert b.slowness == 0.0, "what is no answer says nothing"


def test_a_stream_shows_it_with_its_first_byte(open_road: OpenRoad) -> None:
    stage = open_road(model("a", "b", balance="peak_ewma", idle_timeout=600.0)).stage
    stage.connect().feed(request({"model": "m", "stream": True}))
    stage.loop.settle()
    stage.loop.turn(1)
    stage.loop.opened["a"][-1].feed(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    stage.loop.turn(50)
    assert pool(stage).instances[0].slowness == pytest.approx(1.0)


def test_a_time_limit_is_an_answer_too(open_road: OpenRoad) -> None:
    stage = open_road(model("a", "b", balance="peak_ewma", first_byte_timeout=3.0)).stage
    stage.connect().feed(request({"model": "m"}))
    stage.loop.settle()
    stage.loop.turn(4)
    assert pool(stage).instances[0].slowness >= 3.0


def test_without_need_nothing_is_learned(open_road: OpenRoad) -> None:
    stage = open_road(model("a", "b")).stage
    stage.connect().feed(request({"model": "m"}))
    stage.loop.settle()
    stage.loop.turn(1)
    stage.loop.opened["a"][-1].feed(reply(b"{}"))
    assert pool(stage).instances[0].slowness == 0.0


# --- what other workers know


@pytest.fixture
def board() -> Iterator[int]:
    fd = create(2)
    yield fd
    os.close(fd)


def columns(stage: Stage) -> list[int]:
    return [one.column for one in pool(stage).instances]


def test_the_load_of_other_workers_counts(open_road: OpenRoad, board: int) -> None:
    stage = open_road(model("a", "b", "c", balance="least_busy"), loads=board, workers=2).stage
    other = Loads(board, 1, 2)
    where = other.claim(["a", "b", "c"])
    assert columns(stage) == [where["a"], where["b"], where["c"]]
    other.cells[where["a"]] = MARK + 2
    other.cells[where["c"]] = MARK + 1
    stage.loop.turn(1)
    assert [ask(stage) for _ in range(2)] == ["b", "b"]
    other.cells[where["b"]] = MARK + 3
    assert ask(stage) == "b", "it is looked at again only after a moment"
    stage.loop.turn(LOOK_SECONDS * 2)
    assert ask(stage) == "c"


def test_other_workers_are_told(open_road: OpenRoad, board: int) -> None:
    stage = open_road(model("a", "b", balance="least_busy"), loads=board, workers=2).stage
    other = Loads(board, 1, 2)
    told = columns(stage)
    client = stage.connect()
    client.feed(request({"model": "m"}))
    stage.loop.settle()
    assert other.others(told) == [1, 0]
    client.lose()
    stage.loop.settle()
    assert other.others(told) == [0, 0]
    stage.loop.doors["a"] = stage.loop.doors["b"] = "refuses"
    stage.connect().feed(request({"model": "m"}))
    stage.loop.settle()
    assert other.others(told) == [0, 0]


def test_a_reload_that_takes_an_instance_away_and_brings_it_back(open_road: OpenRoad, board: int) -> None:
    stage = open_road(model("a", "b", balance="least_busy"), loads=board, workers=2).stage
    other = Loads(board, 1, 2)
    a, b = columns(stage)
    stage.connect().feed(request({"model": "m"}))
    stage.loop.settle()
    stage.publish(model("b", "c", balance="least_busy"))
    assert (other.others([a]), columns(stage)[0]) == ([0], b)
    stage.publish(model("a", "b", balance="least_busy"))
    assert columns(stage) == [a, b]
    stage.loop.opened["a"][-1].feed(reply(b"{}"))  # the old one's
    stage.loop.settle()
    assert other.others([a, b]) == [0, 0]
    assert pool(stage).in_flight == 0
    stage.publish(model("b", balance="least_busy"))
    assert columns(stage) == [-1]


def test_a_drained_instance_is_nobodys_load(open_road: OpenRoad, board: int) -> None:
    stage = open_road(model("a", "b", "c", balance="least_busy"), loads=board, workers=2).stage
    other = Loads(board, 1, 2)
    a, b, c = columns(stage)
    client = stage.connect()
    client.feed(request({"model": "m"}))
    stage.loop.settle()
    assert (other.others([a, b, c]), pool(stage).in_flight) == ([1, 0, 0], 1)
    stage.publish(model(instance("a", draining=True), "b", "c", balance="least_busy"))
    assert (other.others([a, b, c]), columns(stage), pool(stage).in_flight) == ([0, 0, 0], [b, c], 0)
    assert {ask(stage) for _ in range(4)} == {"b", "c"}
    stage.publish(model("a", "b", "c", balance="least_busy"))
    assert (columns(stage), other.others([a, b, c]), pool(stage).in_flight) == ([a, b, c], [1, 0, 0], 1)
    stage.loop.opened["a"][0].feed(reply(b"{}"))
    stage.loop.settle()
    assert (other.others([a, b, c]), pool(stage).in_flight) == ([0, 0, 0], 0)


@pytest.mark.parametrize("text", ["Hi", LONG])
@pytest.mark.parametrize("balance", ["round_robin", "weighted", "least_busy", "peak_ewma", "consistent_hash", "prefix"])
def test_every_strategy_follows_a_drain(open_road: OpenRoad, balance: str, text: str) -> None:
    """Nobody is left, one is left, the drained one comes back and starts where the other is."""
    stage = open_road(model("a", "b", balance=balance)).stage
    drained, body = instance("b", draining=True), {"messages": [{"role": "user", "content": text}]}
    stage.publish(model(instance("a", draining=True), drained, balance=balance))
    stage.connect().feed(request({"model": "m", **body}))
    stage.loop.settle()
    assert stage.receipts[-1]["reason"] == "overloaded"
    stage.publish(model("a", drained, balance=balance))
    assert [ask(stage, body) for _ in range(6)] == ["a"] * 6
    stage.publish(model("a", "b", balance=balance))
    hosts = [ask(stage, body) for _ in range(6)]
    assert hosts.count("b") == 3 or balance in ("peak_ewma", "consistent_hash", "prefix"), hosts


@pytest.mark.parametrize("balance", ["round_robin", "least_busy", "consistent_hash"])
def test_what_is_in_flight_together_is_counted(open_road: OpenRoad, balance: str) -> None:
    stage = open_road(model("a", "b", balance=balance)).stage
    clients = [stage.connect() for _ in range(5)]
    for number, client in enumerate(clients):
        client.feed(request({"model": "m"}))
        stage.loop.settle()
        assert pool(stage).in_flight == number + 1
    stage.publish(model("b", "c", balance=balance))
    assert pool(stage).in_flight == sum(one.busy for one in pool(stage).instances)
    for client in clients:
        client.lose()
    stage.loop.settle()
    assert pool(stage).in_flight == 0


def test_one_instance_is_told_to_nobody(open_road: OpenRoad, board: int) -> None:
    stage = open_road(model("a", balance="least_busy"), loads=board, workers=2).stage
    assert columns(stage) == [-1]
    stage.publish(model("a", "b", balance="least_busy"))
    assert min(columns(stage)) > 0
    stage.publish(model("a", "b", balance="weighted"))
    assert columns(stage) == [0, 0]
    stage.publish(model("a", balance="least_busy"))
    assert columns(stage) == [-1]


def test_on_a_full_board_each_worker_knows_its_own(open_road: OpenRoad, board: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loads, "claim", lambda self, ids: {})
    stage = open_road(model("a", "b", balance="least_busy"), loads=board, workers=2).stage
    assert columns(stage) == [0, 0]
    assert {ask(stage) for _ in range(2)} == {"a", "b"}
