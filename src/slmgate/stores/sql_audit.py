"""The audit log in SQL: the one place where a row is added, read and verified, on the connections that `sql.py` lends.

Rows are added within the transaction of the change that they tell of, behind a lock that lets one writer at a time see the newest
row, so that the chain never forks. What makes it a chain is `sealing.py`'s. This module begins and ends no transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.records import AuditFilter, AuditRecord, AuditVerdict, LedgerUnavailable
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.sealing import HEAD_FILE, START, DamagedNote, Head, Note, SealKey, make_key, read_head, read_key, seal

_PAGE = 1000
_LOCK = "SELECT pg_advisory_xact_lock(7369644)"
_audit = schema.audit.c
_INSERT = sa.insert(schema.audit).inline()
_NEWEST = sa.select(_audit.id, _audit.seal).order_by(_audit.id.desc()).limit(1)
# Without the columns' types, which would stumble over a value that somebody has put in by force.
_RAW = "SELECT id, previous, seal, time, actor, action, target, address, detail FROM audit"
_TYPES = (int, str, str, str, str, str)
_ADDED = "slmgate audit"
"""Under this name a connection keeps what its transaction has added, until it is committed."""


class SqlAudit:
    """The audit log of one store."""

    def __init__(self, home: Path | None) -> None:
        """`home`: the directory of the key and the note. None: seals without a key, and no note."""
        self._home = home
        self._note = None if home is None else Note(home / HEAD_FILE)
        self._key = SealKey(b"", 1)

    def __repr__(self) -> str:
        return f"<SqlAudit {self._key}>"

    @property
    def has_key(self) -> bool:
        """Whether rows can be sealed; see `take_key`."""
        return self._home is None or bool(self._key.key)

    def find_key(self) -> None:
        """Read the key, if there is one already. Raises LedgerUnavailable."""
        if self._home is not None:
            try:
                self._key = read_key(self._home) or self._key
            except (OSError, ValueError) as error:
                raise LedgerUnavailable(f"The key of the audit log cannot be had: {error}") from error

    def take_key(self, connection: Connection) -> None:
        """Make the key, for the rows to come; within a transaction that writes, so that none comes between. Raises as above."""
        assert self._home is not None and self._note is not None
        newest = self._newest(connection)
        try:
            self._key = make_key(self._home, newest.number + 1)
            if newest.number:
                self._note.move(newest)
        except (OSError, ValueError, DamagedNote) as error:
            raise LedgerUnavailable(f"The key of the audit log cannot be made: {error}") from error

    def add(self, connection: Connection, record: AuditRecord) -> None:
        """Add a row behind the newest one."""
        before = self._newest(connection)
        number = before.number + 1
        detail = msgspec.json.encode(record.detail, order="sorted").decode()
        fields = (to_us(record.time), record.actor, record.action, record.target, record.address, detail)
        sealed = seal(self._key.of(number), before.seal, number, fields)
        names = ("time", "actor", "action", "target", "address", "detail")
        values = {"id": number, "previous": before.seal, "seal": sealed, **dict(zip(names, fields, strict=True))}
        connection.execute(_INSERT, values)
        noted = self._noted()
        held = self._holds(connection, noted) if isinstance(noted, Head) else noted
        told = msgspec.structs.replace(record, id=number, seal=sealed.hex())
        connection.info[_ADDED] = Head(number, sealed), told, held

    def begin(self, connection: Connection) -> None:
        """Before a transaction: nothing is added yet, whatever became of the last one."""
        connection.info.pop(_ADDED, None)

    def committed(self, connection: Connection, make_durable: Callable[[], None]) -> tuple[AuditRecord, str] | None:
        """After a transaction: the row that it has added, and what is wrong with the log, empty where nothing is; None: no row.

        What was noted before and is in the log no more stays noted: the proof must not be lost with the next change. A row is
        noted when it outlives a loss of power, which otherwise would look like an attack.
        """
        added = connection.info.pop(_ADDED, None)
        if added is None:
            return None
        head, record, trouble = added
        if not trouble and self._note is not None:
            try:
                make_durable()
                self._note.move(head)
            except (OSError, LedgerUnavailable, DamagedNote) as error:
                trouble = str(error)  # the change itself is made, and nobody may be told otherwise
        return record, trouble

    def _noted(self) -> Head | str:
        """What is noted; a text: why that is not known. An empty one: nothing is."""
        try:
            return "" if self._note is None else self._note.read() or ""
        except DamagedNote as error:
            return str(error)

    def _holds(self, connection: Connection, noted: Head) -> str:
        """Whether the row that was the newest is as it was; empty: it is."""
        found = connection.execute(sa.select(_audit.seal).where(_audit.id == noted.number)).scalar()
        return "" if found == noted.seal else f"row {noted.number} is not what {HEAD_FILE} says it was"

    def _newest(self, connection: Connection) -> Head:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(_LOCK)  # SQLite has one writer at a time
        row = connection.execute(_NEWEST).first()
        return Head(0, START) if row is None else Head(row.id, bytes(row.seal))

    # reading

    def page(self, connection: Connection, limit: int, before: int | None, which: AuditFilter) -> list[AuditRecord]:
        query = sa.select(schema.audit).where(*_conditions(which)).order_by(_audit.id.desc()).limit(limit)
        if before is not None:
            query = query.where(_audit.id < before)
        return [
            AuditRecord(
                id=row.id,
                time=from_us(row.time),
                actor=row.actor,
                action=row.action,
                target=row.target,
                address=row.address,
                detail=msgspec.json.decode(row.detail, type=dict[str, str]),
                seal=bytes(row.seal).hex(),
            )
            for row in connection.execute(query)
        ]

    def verifying(self, known: str) -> Verifying:
        """`known`: a head as it was told once and kept elsewhere, or nothing. Raises ValueError: it is none."""
        return Verifying(self._key, self._noted(), known)


def _conditions(which: AuditFilter) -> Iterator[sa.ColumnElement[bool]]:
    for column, value in ((_audit.actor, which.actor), (_audit.target, which.target)):
        if value is not None:
            yield column == value
    if which.action is not None:
        yield (
            _audit.action.startswith(which.action, autoescape=True)
            if which.action.endswith(".")
            else _audit.action == which.action
        )
    if which.since is not None:
        yield _audit.time >= to_us(which.since)
    if which.until is not None:
        yield _audit.time < to_us(which.until)


class Verifying:
    """One walk along the chain, page by page. Rows that are added meanwhile are looked at too."""

    def __init__(self, key: SealKey, noted: Head | str, known: str) -> None:
        self._key = key
        self._wanted = [(HEAD_FILE, noted)] if isinstance(noted, Head) else []
        self._trouble = noted if isinstance(noted, str) else ""
        if known:
            head = read_head(known)
            if head is None:
                raise ValueError("A head is the number of a row and its seal, as NUMBER:SEAL.")
            self._wanted.append(("the head that was given", head))
        self._last = Head(0, START)
        self._rows = 0
        self._bad = 0
        self._why = ""

    def step(self, connection: Connection) -> bool:
        """Look at one more page. False: that was all, or a bad row is found."""
        where, values = ("", {}) if not self._rows else (" WHERE id > :last", {"last": self._last.number})
        query = sa.text(f"{_RAW}{where} ORDER BY id LIMIT {_PAGE}")
        rows = connection.execute(query, values).all()
        for row in rows:
            self._why = self._wrong(tuple(row))
            if self._why:
                return False
            self._rows += 1
        return len(rows) == _PAGE

    def verdict(self) -> AuditVerdict:
        """What came of it."""
        if not self._why:
            for name, head in self._wanted:
                if head.number > self._last.number:
                    self._bad = self._last.number + 1
                    self._why = f"rows {self._bad} to {head.number} are missing: {head.number} was the newest, as {name} says"
        if not self._why and self._trouble:
            self._why = f"{self._trouble}, so that nobody knows whether the newest rows are missing"
        return AuditVerdict(
            right=not self._why,
            rows=self._rows,
            first_bad=self._bad or None,
            why=self._why,
            keyed_from=self._key.first,
            head=str(self._last) if self._rows else "",
        )

    def _wrong(self, row: tuple[Any, ...]) -> str:
        """What is wrong with the row that comes next; empty: nothing."""
        number, previous, sealed, *fields = row
        expected = self._last.number + 1
        self._bad = expected
        if number != expected:
            return f"row {expected} is missing" if isinstance(number, int) and number > expected else "a row is out of order"
        if not isinstance(sealed, bytes) or not all(map(isinstance, fields, _TYPES)):
            return f"row {number} was changed: it holds what no row holds"
        if previous != self._last.seal:
            return f"row {number} does not follow row {number - 1}: one of them was changed"
        try:
            right = seal(self._key.of(number), self._last.seal, number, tuple(fields))
        except (UnicodeError, msgspec.EncodeError):
            right = b""
        if sealed != right:
            return f"row {number} was changed, or is sealed with another key than that of audit.key"
        for name, head in self._wanted:
            if head.number == number and head.seal != sealed:
                return f"row {number} is another than was there, as {name} says: the log was written anew up to here"
        self._last, self._bad = Head(number, sealed), 0
        return ""
