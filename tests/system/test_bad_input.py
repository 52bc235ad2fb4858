"""What bad input gets: bodies and heads that cannot be read in exactly one way, lengths that lie, clients that dawdle.

A 4xx in the dialect within the bound's memory, the connection closed or drained, nothing sent upstream; each with its positive
control in the same test (`controlled`). The cases follow RFC 9112 and the table of hostile requests in the reliability goals.
"""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tests.system.scenes import JSON, PLAIN, assert_refused, controlled
from tests.tools.gate import SECRET, Gate
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, ClosedEarlyError, Wire, ask, chat, chunked, request

# --- what bad input gets -----------------------------------------------------------------------------------------------

DEEP = b"[" * 100_000
BAD_BODIES = {
    "empty": b"",
    "no-json": b"hello",
    "half-json": b'{"model":"tiny","messages":[',
    "array": b'["tiny"]',
    "null": b"null",
    "string": b'"tiny"',
    "no-model": b'{"messages":[]}',
    "two-models": b'{"model":"tiny","messages":[],"model":"other"}',
    "two-models-escaped": b'{"model":"tiny","messages":[],"mo\\u0064el":"other"}',
    "model-null": b'{"model":null,"messages":[]}',
    "model-number": b'{"model":1,"messages":[]}',
    "model-array": b'{"model":["tiny"],"messages":[]}',
    "model-empty": b'{"model":"","messages":[]}',
    "model-nul": b'{"model":"tiny\\u0000","messages":[]}',
    "model-space": b'{"model":"tiny ","messages":[]}',
    "model-case": b'{"model":"TINY","messages":[]}',
    "deep": DEEP,
    "deep-inside": b'{"model":"tiny","messages":' + DEEP + b"]" * 100_000 + b"}",
    "deep-objects": b'{"model":"tiny","messages":' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}",
    "byte-order-mark": b"\xef\xbb\xbf" + chat(),
    "utf-16": chat().decode().encode("utf-16"),
    "invalid-utf-8": b'{"model":"tiny","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "overlong-utf-8": b'{"model":"t\xc1\xa9ny","messages":[]}',
    "lone-surrogate-model": b'{"model":"\\ud800","messages":[]}',
    "long-number": b'{"model":"tiny","messages":[],"max_tokens":' + b"9" * 10_000 + b"}",
    "nan": b'{"model":"tiny","messages":[],"temperature":NaN}',
    "trailing-junk": chat() + b"x",
    "two-documents": chat() + chat(),
    "form": b"model=tiny&messages=hi",
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_body_that_cannot_be_read_in_one_way(gate: Gate, upstream: MockUpstream, name: str) -> None:
    started = time.monotonic()
    data = request(BAD_BODIES[name], secret=SECRET, headers=(JSON,))
    answer = controlled(gate, upstream, lambda: ask(gate.port, data))
    assert answer.status in ((404,) if name == "model-case" else (400, 404)), answer
    assert answer.code in ("invalid_request", "model_not_found")
    assert_refused(gate, answer, answer.status, answer.code)
    assert time.monotonic() - started < 2


def test_numbers_of_any_size_cost_no_worker(gate: Gate) -> None:
    """They pass, as JSON bounds no number; each has a receipt, and the worker that wrote it goes on."""
    workers = gate.workers()
    fields = json.loads(chat())
    for value in (10**400, -(10**400), 1e308):
        answer = ask(gate.port, request(json.dumps({**fields, "n": value, "best_of": [value]}).encode(), secret=SECRET))
        assert answer.status == 200
        assert gate.receipt(answer.header("x-request-id"))["ended"] == "complete"
    time.sleep(0.6)
    assert gate.workers() == workers


