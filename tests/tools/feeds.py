"""Feeds a scanner in every way that a network may: whole, byte by byte, in two at every place, and in given pieces.

What a scanner says and sends on may not depend on where its input was cut. The same for readers of what bytes begin with, which
are asked anew with all that has come. This module knows the `Scanner` protocol and no dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, TypeVar

from slmgate.dialects.contract import Scanner
from slmgate.terms import Usage

Make = Callable[[], Scanner]
Said = TypeVar("Said")


class Fed(NamedTuple):
    """What came of one feeding: the bytes sent on, and the facts."""

    sent: bytes
    usage: Usage | None
    tokens_seen: int
    finished: bool


def feed(make: Make, pieces: Iterable[bytes]) -> Fed:
    """One scanner, fed with `pieces` and closed."""
    scanner = make()
    sent = b"".join([scanner.feed(piece) for piece in pieces])
    sent += scanner.close()
    return Fed(sent, scanner.usage, scanner.tokens_seen, scanner.finished)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at `places` (any integers)."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(edges)]


def every_way(make: Make, data: bytes, stride: int = 1) -> Fed:
    """Feed `data` whole, byte by byte, and in two at every `stride`-th place; all must come to the same, which is returned."""
    whole = feed(make, [data])
    assert feed(make, [bytes((byte,)) for byte in data]) == whole, "byte by byte differs from whole"
    for place in range(0, len(data) + 1, stride):
        assert feed(make, [data[:place], data[place:]]) == whole, f"cut at {place} differs from whole"
    return whole


TRAILING = (b"", b"\x00", b"\n", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(600))


def every_beginning(read: Callable[[bytes], Said | None], data: bytes) -> Said:
    """What `read` makes of `data`, for which it needs the last byte; whatever may come behind it is nothing to it."""
    for length in range(len(data)):
        assert read(data[:length]) is None, f"{length} of {len(data)} bytes are enough"
    said = read(data)
    assert said is not None, "it wants more"
    for behind in TRAILING:
        assert read(data + behind) == said, f"{behind[:8]!r} behind it is not nothing"
    return said


def never_later(read: Callable[[bytes], Said | None], data: bytes) -> Said | None:
    """What `read` makes of `data` as it comes byte by byte; what it once has said, it goes on saying."""
    said = None
    for length in range(len(data) + 1):
        before, said = said, read(data[:length])
        assert before is None or said == before, f"at {length} bytes it says something else"
    return said
