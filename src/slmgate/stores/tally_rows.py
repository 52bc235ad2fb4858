"""The rows of tallies that answer a question: which they are, and what they come to between times.

Times are covered by as few spans as can be (`covering.py`), each row is read once for all the times that it counts in, and where
requests are all that is asked for, no more of a tally is read than says so. What is less than a minute long, or older than any
rollup, is tallied from the receipts. What is read here belongs together: the transaction has to see one state of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.covering import cover
from slmgate.stores.filling import of_receipts, of_sums
from slmgate.stores.rollups import LEVELS
from slmgate.stores.statements import fetched
from slmgate.stores.subjects import facts_of
from slmgate.stores.tallies import HEAD, Tally, decode, minus, plus, requests_of, settled
from slmgate.stores.usage import Piece, kept_since
from slmgate.stores.verifying import sums_of

CHUNK = 400
"""Values in one list of a statement."""

Places = dict[int, list[tuple[int, int]]]
"""Start of a span -> between which two cuts it counts, and as what: 1, or -1 where it is taken away."""


class _Plan:
    """What is to be read for tallies between these cuts. Rows that two times have in common are in it once."""

    def __init__(self, connection: Connection, cuts: Sequence[int]) -> None:
        kept = kept_since(connection)
        self.levels: dict[str, Places] = {level.name: {} for level in LEVELS}
        self.receipts: dict[Piece, list[tuple[int, int]]] = {}
        self.taken: set[int] = set()
        for place, (start, end) in enumerate(pairwise(cuts)):
            for piece, sign in cover(LEVELS, start, end, kept):
                if piece.level is None:
                    self.receipts.setdefault(piece, []).append((place, sign))
                else:
                    spans = self.levels[piece.level.name]
                    for at in starts_of(piece):
                        spans.setdefault(at, []).append((place, sign))
                if sign < 0:
                    self.taken.add(place)

    def rows(self, connection: Connection, subjects: Sequence[int]) -> Iterator[tuple[str, int, int, bytes]]:
        """Level, start, subject and tally of all rows that there are."""
        for level, spans in self.levels.items():
            for start, subject, tally in _rows(connection, level, list(spans), subjects, lambda tally: tally):
                yield level, start, subject, tally

    def counts(self, connection: Connection, subjects: Sequence[int]) -> Iterator[tuple[str, int, int, int]]:
        """The same with the number of requests instead of the tally."""
        for level, spans in self.levels.items():
            for start, subject, count in requests(connection, level, list(spans), subjects):
                yield level, start, subject, count


def _rows(
    connection: Connection, level: str, starts: Sequence[int], subjects: Sequence[int], of: Callable[[Any], Any]
) -> Iterator[tuple[int, int, bytes]]:
    """Start, subject, and what `of` makes of the tally, of all rows of a level that there are."""
    table = schema.tallies[level].c
    for begin in range(0, len(starts), CHUNK):
        for first in range(0, len(subjects), CHUNK):
            some, whose = starts[begin : begin + CHUNK], subjects[first : first + CHUNK]
            query = sa.select(table.start, table.subject, of(table.tally)).where(table.start.in_(some), table.subject.in_(whose))
            yield from ((row[0], row[1], row[2]) for row in fetched(connection.execute(query)))


def requests(
    connection: Connection, level: str, starts: Sequence[int], subjects: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """Start, subject and number of requests of all rows of a level that there are."""
    odd: tuple[dict[int, None], dict[int, None]] = ({}, {})
    places: set[tuple[int, int]] = set()
    for start, subject, head in _rows(connection, level, starts, subjects, lambda tally: sa.func.substr(tally, 1, HEAD)):
        count = requests_of(head)
        if count is not None:
            yield start, subject, count
            continue
        places.add((start, subject))
        odd[0][start] = odd[1][subject] = None
    if places:  # tallies that begin with something else
        for start, subject, tally in _rows(connection, level, list(odd[0]), list(odd[1]), lambda tally: tally):
            if (start, subject) in places:
                yield start, subject, decode(tally).get(0, 0)


def read(connection: Connection, into: Mapping[int, list[Tally]], cuts: Sequence[int]) -> None:
    """Add what there is of each subject to its tallies between these cuts."""
    plan = _Plan(connection, cuts)
    for piece, places in plan.receipts.items():
        for subject, tally in _from_receipts(connection, piece):
            if subject in into:
                for place, sign in places:
                    (plus if sign > 0 else minus)(into[subject][place], tally)
    for level, start, subject, packed in plan.rows(connection, list(into)):
        found = decode(packed)
        for place, sign in plan.levels[level][start]:
            (plus if sign > 0 else minus)(into[subject][place], found)
    for tallies in into.values():
        for place in plan.taken:
            tallies[place] = settled(tallies[place])


def count(connection: Connection, into: Mapping[int, list[int]], cuts: Sequence[int]) -> None:
    """Add how many requests each subject has to its counts between these cuts."""
    plan = _Plan(connection, cuts)
    for piece, places in plan.receipts.items():
        sums = sums_of(connection, piece.start, piece.end)
        for (_, subject), tally in of_sums(sums, facts_of(connection, {facet for _, facet in sums})).items():
            if subject in into:
                for place, sign in places:
                    into[subject][place] += sign * tally.get(0, 0)
    for level, start, subject, requests in plan.counts(connection, list(into)):
        for place, sign in plan.levels[level][start]:
            into[subject][place] += sign * requests


def starts_of(piece: Piece) -> list[int]:
    """Where each span of a piece begins."""
    found, start = [], piece.start
    if piece.level is not None:
        while start < piece.end:
            found.append(start)
            start = piece.level.after(start)
    return found


def _from_receipts(connection: Connection, piece: Piece) -> Iterator[tuple[int, Tally]]:
    """The tallies of a piece of which no rollup is kept, or which is less than a minute long."""
    sums = sums_of(connection, piece.start, piece.end)
    known = facts_of(connection, {facet for _, facet in sums})
    for found in (of_sums(sums, known), of_receipts(connection, piece.start, piece.end, known)):
        for (_, subject), tally in found.items():
            yield subject, tally
