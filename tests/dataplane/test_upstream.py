"""An instance's connection on fakes: answers cut anywhere, interim ones, garbage, and bytes that nobody asked for.

What becomes of an answer is `test_exchange.py`'s; here it is what is taken for one, and whether the connection serves again.
"""

from __future__ import annotations

import pytest

from slmgate.dataplane.upstream import MAX_HEAD, UpstreamConnection
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeTransport
from tests.tools.road import Road
from tests.tools.stage import Stage, instance, model, reply, request

CHAT = request({"model": "m"})


def answered(stage: Stage, *pieces: bytes) -> tuple[bytes, int]:
    """Feed an answer in these pieces; the body that the client got (chunks undone), and how many connections there were."""
    got: list[bytes] = []
    stage.loop.told = lambda who, what, data: got.append(data) if who == "client" and what == "write" else None
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    connection = stage.loop.opened["a"][-1]
    for piece in pieces:
        if not connection.closing:
            connection.feed(piece)
    stage.loop.settle()
    client.lose()
    stage.loop.settle()
    head, _, body = b"".join(got).partition(b"\r\n\r\n")
    if b"chunked" in head:
        whole, rest = b"", body
        while rest and not rest.startswith(b"0\r\n"):
            size, _, rest = rest.partition(b"\r\n")
            whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        body = whole
    return head[9:12] + b" " + body, len(stage.loop.opened["a"])


CUT = {
    "sized": (reply(b'{"a":1}'), b'200 {"a":1}', 1),
    "empty": (reply(b""), b"200 ", 1),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"204 ", 1),
    "no content, chunked": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b"204 ", 1),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"200 abc", 1),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"x"), b"200 x", 1),
    "after 102 and 103": (
        b"HTTP/1.1 102 P\r\nA: b\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply(b"x"),
        b"200 x",
        1,
    ),
    "closing": (reply(b"x", fields=b"Connection: close\r\n"), b"200 x", 2),
    "HTTP/1.0": (reply(b"x").replace(b"HTTP/1.1", b"HTTP/1.0"), b"200 x", 2),
}


@pytest.mark.parametrize("name", CUT)
def test_answers_cut_anywhere(road: Road, name: str) -> None:
    data, seen, _ = CUT[name]
    stage = road.stage
    assert answered(stage, data)[0] == seen
    assert answered(stage, *(bytes((byte,)) for byte in data))[0] == seen
    for place in range(1, len(data), 3):
        assert answered(stage, data[:place], data[place:])[0] == seen, f"cut at {place}"
    assert {one["ended"] for one in stage.receipts} == {"complete"}


@pytest.mark.parametrize("name", CUT)
def test_who_serves_again(road: Road, name: str) -> None:
    data, _, connections = CUT[name]
    answered(road.stage, data)
    assert answered(road.stage, data)[1] == connections


STRAY = {
    "garbage": b"\x00\x01garbage",
    "a second answer": reply(b"stolen"),
    "a second head": b"HTTP/1.1 200 OK\r\n",
    "an empty line": b"\r\n",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("how", ["sized", "chunked", "empty"])
@pytest.mark.parametrize("name", STRAY)
def test_stray_bytes_behind_an_answer_reach_nobody(road: Road, name: str, how: str) -> None:
    """In one piece with it: the answer is whole, what is behind it is thrown away, and the connection serves no more."""
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    data = {"sized": reply(b"ab"), "chunked": chunked, "empty": reply(b"")}[how]
    seen, _ = answered(road.stage, data + STRAY[name])
    assert seen == (b"200 " if how == "empty" else b"200 ab")
    again, connections = answered(road.stage, reply(b"mine"))
    assert again == b"200 mine"
    assert connections == 2


@pytest.mark.parametrize("name", STRAY)
def test_stray_bytes_on_an_idle_connection_cost_it(road: Road, name: str) -> None:
    answered(road.stage, reply(b"ab"))
    road.stage.loop.opened["a"][0].feed(STRAY[name])
    assert answered(road.stage, reply(b"mine")) == (b"200 mine", 2)


BROKEN = [
    b"\x00\x01\x02",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",  # these two: found by fuzzing
    b"\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_HEAD // 6 + 1),
    b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 25 + 1),
]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_answer(road: Road, data: bytes) -> None:
    assert answered(road.stage, data, b"HTTP/1.1 100 Continue\r\n\r\n")[0].startswith(b"502 ")
    assert road.stage.loop.opened["a"][0].lost, "a connection that spoke garbage is never used again"
    assert [(one["status"], one["ended"]) for one in road.stage.receipts] == [(502, "upstream_error")]


@pytest.mark.parametrize("past", [0, 1])
def test_the_bound_of_a_head_that_does_not_end(road: Road, past: int) -> None:
    start = b"HTTP/1.1 200 OK\r\nx: "
    stage = road.stage
    stage.connect().feed(CHAT)
    stage.loop.settle()
    stage.loop.opened["a"][0].feed(start + b"y" * (MAX_HEAD - len(start) + past))
    assert stage.loop.opened["a"][0].closing is bool(past)


