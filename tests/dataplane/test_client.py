"""The client's connection on fakes: heads and bodies cut anywhere, pipelining, early refusals, limits at their bounds, time.

What an exchange does with a request is `test_exchange.py`'s; here it is what reaches it, and what happens to the line after.
Length: one source file, one test file; the tables of inputs cut anywhere and the transcripts take the room.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slmgate.dataplane.client import LINGER_SECONDS, MAX_BACKLOG, SKIPPED
from slmgate.policy.specs import GateSpec
from slmgate.terms import Refuse
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeTransport
from tests.tools.road import Road
from tests.tools.shown import shown
from tests.tools.stage import SECRET, Stage, reply, request

CHAT = request({"model": "m"})
JSON = b'{"model": "m"}'
WRONG = request({"model": "m"}, key=b"wrong")
STRANGER = "401 !invalid_api_key www-authenticate: Bearer"


def chunked(pieces: list[bytes], key: bytes = SECRET, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head % key + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


class Line:
    """One client whose requests an instance answers at once with `{}`; what it sees, as a transcript shows it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seen: list[str] = []
        self.asked: list[bytes] = []  # bodies that reached the instance
        stage.loop.told = self.told
        self.end = stage.connect()

    def told(self, who: str, what: str, data: bytes) -> None:
        if who == "client":
            self.seen.append(shown(data) if what == "write" else what)
        elif what == "write":
            self.asked.append(data.partition(b"\r\n\r\n")[2])
            self.stage.loop.call_soon(self.stage.loop.opened["a"][-1].feed, reply(b"{}"))

    def feed(self, *pieces: bytes) -> list[str]:
        for piece in pieces:
            if not self.end.closing:
                self.end.feed(piece)
            self.stage.loop.settle()
        return self.seen


def every_way(open_line: Callable[[], Line], data: bytes, stride: int = 1) -> tuple[list[str], list[bytes]]:
    """Feed `data` whole, byte by byte, and in two at every `stride`-th place: all must come to the same, which is returned."""

    def fed(*pieces: bytes) -> tuple[list[str], list[bytes]]:
        line = open_line()
        return line.feed(*pieces), line.asked

    whole = fed(data)
    assert fed(*(bytes((byte,)) for byte in data)) == whole, "byte by byte differs from whole"
    for place in range(1, len(data), stride):
        assert fed(data[:place], data[place:]) == whole, f"cut at {place} differs from whole"
    return whole


@pytest.fixture
def open_line(open_road: OpenRoad) -> Callable[..., Line]:
    """Lines of one stage, or of a stage of its own where a gate is given."""
    stages: list[Stage] = []

    def opened(gate: GateSpec | None = None) -> Line:
        if not stages or gate is not None:
            stages.append(open_road(gate=gate).stage)
        return Line(stages[-1])

    return opened


# --- requests cut anywhere

CUT = {
    "plain": (CHAT, ["200 | {}"], [JSON]),
    "two": (CHAT + CHAT, ["200 | {}"] * 2, [JSON, JSON]),
    "empty lines before": (b"\r\n\r\n" + CHAT + b"\r\n" + CHAT, ["200 | {}"] * 2, [JSON, JSON]),
    "chunked": (chunked([b'{"model', b'": "m"}']) + CHAT, ["200 | {}"] * 2, [JSON, JSON]),
    "chunked with trailers": (chunked([JSON], end=b"0\r\nx: y\r\n\r\n") + CHAT, ["200 | {}"] * 2, [JSON, JSON]),
    "stranger": (WRONG + CHAT, [STRANGER, "200 | {}"], [JSON]),
    "stranger, chunked": (chunked([JSON], b"wrong"), [f"{STRANGER} connection: close", "half-closed"], []),
    "bad chunk": (chunked([JSON], end=b"zz\r\n"), ["400 !invalid_request connection: close", "half-closed"], []),
    "no body": (request(line=b"GET /v1/nothing HTTP/1.1") + CHAT, ["404 !not_found", "200 | {}"], [JSON]),
    "close": (request({"model": "m"}, b"Connection: close\r\n") + CHAT, ["200 connection: close | {}", "closed"], [JSON]),
    "HTTP/1.0": (
        request({"model": "m"}, line=b"POST /v1/chat/completions HTTP/1.0"),
        ["200 connection: close | {}", "closed"],
        [JSON],
    ),
    "upgrade": (request({"model": "m"}, b"Connection: upgrade\r\nUpgrade: h2c\r\n") + CHAT, ["200 | {}"] * 2, [JSON, JSON]),
    # llhttp expects no body here: what it is fed of one must not be the beginning of the next head to it
    "CONNECT with a body": (
        b"CONNECT /v1/nothing HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\n{TRACE /v1/nothing HTTP/1.1\r\nHost: g\r\n\r\n",
        ["404 !not_found", "400 !invalid_request connection: close", "half-closed"],
        [],
    ),
    "blanks behind values": (request({"model": "m"}, b"X: y  \r\nX-Request-Id: \t z \t \r\n"), ["200 | {}"], [JSON]),
}


