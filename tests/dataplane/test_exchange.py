"""One request's life on fakes, as transcripts: every way through, and every step at which it can fail.

The `road` fixture checks behind each test that every request left exactly one receipt and that nothing is held. A record
stands before the bytes that it must precede: the intent before the request, the receipt before the client's last bytes.
Length: transcripts are long, and these are one list of the ways in which one request can go; a second file would hide holes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from slmgate.dataplane.account import receipt_of
from slmgate.dataplane.client import HEADS_A_TURN
from slmgate.dataplane.exchange import KEPT_ANSWER
from slmgate.dataplane.journal import NEEDED
from slmgate.dialects import TABLE
from slmgate.link.journal import MAX_RECORD
from slmgate.policy.limits import LimitSpec
from slmgate.policy.roles import ParameterRule, RoleSpec
from slmgate.policy.specs import GateSpec, TokenizerSpec
from slmgate.terms import Key
from tests.dataplane.conftest import OpenRoad
from tests.tools.road import STREAMED, TEXTS, Road
from tests.tools.shown import meant
from tests.tools.stage import INTENT, KEY, instance, model, reply, request
from tests.tools.tokenizers import written

# --- the plain way


def test_plain(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)


def test_streamed_with_its_usage_stripped(road: Road) -> None:
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       chunk <5+2>
        >> a       chunk <x>
        << client  2f\r\n<x>\r\n
        >> a       chunk <done>
        >> a       end
        == 200     complete a 5+2
        << client  e\r\n<done>\r\n0\r\n\r\n
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)


def test_a_stream_in_one_piece_without_figures(road: Road) -> None:
    road.plays(
        r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       all
        == 200     complete a 8+1~
        << client  <sse> 3d\r\n<x><done>\r\n0\r\n\r\n
        """,
        all=STREAMED + b"3d\r\n" + meant("<x><done>") + b"\r\n0\r\n\r\n",
    )


def test_a_sized_body_in_pieces(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 10\r\n\r\n01234
        << client  200 content-type: audio/mpeg content-length: 10 | 01234
        >> a       fgh
        << client  fgh
        >> a       ij
        == 200     complete a 4+3~
        << client  ij
    """)


def test_a_body_until_close(road: Road) -> None:
    """Whole if its JSON is whole (RFC 9112 section 6.3 leaves nothing else to go by)."""
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n<used>
        >> a       ends
        << a       closed
        == 200     complete a 5+7
        << client  200 transfer-encoding: chunked | 33\r\n<used>\r\n0\r\n\r\n
        >> client  chat
        == intent  a
        << a2      <chat>
        >> a2      HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"usage":
        >> a2      ends
        << a2      closed
        == 502     upstream_error a !upstream_error 4+0~
        << client  502 !upstream_error
        >> client  chat
        == intent  a
        << a3      <chat>
        >> a3      HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"text":1}
        >> a3      ends
        << a3      closed
        == 200     complete a 4+3~
        << client  200 transfer-encoding: chunked | a\r\n{"text":1}\r\n0\r\n\r\n
    """)


def test_half_a_count_of_tokens_is_no_answer(road: Road) -> None:
    """Of some answers the figures are known, whatever is in them."""
    road.plays(
        r"""
        >> client  ask
        == intent  a
        << a       POST /v1/messages/count_tokens | {"model": "m"}
        >> a       HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"input_tokens":
        >> a       ends
        << a       closed
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """,
        ask=request({"model": "m"}, line=b"POST /v1/messages/count_tokens HTTP/1.1"),
    )


@pytest.mark.parametrize("cut", [False, True], ids=["in one piece", "in pieces"])
def test_a_completion_that_is_said_without_its_prompt(open_road: OpenRoad, cut: bool) -> None:
    """TGI with `details`, Ollama with the prompt in its cache: the bytes of the answer are not asked what it knows."""
    road = open_road()
    stage = road.stage
    body = b'{"generated_text":"x","details":{"generated_tokens":3,"prefill":[],"tokens":[%b]}}' % (b"0," * 99 + b"0")
    client = stage.connect()
    for _ in range(2):  # the second time the head is known
        client.feed(request({"inputs": "hi", "parameters": {"details": True}}, line=b"POST /generate HTTP/1.1"))
        stage.loop.settle()
        answer = reply(body)
        for piece in (answer[:-9], answer[-9:]) if cut else (answer,):
            stage.loop.opened["a"][0].feed(piece)
        stage.loop.settle()
    assert [(one["completion_tokens"], one["estimated"], one["ended"]) for one in stage.receipts] == [(3, True, "complete")] * 2
    assert all(one["prompt_tokens"] == 13 for one in stage.receipts)


@pytest.mark.parametrize("pieces", [(b"4\r\n\r\n\r\n\r\n", b"0\r\n\r\n"), (b"3\r\n\r\n\r\r\n", b"1\r\n\n\r\n", b"0\r\n\r\n")])
@pytest.mark.parametrize("together", [False, True])
def test_the_line_end_of_the_last_event_cut_in_two(open_road: OpenRoad, pieces: tuple[bytes, ...], together: bool) -> None:
    """With CR LF the event is over at the CR; its LF is no word of an instance behind its own end, and goes on as well."""
    stage = open_road().stage
    got: list[bytes] = []
    stage.loop.told = lambda who, what, data: got.append(data) if (who, what) == ("client", "write") else None
    stage.connect().feed(TEXTS["stream"])
    stage.loop.settle()
    connection = stage.loop.opened["a"][0]
    connection.feed(TEXTS["events"] + b"c\r\ndata: [DONE]\r\n")
    for piece in (b"".join(pieces),) if together else pieces:
        connection.feed(piece)
    stage.loop.settle()
    assert b"".join(got).rpartition(b"[DONE]")[2] == b"\r\n\r\n\r\n0\r\n\r\n"


