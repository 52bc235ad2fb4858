"""An instance that dies, hangs, trickles, floods or lies, and clients that leave: what the client sees and what is booked.

The figures are those of the reliability goals: never a success that was none, one receipt with the tokens so far, the
connection to a broken instance never used again, memory bounded. The mock instance's journal says what really happened.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import Any

import pytest

from tests.system.conftest import Launch
from tests.system.scenes import GOOD, POISON, SECONDS, assert_served, plain
from tests.tools.gate import SECRET, Gate, eventually, model
from tests.tools.load import RATE, STREAMS, Background, Loader, rounds
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, Wire, ask, chat, numbers, request


def assert_hidden(answer: Answer, upstream: MockUpstream) -> None:
    """An error names no instance, no host and no port."""
    text = answer.body.decode() + str(answer.headers)
    assert "127.0.0.1" not in text and str(upstream.port) not in text and "Traceback" not in text, text


# --- streams that break ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["close", "reset", "stall", "garbage"])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_stream_that_breaks_at_event_k(gate: Gate, upstream: MockUpstream, then: str, after: int) -> None:
    """At every k of a stream with five events, the last of them after all text but before the clean end."""
    started = time.monotonic()
    answer = ask(gate.port, request(chat(stream=True, events=5, rate=50, after=after, then=then), secret=SECRET))
    assert time.monotonic() - started < SECONDS
    row = gate.receipt(answer.header("x-request-id"))
    ended = "upstream_timeout" if then == "stall" else "upstream_error"
    assert row["ended"] == ended, row
    if answer.status == 200:
        *events, last = answer.events()
        seen = len(numbers(events))
        assert numbers(events) == list(range(seen))
        assert seen == after or (then == "garbage" and seen == after - 1), f"{seen} events of {after} came through"
        assert not answer.complete, "a broken stream must have no last chunk either"
        error = json.loads(last)["error"]
        assert error["code"] == ended
        assert error["message"]
        assert "[DONE]" not in events, "a broken stream must not look complete"
        assert all('"finish_reason": "stop"' not in event for event in events)
    else:
        # Garbage in one read with the first event spoils that event as well.
        seen = 0
        assert after <= (then == "garbage"), answer
        assert answer.status in (502, 504), answer
    assert seen <= row["completion_tokens"] <= after, row
    assert row["estimated"] or not row["completion_tokens"], row
    assert_hidden(answer, upstream)
    assert len(upstream.journal()) == 1, "never retried after the first byte"
    assert_served(gate, upstream, 2)


@pytest.mark.parametrize(
    ("path", "mark"), [("/v1/messages", b"event: error"), ("/api/chat", b'"error"'), ("/api/generate", b'"error"')]
)
def test_broken_stream_ends_in_its_own_dialect(gate: Gate, upstream: MockUpstream, path: str, mark: bytes) -> None:
    answer = ask(gate.port, request(chat(stream=True, events=5, rate=50, after=2), path=path, secret=SECRET))
    assert answer.status == 200
    assert mark in answer.body.split(b"\n1")[-1]
    assert mark in answer.body
    assert b"message_stop" not in answer.body
    assert b'"done": true' not in answer.body
    assert b'"done":true' not in answer.body
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["ended"], row["completion_tokens"]) == ("upstream_error", 2)


def test_clean_end_of_the_body_without_the_dialects_end(gate: Gate, upstream: MockUpstream) -> None:
    """A chunked body that ends well but never says `[DONE]` is a stream that died, not one that finished."""
    body = 'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    text = f"{head}{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    answer = ask(gate.port, request(chat(stream=True, do="trickle", bytes=text, interval=0.001), secret=SECRET))
    assert "error" in json.loads(answer.events()[-1])
    assert "[DONE]" not in answer.events()
    assert gate.receipt(answer.header("x-request-id"))["ended"] == "upstream_error"


# --- no good answer at all ---------------------------------------------------------------------------------------------

BROKEN_ANSWERS: dict[str, tuple[dict[str, Any], int]] = {
    "garbage": ({"do": "raw", "bytes": "\0\1\2 this is not HTTP\r\n\r\n"}, 502),
    "half-head": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nContent-", "then": "close"}, 502),
    "half-head-stall": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nContent-", "then": "stall"}, 504),
    "closed": ({"do": "raw", "bytes": "", "then": "close"}, 502),
    "reset": ({"do": "raw", "bytes": "", "then": "reset"}, 502),
    "silence": ({"do": "silence"}, 504),
    "late": ({"delay": 10}, 504),
    "trickle": ({"do": "trickle", "bytes": GOOD, "interval": 0.5}, 504),
    "both-framings": ({"do": "raw", "bytes": GOOD[:-2] + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + POISON}, 502),
    "two-lengths": ({"do": "raw", "bytes": GOOD[:-2] + "Content-Length: 3\r\n\r\n{}" + POISON}, 502),
    "length-minus": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"}, 502),
    "cr-in-value": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\n{}"}, 502),
    "nul-in-value": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\n{}"}, 502),
    "bare-lf": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"}, 502),
    "folded": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"}, 502),
    "interim-flood": ({"do": "raw", "bytes": "HTTP/1.1 102 Processing\r\n\r\n" * 5000}, 502),
    "header-64-KiB": ({"do": "raw", "bytes": f"HTTP/1.1 200 OK\r\nX-A: {'a' * 65536}\r\nContent-Length: 2\r\n\r\n{{}}"}, 502),
    "switching": ({"do": "raw", "bytes": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + POISON}, 502),
    "http-2": ({"do": "raw", "bytes": "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"}, 502),
    "coded": ({"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"}, 502),
    "status-0": ({"do": "raw", "bytes": "HTTP/1.1 000 Nothing\r\nContent-Length: 2\r\n\r\n{}"}, 502),
}


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_no_good_answer(gate: Gate, upstream: MockUpstream, name: str) -> None:
    """502 or 504 in the dialect, in time, with a receipt; that connection is never used again."""
    script, status = BROKEN_ANSWERS[name]
    started = time.monotonic()
    answer = ask(gate.port, plain("broken", **script))
    took = time.monotonic() - started
    code = "upstream_timeout" if status == 504 else "upstream_error"
    assert (answer.status, answer.code) == (status, code), answer
    assert took < SECONDS, took
    assert_hidden(answer, upstream)
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["status"], row["ended"], row["completion_tokens"]) == (status, code, 0), row
    spoiled = {asked["connection"] for asked in upstream.journal()}
    assert_served(gate, upstream)
    later = {asked["connection"] for asked in upstream.journal() if '"after-' in asked["body"]}
    assert later and not later & spoiled, "a connection that carried a broken answer was used again"


CHUNKED = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
ERROR = '{"error": "it\'s dead"}'


@pytest.mark.parametrize("text", [GOOD + ERROR, f"{CHUNKED}{len(ERROR):x}\r\n{ERROR}\r\n0\r\n\r\n"], ids=["sized", "chunked"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_under_200(gate: Gate, upstream: MockUpstream, text: str, stream: bool) -> None:
    """An instance that fails politely: it is a failure to the client, and nothing was generated."""
    body = chat(stream=stream, tag="polite", do="raw", bytes=text)
    answer = ask(gate.port, request(body, secret=SECRET))
    assert (answer.status, answer.code) == (502, "upstream_error"), answer
    assert b"dead" not in answer.body
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["status"], row["ended"], row["completion_tokens"]) == (502, "upstream_error", 0), row
    assert_served(gate, upstream)


HALF_ANSWERS: dict[str, dict[str, Any]] = {
    "sized-cut": {"do": "raw", "bytes": GOOD + '{"half":', "then": "close"},
    "sized-reset": {"do": "raw", "bytes": GOOD + '{"half":', "then": "reset"},
    "sized-stall": {"do": "raw", "bytes": GOOD + '{"half":', "then": "stall"},
    "chunk-cut": {"do": "raw", "bytes": 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a"', "then": "close"},
    "chunk-bad": {"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"},
    "chunk-longer": {"do": "raw", "bytes": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"},
}


@pytest.mark.parametrize("name", HALF_ANSWERS)
def test_half_an_answer_never_looks_whole(gate: Gate, upstream: MockUpstream, name: str) -> None:
    """Either a 502/504, or, when the head has gone already, an end that no client can take for complete."""
    with Wire(gate.port) as wire:
        wire.send(plain("half", **HALF_ANSWERS[name]))
        answer = wire.answer()
    assert answer.status in (502, 504) or not answer.complete, answer
    row = eventually(lambda: [row for row in gate.rows() if row["request_id"] == answer.header("x-request-id")], 5, "a receipt")[
        0
    ]
    assert row["ended"] in ("upstream_error", "upstream_timeout"), row
    assert_served(gate, upstream)


def test_bytes_after_an_answer_reach_nobody(gate: Gate, upstream: MockUpstream) -> None:
    """Surplus bytes, whether with the answer or later, retire the connection and are in no one's answer."""
    for n in range(5):
        body = json.dumps({"tag": f"x{n}"})
        text = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}{POISON}"
        answer = ask(gate.port, plain(f"x{n}", do="raw", bytes=text))
        assert answer.status in (200, 502)
        assert b"POISON" not in answer.body
        assert_served(gate, upstream, 2)


