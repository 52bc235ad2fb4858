"""Rollups of the receipts by minute, hour, day and month, and how far back each is kept.

The receipts that are there already are summed up here, all of them: about a second for each million.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_FIGURES = (
    "requests", "prompt_tokens", "completion_tokens", "bytes_in", "bytes_out", "queue_us", "first_bytes", "first_byte_us",
    "total_us", "cost",
)  # fmt: skip
_MOST = 2**50
_MINUTE, _HOUR, _DAY = 60_000_000, 3_600_000_000, 86_400_000_000


def upgrade() -> None:
    for level in ("minutes", "hours", "days", "months"):
        op.create_table(
            f"rollup_{level}",
            sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("facet", sa.BigInteger, primary_key=True, autoincrement=False),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in _FIGURES),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "kept_since",
        sa.Column("level", sa.Text, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    figures = ", ".join(_figure(name) for name in _FIGURES)
    minute = f"time - time % {_MINUTE}"
    summed = f"SELECT {minute}, facet, {figures} FROM entries GROUP BY {minute}, facet"  # noqa: S608 - names from this file
    op.execute("INSERT INTO rollup_minutes " + summed)
    for finer, level, width in (("minutes", "hours", _HOUR), ("hours", "days", _DAY)):
        op.execute(_added_up(finer, level, f"start - start % {width}"))
    first_of_month = (
        "CAST(extract(epoch FROM date_trunc('month', to_timestamp(start / 1000000), 'UTC')) AS bigint) * 1000000"
        if op.get_bind().dialect.name == "postgresql"
        else "CAST(strftime('%s', start / 1000000, 'unixepoch', 'start of month') AS integer) * 1000000"
    )
    op.execute(_added_up("days", "months", first_of_month))


def _figure(name: str) -> str:
    if name in ("requests", "first_bytes"):
        return "count(*)" if name == "requests" else "count(first_byte_us)"
    bounded = f"CASE WHEN {name} > {_MOST} THEN {_MOST} ELSE {name} END"
    return f"CAST(coalesce(sum({bounded}), 0) AS bigint)"


def _added_up(finer: str, level: str, start: str) -> str:
    sums = ", ".join(f"CAST(sum({name}) AS bigint)" for name in _FIGURES)
    summed = f"SELECT {start}, facet, {sums} FROM rollup_{finer} GROUP BY {start}, facet"  # noqa: S608 - names from this file
    return f"INSERT INTO rollup_{level} {summed}"
