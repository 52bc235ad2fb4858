"""The gate on the wire: raw bytes in, answers out, and what of it reached the instance.

Every "nothing was sent upstream" has its positive control in the same test: the plain request does reach the instance
through the same gate. These tests know HTTP/1.1 (RFC 9110, RFC 9112) and the mock instance's journal.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.system.scenes import JSON, PLAIN, assert_refused, controlled
from tests.tools.gate import SECRET, Gate
from tests.tools.upstream import MockUpstream
from tests.tools.wire import CHAT, Answer, Wire, ask, chat, chunked, numbers, request

# --- keep-alive and pipelining -----------------------------------------------------------------------------------------


def test_keep_alive_serves_many_requests_on_one_connection(gate: Gate, upstream: MockUpstream) -> None:
    with Wire(gate.port) as wire:
        for n in range(20):
            answer = wire.ask(request(chat(tag=f"k{n}"), secret=SECRET))
            assert (answer.status, answer.json()["tag"]) == (200, f"k{n}")
    assert len({asked["connection"] for asked in upstream.journal()}) == 1, "the instance's connection was not reused"


def test_keep_alive_ends_after_its_idle_time(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        assert wire.ask(PLAIN).status == 200
        assert not wire.closed(1.5)
        assert wire.closed(4)


def test_pipelined_requests_are_answered_in_order(gate: Gate, upstream: MockUpstream) -> None:
    slow_first = [request(chat(tag=f"p{n}", delay=0.3 if n == 0 else 0), secret=SECRET) for n in range(8)]
    with Wire(gate.port) as wire:
        wire.send(b"".join(slow_first))
        assert [wire.answer().json()["tag"] for _ in slow_first] == [f"p{n}" for n in range(8)]
    assert [asked["path"] for asked in upstream.journal()] == [CHAT] * 8


def test_pipelined_stream_and_plain_do_not_mix(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=5, rate=20, tag="s"), secret=SECRET) + request(chat(tag="j"), secret=SECRET))
        first, then = wire.answer(), wire.answer()
    assert numbers(first.events()) == list(range(5))
    assert first.events()[-1] == "[DONE]"
    assert then.json()["tag"] == "j"


@pytest.mark.parametrize(
    "glued",
    [
        b"GET /nonsense HTTP/9.9\r\n\r\n",
        b"\x00\x01\x02 garbage\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabc",
    ],
    ids=["version", "garbage", "two-framings", "two-lengths"],
)
def test_bad_request_glued_behind_a_good_one(gate: Gate, upstream: MockUpstream, glued: bytes) -> None:
    with Wire(gate.port) as wire:
        wire.send(request(chat(delay=0.2, tag="good"), secret=SECRET) + glued)
        good = wire.answer()
        assert (good.status, good.json()["tag"]) == (200, "good")
        assert wire.answer().status in (400, 505)
        assert wire.closed(), "the connection must close after a request that could not be read"
    assert len(upstream.journal()) == 1
    assert gate.receipt(good.header("x-request-id"))["ended"] == "complete"


# --- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_chunked_body_is_sent_on_with_its_true_bytes(gate: Gate, upstream: MockUpstream, size: int) -> None:
    body = chat(tag="chunked")
    answer = ask(gate.port, request(None, secret=SECRET, headers=(JSON, "Transfer-Encoding: chunked")) + chunked(body, size))
    assert answer.json()["tag"] == "chunked"
    (asked,) = upstream.journal()
    assert json.loads(asked["body"]) == json.loads(body)
    headers = dict(asked["headers"])
    assert headers.get("content-length") == str(asked["body_size"])
    assert "transfer-encoding" not in headers


def test_body_passes_unchanged_when_there_is_nothing_to_change(gate: Gate, upstream: MockUpstream) -> None:
    body = '{ "model":"tiny",  "messages":[{"role":"user","content":"h\\u00e9 \\"é\\" 😀"}], "seed" : 1.50e+1 }'.encode()
    assert ask(gate.port, request(body, secret=SECRET, headers=(JSON,))).status == 200
    assert upstream.journal()[0]["body"].encode("latin-1") == body


@pytest.mark.parametrize(
    "data",
    [
        request(chat(tag="each"), secret=SECRET, headers=(JSON,)),
        request(None, secret=SECRET, headers=("Transfer-Encoding: chunked",)) + chunked(chat(tag="each"), 50),
    ],
    ids=["sized", "chunked"],
)
def test_request_split_at_every_byte(gate: Gate, data: bytes) -> None:
    """Two segments with the border at each byte, and once byte by byte."""
    with Wire(gate.port) as wire:
        for border in range(1, len(data)):
            wire.send(data[:border])
            wire.send(data[border:])
            answer = wire.answer()
            assert (answer.status, answer.json()["tag"]) == (200, "each"), border
        for at in range(len(data)):
            wire.send(data[at : at + 1])
        assert wire.answer().json()["tag"] == "each"


def test_large_answer_passes_whole(gate: Gate) -> None:
    answer = ask(gate.port, request(chat(pad=3_000_000, tag="large"), secret=SECRET))
    assert answer.complete
    assert len(answer.json()["choices"][0]["message"]["content"]) == 3_000_000


def test_stream_passes_event_by_event(gate: Gate) -> None:
    """Each event is with the client before the instance sends the next: nothing is buffered."""
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=5, rate=5), secret=SECRET))
        delays = []
        for _ in range(5):
            event = wire.event()
            assert event is not None
            delays.append(time.monotonic() - json.loads(event.partition(b"data: ")[2])["t"])
    assert max(delays) < 0.1, delays


# --- Expect ------------------------------------------------------------------------------------------------------------


def test_expect_continue(gate: Gate) -> None:
    body = chat(tag="waited")
    with Wire(gate.port) as wire:
        wire.send(request(None, secret=SECRET, headers=("Expect: 100-continue", f"Content-Length: {len(body)}")))
        assert wire.head()[0] == 100
        wire.send(body)
        assert wire.answer().json()["tag"] == "waited"


def test_expect_continue_of_a_stranger_is_refused_before_the_body(gate: Gate, upstream: MockUpstream) -> None:
    def stranger() -> Answer:
        with Wire(gate.port) as wire:
            wire.send(request(None, secret="sk-nobody-000000000000000", headers=("Expect: 100-continue", "Content-Length: 5000")))
            return wire.answer()

    answer = controlled(gate, upstream, stranger)
    assert answer.informational == ()
    assert_refused(gate, answer, 401, "invalid_api_key")


def test_expect_continue_over_the_bound_is_refused_before_the_body(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        wire.send(request(None, secret=SECRET, headers=("Expect: 100-continue", "Content-Length: 300000")))
        answer = wire.answer()
    assert (answer.status, answer.informational) == (413, ())


def test_another_expectation_is_refused(gate: Gate, upstream: MockUpstream) -> None:
    answer = controlled(gate, upstream, lambda: ask(gate.port, request(chat(), secret=SECRET, headers=("Expect: something",))))
    assert answer.status == 417


# --- methods and paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("GET", CHAT, {405}),
        ("PUT", CHAT, {405}),
        ("DELETE", CHAT, {405}),
        ("HEAD", CHAT, {405}),
        ("TRACE", CHAT, {405, 400}),
        ("GET", "/v1/nothing", {404}),
        ("HEAD", "/v1/nothing", {404}),
        ("POST", "/sleep", {404}),
        ("POST", "/api/pull", {404}),
        ("GET", "/slots", {404}),
        ("GET", "/metrics", {404}),
        ("POST", "/v1/load_lora_adapter", {404}),
        ("POST", "//v1/chat/completions", {400, 404}),
        ("POST", "/v1/./chat/completions", {400, 404}),
        ("POST", "/v1/x/../chat/completions", {400, 404}),
        ("POST", "/v1/chat%2fcompletions", {400, 404}),
        ("POST", "/v1/chat/completions/", {400, 404}),
        ("POST", "/v1/chat/completions;x=1", {400, 404}),
        ("POST", "/V1/CHAT/COMPLETIONS", {400, 404}),
        ("OPTIONS", "*", {200, 204, 400, 404, 405}),
        ("CONNECT", "gate.test:80", {400, 404, 405, 501}),
    ],
)
def test_method_and_path_outside_the_table(
    gate: Gate, upstream: MockUpstream, method: str, path: str, statuses: set[int]
) -> None:
    body = chat() if method in ("POST", "PUT") else b""
    answer = controlled(gate, upstream, lambda: ask(gate.port, request(body, method=method, path=path, secret=SECRET), method))
    assert answer.status in statuses, answer
    assert not answer.body or method != "HEAD"
    if answer.status == 405:
        assert "POST" in (answer.header("allow") or ""), "405 names what is allowed (RFC 9110 section 15.5.6)"


def test_head_of_a_list_has_the_headers_of_get_and_no_body(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        head = wire.ask(request(None, method="HEAD", path="/v1/models", secret=SECRET), "HEAD")
        full = wire.ask(request(None, method="GET", path="/v1/models", secret=SECRET), "GET")
    assert full.status == 200
    assert {each["id"] for each in full.json()["data"]} == {"tiny", "other"}
    assert head.status in (200, 405)
    assert head.body == b""
    if head.status == 200:
        assert head.header("content-length") == full.header("content-length")


def test_options_is_answered_by_the_gate(gate: Gate, upstream: MockUpstream) -> None:
    answer = controlled(
        gate, upstream, lambda: ask(gate.port, request(None, method="OPTIONS", path=CHAT, secret=SECRET), "OPTIONS")
    )
    assert answer.status in (200, 204, 405)
    assert "POST" in (answer.header("allow") or "")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key_and_tells_nothing(gate: Gate, path: str) -> None:
    answer = ask(gate.port, request(None, method="GET", path=path), "GET")
    assert answer.status == 200
    assert b"tiny" not in answer.body
    assert b"127.0.0.1" not in answer.body


# --- the end of a connection -------------------------------------------------------------------------------------------


def test_connection_close_of_the_client(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        answer = wire.ask(request(chat(), secret=SECRET, headers=("Connection: close",)))
        assert answer.status == 200
        assert answer.header("connection") == "close"
        assert wire.closed()


def test_http_1_0_gets_a_whole_answer_and_a_close(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        answer = wire.ask(request(chat(), secret=SECRET, version="1.0"))
        assert answer.status == 200
        assert answer.header("transfer-encoding") is None
        assert answer.json()["usage"]["completion_tokens"] == 5
        assert wire.closed()


def test_http_1_0_stream_has_no_chunks(gate: Gate) -> None:
    answer = ask(gate.port, request(chat(stream=True, events=3), secret=SECRET, version="1.0"))
    assert answer.header("transfer-encoding") is None
    assert numbers(answer.events()) == [0, 1, 2]