def test_error_of_the_instance_passes_or_is_translated(gate: Gate, upstream: MockUpstream) -> None:
    """A 400 of the engine is the client's affair and passes; it is booked with its status."""
    answer = ask(gate.port, plain(status=400))
    assert answer.status == 400
    assert gate.receipt(answer.header("x-request-id"))["status"] == 400


def test_answer_before_the_body_was_read(gate: Gate, upstream: MockUpstream) -> None:
    body = '{"tag":"early"}'
    upstream.default(do="early", bytes=f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    answer = ask(gate.port, request(chat(pad=10) + b" " * 200_000, secret=SECRET))
    assert answer.status in (200, 502)
    upstream.default()
    assert_served(gate, upstream)


def test_answer_of_an_instance_that_never_reads_the_body(launch: Launch, upstream: MockUpstream) -> None:
    """The next request does not stand behind what is left of the one before, whatever the answer said of the connection."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    upstream.default(do="early", deaf=True, bytes="HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\n{}")
    with Wire(gate.port) as wire:
        assert wire.ask(request(chat() + b" " * 7_500_000, secret=SECRET)).status == 413
        upstream.default()
        started = time.monotonic()
        assert wire.ask(request(chat(tag="next"), secret=SECRET)).json()["tag"] == "next"
        assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize(
    "text", ["HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
def test_answer_that_ends_with_its_connection(gate: Gate, upstream: MockUpstream, text: str) -> None:
    """RFC 9112 section 6.3, rule 8: a body without a length ends when the instance closes, and is whole."""
    body = '{"tag":"old","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
    answer = ask(gate.port, plain(do="raw", bytes=text + body, then="close"))
    assert answer.status == 200
    assert answer.complete
    assert answer.json()["tag"] == "old"
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["ended"], row["prompt_tokens"], row["completion_tokens"]) == ("complete", 3, 4)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "many",
        [],
        {},
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": "7", "completion_tokens": "5"},
        {"prompt_tokens": 1.5, "completion_tokens": 2.5},
        {"prompt_tokens": 10**30, "completion_tokens": 10**30},
        {"prompt_tokens": True, "completion_tokens": None},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_lies(gate: Gate, upstream: MockUpstream, usage: Any, stream: bool) -> None:
    """Unbelievable figures are replaced by the gate's own count and marked so; they never pass a balance."""
    answer = ask(gate.port, request(chat(stream=stream, usage=usage, events=5), secret=SECRET))
    assert answer.status == 200
    row = gate.receipt(answer.header("x-request-id"))
    assert row["estimated"] and 0 <= row["prompt_tokens"] < 1000 and 0 <= row["completion_tokens"] < 1000, row
    if stream:
        assert row["completion_tokens"] == 5, row


# --- two instances -----------------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"timeouts": {"connect": "1s", "first_byte": "5s", "idle": "5s"}}


def test_kill_of_one_of_two_instances(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """kill -9: no request without a first byte fails, streams there end with an error event, and it comes back."""
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK)})
    loader = Loader(gate.port, SECRET, seed=41)
    times = rounds(1, 5)
    each_round = 8.0 if times == 1 else 16.0  # the table gives an instance 10 s to be used again
    kills: list[float] = []
    with Background(loader.run(RATE, times * each_round, streams=STREAMS, event_rate=10, delay=0.05), times * each_round + 90):
        start = time.monotonic()
        for n in range(times):
            time.sleep(start + n * each_round + 2 - time.monotonic())
            assert upstream.journal(), "void: the killed instance had no work"
            kills.append(time.monotonic())
            upstream.kill()
            time.sleep(2)
            upstream.start()
            back = time.monotonic()
            eventually(upstream.journal, each_round - 4, "the instance that came back is used again", 0.2)
            print(f"used again after {time.monotonic() - back:.1f} s")
    failed = [each for each in loader.bad() if not each.stream]
    assert not failed, loader.told()
    cut = [each for each in loader.bad() if each.stream]
    assert 0 < len(cut) < STREAMS * times, f"{len(cut)} streams ended badly"
    for each in cut:
        assert each.error_event and not each.complete and not each.done, str(each)
        assert each.end is not None
        assert any(0 <= each.end - killed < 1 for killed in kills), str(each)
    rows = gate.receipts(each.id for each in loader.journal)
    assert {rows[each.id]["ended"] for each in cut} == {"upstream_error"}
    assert all(rows[each.id]["completion_tokens"] >= len(each.numbers) for each in cut)
    assert sum(row["attempts"] > 1 for row in rows.values()) <= len(rows) / 5


