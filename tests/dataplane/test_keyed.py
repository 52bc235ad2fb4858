"""Requests with an Idempotency-Key: asked once of an instance, charged once, answered as often as they come.

What the files of kept answers do is tested in `test_kept.py`. Length: transcripts, one for each way that such a request may go.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from slmgate.dataplane.exchange import KEPT_ANSWER
from slmgate.dataplane.kept import PARTS, Claim, Kept
from slmgate.dataplane.keyed import WAIT_SECONDS, Keyed, KeyedExchange, fingerprint
from slmgate.dialects import TABLE
from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import RoleSpec, TeamSpec
from slmgate.policy.specs import AuthSpec, GateSpec
from slmgate.terms import Key, Principal
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeLoop
from tests.tools.road import Road
from tests.tools.stage import KEY, model, reply, request

FIELD = b"Idempotency-Key: first\r\n"
KEYED = request({"model": "m"}, FIELD)
OTHER_BODY = request({"model": "m", "n": 1}, FIELD)
STREAM = request({"model": "m", "stream": True}, FIELD)
AGAIN = "200 idempotent-replayed: true | <used>"

ONCE = """
    >> client  keyed
    == intent  a
    << a       <chat>
    >> a       200 <used>
    == 200     complete a 5+7
    << client  200 | <used>
"""


@pytest.fixture(autouse=True)
def swept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parts that were given to another thread for sweeping; there is none here."""
    parts: list[int] = []
    monkeypatch.setattr(FakeLoop, "run_in_executor", lambda self, where, call, them: parts.extend(them))
    return parts


def played(road: Road, script: str, **texts: bytes) -> None:
    road.plays(script, **{"keyed": KEYED, "other": OTHER_BODY, **texts})


def test_it_is_asked_and_charged_once(road: Road) -> None:
    played(road, ONCE)
    again = f"""
        >> client  keyed
        == 200     complete !replayed
        << client  {AGAIN}
        >> client2 keyed
        == 200     complete !replayed
        << client2 {AGAIN}
    """
    played(road, again)
    first, second, _ = road.stage.receipts
    assert (second["model"], second["verdict"], second["attempts"], second["instance"]) == ("m", "admit", 0, "")
    assert first["request_id"] != second["request_id"]
    assert repr(road.stage.worker.keyed) == "<Keyed 0 waiting, 0 without a client>"


def test_another_request_under_the_same_key(road: Road) -> None:
    played(road, ONCE)
    script = """
        >> client  other
        == 422     refused !idempotency_conflict
        << client  422 !idempotency_conflict
        >> client  elsewhere
        == 422     refused !idempotency_conflict
        << client  422 !idempotency_conflict
    """
    played(road, script, elsewhere=request({"model": "m"}, FIELD, b"POST /v1/completions HTTP/1.1"))


def test_the_same_key_of_another_principal_is_another(road: Road) -> None:
    played(road, ONCE)
    secret = b"sk-slm-other-0123456789abcdef"
    other = Key(id="k2", name="other", digests=((sha256(secret).digest(), None),))
    road.stage.publish(keys=(KEY, other))
    script = """
        >> client2 theirs
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client2 200 | {}
    """
    played(road, script, theirs=request({"model": "m"}, FIELD, key=secret))


def test_a_parallel_one_waits(road: Road) -> None:
    script = f"""
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client2 keyed
        >> client3 keyed
        >> client4 keyed
        >> client4 leaves
        == 499     client_left !client_left
        >> client5 other
        == 422     refused !idempotency_conflict
        << client5 422 !idempotency_conflict
        >> clock   2
        >> a       200 <used>
        == 200     complete a 5+7
        == 200     complete !replayed
        == 200     complete !replayed
        << client  200 | <used>
        << client2 {AGAIN}
        << client3 {AGAIN}
    """
    played(road, script)


