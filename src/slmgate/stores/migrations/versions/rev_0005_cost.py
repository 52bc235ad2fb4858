"""What a request cost: the team's plan and the price in a receipt's facets, the sum in its own row.

Receipts from before have no plan, no price and no cost. As with revision 0002, a combination that comes again gets a new row in
`facets`, for a digest is over all of its columns.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("DROP VIEW receipts")
    for column in ("plan", "price"):
        op.add_column("facets", sa.Column(column, sa.Text, nullable=False, server_default=""))
    op.add_column("entries", sa.Column("cost", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(
        "CREATE VIEW receipts AS SELECT e.seq, e.id, coalesce(nullif(e.request_id, ''), e.id) AS request_id, e.time, "
        "f.method, f.path, f.status, f.verdict, f.reason, f.ended, f.principal, f.key, f.team, f.roles, f.rule, f.dialect, "
        "f.endpoint, f.model, f.instance, f.stream, e.prompt_tokens, e.completion_tokens, f.estimated, e.bytes_in, e.bytes_out, "
        "e.queue_us, e.first_byte_us, e.total_us, e.attempts, e.address, e.worker, e.parameters, f.plan, f.price, e.cost "
        "FROM entries AS e JOIN facets AS f ON f.id = e.facet"
    )
