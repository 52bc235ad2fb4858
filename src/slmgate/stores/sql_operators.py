"""The operators' part of the store in SQL, in the transactions that `sql.py` lends.

Every change stands with its audit line in one transaction, and what ends a session ends it in the same one. Driver
exceptions are translated where the transactions come from; this module knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from slmgate.stores import schema
from slmgate.stores.operators import AccountRecord, AdminKeyRecord, SessionRecord
from slmgate.stores.records import AuditRecord, NameTaken
from slmgate.stores.schema import from_us, to_us

Transaction = Callable[[], AbstractContextManager[Connection]]
_accounts, _keys, _sessions = schema.admin_accounts, schema.admin_keys, schema.admin_sessions


class SqlOperators:
    """`OperatorStore` in the tables of one `SqlStore`, which lends its transactions and the way an audit line is added."""

    def __init__(self, reading: Transaction, writing: Transaction, note: Callable[[Connection, AuditRecord], None]) -> None:
        self._reading = reading
        self._writing = writing
        self._note = note

    def account(self, name: str) -> AccountRecord | None:
        with self._reading() as connection:
            row = connection.execute(sa.select(_accounts).where(_accounts.c.name == name)).mappings().first()
        return None if row is None else _account(row)

    def accounts(self) -> list[AccountRecord]:
        with self._reading() as connection:
            return [_account(row) for row in connection.execute(sa.select(_accounts).order_by(_accounts.c.name)).mappings()]

    def add_account(self, record: AccountRecord, audit: AuditRecord) -> None:
        with self._writing() as connection:
            try:
                connection.execute(sa.insert(_accounts).inline(), _account_row(record))
            except IntegrityError as error:
                raise NameTaken(f"There is an account {record.name!r}; give it a new password or role instead.") from error
            self._note(connection, audit)

    def change_account(self, before: AccountRecord, record: AccountRecord, audit: AuditRecord) -> bool:
        same = [_accounts.c[field] == value for field, value in _account_row(before).items()]
        with self._writing() as connection:
            found = connection.execute(sa.update(_accounts).where(*same).values(_account_row(record)))
            if not found.rowcount:
                return False
            connection.execute(sa.delete(_sessions).where(_sessions.c.account == record.name))
            self._note(connection, audit)
        return True

    def rehash(self, name: str, old: str, new: str) -> None:
        same = sa.and_(_accounts.c.name == name, _accounts.c.password == old)
        with self._writing() as connection:
            connection.execute(sa.update(_accounts).where(same).values(password=new))

    def remove_account(self, name: str, audit: AuditRecord) -> bool:
        with self._writing() as connection:
            found = connection.execute(sa.delete(_accounts).where(_accounts.c.name == name))
            if not found.rowcount:
                return False
            connection.execute(sa.delete(_sessions).where(_sessions.c.account == name))
            self._note(connection, audit)
        return True

    def admin_keys(self) -> list[AdminKeyRecord]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(_keys).order_by(_keys.c.created, _keys.c.id)).mappings()
            return [_admin_key(row) for row in rows]

    def admin_key(self, digest: bytes) -> AdminKeyRecord | None:
        with self._reading() as connection:
            row = connection.execute(sa.select(_keys).where(_keys.c.digest == digest)).mappings().first()
        return None if row is None else _admin_key(row)

    def save_admin_key(self, record: AdminKeyRecord, audit: AuditRecord) -> None:
        values = {
            "id": record.id,
            "name": record.name,
            "role": record.role,
            "digest": record.digest,
            "created": to_us(record.created),
            "expires": None if record.expires is None else to_us(record.expires),
            "revoked": None if record.revoked is None else to_us(record.revoked),
        }
        with self._writing() as connection:
            connection.execute(sa.delete(_keys).where(_keys.c.id == record.id))
            try:
                connection.execute(sa.insert(_keys).inline(), values)
            except IntegrityError as error:
                raise NameTaken(f"There is an admin key named {record.name!r}; choose another, or revoke that one.") from error
            self._note(connection, audit)

    def session(self, digest: bytes) -> SessionRecord | None:
        with self._reading() as connection:
            row = connection.execute(sa.select(_sessions).where(_sessions.c.digest == digest)).mappings().first()
        return None if row is None else _session(row)

    def sessions(self) -> list[SessionRecord]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(_sessions).order_by(_sessions.c.created.desc(), _sessions.c.id)).mappings()
            return [_session(row) for row in rows]

    def add_session(
        self, record: SessionRecord, audit: AuditRecord, bounds: tuple[int, int], proof: AccountRecord | None
    ) -> bool:
        values = msgspec.structs.asdict(record) | {"created": to_us(record.created), "seen": to_us(record.seen)}
        with self._writing() as connection:
            if proof is not None:
                # for update: PostgreSQL would let a change of the account and this pass each other
                now = sa.select(_accounts.c.role, _accounts.c.changed).where(_accounts.c.name == proof.name).with_for_update()
                if tuple(connection.execute(now).first() or ()) != (proof.role, to_us(proof.changed)):
                    return False
            connection.execute(sa.insert(_sessions).inline(), values)
            own = _sessions.c.operator == record.operator
            for which, newest, count in ((sa.true(), _sessions.c.seen, bounds[0]), (own, _sessions.c.created, bounds[1])):
                beyond = sa.select(_sessions.c.digest).where(which).order_by(newest.desc()).offset(count)
                surplus = [row.digest for row in connection.execute(beyond)]
                if surplus:
                    connection.execute(sa.delete(_sessions).where(_sessions.c.digest.in_(surplus)))
            self._note(connection, audit)
        return True

    def touch_session(self, digest: bytes, seen: datetime) -> None:
        with self._writing() as connection:
            connection.execute(sa.update(_sessions).where(_sessions.c.digest == digest).values(seen=to_us(seen)))

    def end_sessions(self, digests: list[bytes], audit: AuditRecord | None) -> int:
        with self._writing() as connection:
            ended = connection.execute(sa.delete(_sessions).where(_sessions.c.digest.in_(digests))).rowcount
            if ended and audit is not None:
                self._note(connection, audit)
        return ended

    def drop_sessions(self, created_until: datetime, seen_until: datetime) -> None:
        gone = sa.or_(_sessions.c.created <= to_us(created_until), _sessions.c.seen <= to_us(seen_until))
        with self._writing() as connection:
            connection.execute(sa.delete(_sessions).where(gone))


def _account(row: RowMapping) -> AccountRecord:
    return AccountRecord(**{**row, "created": from_us(row["created"]), "changed": from_us(row["changed"])})


def _account_row(record: AccountRecord) -> dict[str, Any]:
    return msgspec.structs.asdict(record) | {"created": to_us(record.created), "changed": to_us(record.changed)}


def _admin_key(row: RowMapping) -> AdminKeyRecord:
    times = {name: None if row[name] is None else from_us(row[name]) for name in ("created", "expires", "revoked")}
    return AdminKeyRecord(**{**row, **times, "digest": bytes(row["digest"])})


def _session(row: RowMapping) -> SessionRecord:
    times = {name: from_us(row[name]) for name in ("created", "seen")}
    return SessionRecord(**{**row, **times, "digest": bytes(row["digest"])})
