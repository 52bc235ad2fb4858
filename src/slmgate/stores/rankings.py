"""All clients at once: who asked most, of a hundred thousand of them, in a moment.

A vector holds one figure of all clients in one span, in the order of their numbers. Those of whole days and months are made from
the rollups when these are over, or first asked for, and kept; each knows how many requests it was made of, and is made anew when
its span has more by now: of a month that has, pages take the days. What is left at the ends of a time comes from the rollups.

A kept vector is parted by bytes: the lowest of all clients, then the next, as many as the largest needs. Of many vectors the
lowest bytes are added up first, all clients at once: to Python they are one large integer, in which each client has a lane of 16
bits, which runs over into no other one as long as no more than `MOST` are added.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.rollups import LEVELS
from slmgate.stores.statements import fetched
from slmgate.stores.tally_rows import requests
from slmgate.stores.usage import Piece, bounded, kept_since

Figure = Literal["requests", "tokens", "cost", "errors", "refused"]
FIGURES: tuple[Figure, ...] = ("requests", "tokens", "cost", "errors", "refused")
LANE = 8
MOST = 257
"""So many times 255 is what 16 bits hold."""
_, _, DAYS, MONTHS = LEVELS
KEPT = (DAYS.name, MONTHS.name)

_TOP = 2**54  # of one span: so that the sum of all has place in 64 bits
_END = 2**63
_PLANES = b"\x01"  # what packed vectors begin with; those of before are compressed lanes, and begin with an "x"

_mapped, _vectors = schema.facet_subjects.c, schema.vectors.c


def spans(pieces: Iterable[Piece]) -> list[tuple[str, int, int]]:
    """The spans that vectors are of, and what is left between them: level, start and end."""
    found: list[tuple[str, int, int]] = []
    for level, start, end in pieces:
        if level is None or level.name not in KEPT:
            found.append(("receipts" if level is None else level.name, start, end))
            continue
        while start < end:
            found.append((level.name, start, level.after(start)))
            start = level.after(start)
    return found


def sizes(
    connection: Connection, plan: Sequence[Piece], everything: int, subject: int, figures: Sequence[Figure]
) -> tuple[list[array[int]], list[dict[str, Any]]]:
    """Each figure of all clients over these pieces, of everything or of one model, and the rows of vectors that may be kept."""
    asked = spans(plan)
    totals, fresh = [Total() for _ in figures], []
    days_from = kept_since(connection).get(DAYS.name, 0)
    months, days = ([(start, end) for name, start, end in asked if name == level.name] for level in (MONTHS, DAYS))
    for level, whole in ((MONTHS, months), (DAYS, days)):
        counts = {start: count for start, _, count in requests(connection, level.name, [start for start, _ in whole], [subject])}
        stored = [_stored(connection, whole, subject, figure) for figure in figures]
        for start, end in whole:
            count = counts.get(start, 0)
            if not count:
                continue
            there = [each[start][1] if start in each and each[start][0] == count else None for each in stored]
            if there[0] is None and level is MONTHS and start >= days_from:
                days += [(start, end) for _, start, end in spans([Piece(DAYS, start, end)])]  # most of which are there
                continue
            if there[0] is None:
                rows = made(connection, level.name, start, end, everything)
                mine = {row["figure"]: row["lanes"] for row in rows if row["subject"] == subject}
                there = [mine.get(figure) for figure in figures]
                fresh += rows
            for total, data in zip(totals, there, strict=True):
                if data is not None:  # of a figure that nobody has, there is no vector
                    total.add(data)
    size = highest(connection)
    found = [total.values(size) for total in totals]
    for name, start, end in asked:
        if name not in KEPT:
            query = _sums(name, start, end, figures, None if subject == everything else subject)
            ends = fetched(connection.execute(query))
            for place, each in enumerate(found, 2):
                for row in ends:
                    if row[place]:
                        each[row[1]] = min(_END, each[row[1]] + int(row[place]))
    return found, fresh


def missing(connection: Connection, since: int, until: int, everything: int) -> tuple[str, int, int] | None:
    """The first whole day, or else month, of this time whose vectors are not there, or lack requests: level, start and end."""
    for level in (DAYS, MONTHS):
        first = max(level.ceil(since), level.ceil(kept_since(connection).get(level.name, 0)))
        whole = [(start, end) for _, start, end in spans([Piece(level, first, level.floor(until))])]
        ends = dict(whole)
        query = sa.select(_vectors.start, _vectors.until, _vectors.requests).where(
            _vectors.start >= first, _vectors.start < until, _vectors.subject == everything, _vectors.figure == "requests"
        )
        there = {start: count for start, end, count in fetched(connection.execute(query)) if ends.get(start) == end}
        counts = {start: count for start, _, count in requests(connection, level.name, list(ends), [everything])}
        for start, end in whole:
            if counts.get(start, 0) != there.get(start, 0):
                return level.name, start, end
    return None


def _stored(
    connection: Connection, asked: Sequence[tuple[int, int]], subject: int, figure: Figure
) -> dict[int, tuple[int, bytes]]:
    """The vectors that there are of these spans: start -> how many requests they were made of, and what was packed."""
    found: dict[int, tuple[int, bytes]] = {}
    ends = dict(asked)
    for begin in range(0, len(asked), 200):
        starts = [start for start, _ in asked[begin : begin + 200]]
        query = sa.select(_vectors.start, _vectors.until, _vectors.requests, _vectors.lanes).where(
            _vectors.start.in_(starts), _vectors.subject == subject, _vectors.figure == figure
        )
        found.update({row[0]: (row[2], bytes(row[3])) for row in connection.execute(query) if ends[row[0]] == row[1]})
    return found


def made(connection: Connection, level: str, start: int, end: int, everything: int) -> list[dict[str, Any]]:
    """The rows of `client_vectors` of a span, from its rollup: all figures of everything, and the requests of each model."""
    lanes: dict[tuple[int, Figure], array[int]] = {}
    size = highest(connection)
    for model, client, *figures in fetched(connection.execute(_sums(level, start, end, FIGURES))):
        for figure, value in zip(FIGURES, figures, strict=True):
            if value:
                _add(lanes, (everything, figure), size, client, int(value))
        if model is not None:
            _add(lanes, (model, "requests"), size, client, int(figures[0]))
    counts = {subject: sum(vector) for (subject, figure), vector in lanes.items() if figure == "requests"}
    return [
        {
            "start": start, "until": end, "subject": subject, "figure": figure, "requests": counts[subject],
            "lanes": packed(vector),
        }
        for (subject, figure), vector in lanes.items()
    ]  # fmt: skip


def _add(lanes: dict[tuple[int, Figure], array[int]], place: tuple[int, Figure], size: int, client: int, value: int) -> None:
    there = lanes.get(place)
    if there is None:
        there = lanes[place] = array("Q", bytes(LANE * size))
    there[client] = min(_TOP, there[client] + value)


def highest(connection: Connection) -> int:
    """How many places a vector has."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(schema.subjects.c.id), 0))).scalar_one()) + 1


