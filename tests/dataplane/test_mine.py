"""What key holders ask about themselves, as a worker answers it: from the page's own files, and by asking control."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256

import pytest

from slmgate.dataplane.mine import A_SECOND, MAX_ASKED, MAX_BODY, USUAL_SECONDS, is_mine
from slmgate.link.messages import Message, Mine, MineTold
from slmgate.link.questions import QUESTIONS
from slmgate.policy.guard import GuardSpec, RateSpec
from slmgate.policy.roles import RoleSpec
from slmgate.policy.specs import AuthSpec, GateSpec
from slmgate.terms import Bearer, Key, Principal, Refuse
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeTransport
from tests.tools.road import Road
from tests.tools.stage import KEY, SECRET, request

OTHER = b"sk-slm-unit-other-0123456789"
OTHER_KEY = Key(id="k2", name="acme-bot", team="acme", digests=((sha256(OTHER).digest(), None),))


class Desk:
    """A gate with the page, and control's end of the link: what is asked there, and whether it is there."""

    def __init__(self, road: Road) -> None:
        self.road, self.worker = road, road.stage.worker
        self.asked: list[Mine] = []
        self.link = self
        self.worker.holders._link = self  # type: ignore[assignment]  # as the link's client, with no socket
        self.connected = True

    def send(self, message: Message) -> None:
        assert isinstance(message, Mine)
        self.asked.append(message)

    def client(self) -> tuple[FakeTransport, list[bytes]]:
        said: list[bytes] = []
        client = self.road.stage.connect()
        client.write = said.append  # type: ignore[method-assign, assignment]  # what the client gets
        return client, said

    def ask(self, data: bytes) -> list[bytes]:
        """A client sends this; what it was answered so far."""
        client, said = self.client()
        client.feed(data)
        self.road.stage.loop.settle()
        return said

    def get(self, what: str, key: bytes = SECRET, fields: bytes = b"") -> list[bytes]:
        return self.ask(request(line=b"GET /me/api/%b HTTP/1.1" % what.encode(), key=key, fields=fields))

    def tell(self, body: bytes = b"{}", refuse: Refuse | None = None) -> None:
        self.worker._told(MineTold(self.asked[-1].number, body, refuse))
        self.road.stage.loop.settle()


@pytest.fixture
def desk(open_road: OpenRoad) -> Iterator[Desk]:
    desk = Desk(open_road(gate=GateSpec(me=True)))
    yield desk
    assert [one for one in desk.road.stage.receipts if one["path"].startswith("/me")] == []
    assert repr(desk.worker.holders) == f"<Holders: {len(desk.worker.holders._asked)} asked>"


def code(said: list[bytes]) -> tuple[int, str]:
    head, _, body = b"".join(said).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)["error"]["code"]


def test_what_is_its_own() -> None:
    assert [is_mine(path) for path in ("/me", "/me/", "/me/api/key", "/metrics", "/men", "/ME", "/v1/me")] == [True] * 3 + [
        False
    ] * 4


def test_off_by_default(open_road: OpenRoad) -> None:
    road = open_road()
    desk = Desk(road)
    for path in ("/me", "/me/me.js", "/me/api/key"):
        assert code(desk.ask(request(line=b"GET %b HTTP/1.1" % path.encode()))) == (404, "not_found")
    assert [one["reason"] for one in road.stage.receipts] == ["not_found"] * 3  # as any other path that is not there
    assert desk.asked == []


@pytest.mark.parametrize(
    ("path", "kind"), [("/me", b"text/html"), ("/me/me.css", b"text/css"), ("/me/me.js", b"text/javascript")]
)
def test_the_page(desk: Desk, path: str, kind: bytes) -> None:
    """For everybody, as it tells nothing; with no right to do more than ask the gate that it came from."""
    (said,) = desk.ask(b"GET %b HTTP/1.1\r\nHost: g\r\nX-Request-Id: a\r\n\r\n" % path.encode())
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"content-type: %b; charset=utf-8" % kind in head and len(body) > 500
    policy = b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"
    assert policy in head and b"unsafe" not in head and b"set-cookie" not in head
    assert b"x-content-type-options: nosniff" in head and b"frame-ancestors 'none'" in head
    (short,) = desk.ask(b"HEAD %b HTTP/1.1\r\nHost: g\r\nX-Request-Id: a\r\n\r\n" % path.encode())
    assert short == head + b"\r\n\r\n"
    assert desk.asked == []


