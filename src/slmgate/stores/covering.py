"""Coverings: a time put together from few whole spans, of which some are taken away again.

`usage.py` cuts a time into pieces that are added up. Where sums can be subtracted too, fewer rows say the same: a day of a zone
that is an hour off is a day of the rollups, less one hour, and another one. This module knows no table and no sum; what is said
here holds of what one state of the store says, and of nothing that is read in two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from slmgate.stores.rollups import Level
from slmgate.stores.usage import RECEIPTS, Piece


class Part(NamedTuple):
    """A piece, to be added (`sign` 1) or to be taken away (-1)."""

    piece: Piece
    sign: int


def cover(levels: Sequence[Level], start: int, end: int, kept: Mapping[str, int]) -> list[Part]:
    """The parts of a time, with as much as can be from the last of these levels. What nothing has any more is in no part.

    At both ends, what sticks out of whole spans is added, or what is missing to a whole one taken away, whichever is less; a
    span is taken apart only where all that is to be taken away is kept.
    """
    if start >= end:
        return []
    if not levels:
        start = max(start, kept.get(RECEIPTS, 0))
        return [Part(Piece(None, start, end), 1)] if start < end else []
    *finer, level = levels
    since = kept.get(level.name, 0)
    first, last = level.ceil(max(start, since)), level.floor(end)
    before, after = level.floor(start), level.ceil(end)
    if first > last:
        if before >= since and (start - before) + (after - end) < end - start:
            ends = _less(finer, before, start, kept), _less(finer, end, after, kept)
            if ends[0] is not None and ends[1] is not None:
                return [Part(Piece(level, before, after), 1), *ends[0], *ends[1]]
        return cover(finer, start, end, kept)
    # of two that are as long the earlier, at either end: times that meet there read the same rows
    head = _less(finer, before, start, kept) if before >= since and start - before <= first - start else None
    tail = _less(finer, end, after, kept) if after - end < end - last else None
    begin, close = first if head is None else before, last if tail is None else after
    if head is None:
        head = cover(finer, start, first, kept)
    if tail is None:
        tail = cover(finer, last, end, kept)
    return [*head, *([Part(Piece(level, begin, close), 1)] if begin < close else []), *tail]


def _less(levels: Sequence[Level], start: int, end: int, kept: Mapping[str, int]) -> list[Part] | None:
    """The parts to be taken away for this time; None where not all of it is kept."""
    found = cover(levels, start, end, kept)
    if sum((part.piece.end - part.piece.start) * part.sign for part in found) != end - start:
        return None
    return [Part(part.piece, -part.sign) for part in found]
