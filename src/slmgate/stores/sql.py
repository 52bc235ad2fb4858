"""The store in SQL: one implementation for SQLite and PostgreSQL over SQLAlchemy Core.

Holds the engine and the few statements that run for every receipt, compiled once. Knows no journal and no clock, and
is, with `keys.py`, the border where driver exceptions become the room's own. Calls block; any thread may call.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection, Engine, RowMapping
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from slmgate.stores import migrations, retention, schema, usage, verifying
from slmgate.stores.entries import EntryWriter, Repeats, known, storable
from slmgate.stores.keys import KeyRows, SavedKeys
from slmgate.stores.parted import Parted, parted
from slmgate.stores.records import (
    AuditFilter,
    AuditRecord,
    AuditVerdict,
    Batch,
    KeyFilter,
    KeyRecord,
    KeyUse,
    LedgerUnavailable,
    NotOffered,
    NumberedReceipt,
    ReceiptFilter,
    UsageRow,
    Verified,
)
from slmgate.stores.rollups import RollupWriter
from slmgate.stores.schema import RECEIPT_FIELDS, from_us, to_us
from slmgate.stores.sql_audit import SqlAudit
from slmgate.stores.sql_billing import SqlBilling
from slmgate.stores.sql_contents import SqlContents
from slmgate.stores.sql_instances import SqlInstances
from slmgate.stores.sql_operators import SqlOperators
from slmgate.stores.sql_tallies import SqlTallies
from slmgate.stores.subjects import SubjectWriter
from slmgate.terms import Key, Receipt

_BUSY_TIMEOUT = 5.0
_BACKUP_PAGES = 2500  # in one step, 10 MB
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_receipts = schema.receipts.c
_entries = schema.entries.c
_FORGET_SEGMENT = sa.delete(schema.journal_positions).where(schema.journal_positions.c.segment == sa.bindparam("gone"))


def open_store(where: Path | str, *, full_sync: bool = False, home: Path | None = None) -> SqlStore:
    """Open a SQLite file (a `Path`) or a PostgreSQL database (a URL), with its schema brought up to date.

    A SQLite file is made if absent, readable by its owner only. `full_sync` has SQLite sync at every commit rather
    than at every checkpoint: dearer, and nothing already taken from the journal is lost with the power. `home` is the directory
    of the audit log's key and note, that of the SQLite file by default. Raises LedgerUnavailable, SchemaTooNew.
    """
    engine = _sqlite_engine(where, full_sync) if isinstance(where, Path) else _postgresql_engine(where)
    with _translated():
        migrations.upgrade(engine)
    path = where if isinstance(where, Path) else None
    store = SqlStore(engine, path, path.parent if home is None and path is not None else home)
    store.find_audit_key()
    return store


def copy_ledger(path: Path, target: Path, progress: Callable[[int, int], object] | None = None) -> None:
    """Copy a SQLite file into a new one, consistent, while others write. Of whatever version it is, nothing is changed in it.

    Raises LedgerUnavailable, OSError (FileExistsError); with nothing left of the copy.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:  # from before it is there: whoever stops this may do so in any moment
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            # A transaction that reads keeps the state of this moment: without it, each write of the gate's begins the copy anew.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            told = None if progress is None else lambda _, left, pages: progress(pages - left, pages)
            source.backup(copy, pages=_BACKUP_PAGES, progress=told)
    except FileExistsError:  # another one's, made in this moment
        raise
    except BaseException as error:  # also of who stops it: half a copy is taken for a whole one later
        target.unlink(missing_ok=True)
        Path(f"{target}-journal").unlink(missing_ok=True)  # which SQLite leaves where it cannot write any more
        if isinstance(error, sqlite3.Error):
            raise LedgerUnavailable(f"The backup could not be written: {error}. Nothing was kept of it.") from error
        raise


