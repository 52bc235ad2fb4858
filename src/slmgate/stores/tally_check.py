"""The check of the tallies: every count, against the receipts that it is of, or the finer tallies where these are gone.

Part of `verifying.py` in all but place, and called by it for a day or a month at a time, in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.filling import of_receipts, of_sums
from slmgate.stores.records import Difference
from slmgate.stores.rollups import DAY, LEVELS, Level, Spans
from slmgate.stores.schema import from_us
from slmgate.stores.subjects import Tallies, coarser, facts_of
from slmgate.stores.tallies import FIRST, KINDS, SUMS, WIDTH, Tally, decode, plus
from slmgate.stores.usage import kept_since

MINUTES, HOURS, DAYS, MONTHS = LEVELS


def check_day(connection: Connection, day: int, sums: Spans | None) -> tuple[int, list[Difference]]:
    """How many tallies of this day were compared, and those that are wrong. `sums`: of the receipts, by minute; None: gone."""
    kept, compared = kept_since(connection), 0
    right = None if sums is None else _of_receipts(connection, day, sums)
    differences: list[Difference] = []
    for level in (MINUTES, HOURS, DAYS):
        right = None if right is None else coarser(right, level.floor)
        if kept.get(level.name, 0) > day:
            continue
        there = _of_level(connection, level, day, day + DAY)
        if right is None:
            right = there
            continue
        compared += len(there)
        differences += _differences(connection, level, there, right)
    return compared, differences


def check_month(connection: Connection, month: int) -> tuple[int, list[Difference]]:
    """The same of a month, against its days."""
    end = MONTHS.after(month)
    if kept_since(connection).get(DAYS.name, 0) > month:
        return 0, []
    there = _of_level(connection, MONTHS, month, end)
    right = coarser(_of_level(connection, DAYS, month, end), MONTHS.floor)
    return len(there), list(_differences(connection, MONTHS, there, right))


def _of_receipts(connection: Connection, day: int, sums: Spans) -> Tallies:
    known = facts_of(connection, {facet for _, facet in sums})
    found = of_sums(sums, known)
    for place, tally in of_receipts(connection, day, day + DAY, known).items():
        plus(found.setdefault(place, {}), tally)
    return found


def _of_level(connection: Connection, level: Level, start: int, end: int) -> Tallies:
    columns = schema.tallies[level.name].c
    query = sa.select(columns.start, columns.subject, columns.tally).where(columns.start >= start, columns.start < end)
    return {(row[0], row[1]): decode(row[2]) for row in connection.execute(query)}


def _differences(connection: Connection, level: Level, there: Tallies, right: Tallies) -> Iterator[Difference]:
    for start, subject in sorted(there.keys() | right.keys()):
        says, should = there.get((start, subject), {}), right.get((start, subject), {})
        if says != should:
            numbers = sorted(says.keys() | should.keys(), key=str)
            told = _named(says, numbers), _named(should, numbers)
            yield Difference(level.name, from_us(start), 0, *told, subject=_subject(connection, subject))


def _named(tally: Tally, numbers: list[int | str]) -> Mapping[str, int]:
    return {_name(number): tally.get(number, 0) for number in numbers}


def _name(number: int | str) -> str:
    """What is counted by this number."""
    if isinstance(number, str):
        return number
    if number < FIRST:
        return SUMS[number] if number < len(SUMS) else str(number)
    kind, at = divmod(number - FIRST, WIDTH)
    return f"{KINDS[kind]} in bucket {at}" if kind < len(KINDS) else str(number)


def _subject(connection: Connection, number: int) -> str:
    subjects = schema.subjects.c
    found = connection.execute(sa.select(schema.subjects).where(subjects.id == number)).one_or_none()
    return f"subject {number}" if found is None else " ".join(filter(None, (found.kind, found.name, found.instance)))