def test_the_page_holds_no_inline_script_or_style(desk: Desk) -> None:
    (said,) = desk.ask(b"GET /me HTTP/1.1\r\nHost: g\r\n\r\n")
    assert b"<style" not in said and b" style=" not in said and b" onclick" not in said and b"<script>" not in said
    (script,) = desk.ask(b"GET /me/me.js HTTP/1.1\r\nHost: g\r\n\r\n")
    for word in (b"innerHTML", b"eval(", b"document.write", b"localStorage", b"cookie", b"insertAdjacent"):
        assert word not in script
    assert b"http://" not in script.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in script


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        ("POST /me", 405, b"allow: GET, HEAD, OPTIONS"),
        ("PUT /me/api/key", 405, b"allow: GET, HEAD, OPTIONS"),
        ("GET /me/api/rotate", 405, b"allow: POST, OPTIONS"),
        ("OPTIONS /me/api/rotate", 204, b"allow: POST, OPTIONS"),
        ("OPTIONS /me", 204, b"allow: GET, HEAD, OPTIONS"),
        ("OPTIONS /me/nothing", 404, b""),
        ("GET /me/", 404, b""),
        ("GET /me/api", 404, b""),
        ("GET /me/../me/me.js", 404, b""),
        ("GET /me/me.py", 404, b""),
    ],
)
def test_methods_and_paths(desk: Desk, line: str, status: int, allow: bytes) -> None:
    (said,) = desk.ask(request(line=line.encode() + b" HTTP/1.1"))
    assert int(said.split(b" ")[1]) == status and allow in said
    assert b"access-control" not in said  # no page of another origin gets to ask with a key
    assert desk.asked == []


@pytest.mark.parametrize("what", [what for method, what in QUESTIONS.values() if method == "GET"])
def test_a_question_goes_to_control_and_comes_back(desk: Desk, what: str) -> None:
    said = desk.get(what)
    assert said == []
    (asked,) = desk.asked
    assert (asked.key, asked.digest, asked.what, asked.body) == ("k1", sha256(SECRET).digest(), what, b"")
    assert asked.address
    desk.tell(b'{"it":1}')
    (whole,) = said
    assert whole.startswith(b"HTTP/1.1 200 ") and whole.endswith(b'{"it":1}')
    assert b"cache-control: no-store\r\n" in whole and b"x-content-type-options: nosniff\r\n" in whole
    assert desk.worker.tally.mine == 1 and desk.worker.tally.requests == 0


def test_rotate_takes_a_body_however_it_comes(desk: Desk) -> None:
    body = b'{"overlap":"1h"}'
    whole = request(body, line=b"POST /me/api/rotate HTTP/1.1")
    desk.ask(whole)
    assert desk.asked[-1].body == body and desk.asked[-1].what == "rotate"
    desk.tell()
    client, said = desk.client()
    for at in range(len(whole)):
        client.feed(whole[at : at + 1])
        desk.road.stage.loop.settle()
    assert desk.asked[-1].body == body
    desk.tell(b'{"two":2}')
    assert said[-1].endswith(b'{"two":2}')


def test_two_on_one_connection(desk: Desk) -> None:
    """The next request waits for the answer before it, as every does."""
    client, said = desk.client()
    client.feed(request(line=b"GET /me/api/key HTTP/1.1") + request(line=b"GET /me/api/usage HTTP/1.1"))
    desk.road.stage.loop.settle()
    assert [one.what for one in desk.asked] == ["key"]
    desk.tell(b'{"a":1}')
    assert [one.what for one in desk.asked] == ["key", "usage"]
    desk.tell(b'{"b":2}')
    assert b"".join(said).count(b"HTTP/1.1 200 ") == 2


def test_an_idempotency_key_changes_nothing(desk: Desk) -> None:
    said = desk.get("usage", fields=b"Idempotency-Key: once\r\n")
    desk.tell(b'{"a":1}')
    assert b"".join(said).endswith(b'{"a":1}')


