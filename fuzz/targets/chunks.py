"""The chunked coding: the reader against a slow reading of RFC 9112 section 7.1, in every way of cutting.

The slow reading takes the whole body at once and copies nothing from the reader. It does not know the bounds on overhead, for
its inputs are too small to meet them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fuzz.target import Target, ways
from slmgate.http1.framing import CHUNK_LINES, USUAL, ChunkedReader

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def slowly(data: bytes) -> tuple[bytes, bytes | None] | None:
    """The body and what is behind it (None: it has no end yet), or None for what is no chunked body."""
    body = b""
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return _unfinished(line, body)
        digits = re.split(rb"[;\t ]", line, maxsplit=1)[0]
        extension = line[len(digits) :].lstrip(b" \t")
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF") or len(line) > 256:
            return None
        if (line[len(digits) :] and not extension.startswith(b";")) or not _is_text(extension):
            return None
        size = int(digits, 16)
        if not size:
            return _trailers(rest, body)
        body += rest[:size]
        after = rest[size : size + 2]
        if not b"\r\n".startswith(after):
            return None
        if len(after) < 2:
            return body, None
        data = rest[size + 2 :]


def _is_text(value: bytes) -> bool:
    return all(byte == 9 or (byte >= 32 and byte != 127) for byte in value)


def _unfinished(line: bytes, body: bytes) -> tuple[bytes, None] | None:
    if b"\n" in line or len(line) > 257:
        return None
    return body, None


def _trailers(rest: bytes, body: bytes) -> tuple[bytes, bytes | None] | None:
    while True:
        line, end, after = rest.partition(b"\r\n")
        if not end:
            return (body, None) if b"\n" not in line else None
        if not line:
            return body, after
        name, colon, value = line.partition(b":")
        if not name or name.strip(TOKEN) or not colon or not _is_text(value):
            return None
        rest = after


def read(parts: Iterable[bytes]) -> tuple[bytes, bytes | None] | None:
    reader = ChunkedReader()
    body, behind = b"", b""
    for part in parts:
        if reader.fault is not None:
            break
        if reader.done:
            behind += part
            continue
        if reader.at_rest and len(part) < USUAL and part.startswith(CHUNK_LINES[len(part)]) and part.endswith(b"\r\n"):
            line = CHUNK_LINES[len(part)]  # the short way that the road takes past the reader
            body += part[len(line) : -2]
            continue
        found, rest = reader.feed(part)
        body += b"".join(found)
        behind += rest
    if reader.fault is not None:
        return None
    return body, behind if reader.done else None


def check(data: bytes) -> None:
    right = slowly(data)
    assert read([data]) == right, "read as a whole"
    for parts in ways(data):
        assert read(parts) == right, f"read in {len(parts)} pieces"


def seeds() -> Iterable[bytes]:
    good = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    yield from (
        good,
        good + b"GET / HTTP/1.1\r\n",
        b"A;x=1\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
        b"0\r\n\r\n",
        b"0000a \t;\r\n0123456789\r\n",
    )
    yield from (
        b"+5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\n0\n\n",
        b"0x5\r\nhello\r\n",
        b"fffffffffffffff\r\n",
        b"1" * 16 + b"\r\n",
        b"\0\r\n",
        b"\0" * 19 + b"\r\n",
    )
    yield from (
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"0\r\nbad\r\n\r\n",
        b"0\r\n x: y\r\n\r\n",
        b";\r\n",
        b"1;" + b"a" * 300,
    )


TARGET = Target(check, seeds, 2048)