def test_a_status_of_the_instance_passes(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       400 {"error":{"code":"at /srv/engine.py"}}
        == 400     complete a !invalid_request
        << client  400 !invalid_request
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 204 No Content\r\n\r\n
        == 204     complete a 4+0~
        << client  204
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 299 Odd\r\ncontent-length: 0\r\nretry-after: 3\r\nserver: x\r\n\r\n
        == 299     complete a 4+0~
        << client  299 retry-after: 3
    """)


# --- what the gate answers itself


@pytest.mark.parametrize(
    ("line", "status", "fields"),
    [
        (b"GET /nothing HTTP/1.1", 404, ""),
        (b"GET /v1/chat/completions HTTP/1.1", 405, " allow: POST, OPTIONS"),
        (b"POST /v1/models HTTP/1.1", 405, " allow: GET, HEAD, OPTIONS"),
        (b"POST /healthz HTTP/1.1", 405, " allow: GET, HEAD, OPTIONS"),
    ],
)
def test_nothing_there(road: Road, line: bytes, status: int, fields: str) -> None:
    code = "not_found" if status == 404 else "method_not_allowed"
    road.plays(
        f"""
        >> client asks
        == {status} refused !{code}
        << client {status} !{code}{fields}
        """,
        asks=request(line=line),
    )


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"OPTIONS * HTTP/1.1", "204 allow: GET, POST, HEAD, OPTIONS"),
        (b"OPTIONS /v1/models HTTP/1.1", "204 allow: GET, HEAD, OPTIONS"),
        (b"OPTIONS /v1/messages HTTP/1.1", "204 allow: POST, OPTIONS"),
        (b"GET /healthz HTTP/1.1", r"200 content-type: text/plain | ok\n"),
        (b"HEAD /healthz HTTP/1.1", "200 content-type: text/plain content-length: 3"),
        (b"GET /readyz HTTP/1.1", r"200 content-type: text/plain | ok\n"),
    ],
)
def test_no_verdict_no_receipt(road: Road, line: bytes, answer: str) -> None:
    road.plays(f">> client asks\n<< client {answer}", asks=request(line=line, key=b"wrong"))
    assert road.stage.receipts == []


def test_not_ready_when_no_instance_can_be_reached(road: Road) -> None:
    road.plays(
        r"""
        >> door    a refuses
        >> client  chat
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
        >> client  ready
        << client  503 content-type: text/plain retry-after: 1 | not ready\n
        """,
        ready=request(line=b"GET /readyz HTTP/1.1"),
    )


def test_the_list_of_models(road: Road) -> None:
    stage = road.stage
    stage.publish(model("a", name="m"), model("b", name="n"))
    client, answers = stage.connect(), []
    stage.loop.told = lambda who, what, data: answers.append(data)
    client.feed(request(line=b"GET /v1/models HTTP/1.1"))
    stage.loop.settle()
    _, _, body = answers[0].partition(b"\r\n\r\n")
    assert [one["id"] for one in json.loads(body)["data"]] == ["m", "n"]
    client.feed(request(line=b"HEAD /v1/models HTTP/1.1"))
    stage.loop.settle()
    assert answers[1].endswith(b"\r\n\r\n") and b"content-length: %d\r\n" % len(body) in answers[1]
    assert [(one["status"], one["ended"], one["verdict"], one["bytes_out"]) for one in stage.receipts] == [
        (200, "complete", "admit", len(body)),
        (200, "complete", "admit", 0),
    ]


REFUSED = [
    ("stranger", request({"model": "m"}, key=b"wrong"), "401 !invalid_api_key www-authenticate: Bearer"),
    ("nobody", b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n\r\n", "401 !invalid_api_key www-authenticate: Bearer"),
    ("two", request({"model": "m"}, b"x-api-key: other\r\n"), "401 !invalid_api_key www-authenticate: Bearer"),
    ("coded", request({"model": "m"}, b"Content-Encoding: gzip\r\n"), "415 !unsupported_media_type"),
    ("unreadable", request(b"not json"), "400 !invalid_request"),
    ("empty", request(), "400 !invalid_request"),
    ("unknown", request({"model": "zzz"}), "404 !model_not_found"),
    ("expects", request({"model": "m"}, b"Expect: 200-maybe\r\n"), "417 !expectation_failed connection: close"),
]


@pytest.mark.parametrize(("name", "text", "answer"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_at_each_question(road: Road, name: str, text: bytes, answer: str) -> None:
    script = f"""
        >> client  asks
        == {answer[:3]} refused !{answer.split("!")[1].split()[0]}
        << client  {answer}
        """
    road.plays(script + ("<< client half-closed\n" if "close" in answer else ""), asks=text)
    receipt = road.stage.receipts[0]
    assert (receipt["verdict"], receipt["attempts"], receipt["first_byte_us"]) == ("refuse", 0, None)
    assert road.stage.loop.knocks == []


def test_a_receipt_says_who_and_what(road: Road) -> None:
    road.plays(
        r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> clock   2
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
        >> client  wrong
        == 404     refused !model_not_found
        << client  404 !model_not_found
        """,
        wrong=request({"model": "zzz"}, b"X-Request-Id: mine-1\r\n"),
    )
    first, second = road.stage.receipts
    assert first == {
        "id": first["id"],
        "request_id": first["id"],
        "time": first["time"],
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "verdict": "admit",
        "reason": "",
        "ended": "complete",
        "principal": KEY.name,
        "key": KEY.id,
        "team": KEY.team,
        "roles": "internal",
        "rule": "roles.internal",
        "dialect": "openai",
        "endpoint": "chat",
        "model": "m",
        "instance": "a",
        "stream": False,
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "estimated": False,
        "bytes_in": 14,
        "bytes_out": 51,
        "queue_us": 0,
        "first_byte_us": 2_000_000,
        "total_us": 2_000_000,
        "attempts": 1,
        "address": "192.0.2.7",
        "worker": 0,
        "parameters": "",
        "plan": "",
        "price": "",
        "cost": 0,
        "receive_us": 0,
        "connect_us": 1,
        "overhead_us": 0,
        "trace": "",
    }
    assert (second["request_id"], second["model"], second["verdict"]) == ("mine-1", "zzz", "refuse")
    intent = road.stage.records[0][1]
    assert {name: first[name] for name in intent} == {**intent, "prompt_tokens": 5}


def test_the_longest_receipt_fits(road: Road) -> None:
    """What a client can make long is bounded: path, request id and model."""
    client = road.stage.connect()
    fields = b"X-Request-Id: %b\r\n" % (b"i" * 128)
    client.feed(request({"model": "\U0001f600" * 256}, fields))
    client.feed(request(line=b"GET /%b HTTP/1.1" % (b"p" * 30_000), fields=fields))
    assert [one["status"] for one in road.stage.receipts] == [404, 404]
    assert max(len(json.dumps(one)) for one in road.stage.receipts) < MAX_RECORD


# --- connecting, retries


