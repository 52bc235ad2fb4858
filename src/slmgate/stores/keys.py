"""Clients' keys as rows: found by id or name, listed in pages, written by the thousand, with when each was last used.

No call reads all keys into memory, however many there are. It begins and ends no transaction, and the exceptions of the driver
that mean "taken" become this room's own here; what else goes wrong is `sql.py`'s to translate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.engine import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from slmgate.stores import schema
from slmgate.stores.records import KeyFilter, KeyRecord, KeySecret, KeyUse, NameTaken, SecretTaken
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.statements import positional, repeated
from slmgate.terms import Key, LimitSpec

_ASKED = 500  # values in one question; databases bound a statement's parameters
_ROWS = 100  # uses in one statement
_STREAMED = 1000  # rows that the driver fetches ahead
_keys = schema.keys.c
_secrets = schema.key_secrets.c
_uses = schema.key_uses.c
_ALL = sa.select(schema.keys, _uses.time.label("used_time"), _uses.address.label("used_address")).outerjoin(
    schema.key_uses, _uses.key == _keys.id
)
_LIVE = """
SELECT k.id, k.name, k.team, CAST(k.roles AS TEXT), CAST(k.networks AS TEXT), CAST(k.limits AS TEXT), k.disabled, k.expires,
s.digest, s.until
FROM keys AS k JOIN key_secrets AS s ON s.key_id = k.id WHERE k.revoked IS NULL ORDER BY k.created, k.id, s.created
"""
_FORGET_SECRETS = sa.delete(schema.key_secrets).where(_secrets.key_id == sa.bindparam("whose"))


_read_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_read_limits = msgspec.json.Decoder(tuple[LimitSpec, ...]).decode


class SavedKeys:
    """Keys as rows of the two tables, in the order of their columns: made before a transaction, which others wait for, begins."""

    def __init__(self, records: Sequence[KeyRecord]) -> None:
        write = msgspec.json.Encoder().encode
        self.keys = [
            (
                record.id,
                record.name,
                record.team,
                write(record.roles).decode(),
                record.disabled,
                to_us(record.created),
                _optional_us(record.expires),
                _optional_us(record.revoked),
                record.owner,
                write(record.tags).decode(),
                write(record.networks).decode(),
                write(record.limits).decode(),
            )
            for record in records
        ]
        self.secrets = [
            (one.digest, record.id, to_us(one.created), _optional_us(one.until)) for record in records for one in record.secrets
        ]


class KeyRows:
    """The statements on keys of one kind of database. `insert` is its dialect's own function, which knows conflicts."""

    def __init__(self, engine: Engine, insert: Any) -> None:
        self._elements = sa.func.json_each if engine.dialect.name == "sqlite" else sa.func.json_array_elements_text
        put = insert(schema.keys).inline()
        others = {column.name: column for column in put.excluded if column.name != "id"}
        self._put = positional(engine, put.on_conflict_do_update(index_elements=["id"], set_=others), schema.keys)
        self._add_secret = positional(engine, insert(schema.key_secrets).inline(), schema.key_secrets)
        use = insert(schema.key_uses).inline()
        newest = {"time": use.excluded.time, "address": use.excluded.address}
        newer = use.on_conflict_do_update(index_elements=["key"], set_=newest, where=use.excluded.time > _uses.time)
        self._use = positional(engine, newer, schema.key_uses)
        self._uses = repeated(self._use, _ROWS)

    # -- reading

    def find(self, connection: Connection, key: str) -> KeyRecord | None:
        """By id; else by name, the live one before those that were, the newest of these."""
        row = connection.execute(_ALL.where(_keys.id == key)).first()
        if row is None:
            live_first = (_keys.revoked.is_not(None), _keys.created.desc(), _keys.id.desc())
            row = connection.execute(_ALL.where(_keys.name == key).order_by(*live_first).limit(1)).first()
        return None if row is None else next(_records(connection, [row]))

    def page(self, connection: Connection, which: KeyFilter, limit: int, after: str | None) -> list[KeyRecord]:
        query = _ALL.where(*self._conditions(which)).order_by(_keys.created, _keys.id).limit(limit)
        if after is not None:
            created = connection.execute(sa.select(_keys.created).where(_keys.id == after)).scalar()
            if created is None:
                return []
            query = query.where(sa.tuple_(_keys.created, _keys.id) > sa.tuple_(sa.literal(created), sa.literal(after)))
        return list(_records(connection, connection.execute(query).all()))

    def members(self, connection: Connection) -> dict[str, int]:
        """Team -> how many live keys it has."""
        query = (
            sa.select(_keys.team, sa.func.count()).where(_keys.revoked.is_(None), _keys.team.is_not(None)).group_by(_keys.team)
        )
        return {row[0]: row[1] for row in connection.execute(query)}

    def live(self, connection: Connection) -> Iterator[Key]:
        """A row for each secret; those of one key follow each other. The shortest way, since a start waits for it."""
        last: Key | None = None
        rows = connection.execution_options(yield_per=_STREAMED).exec_driver_sql(_LIVE)
        for id, name, team, roles, networks, limits, disabled, expires, digest, until in rows:
            opened = (bytes(digest), None if until is None else until / 1e6)
            if last is not None:
                if last.id == id:
                    last = structs.replace(last, digests=(*last.digests, opened))
                    continue
                yield last
            last = Key(
                id=id,
                name=name,
                team=team,
                roles=_texts(roles),
                networks=_texts(networks),
                limits=_limits(limits),
                disabled=bool(disabled),
                expires=None if expires is None else expires / 1e6,
                digests=(opened,),
            )
        if last is not None:
            yield last

    def use(self, connection: Connection, id: str) -> KeyUse | None:
        row = connection.execute(sa.select(schema.key_uses).where(_uses.key == id)).first()
        return None if row is None else KeyUse(from_us(row.time), row.address)

    def taken(self, connection: Connection, records: Sequence[KeyRecord]) -> list[tuple[int, str, str]]:
        names = {record.name: place for place, record in enumerate(records)}
        digests = {one.digest: place for place, record in enumerate(records) for one in record.secrets}
        asked: tuple[tuple[str, dict[Any, int], sa.Select[Any], sa.ColumnElement[Any]], ...] = (
            ("id", {record.id: place for place, record in enumerate(records)}, sa.select(_keys.id, _keys.id), _keys.id),
            ("name", names, sa.select(_keys.id, _keys.name).where(_keys.revoked.is_(None)), _keys.name),
            ("secret", digests, sa.select(_secrets.key_id, _secrets.digest), _secrets.digest),
        )
        found: list[tuple[int, str, str]] = []
        for what, places, query, column in asked:
            for some in _slices(list(places)):
                for id, value in connection.execute(query.where(column.in_(some))):
                    found.append((places[value], what, id))
        return sorted(found)

    def _conditions(self, which: KeyFilter) -> Iterator[sa.ColumnElement[bool]]:
        for column, value in ((_keys.owner, which.owner), (_keys.team, which.team)):
            if value is not None:
                yield column == value
        for column, value in ((_keys.roles, which.role), (_keys.tags, which.tag)):
            if value is not None:
                elements = self._elements(column).table_valued("value")
                yield sa.exists(sa.select(sa.literal(1)).select_from(elements).where(elements.c.value == value))
        if which.search is not None:
            yield sa.or_(
                *(one.icontains(which.search, autoescape=True) for one in (_keys.id, _keys.name, _keys.owner, _keys.team))
            )
        if which.state is not None:
            now = to_us(which.now) if which.now is not None else 0
            ended = sa.and_(_keys.expires.is_not(None), _keys.expires <= now)
            live = _keys.revoked.is_(None)
            yield {
                "revoked": ~live,
                "disabled": sa.and_(live, _keys.disabled),
                "expired": sa.and_(live, ~_keys.disabled, ended),
                "active": sa.and_(live, ~_keys.disabled, ~ended),
            }[which.state]

    # -- writing

    def save(self, connection: Connection, rows: SavedKeys) -> None:
        """Raises NameTaken, SecretTaken; the transaction is to be given up then."""
        try:
            connection.exec_driver_sql(self._put, rows.keys)
        except IntegrityError as error:
            name = f"named {rows.keys[0][1]!r}" if len(rows.keys) == 1 else "with the name of one of these"
            raise NameTaken(f"There is a key {name}; choose another name, or rotate that one.") from error
        connection.execute(_FORGET_SECRETS, [{"whose": row[0]} for row in rows.keys])
        try:
            if rows.secrets:
                connection.exec_driver_sql(self._add_secret, rows.secrets)
        except IntegrityError as error:
            raise SecretTaken("Another key has the same secret; each key needs its own.") from error

    def note_uses(self, connection: Connection, used: Mapping[str, KeyUse]) -> None:
        # in one order, so that two nodes that note the same keys wait for each other, and not in a circle
        rows = [(key, to_us(used[key].time), used[key].address) for key in sorted(used)]
        whole = len(rows) - len(rows) % _ROWS
        for start in range(0, whole, _ROWS):
            connection.exec_driver_sql(self._uses, tuple(chain.from_iterable(rows[start : start + _ROWS])))
        if whole < len(rows):
            connection.exec_driver_sql(self._use, rows[whole:])


