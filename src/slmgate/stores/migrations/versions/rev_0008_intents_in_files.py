"""Open intents stand in the workers' own files, and not in the database any more.

What a former build left in the table is dropped: a gate that was stopped cleanly left nothing. The view on receipts tells what
is each one's own before what they share, as their records do. There is no way down: a backup is.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.drop_table("open_intents")
    op.execute("DROP VIEW receipts")
    op.execute(
        "CREATE VIEW receipts AS SELECT e.seq, e.id, coalesce(nullif(e.request_id, ''), e.id) AS request_id, e.time, "
        "e.prompt_tokens, e.completion_tokens, e.bytes_in, e.bytes_out, e.queue_us, e.first_byte_us, e.total_us, e.attempts, "
        "e.address, e.worker, e.parameters, e.cost, f.method, f.path, f.status, f.verdict, f.reason, f.ended, f.principal, "
        "f.key, f.team, f.roles, f.rule, f.dialect, f.endpoint, f.model, f.instance, f.stream, f.estimated, f.plan, f.price "
        "FROM entries e JOIN facets f ON f.id = e.facet"
    )