def test_cannot_connect(road: Road) -> None:
    road.plays(r"""
        >> door    a refuses
        >> client  chat
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
        >> door    a opens
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)
    assert road.stage.receipts[0]["verdict"] == "admit"


def test_another_instance_is_tried(open_road: OpenRoad) -> None:
    open_road(model("a", "b")).plays(r"""
        >> door    a refuses
        >> client  chat
        == intent  b
        << b       <chat>
        >> b       200 {}
        == 200     complete b 4+1~
        << client  200 | {}
    """)


def test_no_retry_without_connect_in_the_list(open_road: OpenRoad) -> None:
    open_road(model("a", "b", retry_on=("502",))).plays(r"""
        >> door    a refuses
        >> client  chat
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """)


def test_no_more_attempts_than_allowed(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b", "c", attempts=2))
    road.plays(r"""
        >> door    a refuses
        >> door    b refuses
        >> client  chat
        == 502     upstream_error b !upstream_error
        << client  502 !upstream_error
    """)
    assert road.stage.loop.knocks == ["a", "b"]
    assert road.stage.receipts[0]["attempts"] == 2


@pytest.mark.parametrize("attempts", [0, 1])
def test_attempts_at_their_smallest(open_road: OpenRoad, attempts: int) -> None:
    open_road(model("a", "b", attempts=attempts)).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       503 {}
        == 503     refused a !overloaded
        << client  503 !overloaded retry-after: 1
    """)


def test_a_status_is_retried(open_road: OpenRoad) -> None:
    open_road(model("a", "b")).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       503 {}
        << b       <chat>
        >> b       502 {}
        == 502     upstream_error b !upstream_error
        << client  502 !upstream_error
    """)


def test_an_error_under_200(open_road: OpenRoad) -> None:
    """It is nothing that was generated, nor for the client to see; with 500 listed, another instance may do better."""
    open_road(model("a", "b", retry_on=("500",))).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {"error":"dead"}
        << b       <chat>
        >> b       200 {"error":"dead"}
        == 502     upstream_error b !upstream_error
        << client  502 !upstream_error
    """)


def test_an_error_under_200_in_chunks_leaves_nothing_behind(open_road: OpenRoad) -> None:
    """How the first answer was framed is no affair of the next one's, which comes with a length."""
    road = open_road(model("a", "b", retry_on=("500",)))
    body = b'{"error":"dead"}'
    dead = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    road.plays(
        r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       dead
        << b       <chat>
        >> b       200 <used>
        == 200     complete b 5+7
        << client  200 | <used>
        """,
        dead=dead % (len(body), body),
    )


def test_a_status_that_is_not_retried(open_road: OpenRoad) -> None:
    open_road(model("a", "b")).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       500 {}
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """)


def test_a_failing_status_in_pieces(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 500 X\r\ncontent-length: 5\r\n\r\n
        >> a       ab
        << a       aborted
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """)


# --- an instance that dies


def test_it_dies_before_its_answer(open_road: OpenRoad) -> None:
    open_road(model("a", "b")).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       leaves
        << b       <chat>
        >> b       200 {}
        == 200     complete b 4+1~
        << client  200 | {}
    """)


@pytest.mark.parametrize("how", ["leaves", "resets"])
@pytest.mark.parametrize("head", ["", r"HTTP/1.1 200 O"])
def test_it_dies_within_its_head(road: Road, head: str, how: str) -> None:
    road.plays(f"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       {head}
        >> a       {how}
        == 502     upstream_error a !upstream_error 4+0~
        << client  502 !upstream_error
    """)


@pytest.mark.parametrize("how", ["leaves", "resets"])
def test_it_dies_between_head_and_body(road: Road, how: str) -> None:
    """Nothing has gone to the client, so it gets a clean answer; but the work was begun, so no other instance is asked."""
    road.plays(rf"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n
        >> a       {how}
        == 502     upstream_error a !upstream_error 4+0~
        << client  502 !upstream_error
    """)


def test_it_dies_within_a_sized_body(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 9\r\n\r\n1234
        << client  200 content-type: audio/mpeg content-length: 9 | 1234
        >> a       leaves
        == 200     upstream_error a !upstream_error 4+1~
        << client  closed
    """)


BROKEN = (
    r'data: {"error":{"message":"The model\'s answer broke off.","type":"api_error","param":null,"code":"upstream_error"}}\n\n'
)


def test_it_dies_within_a_stream(road: Road) -> None:
    road.plays(
        rf"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       leaves
        == 200     upstream_error a !upstream_error 8+1~
        << client  75\r\n{BROKEN}\r\n
        << client  closed
    """.replace("\\'", "'")
    )


def test_a_stream_that_ends_too_soon(road: Road) -> None:
    """A clean end of the body without the stream's own end is a broken stream too."""
    road.plays(
        rf"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       end
        == 200     upstream_error a !upstream_error 8+1~
        << client  75\r\n{BROKEN}\r\n
        << client  closed
    """.replace("\\'", "'")
    )


def test_garbage_for_an_answer(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       \x00\x01 nonsense\r\n\r\n
        << a       aborted
        == 502     upstream_error a !upstream_error 4+0~
        << client  502 !upstream_error
    """)


def test_garbage_within_a_stream(road: Road) -> None:
    road.plays(
        rf"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       zz\r\nno size
        << a       aborted
        == 200     upstream_error a !upstream_error 8+1~
        << client  75\r\n{BROKEN}\r\n
        << client  closed
    """.replace("\\'", "'")
    )


def test_garbage_glued_behind_a_good_piece(road: Road) -> None:
    """What came before it still goes on, in the order in which it came."""
    road.plays(
        rf"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       glued
        << a       aborted
        == 200     upstream_error a !upstream_error 8+1~
        << client  <sse> 2f\r\n<x>\r\n
        << client  75\r\n{BROKEN}\r\n
        << client  closed
    """.replace("\\'", "'"),
        glued=b"2f\r\n" + meant("<x>") + b"\r\nzz\r\n",
    )