def test_a_kept_connection_that_was_closed_meanwhile(road: Road) -> None:
    """The race of RFC 9112 section 9.3.1: asked again on a new connection, which is no second attempt."""
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       resets
        << a2      <chat>
        >> a2      200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)
    assert [one["attempts"] for one in road.stage.receipts] == [1, 2]


def test_a_kept_connection_that_was_closed_while_idle(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> a       ends
        << a       closed
        >> client  chat
        == intent  a
        << a2      <chat>
    """)


def test_an_instance_that_closes_everything_is_not_asked_for_ever(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       leaves
        << a2      <chat>
        >> a2      leaves
        == 502     upstream_error a !upstream_error 4+0~
        << client  502 !upstream_error
    """)


def test_a_broken_off_body_until_close(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n\r\nabc
        << client  200 content-type: audio/mpeg transfer-encoding: chunked | 3\r\nabc\r\n
        >> a       resets
        == 200     upstream_error a !upstream_error 4+1~
        << client  closed
    """)


def test_the_instances_own_credential_and_model(open_road: OpenRoad) -> None:
    road = open_road(model(instance("a", bearer="s3cret", upstream_model="org/M")))
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       POST /v1/chat/completions authorization: Bearer s3cret | {"model":"org/M"}
        >> a       200 {}
        == 200     complete a 4+1~
        << client  200 | {}
    """)


@pytest.mark.parametrize("again", [False, True], ids=["first", "same head again"])
@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_an_instance_that_answers_what_it_has_not_read(road: Road, again: bool, read: bool) -> None:
    """The next request would stand behind the rest of this one: it goes over another connection, unless all went out in time."""
    stage = road.stage
    if again:
        answered(stage, reply(b'{"a":1}'))
    client = stage.connect()
    client.feed(CHAT)
    stage.loop.settle()
    transport = stage.loop.opened["a"][0]
    transport.protocol.pause_writing()
    if read:
        transport.protocol.resume_writing()
    transport.feed(reply(b'{"b":2}'))
    stage.loop.settle()
    assert stage.receipts[-1]["ended"] == "complete"
    assert answered(stage, reply(b'{"c":3}')) == (b'200 {"c":3}', 1 if read else 2)
    assert transport.lost is not read


@pytest.mark.parametrize(("inside", "high"), [({}, 0), ({"ssl_object": object()}, None)], ids=["plain", "TLS"])
def test_what_stays_behind_is_asked_for_where_it_is_told(road: Road, inside: dict[str, object], high: int | None) -> None:
    """Below the bounds that TLS sets itself, uvloop may say that something stays behind where nothing does."""
    loop, pool = road.stage.loop, road.stage.worker.pools.models["m"]

    class Transport(FakeTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return inside.get(name, default)

    connection = UpstreamConnection(pool.instances[0])
    transport = Transport(loop, connection, lambda *_: None)
    connection.connection_made(transport)
    assert transport.high == high


def test_the_states_as_repr_tells_them(road: Road) -> None:
    stage = road.stage
    stage.connect().feed(CHAT)
    stage.loop.settle()
    transport = stage.loop.opened["a"][0]
    connection = transport.protocol
    assert isinstance(connection, UpstreamConnection)
    seen = [repr(connection)]
    transport.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
    seen.append(repr(connection))
    transport.feed(b"x")
    seen.append(repr(connection))
    connection.retire()
    seen.append(repr(connection))
    assert seen == [f"<UpstreamConnection a {name}>" for name in ("asked", "answering", "idle", "over")]
    connection.retire()
    connection.pause()
    connection.resume()
    assert repr(UpstreamConnection(connection.instance)) == "<UpstreamConnection a over>"


@pytest.mark.parametrize("repeated", [True, False])
def test_an_answer_before_the_request_went_out_is_nobodys(open_road: OpenRoad, repeated: bool) -> None:
    """A second answer in the turn in which its connection passes to who stands in line: that one is asked elsewhere."""
    road = open_road(model(instance("a", max_in_flight=1)))
    stage = road.stage
    got: dict[str, list[bytes]] = {"one": [], "two": []}
    stage.loop.told = lambda who, what, data: got.setdefault(who, []).append(data) if what == "write" else None
    first, second = stage.connect("one"), stage.connect("two")
    for _ in range(2 if repeated else 0):
        first.feed(CHAT)
        stage.loop.settle()
        stage.loop.opened["a"][0].feed(reply(b"{}"))
        stage.loop.settle()
    got["one"].clear()
    first.feed(CHAT)
    stage.loop.settle()
    second.feed(CHAT)
    stage.loop.settle()
    connection = stage.loop.opened["a"][0]
    connection.feed(reply(b'"mine"'))
    connection.feed(reply(b'"stolen"'))
    stage.loop.settle()
    stage.loop.opened["a"][1].feed(reply(b'"yours"'))
    stage.loop.settle()
    assert [b"".join(got[who]).rpartition(b"\r\n\r\n")[2] for who in ("one", "two")] == [b'"mine"', b'"yours"']
    assert connection.lost
