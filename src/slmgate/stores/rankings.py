"""All clients at once: who asked most, of a hundred thousand of them, in a moment.

A vector holds one figure of all clients in one span, a lane of 64 bits for the number of each. To Python it is one large integer,
and those of many spans are added up by adding these integers. Vectors of whole days and months are made from the rollups when
they are first asked for, and kept; each knows how many requests it was made of, and is made anew when its span has more by now.
What is left at the ends of the time asked for comes from the rollups.
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
from slmgate.stores.usage import Piece, bounded

Figure = Literal["requests", "tokens", "cost", "errors", "refused"]
FIGURES: tuple[Figure, ...] = ("requests", "tokens", "cost", "errors", "refused")
LANE = 8
_TOP = 2**54  # of one span: no lane may run over into the next one, however many are added up
KEPT = (LEVELS[2].name, LEVELS[3].name)

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


def kept(level: str) -> bool:
    """Vectors of spans of this level are kept."""
    return level in KEPT


def stored(
    connection: Connection, asked: Sequence[tuple[int, int]], subject: int, figure: Figure
) -> dict[int, tuple[int, bytes]]:
    """The vectors that there are of these spans: start -> how many requests they were made of, and lanes."""
    found: dict[int, tuple[int, bytes]] = {}
    ends = dict(asked)
    for begin in range(0, len(asked), 200):
        starts = [start for start, _ in asked[begin : begin + 200]]
        query = sa.select(_vectors.start, _vectors.until, _vectors.requests, _vectors.lanes).where(
            _vectors.start.in_(starts), _vectors.subject == subject, _vectors.figure == figure
        )
        found.update({row[0]: (row[2], bytes(row[3])) for row in connection.execute(query) if ends[row[0]] == row[1]})
    return found


def made(connection: Connection, level: str, start: int, end: int, everything: int) -> dict[tuple[int, Figure], tuple[int, int]]:
    """The vectors of a span from its rollup: subject and figure -> how many requests they are made of, and the lanes.

    All figures of everything, and the requests of each model.
    """
    lanes: dict[tuple[int, Figure], array[int]] = {}
    highest = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(schema.subjects.c.id), 0))).scalar_one()) + 1
    for model, client, *figures in connection.execute(_sums(level, start, end)):
        for figure, value in zip(FIGURES, figures, strict=True):
            if value:
                _add(lanes, (everything, figure), highest, client, int(value))
        if model is not None:
            _add(lanes, (model, "requests"), highest, client, int(figures[0]))
    counts = {subject: sum(each) for (subject, figure), each in lanes.items() if figure == "requests"}
    return {(subject, figure): (counts[subject], _lanes(each)) for (subject, figure), each in lanes.items()}


def _add(lanes: dict[tuple[int, Figure], array[int]], place: tuple[int, Figure], highest: int, client: int, value: int) -> None:
    there = lanes.get(place)
    if there is None:
        there = lanes[place] = array("Q", bytes(LANE * highest))
    there[client] = min(_TOP, there[client] + value)


def _sums(level: str, start: int, end: int) -> sa.Select[Any]:
    source: sa.Table = schema.entries if level == "receipts" else schema.rollups[level]
    time = source.c.time if level == "receipts" else source.c.start
    one: Any = sa.literal_column("1") if level == "receipts" else source.c.requests
    few = [bounded(source.c[name]) if level == "receipts" else source.c[name] for name in ("prompt_tokens", "completion_tokens")]
    cost = bounded(source.c.cost) if level == "receipts" else source.c.cost
    return (
        sa.select(
            _mapped.model,
            _mapped.client,
            sa.func.sum(one),
            sa.func.sum((few[0] + few[1]) * _mapped.admitted),
            sa.func.sum(cost),
            sa.func.sum(one * _mapped.failed),
            sa.func.sum(one * (1 - _mapped.admitted)),
        )
        .join_from(source, schema.facet_subjects, _mapped.facet == source.c.facet)
        .where(time >= start, time < end, _mapped.client.is_not(None))
        .group_by(_mapped.model, _mapped.client)
    )


def _lanes(each: array[int]) -> int:
    if sys.byteorder == "big":
        each.byteswap()
    return int.from_bytes(each.tobytes(), "little")


def packed(lanes: int) -> bytes:
    size = (lanes.bit_length() + 63) // 64 * LANE
    return zlib.compress(lanes.to_bytes(size, "little"), 1)


def unpacked(data: bytes) -> int:
    return int.from_bytes(zlib.decompress(data), "little")


def values(lanes: int) -> array[int]:
    """The value of each number."""
    found = array("Q")
    found.frombytes(lanes.to_bytes((lanes.bit_length() + 63) // 64 * LANE, "little"))
    if sys.byteorder == "big":
        found.byteswap()
    return found