def _sums(level: str, start: int, end: int, figures: Sequence[Figure], model: int | None = None) -> sa.Select[Any]:
    """Model, client and these figures of each combination of facets.

    Added up by facets first, which are numbers, and found in their order: to group by clients takes three times as long.
    """
    source: sa.Table = schema.entries if level == "receipts" else schema.rollups[level]
    time = source.c.time if level == "receipts" else source.c.start
    one: Any = sa.literal_column("1") if level == "receipts" else source.c.requests

    def of(name: str) -> Any:
        return bounded(source.c[name]) if level == "receipts" else source.c[name]

    sums = {"requests": one, "tokens": of("prompt_tokens") + of("completion_tokens"), "cost": of("cost")}
    needed = [name for name in sums if name in figures or name == "requests"]
    few = (
        sa.select(source.c.facet, *(sa.func.sum(sums[name]).label(name) for name in needed))
        .where(time >= start, time < end)
        .group_by(source.c.facet)
        .subquery()
        .c
    )
    found: dict[str, Any] = {"errors": few.requests * _mapped.failed, "refused": few.requests * (1 - _mapped.admitted)}
    found |= {name: few[name] * _mapped.admitted if name == "tokens" else few[name] for name in needed}
    whose = _mapped.client.is_not(None) if model is None else sa.and_(_mapped.client.is_not(None), _mapped.model == model)
    return (
        sa.select(_mapped.model, _mapped.client, *(found[name] for name in figures))
        .join_from(few.facet.table, schema.facet_subjects, _mapped.facet == few.facet)
        .where(whose)
    )


class Total:
    """The sum of vectors of one figure."""

    def __init__(self) -> None:
        self._planes: list[int] = []  # of each byte the sum, in lanes of 16 bits
        self._added = 0  # to these
        self._lanes = 0  # what was added before, in lanes of 64 bits

    def __repr__(self) -> str:
        return f"<Total {self._added} added>"

    def add(self, data: bytes) -> None:
        """Add a vector that was packed."""
        if self._added == MOST:
            self._settle()
        for place, plane in enumerate(_planes_of(data)):
            wide = bytearray(2 * len(plane))
            wide[::2] = plane
            if place == len(self._planes):
                self._planes.append(0)
            self._planes[place] += int.from_bytes(wide, "little")
        self._added += 1

    def _settle(self) -> None:
        for place, plane in enumerate(self._planes):
            size = (plane.bit_length() + 15) // 16
            halves = plane.to_bytes(2 * size, "little")
            wide = bytearray(LANE * size)
            wide[place::LANE] = halves[::2]
            if place + 1 < LANE:  # no lane has more than 7 bytes, see `_TOP`
                wide[place + 1 :: LANE] = halves[1::2]
            self._lanes += int.from_bytes(wide, "little")
        self._planes, self._added = [], 0

    def values(self, size: int) -> array[int]:
        """The value of each number below this."""
        self._settle()
        found = array("Q")
        found.frombytes(self._lanes.to_bytes(LANE * size, "little"))
        if sys.byteorder == "big":
            found.byteswap()
        return found


def packed(vector: array[int]) -> bytes:
    """A vector to be kept."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    lanes = vector.tobytes()
    planes = [lanes[place::LANE] for place in range(LANE)]
    while planes and not any(planes[-1]):
        planes.pop()
    return _PLANES + bytes([len(planes)]) + zlib.compress(b"".join(planes), 1)


def _planes_of(data: bytes) -> list[bytes]:
    if not data.startswith(_PLANES):
        lanes = zlib.decompress(data)
        return [lanes[place::LANE] for place in range(LANE)]
    if not data[1]:
        return []
    planes = zlib.decompress(data[2:])
    size = len(planes) // data[1]
    return [planes[start : start + size] for start in range(0, len(planes), size)]