@pytest.mark.parametrize("name", CUT)
def test_requests_cut_anywhere(open_line: Callable[[], Line], name: str) -> None:
    data, seen, asked = CUT[name]
    assert every_way(open_line, data, stride=3) == (seen, asked)


GARBAGE = {
    "nothing like it": (b"\x00\x01\x02\r\n\r\n", "400 !invalid_request"),
    "bare line feed": (b"GET / HTTP/1.1\nHost: g\n\n", "400 !invalid_request"),
    "version 2": (b"GET / HTTP/2.0\r\nHost: g\r\n\r\n", "505 !version_not_supported"),
    "version 1.2": (b"GET / HTTP/1.2\r\nHost: g\r\n\r\n", "400 !invalid_request"),
    "no host": (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "400 !invalid_request"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 !invalid_request"),
    "folded": (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "400 !invalid_request"),
    "two framings": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 !invalid_request",
    ),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabc", "400 !invalid_request"),
    "sign": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", "400 !invalid_request"),
    "other coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "400 !invalid_request"),
    "HTTP/0.9": (b"GET /\r\n\r\n", "400 !invalid_request"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_behind_a_good_request(open_line: Callable[[], Line], name: str) -> None:
    """The good one is answered first, whatever is glued behind it; then the garbage, and the line is closed."""
    data, answer = GARBAGE[name]
    line = open_line()
    assert line.feed(CHAT + data + CHAT) == ["200 | {}", f"{answer} connection: close", "closed"] or line.seen == [
        "200 | {}",
        f"{answer} connection: close",
        "half-closed",
    ]
    assert line.asked == [JSON]


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_cut_anywhere(open_line: Callable[[], Line], name: str) -> None:
    data, answer = GARBAGE[name]
    seen, asked = every_way(open_line, data, stride=2)
    assert seen == [f"{answer} connection: close", "half-closed"]
    assert asked == []


# --- pipelining and back-pressure


def test_pipelined_requests_are_answered_in_order(open_line: Callable[[], Line]) -> None:
    line = open_line()
    numbered = [request({"model": "m", "n": number}) for number in range(20)]
    assert line.feed(b"".join(numbered)) == ["200 | {}"] * 20
    assert [body[-3:-1].strip() for body in line.asked] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("past", [0, 1])
def test_a_client_that_sends_on_while_it_is_served(road: Road, past: int) -> None:
    """Up to the bound it is taken in; one byte past it, and reading pauses until its answer."""
    client = road.stage.connect()
    client.feed(CHAT)
    road.stage.loop.settle()
    client.feed(b"x" * (MAX_BACKLOG + past))
    assert client.reading is not bool(past)
    road.stage.loop.opened["a"][0].feed(reply(b"{}"))
    road.stage.loop.settle()
    assert client.reading or client.closing


def test_reading_goes_on_after_the_answer(road: Road) -> None:
    client = road.stage.connect()
    client.feed(CHAT)
    road.stage.loop.settle()
    many = MAX_BACKLOG // len(CHAT) + 1
    client.feed(CHAT * many)
    assert not client.reading
    for _ in range(many + 1):
        road.stage.loop.opened["a"][0].feed(reply(b"{}"))
        road.stage.loop.settle()
    assert client.reading
    assert len(road.stage.receipts) == many + 1


# --- bodies and early refusals


@pytest.mark.parametrize(("size", "kept"), [(1, True), (SKIPPED, True), (SKIPPED + 1, False)])
def test_an_early_refusal_keeps_the_line_for_a_small_body(open_line: Callable[[], Line], size: int, kept: bool) -> None:
    line = open_line()
    head, _, _ = request(b"x" * size, key=b"wrong").partition(b"\r\n\r\n")
    line.feed(head + b"\r\n\r\n")
    if not kept:
        assert line.seen == [f"{STRANGER} connection: close", "half-closed"]
        line.feed(b"x" * size + CHAT)
        assert line.asked == []
        return
    assert line.seen == [STRANGER]
    line.feed(b"x" * (size - 1), b"x" + CHAT)
    assert line.seen == [STRANGER, "200 | {}"]


@pytest.mark.parametrize("framed", ["sized", "sized later", "chunked", "expecting"])
@pytest.mark.parametrize(("bound", "past"), [(14, 0), (14, 1), (0, 1), (1, 1)])
def test_the_bound_of_a_body(open_line: Callable[..., Line], framed: str, bound: int, past: int) -> None:
    line = open_line(gate=GateSpec(max_body=bound))
    body = JSON + b" " * past if bound == 14 else b"x" * (bound + past)
    whole = request(body, b"Expect: 100-continue\r\n" if framed == "expecting" else b"")
    head, _, rest = whole.partition(b"\r\n\r\n")
    if framed == "chunked":
        line.feed(chunked([body]))
    elif framed == "sized":
        line.feed(whole)
    else:
        line.feed(head + b"\r\n\r\n")
        line.feed(rest)
    if past:
        assert line.seen[0].startswith("413 !request_too_large")
        assert line.asked == []
    else:
        assert line.seen[-1] == "200 | {}"


def test_no_body_at_all_is_within_a_bound_of_nothing(open_line: Callable[..., Line]) -> None:
    assert open_line(gate=GateSpec(max_body=0)).feed(request(line=b"GET /v1/nothing HTTP/1.1")) == ["404 !not_found"]


# --- Expect: 100-continue


def test_continue_is_said_when_the_body_is_wanted(open_line: Callable[[], Line]) -> None:
    line = open_line()
    head, _, body = request({"model": "m"}, b"Expect: 100-Continue\r\n").partition(b"\r\n\r\n")
    assert line.feed(head + b"\r\n\r\n") == ["100"]
    assert line.feed(body) == ["100", "200 | {}"]


def test_continue_is_not_said_when_the_body_is_here_already(open_line: Callable[[], Line]) -> None:
    assert open_line().feed(request({"model": "m"}, b"Expect: 100-continue\r\n")) == ["200 | {}"]


def test_continue_is_not_said_to_strangers_nor_to_http_1_0(open_line: Callable[[], Line]) -> None:
    line = open_line()
    head, _, _ = request({"model": "m"}, b"Expect: 100-continue\r\n", key=b"wrong").partition(b"\r\n\r\n")
    # whether the body will come is not known now, so the line cannot be kept
    assert line.feed(head + b"\r\n\r\n") == [f"{STRANGER} connection: close", "half-closed"]
    line = open_line()
    old = request({"model": "m"}, b"Expect: 100-continue\r\n", b"POST /v1/chat/completions HTTP/1.0")
    head, _, body = old.partition(b"\r\n\r\n")
    assert line.feed(head + b"\r\n\r\n") == []
    assert line.feed(body) == ["200 connection: close | {}", "closed"]


# --- bounds of a head


@pytest.mark.parametrize("bound", [300, 1000])
@pytest.mark.parametrize("bytewise", [False, True])
def test_the_bound_of_a_head(open_line: Callable[..., Line], bound: int, bytewise: bool) -> None:
    for past in (-1, 0, 1):
        line = open_line(gate=GateSpec(max_header=bound))
        head = b"GET /v1/nothing HTTP/1.1\r\nHost: g\r\nX: "
        data = head + b"y" * (bound - len(head) + past) + b"\r\n\r\n"
        line.feed(*([bytes((byte,)) for byte in data] if bytewise else [data]))
        assert line.seen[0] == ("431 !headers_too_large connection: close" if past > 0 else "404 !not_found"), past


@pytest.mark.parametrize("bytewise", [False, True])
def test_a_target_without_end(open_line: Callable[..., Line], bytewise: bool) -> None:
    line = open_line(gate=GateSpec(max_header=300))
    data = b"GET /%b HTTP/1.1\r\nHost: g\r\n\r\n" % (b"x" * 300)
    line.feed(*([bytes((byte,)) for byte in data] if bytewise else [data]))
    assert line.seen[0] == "414 !uri_too_long connection: close"


@pytest.mark.parametrize("bound", [1, 5, 100])
def test_the_number_of_header_fields(open_line: Callable[..., Line], bound: int) -> None:
    for past in (0, 1):
        line = open_line(gate=GateSpec(max_headers=bound))
        fields = b"".join(b"X%d: y\r\n" % number for number in range(bound - 1 + past))
        line.feed(b"GET /v1/nothing HTTP/1.1\r\nHost: g\r\n%b\r\n" % fields)
        assert line.seen[0] == ("431 !headers_too_large connection: close" if past else "404 !not_found")


def test_no_header_fields_allowed(open_line: Callable[..., Line]) -> None:
    assert open_line(gate=GateSpec(max_headers=0)).feed(b"GET /v1/nothing HTTP/1.0\r\n\r\n")[0].startswith("404")
    assert open_line(gate=GateSpec(max_headers=0)).feed(b"GET / HTTP/1.0\r\nA: b\r\n\r\n")[0].startswith("431")


# --- time


def test_a_connection_that_says_nothing(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(header_timeout=5.0)).plays(r"""
        >> client  connects
        >> clock   4.75
        >> clock   0.5
        << client  closed
    """)


def test_a_head_that_trickles(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(header_timeout=5.0)).plays(r"""
        >> client  POST / HTT
        >> clock   4
        >> client  P/1.1\r\nHost: g\r\n
        >> clock   0.75
        >> clock   0.5
        == 408     refused !request_timeout
        << client  408 !request_timeout connection: close
        << client  half-closed
        >> clock   2.5
        << client  aborted
    """)


def test_empty_lines_do_not_keep_a_connection(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(header_timeout=5.0)).plays(r"""
        >> client  \r\n
        >> clock   4
        >> client  \r\n
        >> clock   0.75
        >> clock   0.5
        << client  closed
    """)


def test_nor_do_empty_lines_in_halves(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(header_timeout=5.0)).plays(r"""
        >> client  \r
        >> clock   2
        >> client  \n
        >> client  \r
        >> clock   2
        >> client  \n\r\n
        >> clock   0.75
        >> clock   0.5
        << client  closed
    """)


def test_a_body_that_trickles_may_go_on_and_a_silent_one_not(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(body_timeout=5.0)).plays(
        r"""
        >> client  begins
        >> clock   4
        >> client  {"mod
        >> clock   4.75
        >> clock   0.5
        == 408     refused !request_timeout
        << client  408 !request_timeout connection: close
        << client  half-closed
        """,
        begins=CHAT[:-14],
    )


def test_the_rest_of_a_refused_body_does_not_come(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(body_timeout=5.0)).plays(
        rf"""
        >> client  begins
        == 401     refused !invalid_api_key
        << client  {STRANGER}
        >> clock   5.25
        << client  closed
        """,
        begins=WRONG[:-14],
    )


def test_an_idle_connection_is_closed(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(keep_alive=5.0)).plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> clock   4.75
        >> clock   0.5
        << client  closed
    """)


def test_a_closing_connection_that_cannot_flush_is_aborted(open_road: OpenRoad) -> None:
    road = open_road(gate=GateSpec(keep_alive=5.0, send_timeout=3.0))
    client = road.end_of("client")
    client.stuck = True
    road.stage.loop.turn(11)
    assert client.closing and not client.lost
    road.stage.loop.turn(4)
    assert client.lost


# --- lingering close


def test_lingering(road: Road) -> None:
    """After the last answer what still comes is read and thrown away, so that no reset destroys the answer."""
    assert LINGER_SECONDS == 2.0
    road.plays(r"""
        >> client  \x00\r\n\r\n
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  half-closed
        >> client  more of it
        >> clock   1.75
        >> client  still more
        >> clock   0.5
        << client  aborted
    """)


def test_no_half_close_no_lingering(road: Road) -> None:
    client = road.end_of("client")
    client.one_way = True
    road.plays(r"""
        >> client  \x00\r\n\r\n
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  closed
    """)


def test_the_client_ends_within_a_head(road: Road) -> None:
    road.plays(r"""
        >> client  GET /
        >> client  ends
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  half-closed
        << client  closed
        >> client  connects
        >> client  ends
        << client  closed
    """)


# --- the gate stops


def test_a_request_under_way_is_served_while_the_gate_drains(road: Road) -> None:
    road.plays(
        r"""
        >> client  GET /v1/nothing HTTP/1.1\r\n
        >> client2 begins
        >> gate    drains
        >> client  Host: g\r\n\r\n
        == 404     refused !not_found
        << client  404 !not_found connection: close
        << client  closed
        >> client2 {"model": "m"}
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client2 200 connection: close | {}
        << client2 closed
        """,
        begins=CHAT[:-14],
    )


def test_a_body_that_is_still_on_its_way_at_the_drain_limit(open_road: OpenRoad) -> None:
    open_road(gate=GateSpec(drain_timeout=5.0)).plays(
        r"""
        >> client  begins
        >> gate    drains
        >> clock   5.25
        == 503     gate_stopped !overloaded
        << client  503 !overloaded retry-after: 1 connection: close
        << client  half-closed
        << client  closed
        """,
        begins=CHAT[:-14],
    )


# --- faults of our own


class FaultyError(Exception):
    """Stands for whatever may go wrong in our own code."""


def faulty(*_: object) -> Refuse:
    raise FaultyError


@pytest.mark.parametrize("where", ["slmgate.dataplane.client.request_framing", "slmgate.dataplane.client.begin"])
def test_a_fault_before_there_is_an_exchange(
    road: Road, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    client = road.end_of("client")
    with monkeypatch.context() as patch:
        patch.setattr(where, faulty)
        client.feed(CHAT)
    road.stage.loop.settle()
    assert client.lost
    assert "FaultyError" in capsys.readouterr().err
    assert road.stage.receipts == []


def test_a_fault_in_the_body(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chunked([JSON])
    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.client.ChunkedReader.feed", faulty)
        road.plays(
            r"""
            >> client  begins
            == 500     gate_failed !internal_error
            << client  500 !internal_error retry-after: 1 connection: close
            << client  half-closed
            """,
            begins=whole[: whole.index(b"\r\n\r\n") + 6],
        )


# --- states


def test_the_states_as_repr_tells_them(road: Road) -> None:
    stage = road.stage
    end = stage.connect()
    client = stage.clients[-1]
    seen: list[str] = []

    def see(*pieces: bytes) -> None:
        for piece in pieces:
            end.feed(piece)
        seen.append(repr(client))

    see()
    see(CHAT[:-1])
    see(CHAT[-1:])
    stage.loop.settle()
    stage.loop.opened["a"][0].feed(reply(b"{}"))
    see(WRONG[:-1])
    see(b"x")
    see(b"\x00\r\n\r\n")
    end.lose()
    seen.append(repr(client))
    names = ["head", "body", "busy", "skip", "head", "linger", "closed"]
    assert seen == [f"<ClientConnection 192.0.2.7 {name}>" for name in names]


def test_an_address_that_is_none(road: Road) -> None:
    class OfUnix(FakeTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return ""

    from slmgate.dataplane.client import ClientConnection

    client = ClientConnection(road.stage.worker)
    client.connection_made(OfUnix(road.stage.loop, client, lambda what, data: None))
    assert client.address == ""
    client.connection_lost(None)


@pytest.mark.parametrize("way", ["ends", "drains", "stops"])
def test_an_answer_goes_out_before_the_line_is_closed_in_the_same_turn(road: Road, way: str) -> None:
    """Writes wait for the end of the loop's turn; whatever closes the connection before does not overtake them."""
    stage = road.stage
    seen: list[str] = []
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    stage.loop.told = lambda who, what, data: seen.append(shown(data) if what == "write" else what)
    stage.loop.opened["a"][-1].feed(reply(b"{}"))
    assert seen == []
    if way == "ends":
        client.end()
    elif way == "drains":
        stage.clients[0].drain()
    else:
        stage.clients[0].stop()
    assert seen == ["200 | {}", "closed"]