def test_a_parallel_one_takes_over_where_nothing_came_of_the_first(open_road: OpenRoad) -> None:
    road = open_road(model(attempts=1))
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client2 keyed
        >> client3 keyed
        >> a       500 oh
        == 502     upstream_error a !upstream_error
        == intent  a
        << client  502 !upstream_error
        << a       <chat>
        >> a       200 <used>
        == 200     complete a 5+7
        == 200     complete !replayed
        << client2 200 | <used>
        << client3 200 idempotent-replayed: true | <used>
    """
    played(road, script)


def test_it_waits_for_another_workers_answer_too(road: Road) -> None:
    """Whose it is, only the lock tells; the answer is found at the next tick."""
    theirs = Kept(Path(road.stage.worker.keyed.kept._directory))
    claims: list[Any] = []
    real = Kept.claim

    def first_theirs(self: Kept, name: str, print_: bytes, now: float) -> Any:
        if not claims:
            claims.append(real(theirs, name, print_, now))
        return real(self, name, print_, now)

    road.stage.worker.keyed.kept.claim = first_theirs.__get__(road.stage.worker.keyed.kept)  # type: ignore[method-assign]  # a method bound to it as the real one is
    script = """
        >> client  keyed
        >> clock   1
    """
    played(road, script)
    (claim,) = claims
    assert isinstance(claim, Claim)
    claim.release()
    script = """
        >> clock   0.25
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """
    played(road, script)


def test_it_does_not_wait_for_ever(road: Road) -> None:
    busy = Kept(Path(road.stage.worker.keyed.kept._directory))
    real = Kept.claim
    held: list[Any] = []

    def never(self: Kept, name: str, print_: bytes, now: float) -> Any:
        held.append(real(busy, name, print_, now)) if not held else None
        return real(self, name, print_, now)

    road.stage.worker.keyed.kept.claim = never.__get__(road.stage.worker.keyed.kept)  # type: ignore[method-assign]  # a method bound to it as the real one is
    script = f"""
        >> client  keyed
        >> clock   {WAIT_SECONDS - 0.25}
        >> clock   0.25
        == 503     refused !overloaded
        << client  503 !overloaded retry-after: 1
    """
    played(road, script)
    held[0].release()


def test_a_client_that_leaves_finds_the_answer(road: Road) -> None:
    """The instance works on: there is one call and one charge, whoever hears of it."""
    script = f"""
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client  stops-reading
        << a       pauses reading
        >> client  leaves
        << a       reads on
        >> a       200 <used>
        == 200     complete a 5+7
        >> client2 keyed
        == 200     complete !replayed
        << client2 {AGAIN}
        >> clock   1
    """
    played(road, script)
    assert road.stage.worker.keyed.alone == []


def test_who_left_before_an_instance_was_asked_costs_nothing(open_road: OpenRoad) -> None:
    road = open_road(model())
    script = """
        >> door    a hangs
        >> client  keyed
        >> client  leaves
        == 499     client_left a !client_left
        >> door    a opens
        >> clock   0.25
        >> client2 keyed
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client2 200 | {}
    """
    played(road, script)


def test_without_a_client_its_progress_is_noted(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of every other request that limits count: what it came to is charged whatever becomes of the worker."""
    noted: list[str] = []
    monkeypatch.setattr(KeyedExchange, "note_progress", lambda self: noted.append(self.name))
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client  leaves
        >> clock   0.5
        >> a       200 <used>
        == 200     complete a 5+7
        >> clock   0.5
    """
    played(road, script)
    assert len(noted) == 2


def test_without_a_client_its_time_limits_hold(open_road: OpenRoad) -> None:
    road = open_road(model(first_byte_timeout=2.0))
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client  leaves
        >> clock   2
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 4+0~
    """
    played(road, script)


