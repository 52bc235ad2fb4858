"""Retention: old receipts and rollups deleted in small steps, and the note of what is gone.

The note is written with the first row that goes, in one transaction, so that no answer counts on what is only half there. How
long anything is kept, and when to ask for the next step, is the caller's affair. Tallies go with the rollups of their level.
Facets stay: rollups refer to them too.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.rollups import DAY
from slmgate.stores.usage import RECEIPTS, kept_since

FORGETTABLE = (RECEIPTS, "minutes", "hours", "days")
"""Months are kept for good: a dozen rows a year for each combination of facets."""


def forget(connection: Connection, what: str, before: int, most: int) -> int:
    """`LedgerStore.forget`, with its time in microseconds since the epoch."""
    if before % DAY or what not in FORGETTABLE:
        raise ValueError("What is deleted is whole days (UTC) of the receipts, minutes, hours or days.")
    if what == RECEIPTS:
        entries = schema.entries.c
        oldest = sa.select(entries.seq).where(entries.time < before).order_by(entries.time).limit(most)
        delete = sa.delete(schema.entries).where(entries.seq.in_(oldest))
    else:
        delete = _oldest(schema.rollups[what], before, most)
    gone = connection.execute(delete).rowcount
    if what != RECEIPTS and gone < most:
        gone += connection.execute(_oldest(schema.tallies[what], before, most - gone)).rowcount
    if what == "days":
        vectors = schema.vectors.c
        connection.execute(sa.delete(schema.vectors).where(vectors.start < before, vectors.until - vectors.start <= DAY))
    known = kept_since(connection).get(what)
    if gone and known is None:
        connection.execute(sa.insert(schema.kept_since).values(level=what, time=before))
    elif gone and known is not None and known < before:
        connection.execute(sa.update(schema.kept_since).where(schema.kept_since.c.level == what).values(time=before))
    return gone


def _oldest(table: sa.Table, before: int, most: int) -> sa.Delete:
    """Delete so many rows of a rollup, or of tallies."""
    start, whose = table.primary_key.columns
    oldest = sa.select(start, whose).where(start < before).order_by(start, whose).limit(most)
    return sa.delete(table).where(sa.tuple_(start, whose).in_(oldest))