def test_instance_that_is_not_there_costs_nothing(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    second.kill()
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK)})
    for n in range(40):
        assert ask(gate.port, plain(f"n{n}")).status == 200
    assert len(upstream.journal()) == 40


def test_all_instances_gone(launch: Launch, second: MockUpstream) -> None:
    gate = launch({"tiny": model(second.url, **QUICK)})
    assert ask(gate.port, plain()).status == 200
    second.kill()
    answer = ask(gate.port, plain())
    assert answer.status in (502, 503)
    assert answer.code in ("upstream_error", "overloaded")
    assert_hidden(answer, second)
    second.start()
    eventually(lambda: ask(gate.port, plain()).status == 200, 10, "served again after the instance is back", 0.2)


@pytest.mark.parametrize("status", [502, 503])
def test_refusal_of_an_instance_is_retried_elsewhere(
    launch: Launch, upstream: MockUpstream, second: MockUpstream, status: int
) -> None:
    upstream.default(status=status)
    gate = launch({"tiny": model(upstream.url, second.url, **QUICK)})
    answers = [ask(gate.port, request(chat(), secret=SECRET)) for _ in range(10)]
    assert [answer.status for answer in answers] == [200] * 10
    assert len(second.journal()) == 10


def test_500_is_not_retried(gate: Gate, upstream: MockUpstream) -> None:
    answer = ask(gate.port, plain(status=500))
    assert answer.status in (500, 502)
    assert len(upstream.journal()) == 1


