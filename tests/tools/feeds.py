"""Feeds a scanner in every way that a network may: whole, byte by byte, in two at every place, and in given pieces.

What a scanner says and sends on may not depend on where its input was cut. This module knows the `Scanner` protocol
and no dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from slmgate.dialects.contract import Scanner
from slmgate.terms import Usage

Make = Callable[[], Scanner]


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
