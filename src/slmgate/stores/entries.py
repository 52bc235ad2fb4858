"""Receipts as rows: what many share once in `facets`, what is a receipt's own in `entries`, in few and large statements.

Holds the statements that run for every receipt, compiled once, and a bounded memory of facets that are known to be in
the database. It begins and ends no transaction: whoever does says afterwards whether what was written stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from itertools import chain, repeat
from operator import floordiv, sub
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from slmgate.stores import schema
from slmgate.stores.parted import Facet, Parted
from slmgate.stores.schema import EPOCH, MICROSECOND
from slmgate.stores.statements import positional, repeated

ROWS = 100
"""Receipts in one statement: one statement for each receipt would cost half as much again."""
MAX_FACETS = 16_384
"""Facets remembered, about a kilobyte each. More of them cost a look into the database, and nothing else."""

_LOOKED_UP = 500  # facets in one question; databases bound a statement's parameters
_BIGGEST = 2**63 - 1
_ENTRY = [column.name for column in schema.entries.columns if column.name != "seq"]
_FACET = [column.name for column in schema.facets.columns if column.name != "id"]


class Repeats(Exception):
    """Some of the receipts are in the ledger already, or twice among these: nothing may be kept of what was written."""


class EntryWriter:
    """Writes receipts in their two parts. From several threads at once only with a connection each."""

    def __init__(self, engine: Engine, insert: Any) -> None:
        """`insert` is the dialect's own function for an insert that knows conflicts."""
        self._one = _compiled(engine, insert, schema.entries, _ENTRY, "id")
        self._many = repeated(self._one, ROWS)
        self._add_facet = _compiled(engine, insert, schema.facets, _FACET, "digest")
        # Only what a committed transaction has written or found. Replaced, never emptied: another thread may be reading it.
        self._known: dict[Facet, int] = {}

    def __repr__(self) -> str:
        return f"<EntryWriter {len(self._known)} facets known>"

    def sift(self, connection: Connection, receipts: Parted) -> Parted:
        """Those whose id is not there yet, and each only once: the first."""
        ids = [own[0] for own in receipts.own]
        first = {id: place for place, id in reversed(list(enumerate(ids)))}
        for id in known(connection, list(first)):
            del first[id]
        return receipts.only(first.get(id) == place for place, id in enumerate(ids))

    def write(self, connection: Connection, receipts: Parted) -> tuple[list[tuple[Any, ...]], dict[Facet, int]]:
        """Insert receipts; returns the rows of `entries`, and the facets met for the first time, for `remember`.

        Raises Repeats: which are new is what `sift` finds out.
        """
        shared = receipts.facets
        facets: list[int | None] = list(map(self._known.get, shared))
        learned: dict[Facet, int] = {}
        if None in facets:
            learned = _learn(
                connection, self._add_facet, {one for one, known in zip(shared, facets, strict=True) if known is None}
            )
            facets = [learned[one] if known is None else known for one, known in zip(shared, facets, strict=True)]
        times = map(floordiv, map(sub, [own[2] for own in receipts.own], repeat(EPOCH)), repeat(MICROSECOND))
        rows = [
            (own[0], "" if own[1] == own[0] else own[1], time, facet) + own[3:]  # noqa: RUF005  # in two thirds of the time
            for own, time, facet in zip(receipts.own, times, facets, strict=True)
        ]
        written, whole = 0, len(rows) - len(rows) % ROWS
        for start in range(0, whole, ROWS):
            written += connection.exec_driver_sql(self._many, tuple(chain.from_iterable(rows[start : start + ROWS]))).rowcount
        if whole < len(rows):
            written += connection.exec_driver_sql(self._one, rows[whole:]).rowcount
        if written != len(rows):
            raise Repeats
        return rows, learned

    def remember(self, learned: dict[Facet, int]) -> None:
        """What `write` returned is committed."""
        if len(self._known) + len(learned) > MAX_FACETS:
            self._known = {}
        self._known.update(learned)

    def forget(self) -> None:
        """Something failed: ask the database again."""
        self._known = {}


def known(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of these ids that are in the ledger."""
    found: set[str] = set()
    for start in range(0, len(ids), _LOOKED_UP):
        wanted = schema.entries.c.id.in_(ids[start : start + _LOOKED_UP])
        found.update(connection.execute(sa.select(schema.entries.c.id).where(wanted)).scalars())
    return found


def storable(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values with what no database holds bent to what it does: integers of 64 bits, text without NUL."""
    return tuple(
        value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if isinstance(value, str)
        else max(-_BIGGEST, min(_BIGGEST, value))
        if isinstance(value, int) and not isinstance(value, bool)
        else value
        for value in values
    )


def _learn(connection: Connection, add: str, facets: Collection[Facet]) -> dict[Facet, int]:
    """The numbers of these facets, which are added where they are not there yet."""
    digests = {sha256(msgspec.json.encode(facet)).digest(): facet for facet in facets}
    ordered = sorted(digests)  # so that two nodes that add the same ones wait for each other, and not in a circle
    connection.exec_driver_sql(add, [(digest, *digests[digest]) for digest in ordered])
    found: dict[Facet, int] = {}
    for start in range(0, len(ordered), _LOOKED_UP):
        wanted = schema.facets.c.digest.in_(ordered[start : start + _LOOKED_UP])
        for id, digest in connection.execute(sa.select(schema.facets.c.id, schema.facets.c.digest).where(wanted)):
            found[digests[bytes(digest)]] = id
    return found


def _compiled(engine: Engine, insert: Any, table: sa.Table, columns: list[str], unique: str) -> str:
    """The text of an insert that takes a row by position, and leaves alone what is there already."""
    return positional(engine, insert(table).inline().on_conflict_do_nothing(index_elements=[unique]), table, columns)
