"""Whole requests on a client's connection: what goes to an instance, however the bytes come, and what the client is told.

What was sent on is read again by h11 and by the gate itself, and must be the same request both times; where h11 takes what the
client sent, it must find in it what was sent on. An input is all bytes of one connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import h11

from fuzz.stage import Fakes, Seen
from fuzz.target import Target, ways
from slmgate.http1.answers import CONTINUE
from slmgate.http1.heads import REQUEST_FIELDS_PASSED
from slmgate.policy.specs import GateSpec
from tests.tools.ambiguous import Table
from tests.tools.stage import SECRET, request

FAKES = Fakes(GateSpec(max_header=4096, max_headers=40))
ADDED = (b"host", b"accept-encoding", b"content-type", b"x-request-id", b"content-length")
_ID = re.compile(rb"x-request-id: [^\r]*\r\n")


def told(seen: Seen, heads: bool) -> tuple[list[bytes], list[int], bool]:
    """What must not depend on how the bytes came: requests without their ids, the statuses, and whether the gate was done."""
    return [_ID.sub(b"", one) for one in seen.asked], statuses(seen.answered, heads), seen.ended


def statuses(answered: bytes, heads: bool) -> list[int]:
    """The final statuses of a run of answers, each of them whole to a strict reader; `heads`: some may be to HEAD."""
    found: list[int] = []
    while answered and answered != CONTINUE:  # one whose body has not all come yet may have been told to send it, and no more
        one = answer(answered, b"POST")
        if heads and (one is None or not b"HTTP/1.1 ".startswith(one[1][:9])):
            one = answer(answered, b"HEAD")
        assert one is not None, "an answer without an end"
        assert one[0] != 500, "a 500"
        found.append(one[0])
        answered = one[1]
    return found


def answer(answered: bytes, method: bytes) -> tuple[int, bytes] | None:
    """The final status of the first answer, and what is behind it."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(answered)
    status = 0
    while not isinstance(event := peer.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return None
        if isinstance(event, h11.Response):
            status = event.status_code
    return status, peer.trailing_data[0]


Read = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]
"""Method, target, fields and body of a request."""


def read(data: bytes) -> list[Read]:
    """The requests in `data` as h11 reads them, up to the first one that it refuses or that has no end."""
    found: list[Read] = []
    while data:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        peer.receive_data(data)
        body, head = b"", None
        try:
            while not isinstance(event := peer.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return found
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
        except h11.RemoteProtocolError:
            return found
        assert head is not None
        found.append((head.method, head.target, list(head.headers), body))
        data = peer.trailing_data[0]
    return found


def check(data: bytes) -> None:
    whole = FAKES.client_says([data])
    heads = b"HEAD " in data
    right = told(whole, heads)
    for parts in ways(data):
        came = told(FAKES.client_says(parts), heads)
        assert came == right, f"in {len(parts)} pieces: {came}, and as a whole: {right}"
    for sent in whole.asked:
        check_sent(sent)
    compare(data, whole.asked)


def check_sent(sent: bytes) -> None:
    """One request, with one reading, of nothing but what may pass."""
    again = read(sent)
    assert len(again) == 1, "what was sent on is not one request"
    _, _, fields, body = again[0]
    names = [name for name, _ in fields]
    assert len(set(names)) == len(names), "a field twice"
    assert set(names) <= {*REQUEST_FIELDS_PASSED, *ADDED}, f"fields that nobody let pass: {names}"
    assert dict(fields)[b"content-length"] == b"%d" % len(body)
    assert SECRET not in sent.partition(b"\r\n\r\n")[0], "the client's key was sent on"
    keyed = sent.replace(b"\r\n", b"\r\nauthorization: Bearer " + SECRET + b"\r\n", 1)
    second = FAKES.client_says([keyed])
    assert [_ID.sub(b"", one) for one in second.asked] == [_ID.sub(b"", sent)], "sent through again, it is another"


def compare(data: bytes, asked: tuple[bytes, ...]) -> None:
    """Each request that was sent on is one of those that another reader finds, in their order."""
    found = read(data)
    candidates = iter(found)
    for sent in asked:
        (method, target, _, body), *_ = read(sent) or [(b"", b"", [], b"")]
        model_read = json.loads(body)
        for other_method, other_target, _, other_body in candidates:
            path = other_target.partition(b"?")[0]
            path = path[path.index(b"/", 7) :] if path.lower().startswith(b"http://") else path
            if (other_method, path) == (method, target) and same(other_body, model_read):
                break
        else:
            # h11 takes less than HTTP allows in places, and then stops reading: what it has read must still fit
            assert len(found) < len(asked) + data.count(b"HTTP/1."), "a request was sent on that nobody sent"
            return


def same(body: bytes, fields: dict[str, object]) -> bool:
    try:
        other = json.loads(body)
    except ValueError:
        return False
    return isinstance(other, dict) and all(other.get(name) == value for name, value in fields.items() if name != "stream_options")


def seeds() -> Iterable[bytes]:
    table = Table(SECRET, "m")
    for case in table.cases():
        if len(case.raw) <= 3000:
            yield case.raw
    yield request({"model": "m"}) * 3
    yield request(line=b"GET /v1/models HTTP/1.1") + request({"model": "m"}, b"Connection: close\r\n")
    yield request({"model": "m"}, b"Expect: 100-continue\r\n") + request({"model": "x"}) + request({"model": "m"}, key=b"x")


TARGET = Target(check, seeds, 3000)