def test_an_instance_that_does_not_end_after_its_last_event(open_road: OpenRoad) -> None:
    """The stream has said that it is over: the client has its whole answer when the instance's time is up."""
    open_road(model("a", idle_timeout=5.0)).plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       chunk <done>
        >> clock   5.5
        << a       aborted
        == 200     complete a 8+1~
        << client  e\r\n<done>\r\n0\r\n\r\n
    """)


# --- prompts counted by the model's own tokenizer


def counted(open_road: OpenRoad, folder: Path, *limits: LimitSpec) -> Road:
    """A gate whose model has a tokenizer, in which each character is a token and a message has three marks."""
    tokenizer = TokenizerSpec(path=str(written(folder)), each_message=2, each_request=1)
    road = open_road(model(tokenizer=tokenizer))
    road.stage.publish(limits=limits)
    return road


TOKENS = LimitSpec(name="limits[0]", text="100 tokens/minute", identity="t", unit="tokens", amount=100, seconds=60, per=())
SAID = "in thirty characters, about it"


@pytest.mark.parametrize(
    ("content", "status"),
    [(SAID, b"200"), (SAID * 4, b"413"), ([{"type": "image_url", "image_url": {"url": SAID}}], b"200")],
    ids=["room", "too long", "a picture is estimated"],
)
def test_limit_takes_what_the_tokenizer_counts(open_road: OpenRoad, tmp_path: Path, content: object, status: bytes) -> None:
    road = counted(open_road, tmp_path, TOKENS)
    told: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: told.append(data) if who == "client" else None
    client = road.stage.connect()
    client.feed(request({"model": "m", "max_tokens": 40, "messages": [{"role": "user", "content": content}]}))
    road.stage.loop.settle()
    if status == b"413":
        assert b"".join(told).startswith(b"HTTP/1.1 413") and b"may come to 163" in b"".join(told)
        return
    (intent,) = [fields for kind, fields in road.stage.read_journal() if kind == INTENT]
    assert (intent["prompt_tokens"] == 33) is (content == SAID)
    road.end_of("a").feed(reply(b"{}"))
    road.stage.loop.settle()
    answer = b"".join(told)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"x-ratelimit-remaining-tokens: %d\r\n" % (60 - intent["prompt_tokens"]) in answer
    (receipt,) = road.stage.receipts
    assert receipt["estimated"] and receipt["prompt_tokens"] == intent["prompt_tokens"]


def test_silent_engine_is_booked_what_the_tokenizer_counts(open_road: OpenRoad, tmp_path: Path) -> None:
    """Without a limit nothing is counted before, and only where the engine says nothing after."""
    road = counted(open_road, tmp_path)
    client = road.stage.connect()
    client.feed(request({"model": "m", "messages": [{"role": "user", "content": SAID}]}))
    road.stage.loop.settle()
    road.end_of("a").feed(reply(b"{}"))
    road.stage.loop.settle()
    (receipt,) = road.stage.receipts
    assert receipt["estimated"] and receipt["prompt_tokens"] == 33


# --- time limits


def test_connecting_takes_too_long(open_road: OpenRoad) -> None:
    open_road(model("a", connect_timeout=2.0)).plays(r"""
        >> door    a hangs
        >> client  chat
        >> clock   1.75
        >> clock   0.5
        == 502     upstream_error a !upstream_error
        << client  502 !upstream_error
    """)


def test_the_request_gives_up_before_the_connection_does(open_road: OpenRoad) -> None:
    road = open_road(model("a", connect_timeout=5.0, queue_timeout=1.0))
    road.plays(r"""
        >> door    a hangs
        >> client  chat
        >> clock   1
        == 504     upstream_timeout a !upstream_timeout
        << client  504 !upstream_timeout
        >> clock   5
    """)


def test_no_first_byte(open_road: OpenRoad) -> None:
    open_road(model("a", first_byte_timeout=5.0)).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> clock   4.75
        >> clock   0.5
        << a       aborted
        == 504     upstream_timeout a !upstream_timeout 4+0~
        << client  504 !upstream_timeout
    """)


def test_no_first_byte_and_another_instance(open_road: OpenRoad) -> None:
    """Where the operator says that silence is worth another try; the next silence ends it, as there is nobody left."""
    road = open_road(model("a", "b", first_byte_timeout=5.0, attempts=3, retry_on=("timeout",)))
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> clock   5.25
        << a       aborted
        << b       <chat>
        >> clock   4.5
        >> b       200 {}
        == 200     complete b 4+1~
        << client  200 | {}
        >> client  chat
        == intent  a
        << a2      <chat>
        >> clock   5.25
        << a2      aborted
        << b       <chat>
        >> clock   5.25
        << b       aborted
        == 504     upstream_timeout b !upstream_timeout 4+0~
        << client  504 !upstream_timeout
    """)
    assert [one["attempts"] for one in road.stage.receipts] == [2, 2]


def test_silence_within_an_answer(open_road: OpenRoad) -> None:
    open_road(model("a", idle_timeout=5.0)).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 9\r\n\r\n12
        << client  200 content-type: audio/mpeg content-length: 9 | 12
        >> clock   4.75
        >> a       34
        << client  34
        >> clock   4.75
        >> clock   1
        << a       aborted
        == 200     upstream_timeout a !upstream_timeout 4+1~
        << client  closed
    """)


def test_a_slow_reader_does_not_count_as_a_silent_instance(open_road: OpenRoad) -> None:
    open_road(model("a", idle_timeout=5.0), gate=GateSpec(send_timeout=20.0)).plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> client  stops-reading
        << a       pauses reading
        >> clock   10
        >> client  reads-on
        << a       reads on
        >> a       chunk <done>
        >> a       end
        == 200     complete a 8+1~
        << client  e\r\n<done>\r\n0\r\n\r\n
    """)


def test_a_reader_that_takes_nothing_for_too_long(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(send_timeout=20.0)).plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> client  stops-reading
        << a       pauses reading
        >> clock   20
        >> clock   0.5
        << client  aborted
        << a       aborted
        == 200     client_left a !client_left 8+1~
    """)


def test_a_pipelined_answer_is_held_back_from_a_reader_that_takes_nothing(road: Road) -> None:
    """The client stopped taking bytes in the answer before: the next one's instance is paused from the start."""
    road.plays(
        r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> client  stream
        >> client  stops-reading
        << a       pauses reading
        >> client  reads-on
        << a       reads on
        >> a       all
        == 200     complete a 8+1~
        << client  <sse> 3d\r\n<x><done>\r\n0\r\n\r\n
        == intent  a
        << a       <stream>
        >> client  stops-reading
        << a       pauses reading
        >> client  reads-on
        << a       reads on
        >> client  leaves
        << a       aborted
        == 499     client_left a !client_left 8+0~
        """,
        all=STREAMED + b"3d\r\n" + meant("<x><done>") + b"\r\n0\r\n\r\n",
    )


def test_a_stuck_reader_is_not_asked_what_else_it_wants(road: Road) -> None:
    stage = road.stage
    client = stage.connect()
    client.feed(request({"model": "m"}))
    stage.loop.settle()
    first = stage.loop.opened["a"][0]
    client.feed(request({"model": "m"}))
    write = client.write

    def fills(data: bytes) -> None:
        write(data)
        client.protocol.pause_writing()

    client.write = fills  # type: ignore[assignment, method-assign]  # the kernel's buffer is full with the first answer
    first.feed(reply(b"{}"))
    stage.loop.settle()
    assert stage.worker.journal.open_intents == 0, "the second request waits until the client takes the first answer"
    client.write = write  # type: ignore[method-assign]  # and empty again
    client.protocol.resume_writing()
    stage.loop.settle()
    assert stage.worker.journal.open_intents == 1
    first.feed(reply(b"{}"))
    assert [one["ended"] for one in stage.receipts] == ["complete", "complete"]


# --- waiting in line


def test_in_line(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
        >> client3  chat
        >> clock    1
        >> client2  leaves
        == 499      client_left !client_left
        >> a        200 {}
        == intent   a
        == 200      complete a 4+1~
        << a        <chat>
        << client   200 | {}
        >> a        200 {}
        == 200      complete a 4+1~
        << client3  200 | {}
    """)
    assert [one["queue_us"] for one in road.stage.receipts] == [1_000_000, 0, 1_000_000]