class SqlStore:
    """`Store` over one engine. `path` is the SQLite file, None for PostgreSQL; `home` as `open_store` has it."""

    def __init__(self, engine: Engine, path: Path | None, home: Path | None = None) -> None:
        self._engine = engine
        self._path = path
        self._audit = SqlAudit(home)
        self.on_audit: Callable[[AuditRecord, str], object] = lambda record, trouble: None
        self._insert = sqlite_insert if path else postgresql_insert
        self._entries = EntryWriter(engine, self._insert)
        self._rollups = RollupWriter(engine, self._insert)
        self._subjects = SubjectWriter(engine, self._insert)
        self._keys = KeyRows(engine, self._insert)
        # made once: to build a statement costs more than to execute it
        advance = self._insert(schema.journal_positions)
        to = {"position": advance.excluded.position}
        self._advance = advance.on_conflict_do_update(index_elements=["segment"], set_=to)

    @property
    def operators(self) -> SqlOperators:
        return SqlOperators(self._reading, self._writing, self._audit.add)

    @property
    def instances(self) -> SqlInstances:
        return SqlInstances(self._reading, self._writing, self._audit.add)

    @property
    def tallies(self) -> SqlTallies:
        return SqlTallies(self._seeing, self._writing, self._insert)

    @property
    def contents(self) -> SqlContents:
        return SqlContents(self._reading, self._writing, self._insert)

    @property
    def billing(self) -> SqlBilling:
        return SqlBilling(self._reading, self._writing, self._insert)

    def __repr__(self) -> str:
        return f"<SqlStore {self._engine.dialect.name}>"

    def revision(self) -> str:
        with _translated():
            return migrations.current(self._engine) or ""

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _seeing(self) -> Iterator[Connection]:
        """To read what belongs together: everything as it was at one moment, as SQLite does it anyway."""
        with _translated(), self._engine.connect() as connection:
            if self._path is None:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _translated(), self._engine.connect().execution_options(writes=True) as connection:
            self._audit.begin(connection)
            with connection.begin():
                yield connection
            added = self._audit.committed(connection, self.make_durable)
        if added is not None:
            self.on_audit(*added)

    def find_audit_key(self) -> None:
        """Read the key of the audit log, or make it. Raises LedgerUnavailable."""
        self._audit.find_key()
        if not self._audit.has_key:
            with self._writing() as connection:
                self._audit.take_key(connection)

    # The ledger

    def write(self, batch: Batch) -> Parted:
        receipts = batch.receipts if isinstance(batch.receipts, Parted) else parted(batch.receipts)
        try:
            try:
                return self._write(batch, receipts)
            except (DataError, OverflowError):
                # A value that this database cannot hold, which an instance or a client made up. The receipt still counts.
                return self._write(batch, Parted(list(map(storable, receipts.own)), list(map(storable, receipts.facets))))
        except BaseException:  # whatever it was: what is remembered of the database may not be so any more
            self._entries.forget()
            self._subjects.forget()
            raise

    def _write(self, batch: Batch, receipts: Parted) -> Parted:
        try:
            return self._transact(batch, receipts, sift=False)
        except Repeats:  # so rare that it may be found out by trying
            return self._transact(batch, receipts, sift=True)

    def _transact(self, batch: Batch, receipts: Parted, sift: bool) -> Parted:
        with self._writing() as connection:
            if sift:
                receipts = self._entries.sift(connection, receipts)
            rows, learned = self._entries.write(connection, receipts)
            counted = self._subjects.add(connection, rows, self._rollups.add(connection, rows))
            if batch.positions:
                connection.execute(self._advance, [{"segment": name, "position": at} for name, at in batch.positions.items()])
            if batch.forgotten:
                connection.execute(_FORGET_SEGMENT, [{"gone": name} for name in batch.forgotten])
            if batch.used:
                self._keys.note_uses(connection, batch.used)
        self._entries.remember(learned)
        self._subjects.remember(counted)
        return receipts

    def make_durable(self) -> None:
        if self._path is None:
            return  # PostgreSQL's commits are durable
        # With synchronous=NORMAL a commit is in the write-ahead log but not yet synced; a checkpoint syncs the rest.
        try:
            wal = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise LedgerUnavailable(f"The ledger cannot be synced: {error}.") from error
        try:
            os.fsync(wal)
        except OSError as error:
            raise LedgerUnavailable(f"The ledger cannot be synced: {error}.") from error
        finally:
            os.close(wal)

    def positions(self) -> dict[str, int]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(schema.journal_positions))
            return {row.segment: row.position for row in rows}

    def known(self, ids: Sequence[str]) -> set[str]:
        with self._reading() as connection:
            return known(connection, ids)

    def receipt(self, id: str) -> Receipt | None:
        own = sa.select(schema.receipts).where(_receipts.id == id)
        last = sa.select(sa.func.max(_entries.seq)).where(usage.called(id))
        clients = sa.select(schema.receipts).where(_receipts.seq == last.scalar_subquery())
        with self._reading() as connection:
            row = connection.execute(own).mappings().first() or connection.execute(clients).mappings().first()
        return None if row is None else _receipt(row)

    def receipts(
        self,
        which: ReceiptFilter,
        limit: int,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool | None = None,
    ) -> list[NumberedReceipt]:
        query = sa.select(schema.receipts).where(*_conditions(which)).limit(limit)
        if before is not None:
            query = query.where(_receipts.seq < before)
        if after is not None:
            query = query.where(_receipts.seq > after)
        upwards = after is not None if oldest_first is None else oldest_first
        query = query.order_by(_receipts.seq if upwards else _receipts.seq.desc())
        with self._reading() as connection:
            return [NumberedReceipt(row["seq"], _receipt(row)) for row in connection.execute(query).mappings()]

    def cursors_at(self, time: datetime) -> tuple[int | None, int | None]:
        before = sa.select(_entries.seq).where(_entries.time < to_us(time)).order_by(_entries.time.desc()).limit(1)
        behind = sa.select(_entries.seq).where(_entries.time >= to_us(time)).order_by(_entries.time).limit(1)
        with self._reading() as connection:
            return connection.execute(before).scalar(), connection.execute(behind).scalar()

    def usage(self, by: Sequence[str], which: ReceiptFilter) -> list[UsageRow]:
        with self._reading() as connection:
            return usage.usage(connection, by, which)

    def answered(self, by: Sequence[str], which: ReceiptFilter) -> tuple[datetime | None, datetime | None]:
        with self._reading() as connection:
            return usage.answered(connection, by, which)

    def verify(self) -> Iterator[Verified]:
        with _translated():
            yield from verifying.verify(self._engine)

    def forget(self, what: str, before: datetime, most: int) -> int:
        with self._writing() as connection:
            return retention.forget(connection, what, to_us(before), most)

    def backup(self, target: Path, progress: Callable[[int, int], object] | None = None) -> None:
        if self._path is None:
            raise NotOffered("A PostgreSQL database is backed up with its own tools: pg_dump, or a base backup.")
        copy_ledger(self._path, target, progress)

    # Keys and the audit log

    def key(self, key: str) -> KeyRecord | None:
        with self._reading() as connection:
            return self._keys.find(connection, key)

    def keys(self, which: KeyFilter, limit: int, after: str | None = None) -> list[KeyRecord]:
        with self._reading() as connection:
            return self._keys.page(connection, which, limit, after)

    def members(self) -> dict[str, int]:
        with self._reading() as connection:
            return self._keys.members(connection)

    def live_keys(self) -> Iterator[Key]:
        with self._reading() as connection:
            yield from self._keys.live(connection)

    def key_use(self, id: str) -> KeyUse | None:
        with self._reading() as connection:
            return self._keys.use(connection, id)

    def taken(self, records: Sequence[KeyRecord]) -> list[tuple[int, str, str]]:
        with self._reading() as connection:
            return self._keys.taken(connection, records)

    def save_keys(self, records: Sequence[KeyRecord], audit: AuditRecord) -> None:
        rows = SavedKeys(records)
        with self._writing() as connection:
            self._keys.save(connection, rows)
            self._audit.add(connection, audit)

    def append_audit(self, record: AuditRecord) -> None:
        with self._writing() as connection:
            self._audit.add(connection, record)

    def audit(self, limit: int, before: int | None = None, which: AuditFilter | None = None) -> list[AuditRecord]:
        with self._reading() as connection:
            return self._audit.page(connection, limit, before, which or AuditFilter())

    def verify_audit(self, known: str = "") -> AuditVerdict:
        walk, more = self._audit.verifying(known), True
        while more:
            with self._reading() as connection:
                more = walk.step(connection)
        return walk.verdict()


