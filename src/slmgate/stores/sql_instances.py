"""The instances' part of the store in SQL, in the transactions that `sql.py` lends.

Every change stands with its audit line in one transaction. Driver exceptions are translated where the transactions come
from; this module knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.instances import InstanceRecord
from slmgate.stores.records import AuditRecord

Transaction = Callable[[], AbstractContextManager[Connection]]
_instances = schema.instances


class SqlInstances:
    """`InstanceStore` in the table of one `SqlStore`, which lends its transactions and the way an audit line is added."""

    def __init__(self, reading: Transaction, writing: Transaction, note: Callable[[Connection, AuditRecord], None]) -> None:
        self._reading = reading
        self._writing = writing
        self._note = note

    def all(self) -> list[InstanceRecord]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(_instances).order_by(_instances.c.id)).mappings()
            return [InstanceRecord(**row) for row in rows]

    def save(self, record: InstanceRecord, audit: AuditRecord) -> None:
        with self._writing() as connection:
            connection.execute(sa.delete(_instances).where(_instances.c.id == record.id))
            if not record.says_nothing:
                connection.execute(sa.insert(_instances).inline(), msgspec.structs.asdict(record))
            self._note(connection, audit)

    def remove(self, id: str, audit: AuditRecord) -> None:
        with self._writing() as connection:
            connection.execute(sa.delete(_instances).where(_instances.c.id == id))
            self._note(connection, audit)
