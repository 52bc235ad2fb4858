"""Access tokens in a worker: one question for each, who waits, the bounds, and requests on the road that wait for a verdict."""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dataplane import tokens as module
from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.tokens import REFUSED_SECONDS, SWEEP_SECONDS, VERDICT_SECONDS, Tokens
from slmgate.link.messages import Grounds, Message, Verified, Verify
from slmgate.policy.identify import Unverified
from slmgate.policy.specs import AuthSpec, GateSpec
from slmgate.terms import Bearer, Key, Principal, Refuse
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import Road
from tests.tools.stage import KEY, request

WALL = 1_800_000_000.0
BEARER = Bearer(id="https://i#bot", name="bot", kind="token", team="acme", grounds="g")
NO = Refuse("invalid_api_key", "No.")
TOKEN = b"aaa.bbb.ccc"


class Waiter:
    """A connection whose request waits."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def identified(self, unverified: Unverified, row: Any) -> None:
        self.rows.append(row)


class Scene:
    def __init__(self, *grounds: str) -> None:
        self.sent: list[Message] = []
        self.tokens = Tokens(self.sent.append)
        self.tokens.rest_on(frozenset(grounds))

    def ask(self, name: str, waiter: Waiter | None = None) -> Refuse | None:
        client: Any = waiter or Waiter()
        return self.tokens.ask(Unverified(name, name.encode()), client)


def test_one_question_however_many_wait() -> None:
    scene, waiters = Scene("g"), [Waiter(), Waiter()]
    assert [scene.ask("a", waiter) for waiter in waiters] == [None, None]
    assert scene.sent == [Verify(1, "a")]
    assert repr(scene.tokens) == "<Tokens: 0 known, 1 asked>"
    assert repr(next(iter(scene.tokens._asked.values()))) == "<Asked: 2 waiting>"
    scene.tokens.verified(Verified(1, BEARER, WALL + 60), WALL)
    assert [waiter.rows for waiter in waiters] == [[(BEARER, WALL + 60)]] * 2
    assert scene.tokens.known == {b"a": (BEARER, WALL + 60)}
    scene.tokens.verified(Verified(1, BEARER, WALL + 60), WALL)  # nobody asked
    assert len(waiters[0].rows) == 1


def test_a_no_is_kept_for_a_moment_and_a_fault_is_not() -> None:
    scene, waiter = Scene("g"), Waiter()
    scene.ask("a", waiter)
    scene.tokens.verified(Verified(1, refuse=NO), WALL)
    scene.ask("b", waiter)
    scene.tokens.verified(Verified(2, refuse=Refuse("identity_unavailable", "Later.")), WALL)
    assert [row.code for row in waiter.rows] == ["invalid_api_key", "identity_unavailable"]
    assert scene.tokens.known == {b"a": (NO, WALL + REFUSED_SECONDS)}


def test_a_yes_on_grounds_that_are_gone_is_none() -> None:
    scene, waiter = Scene("other"), Waiter()
    scene.ask("a", waiter)
    scene.tokens.verified(Verified(1, BEARER, WALL + 60), WALL)
    assert waiter.rows[0].code == "identity_unavailable"
    assert scene.tokens.known == {}


def test_grounds_change() -> None:
    """What rested on others goes, what is asked is asked again: whoever was asked before may be gone."""
    scene = Scene("g", "h")
    for number, grounds in enumerate(("g", "h"), 1):
        scene.ask(grounds)
        scene.tokens.verified(Verified(number, Bearer(id=grounds, name=grounds, grounds=grounds), WALL + 60), WALL)
    scene.ask("waits")
    scene.sent.clear()
    assert not scene.tokens.rest_on(frozenset({"g", "h", "new"}))
    assert scene.sent == [Verify(3, "waits")]
    assert scene.tokens.rest_on(frozenset({"h"}))
    assert list(scene.tokens.known) == [b"h"]
    assert scene.tokens.void(Bearer(id="", name="", grounds="g"))
    assert not scene.tokens.void(Bearer(id="", name="", grounds="h"))
    assert not scene.tokens.void(Key(id="k", name="k"))
    assert not scene.tokens.void(None)


@pytest.mark.parametrize(("bound", "asks"), [("MAX_ASKED", ["a", "b", "c"]), ("MAX_WAITING", ["a", "a", "a"])])
def test_the_bounds_of_waiting(monkeypatch: pytest.MonkeyPatch, bound: str, asks: list[str]) -> None:
    monkeypatch.setattr(module, bound, 2)
    scene = Scene("g")
    refused = [scene.ask(name) for name in asks]
    assert refused[:2] == [None, None]
    assert refused[2] is not None and refused[2].code == "identity_unavailable"
    scene.tokens.verified(Verified(1, BEARER, WALL + 60), WALL)
    assert scene.ask("d") is None


def test_the_bound_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 2)
    scene = Scene("g")
    for number, name in enumerate("abac", 1):
        scene.ask(name)
        scene.tokens.verified(Verified(number, BEARER, WALL + 60), WALL)
    assert list(scene.tokens.known) == [b"a", b"c"]


def test_what_is_over_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, now = Scene("g"), SWEEP_SECONDS
    for number, until in enumerate((WALL + 5, WALL + 6), 1):
        scene.ask(str(number))
        scene.tokens.verified(Verified(number, BEARER, until), WALL)
    scene.tokens.sweep(now, WALL + 5)
    assert list(scene.tokens.known) == [b"2"]
    scene.tokens.sweep(now + SWEEP_SECONDS - 0.1, WALL + 6)
    assert list(scene.tokens.known) == [b"2"]
    scene.tokens.sweep(now + SWEEP_SECONDS, WALL + 6)
    assert scene.tokens.known == {}


# --- on the road


@pytest.fixture
def tokens(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A road whose gate takes signed tokens; `sent` is what its worker says to control."""
    road = open_road()
    worker = road.stage.worker
    road.sent = []  # type: ignore[attr-defined]  # a note of this test's
    monkeypatch.setattr(worker.tokens, "_send", road.sent.append)  # type: ignore[attr-defined]  # the same
    worker._told(Grounds(("g",)))
    publish(road)
    return road


