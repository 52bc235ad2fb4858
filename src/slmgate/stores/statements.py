"""Statements as texts that take rows by position: what runs for every receipt is compiled once, and not at each call.

Knows the compiler of SQLAlchemy and no table of ours. SQLite and PostgreSQL write these texts alike but for their placeholders.
"""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult, Engine, Result


def positional(engine: Engine, statement: Any, table: sa.Table, columns: list[str] | None = None) -> str:
    """The text of an insert that takes rows by position: of these columns, or of all that the table has, in its order."""
    columns = columns or [column.name for column in table.columns]
    compiled = statement.compile(dialect=engine.dialect, column_keys=columns)
    if compiled.positiontup != columns:
        raise RuntimeError(f"The columns of `{table.name}` are not in the order in which their values are given.")
    return str(compiled)


def repeated(insert: str, rows: int) -> str:
    """The text of the same insert for so many rows. Compiling that takes longer than all else at a start."""
    before, values, after = insert.partition("VALUES (")
    row, end, after = after.partition(")")
    return before + values + "), (".join([row] * rows) + end + after


def fetched(result: Result[Any], most: int | None = None) -> list[tuple[Any, ...]]:
    """The rows of a result, or at most so many more of them, as the driver has them: numbers, texts and bytes are alike to all.

    A row that can be asked by name takes as long to make as to read.
    """
    cursor: Any = cast("CursorResult[Any]", result).cursor
    return list(cursor.fetchall() if most is None else cursor.fetchmany(most))