# --- connections that went stale ---------------------------------------------------------------------------------------


def test_stale_pooled_connection_is_no_failure(gate: Gate, upstream: MockUpstream) -> None:
    """The instance closes idle connections without a word, at once or just when the next request comes."""
    upstream.default(idle_close=0.05)
    for n in range(30):
        answer = ask(gate.port, plain(f"stale-{n}"))
        assert (answer.status, answer.json()["tag"]) == (200, f"stale-{n}")
        time.sleep(0.05 if n % 3 else 0.049)
    tags = [json.loads(asked["body"])["script"]["tag"] for asked in upstream.journal()]
    assert sorted(tags) == sorted(f"stale-{n}" for n in range(30)), "a request reached the instance twice"


def test_frozen_instance_is_given_up_in_time(gate: Gate, upstream: MockUpstream) -> None:
    """SIGSTOP: its kernel still accepts and acknowledges, the process does not answer."""
    upstream.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        answer = ask(gate.port, plain())
    finally:
        upstream.signal(signal.SIGCONT)
    assert answer.status == 504
    assert time.monotonic() - started < SECONDS
    eventually(lambda: ask(gate.port, plain()).status == 200, 5, "served after it thawed")


def test_instance_that_drops_packets_is_given_up_in_time(launch: Launch) -> None:
    """A listener whose queue is full answers no SYN: the connect time limit holds, 502 or 504."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        gate = launch({"tiny": model(f"http://127.0.0.1:{port}", timeouts={"connect": "1s"}, retry={"attempts": 1})})
        started = time.monotonic()
        answer = ask(gate.port, plain())
        assert answer.status in (502, 503, 504)
        assert time.monotonic() - started < 3
        for each in fillers:
            each.close()
