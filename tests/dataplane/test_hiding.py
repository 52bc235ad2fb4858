"""The name in an answer is the one that was asked for, on every way that an answer takes through the gate."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slmgate.dataplane.exchange import KEPT_ANSWER
from tests.dataplane.conftest import OpenRoad
from tests.tools.stage import Stage, instance, model, reply, request

INSIDE = "/srv/models/secret.gguf"
FIGURES = {"prompt_tokens": 5, "completion_tokens": 7}
ANSWER = json.dumps({"model": INSIDE, "system_fingerprint": "b0-unknown", "choices": [], "usage": FIGURES}).encode()
SHOWN = {"model": "pub", "choices": [], "usage": FIGURES}
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str, **more: Any) -> bytes:
    said = {"choices": [{"delta": {"content": text}}], "model": INSIDE, "system_fingerprint": "b0", **more}
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


def shown(text: str) -> bytes:
    said = {"choices": [{"delta": {"content": text}}], "model": "pub"}
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


class Sides:
    """A client of the model `pub`, and the instances that know it by another name."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.told = b""
        stage.loop.told = self._told
        self.client = stage.connect()

    def _told(self, who: str, what: str, data: bytes) -> None:
        if who == "client":
            self.told += data

    def ask(self, fields: bytes = b"", **settings: Any) -> None:
        self.client.feed(request({"model": "pub", "messages": [], **settings}, fields))
        self.stage.loop.settle()

    def answer(self, *pieces: bytes, host: str = "a") -> None:
        for piece in pieces:
            self.stage.loop.opened[host][-1].feed(piece)
            self.stage.loop.settle()

    def read(self) -> tuple[bytes, bytes]:
        """The head, and the body without its framing."""
        head, _, body = self.told.partition(b"\r\n\r\n")
        self.told = b""
        if b"chunked" not in head:
            assert b"content-length: %d\r\n" % len(body) in head
            return head, body
        whole = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            whole, body = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return head, whole


@pytest.fixture
def sides(open_road: OpenRoad) -> Sides:
    one, other = instance("a", upstream_model=INSIDE), instance("b", upstream_model=INSIDE)
    return Sides(open_road(model(one, other, name="pub")).stage)


def test_a_whole_answer_first_and_again(sides: Sides) -> None:
    for host in ("a", "b", "a", "b"):
        sides.ask()
        sides.answer(reply(ANSWER), host=host)
        assert json.loads(sides.read()[1]) == SHOWN


def test_an_answer_in_pieces_of_any_framing(sides: Sides) -> None:
    sized = JSON + b"content-length: %d\r\n\r\n" % len(ANSWER)
    framings = [
        [sized, *[ANSWER[at : at + 9] for at in range(0, len(ANSWER), 9)]],
        [JSON + b"transfer-encoding: chunked\r\n\r\n", chunk(ANSWER[:20]), chunk(ANSWER[20:]), b"0\r\n\r\n"],
    ]
    for host, pieces in zip("ab", framings, strict=True):
        sides.ask()
        sides.answer(*pieces[:-1], host=host)
        assert sides.told == b"", "it waits until it is whole"
        sides.answer(pieces[-1], host=host)
        assert json.loads(sides.read()[1]) == SHOWN


def test_an_answer_too_long_to_be_kept(sides: Sides) -> None:
    body = b'{"model":"%b","data":"%b","system_fingerprint":"b0","usage":null}' % (INSIDE.encode(), b"x" * KEPT_ANSWER)
    sides.ask()
    sides.answer(JSON + b"content-length: %d\r\n\r\n" % len(body), *[body[at : at + 65536] for at in range(0, len(body), 65536)])
    assert json.loads(sides.read()[1]) == {"model": "pub", "data": "x" * KEPT_ANSWER, "system_fingerprint": None, "usage": None}


@pytest.mark.parametrize("framing", ["sized", "chunked", "closed"])
def test_a_refusal_too_long_to_be_kept(sides: Sides, framing: str) -> None:
    """An engine that repeats a long request in its refusal is said again like any other; nothing of it goes on."""
    body = b'{"detail":[{"msg":"bad at %b","input":"%b"}]}' % (INSIDE.encode(), b"x" * KEPT_ANSWER)
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    head = b"HTTP/1.1 422 X\r\ncontent-type: application/json\r\n"
    sides.ask()
    if framing == "chunked":
        sides.answer(head + b"transfer-encoding: chunked\r\n\r\n", *map(chunk, pieces), b"0\r\n\r\n")
    elif framing == "sized":
        sides.answer(head + b"content-length: %d\r\n\r\n" % len(body), *pieces)
    else:
        sides.answer(head + b"\r\n", *pieces)
        sides.stage.loop.opened["a"][-1].lose()
        sides.stage.loop.settle()
    told, said = sides.read()
    assert told.startswith(b"HTTP/1.1 400 ")
    assert json.loads(said)["error"]["code"] == "invalid_request"
    (receipt,) = sides.stage.receipts
    assert (receipt["status"], receipt["ended"]) == (400, "complete")
    sides.ask()
    sides.answer(reply(ANSWER), host="b")
    assert json.loads(sides.read()[1]) == SHOWN


