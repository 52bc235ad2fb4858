"""Where a request's time went, and which trace it is part of: each receipt's own.

Receipts from before say 0, and no trace: nobody measured it. There is no way down: a backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("DROP VIEW receipts")
    for column in ("receive_us", "connect_us", "overhead_us"):
        op.add_column("entries", sa.Column(column, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("entries", sa.Column("trace", sa.Text, nullable=False, server_default=""))
    op.execute(
        "CREATE VIEW receipts AS SELECT e.seq, e.id, coalesce(nullif(e.request_id, ''), e.id) AS request_id, e.time, "
        "e.prompt_tokens, e.completion_tokens, e.bytes_in, e.bytes_out, e.queue_us, e.first_byte_us, e.total_us, e.attempts, "
        "e.address, e.worker, e.parameters, e.cost, e.receive_us, e.connect_us, e.overhead_us, e.trace, "
        "f.method, f.path, f.status, f.verdict, f.reason, f.ended, f.principal, "
        "f.key, f.team, f.roles, f.rule, f.dialect, f.endpoint, f.model, f.instance, f.stream, f.estimated, f.plan, f.price "
        "FROM entries e JOIN facets f ON f.id = e.facet"
    )