@pytest.mark.parametrize("revoked", [False, True])
def test_without_a_client_it_is_asked_again_by_a_new_snapshot(open_road: OpenRoad, revoked: bool) -> None:
    """Who calls is looked at again before another instance is asked; there is no connection any more to be told of it."""
    road = open_road(model("a", "b", retry_on=("502",)))
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client  leaves
    """
    played(road, script)
    road.stage.publish(keys=() if revoked else (KEY,))
    again = """
        >> a       502 {}
        << b       <chat>
        >> b       200 <used>
        == 200     complete b 5+7
    """
    refused = """
        >> a       502 {}
        == 401     refused b !invalid_api_key 4+0~
    """
    played(road, refused if revoked else again)


def test_without_a_client_it_ends_with_the_worker(road: Road) -> None:
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client  leaves
        >> gate    drains
        >> clock   2
        >> a       200 <used>
        == 200     complete a 5+7
        >> clock   0.25
    """
    played(road, script)
    road.stage.loop.turn(0.5)
    assert road.stage.life.done()


def test_without_a_client_it_has_the_time_of_a_drain(open_road: OpenRoad) -> None:
    road = open_road(gate=GateSpec(drain_timeout=3.0))
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client  leaves
        >> gate    drains
        >> clock   2.5
        >> clock   0.75
        << a       aborted
        == 503     gate_stopped a !overloaded 4+0~
    """
    played(road, script)


def test_while_the_worker_drains_a_client_that_leaves_ends_it(road: Road) -> None:
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> gate    drains
        >> client  leaves
        << a       aborted
        == 499     client_left a !client_left 4+0~
    """
    played(road, script)


@pytest.mark.parametrize("body", [b"x" * 100, b""])
def test_an_answer_in_pieces_and_its_fields(road: Road, body: bytes) -> None:
    fields = b"content-type: audio/mpeg\r\ncontent-disposition: attachment\r\ncache-control: no-store\r\n"
    whole = reply(body, fields=fields)
    speech = request({"model": "m"}, FIELD, b"POST /v1/audio/speech HTTP/1.1")
    text = f" | {body.decode()}" if body else ""
    shown = "content-type: audio/mpeg cache-control: no-store content-disposition: attachment"
    script = """
        >> client  speech
        == intent  a
        << a       POST /v1/audio/speech | {"model": "m"}
    """
    played(road, script, speech=speech)
    end = road.stage.loop.opened["a"][0]
    for at in range(0, len(whole), 50):
        end.feed(whole[at : at + 50])
        road.stage.loop.settle()
    told: list[str] = []
    road.stage.loop.told = lambda who, what, data: told.append(data.decode())
    road.end_of("client").feed(speech)
    road.stage.loop.settle()
    head, _, rest = "".join(told).partition("\r\n\r\n")
    assert rest == body.decode()
    assert "idempotent-replayed: true" in head
    assert [one for one in shown.split() if one.rstrip(":") not in head] == []
    assert head.count("content-type") == 1
    assert len(road.stage.receipts) == 2, text


def test_a_chunked_answer(road: Road) -> None:
    script = f"""
        >> client  keyed
        == intent  a
        << a       <chat>
        >> a       pieces
        >> a       chunk <used>
        >> a       end
        == 200     complete a 5+7
        << client  200 transfer-encoding: chunked | 33\\r\\n<used>\\r\\n0\\r\\n\\r\\n
        >> client  keyed
        == 200     complete !replayed
        << client  {AGAIN}
    """
    played(road, script, pieces=b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "told", "code"), [(400, 400, "invalid_request"), (404, 404, "not_found"), (422, 400, "invalid_request")]
)
def test_what_the_engine_refuses_is_not_kept(road: Road, status: int, told: int, code: str) -> None:
    script = f"""
        >> client  keyed
        == intent  a
        << a       <chat>
        >> a       {status} {{}}
        == {told}  complete a !{code}
        << client  {told} !{code}
    """
    played(road, script)
    played(road, ONCE)


def test_what_the_gate_refuses_is_not_kept(road: Road) -> None:
    script = """
        >> client  other
        == 404     refused !model_not_found
        << client  404 !model_not_found
        >> client  other
        == 404     refused !model_not_found
        << client  404 !model_not_found
        >> client  junk
        == 400     refused !invalid_request
        << client  400 !invalid_request
    """
    played(road, script, other=request({"model": "x"}, FIELD), junk=request(b"{", FIELD))
    played(road, ONCE)