def publish(road: Road, **auth: Any) -> None:
    stage = road.stage
    spec_auth = AuthSpec(signed=True, **auth)
    original = stage.worker.apply

    def apply(spec: Any) -> None:
        from msgspec.structs import replace

        original(replace(spec, auth=spec_auth))

    stage.worker.apply = apply  # type: ignore[method-assign]  # every snapshot from now on takes tokens
    stage.publish(gate=GateSpec(body_timeout=5.0))


def verdict(road: Any, number: int = 1, until: float = 60.0, bearer: Bearer = BEARER, refuse: Refuse | None = None) -> None:
    """Control says whose the token is; without a refusal it is the bearer's for `until` seconds."""
    stage = road.stage
    stage.worker._told(Verified(number, bearer if refuse is None else None, stage.clock.time() + until, refuse))
    stage.loop.settle()


def client_of(road: Any) -> ClientConnection:
    client: ClientConnection = road.stage.clients[-1]
    return client


CHAT = request({"model": "m"}, key=TOKEN)
SCRIPT_ANSWERED = """
>> a       200 {}
== 200     complete a
<< client  200 | {}
"""


def asks(road: Any, text: bytes = CHAT) -> None:
    road.plays(">> client asks", asks=text)


def goes_on(road: Any) -> None:
    seen = road.stage.loop.opened["a"]
    assert len(seen) >= 1
    seen[-1].feed(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
    road.stage.loop.settle()
    receipt = road.stage.receipts[-1]
    assert (receipt["status"], receipt["principal"], receipt["team"]) == (200, "bot", "acme"), receipt


def test_a_request_waits_for_the_verdict(tokens: Any) -> None:
    asks(tokens)
    assert tokens.sent == [Verify(1, TOKEN.decode())]
    assert "asking who calls" in repr(client_of(tokens).exchange)
    assert not tokens.stage.loop.knocks
    verdict(tokens)
    goes_on(tokens)
    client_of(tokens).data_received(CHAT)  # the token is known now
    tokens.stage.loop.settle()
    goes_on(tokens)
    client_of(tokens).data_received(CHAT)  # and the head as well
    tokens.stage.loop.settle()
    goes_on(tokens)
    assert len(tokens.sent) == 1


def test_a_no(tokens: Any) -> None:
    tokens.stage.loop.told = lambda *_: None
    tokens.stage.connect().feed(CHAT)
    verdict(tokens, refuse=NO)
    assert tokens.stage.receipts[-1]["status"] == 401
    assert not tokens.stage.loop.knocks


def test_nobody_answers(tokens: Any) -> None:
    """A bounded wait, then 503; a verdict after that is nobody's."""
    tokens.stage.connect().feed(CHAT)
    tokens.stage.loop.turn(VERDICT_SECONDS + 0.5)
    assert (tokens.stage.receipts[-1]["status"], tokens.stage.receipts[-1]["reason"]) == (503, "identity_unavailable")
    verdict(tokens)
    assert len(tokens.stage.receipts) == 1


def test_the_client_leaves_meanwhile(tokens: Any) -> None:
    client = tokens.stage.connect()
    client.feed(CHAT)
    client.lose()
    verdict(tokens)
    assert tokens.stage.receipts[-1]["ended"] == "client_left"
    assert not tokens.stage.loop.knocks
    assert TOKEN not in tokens.stage.worker.tokens.known
    assert len(tokens.stage.worker.tokens.known) == 1, "the verdict is kept all the same"


def test_the_body_is_not_read_before_the_verdict(tokens: Any) -> None:
    said: list[bytes] = []
    tokens.stage.loop.told = lambda who, what, data: said.append(data) if who == "client" else None
    client = tokens.stage.connect()
    head, _, body = request({"model": "m"}, b"Expect: 100-continue\r\n", key=TOKEN).partition(b"\r\n\r\n")
    client.feed(head + b"\r\n\r\n")
    tokens.stage.loop.settle()
    assert said == []
    verdict(tokens)
    assert said[0].startswith(b"HTTP/1.1 100 ")
    client.feed(body)
    tokens.stage.loop.settle()
    goes_on(tokens)


def test_expectation_of_a_stranger(tokens: Any) -> None:
    said: list[bytes] = []
    tokens.stage.loop.told = lambda who, what, data: said.append(data) if who == "client" else None
    client = tokens.stage.connect()
    client.feed(request({"model": "m"}, b"Expect: 100-continue\r\n", key=TOKEN).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    verdict(tokens, refuse=NO)
    assert said[0].startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("good", [True, False])
def test_a_body_on_its_way(tokens: Any, chunked: bool, good: bool) -> None:
    """What comes of it meanwhile waits; a refused one is read past, and the connection kept where that is sure."""
    text = request({"model": "m"}, key=TOKEN)
    if chunked:
        text = request(b"", b"Transfer-Encoding: chunked\r\n", key=TOKEN) + b"d\r\n" + b'{"model":"m"}' + b"\r\n0\r\n\r\n"
    client = tokens.stage.connect()
    client.feed(text[:-9])
    client.feed(text[-9:-5])
    tokens.stage.loop.settle()
    verdict(tokens, refuse=None if good else NO)
    if good:
        client.feed(text[-5:])
        tokens.stage.loop.settle()
        goes_on(tokens)
        return
    assert tokens.stage.receipts[-1]["status"] == 401
    if not chunked:
        client.feed(text[-5:] + request({"model": "m"}))
        tokens.stage.loop.settle()
        assert tokens.stage.loop.knocks == ["a"]


def test_a_body_that_is_long_on_its_way_while_the_token_ends(tokens: Any) -> None:
    """The verdict is for the whole request; and one that is withdrawn meanwhile is asked about again."""
    client = tokens.stage.connect()
    client.feed(CHAT[:-3])
    verdict(tokens, until=1.0)
    tokens.stage.loop.turn(2)
    client.feed(CHAT[-3:])
    tokens.stage.loop.settle()
    goes_on(tokens)
    other = request({"model": "m"}, key=TOKEN + b"d")
    client.feed(other[:-3])
    verdict(tokens, number=2)
    tokens.stage.worker._told(Grounds(("h",)))
    client.feed(other[-3:])
    tokens.stage.loop.settle()
    assert len(tokens.sent) == 3
    verdict(tokens, number=3, bearer=Bearer(id="i#bot", name="bot", team="acme", grounds="h"))
    goes_on(tokens)


def test_requests_behind_each_other(tokens: Any) -> None:
    client = tokens.stage.connect()
    client.feed(CHAT + request({"model": "m"}, key=TOKEN + b"x") + request({"model": "m"}))
    verdict(tokens)
    goes_on(tokens)
    verdict(tokens, number=2, refuse=NO)
    assert tokens.stage.receipts[-1]["status"] == 401
    tokens.stage.loop.opened["a"][-1].feed(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
    tokens.stage.loop.settle()
    assert tokens.stage.receipts[-1]["principal"] == KEY.name


def test_a_token_that_ends_between_two_requests(tokens: Any) -> None:
    """On a kept connection, also where the head came before: it is asked about again, and goes the long way from there."""
    client = tokens.stage.connect()
    client.feed(CHAT)
    verdict(tokens, until=10)
    goes_on(tokens)
    for _ in range(2):
        client.feed(CHAT)
        tokens.stage.loop.settle()
        goes_on(tokens)
    tokens.stage.loop.turn(11)
    client.feed(CHAT)
    tokens.stage.loop.settle()
    assert len(tokens.sent) == 2
    verdict(tokens, number=2, until=10)
    goes_on(tokens)
    tokens.stage.loop.turn(11)
    client.feed(CHAT)
    verdict(tokens, number=3, refuse=NO)
    assert tokens.stage.receipts[-1]["status"] == 401


def test_grounds_that_go_between_two_requests(tokens: Any) -> None:
    client = tokens.stage.connect()
    client.feed(CHAT)
    verdict(tokens)
    goes_on(tokens)
    snapshot = tokens.stage.worker.snapshot
    tokens.stage.worker._told(Grounds(("g", "h")))
    assert tokens.stage.worker.snapshot is snapshot
    tokens.stage.worker._told(Grounds(("h",)))
    assert tokens.stage.worker.snapshot is not snapshot
    client.feed(CHAT)
    verdict(tokens, number=2, refuse=NO)
    assert tokens.stage.receipts[-1]["status"] == 401


@pytest.mark.parametrize("held", [True, False])
def test_grounds_that_go_while_a_request_stands_in_line(tokens: Any, held: bool) -> None:
    tokens.stage.loop.doors["a"] = "hangs"
    client = tokens.stage.connect()
    client.feed(CHAT)
    verdict(tokens)
    tokens.stage.worker._told(Grounds(("g", "new") if held else ("new",)))
    tokens.stage.publish()
    tokens.stage.loop.doors["a"] = "opens"
    tokens.stage.loop.turn(3)
    client = tokens.stage.connect()
    opened = tokens.stage.loop.opened.get("a", [])
    if held and opened:
        goes_on(tokens)
    else:
        assert tokens.stage.receipts[-1]["status"] in (502, 503)


def test_too_many_wait(tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 0)
    tokens.stage.connect().feed(CHAT)
    tokens.stage.loop.settle()
    assert (tokens.stage.receipts[-1]["status"], tokens.stage.receipts[-1]["reason"]) == (503, "identity_unavailable")


def test_the_gate_stops_while_a_request_waits(tokens: Any) -> None:
    tokens.stage.connect().feed(CHAT[:-3])
    client_of(tokens).stop()
    tokens.stage.loop.settle()
    assert tokens.stage.receipts[-1]["ended"] == "gate_stopped"
    verdict(tokens)
    assert len(tokens.stage.receipts) == 1


def test_a_fault_of_our_own_costs_one_request(tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the same verdict behind it goes on."""
    first, second = tokens.stage.connect(), tokens.stage.connect()
    first.feed(CHAT)
    faulty = client_of(tokens)
    second.feed(CHAT)
    monkeypatch.setattr("slmgate.dataplane.exchange.Exchange.roles", fails_once(monkeypatch))
    verdict(tokens)
    assert [receipt["ended"] for receipt in tokens.stage.receipts] == ["gate_failed"]
    goes_on(tokens)
    assert faulty is not None


def fails_once(monkeypatch: pytest.MonkeyPatch) -> Any:
    from slmgate.dataplane.exchange import Exchange

    original, calls = Exchange.roles, iter([True])

    def roles(self: Exchange) -> Any:
        if next(calls, False):
            raise ValueError
        return original(self)

    return roles


def test_anonymous(open_road: OpenRoad) -> None:
    road: Any = open_road()
    publish(road, anonymous=Principal(id="anonymous", name="anonymous", kind="anonymous"))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Length: 13\r\n"
    road.stage.connect().feed(head + b"\r\n" + b'{"model":"m"}')
    road.stage.loop.settle()
    assert len(road.stage.loop.opened["a"]) == 1
    road.stage.connect().feed(head + b"Authorization: Bearer wrong\r\n\r\n" + b'{"model":"m"}')
    road.stage.loop.settle()
    assert road.stage.receipts[-1]["status"] == 401
