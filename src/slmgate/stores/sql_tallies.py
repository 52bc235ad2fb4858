"""What analytics ask, of SQLite and PostgreSQL: the tallies of subjects over spans of time, and all clients in order.

Times are cut into whole months, days, hours and minutes, as `usage.py` does it, and what is left is tallied from the receipts.
Every question touches as many rows as it has subjects and spans, however many clients there are; only who asked most is asked of
all of them at once, which `rankings.py` makes cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from heapq import nlargest, nsmallest
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import rankings, schema
from slmgate.stores.rankings import Figure
from slmgate.stores.records import LedgerUnavailable
from slmgate.stores.rollups import FIGURES, LEVELS
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.statements import fetched
from slmgate.stores.subjects import ALL, Name, facts_of
from slmgate.stores.tallies import Tally, plus
from slmgate.stores.tally_rows import CHUNK, count, read, starts_of
from slmgate.stores.usage import Piece, kept_since, pieces
from slmgate.stores.verifying import sums_of

_SOME = 2000  # names read in one go
_subjects, _mapped, _facets = schema.subjects.c, schema.facet_subjects.c, schema.facets.c

Opened = Callable[[], AbstractContextManager[Connection]]


class SqlTallies:
    """`TallyStore` over connections that the store opens."""

    def __init__(self, reading: Opened, writing: Opened, insert: Any) -> None:
        self._reading = reading
        self._writing = writing
        self._insert = insert

    def subjects(self, kind: str, name: str | None = None) -> list[Name]:
        with self._reading() as connection:
            query = sa.select(_subjects.kind, _subjects.name, _subjects.instance).where(_subjects.kind == kind)
            if name is not None:
                query = query.where(_subjects.name == name)
            query = query.order_by(_subjects.name, _subjects.instance)
            return [(row.kind, row.name, row.instance) for row in connection.execute(query)]

    def read(self, names: Sequence[Name], cuts: Sequence[datetime]) -> list[list[Tally]]:
        with self._reading() as connection:
            numbers = _numbers(connection, names)
            found: dict[int, list[Tally]] = {number: [{} for _ in cuts[1:]] for number in numbers.values()}
            read(connection, found, list(map(to_us, cuts)))
            return [found[numbers[name]] if name in numbers else [{} for _ in cuts[1:]] for name in names]

    def counts(self, names: Sequence[Name], cuts: Sequence[datetime]) -> list[list[int]]:
        with self._reading() as connection:
            numbers = _numbers(connection, names)
            found = {number: [0 for _ in cuts[1:]] for number in numbers.values()}
            count(connection, found, list(map(to_us, cuts)))
            return [found[numbers[name]] if name in numbers else [0 for _ in cuts[1:]] for name in names]

    def since(self, since: datetime, until: datetime) -> datetime:
        with self._reading() as connection:
            plan = pieces(LEVELS, to_us(since), to_us(until), kept_since(connection))
        return from_us(plan[0].start) if plan else until

    def models_of(self, clients: Sequence[str], since: datetime, until: datetime) -> Mapping[str, Mapping[str, Tally]]:
        with self._reading() as connection:
            names = {number: name for (_, name, _), number in _numbers(connection, _clients(clients)).items()}
            places = _asked(connection, names)
            known = facts_of(connection, places)
            found: dict[str, dict[str, Tally]] = {}
            for piece in pieces(LEVELS, to_us(since), to_us(until), kept_since(connection)):
                for facet, sums in _sums(connection, piece, list(places)):
                    client, model = places[facet]
                    plus(found.setdefault(names[client], {}).setdefault(model, {}), known[facet].of(sums))
            return found

    def clients(
        self,
        figure: Figure | None,
        since: datetime,
        until: datetime,
        first: int,
        most: int,
        search: str = "",
        model: str | None = None,
    ) -> tuple[list[str], int]:
        chosen: Figure = figure or "requests"
        with self._reading() as connection:
            plan = pieces(LEVELS, to_us(since), to_us(until), kept_since(connection))
            numbered = _numbers(connection, [ALL] if model is None else [ALL, ("model", model, "")])
            everything = numbered.get(ALL)
            subject = everything if model is None else numbered.get(("model", model, ""))
            if everything is None or subject is None:
                return [], 0
            wanted: tuple[Figure, ...] = ("requests",) if chosen == "requests" or model is not None else ("requests", chosen)
            found, fresh = rankings.sizes(connection, plan, everything, subject, wanted)
            requests, sizes = found[0], found[-1]
            total = len(requests) - requests.count(0)
            if figure is None and not search:
                first = _on_a_page(first, most, total)
                names = _by_name(connection, requests, first, most)
            elif search:
                there = [(number, name) for number, name in _searched(connection, search.lower()) if requests[number]]
                if figure is not None:
                    there.sort(key=lambda each: sizes[each[0]], reverse=True)
                total = len(there)
                first = _on_a_page(first, most, total)
                names = [name for _, name in there[first : first + most]]
            else:
                first = _on_a_page(first, most, total)
                numbers = _in_order(requests, sizes, first, min(first + most, total))
                by_number = _named(connection, numbers)
                names = [by_number[number] for number in numbers]
        self._keep(fresh)
        return names, total

    def prepare(self, since: datetime, until: datetime) -> bool:
        with self._reading() as connection:
            everything = _numbers(connection, [ALL]).get(ALL)
            span = None if everything is None else rankings.missing(connection, to_us(since), to_us(until), everything)
            if everything is None or span is None:
                return False
            rows = rankings.made(connection, *span, everything)
        return self._keep(rows)

    def _keep(self, fresh: Sequence[dict[str, Any]]) -> bool:
        """Keep vectors for the next time. If it cannot be done now, they are made again."""
        if not fresh:
            return False
        add = self._insert(schema.vectors)
        put = add.on_conflict_do_update(
            index_elements=["start", "until", "subject", "figure"],
            set_={"requests": add.excluded.requests, "lanes": add.excluded.lanes},
        )
        try:
            with self._writing() as connection:
                connection.execute(put, list(fresh))
        except LedgerUnavailable:
            return False
        return True


def _on_a_page(first: int, most: int, total: int) -> int:
    """The same place, or where the last page begins."""
    return first if first < total else max(0, total - 1) // most * most


def _by_name(connection: Connection, requests: Sequence[int], first: int, most: int) -> list[str]:
    """So many names from this place on, of those that asked anything; no more are read than it takes."""
    result = connection.execute(_every_client())
    found: list[str] = []
    while len(found) < first + most and (some := fetched(result, _SOME)):
        found += [name for number, name in some if requests[number]]
    result.close()
    return found[first : first + most]


def _searched(connection: Connection, part: str) -> list[tuple[int, str]]:
    """Numbers and names, in their order, of clients in whose name this is, which is in lower case already.

    The database may leave out names that surely do not have it; what lower case is, is said here alone.
    """
    if connection.dialect.name == "postgresql":
        wide = sa.func.octet_length(_subjects.name) != sa.func.length(_subjects.name)
        low: Any = sa.func.lower(sa.collate(_subjects.name, "C"))
    else:
        wide = sa.func.length(sa.cast(_subjects.name, sa.LargeBinary)) != sa.func.length(_subjects.name)
        low = sa.func.lower(_subjects.name)
    likely = sa.or_(wide, low.contains(part, autoescape=True)) if part.isascii() else wide
    rows = fetched(connection.execute(_every_client().where(likely)))
    return [(number, name) for number, name in rows if part in name.lower()]


def _every_client() -> sa.Select[Any]:
    return sa.select(_subjects.id, _subjects.name).where(_subjects.kind == "client").order_by(_subjects.name)


def _in_order(requests: Sequence[int], sizes: Sequence[int], first: int, last: int) -> list[int]:
    """The numbers of the clients from one place to another, of those that asked anything; of equals the older ones first."""
    everyone = [number for number, asked in enumerate(requests) if asked]
    few, rest = len(everyone) // 20, len(everyone) - first
    if last <= few:
        return nlargest(last, everyone, key=sizes.__getitem__)[first:]
    if rest <= few:
        everyone.reverse()
        return nsmallest(rest, everyone, key=sizes.__getitem__)[::-1][: last - first]
    return sorted(everyone, key=sizes.__getitem__, reverse=True)[first:last]


def _numbers(connection: Connection, names: Sequence[Name]) -> dict[Name, int]:
    found: dict[Name, int] = {}
    place = sa.tuple_(_subjects.kind, _subjects.name, _subjects.instance)
    for begin in range(0, len(names), CHUNK):
        query = sa.select(_subjects.id, _subjects.kind, _subjects.name, _subjects.instance)
        for row in connection.execute(query.where(place.in_(list(names[begin : begin + CHUNK])))):
            found[(row.kind, row.name, row.instance)] = row.id
    return found


def _named(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for begin in range(0, len(numbers), CHUNK):
        query = sa.select(_subjects.id, _subjects.name).where(_subjects.id.in_(numbers[begin : begin + CHUNK]))
        found.update({row.id: row.name for row in connection.execute(query)})
    return found


def _clients(names: Sequence[str]) -> list[Name]:
    return [("client", name, "") for name in names]


def _asked(connection: Connection, clients: Collection[int]) -> dict[int, tuple[int, str]]:
    """The facets of these clients' requests for models, with the client and the name of the model."""
    found: dict[int, tuple[int, str]] = {}
    query = sa.select(_mapped.facet, _mapped.client, _subjects.name).join(schema.subjects, _subjects.id == _mapped.model)
    wanted = sorted(clients)
    for begin in range(0, len(wanted), CHUNK):
        rows = connection.execute(query.where(_mapped.client.in_(wanted[begin : begin + CHUNK])))
        found.update({facet: (client, model) for facet, client, model in rows})
    return found


def _sums(connection: Connection, piece: Piece, facets: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The sums of these facets in a piece, in the order of `FIGURES`."""
    if piece.level is None:
        wanted = set(facets)
        for (_, facet), sums in sums_of(connection, piece.start, piece.end).items():
            if facet in wanted:
                yield facet, sums
        return
    columns, starts = piece.level.table.c, starts_of(piece)
    for begin in range(0, len(starts), CHUNK):
        for first in range(0, len(facets), CHUNK):
            query = sa.select(columns.facet, *(sa.func.sum(columns[name]) for name in FIGURES)).where(
                columns.start.in_(starts[begin : begin + CHUNK]), columns.facet.in_(facets[first : first + CHUNK])
            )
            for row in connection.execute(query.group_by(columns.facet)):
                yield row[0], tuple(map(int, row[1:]))
