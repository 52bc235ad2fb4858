"""What analytics ask, of SQLite and PostgreSQL: the tallies of subjects over spans of time, and all clients in order.

Times are cut into whole months, days, hours and minutes, as `usage.py` does it, and what is left is tallied from the receipts.
Every question touches as many rows as it has subjects and spans, however many clients there are; only who asked most is asked of
all of them at once, which `rankings.py` makes cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from heapq import nlargest
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import rankings, schema
from slmgate.stores.covering import cover
from slmgate.stores.filling import of_receipts, of_sums
from slmgate.stores.rankings import Figure
from slmgate.stores.records import LedgerUnavailable
from slmgate.stores.rollups import FIGURES, LEVELS
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.subjects import ALL, Name, facts_of
from slmgate.stores.tallies import HEAD, Tally, decode, minus, plus, requests_of, settled
from slmgate.stores.usage import Piece, kept_since, pieces
from slmgate.stores.verifying import sums_of

_CHUNK = 400  # values in one list of a statement
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
            _read(connection, found, list(map(to_us, cuts)))
            return [found[numbers[name]] if name in numbers else [{} for _ in cuts[1:]] for name in names]

    def counts(self, names: Sequence[Name], cuts: Sequence[datetime]) -> list[list[int]]:
        with self._reading() as connection:
            numbers = _numbers(connection, names)
            found = {number: [0 for _ in cuts[1:]] for number in numbers.values()}
            _count(connection, found, list(map(to_us, cuts)))
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
            names = _numbers(connection, [ALL] if model is None else [ALL, ("model", model, "")])
            everything = names.get(ALL)
            subject = everything if model is None else names.get(("model", model, ""))
            if everything is None or subject is None:
                return [], 0
            wanted: tuple[Figure, ...] = ("requests",) if chosen == "requests" or model is not None else ("requests", chosen)
            lanes, fresh = _added(connection, plan, everything, subject, wanted)
            requests = rankings.values(lanes[0])
            sizes = rankings.values(lanes[-1])
            sizes.extend([0] * (len(requests) - len(sizes)))
            there: Sequence[int]
            if search or figure is None:
                query = sa.select(_subjects.id, _subjects.name).where(_subjects.kind == "client").order_by(_subjects.name)
                part, last = search.lower(), len(requests)
                found = connection.execute(query)
                there = [id for id, name in found if id < last and requests[id] and part in name.lower()]
                if figure is not None:
                    there = sorted(there, key=sizes.__getitem__, reverse=True)
                total = len(there)
                there = there[first : first + most]
            else:
                total = len(requests) - requests.count(0)
                there = _largest(requests, sizes, min(first + most, total))[first:]
            by_number = _named(connection, there)
        self._keep(fresh)
        return [by_number[number] for number in there], total

    def _keep(self, fresh: Sequence[dict[str, Any]]) -> None:
        """Keep vectors for the next time. If it cannot be done now, they are made again."""
        if not fresh:
            return
        add = self._insert(schema.vectors)
        put = add.on_conflict_do_update(
            index_elements=["start", "until", "subject", "figure"],
            set_={"requests": add.excluded.requests, "lanes": add.excluded.lanes},
        )
        try:
            with self._writing() as connection:
                connection.execute(put, list(fresh))
        except LedgerUnavailable:
            pass


def _largest(requests: Sequence[int], sizes: Sequence[int], count: int) -> list[int]:
    """The numbers of the first so many clients, of those that asked anything; of equals the older ones first."""
    everyone = [number for number, asked in enumerate(requests) if asked]
    if count * 20 < len(everyone):
        return nlargest(count, everyone, key=sizes.__getitem__)
    return sorted(everyone, key=sizes.__getitem__, reverse=True)[:count]


def _numbers(connection: Connection, names: Sequence[Name]) -> dict[Name, int]:
    found: dict[Name, int] = {}
    place = sa.tuple_(_subjects.kind, _subjects.name, _subjects.instance)
    for begin in range(0, len(names), _CHUNK):
        query = sa.select(_subjects.id, _subjects.kind, _subjects.name, _subjects.instance)
        for row in connection.execute(query.where(place.in_(list(names[begin : begin + _CHUNK])))):
            found[(row.kind, row.name, row.instance)] = row.id
    return found


def _named(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for begin in range(0, len(numbers), _CHUNK):
        query = sa.select(_subjects.id, _subjects.name).where(_subjects.id.in_(numbers[begin : begin + _CHUNK]))
        found.update({row.id: row.name for row in connection.execute(query)})
    return found


def _starts(piece: Piece) -> list[int]:
    """Where each span of a piece begins."""
    found, start = [], piece.start
    if piece.level is not None:
        while start < piece.end:
            found.append(start)
            start = piece.level.after(start)
    return found


def _clients(names: Sequence[str]) -> list[Name]:
    return [("client", name, "") for name in names]


def _asked(connection: Connection, clients: Collection[int]) -> dict[int, tuple[int, str]]:
    """The facets of these clients' requests for models, with the client and the name of the model."""
    found: dict[int, tuple[int, str]] = {}
    query = sa.select(_mapped.facet, _mapped.client, _subjects.name).join(schema.subjects, _subjects.id == _mapped.model)
    wanted = sorted(clients)
    for begin in range(0, len(wanted), _CHUNK):
        rows = connection.execute(query.where(_mapped.client.in_(wanted[begin : begin + _CHUNK])))
        found.update({facet: (client, model) for facet, client, model in rows})
    return found


