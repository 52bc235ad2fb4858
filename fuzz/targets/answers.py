"""An instance's answer: whatever it says, the client gets one well-formed answer, or a broken one that looks broken.

The first byte of an input says what was asked, the rest is all that the instance says before its connection ends. How the bytes
come may change the gate's own choice of framing, never what the client reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import h11

from fuzz.stage import Fakes, Seen
from fuzz.target import Target, ways
from slmgate.http1.heads import ANSWER_FIELDS_PASSED
from tests.tools import transcripts
from tests.tools.stage import reply, request

FAKES = Fakes()
_ID = re.compile(rb'"request_id":"[^"]*"')
ASKED = (
    request({"model": "m"}),
    request({"model": "m", "stream": True}),
    request({"model": "m", "max_tokens": 5, "messages": []}, line=b"POST /v1/messages HTTP/1.1"),
    request({"model": "m", "prompt": ""}, line=b"POST /api/generate HTTP/1.1"),
    request({"model": "m", "prompt": "", "stream": True}, line=b"POST /completion HTTP/1.1"),
    request({"model": "m"}, line=b"POST /v1/chat/completions HTTP/1.0"),
)
OWN = (b"date", b"content-length", b"transfer-encoding", b"x-request-id", b"server-timing", b"connection", b"x-accel-buffering")


ENDS = (b"[DONE]", b"message_stop", b'"done":', b'"stop":')


class Got(NamedTuple):
    """An answer as a strict client reads it. `whole`: it has its end."""

    status: int
    content_type: bytes
    body: bytes
    whole: bool

    @property
    def broken(self) -> bool:
        return not self.whole or self.status == 502


def got(seen: Seen) -> Got:
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(seen.answered)
    if seen.ended:
        peer.receive_data(b"")
    head, body, whole = None, b"", False
    try:
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Response):
                assert head is None
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                whole = True
                break
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError as broken:
        cut = "without sending complete message body" in str(broken) or "incomplete chunked" in str(broken)
        if not seen.ended or not cut:
            raise AssertionError("no answer that a client can read") from broken
    assert head is not None, "no answer at all"
    assert not whole or not peer.trailing_data[0], "something behind the answer"
    names = [name for name, _ in head.headers]
    assert len(set(names)) == len(names), f"a field twice: {names}"
    assert set(names) <= {*ANSWER_FIELDS_PASSED, *OWN}, f"a field that may not pass: {names}"
    assert head.status_code != 500 or b"gate" not in body, "a fault of the gate's own"
    return Got(head.status_code, dict(head.headers).get(b"content-type", b""), body, whole)


def check(data: bytes) -> None:
    if not data:
        return
    asked, said = ASKED[data[0] % len(ASKED)], data[1:]
    right = got(FAKES.instance_says(asked, [said]))
    for parts in ways(said):
        came = got(FAKES.instance_says(asked, parts))
        assert alike(came, right), f"in {len(parts)} pieces: {came}, and as a whole: {right}"


def alike(one: Got, other: Got) -> bool:
    """The same answer; or both broken, which shows as an error or as a missing end, by whether the answer had begun to go out."""
    if one.broken or other.broken:
        return one.broken and other.broken
    short, long = sorted((_ID.sub(b"", one.body), _ID.sub(b"", other.body)), key=len)
    rest_may_lack = any(mark in short for mark in ENDS)  # what an instance sends behind a stream's own end is nobody's
    return one[:2] == other[:2] and (short == long or (rest_may_lack and long.startswith(short)))


def seeds() -> Iterable[bytes]:
    for at in range(len(ASKED)):
        for path in sorted(transcripts.FOLDER.glob("*.http"))[at :: len(ASKED)]:
            data = path.read_bytes()
            while data.startswith(b"#"):
                data = data.partition(b"\n")[2]
            yield bytes((at,)) + data.split(b"\n", 2)[2][:3000]
        kind = bytes((at,))
        yield kind + reply(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}')
        yield kind + b"\r\n" + reply(b"{}")
        yield (
            kind
            + b"HTTP/1.1 100 Continue\r\n\r\n"
            + reply(b"{}", fields=b"set-cookie: a=b\r\nserver: x\r\nlocation: http://a/\r\n")
        )
        events = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"
        yield kind + events + b"5\r\ndata:\r\n3\r\n a\n\r\n1\r\n\n\r\n0\r\n\r\n"
        yield kind + b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end"
        yield kind + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"
        yield kind + b"HTTP/1.1 204 No\r\n\r\n" + b"HTTP/1.0 404 No\r\n\r\n{}" + b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"
        yield kind + b"HTTP/1.1 200 OK\r\nx: a\x00b\r\nretry-after: 1\n\r\n\r\n"


TARGET = Target(check, seeds, 3000)
