"""The tallies of what is in a ledger already: made once, when a schema without them is brought up to date.

Days are taken one after the other, so that memory is bounded: sums from the rollups of each level, histograms from the receipts
that are still kept. It writes through the writer of tallies, within a transaction that the caller has begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.rollups import DAY, FIGURES, LEVELS, MINUTE, Level, Spans
from slmgate.stores.subjects import SubjectWriter, Tallies, by_subject, coarser
from slmgate.stores.tallies import Facts, Tally, histograms, plus
from slmgate.stores.usage import kept_since

_CHUNK = 20_000
_entries = schema.entries.c
_ROW = [column for column in schema.entries.columns if column.name != "seq"]


def fill(connection: Connection) -> None:
    """Make all tallies. There are none before."""
    insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    writer = SubjectWriter(connection.engine, insert)
    facets = list(connection.execute(sa.select(schema.facets.c.id)).scalars())
    known = writer.learn(connection, facets)
    *finer, months = LEVELS
    kept, at = kept_since(connection), 0
    month: Tallies = {}
    for day in _days(connection):
        buckets = of_receipts(connection, day, day + DAY, known)
        for level in finer:
            buckets = coarser(buckets, level.floor)
            if kept.get(level.name, 0) <= day:
                whole = _of_rollup(connection, level, day, day + DAY, known)
                _add(whole, buckets)
                writer.put(connection, level.name, whole, new=True)
        buckets = coarser(buckets, months.floor)
        if months.floor(day) != at:
            writer.put(connection, months.name, month)
            at, month = months.floor(day), {}
        _add(month, buckets)
    writer.put(connection, months.name, month)
    starts = sa.select(months.table.c.start).distinct().order_by(months.table.c.start)
    for start in list(connection.execute(starts).scalars()):
        writer.put(connection, months.name, _of_rollup(connection, months, start, start + 1, known))


def _add(into: Tallies, more: Tallies) -> None:
    for place, tally in more.items():
        plus(into.setdefault(place, {}), tally)


def of_receipts(connection: Connection, start: int, end: int, known: Mapping[int, Facts]) -> Tallies:
    """The histograms of the receipts of this time, by minute and subject."""
    found: dict[tuple[int, int], Tally] = {}
    query = sa.select(*_ROW).where(_entries.time >= start, _entries.time < end)
    for some in connection.execute(query.execution_options(yield_per=_CHUNK)).partitions():
        for place, tally in histograms([tuple(row) for row in some], known, MINUTE).items():
            plus(found.setdefault(place, {}), tally)
    return by_subject(found.items(), known)


def _of_rollup(connection: Connection, level: Level, start: int, end: int, known: Mapping[int, Facts]) -> Tallies:
    columns = level.table.c
    query = sa.select(columns.start, columns.facet, *(columns[name] for name in FIGURES))
    rows = connection.execute(query.where(columns.start >= start, columns.start < end))
    return of_sums({(row[0], row[1]): tuple(map(int, row[2:])) for row in rows}, known)


def of_sums(spans: Spans, known: Mapping[int, Facts]) -> Tallies:
    """The sums of these spans, without histograms."""
    return by_subject(((place, known[place[1]].of(sums)) for place, sums in spans.items()), known)


def _days(connection: Connection) -> Iterator[int]:
    """Each day with anything in it."""
    times = [_entries.time, *(level.table.c.start for level in LEVELS[:-1])]
    day = -1
    while True:
        found = [connection.execute(sa.select(sa.func.min(time)).where(time > day)).scalar() for time in times]
        later = [time for time in found if time is not None]
        if not later:
            return
        first = min(later)
        yield first - first % DAY
        day = first - first % DAY + DAY - 1
