"""The check that rollups are what they say: every row against the receipts, or the finer rows, that it is the sum of.

A day is compared at a time, within one transaction that sees a single state of the store, so the gate may go on writing. Of a day
whose receipts are deleted, the coarser levels are compared with the finest that is left. Tallies are compared in the same way.
Nothing is mended here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from slmgate.stores import schema
from slmgate.stores.records import Difference, Verified
from slmgate.stores.rollups import DAY, FIGURES, LEVELS, MINUTE, Level, Spans, coarser
from slmgate.stores.schema import from_us
from slmgate.stores.tally_check import check_day, check_month
from slmgate.stores.usage import RECEIPTS, bounded, kept_since

MINUTES, HOURS, DAYS, MONTHS = LEVELS


def verify(engine: Engine) -> Iterator[Verified]:
    """`LedgerStore.verify`."""
    isolation = "REPEATABLE READ" if engine.dialect.name == "postgresql" else "SERIALIZABLE"
    with engine.connect().execution_options(isolation_level=isolation) as connection:
        with connection.begin():
            first, last = _extent(connection)
        day, month = first, MONTHS.floor(first)
        while day < last:
            with connection.begin():
                compared, differences = _check_day(connection, day)
                tallies, wrong = check_day(connection, day, _right(connection, day))
            yield Verified(DAYS.name, from_us(day), compared + tallies, differences + wrong)
            with connection.begin():
                day = _next_day(connection, day, last)
        while month < last:
            with connection.begin():
                compared, differences = _check_month(connection, month)
                tallies, wrong = check_month(connection, month)
            yield Verified(MONTHS.name, from_us(month), compared + tallies, differences + wrong)
            month = MONTHS.after(month)


def _times() -> list[tuple[sa.Table, sa.ColumnElement[Any]]]:
    return [(schema.entries, schema.entries.c.time), *((level.table, level.table.c.start) for level in LEVELS)]


def _extent(connection: Connection) -> tuple[int, int]:
    """From the first day with anything to the end of the last."""
    ends = [connection.execute(sa.select(sa.func.min(time), sa.func.max(time))).one() for _, time in _times()]
    first = [start for start, _ in ends if start is not None]
    last = [end for _, end in ends if end is not None]
    return (DAYS.floor(min(first)), DAYS.ceil(max(last) + 1)) if first else (0, 0)


def _next_day(connection: Connection, day: int, last: int) -> int:
    """The next day with anything in it: a clock that was years off makes no years of empty days."""
    after = DAYS.after(day)
    found = [connection.execute(sa.select(sa.func.min(time)).where(time >= after)).scalar() for _, time in _times()[:-1]]
    return min((DAYS.floor(each) for each in found if each is not None), default=last)


def _right(connection: Connection, day: int) -> Spans | None:
    """What the receipts of a day add up to; None where they are not all kept."""
    return sums_of(connection, day, day + DAY) if kept_since(connection).get(RECEIPTS, 0) <= day else None


def _check_day(connection: Connection, day: int) -> tuple[int, list[Difference]]:
    kept, end = kept_since(connection), day + DAY
    right = _right(connection, day)
    compared = 0
    differences: list[Difference] = []
    for level in (MINUTES, HOURS, DAYS):
        right = None if right is None else coarser(right, level.floor)
        if kept.get(level.name, 0) > day:
            continue
        there = _of_level(connection, level, day, end)
        if right is None:
            right = there
            continue
        compared += len(there)
        differences += _differences(level, there, right)
    return compared, differences


def _check_month(connection: Connection, month: int) -> tuple[int, list[Difference]]:
    end = MONTHS.after(month)
    if kept_since(connection).get(DAYS.name, 0) > month:
        return 0, []
    there = _of_level(connection, MONTHS, month, end)
    right = coarser(_of_level(connection, DAYS, month, end), MONTHS.floor)
    return len(there), list(_differences(MONTHS, there, right))


def sums_of(connection: Connection, start: int, end: int) -> Spans:
    """The sums of the receipts of this time by minute and facet, from the receipts themselves."""
    entries = schema.entries.c
    minute = (entries.time - entries.time % sa.literal_column(str(MINUTE))).label("minute")
    sums = {
        "requests": sa.func.count(),
        "first_bytes": sa.func.count(entries.first_byte_us),
    }
    figures = [sums[name] if name in sums else sa.func.coalesce(sa.func.sum(bounded(entries[name])), 0) for name in FIGURES]
    query = sa.select(minute, entries.facet, *figures).where(entries.time >= start, entries.time < end)
    return _spans(connection, query.group_by(minute, entries.facet))


def _of_level(connection: Connection, level: Level, start: int, end: int) -> Spans:
    columns = level.table.c
    figures = [columns[name] for name in FIGURES]
    query = sa.select(columns.start, columns.facet, *figures).where(columns.start >= start, columns.start < end)
    return _spans(connection, query)


def _spans(connection: Connection, query: sa.Select[Any]) -> Spans:
    return {(row[0], row[1]): tuple(map(int, row[2:])) for row in connection.execute(query)}


def _differences(level: Level, there: Spans, right: Spans) -> Iterator[Difference]:
    for start, facet in sorted(there.keys() | right.keys()):
        says, should = there.get((start, facet)), right.get((start, facet))
        if says != should:
            yield Difference(level.name, from_us(start), facet, _named(says), _named(should))


def _named(sums: tuple[int, ...] | None) -> Mapping[str, int]:
    return dict(zip(FIGURES, sums or [0] * len(FIGURES), strict=True))
