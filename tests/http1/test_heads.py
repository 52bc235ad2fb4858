"""Heads read and built: what is accepted is what a strict reading of RFC 9112 accepts, and nothing raw goes on.

A head is read as the client's connection reads it, behind llhttp; the reference is written out of the grammar and knows
neither. What the reader remembers of earlier heads must change nothing, so every case is read twice by one reader.
"""

from __future__ import annotations

import re

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slmgate.http1 import heads
from slmgate.http1.heads import (
    ANSWER_FIELDS_PASSED,
    REQUEST_FIELDS_PASSED,
    FieldNames,
    HeadReader,
    RequestHead,
    answer_fields,
    answer_head,
    client_fields,
    instance_fields,
    request_line,
    sane_request_id,
    upstream_request,
    whole_answer,
)
from slmgate.terms import Refuse


class _Fields:
    """What llhttp calls."""

    def __init__(self) -> None:
        self.found: dict[bytes, bytes] = {}
        self.on_header = self.found.setdefault


def read(head: bytes, reader: HeadReader | None = None) -> RequestHead | Refuse:
    """A head (without the empty line) by llhttp and `HeadReader`, as the client's connection reads it; twice, to one end."""
    reader = reader or HeadReader()
    answers: list[RequestHead | Refuse] = []
    for _ in range(2):
        fields = _Fields()
        try:
            httptools.HttpRequestParser(fields).feed_data(head + b"\r\n\r\n")
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            return Refuse("invalid_request", "llhttp")
        answers.append(reader.read(head, fields.found))
    assert answers[0] == answers[1], "what was remembered made a difference"
    return answers[0]


def good(head: bytes) -> RequestHead:
    found = read(head)
    assert isinstance(found, RequestHead), found
    return found


def test_a_head() -> None:
    head = b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: gate:8080\r\nX-A: b c\r\nAccept:*/*\r\nUser-Agent:\t me \t"
    assert good(head) == RequestHead(
        "POST",
        "/v1/chat",
        {b"host": b"gate:8080", b"x-a": b"b c", b"accept": b"*/*", b"user-agent": b"me"},
        1,
        True,
        (b"accept", b"user-agent"),
    )


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET / HTTP/1.1", "/"),
        (b"GET /a/../b HTTP/1.1", "/a/../b"),
        (b"GET /%2e HTTP/1.1", "/%2e"),
        (b"GET /?a=/b HTTP/1.1", "/"),
        (b"GET // HTTP/1.1", "//"),
        (b"OPTIONS * HTTP/1.1", "*"),
        (b"GET http://g/a?b HTTP/1.1", "/a"),
        (b"GET HTTP://G/a HTTP/1.1", "/a"),
        (b"GET /x#y HTTP/1.0", "/x#y"),
    ],
)
def test_targets(line: bytes, path: str) -> None:
    assert good(line + b"\r\nHost: g").path == path


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /", "invalid_request"),
        (b"GET  / HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET /  HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET / HTTP/1.1 \r\nHost: g", "invalid_request"),
        (b" GET / HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET\t/ HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET /\xe4 HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET x HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET http://other/ HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET http://g HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET https://g/ HTTP/1.1\r\nHost: g", "invalid_request"),
        (b"GET http:/// HTTP/1.0\r\nHost:", "invalid_request"),
        (b"GET http://g/ HTTP/1.1\r\nHost: g\r\nhost: g", "invalid_request"),
        (b"CONNECT g:80 HTTP/1.1\r\nHost: g:80", "invalid_request"),
        (b"GET / HTTP/2.0\r\nHost: g", "version_not_supported"),
        (b"GET / HTTP/0.9\r\nHost: g", "version_not_supported"),
        (b"GET / HTTP/1.1", "invalid_request"),
        (b"GET / HTTP/1.1\r\nA: b", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost:", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: a b", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: a, b", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: a/b", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: a@b", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: a:", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: a:123456", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: [::1", "invalid_request"),
        (b"GET / HTTP/1.0\r\nHost: \xe4", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: g\r\n folded: x", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: g\r\nA : b", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: g\r\nA\nB: c", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: g\r\n: c", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: g\r\nA: \x00", "invalid_request"),
    ],
)
def test_refused(head: bytes, code: str) -> None:
    refused = read(head)
    assert isinstance(refused, Refuse)
    assert refused.code == code


