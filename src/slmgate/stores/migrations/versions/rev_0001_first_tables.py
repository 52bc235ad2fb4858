"""The first tables: receipts with what the ingest needs to take each once, keys with their secrets, the audit log.

Written out in full and not taken from `schema.py`, because a revision must go on making what it made when it was
released. There is no way down: a backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "facets",
        sa.Column("id", sequence, sa.Identity(), primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("ended", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("team", sa.Text),
        sa.Column("dialect", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
    )
    op.create_index("facets_digest", "facets", ["digest"], unique=True)
    op.create_table(
        "entries",
        sa.Column("seq", sequence, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("facet", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
        sa.Column("queue_us", sa.BigInteger, nullable=False),
        sa.Column("first_byte_us", sa.BigInteger),
        sa.Column("total_us", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("worker", sa.BigInteger, nullable=False),
    )
    op.create_index("entries_id", "entries", ["id"], unique=True)
    op.create_index("entries_time", "entries", ["time"])
    given = sa.text("request_id <> ''")
    op.create_index("entries_request_id", "entries", ["request_id"], sqlite_where=given, postgresql_where=given)
    op.execute(
        "CREATE VIEW receipts AS SELECT e.seq, e.id, coalesce(nullif(e.request_id, ''), e.id) AS request_id, e.time, "
        "f.method, f.path, f.status, f.verdict, f.reason, f.ended, f.principal, f.key, f.team, f.dialect, f.endpoint, f.model, "
        "f.instance, f.stream, e.prompt_tokens, e.completion_tokens, f.estimated, e.bytes_in, e.bytes_out, e.queue_us, "
        "e.first_byte_us, e.total_us, e.attempts, e.address, e.worker FROM entries AS e JOIN facets AS f ON f.id = e.facet"
    )
    op.create_table(
        "open_intents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("intent", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "journal_positions",
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("revoked", sa.BigInteger),
    )
    live = sa.text("revoked IS NULL")
    op.create_index("keys_live_name", "keys", ["name"], unique=True, sqlite_where=live, postgresql_where=live)
    op.create_table(
        "key_secrets",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("key_id", sa.Text, sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
    )
    op.create_table(
        "audit",
        sa.Column("id", sequence, sa.Identity(), primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