Places = dict[int, list[tuple[int, int]]]
"""Start of a span -> between which two cuts it counts, and as what: 1, or -1 where it is taken away."""


class _Plan:
    """What is to be read for tallies between these cuts. Rows that two times have in common are in it once."""

    def __init__(self, connection: Connection, cuts: Sequence[int]) -> None:
        kept = kept_since(connection)
        self.levels: dict[str, Places] = {level.name: {} for level in LEVELS}
        self.receipts: dict[Piece, list[tuple[int, int]]] = {}
        self.taken: set[int] = set()
        for place, (start, end) in enumerate(pairwise(cuts)):
            for piece, sign in cover(LEVELS, start, end, kept):
                if piece.level is None:
                    self.receipts.setdefault(piece, []).append((place, sign))
                else:
                    spans = self.levels[piece.level.name]
                    for at in _starts(piece):
                        spans.setdefault(at, []).append((place, sign))
                if sign < 0:
                    self.taken.add(place)

    def rows(self, connection: Connection, subjects: Sequence[int]) -> Iterator[tuple[str, int, int, bytes]]:
        """Level, start, subject and tally of all rows that there are."""
        for level, spans in self.levels.items():
            for start, subject, tally in _rows(connection, level, list(spans), subjects, lambda tally: tally):
                yield level, start, subject, tally

    def counts(self, connection: Connection, subjects: Sequence[int]) -> Iterator[tuple[str, int, int, int]]:
        """The same with the number of requests instead of the tally."""
        for level, spans in self.levels.items():
            for start, subject, count in _requests(connection, level, list(spans), subjects):
                yield level, start, subject, count


def _rows(
    connection: Connection, level: str, starts: Sequence[int], subjects: Sequence[int], of: Callable[[Any], Any]
) -> Iterator[tuple[int, int, bytes]]:
    """Start, subject, and what `of` makes of the tally, of all rows of a level that there are."""
    table = schema.tallies[level].c
    for begin in range(0, len(starts), _CHUNK):
        for first in range(0, len(subjects), _CHUNK):
            some, whose = starts[begin : begin + _CHUNK], subjects[first : first + _CHUNK]
            query = sa.select(table.start, table.subject, of(table.tally)).where(table.start.in_(some), table.subject.in_(whose))
            for row in connection.execute(query):
                yield row[0], row[1], row[2]