@pytest.mark.parametrize(
    "host", [b"g", b"g:1", b"gate.example.com:65535", b"10.0.0.1", b"[::1]", b"[::ffff:1.2.3.4]:80", b"a_b-c"]
)
def test_hosts(host: bytes) -> None:
    assert good(b"GET / HTTP/1.1\r\nHost: " + host).fields[b"host"] == host


def test_http_1_0_needs_no_host() -> None:
    assert good(b"GET / HTTP/1.0") == RequestHead("GET", "/", {}, 0, False)


@pytest.mark.parametrize("name", sorted(heads._ONCE))
@pytest.mark.parametrize("second", [bytes.upper, bytes.lower])
def test_fields_that_may_come_only_once(name: bytes, second: object) -> None:
    again = name.upper() if second is bytes.upper else name
    other = b"" if name == b"host" else b"Host: g\r\n"
    refused = read(b"GET / HTTP/1.1\r\n%b%b: g\r\n%b: g" % (other, name, again))
    assert isinstance(refused, Refuse)


@pytest.mark.parametrize("names", [(b"X-A", b"X-A"), (b"X-A", b"x-a")])
def test_fields_that_may_come_twice_are_joined(names: tuple[bytes, bytes]) -> None:
    head = good(b"GET / HTTP/1.1\r\n%b: 1\r\nHost: g\r\n%b: 2 " % names)
    assert head.fields == {b"x-a": b"1, 2", b"host": b"g"}


@pytest.mark.parametrize(
    ("version", "options", "keep_alive"),
    [
        (b"1", None, True),
        (b"1", b"close", False),
        (b"1", b"Close", False),
        (b"1", b"keep-alive, close", False),
        (b"1", b"x , close\t", False),
        (b"1", b"closed", True),
        (b"1", b"upgrade", True),
        (b"0", None, False),
        (b"0", b"keep-alive", True),
        (b"0", b"Keep-Alive", True),
        (b"0", b"keep-alive, close", False),
        (b"0", b"upgrade", False),
    ],
)
def test_keep_alive(version: bytes, options: bytes | None, keep_alive: bool) -> None:
    line = b"" if options is None else b"\r\nConnection: " + options
    assert good(b"GET / HTTP/1.%b\r\nHost: g%b" % (version, line)).keep_alive is keep_alive


def test_a_line_that_llhttp_would_not_have_let_pass() -> None:
    refused = HeadReader().read(b"GET / HTTP/1.1\r\nHost: g\r\nHost : g", {b"Host": b"g"})
    assert isinstance(refused, Refuse)
    assert refused.message == "A header line is malformed."


# --- against a strict reference

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = re.compile(
    rb"(" + _TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)


def strictly(head: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None:
    """Method, target and field lines by the grammar of RFC 9112 sections 3 and 5, each line on its own; None for any doubt."""
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    fields = [_FIELD.fullmatch(one) for one in lines]
    if line is None or not all(fields):
        return None
    return line[1], line[2], [(one[1].lower(), one[2]) for one in fields if one]


pieces = st.sampled_from(
    [
        *(b"GET", b"POST", b" ", b"/", b"*", b"a", b"http://g/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host: g"),
        *(b"host:h", b"X: y", b"x: z", b"Content-Length: 0", b"\t", b":", b",", b"\x00", b"\xe4", b"Connection: close"),
        *(b"Accept: a", b"?b"),
    ]
)
usual = [b"GET", b" ", b"/", b" ", b"HTTP/1.1", b"\r\n", b"Host: g"]
changes = st.lists(st.tuples(st.integers(0), pieces, st.booleans()), max_size=4)
_SHARED = HeadReader()


def changed(edits: list[tuple[int, bytes, bool]], tail: list[bytes]) -> bytes:
    words = [*usual, *(one for piece in tail for one in (b"\r\n", piece))]
    for place, piece, instead in edits:
        at = place % (len(words) + 1)
        words[at : at + instead] = [piece]
    return b"".join(words)


@given(changes, st.lists(pieces, max_size=3))
@example([], [b"X: y", b"x: z"])
@example([], [b"X: y\nY: z", b"X: w"])
def test_only_what_a_strict_reading_accepts_is_accepted(edits: list[tuple[int, bytes, bool]], tail: list[bytes]) -> None:
    head = changed(edits, tail)
    if b"\r\n\r\n" in head or head.startswith(b"\r\n"):
        return  # the connection finds the head's end, and skips empty lines before it
    found = read(head, _SHARED)
    strict = strictly(head)
    if strict is None:
        assert isinstance(found, Refuse), head
        return
    method, target, lines = strict
    hosts = [value for name, value in lines if name == b"host"]
    if isinstance(found, RequestHead):
        assert found.method.encode() == method
        assert target.endswith(b"?" + target.partition(b"?")[2]) or found.path.encode() in target
        assert {name for name, _ in lines} == set(found.fields)
        assert len(hosts) == 1 or (not hosts and found.minor == 0)
        for name, value in found.fields.items():
            assert value == b", ".join(said for other, said in lines if other == name)
        assert found.passed == tuple(name for name in REQUEST_FIELDS_PASSED if name in found.fields)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    found = read(data, _SHARED)
    assert isinstance(found, Refuse) or strictly(data) is not None


# --- what is remembered


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "REMEMBERED_SETS", 2)
    monkeypatch.setattr(heads, "REMEMBERED_NAMES", 3)
    reader = HeadReader()
    for number in range(7):
        found = read(b"GET /%d HTTP/1.1\r\nHost: g%d\r\nX-%d: y" % (number, number, number), reader)
        assert isinstance(found, RequestHead)
        assert found.path == f"/{number}"
        assert max(len(reader._lines), len(reader._hosts), len(reader._names._known)) <= 2
    found = read(b"GET / HTTP/1.1\r\nHost: g\r\nA: 1\r\nB: 2\r\nC: 3", reader)
    assert isinstance(found, RequestHead)
    assert not any(len(names) > 3 for names in reader._names._known)