def test_an_answer_that_is_too_long_is_not_kept(road: Road) -> None:
    end_of = road.stage.loop.opened
    asks = road.end_of("client")
    for _ in range(2):
        asks.feed(KEYED)
        road.stage.loop.settle()
        end_of["a"][0].feed(reply(b"[" + b" " * KEPT_ANSWER + b"]"))
        road.stage.loop.settle()
    assert [one["attempts"] for one in road.stage.receipts] == [1, 1]


def test_a_stream_is_never_kept(road: Road) -> None:
    script = """
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <done>
        >> a       end
        == 200     complete a 8+0~
        << client  <sse> e\\r\\n<done>\\r\\n0\\r\\n\\r\\n
    """
    for _ in range(2):
        played(road, script, stream=STREAM)


def test_a_list_has_no_use_for_a_key(road: Road) -> None:
    seen: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: seen.append(data)
    for _ in range(2):
        road.end_of("client").feed(request(b"", FIELD, b"GET /v1/models HTTP/1.1"))
        road.stage.loop.settle()
    assert all(data.startswith(b"HTTP/1.1 200") and b"replayed" not in data for data in seen)


@pytest.mark.parametrize(
    ("key", "good"), [(b"a", True), (b"a" * 255, True), (b'"a b"', True), (b"a" * 256, False), (b"", False), (b"\xe9", False)]
)
def test_what_a_key_may_be(road: Road, key: bytes, good: bool) -> None:
    road.end_of("client").feed(request({"model": "m"}, b"Idempotency-Key: %b\r\n" % key))
    road.stage.loop.settle()
    if good:
        road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    assert [one["reason"] for one in road.stage.receipts] == ["" if good else "invalid_request"]


def test_who_may_no_longer_have_the_answer_does_not_get_it(road: Road) -> None:
    """A role that was narrowed, and a key that was revoked while the request waited."""
    played(road, ONCE)
    road.stage.publish(roles=(RoleSpec(name="r", models=("other",), endpoints=("*",)),), keys=(_with_role("r"),))
    script = """
        >> client  keyed
        == 404     refused !model_not_found
        << client  404 !model_not_found
    """
    played(road, script)


def test_who_was_revoked_while_it_waited(road: Road) -> None:
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client2 keyed
    """
    played(road, script)
    road.stage.publish(keys=())
    script = """
        >> a       200 <used>
        == 200     complete a 5+7
        == 401     refused !invalid_api_key
        << client  200 | <used>
        << client2 401 !invalid_api_key www-authenticate: Bearer
    """
    played(road, script)


def test_the_anonymous_are_told_apart_by_address(road: Road) -> None:
    """They are one principal, but one's key is nothing to another."""
    road.stage.publish(auth=AuthSpec(anonymous=Principal(id="anonymous", name="anonymous", kind="anonymous")))
    ask = b'POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nIdempotency-Key: x\r\nContent-Length: 13\r\n\r\n{"model":"m"}'
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        client = road.stage.connect()
        road.stage.clients[-1].address = address
        client.feed(ask)
        road.stage.loop.settle()
        if len(road.stage.receipts) < 2:
            road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    assert [one["reason"] for one in road.stage.receipts] == ["", "", "replayed"]