# Engines


def _sqlite_engine(path: Path, full_sync: bool) -> Engine:
    try:
        # made before SQLite opens it, so that it is never readable by others; its companions take over its mode
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise LedgerUnavailable(f"The ledger {path} cannot be opened: {error.strerror}. Check `state_dir`.") from error
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT, "check_same_thread": False})

    def on_connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys=ON")

    def on_begin(connection: Connection) -> None:
        # A writer asks for the lock at once: a reader that turns writer later would be refused without waiting.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
    return engine


def _postgresql_engine(url: str) -> Engine:
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    # "format" takes parameters by position, as SQLite does, so that one road writes receipts to both
    return sa.create_engine(address, paramstyle="format", pool_pre_ping=True)


@contextmanager
def _translated() -> Iterator[None]:
    """Driver exceptions that mean "not now" become LedgerUnavailable; those about a value pass, for the caller to judge."""
    try:
        yield
    except DataError:
        raise
    except DBAPIError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:  # without what extends the code
            raise LedgerUnavailable(
                f"The ledger is damaged: {error.orig}. Stop the gate, then restore a backup (`slmgate db backup` makes them) "
                "or move the file away: a new one begins without its receipts and keys."
            ) from error
        raise LedgerUnavailable(f"The ledger cannot be used now: {error.orig}. What is written waits in the journal.") from error
    except PoolTimeout as error:
        raise LedgerUnavailable("The ledger cannot be used now: all its connections are busy.") from error


# Receipts read


def _receipt(row: RowMapping) -> Receipt:
    values: dict[str, Any] = {name: row[name] for name in RECEIPT_FIELDS}
    values["time"] = from_us(values["time"])
    return Receipt(**values)


def _conditions(which: ReceiptFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    for field in ("team", "key", "model", "instance", "endpoint", "status", "verdict", "reason", "ended"):
        value = getattr(which, field)
        if value is not None:
            found.append(_receipts[field] == value)
    if which.client is not None:
        found.append(_receipts.principal == which.client)
    if which.request_id is not None:
        named = sa.or_(_entries.id == which.request_id, usage.called(which.request_id))
        found.append(_receipts.seq.in_(sa.select(_entries.seq).where(named)))
    if which.since is not None:
        found.append(_receipts.time >= to_us(which.since))
    if which.until is not None:
        found.append(_receipts.time < to_us(which.until))
    return found
