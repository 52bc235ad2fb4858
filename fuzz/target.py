"""What a fuzz target is, and the feeding in pieces that all of them share.

Where an input is cut follows from the input alone, so that a finding is one file and is found again from it. This module knows
no target.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

BYTE_BY_BYTE = 512
"""Inputs up to this size are fed byte by byte as well."""


class Target(NamedTuple):
    """`check` raises when it finds something; `seeds` are inputs to begin with, and must all pass."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    largest: int
    """Bytes of an input. More would only be slower: bounds on size have tests of their own."""


def pieces(data: bytes, salt: int = 0) -> list[bytes]:
    """`data` cut at up to eight places that follow from it."""
    chance = random.Random(crc32(data) ^ salt)
    places = {chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 8))} | {0, len(data)}
    return [data[start:end] for start, end in pairwise(sorted(places))]


def ways(data: bytes) -> list[list[bytes]]:
    """Ways beside the whole in which `data` may come: byte by byte where it is small, in two, and in some pieces."""
    found = [pieces(data), pieces(data, 1)]
    if len(data) <= BYTE_BY_BYTE:
        found.append([data[at : at + 1] for at in range(len(data))])
    return found