def test_control_says_no(desk: Desk) -> None:
    said = desk.get("key")
    desk.tell(refuse=Refuse("permission_denied", "Not so."))
    assert code(said) == (403, "permission_denied") and b"no-store" in said[0]


# -- who is let in


def test_strangers(desk: Desk) -> None:
    assert code(desk.ask(b"GET /me/api/usage HTTP/1.1\r\nHost: g\r\n\r\n")) == (401, "invalid_api_key")
    assert code(desk.get("usage", b"sk-slm-of-nobody-at-all-0000")) == (401, "invalid_api_key")
    assert code(desk.get("usage", SECRET, b"x-api-key: another-one-000000000\r\n")) == (401, "invalid_api_key")
    assert code(desk.ask(request(line=b"POST /me/api/rotate HTTP/1.1", key=b"wrong"))) == (401, "invalid_api_key")
    assert desk.asked == []


def test_who_is_no_key(desk: Desk) -> None:
    """Anonymous callers, and tokens that were verified as well as those that could be: nobody that has figures here."""
    stage = desk.road.stage
    token, good = b"aaaa.bbbb.cccc", b"dddd.eeee.ffff"
    bearer = Bearer(id="https://id#ann", name="ann", kind="token", grounds="g")
    stage.worker.tokens.grounds = frozenset("g")
    stage.worker.tokens.known[sha256(good).digest()] = bearer, stage.clock.time() + 1000
    public = Principal(id="anonymous", name="anonymous", kind="anonymous")
    stage.publish(auth=AuthSpec(signed=True, opaque=True, anonymous=public))
    for secret in (token, good, b"opaque-token-of-somebody-else"):
        assert code(desk.get("key", secret)) == (401, "invalid_api_key")
    assert code(desk.ask(b"GET /me/api/key HTTP/1.1\r\nHost: g\r\n\r\n")) == (401, "invalid_api_key")
    assert desk.asked == []
    assert repr(stage.worker.tokens) == "<Tokens: 1 known, 0 asked>"  # nor was a provider asked


def test_a_key_that_opens_nothing(desk: Desk) -> None:
    stage, digests = desk.road.stage, ((sha256(SECRET).digest(), None),)
    past = stage.clock.time() - 1
    for key in (
        Key(id="k1", name="x", disabled=True, digests=digests),
        Key(id="k1", name="x", expires=past, digests=digests),
        Key(id="k1", name="x", digests=((digests[0][0], past),)),
        OTHER_KEY,
    ):
        stage.publish(keys=(key,))
        assert code(desk.get("key")) == (401, "invalid_api_key")
    stage.publish(keys=(Key(id="k1", name="x", networks=("203.0.113.0/24",), digests=digests),))
    assert code(desk.get("key")) == (403, "permission_denied")
    stage.publish(roles=(RoleSpec(name="partner", models=("*",), endpoints=("*",)),))
    assert code(desk.get("key")) == (403, "permission_denied")  # no role at all
    assert desk.asked == []


def test_the_key_is_looked_for_anew_when_the_body_took_its_time(desk: Desk) -> None:
    whole = request(b'{"overlap":"1h"}', line=b"POST /me/api/rotate HTTP/1.1")
    client, said = desk.client()
    client.feed(whole[:-3])
    desk.road.stage.loop.settle()
    desk.road.stage.publish(keys=(OTHER_KEY,))
    client.feed(whole[-3:])
    desk.road.stage.loop.settle()
    assert code(said) == (401, "invalid_api_key") and desk.asked == []


def test_wrong_credentials_are_counted_by_the_guard(open_road: OpenRoad) -> None:
    guard = GuardSpec(failed_auth=RateSpec(2, 60, 2, "2/minute"), ban=900.0)
    desk = Desk(open_road(gate=GateSpec(me=True, guard=guard)))
    for _ in range(3):
        assert code(desk.get("key", b"sk-slm-guess-000000000000000"))[0] == 401
    assert desk.worker.tally.bans == 1
    assert desk.get("key") == [] and desk.asked == []  # the address is turned away, whatever it shows now


def test_requests_are_counted_by_the_guard(open_road: OpenRoad) -> None:
    guard = GuardSpec(requests=RateSpec(2, 60, 2, "2/minute"))
    desk = Desk(open_road(gate=GateSpec(me=True, guard=guard)))
    answers = [code(desk.get("nothing")) for _ in range(3)]
    assert answers == [(404, "not_found"), (404, "not_found"), (429, "rate_limit_exceeded")]