@pytest.mark.parametrize("fields", [b"content-type: application/json\r\n", b""])
def test_times_that_the_client_is_told(open_road: OpenRoad, fields: bytes) -> None:
    """In line (or until a connection is there), at the instance, and the gate's own, which takes no time on this clock."""
    stage = open_road(model(instance("a", max_in_flight=1))).stage
    heard: list[bytes] = []
    stage.loop.told = lambda who, what, data: heard.append(data) if who.startswith("client") else None
    stage.loop.doors["a"] = "hangs"
    for _ in range(2):
        stage.connect().feed(request({"model": "m"}))
    stage.loop.turn(0.5)
    stage.loop.doors["a"] = "opens"
    stage.loop.turn(0.25)
    for _ in range(2):
        stage.loop.turn(0.25)
        stage.loop.opened["a"][0].feed(reply(b"{}", fields=fields))
        stage.loop.settle()
    stage.connect().feed(request({"model": "m"}))
    stage.loop.settle()
    stage.loop.opened["a"][0].feed(reply(b"{}", fields=fields))
    stage.loop.settle()
    times = [line for data in heard for line in data.split(b"\r\n") if line.startswith(b"server-timing: ")]
    assert times == [
        b"server-timing: queue;dur=750.000, upstream;dur=250.000, gate;dur=0.000",
        b"server-timing: queue;dur=1000.000, upstream;dur=250.000, gate;dur=0.000",
        b"server-timing: queue;dur=0, upstream;dur=0.000, gate;dur=0.000",
    ]


def test_too_long_in_line(open_road: OpenRoad) -> None:
    open_road(model(instance("a", max_in_flight=1), queue_timeout=5.0)).plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
        >> clock    4.75
        >> clock    0.5
        == 503      refused !overloaded
        << client2  503 !overloaded retry-after: 5
    """)


@pytest.mark.parametrize("places", [0, 1, 2])
def test_places_in_line(open_road: OpenRoad, places: int) -> None:
    """At the bound they wait, one past it is refused at once."""
    road = open_road(model(instance("a", max_in_flight=1), queue_waiting=places))
    stage = road.stage
    for number in range(places + 2):
        stage.connect(f"client{number}").feed(request({"model": "m"}))
    stage.loop.settle()
    assert len(stage.worker.pools.models["m"].waiting) == places
    assert [(one["status"], one["reason"]) for one in stage.receipts] == [(503, "overloaded")]


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_requests_in_flight(open_road: OpenRoad, bound: int) -> None:
    road = open_road(model(instance("a", max_in_flight=bound)))
    for number in range(bound + 1):
        road.stage.connect(f"client{number}").feed(request({"model": "m"}))
    road.stage.loop.settle()
    pool = road.stage.worker.pools.models["m"]
    assert (pool.instances[0].busy, len(pool.waiting)) == (bound, 1)


# --- the client leaves


@pytest.mark.parametrize("how", ["leaves", "resets", "ends"])
def test_the_client_leaves_while_the_instance_works(road: Road, how: str) -> None:
    road.plays(f"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> client  {how}
        {"<< client closed" if how == "ends" else ""}
        << a       aborted
        == 499     client_left a !client_left 4+0~
    """)


def test_the_client_leaves_within_its_answer(road: Road) -> None:
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> client  leaves
        << a       aborted
        == 200     client_left a !client_left 8+1~
    """)


@pytest.mark.parametrize("then", ["opens", "refuses", "hangs"])
def test_the_client_leaves_while_the_connection_is_opened(road: Road, then: str) -> None:
    road.plays(f"""
        >> door    a hangs
        >> client  chat
        >> client  leaves
        == 499     client_left a !client_left
        >> door    a {then}
        >> clock   3
    """)


def test_a_connection_that_nobody_wants_any_more_is_kept(road: Road) -> None:
    road.plays(r"""
        >> door    a hangs
        >> client  chat
        >> client  leaves
        == 499     client_left a !client_left
        >> door    a opens
        >> clock   1
        >> client  chat
        == intent  a
        << a       <chat>
    """)
    assert road.stage.loop.knocks == ["a"]


def test_the_client_leaves_within_its_body(road: Road) -> None:
    road.plays(
        r"""
        >> client  half
        >> client  leaves
        == 499     client_left !client_left
        """,
        half=request({"model": "m"})[:-3],
    )


def test_the_client_ends_within_its_body(road: Road) -> None:
    road.plays(
        r"""
        >> client  half
        >> client  ends
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  half-closed
        << client  closed
        """,
        half=request({"model": "m"})[:-3],
    )


# --- the gate stops


def test_drained(road: Road) -> None:
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  connects
        >> gate     drains
        << client2  closed
        >> a        200 <used>
        == 200      complete a 5+7
        << client   200 connection: close | <used>
        << client   closed
    """)
    assert road.stage.worker.stopping


def test_the_drain_limit(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=2)), gate=GateSpec(drain_timeout=5.0))
    road.plays(r"""
        >> client   stream
        == intent   a
        << a        <stream>
        >> a        events
        >> a        chunk <x>
        << client   <sse> 2f\r\n<x>\r\n
        >> client2  chat
        == intent   a
        << a2       <chat>
        >> client3  chat
        >> gate     drains
        >> clock    4.75
    """)
    road.stage.loop.told = lambda *_: None
    road.stage.loop.turn(1)
    ended = {(one["status"], one["ended"], one["reason"]) for one in road.stage.receipts}
    assert ended == {(200, "gate_stopped", "overloaded"), (503, "gate_stopped", "overloaded")}
    assert len(road.stage.receipts) == 3


# --- the journal without room