def _records(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[KeyRecord]:
    secrets: dict[str, list[KeySecret]] = {}
    for ids in _slices([row.id for row in rows]):
        query = sa.select(schema.key_secrets).where(_secrets.key_id.in_(ids)).order_by(_secrets.created)
        for row in connection.execute(query):
            secret = KeySecret(bytes(row.digest), from_us(row.created), _optional_time(row.until))
            secrets.setdefault(row.key_id, []).append(secret)
    for row in rows:
        used = None if row.used_time is None else KeyUse(from_us(row.used_time), row.used_address)
        yield _record(row, tuple(secrets.get(row.id, ())), used)


def _record(row: Row[Any], secrets: tuple[KeySecret, ...], used: KeyUse | None) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        name=row.name,
        created=from_us(row.created),
        owner=row.owner,
        team=row.team,
        roles=tuple(row.roles),
        tags=tuple(row.tags),
        networks=tuple(row.networks),
        limits=msgspec.convert(row.limits, tuple[LimitSpec, ...]),
        disabled=row.disabled,
        expires=_optional_time(row.expires),
        revoked=_optional_time(row.revoked),
        secrets=secrets,
        used=used,
    )


@lru_cache(maxsize=1024)
def _texts(json: str) -> tuple[str, ...]:
    """A list in JSON, of which there are far fewer than keys."""
    return _read_texts(json)


@lru_cache(maxsize=1024)
def _limits(json: str) -> tuple[LimitSpec, ...]:
    """The same for limits, so that keys with equal ones share them."""
    return _read_limits(json)


def _slices(values: list[Any]) -> Iterable[list[Any]]:
    return (values[start : start + _ASKED] for start in range(0, len(values), _ASKED))


def _optional_us(time: datetime | None) -> int | None:
    return None if time is None else to_us(time)


def _optional_time(value: int | None) -> datetime | None:
    return None if value is None else from_us(value)
