"""Why a request was admitted or refused: roles and rule of its receipt, and the parameters that it set.

Receipts from before have none of them. A facet's digest is over all of its columns, so that those of before are not found again
and each combination gets a new row when it next comes: nothing is counted twice, for entries refer to either.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("DROP VIEW receipts")
    for column in ("roles", "rule"):
        op.add_column("facets", sa.Column(column, sa.Text, nullable=False, server_default=""))
    op.add_column("entries", sa.Column("parameters", sa.Text, nullable=False, server_default=""))
    op.execute(
        "CREATE VIEW receipts AS SELECT e.seq, e.id, coalesce(nullif(e.request_id, ''), e.id) AS request_id, e.time, "
        "f.method, f.path, f.status, f.verdict, f.reason, f.ended, f.principal, f.key, f.team, f.roles, f.rule, f.dialect, "
        "f.endpoint, f.model, f.instance, f.stream, e.prompt_tokens, e.completion_tokens, f.estimated, e.bytes_in, e.bytes_out, "
        "e.queue_us, e.first_byte_us, e.total_us, e.attempts, e.address, e.worker, e.parameters "
        "FROM entries AS e JOIN facets AS f ON f.id = e.facet"
    )
