"""Subjects: everything, each model, instance and client; and their tallies, written with the receipts that they are of.

A batch is tallied in memory first, and for each subject one row of each level is read, added to and written back, in the
transaction of the receipts. So tallies and receipts always say the same. What counts how stands in `tallies.py`. It begins and
ends no transaction: whoever does says afterwards whether what was written stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from slmgate.stores import schema
from slmgate.stores.rollups import LEVELS, MINUTE, Spans
from slmgate.stores.statements import positional
from slmgate.stores.tallies import Facts, Tally, decode, encode, facts, histograms, plus

Name = tuple[str, str, str]
"""Of a subject: its kind, the name of the client or the model, and the instance."""
Tallies = dict[tuple[int, int], Tally]
"""Start of a span and number of the subject -> tally."""

ALL: Name = ("all", "", "")
OTHER = "(other)"
"""The model that stands for all that no instance is there for, and for those beyond `MOST_MODELS`: clients make names up."""
MOST_MODELS = 2000
"""Models and instances that are told apart, each."""
MAX_FACETS = 65_536
"""Facets remembered. More of them cost a look into the database, and nothing else."""

_LOOKED_UP = 500
_subjects, _facets, _mapped = schema.subjects.c, schema.facets.c, schema.facet_subjects.c
_FIELDS = ("verdict", "reason", "ended", "status", "principal", "model", "instance", "stream", "estimated", "price")


class SubjectWriter:
    """Adds receipts to the tallies of all levels. Holds the texts of its statements, and facts that it can find again."""

    def __init__(self, engine: Engine, insert: Any) -> None:
        """`insert` is the dialect's own function for an insert that knows conflicts."""
        self._locks = engine.dialect.name != "sqlite"  # where others write at the same time
        self._statements: dict[str, tuple[str, str]] = {}
        for level, table in schema.tallies.items():
            add = insert(table).inline()
            put = add.on_conflict_do_update(index_elements=["start", "subject"], set_={"tally": add.excluded.tally})
            held = add.on_conflict_do_nothing(index_elements=["start", "subject"])
            self._statements[level] = positional(engine, put, table), positional(engine, held, table)
        columns = ["kind", "name", "instance"]
        named = insert(schema.subjects).inline().on_conflict_do_nothing(index_elements=columns)
        self._name = positional(engine, named, schema.subjects, columns)
        mapped = insert(schema.facet_subjects).inline().on_conflict_do_nothing(index_elements=["facet"])
        self._map = positional(engine, mapped, schema.facet_subjects)
        # Only what a committed transaction has written or found. Replaced, never emptied: another thread may be reading it.
        self._known: dict[int, Facts] = {}

    def __repr__(self) -> str:
        return f"<SubjectWriter {len(self._known)} facets known>"

    def add(self, connection: Connection, rows: Sequence[tuple[Any, ...]], spans: Spans) -> dict[int, Facts]:
        """Add these rows of `entries`, none of which was added before, and which come to these sums by minute.

        Returns what was learned of facets, for `remember`.
        """
        numbers = {facet for _, facet in spans}
        missing = numbers - self._known.keys()
        learned = self.learn(connection, missing) if missing else {}
        known = {number: learned.get(number) or self._known[number] for number in numbers}
        found = tallied(rows, spans, known)
        for level in LEVELS:
            found = coarser(found, level.floor)
            self.put(connection, level.name, found)
        return learned

    def remember(self, learned: dict[int, Facts]) -> None:
        """What `add` returned is committed."""
        if learned:
            few = len(self._known) + len(learned) <= MAX_FACETS
            self._known = {**self._known, **learned} if few else learned

    def forget(self) -> None:
        """Something failed: ask the database again."""
        self._known = {}

    def put(self, connection: Connection, level: str, more: Mapping[tuple[int, int], Tally]) -> None:
        """Add tallies to what there is of this level."""
        # in one order, so that two nodes that add to the same rows wait for each other, and not in a circle
        places = sorted(more)
        put, hold = self._statements[level]
        if self._locks and places:
            connection.exec_driver_sql(hold, [(*place, b"\x80") for place in places])
        whole = dict(more)
        for place, tally in _there(connection, schema.tallies[level], places, self._locks):
            added = whole[place] = decode(tally)
            plus(added, more[place])
        if places:
            connection.exec_driver_sql(put, [(*place, encode(whole[place])) for place in places])

    def learn(self, connection: Connection, facets: Collection[int]) -> dict[int, Facts]:
        """Facts of these facets, whose subjects are written where they are not there yet."""
        wanted = sorted(facets)
        for start in range(0, len(wanted), _LOOKED_UP):
            new = [row for row in _facets_of(connection, wanted[start : start + _LOOKED_UP]) if row["facet"] is None]
            if new:
                self._numbers(connection, [ALL])
                self._assign(connection, new)
        return facts_of(connection, wanted)

    def _assign(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Say which subjects these facets are of, and how their receipts count."""
        names = {row["id"]: names_of(row) for row in rows}
        distinct = sorted({name for each in names.values() for name in each if name is not None})
        full = {kind for kind in ("model", "instance") if self._count(connection, kind) >= MOST_MODELS}
        if full:
            there = self._numbers(connection, distinct, add=False)
            others = {name: (name[0], OTHER, "") for name in distinct if name[0] in full and name not in there}
            names = {id: tuple(others.get(name, name) if name else None for name in each) for id, each in names.items()}
            distinct = sorted({name for each in names.values() for name in each if name is not None})
        numbers = self._numbers(connection, distinct)  # none, where all are copies
        counts = {row["id"]: facts(row, ()) for row in rows}
        mapped = [
            (id, *(numbers[name] if name else None for name in each), int(counts[id].admitted), int(counts[id].failed))
            for id, each in sorted(names.items())
        ]
        connection.exec_driver_sql(self._map, mapped)

    def _numbers(self, connection: Connection, names: Sequence[Name], add: bool = True) -> dict[Name, int]:
        if not names:
            return {}
        if add:
            connection.exec_driver_sql(self._name, list(names))
        found: dict[Name, int] = {}
        for start in range(0, len(names), _LOOKED_UP):
            some = names[start : start + _LOOKED_UP]
            place = sa.tuple_(_subjects.kind, _subjects.name, _subjects.instance)
            query = sa.select(_subjects.id, _subjects.kind, _subjects.name, _subjects.instance).where(place.in_(some))
            found.update({(row.kind, row.name, row.instance): row.id for row in connection.execute(query)})
        return found

    def _count(self, connection: Connection, kind: str) -> int:
        query = sa.select(sa.func.count()).select_from(schema.subjects).where(_subjects.kind == kind)
        return int(connection.execute(query).scalar_one())


def facts_of(connection: Connection, facets: Collection[int]) -> dict[int, Facts]:
    """Facts of these facets, as far as they are there."""
    found: dict[int, Facts] = {}
    everything = connection.execute(sa.select(_subjects.id).where(_subjects.kind == "all")).scalar()
    wanted = sorted(facets)
    for start in range(0, len(wanted), _LOOKED_UP):
        for row in _facets_of(connection, wanted[start : start + _LOOKED_UP]):
            parts = (everything, row["model_subject"], row["instance_subject"], row["client"])
            found[row["id"]] = facts(row, tuple(part for part in parts if part is not None))
    return found


def names_of(facet: Mapping[str, Any]) -> tuple[Name | None, ...]:
    """Client, model and instance that receipts of these facets are of; copies are of nobody."""
    if facet["verdict"] == "shadow":
        return (None, None, None)
    model, instance = facet["model"], facet["instance"]
    if facet["verdict"] != "admit" and facet["reason"] == "model_not_found":
        model = OTHER
    return (
        ("client", facet["principal"], ""),
        ("model", model, "") if model else None,
        ("instance", model, instance) if instance else None,
    )


def tallied(rows: Sequence[tuple[Any, ...]], spans: Spans, known: Mapping[int, Facts]) -> Tallies:
    """The tallies by minute of these rows of `entries`, and of the sums by minute that they come to."""
    buckets = histograms(rows, known, MINUTE)
    both = ((place, known[place[1]].of(sums) | buckets.get(place, {})) for place, sums in spans.items())
    return by_subject(both, known)


def by_subject(found: Iterable[tuple[tuple[int, int], Tally]], known: Mapping[int, Facts]) -> Tallies:
    """Tallies by span and facets, each added to those of its subjects."""
    added: Tallies = {}
    for (start, facet), tally in found:
        for subject in known[facet].subjects:
            plus(added.setdefault((start, subject), {}), tally)
    return added


def coarser(tallies: Tallies, floor: Callable[[int], int]) -> Tallies:
    """The same by a coarser level."""
    found: Tallies = {}
    starts = {start: floor(start) for start, _ in tallies}
    for (start, subject), tally in tallies.items():
        place = starts[start], subject
        if place in found:
            plus(found[place], tally)
        else:
            found[place] = dict(tally)
    return found


def _there(
    connection: Connection, table: sa.Table, places: Sequence[tuple[int, int]], lock: bool
) -> Iterable[tuple[tuple[int, int], bytes]]:
    """Those of these rows that there are, held until the end of the transaction where others write too."""
    by_start: dict[int, list[int]] = {}
    for start, subject in places:
        by_start.setdefault(start, []).append(subject)
    for start, subjects in by_start.items():
        for begin in range(0, len(subjects), _LOOKED_UP):
            some = table.c.subject.in_(subjects[begin : begin + _LOOKED_UP])
            query = sa.select(table.c.subject, table.c.tally).where(table.c.start == start, some)
            if lock:
                query = query.order_by(table.c.subject).with_for_update()
            for subject, tally in connection.execute(query):
                yield (start, subject), bytes(tally)


def _facets_of(connection: Connection, ids: Sequence[int]) -> list[Any]:
    fields = [_facets[name] for name in _FIELDS]
    query = sa.select(
        _facets.id,
        *fields,
        _mapped.facet,
        _mapped.client,
        _mapped.model.label("model_subject"),
        _mapped.instance.label("instance_subject"),
    ).join_from(schema.facets, schema.facet_subjects, _mapped.facet == _facets.id, isouter=True)
    return list(connection.execute(query.where(_facets.id.in_(ids))).mappings())