@pytest.mark.parametrize("past", [0, 1])
def test_long_request_lines_are_not_remembered(past: int) -> None:
    reader = HeadReader()
    line = b"GET /%b HTTP/1.1" % (b"x" * (heads.REMEMBERED_LINE + past - 14))
    assert len(line) == heads.REMEMBERED_LINE + past
    read(line + b"\r\nHost: g", reader)
    assert (line in reader._lines) is not bool(past)


def test_field_names() -> None:
    names = FieldNames((b"b", b"a"))
    assert names.look((b"A", b"X", b"B")) == ((b"a", b"x", b"b"), (b"b", b"a"))
    assert names.look((b"A", b"a")) == ((b"a", b"a"), (b"a",))
    assert names.look(()) == ((), ())


# --- request ids


@pytest.mark.parametrize("value", [b"a", b"A.b_c:d/e+f=g@h-9", b"x" * 128])
def test_sane_request_ids(value: bytes) -> None:
    assert sane_request_id(value) == value


@pytest.mark.parametrize("value", [None, b"", b"-a", b"x" * 129, b"a b", b"a\n", b'a"', b"\xe4", b"a,b", b"<a>"])
def test_other_request_ids(value: bytes | None) -> None:
    assert sane_request_id(value) is None


# --- heads that are built


