"""The two readings of the table of hostile requests, and how the recording instance reads what reaches it.

What real proxies make of the table is `python -m bench.hostile`, which is no test; here no process is started.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from bench.hostile import READINGS, targets
from tests.tools.ambiguous import Case, Sent, Table
from tests.tools.feeds import every_beginning
from tests.tools.readings import ALLOWED, EMPTY, REFUSED, TWO, Seen, counts, fault, read_request, why_allowed

TABLE = Table(b"k", "m")
CASES = {case.name: case for case in TABLE.cases()}
HEAD = [("host", "gate.test"), ("content-length", str(len(TABLE.body)))]
GOOD = Sent("POST /v1/chat/completions HTTP/1.1", HEAD, TABLE.body)
EMPTIED = GOOD._replace(headers=[("host", "gate.test")], body=b"")
PATTERNS = [*(pattern for patterns in ALLOWED.values() for pattern in patterns), *EMPTY, *REFUSED, *TWO]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_exception_is_one_of_some_case(pattern: str) -> None:
    assert any(fnmatchcase(name, pattern) for name in CASES)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_what_is_right_strictly_is_right_by_the_rfcs(case: Case) -> None:
    assert set(counts(case, "strict")) <= set(counts(case, "rfc"))


def test_the_readings_differ_where_the_rfcs_leave_a_choice_and_agree_where_they_leave_none() -> None:
    differ = [name for name, case in CASES.items() if counts(case, "strict") != counts(case, "rfc")]
    assert len(CASES) > 450
    assert 120 < len(differ) < 230
    for name in (
        "Host: two",
        "length: two that differ",
        "length: as b'Content-Length : '",
        "coding: gzip",
        "two requests at once",
    ):
        assert name not in differ


def judged(name: str, status: int, *whole: Sent, begun: int = 0, unreadable: tuple[str, ...] = ()) -> list[bool]:
    """Whether that is right: by the RFCs, and strictly."""
    return [not fault(TABLE, CASES[name], Seen(whole, begun, unreadable), status, reading) for reading in READINGS]


def test_judgements() -> None:
    assert judged("Host: two", 400) == [True, True]
    assert judged("Host: two", 0) == [True, True]
    assert judged("Host: two", 200, GOOD) == [False, False]
    assert judged("Host: two", 200) == [False, False]
    assert judged("Host: two", 400, begun=1) == [True, False]
    assert judged("bare line feeds", 200, GOOD) == [True, False]
    assert judged("bare line feeds", 200, GOOD, GOOD) == [False, False]
    assert judged("bare line feeds", 400, unreadable=("x",)) == [False, False]
    assert judged("Host: a port", 200, GOOD) == [True, True]
    assert judged("Host: a port", 400) == [False, False]
    assert judged("Host: a port", 502, GOOD) == [False, False]
    assert judged("length: none, and a body", 200, EMPTIED) == [True, False]
    assert judged("Host: a port", 200, EMPTIED) == [False, False]
    assert judged("Host: a port", 200, GOOD._replace(line="GET /v1/chat/completions HTTP/1.1")) == [False, False]
    assert judged("Host: a port", 200, GOOD._replace(line="POST /api/pull HTTP/1.1")) == [False, False]
    assert judged("target: dots", 200, GOOD) == [True, False]
    assert judged("target: dots", 200, GOOD._replace(line="POST /v1/../v1/chat/completions HTTP/1.1")) == [True, False]
    assert judged("hop: Connection names the key", 200, GOOD._replace(headers=[*HEAD, ("authorization", "x")])) == [False, False]
    assert judged("hop: Keep-Alive", 200, GOOD._replace(headers=[*HEAD, ("keep-alive", "x")])) == [True, False]
    hidden = GOOD._replace(body=TABLE.secret)
    assert judged("two requests at once", 200, GOOD, hidden) == [True, True]
    assert judged("two requests at once", 200, GOOD) == [False, False]
    assert judged("length 0 before a coding", 200, EMPTIED) == [True, False]
    assert judged("length 0 before a coding", 200, EMPTIED, hidden) == [False, False]
    assert why_allowed(CASES["Host: two"]) == "" != why_allowed(CASES["bare line feeds"])


START = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (START + b"\r\n", b""),
        (START + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (CHUNKED.replace(b"chunked", b"CHUNKED") + b"0\r\nX-A: b\r\n\r\n", b""),
    ],
)
def test_what_reads_in_one_way(data: bytes, body: bytes) -> None:
    sent, length = every_beginning(read_request, data)
    assert (sent.line, sent.body, length) == ("POST /x HTTP/1.1", body, len(data))
    assert sent.headers[0] == ("host", "a")


@pytest.mark.parametrize(
    "data",
    [
        b"POST  /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x HTTP/2.0\r\nHost: a\r\n\r\n",
        b"POST /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\n\r\n",
        START + b"Host: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a@b\r\n\r\n",
        START + b"X-A : b\r\n\r\n",
        START + b"X-A: \0\r\n\r\n",
        START + b"X-A: b\nX-B: c\r\n\r\n",
        START + b"X-A: b\r\n c\r\n\r\n",
        START + b"Content-Length: +3\r\n\r\nabc",
        START + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        START + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        START + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        CHUNKED + b"+2\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nX A: b\r\n\r\n",
    ],
)
def test_what_does_not(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_request(data)


def test_the_gate_is_measured_beside_its_peers() -> None:
    assert [target.name for target in targets("slmgate")][:2] == ["slmgate", "nginx"]


def relayed(case: Case) -> tuple[Seen, int]:
    """What becomes of a case where its bytes go on as they are."""
    whole: list[Sent] = []
    unreadable: list[str] = []
    data = case.raw
    try:
        while (got := read_request(data)) is not None:
            whole.append(got[0])
            data = data[got[1] :]
    except ValueError as wrong:
        unreadable.append(str(wrong))
    return Seen(whole, len(data) > 0, unreadable), 200 if whole else 0


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_each_case_fails_against_who_does_the_wrong_thing(case: Case) -> None:
    """What must be refused, against a relay of bytes, or one that repairs them; what must go on, against one that refuses all."""
    stand_ins = {
        "relay": relayed(case),
        "refuses all": (Seen((), 0, ()), 400),
        "repairs all": (Seen((GOOD,), 0, ()), 200),
        "sends all twice": (Seen((GOOD, GOOD), 0, ()), 200),
    }
    failing = {name for name, (seen, status) in stand_ins.items() if fault(TABLE, case, seen, status, "strict")}
    match case.becomes:
        case "refused":
            assert failing >= {"relay", "repairs all", "sends all twice"}
        case "one" | "two":
            assert failing >= {"refuses all", "sends all twice"}
        case "either":
            assert "sends all twice" in failing
