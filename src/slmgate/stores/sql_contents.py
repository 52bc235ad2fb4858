"""The contents' part of the store in SQL, in the transactions that `sql.py` lends.

What is deleted from SQLite is overwritten, so that it is not left in the file's free pages. Driver exceptions are translated
where the transactions come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.contents import ContentRecord
from slmgate.stores.schema import from_us, to_us

Transaction = Callable[[], AbstractContextManager[Connection]]
_contents = schema.contents


class SqlContents:
    """`ContentStore` in the table of one `SqlStore`, which lends its transactions and its way to insert."""

    def __init__(self, reading: Transaction, writing: Transaction, insert: Callable[..., Any]) -> None:
        self._reading = reading
        self._writing = writing
        self._insert = insert

    def put(self, records: Sequence[ContentRecord]) -> None:
        if not records:
            return
        rows = [
            {**msgspec.structs.asdict(record), "time": to_us(record.time), "expires": to_us(record.expires)} for record in records
        ]
        with self._writing() as connection:
            connection.execute(self._insert(_contents).on_conflict_do_nothing(index_elements=["id"]), rows)

    def get(self, id: str) -> ContentRecord | None:
        with self._reading() as connection:
            row = connection.execute(sa.select(_contents).where(_contents.c.id == id)).mappings().first()
        if row is None:
            return None
        return ContentRecord(**{**row, "time": from_us(row["time"]), "expires": from_us(row["expires"])})

    def forget(self, now: datetime, most: int) -> int:
        over = sa.select(_contents.c.id).where(_contents.c.expires <= to_us(now)).order_by(_contents.c.expires).limit(most)
        with self._reading() as connection:
            ids = list(connection.execute(over).scalars())
        if not ids:
            return 0
        with self._writing() as connection:
            lite = connection.dialect.name == "sqlite"
            if lite:
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            gone = connection.execute(sa.delete(_contents).where(_contents.c.id.in_(ids))).rowcount
            if lite:
                connection.exec_driver_sql("PRAGMA secure_delete=OFF")
        return gone