def test_a_stream(sides: Sides) -> None:
    sides.ask(stream=True, stream_options={"include_usage": True})
    sides.answer(EVENTS, chunk(event("a")), chunk(event("b")), chunk(event("c")[:30]), chunk(event("c")[30:]))
    long = "y" * 5000
    sides.answer(chunk(event("d") + event("e")), chunk(event(long)), chunk(event("f")), chunk(event("", usage=FIGURES)))
    sides.answer(chunk(DONE), b"0\r\n\r\n")
    _, body = sides.read()
    assert body.startswith(b"".join([shown(text) for text in ("a", "b", "c", "d", "e", long, "f")]))
    assert body.endswith(DONE)
    assert INSIDE.encode() not in body
    assert b"system_fingerprint" not in body
    (receipt,) = sides.stage.receipts
    assert (receipt["completion_tokens"], receipt["bytes_out"], receipt["ended"]) == (7, len(body), "complete")


def test_an_answer_that_is_told_again(sides: Sides) -> None:
    sides.ask(b"Idempotency-Key: one\r\n")
    sides.answer(reply(ANSWER))
    first = sides.read()[1]
    sides.ask(b"Idempotency-Key: one\r\n")
    head, body = sides.read()
    assert b"idempotent-replayed" in head
    assert body == first
    assert json.loads(body) == SHOWN


# --- what engines say of failures


TRACE = 'Traceback (most recent call last):\n  File "/srv/engine.py", line 1, at 10.0.0.5:8000'
SECRET_WORDS = (b"Traceback", b"/srv", b"10.0.0.5", b"engine.py")


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 415, 418, 422, 451, 499])
@pytest.mark.parametrize("framing", ["sized", "chunked", "text"])
def test_a_refusal_of_the_engine_is_said_again(
    sides: Sides, capfd: pytest.CaptureFixture[str], status: int, framing: str
) -> None:
    body = json.dumps({"error": {"message": TRACE, "type": "x"}, "path": "/srv/other"}).encode()
    line = b"HTTP/1.1 %d Bad /srv\r\n" % status
    sides.ask()
    if framing == "chunked":
        sides.answer(line + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n", chunk(body), b"0\r\n\r\n")
    else:
        kind = b"text/plain" if framing == "text" else b"application/json"
        sides.answer(line + b"content-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body))
    head, told = sides.read()
    assert not any(word in head + told for word in SECRET_WORDS)
    assert head.startswith(b"HTTP/1.1 4")
    assert json.loads(told)["error"]["message"].startswith("The model d")
    logged = capfd.readouterr().err
    assert f"answered {status}: Traceback (most recent call last):\\n" in logged
    assert logged.count("\n") == 1
    request_id = head.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()
    assert f"request {request_id}: a: " in logged


def test_an_error_in_a_stream(sides: Sides, capfd: pytest.CaptureFixture[str]) -> None:
    failure = b"data: " + json.dumps({"error": {"message": TRACE, "code": 500}}).encode() + b"\n\n"
    for glued in (False, True):
        sides = Sides(sides.stage)
        sides.ask(stream=True)
        host = "ab"[glued]
        sides.answer(EVENTS, chunk(event("a")), chunk(event("b")), host=host)
        sides.answer(*([chunk(event("c") + failure + DONE)] if glued else [chunk(event("c")), chunk(failure)]), host=host)
        told = sides.told
        assert not any(word in told for word in SECRET_WORDS)
        assert told.count(shown("c")) == 1
        assert b"[DONE]" not in told
        assert not told.endswith(b"0\r\n\r\n")
        assert b'"code":"upstream_error"' in told
        assert "failed in its answer: Traceback" in capfd.readouterr().err
    assert [one["ended"] for one in sides.stage.receipts] == ["upstream_error"] * 2


def test_an_error_before_anything_else_of_a_stream_is_an_answer(sides: Sides, capfd: pytest.CaptureFixture[str]) -> None:
    failure = b"data: " + json.dumps({"error": {"message": TRACE, "code": 500}}).encode() + b"\n\n"
    sides.ask(stream=True)
    sides.answer(EVENTS + chunk(failure))
    head, told = sides.read()
    assert head.startswith(b"HTTP/1.1 502")
    assert json.loads(told)["error"]["code"] == "upstream_error"
    assert not any(word in head + told for word in SECRET_WORDS)
    assert "Traceback" in capfd.readouterr().err


def test_an_error_at_the_very_end_of_a_stream_without_its_blank_line(sides: Sides) -> None:
    sides.ask(stream=True)
    sides.answer(EVENTS, chunk(event("a")), chunk(b'data: {"error":"/srv"}'), b"0\r\n\r\n")
    assert b"/srv" not in sides.told
    assert b'"code":"upstream_error"' in sides.told
    assert not sides.told.endswith(b"0\r\n\r\n")