# -- bounds


def test_one_at_a_time_for_each_key(desk: Desk) -> None:
    desk.road.stage.publish(keys=(KEY, OTHER_KEY))
    first, second, other = desk.get("key"), desk.get("usage"), desk.get("key", OTHER)
    assert first == [] and other == [] and code(second) == (429, "rate_limit_exceeded")
    assert [one.key for one in desk.asked] == ["k1", "k2"]
    desk.tell(b'{"k2":0}')
    assert other[0].endswith(b'{"k2":0}') and first == []  # the answer goes to who asked


def test_so_many_a_second(desk: Desk) -> None:
    for _ in range(A_SECOND):
        desk.get("key")
        desk.tell()
    assert code(desk.get("key")) == (429, "rate_limit_exceeded")
    desk.road.stage.loop.turn(1.5)
    assert desk.get("key") == []


@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY + 1])
def test_the_body_is_bounded(desk: Desk, size: int) -> None:
    said = desk.ask(request(b"x" * size, line=b"POST /me/api/rotate HTTP/1.1"))
    if size > MAX_BODY:
        assert code(said) == (413, "request_too_large") and desk.asked == []
    else:
        assert len(desk.asked) == 1


def test_all_together_are_bounded(desk: Desk) -> None:
    secrets = [b"sk-slm-many-%020d" % number for number in range(MAX_ASKED + 1)]
    keys = tuple(Key(id=f"m{at}", name=f"m{at}", digests=((sha256(one).digest(), None),)) for at, one in enumerate(secrets))
    desk.road.stage.publish(keys=keys)
    answers = [desk.get("key", secret) for secret in secrets]
    assert [said for said in answers[:-1] if said] == [] and code(answers[-1]) == (503, "overloaded")


def test_control_is_away(desk: Desk) -> None:
    desk.connected = False
    said = desk.get("key")
    assert code(said) == (503, "overloaded") and b"retry-after: 2\r\n" in said[0] and desk.asked == []


@pytest.mark.parametrize(("what", "seconds"), [("key", USUAL_SECONDS), ("rotate", 10.0)])
def test_control_does_not_answer(desk: Desk, what: str, seconds: float) -> None:
    line = b"POST /me/api/rotate HTTP/1.1" if what == "rotate" else b"GET /me/api/key HTTP/1.1"
    said = desk.ask(request(line=line))
    desk.road.stage.loop.turn(seconds - 0.5)
    assert said == []
    desk.road.stage.loop.turn(1)
    assert code(said) == (503, "overloaded")
    desk.tell()  # too late
    assert len(said) == 1
    assert desk.get("key") == [] and len(desk.asked) == 2  # and the key may ask again


def test_the_client_leaves_meanwhile(desk: Desk) -> None:
    client, _ = desk.client()
    client.feed(request(line=b"GET /me/api/key HTTP/1.1"))
    desk.road.stage.loop.settle()
    client.lose()
    assert code(desk.get("key"))[0] == 429  # control works on it still
    desk.tell()
    assert desk.get("key") == []


def test_models_are_served_meanwhile(desk: Desk) -> None:
    """A question that waits holds up nobody, its own key neither."""
    desk.get("usage")
    client, said = desk.client()
    client.feed(request(line=b"GET /v1/models HTTP/1.1"))
    desk.road.stage.loop.settle()
    assert b'"id":"m"' in said[0].replace(b" ", b"")
    assert [one["path"] for one in desk.road.stage.receipts] == ["/v1/models"]


def test_a_fault_costs_one_question(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    said = desk.get("key")
    reported: list[int] = []
    desk.worker.holders._report = lambda: reported.append(1)
    exchange = type(next(iter(desk.worker.holders._asked.values())).exchange)
    usual = exchange.answer_self

    def fails_once(*_: object, **__: object) -> None:
        monkeypatch.setattr(exchange, "answer_self", usual)
        raise MemoryError

    monkeypatch.setattr(exchange, "answer_self", fails_once)
    desk.tell()
    assert reported == [1] and code(said) == (500, "internal_error")