def test_no_room_to_record(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road()
    monkeypatch.setattr(road.stage.worker.journal, "room", NEEDED - 1)
    road.plays(r"""
        >> client  chat
        == 503     refused !accounting_unavailable
        << client  503 !accounting_unavailable retry-after: 5
    """)
    assert not road.stage.worker.ready()
    road.stage.worker.journal.prepare()


def test_exactly_enough_room_to_record(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road()
    monkeypatch.setattr(road.stage.worker.journal, "room", NEEDED)
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)
    road.stage.worker.journal.prepare()


def test_the_room_was_taken_while_it_stood_in_line(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> client2 chat
    """)
    monkeypatch.setattr(road.stage.worker.journal, "room", MAX_RECORD)
    road.plays(r"""
        >> a       200 {}
        == 503     refused a !accounting_unavailable
        == 200     complete a 4+1~
        << client2 503 !accounting_unavailable retry-after: 5
        << client  200 | {}
    """)
    road.stage.worker.journal.prepare()


def test_served_unaccounted_where_the_operator_says_so(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(serve_unaccounted=True)
    monkeypatch.setattr(road.stage.worker.journal, "room", 0)
    road.plays(r"""
        >> client  chat
        << a       <chat>
        >> a       200 {}
        << client  200 | {}
    """)
    assert road.stage.worker.tally.unjournaled == 1
    road.stage.worker.journal.prepare()


# --- faults of our own


class FaultyError(Exception):
    """Stands for whatever may go wrong in our own code."""


def faulty(*_: object) -> None:
    raise FaultyError


@pytest.mark.parametrize("step", ["read", "patch", "usage", "scanner"])
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_an_exception_in_a_dialect_costs_one_request(
    road: Road, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str, kept: bool
) -> None:
    stage = road.stage
    client = stage.connect()
    if kept:
        client.feed(request({"model": "m"}))
        stage.loop.settle()
        stage.loop.opened["a"][0].feed(reply(b"{}"))
    before = len(stage.receipts)
    answers: list[bytes] = []
    stage.loop.told = lambda who, what, data: answers.append(data) if who == "client" and what == "write" else None
    with monkeypatch.context() as patch:
        for name in (step, "told") if step == "usage" else (step,):  # `told` is the usage of a head that came before
            patch.setattr(type(TABLE["POST", "/v1/chat/completions"].dialect), name, faulty)
        client.feed(request({"model": "m", "stream": step == "scanner"}))
        stage.loop.settle()
        if step in ("usage", "scanner"):
            stage.loop.opened["a"][0].feed(STREAMED + b"1\r\nx\r\n" if step == "scanner" else reply(b"{}"))
        stage.loop.settle()
    assert [(one["status"], one["ended"]) for one in stage.receipts[before:]] == [(500, "gate_failed")]
    assert answers[-1].startswith(b"HTTP/1.1 500 ")
    assert "FaultyError" in capsys.readouterr().err
    stage.loop.turn(1)
    client = stage.connect()
    client.feed(request({"model": "m"}))
    stage.loop.settle()
    stage.loop.opened["a"][-1].feed(reply(b"{}"))
    assert stage.receipts[-1]["ended"] == "complete"


def test_a_scanner_that_fails_within_a_stream(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
    """)
    monkeypatch.setattr("slmgate.dialects.openai.ChunkScanner.feed", faulty)
    road.stage.loop.told = lambda *_: None
    road.end_of("a").feed(b"1\r\nx\r\n")
    assert [(one["status"], one["ended"]) for one in road.stage.receipts] == [(200, "gate_failed")]


def test_a_fault_of_the_next_in_line_is_not_this_requests(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
    """)
    monkeypatch.setattr(type(TABLE["POST", "/v1/chat/completions"].dialect), "patch", faulty)
    road.stage.loop.told = lambda *_: None
    road.end_of("a").feed(reply(b"{}"))
    road.stage.loop.settle()
    ended = sorted((one["status"], one["ended"]) for one in road.stage.receipts)
    assert ended == [(200, "complete"), (500, "gate_failed")]


@pytest.mark.parametrize("failure", [MemoryError(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("fails", ["slmgate.dataplane.exchange.receipt_of", "slmgate.dataplane.journal.crc32"])
def test_a_receipt_that_cannot_be_written_stays_owed(
    road: Road, fails: str, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client gets no last byte before it stands; the next tick writes it, once."""
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
    """)
    told: list[tuple[str, str]] = []
    road.stage.loop.told = lambda who, what, _: told.append((who, what))
    worker = road.stage.worker
    with monkeypatch.context() as patch:
        patch.setattr(fails, Mock(side_effect=failure))
        road.end_of("a").feed(reply(b"{}"))
        with pytest.raises(type(failure)):
            worker.pay()
        road.stage.loop.turn(0.5)
        assert not road.stage.life.done()
    road.stage.loop.settle()
    assert road.stage.receipts == []
    assert told == [("client", "closed")]
    assert worker.journal.open_intents == 1
    worker.pay()
    assert [(one["status"], one["ended"]) for one in road.stage.receipts] == [(200, "gate_failed")]
    assert worker.journal.open_intents == 0
    worker.pay()
    assert len(road.stage.receipts) == 1


@pytest.mark.parametrize("forwarded", [True, False])
def test_a_receipt_that_can_never_be_written_costs_no_other(road: Road, forwarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on, and so do the receipts behind it. What was begun is left for control to settle by its intent."""
    road.stage.loop.told = lambda *_: None
    worker = road.stage.worker
    client, exchange = road.end_of("client"), None
    if forwarded:
        client.feed(request({"model": "m"}))
        road.stage.loop.settle()
        exchange = road.stage.clients[-1].exchange
    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.exchange.receipt_of", faulty)
        if forwarded:
            road.end_of("a").feed(reply(b"{}"))
        else:
            client.feed(request({"model": "zzz"}))
        road.stage.loop.settle()
        worker.pay()
    road.stage.loop.turn(1)
    assert not road.stage.life.done()
    assert (worker.tally.unjournaled, worker.journal.open_intents, road.stage.receipts) == (1, int(forwarded), [])
    road.end_of("client2").feed(request({"model": "zzz"}))
    assert [one["status"] for one in road.stage.receipts] == [404]
    if exchange is not None:  # as control would, for the check behind this test
        worker.journal.receipt(receipt_of(exchange, "gate_failed", ""), exchange.slot)
        worker.tally.unjournaled -= 1


def test_numbers_of_any_size_in_a_request(road: Road) -> None:
    """They are good JSON, and no text or receipt may stumble over them."""
    road.stage.loop.told = lambda *_: None
    road.end_of("client").feed(request({"model": "m", "n": 10**400, "logprobs": -(10**400), "best_of": 1e308}))
    road.stage.loop.settle()
    road.end_of("a").feed(reply(b"{}"))
    assert [one["parameters"] for one in road.stage.receipts] == ["n=inf best_of=1e+308 logprobs=inf"]


def test_a_dialect_that_cannot_even_say_an_error(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost, the worker and the receipt are not."""
    monkeypatch.setattr(type(TABLE["POST", "/v1/chat/completions"].dialect), "error", faulty)
    client = road.stage.connect()
    road.stage.loop.told = lambda *_: None
    client.feed(request({"model": "zzz"}))
    assert client.lost
    assert [one["ended"] for one in road.stage.receipts] == ["client_left"]
    assert [type(one) for one in road.stage.loop.failures] == [FaultyError]
    road.stage.loop.failures.clear()


def test_a_fault_in_a_sweep_costs_one_connection(open_road: OpenRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    road = open_road(model("a", first_byte_timeout=1.0))
    client = road.stage.connect()
    client.feed(request({"model": "m"}))
    road.stage.loop.settle()
    with monkeypatch.context() as patch:
        patch.setattr(type(TABLE["POST", "/v1/chat/completions"].dialect), "error", faulty)
        road.stage.loop.turn(2)
    assert client.lost
    assert not road.stage.life.done()
    road.stage.connect().feed(request({"model": "m"}))
    road.stage.loop.turn(3)
    assert [one["ended"] for one in road.stage.receipts] == ["client_left", "upstream_timeout"]


# --- smaller matters


def test_the_states_as_repr_tells_them(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    stage = road.stage
    seen: list[str] = []

    def see() -> None:
        exchange = stage.clients[-1].exchange
        assert exchange is not None
        seen.append(repr(exchange).rpartition(" ")[2])

    client = stage.connect()
    whole = request({"model": "m"})
    client.feed(whole[:-1])
    see()
    client.feed(whole[-1:])
    see()
    stage.loop.settle()
    see()
    stage.loop.opened["a"][0].feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1")
    see()
    exchange = stage.clients[-1].exchange
    stage.loop.opened["a"][0].feed(b"2")
    assert seen == ["reading>", "waiting>", "asked>", "answering>"]
    assert repr(exchange).endswith(" POST /v1/chat/completions over>")


@pytest.mark.parametrize("past", [0, 1])
def test_the_answer_kept_for_its_usage_is_bounded(road: Road, past: int) -> None:
    client = road.stage.connect()
    client.feed(request({"model": "m"}))
    road.stage.loop.settle()
    body = b'{"usage":{"prompt_tokens":5,"completion_tokens":7},"x":"%b"}'
    body = body % (b"y" * (KEPT_ANSWER + past - len(body) + 2))
    half = len(body) // 2
    road.stage.loop.opened["a"][0].feed(reply(body)[:-half])
    road.stage.loop.opened["a"][0].feed(body[-half:])
    assert road.stage.receipts[0]["estimated"] is bool(past)


def test_a_model_that_is_removed_while_requests_wait(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
    """)
    road.played = []
    road.stage.publish(model("b", name="n"))
    assert road.played == ["== 404 refused !model_not_found", "<< client2 404 !model_not_found"]
    road.plays(r"""
        >> a        200 {}
        << a        aborted
        == 200      complete a 4+1~
        << client   200 | {}
    """)


def test_an_http_1_0_client(road: Road) -> None:
    road.plays(
        r"""
        >> client   old
        == intent   a
        << a        <chat>
        >> a        200 {}
        == 200      complete a 4+1~
        << client   200 connection: keep-alive | {}
        >> client   stream
        == intent   a
        << a        <stream>
        >> a        events
        >> a        chunk <x>
        << client   200 content-type: text/event-stream connection: close | <x>
        >> a        chunk <done>
        >> a        end
        == 200      complete a 8+1~
        << client   <done>
        << client   closed
        """,
        old=request({"model": "m"}, b"Connection: keep-alive\r\n", b"POST /v1/chat/completions HTTP/1.0"),
        stream=request({"model": "m", "stream": True}, b"Connection: keep-alive\r\n", b"POST /v1/chat/completions HTTP/1.0"),
    )


def test_a_key_that_is_revoked_or_expires_between_two_requests(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)
    until = road.stage.clock.time() + 5
    road.stage.publish(keys=(Key(id="k1", name="acme-bot", digests=((KEY.digests[0][0], until),)),))
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> clock   5
        >> client  chat
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
    """)
    road.stage.publish()
    road.stage.publish(keys=())
    road.plays(r"""
        >> client  chat
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
    """)


def test_a_key_may_call_from_its_networks_only(road: Road) -> None:
    """The stage's clients call from 192.0.2.7. Whoever stands in the wrong place is told before its body is read."""
    for networks, status in ((("192.0.2.0/24",), 200), (("10.0.0.0/8", "::1/128"), 403), (("::ffff:192.0.2.7/128",), 200)):
        road.stage.publish(keys=(msgspec.structs.replace(KEY, networks=networks),))
        if status == 200:
            road.plays(r"""
                >> client  chat
                == intent  a
                << a       <chat>
                >> a       200 {}
                == 200     complete a 4+1~
                << client  200 | {}
            """)
        else:
            road.plays(r"""
                >> client  chat
                == 403     refused !permission_denied
                << client  403 !permission_denied
            """)


BOUNDED = RoleSpec(name="r", parameters=(ParameterRule(name="max_tokens", max=512, default=64), ParameterRule(name="n", max=1)))
OF_R = msgspec.structs.replace(KEY, roles=("r",))


def test_what_a_role_sets_goes_to_the_instance(road: Road) -> None:
    road.stage.publish(roles=(BOUNDED,), keys=(OF_R,))
    client, seen = road.stage.connect(), list[bytes]()
    road.stage.loop.told = lambda who, what, data: seen.append(data) if who == "a" and what == "write" else None
    for body in ({"model": "m"}, {"model": "m", "max_tokens": 513}, {"model": "m", "n": 1, "max_completion_tokens": 9}):
        client.feed(request(body))
        road.stage.loop.settle()
        if "max_tokens" not in body:
            road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    bodies = [json.loads(text.rpartition(b"\r\n\r\n")[2]) for text in seen]
    assert bodies == [{"model": "m", "max_tokens": 64}, {"model": "m", "n": 1, "max_completion_tokens": 9, "max_tokens": 9}]
    first, second, third = road.stage.receipts
    assert (first["rule"], first["parameters"], first["bytes_in"]) == ("roles.r", "", len(b'{"model": "m"}'))
    assert (second["rule"], second["parameters"]) == ("roles.r.parameters.max_tokens.max", "max_tokens=513")
    assert (third["rule"], third["parameters"], third["roles"]) == ("roles.r", "max_tokens=9 n=1", "r")


def test_a_key_without_a_role_is_told_before_its_body_is_read(road: Road) -> None:
    road.stage.publish(roles=(BOUNDED,))
    client = road.stage.connect()
    client.feed(request(fields=b"Content-Length: 5000000\r\nExpect: 100-continue\r\n"))
    (receipt,) = road.stage.receipts
    assert (receipt["status"], receipt["reason"], receipt["rule"]) == (403, "permission_denied", "roles")


def test_a_role_that_changes_while_a_request_stands_in_line(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.stage.publish(roles=(BOUNDED,), keys=(OF_R,))
    first, second = road.stage.connect("first"), road.stage.connect("second")
    first.feed(request({"model": "m"}))
    second.feed(request({"model": "m"}))
    road.stage.loop.settle()
    road.stage.publish(roles=(RoleSpec(name="r", models=("other",)),), keys=(OF_R,))
    road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    assert {one["status"]: one["reason"] for one in road.stage.receipts} == {200: "", 404: "model_not_found"}


@pytest.mark.parametrize(
    ("before", "after", "asked", "sent"),
    [
        (64, 500, {}, 64),
        (64, None, {}, 64),
        (None, 500, {"max_completion_tokens": 90}, 90),
        (None, 30, {}, 30),
        (500, 30, {}, 30),
        (None, None, {}, 4096),
    ],
)
def test_what_is_set_anew_in_line_is_no_more_than_was_taken(
    open_road: OpenRoad, before: int | None, after: int | None, asked: dict[str, Any], sent: int
) -> None:
    """A default that is raised or dropped meanwhile gives nobody tokens that were not taken of a limit."""
    road = open_road(model(instance("a", max_in_flight=1)))
    limits = (msgspec.structs.replace(TOKENS, amount=10_000),)
    seen: list[bytes] = []
    road.stage.loop.told = lambda who, what, data: seen.append(data) if who == "a" and what == "write" else None

    def publish(default: int | None) -> None:
        rules = () if default is None else (ParameterRule(name="max_tokens", default=default),)
        road.stage.publish(roles=(RoleSpec(name="r", parameters=rules),), keys=(OF_R,), limits=limits)

    publish(before)
    road.stage.connect("first").feed(request({"model": "m", "max_tokens": 1}))
    road.stage.connect("second").feed(request({"model": "m", **asked}))
    road.stage.loop.settle()
    publish(after)
    road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    body = json.loads(seen[-1].rpartition(b"\r\n\r\n")[2])
    assert len(seen) == 2
    assert {value for name, value in body.items() if "tokens" in name} == {sent}


def test_another_credential_on_the_same_connection(road: Road) -> None:
    road.plays(
        r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> client  two
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        >> client  wrong
        == 401     refused !invalid_api_key
        << client  401 !invalid_api_key www-authenticate: Bearer
        """,
        two=request({"model": "m"}, b"api-key: other\r\n"),
        wrong=request({"model": "m"}, key=b"wrong"),
    )


def test_many_requests_at_once_take_their_turns(road: Road) -> None:
    """What the gate answers itself is answered in order and whole, but not all of it in one turn of the loop."""
    stage = road.stage
    client = stage.connect()
    client.feed(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n" * 100)
    assert len(stage.receipts) == HEADS_A_TURN
    assert not client.reading, "no more is read while others have their turn"
    stage.loop.settle()
    assert [one["status"] for one in stage.receipts] == [404] * 100
    assert client.reading


def test_a_key_that_is_revoked_while_the_body_comes(road: Road) -> None:
    """Question 1 is asked again when the body is whole, if keys changed meanwhile: no old head keeps a dead key alive."""
    stage = road.stage
    client = stage.connect()
    whole = request({"model": "m"})
    client.feed(whole[:-1])
    stage.publish(keys=())
    client.feed(whole[-1:])
    stage.loop.settle()
    assert [one["reason"] for one in stage.receipts] == ["invalid_api_key"]
    assert not stage.loop.opened


def test_a_key_that_is_revoked_while_it_stands_in_line(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    road.plays(r"""
        >> client   chat
        == intent   a
        << a        <chat>
        >> client2  chat
    """)
    road.stage.publish(keys=())
    road.plays(r"""
        >> a        200 {}
        == 401      refused a !invalid_api_key
        == 200      complete a 4+1~
        << client2  401 !invalid_api_key www-authenticate: Bearer
        << client   200 | {}
    """)


def test_what_comes_behind_the_end_of_a_stream_is_nobodys(road: Road) -> None:
    """An instance that goes on after `[DONE]` neither holds the client up nor fills memory: it has a moment to end."""
    stage = road.stage
    client = stage.connect()
    client.feed(request({"model": "m", "stream": True}))
    stage.loop.settle()
    instance_side = stage.loop.opened["a"][0]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    event, done, comment = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: [DONE]\n\n", b":\n\n"
    instance_side.feed(head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (event, done)))
    for _ in range(20):
        instance_side.feed(b"%x\r\n%b\r\n" % (len(comment), comment))
        stage.loop.turn(0.25)
    assert [one["ended"] for one in stage.receipts] == ["complete"]


# --- where the time went

TIMES = ("receive_us", "queue_us", "connect_us", "overhead_us", "first_byte_us", "total_us")


def times(road: Road, number: int = -1) -> list[int]:
    receipt = road.stage.receipts[number]
    return [(receipt[name] or 0) // 1_000_000 for name in TIMES]


def test_time_until_the_body_is_whole_is_the_clients(road: Road) -> None:
    head, _, body = TEXTS["chat"].partition(b"\r\n\r\n")
    client = road.end_of("client")
    client.feed(head + b"\r\n\r\n" + body[:3])
    road.stage.loop.turn(2)
    client.feed(body[3:])
    road.stage.loop.settle()
    road.stage.loop.turn(1)
    road.end_of("a").feed(reply(b"{}"))
    assert times(road) == [2, 2, 0, 0, 3, 3]


def test_time_in_line_is_not_the_gates(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", max_in_flight=1)))
    for who in ("client", "client2"):
        road.end_of(who).feed(TEXTS["chat"])
        road.stage.loop.settle()
    for _ in range(2):
        road.stage.loop.turn(3)
        road.end_of("a").feed(reply(b"{}"))
        road.stage.loop.settle()
    assert [times(road, 0), times(road, 1)] == [[0, 0, 0, 0, 3, 3], [0, 3, 0, 0, 6, 6]]
    assert [one["connect_us"] > 0 for one in road.stage.receipts] == [True, False], "the second had the connection of the first"


def test_a_streams_first_byte_is_its_first_piece(road: Road) -> None:
    """Engines send the head when they take the request, and a piece when there is a token."""
    road.end_of("client").feed(TEXTS["stream"])
    road.stage.loop.settle()
    end = road.end_of("a")
    piece = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    for data in (STREAMED, b"%x\r\n%b\r\n" % (len(piece), piece), b"%x\r\n%b\r\n" % (14, b"data: [DONE]\n\n"), b"0\r\n\r\n"):
        end.feed(data)
        road.stage.loop.settle()
        road.stage.loop.turn(1)
    assert times(road) == [0, 0, 0, 0, 1, 2]
