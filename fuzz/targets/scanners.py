"""The scanners of streamed answers, of every dialect: what they say and send on, against a reading event by event.

The slow reading looks for the ends of events one byte at a time, and asks a scanner of its own about each event alone. It does
not know what an event says.
"""

from __future__ import annotations

from collections.abc import Iterable

from fuzz.target import Target, ways
from slmgate.dialects import TABLE
from slmgate.dialects.contract import Scanner
from slmgate.dialects.ndjson import NdjsonScanner
from slmgate.dialects.sse import SseScanner
from slmgate.terms import Ask
from tests.tools import transcripts
from tests.tools.feeds import Fed, feed

ROUTES = tuple(route for route in TABLE.values() if route.kind != "list")
ASKS = tuple(Ask("m", stream=True, wants_usage=wants) for wants in (False, True))
KINDS = len(ROUTES) * len(ASKS)


def made(kind: int) -> Scanner:
    route = ROUTES[kind % len(ROUTES)]
    return route.dialect.scanner(route.endpoint, ASKS[kind // len(ROUTES) % len(ASKS)])


def events(data: bytes) -> list[bytes]:
    """The events of a stream with their blank lines; the last may have no end."""
    found, at, start, blank = [], 0, 0, True
    while at < len(data):
        size = 2 if data[at : at + 2] == b"\r\n" else 1
        if data[at : at + size] in (b"\r\n", b"\n", b"\r"):
            at += size
            if blank:
                found.append(data[start:at])
                start = at
            blank = True
        else:
            at += 1
            blank = False
    return [*found, data[start:]] if start < len(data) else found


def slowly(scanner: Scanner, data: bytes) -> Fed:
    """What a scanner is to say and send, from its own answers about one event at a time."""
    sent = b""
    if isinstance(scanner, SseScanner):
        for event in events(data):
            scanner.tokens_seen += scanner.count(event)
            sent += scanner.look(event) if scanner.special(event) else event
        sent = sent if scanner._strip else data
    else:
        assert isinstance(scanner, NdjsonScanner)
        lines = data.split(b"\n")
        for line in lines if lines[-1] else lines[:-1]:
            scanner.tokens_seen += scanner.count(line)
            if scanner.special(line):
                scanner.look(line)
        sent = data
    return Fed(sent, scanner.usage, scanner.tokens_seen, scanner.finished)


def additive(scanner: Scanner, stream: bytes) -> bool:
    """Whether the stream's events are of one shape, so that their tokens come out the same however they are counted together.

    An engine writes in one shape; where two are mixed, the gate's own count is what it is, but never below nothing.
    """
    assert isinstance(scanner, SseScanner | NdjsonScanner)
    found = set(events(stream) if isinstance(scanner, SseScanner) else stream.split(b"\n"))
    counts = {event: scanner.count(event) for event in found}
    assert min(counts.values(), default=0) >= 0, "less than no token"
    return len(found) <= 64 and all(
        scanner.count(one + b"\n" + other) == counts[one] + counts[other] for one in found for other in found
    )


def check(data: bytes) -> None:
    if not data:
        return
    kind, stream = data[0], data[1:]
    exact = additive(made(kind), stream)

    def told(fed: Fed) -> Fed:
        assert fed.tokens_seen >= 0, "less than no token"
        return fed if exact else fed._replace(tokens_seen=0)

    right = told(slowly(made(kind), stream))
    assert told(feed(lambda: made(kind), [stream])) == right, "read as a whole"
    for parts in ways(stream):
        assert told(feed(lambda: made(kind), parts)) == right, f"read in {len(parts)} pieces"
        assert told(with_short_way(made(kind), parts)) == right, f"the short way, in {len(parts)} pieces"


def with_short_way(scanner: Scanner, parts: Iterable[bytes]) -> Fed:
    """As the road feeds it: past the scanner, where the scanner says that it may be."""
    sent, seen = b"", 0
    for part in parts:
        tokens = scanner.usual(part) if scanner.at_rest else -1
        if tokens >= 0:
            seen += tokens
            sent += part
        else:
            sent += scanner.feed(part)
    sent += scanner.close()
    return Fed(sent, scanner.usage, scanner.tokens_seen + seen, scanner.finished)


def seeds() -> Iterable[bytes]:
    for path in sorted(transcripts.FOLDER.glob("*.http")):
        one = transcripts.transcript(path.stem)
        if "json" not in one.headers.get("content-type", "") or "ndjson" in one.headers["content-type"]:
            for kind in range(KINDS):
                route = ROUTES[kind % len(ROUTES)]
                if route.path == one.path:
                    yield bytes((kind,)) + one.body[:2000]
    for kind in range(KINDS):
        yield (
            bytes((kind,)) + b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\r\n\r\ndata: [DONE]\n\n\r\r'
        )


TARGET = Target(check, seeds, 4096)