def test_unknown_model(gate: Gate, upstream: MockUpstream) -> None:
    answer = controlled(gate, upstream, lambda: ask(gate.port, request(chat(model="nobody"), secret=SECRET)))
    assert_refused(gate, answer, 404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/messages", "anthropic"),
        ("/api/chat", "ollama"),
        ("/completion", "llamacpp"),
        ("/generate", "tgi"),
        ("/v1/embeddings", "openai"),
    ],
)
def test_errors_speak_the_dialect_of_the_path(gate: Gate, upstream: MockUpstream, path: str, shape: str) -> None:
    answer = controlled(gate, upstream, lambda: ask(gate.port, request(b"{", path=path, secret=SECRET, headers=(JSON,))))
    body = answer.json()
    assert answer.status == 400
    match shape:
        case "anthropic":
            assert body["type"] == "error"
            assert body["error"]["type"] == "invalid_request_error"
            assert body["error"]["message"]
        case "ollama":
            assert isinstance(body["error"], str)
            assert body["error"]
        case "tgi":
            assert isinstance(body["error"], str)
            assert body["error_type"]
        case _:
            assert body["error"]["message"]


@pytest.mark.parametrize("announced", [True, False], ids=["sized", "chunked"])
def test_body_over_the_bound(gate: Gate, upstream: MockUpstream, announced: bool) -> None:
    """413 with bounded memory; then the connection is closed or drained so that the rest is never read as a request."""
    before, size = gate.rss(), 50_000_000

    def over() -> Answer:
        with Wire(gate.port) as wire:
            framing = f"Content-Length: {size}" if announced else "Transfer-Encoding: chunked"
            wire.send(request(None, secret=SECRET, headers=(JSON, framing)))
            piece = b"POST /v1/models HTTP/1.1\r\n" * 2500
            with contextlib.suppress(OSError):
                for _ in range(size // len(piece)):
                    wire.send(piece if announced else b"%x\r\n%s\r\n" % (len(piece), piece))
            answer = wire.answer()
            assert not wire.buffer, f"the rest was answered as a request: {wire.buffer[:100]!r}"
            return answer

    try:
        answer = controlled(gate, upstream, over)
    except ClosedEarlyError:
        pytest.fail("the answer 413 was lost: read on for a while before closing (RFC 9112 section 9.6)")
    assert_refused(gate, answer, 413, "request_too_large")
    assert gate.rss() - before < 8_000_000


@pytest.mark.parametrize(("size", "status"), [(262_143, 200), (262_144, 200), (262_145, 413)])
def test_body_at_the_bound(gate: Gate, size: int, status: int) -> None:
    body = chat()
    body = body[:-1] + b" " * (size - len(body)) + b"}"
    assert ask(gate.port, request(body, secret=SECRET)).status == status
    assert (
        ask(gate.port, request(None, secret=SECRET, headers=("Transfer-Encoding: chunked",)) + chunked(body, 5000)).status
        == status
    )


@pytest.mark.parametrize("stay", [True, False], ids=["then-silent", "then-closed"])
def test_length_that_lies_short(gate: Gate, upstream: MockUpstream, stay: bool) -> None:
    """Fewer bytes than announced: 408 after the body's time limit, or nothing for a client that is gone; never upstream."""
    body = chat()
    mine = f"short-{stay}-{time.monotonic_ns()}"

    def lie() -> Answer:
        with Wire(gate.port) as wire:
            wire.send(request(None, secret=SECRET, headers=(f"Content-Length: {len(body) + 10}", f"X-Request-Id: {mine}")) + body)
            if not stay:
                return Answer(408, [], b"", True)
            answer = wire.answer()
            assert wire.closed()
            return answer

    answer = controlled(gate, upstream, lie)
    assert answer.status in (400, 408)
    # A FIN alone does not tell a client that is gone from one that still reads.
    assert gate.receipt(mine)["ended"] in (("refused",) if stay else ("refused", "client_left"))


def test_length_that_lies_long(gate: Gate, upstream: MockUpstream) -> None:
    """More bytes than announced: they are read as the next request, which they are not."""
    with Wire(gate.port) as wire:
        wire.send(request(chat(tag="exact"), secret=SECRET) + b'trailing {"model":"tiny"}\r\n\r\n')
        assert wire.answer().json()["tag"] == "exact"
        assert wire.answer().status == 400
        assert wire.closed()
    assert len(upstream.journal()) == 1


HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer " + SECRET + "\r\n"
BAD_HEADS = {
    "no-host": (
        "POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer " + SECRET + "\r\nContent-Length: 2\r\n\r\n{}",
        {400},
    ),
    "two-hosts": (HEAD + "Host: other\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "host-userinfo": (HEAD.replace("gate.test", "a@b") + "Content-Length: 2\r\n\r\n{}", {400}),
    "host-port": (HEAD.replace("gate.test", "a:99999999") + "Content-Length: 2\r\n\r\n{}", {400}),
    "length-plus": (HEAD + "Content-Length: +2\r\n\r\n{}", {400}),
    "length-minus": (HEAD + "Content-Length: -2\r\n\r\n{}", {400}),
    "length-hex": (HEAD + "Content-Length: 0x2\r\n\r\n{}", {400}),
    "length-empty": (HEAD + "Content-Length:\r\n\r\n{}", {400, 411}),
    "length-list": (HEAD + "Content-Length: 2, 2\r\n\r\n{}", {400}),
    "length-twice": (HEAD + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", {400}),
    "length-huge": (HEAD + "Content-Length: 99999999999999999999999\r\n\r\n{}", {400, 413}),
    "both-framings": (HEAD + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "coding-identity-chunked": (HEAD + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "coding-gzip-chunked": (HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "coding-chunked-twice": (HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "coding-unknown": (HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "chunk-size-bad": (HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", {400}),
    "chunk-size-huge": (HEAD + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}", {400, 413}),
    "chunk-too-long": (HEAD + "Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", {400}),
    "chunk-bare-lf": (HEAD + "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n", {400}),
    "space-before-colon": (HEAD + "Content-Length : 2\r\n\r\n{}", {400}),
    "folded": (HEAD + "X-A: 1\r\n folded\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "nul-in-value": (HEAD + "X-A: a\0b\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "cr-in-value": (HEAD + "X-A: a\rb\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "bare-lf": (HEAD.replace("\r\n", "\n") + "Content-Length: 2\n\n{}", {400}),
    "empty-name": (HEAD + ": x\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "version-2": (HEAD.replace("HTTP/1.1", "HTTP/2.0") + "Content-Length: 2\r\n\r\n{}", {400, 505}),
    "version-0.9": ("GET /v1/models\r\n\r\n", {400, 505}),
    "two-spaces": (HEAD.replace("POST ", "POST  ") + "Content-Length: 2\r\n\r\n{}", {400}),
    "absolute-file": (HEAD.replace("POST /v1", "POST file:///v1") + "Content-Length: 2\r\n\r\n{}", {400, 404}),
    "long-target": (HEAD.replace("/v1", "/" + "a" * 70_000) + "Content-Length: 2\r\n\r\n{}", {414, 431, 400}),
    "large-header": (HEAD + "X-A: " + "a" * 70_000 + "\r\nContent-Length: 2\r\n\r\n{}", {431, 400}),
    "many-headers": (HEAD + "".join(f"X-{n}: 1\r\n" for n in range(300)) + "Content-Length: 2\r\n\r\n{}", {431, 400}),
    "coded-body": (HEAD + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", {415, 400}),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_head_that_is_not_http(gate: Gate, upstream: MockUpstream, name: str) -> None:
    text, statuses = BAD_HEADS[name]

    def bad() -> Answer:
        with Wire(gate.port) as wire:
            answer = wire.ask(text.encode("latin-1"))
            if answer.status not in (404, 415):
                assert wire.closed(), "no request after this one can be told from its rest"
            return answer

    answer = controlled(gate, upstream, bad)
    assert answer.status in statuses, answer


def test_slow_head_is_cut_and_others_are_served(gate: Gate) -> None:
    with Wire(gate.port) as slow:
        slow.send(PLAIN[:30])
        started = time.monotonic()
        while time.monotonic() - started < 1:
            assert ask(gate.port, PLAIN).status == 200
            slow.send(b"a")
            time.sleep(0.2)
        answer = slow.answer()
        assert answer.status == 408
        assert slow.closed()
        assert time.monotonic() - started < 4


def test_silent_connection_is_cut(gate: Gate) -> None:
    with Wire(gate.port) as wire:
        started = time.monotonic()
        while wire.more():
            pass
        assert time.monotonic() - started < 4.5