def test_a_request_for_an_instance() -> None:
    """Neither credential nor cookie nor coding nor address of the client goes on."""
    head = good(
        b"POST /v1/x?q HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer secret\r\nCookie: c\r\nX-Forwarded-For: 1.2.3.4\r\n"
        b"Accept-Encoding: gzip\r\nX-Api-Key: secret\r\nUser-Agent: me\r\nTraceparent: 00-1\r\nConnection: close"
    )
    prefix = instance_fields("a", 8000, False, None)
    fields = client_fields(head, b"application/json")
    assert upstream_request(request_line("POST", "/v1/x"), prefix, fields, b"r-1", b"{}") == (
        b"POST /v1/x HTTP/1.1\r\nhost: a:8000\r\naccept-encoding: identity\r\nuser-agent: me\r\ntraceparent: 00-1\r\n"
        b"content-type: application/json\r\nx-request-id: r-1\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert client_fields(head, b"x", traced=True) == b"user-agent: me\r\ncontent-type: x\r\n"  # the gate says it itself


@pytest.mark.parametrize(
    ("host", "port", "tls", "bearer", "lines"),
    [
        ("a", 80, False, None, b"host: a\r\n"),
        ("a", 443, False, None, b"host: a:443\r\n"),
        ("a", 443, True, "", b"host: a\r\n"),
        ("a", 80, True, "s", b"host: a:80\r\nauthorization: Bearer s\r\n"),
        ("::1", 80, False, None, b"host: [::1]\r\n"),
        ("::1", 81, False, None, b"host: [::1]:81\r\n"),
    ],
)
def test_an_instances_own_fields(host: str, port: int, tls: bool, bearer: str | None, lines: bytes) -> None:
    first, end, rest = lines.partition(b"\r\n")
    assert instance_fields(host, port, tls, bearer) == b"%b%baccept-encoding: identity\r\n%b" % (first, end, rest)


def test_fields_of_an_answer() -> None:
    raw = {b"Server": b"uvicorn", b"Content-Type": b"a/b", b"Set-Cookie": b"c", b"Retry-After": b"3", b"Date": b"d"}
    lowered, passed = FieldNames(ANSWER_FIELDS_PASSED).look(tuple(raw))
    fields = dict(zip(lowered, raw.values(), strict=True))
    assert answer_fields(fields, passed) == b"content-type: a/b\r\nretry-after: 3\r\n"


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, b"200 OK"), (404, b"404 Not Found"), (418, b"418 I'm a Teapot"), (299, b"299 Unknown"), (999, b"999 Unknown")],
)
def test_the_head_of_an_answer(status: int, line: bytes) -> None:
    head = answer_head(status, b"content-type: a/b\r\n", b"date: d\r\n", b"r-1", (0, 1_234_567, 89), b"content-length: 1\r\n")
    assert head == (
        b"HTTP/1.1 " + line + b"\r\ndate: d\r\ncontent-type: a/b\r\ncontent-length: 1\r\nx-request-id: r-1\r\n"
        b"server-timing: queue;dur=0, upstream;dur=1234.567, gate;dur=0.089\r\n\r\n"
    )


def test_the_times_of_an_answer() -> None:
    """In line, at the instance, and the gate's own: in milliseconds."""
    head = answer_head(200, b"", b"", b"r-1", (5_001, 20, 3_000_000), b"")
    assert head.endswith(b"server-timing: queue;dur=5.001, upstream;dur=0.020, gate;dur=3000.000\r\n\r\n")


@pytest.mark.parametrize("queue", [0, 5_001])
def test_a_whole_answer_says_what_its_head_alone_would(queue: int) -> None:
    passed, date, waited, body = b"content-type: a/b\r\n", b"date: d\r\n", (queue, 20, 89), b"0123456789 100%"
    whole = whole_answer(passed, date, b"r-1", waited, b"ratelimit: x;r=1\r\n", body)
    head = answer_head(200, passed, date, b"r-1", waited, b"content-length: 15\r\nratelimit: x;r=1\r\n")
    assert whole.endswith(b"\r\n\r\n" + body)
    assert sorted(whole.removesuffix(body).split(b"\r\n")) == sorted(head.split(b"\r\n"))
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (b"content-type", b"application/json", b"application/json"),
        (b"content-type", b"text/event-stream; charset=utf-8", b"text/event-stream; charset=utf-8"),
        (b"content-type", b"application/json; host=10.0.0.5", b"application/json"),
        (b"content-type", b"application/json;charset=utf-8; engine=/srv", b"application/json"),
        (b"content-type", b"/srv/engine", b""),
        (b"content-type", b"text/\xc3\xa9", b""),
        (b"cache-control", b"no-cache, max-age=5", b"no-cache, max-age=5"),
        (b"cache-control", b'private="http://10.0.0.5:8000/"', b""),
        (b"content-disposition", b'attachment; filename="speech.mp3"', b'attachment; filename="speech.mp3"'),
        (b"content-disposition", b"attachment; filename=/srv/engine/speech.mp3", b""),
        (b"content-disposition", b"attachment; filename=\xff", b""),
        (b"content-language", b"de, en-GB", b"de, en-GB"),
        (b"content-language", b"engine@10.0.0.5", b""),
        (b"retry-after", b"3", b"3"),
        (b"retry-after", b"Fri, 31 Dec 1999 23:59:59 GMT", b"Fri, 31 Dec 1999 23:59:59 GMT"),
        (b"retry-after", b"ask host-5", b""),
        (b"retry-after", b"", b""),
    ],
)
def test_what_a_field_of_an_answer_may_say(name: bytes, value: bytes, shown: bytes) -> None:
    assert answer_fields({name: value}, (name,)) == (b"%b: %b\r\n" % (name, shown) if shown else b"")
