"""A request's limits from its client's side: what is taken, what the verdict and its headers say, what is charged in the end."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slmgate.dataplane import limiter as module
from slmgate.dataplane.limiter import Account, Hold, Limiter, Refusal
from slmgate.dataplane.table import MAX_LIMITS, Table, TableFull
from slmgate.policy.charges import Charges, Tariff
from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import RoleSpec, TeamSpec
from slmgate.policy.room import COMPLETION, TRIES, Need, Short, weigh
from slmgate.policy.specs import SnapshotSpec
from slmgate.terms import Bearer, Principal, Refuse, Usage
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import KEY, instance, model, reply, request

NOON = 1_800_000_000.0


def limit(text: str, unit: str = "requests", amount: int = 2, **fields: Any) -> LimitSpec:
    window = {} if unit == "concurrent" or "calendar" in fields else {"seconds": 60}
    whole = {"name": f"roles.r.{text}", "text": text, "identity": text, "unit": unit, "amount": amount, **window, **fields}
    return msgspec.convert(whole, LimitSpec)


def account(*limits: LimitSpec, price: Price | None = None) -> Account:
    return Account(Tariff([(one, "k") for one in limits], "gold", "EUR", price or Price()))


@pytest.fixture
def limiter(tmp_path: Path) -> Limiter:
    return Limiter(tmp_path / "limits", 0, 1)


def taken(limiter: Limiter, one: Account, prompt: int = 10, longest: int | None = 100, answers: int = 1) -> Hold:
    hold = limiter.take(one, prompt, longest, answers, NOON)
    assert isinstance(hold, Hold), hold
    return hold


def refused(limiter: Limiter, one: Account, prompt: int = 10, longest: int | None = 100, answers: int = 1) -> Refusal:
    refusal = limiter.take(one, prompt, longest, answers, NOON)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def fields(text: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.decode().splitlines())


def test_nothing_to_count(limiter: Limiter) -> None:
    hold = taken(limiter, account())
    assert hold.fields == b""
    limiter.settle(hold, Usage(), 0, NOON, forwarded=True)
    assert repr(limiter) == "<Limiter closed, 0 accounts>"


def test_what_the_client_is_told(limiter: Limiter) -> None:
    one = account(
        limit("2 requests/minute"),
        limit("9 requests/day", amount=9, calendar="day"),
        limit("500 tokens/minute", "tokens", 500),
        limit("4 concurrent", "concurrent", 4),
    )
    assert fields(taken(limiter, one).fields) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "60s",
        "x-ratelimit-limit-tokens": "500",
        "x-ratelimit-remaining-tokens": "390",
        "x-ratelimit-reset-tokens": "60s",
        "ratelimit-policy": '"2 requests/minute";q=2;w=60, "9 requests/day";q=9;w=86400, "500 tokens/minute";q=500;w=60',
        "ratelimit": '"2 requests/minute";r=1;t=60, "9 requests/day";r=8;t=57600, "500 tokens/minute";r=390;t=60',
    }


@pytest.mark.parametrize(
    ("spec", "code", "said", "after"),
    [
        (limit("2 requests/minute"), "rate_limit_exceeded", "no room: 2 of 2 are used. Try again in 61 s.", 61),
        (limit("2 requests/day", calendar="day"), "quota_exceeded", "2 of 2 are used. Try again in 57600 s.", 57600),
        (limit("2 concurrent", "concurrent"), "rate_limit_exceeded", "2 concurrent, and 2 are under way", 1),
        (limit("250 tokens/minute", "tokens", 250), "rate_limit_exceeded", "220 of 250 are used, and this needs 110", 61),
        (
            limit("1 EUR/month", "cost", 10**9, calendar="month", currency="EUR"),
            "quota_exceeded",
            "0.80 EUR of 1.00 EUR are used, and this may cost 0.40 EUR",
            None,
        ),
    ],
)
def test_why_not(limiter: Limiter, spec: LimitSpec, code: str, said: str, after: int | None) -> None:
    one = account(spec, price=Price(0, 4_000_000))
    taken(limiter, one)
    taken(limiter, one)
    refuse, text = refused(limiter, one)
    assert (refuse.code, refuse.rule) == (code, spec.name)
    assert said in refuse.message
    assert refuse.retry_after is not None and (after is None or abs(refuse.retry_after - after) <= 1)
    if spec.unit != "concurrent":
        assert (
            f";r={30 if spec.unit == 'tokens' else 200_000_000 if spec.unit == 'cost' else 0};t={refuse.retry_after}"
            in text.decode()
        )
    assert len(re.findall("x-ratelimit-remaining", text.decode())) == (spec.unit in ("requests", "tokens"))


@pytest.mark.parametrize(("amount", "code"), [(0, "rate_limit_exceeded"), (5, "request_too_large")])
def test_a_request_that_never_has_room(limiter: Limiter, amount: int, code: str) -> None:
    refuse, _ = refused(limiter, account(limit("few", "tokens", amount)), prompt=100)
    assert refuse.code == code
    assert (refuse.retry_after is None) is (amount > 0)


def test_nobody(limiter: Limiter) -> None:
    assert refused(limiter, account(limit("0 requests/day", amount=0, calendar="day"))).refuse.retry_after == 86_400


def test_a_request_without_a_bound_gets_one(limiter: Limiter) -> None:
    one = account(limit("9k tokens/minute", "tokens", 9000))
    assert taken(limiter, one, longest=None).completion == COMPLETION
    assert taken(limiter, one, longest=None).completion == COMPLETION
    assert taken(limiter, one, longest=None).completion == 9000 - 2 * COMPLETION - 30
    assert refused(limiter, one, longest=None).refuse.code == "rate_limit_exceeded"
    assert taken(limiter, account(limit("r", amount=1)), longest=None).completion is None


def test_clamp_gives_what_is_left(limiter: Limiter) -> None:
    one = account(limit("c", "completion_tokens", 250, clamp=True), limit("t", "tokens", 200, clamp=True))
    assert taken(limiter, one, longest=100).completion is None
    assert taken(limiter, one, longest=100).completion == 80
    assert refused(limiter, one, longest=100).refuse.code == "rate_limit_exceeded"
    several = account(limit("s", "completion_tokens", 100, clamp=True))
    assert taken(limiter, several, longest=60, answers=3).completion == 33


def test_clamp_gives_up_when_others_are_faster(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    one = account(limit("t", "tokens", 1000, clamp=True))
    taken(limiter, one, longest=10)
    assert limiter._table is not None
    table, tries = limiter._table, []
    real = table.take

    def busy(spots: Any, wants: Any, kept: Any, second: float) -> Any:
        tries.append(wants)
        short = real(spots, [10**6], [0], second)
        assert isinstance(short, Short)
        return short._replace(left=990 - 20 * len(tries))

    monkeypatch.setattr(table, "take", busy)
    assert refused(limiter, one, longest=5000).refuse.code == "request_too_large" or len(tries) == TRIES


def test_settled(limiter: Limiter) -> None:
    one = account(limit("t", "tokens", 1000), limit("n", "concurrent", 1), limit("e", "engine_time", 5_000_000))
    hold = taken(limiter, one)
    limiter.settle(hold, Usage(10, 20), 123, NOON, forwarded=True)
    assert limiter._table is not None
    assert [used for used, _ in limiter._table.look(one.spots, NOON)] == [30, 0, 123]
    never = taken(limiter, one)
    limiter.settle(never, Usage(10, 20), 5, NOON, forwarded=False)
    assert [used for used, _ in limiter._table.look(one.spots, NOON)] == [30, 0, 123]


def test_what_was_given_back_is_owed_after_all(limiter: Limiter) -> None:
    one = account(limit("r", amount=2), limit("t", "tokens", 500), limit("n", "concurrent", 1))
    hold = taken(limiter, one)
    limiter.settle(hold, Usage(), 0, NOON, forwarded=False)
    again = limiter.owe(hold, NOON)
    assert again is not None
    assert limiter.look(one.spots, NOON) == [(0, 2), (0, 500), (0, 1)]
    limiter.settle(again, Usage(10, 600), 0, NOON, forwarded=True)
    assert limiter.look(one.spots, NOON) == [(1, 2), (610, 500), (0, 1)]
    assert limiter.owe(hold, NOON) is None, "where more than all is used already"
    assert limiter.owe(Hold(account(), -1, b"", None), NOON) is None


def test_a_trial_comes_to_what_the_road_comes_to(tmp_path: Path) -> None:
    """`policy.room.weigh` with what was used, and the table in which it was used: the same verdict, bound and words."""
    draw = random.Random(5)
    told: set[str] = set()
    for number in range(300):
        specs = [
            limit("a", "tokens", draw.randint(0, 300), calendar="day", clamp=draw.random() < 0.5),
            limit("b", "completion_tokens", draw.randint(1, 300), calendar="week", clamp=draw.random() < 0.5),
            limit("c", "concurrent", draw.randint(1, 2)),
            limit("d", "requests", draw.randint(1, 2), calendar="month"),
        ]
        draw.shuffle(specs)
        one = account(*specs[: draw.randint(1, 4)])
        real = Limiter(tmp_path / str(number), 0, 1)
        first = real.take(one, draw.randint(0, 100), draw.randint(0, 100), 1, NOON)
        if not isinstance(first, Hold):
            continue
        assert real._table is not None
        used = [was for was, _ in real._table.look(one.spots, NOON)]
        need = Need(draw.randint(0, 100), draw.choice((None, draw.randint(0, 200))), draw.randint(1, 3))
        road = real.take(one, need.prompt, need.longest, need.answers, NOON)
        trial = weigh(one.tariff, used, need, NOON)
        if isinstance(road, Hold):
            assert (trial.refuse, trial.bound) == (None, road.completion)
            told.add("yes" if road.completion is None else "shorter")
        else:
            assert trial.refuse == road.refuse
            told.add(road.refuse.code)
        real._table.close()
        (tmp_path / str(number)).unlink()
    assert told == {"yes", "shorter", "rate_limit_exceeded", "quota_exceeded", "request_too_large"}


def test_no_table(limiter: Limiter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    broken = Limiter(tmp_path / "file" / "limits", 0, 1)
    assert refused(broken, account(limit("r"))).refuse.code == "accounting_unavailable"
    broken._path = tmp_path / "limits"
    assert refused(broken, account(limit("r"))).refuse.code == "accounting_unavailable", "not asked for at each request"
    clock[0] += 1
    taken(broken, account(limit("r")))


def test_a_full_table(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(limiter, account(limit("r")))

    def full(*_: Any) -> None:
        raise TableFull("full")

    monkeypatch.setattr(limiter._table, "take", full)
    assert refused(limiter, account(limit("r"))).refuse.code == "accounting_unavailable"


def test_too_many_limits(limiter: Limiter) -> None:
    assert refused(limiter, account(*(limit(str(n)) for n in range(MAX_LIMITS + 1)))).refuse.code == "accounting_unavailable"


def test_accounts_are_kept(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    by_ip = SnapshotSpec(generation=1, limits=(limit("i", per=("ip",)),))
    charges, others = Charges(by_ip), Charges(SnapshotSpec(generation=2, limits=(limit("r"),)))
    who = Principal(id="k", name="k")
    first = limiter.account(charges, who, "m", "r", "10.0.0.1")
    assert limiter.account(charges, who, "m", "r", "10.0.0.1") is first
    assert limiter.account(charges, who, "m", "r", "10.0.0.2") is not first
    assert limiter.account(others, who, "m", "r", "10.0.0.1") is limiter.account(others, who, "m", "r", "10.0.0.2")
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 1)
    limiter.account(others, Bearer(id="b", name="b"), "m", "r", "")
    assert len(limiter._accounts) == 1


def test_prepared(limiter: Limiter) -> None:
    limiter.prepare(Charges(SnapshotSpec(generation=1)))
    assert limiter._table is None
    limiter.prepare(Charges(SnapshotSpec(generation=1, limits=(limit("r"),))))
    assert repr(limiter) == "<Limiter open, 0 accounts>"


# On the road


TINY = model(instance("a"))


def limited(open_road: OpenRoad, *limits: LimitSpec, **more: Any) -> Road:
    road = open_road(TINY)
    road.stage.publish(limits=limits, **more)
    return road


def ask(
    road: Road, body: dict[str, Any] | None = None, answer: bytes = b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}'
) -> bytes:
    """One request of a new client, answered by the instance if it gets there; the bytes that the client had."""
    heard: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: heard.append(data) if who == "client" and what == "write" else None
    client = road.stage.connect()
    before = len(road.stage.receipts)
    client.feed(request({"model": "m", "messages": [], **(body or {})}))
    road.stage.loop.settle()
    if len(road.stage.receipts) == before:
        road.stage.loop.opened["a"][-1].feed(reply(answer))
        road.stage.loop.settle()
    return b"".join(heard)


def test_a_limit_on_the_road(open_road: OpenRoad) -> None:
    road = limited(open_road, limit("2 requests/minute"))
    assert b"x-ratelimit-remaining-requests: 1\r\n" in ask(road)
    assert b"x-ratelimit-remaining-requests: 0\r\n" in ask(road)
    third = ask(road)
    assert third.startswith(b"HTTP/1.1 429 ") and b"retry-after: 6" in third and b'"rate_limit_exceeded"' in third
    assert b'ratelimit: "2 requests/minute";r=0;t=6' in third
    said = road.stage.receipts[-1]
    assert (said["status"], said["ended"], said["rule"]) == (429, "refused", "roles.r.2 requests/minute")


def test_charged_to_the_engines_figures(open_road: OpenRoad) -> None:
    road = limited(open_road, limit("t", "tokens", 1000))
    ask(road, {"max_tokens": 500})
    assert b"x-ratelimit-remaining-tokens: 4" in ask(road, {"max_tokens": 500})
    assert b"x-ratelimit-remaining-tokens: 9" in ask(road, {"max_tokens": 9})


def test_the_bound_goes_to_the_instance(open_road: OpenRoad) -> None:
    road = limited(open_road, limit("t", "tokens", 1000, clamp=True))
    heard: list[bytes] = []
    client = road.stage.connect()
    road.stage.loop.told = lambda who, what, data: heard.append(data) if who == "a" and what == "write" else None
    client.feed(request({"model": "m", "max_completion_tokens": 5000, "messages": []}))
    road.stage.loop.settle()
    body = b"".join(heard).partition(b"\r\n\r\n")[2]
    asked = msgspec.json.decode(body)
    assert asked["max_tokens"] == asked["max_completion_tokens"] < 1000


def test_a_price_on_the_receipt(open_road: OpenRoad) -> None:
    road = open_road(TINY)
    gold = PlanSpec(name="gold", currency="EUR", prices=(("m", Price(100, 300)),))
    team = TeamSpec(name="acme", plan="gold")
    road.stage.publish(teams=(team,), plans=(gold,), keys=(msgspec.structs.replace(KEY, team="acme"),))
    ask(road)
    said = road.stage.receipts[-1]
    assert (said["plan"], said["price"], said["cost"]) == ("gold", "EUR 100 300", 7 * 100 + 5 * 300)
    intent = next(fields for kind, fields in road.stage.records if kind == b"I")
    assert (intent["plan"], intent["price"]) == ("gold", "EUR 100 300")


def test_what_a_stream_came_to_is_charged_when_its_worker_dies(open_road: OpenRoad) -> None:
    road = open_road()
    stage = road.stage
    stage.publish(
        limits=(limit("500 tokens/minute", "tokens", 500, per=()), limit("9 gpu-seconds", "engine_time", 9_000_000, per=()))
    )
    client = stage.connect()
    client.feed(request({"model": "m", "stream": True, "max_tokens": 100}))
    stage.loop.settle()
    road.end_of("a").feed(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    for number in range(3):
        road.end_of("a").feed(b'data: {"choices":[{"delta":{"content":"w%d"}}]}\n\n' % number)
    stage.loop.turn(1)
    exchange = stage.clients[0].exchange
    assert exchange is not None and exchange.hold is not None
    table = stage.worker.limiter._table
    assert table is not None
    successor = Table(stage.limits, 0, 1)
    (tokens, _), (worked, _) = successor.look(exchange.hold.account.spots, stage.clock.time())
    successor.close()
    assert tokens == exchange.hold.prompt + 3
    assert 500_000 <= worked <= 1_000_000
    exchange.hold = None  # it was settled by the other


def test_a_request_that_is_never_forwarded_is_charged_nothing(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1), queue_waiting=0))
    road.stage.publish(limits=(limit("2 requests/minute"), limit("n", "concurrent", 2)))
    road.stage.loop.told = lambda *_: None
    road.stage.connect().feed(request({"model": "m", "messages": []}))
    road.stage.loop.settle()
    assert ask(road).startswith(b"HTTP/1.1 503 ")
    road.stage.loop.opened["a"][-1].feed(reply(b"{}"))
    road.stage.loop.settle()
    assert b"x-ratelimit-remaining-requests: 0\r\n" in ask(road)


def test_a_client_that_leaves_gives_its_place_back(open_road: OpenRoad) -> None:
    road = limited(open_road, limit("1 concurrent", "concurrent", 1))
    road.stage.loop.told = lambda *_: None
    client = road.stage.connect()
    client.feed(request({"model": "m", "messages": []}))
    road.stage.loop.settle()
    assert ask(road).startswith(b"HTTP/1.1 429 ")
    client.lose()
    road.stage.loop.settle()
    assert ask(road).startswith(b"HTTP/1.1 200 ")


def test_limits_of_a_role(open_road: OpenRoad) -> None:
    road = open_road(TINY)
    road.stage.publish(
        roles=(RoleSpec(name="r", limits=(limit("1 requests/minute", amount=1),)),),
        keys=(msgspec.structs.replace(KEY, roles=("r",)),),
    )
    assert ask(road).startswith(b"HTTP/1.1 200 ")
    assert ask(road).startswith(b"HTTP/1.1 429 ")


def test_a_request_in_line_keeps_its_bound(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.stage.publish(limits=(limit("t", "tokens", 6000),))
    heard: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: heard.append(data) if who == "a" and what == "write" else None
    for _ in range(2):
        road.stage.connect().feed(request({"model": "m", "messages": []}))
    road.stage.loop.settle()
    road.stage.publish(limits=(limit("t", "tokens", 6000),))
    heard.clear()
    road.stage.loop.opened["a"][-1].feed(reply(b"{}"))
    road.stage.loop.settle()
    assert msgspec.json.decode(b"".join(heard).partition(b"\r\n\r\n")[2])["max_tokens"] < 2000


def test_verdicts_are_values() -> None:
    assert Refusal(Refuse("rate_limit_exceeded", "no")).fields == b""
