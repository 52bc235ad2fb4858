"""Retention: old receipts and rollups deleted in small steps, and the note of what is gone.

The note is written with the first row that goes, in one transaction, so that no answer counts on what is only half there. How
long anything is kept, and when to ask for the next step, is the caller's affair. Facets stay: rollups refer to them too.
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
        table = schema.rollups[what]
        oldest = sa.select(table.c.start, table.c.facet).where(table.c.start < before)
        place = sa.tuple_(table.c.start, table.c.facet)
        delete = sa.delete(table).where(place.in_(oldest.order_by(table.c.start, table.c.facet).limit(most)))
    gone = connection.execute(delete).rowcount
    known = kept_since(connection).get(what)
    if gone and known is None:
        connection.execute(sa.insert(schema.kept_since).values(level=what, time=before))
    elif gone and known is not None and known < before:
        connection.execute(sa.update(schema.kept_since).where(schema.kept_since.c.level == what).values(time=before))
    return gone