def test_limits_and_prices_count_it_once(road: Road) -> None:
    """Told again, it takes nothing; refused for a limit, it leaves its key free."""
    gold = PlanSpec(name="gold", currency="EUR", prices=(("m", Price(100, 300)),))
    one = LimitSpec(name="l", text="1 requests/minute", identity="l", unit="requests", amount=1, seconds=60, per=("principal",))
    road.stage.publish(limits=(one,), teams=(TeamSpec(name="acme", plan="gold"),), plans=(gold,))
    heard: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: heard.append(data[:12]) if who == "client" else None
    for key in (b"a", b"a", b"b", b"b", b"a"):
        road.end_of("client").feed(request({"model": "m"}, b"Idempotency-Key: %b\r\n" % key))
        road.stage.loop.settle()
        if not heard:
            road.stage.loop.opened["a"][0].feed(reply(b'{"usage":{"prompt_tokens":5,"completion_tokens":7}}'))
            road.stage.loop.settle()
    assert heard == [b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 429", b"HTTP/1.1 429", b"HTTP/1.1 200"]
    assert [one["cost"] for one in road.stage.receipts] == [5 * 100 + 7 * 300, 0, 0, 0, 0]
    road.stage.publish()
    road.end_of("client2").feed(request({"model": "m"}, b"Idempotency-Key: b\r\n"))
    road.stage.loop.settle()
    road.stage.loop.opened["a"][-1].feed(reply(b"{}"))
    assert road.stage.receipts[-1]["ended"] == "complete"


def test_no_room_to_keep_an_answer(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """No promise that cannot be held; and one that could not be held in the end costs nobody this answer."""
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "claim", _raises)
        script = """
            >> client  keyed
            == 503     refused !accounting_unavailable
            << client  503 !accounting_unavailable retry-after: 5
        """
        played(road, script)
    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.worker.tell", lambda what, trace="": None)
        patch.setattr(Claim, "keep", lambda self, answer: _raises(self.release()))
        played(road, ONCE)
    played(road, ONCE)


def _raises(*_: object) -> Any:
    raise OSError(28, "No space left on device")


def test_a_fault_of_our_own_costs_one_request(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        >> client  keyed
        == intent  a
        << a       <chat>
        >> client2 keyed
    """
    played(road, script)
    monkeypatch.setattr("slmgate.dataplane.worker.tell", lambda what, trace="": None)
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "claim", lambda *_: 1 / 0)
        script = """
            >> clock   0.25
            == 500     gate_failed !internal_error
            << client2 500 !internal_error retry-after: 1
            >> client  leaves
        """
        played(road, script)
    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.keyed.Exchange.sweep", lambda *_: 1 / 0)
        road.stage.loop.turn(200)
    assert [one["ended"] for one in road.stage.receipts] == ["gate_failed", "gate_failed"]


def test_when_it_is_swept(tmp_path: Path) -> None:
    """Part by part, by one worker, once there is something to sweep."""
    there = Keyed(tmp_path, lambda act: None, sweeps=True)
    assert [there.to_sweep() for _ in range(PARTS + 2)] == [[part % PARTS] for part in range(1, PARTS + 3)]
    there.kept.hurry = 3
    assert [there.to_sweep(), there.to_sweep()] == [[3, 4, 5], [6, 7, 8]]
    there.kept.sweeping = True  # a slow disk: one at a time
    assert there.to_sweep() == ()
    assert Keyed(tmp_path / "none", lambda act: None, sweeps=True).to_sweep() == ()
    assert Keyed(tmp_path, lambda act: None, sweeps=False).to_sweep() == ()


def test_sweeping_is_no_work_of_the_loop(road: Road, swept: list[int]) -> None:
    played(road, ONCE)
    road.stage.loop.turn(3)
    assert swept == [1, 2, 3, 4], "one a second, the first at once"


def test_fingerprints() -> None:
    chat, speech = TABLE["POST", "/v1/chat/completions"], TABLE["POST", "/v1/audio/transcriptions"]
    assert fingerprint(chat, b"{}", "") == fingerprint(chat, b"{}", "application/json")
    assert fingerprint(chat, b"{}", "") != fingerprint(chat, b"{ }", "")
    assert fingerprint(chat, b"{}", "") != fingerprint(TABLE["POST", "/v1/completions"], b"{}", "")

    def form(boundary: str, text: str) -> bytes:
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{text}\r\n--{boundary}--\r\n'
        return fingerprint(speech, body.encode(), f"multipart/form-data; boundary={boundary}")

    assert form("abc", "m") == form("xyz", "m") != form("abc", "n")
    assert fingerprint(speech, b"x", "") == fingerprint(speech, b"x", "text/plain")


def _with_role(role: str) -> Key:
    return Key(id=KEY.id, name=KEY.name, team=KEY.team, roles=(role,), digests=KEY.digests)