def _requests(
    connection: Connection, level: str, starts: Sequence[int], subjects: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """Start, subject and number of requests of all rows of a level that there are."""
    odd: tuple[dict[int, None], dict[int, None]] = ({}, {})
    places: set[tuple[int, int]] = set()
    for start, subject, head in _rows(connection, level, starts, subjects, lambda tally: sa.func.substr(tally, 1, HEAD)):
        count = requests_of(head)
        if count is not None:
            yield start, subject, count
            continue
        places.add((start, subject))
        odd[0][start] = odd[1][subject] = None
    if places:  # tallies that begin with something else
        for start, subject, tally in _rows(connection, level, list(odd[0]), list(odd[1]), lambda tally: tally):
            if (start, subject) in places:
                yield start, subject, decode(tally).get(0, 0)


def _read(connection: Connection, into: Mapping[int, list[Tally]], cuts: Sequence[int]) -> None:
    """Add what there is of each subject to its tallies between these cuts."""
    plan = _Plan(connection, cuts)
    for piece, places in plan.receipts.items():
        for subject, tally in _from_receipts(connection, piece):
            if subject in into:
                for place, sign in places:
                    (plus if sign > 0 else minus)(into[subject][place], tally)
    for level, start, subject, packed in plan.rows(connection, list(into)):
        found = decode(packed)
        for place, sign in plan.levels[level][start]:
            (plus if sign > 0 else minus)(into[subject][place], found)
    for tallies in into.values():
        for place in plan.taken:
            tallies[place] = settled(tallies[place])


def _count(connection: Connection, into: Mapping[int, list[int]], cuts: Sequence[int]) -> None:
    """Add how many requests each subject has to its counts between these cuts."""
    plan = _Plan(connection, cuts)
    for piece, places in plan.receipts.items():
        sums = sums_of(connection, piece.start, piece.end)
        for (_, subject), tally in of_sums(sums, facts_of(connection, {facet for _, facet in sums})).items():
            if subject in into:
                for place, sign in places:
                    into[subject][place] += sign * tally.get(0, 0)
    for level, start, subject, count in plan.counts(connection, list(into)):
        for place, sign in plan.levels[level][start]:
            into[subject][place] += sign * count


def _from_receipts(connection: Connection, piece: Piece) -> Iterator[tuple[int, Tally]]:
    """The tallies of a piece of which no rollup is kept, or which is less than a minute long."""
    sums = sums_of(connection, piece.start, piece.end)
    known = facts_of(connection, {facet for _, facet in sums})
    for found in (of_sums(sums, known), of_receipts(connection, piece.start, piece.end, known)):
        for (_, subject), tally in found.items():
            yield subject, tally


def _sums(connection: Connection, piece: Piece, facets: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The sums of these facets in a piece, in the order of `FIGURES`."""
    if piece.level is None:
        wanted = set(facets)
        for (_, facet), sums in sums_of(connection, piece.start, piece.end).items():
            if facet in wanted:
                yield facet, sums
        return
    columns, starts = piece.level.table.c, _starts(piece)
    for begin in range(0, len(starts), _CHUNK):
        for first in range(0, len(facets), _CHUNK):
            query = sa.select(columns.facet, *(sa.func.sum(columns[name]) for name in FIGURES)).where(
                columns.start.in_(starts[begin : begin + _CHUNK]), columns.facet.in_(facets[first : first + _CHUNK])
            )
            for row in connection.execute(query.group_by(columns.facet)):
                yield row[0], tuple(map(int, row[1:]))


def _added(
    connection: Connection, plan: Sequence[Piece], everything: int, subject: int, figures: Sequence[Figure]
) -> tuple[list[int], list[dict[str, Any]]]:
    """The lanes of each figure over all pieces, and the vectors that were made for it and may be kept."""
    lanes, fresh = [0] * len(figures), []
    asked = rankings.spans(plan)
    known = [(start, end) for level, start, end in asked if rankings.kept(level)]
    counts: dict[int, int] = {}
    for level in rankings.KEPT:
        starts = [start for each, start, _ in asked if each == level]
        counts.update({start: count for start, _, count in _requests(connection, level, starts, [subject])})
    stored = [rankings.stored(connection, known, subject, figure) for figure in figures]
    for level, start, end in asked:
        count = counts.get(start, 0)
        if rankings.kept(level) and not count:
            continue
        there = [each.get(start) for each in stored]
        if rankings.kept(level) and there[0] is not None and there[0][0] == count:
            for place, each in enumerate(there):
                if each is not None and each[0] == count:
                    lanes[place] += rankings.unpacked(each[1])
            continue
        made = rankings.made(connection, level, start, end, everything)
        for place, figure in enumerate(figures):
            lanes[place] += made.get((subject, figure), (0, 0))[1]
        if rankings.kept(level):
            fresh += [
                {
                    "start": start, "until": end, "subject": whose, "figure": figure, "requests": requests,
                    "lanes": rankings.packed(vector),
                }
                for (whose, figure), (requests, vector) in made.items()
            ]  # fmt: skip
    return lanes, fresh
