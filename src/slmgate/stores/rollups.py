"""Rollups: sums of receipts by minute, hour, day and month, written with the receipts themselves.

Receipts come in batches, of which most share a minute and their facets: a batch is summed in memory first, and a few rows of each
level are added to what is there, in the transaction of the receipts. So they always say the same, whatever is killed.
Which receipts are new is not known here: the writer of entries says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from slmgate.stores import schema
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.statements import positional, repeated

MOST = 2**50
"""What one receipt adds to a sum at most, of anything: no sum leaves 64 bits because of one absurd figure."""
MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000

_ROWS = 50  # in one statement
_COLUMNS = [column.name for column in schema.rollups["minutes"].columns]
FIGURES = tuple(name for name in _COLUMNS if name not in ("start", "facet"))
"""The sums of a rollup, in the order of its columns."""

_BOUNDED = [place for place, column in enumerate(list(schema.entries.columns)[1:]) if column.name in FIGURES]

Sums = tuple[int, ...]
"""Values of `FIGURES`."""
Spans = dict[tuple[int, int], Sums]
"""Start of a span and number of the facets -> sums."""


def month_of(time: int) -> int:
    """The first moment of the month (UTC) that holds this time."""
    return to_us(from_us(time).replace(day=1, hour=0, minute=0, second=0, microsecond=0))


def month_after(start: int) -> int:
    """The first moment of the next month. There is none after the year 9999; its last month ends where time does."""
    moment = from_us(start)
    if (moment.year, moment.month) == (9999, 12):
        return to_us(datetime(9999, 12, 31, tzinfo=UTC)) + DAY
    return to_us(datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC))


class Level(msgspec.Struct, frozen=True):
    """One of the rollups. `floor` is the start of the span that holds a time, `after` is the start of the next span."""

    name: str
    table: sa.Table
    floor: Callable[[int], int]
    after: Callable[[int], int]

    def ceil(self, time: int) -> int:
        """The first start of a span that is not before this time."""
        start = self.floor(time)
        return start if start == time else self.after(start)


def _even(name: str, width: int) -> Level:
    return Level(name, schema.rollups[name], lambda time: time - time % width, lambda start: start + width)


LEVELS = (
    _even("minutes", MINUTE),
    _even("hours", HOUR),
    _even("days", DAY),
    Level("months", schema.rollups["months"], month_of, month_after),
)
"""From the finest to the coarsest: each span lies within one of the next level."""


def summed(rows: Sequence[tuple[Any, ...]]) -> Spans:
    """The sums of these rows of `entries` by minute."""
    found = _summed(rows)
    if any(max(sums) > MOST for sums in found.values()):
        found = _summed(map(_bent, rows))
    return {(minute * MINUTE, facet): tuple(sums) for (minute, facet), sums in found.items()}


def _bent(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(min(MOST, value) if place in _BOUNDED and value is not None else value for place, value in enumerate(row))


def _summed(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[int, int], list[int]]:
    """Number of the minute and facets -> sums. Written out, because it runs for every receipt."""
    found: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        _, _, time, facet, prompt, completion, bytes_in, bytes_out, queue, first, total, _, _, _, _, cost, _, _, _, _ = row
        place = time // MINUTE, facet
        sums = found.get(place)
        if sums is None:
            found[place] = [1, prompt, completion, bytes_in, bytes_out, queue, int(first is not None), first or 0, total, cost]
            continue
        sums[0] += 1
        sums[1] += prompt
        sums[2] += completion
        sums[3] += bytes_in
        sums[4] += bytes_out
        sums[5] += queue
        if first is not None:
            sums[6] += 1
            sums[7] += first
        sums[8] += total
        sums[9] += cost
    return found


def coarser(spans: Spans, floor: Callable[[int], int]) -> Spans:
    """The same sums by a coarser level."""
    starts = {start: floor(start) for start, _ in spans}
    found: Spans = {}
    for (start, facet), sums in spans.items():
        place = starts[start], facet
        before = found.get(place)
        found[place] = sums if before is None else tuple(map(int.__add__, before, sums))
    return found


class RollupWriter:
    """Adds sums to the tables of all levels. Holds the texts of its statements and nothing else."""

    def __init__(self, engine: Engine, insert: Any) -> None:
        """`insert` is the dialect's own function for an insert that knows conflicts."""
        self._statements: dict[str, tuple[str, str]] = {}
        for level in LEVELS:
            add = insert(level.table).inline()
            sums = {name: level.table.c[name] + add.excluded[name] for name in FIGURES}
            one = positional(engine, add.on_conflict_do_update(index_elements=["start", "facet"], set_=sums), level.table)
            self._statements[level.name] = one, repeated(one, _ROWS)

    def add(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> Spans:
        """Add these rows of `entries`, none of which was added before. Returns their sums by minute."""
        minutes = spans = summed(rows)
        for level in LEVELS:
            if level is not LEVELS[0]:
                spans = coarser(spans, level.floor)
            self._add(connection, *self._statements[level.name], spans)
        return minutes

    def _add(self, connection: Connection, one: str, many: str, spans: Spans) -> None:
        # in one order, so that two nodes that add to the same rows wait for each other, and not in a circle
        rows = [place + spans[place] for place in sorted(spans)]
        whole = len(rows) - len(rows) % _ROWS
        for start in range(0, whole, _ROWS):
            connection.exec_driver_sql(many, tuple(chain.from_iterable(rows[start : start + _ROWS])))
        if whole < len(rows):
            connection.exec_driver_sql(one, rows[whole:])
