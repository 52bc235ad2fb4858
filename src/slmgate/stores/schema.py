"""The tables, once, for SQLite and PostgreSQL; migrations bring a database to this shape.

Times are integers, microseconds since the epoch in UTC: exact, comparable and cheap on both. Indices are only those
that a query needs, because each costs at every receipt. This module opens no database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from slmgate.terms import Receipt

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

metadata = sa.MetaData()

# SQLite numbers rows by itself only for a column of type INTEGER
_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# What most receipts share, once for each combination. A receipt of figures and one number in place of fifteen values is
# less than half of the work to insert and half of the bytes to keep. Addresses are not here: there may be as many as receipts.
facets = sa.Table(
    "facets",
    metadata,
    sa.Column("id", _Sequence, sa.Identity(), primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # SHA-256 of the others: short to index, and NULL equals NULL
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("status", sa.BigInteger, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("ended", sa.Text, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("team", sa.Text),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("dialect", sa.Text, nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("estimated", sa.Boolean, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("price", sa.Text, nullable=False),
)
sa.Index("facets_digest", facets.c.digest, unique=True)

# What is a receipt's own, with the number of its facets. Numbers and texts only: Python's SQLite driver takes as long for one
# NULL or boolean as for ten of those.
entries = sa.Table(
    "entries",
    metadata,
    sa.Column("seq", _Sequence, sa.Identity(), primary_key=True),  # order of arrival: what paging and following go by
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),  # empty where it is the id, as it is unless a client gave one
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
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),  # billionths of the currency that its price names
    sa.Column("receive_us", sa.BigInteger, nullable=False),
    sa.Column("connect_us", sa.BigInteger, nullable=False),
    sa.Column("overhead_us", sa.BigInteger, nullable=False),
    sa.Column("trace", sa.Text, nullable=False),
)
sa.Index("entries_id", entries.c.id, unique=True)
sa.Index("entries_time", entries.c.time)
# Only names that clients gave: they come in random order, which makes this the dearest index of all.
sa.Index(
    "entries_request_id",
    entries.c.request_id,
    sqlite_where=sa.text("request_id <> ''"),
    postgresql_where=sa.text("request_id <> ''"),
)

RECEIPT_FIELDS: tuple[str, ...] = Receipt.__struct_fields__
# The view that puts the two together: what is read, here and by people with a shell. Not among `metadata`'s tables,
# because it is the migrations that make it.
receipts = sa.Table(
    "receipts",
    sa.MetaData(),
    sa.Column("seq", sa.BigInteger),
    *(sa.Column(name, (entries if name in entries.c else facets).c[name].type) for name in RECEIPT_FIELDS),
)


def _rollup(name: str) -> sa.Table:
    """Sums of the receipts of one span of time that share their facets, so that whatever facets tell can be asked of it."""
    return sa.Table(
        name,
        metadata,
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),  # of the span
        sa.Column("facet", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
        sa.Column("queue_us", sa.BigInteger, nullable=False),
        sa.Column("first_bytes", sa.BigInteger, nullable=False),  # how many had one: what first_byte_us is the sum of
        sa.Column("first_byte_us", sa.BigInteger, nullable=False),
        sa.Column("total_us", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


rollups = {name: _rollup(f"rollup_{name}") for name in ("minutes", "hours", "days", "months")}
"""Each level's table. Spans are of UTC."""

# Whom and what is told about: everything, each model, each instance, each client. Few, but for the clients.
subjects = sa.Table(
    "subjects",
    metadata,
    sa.Column("id", _Sequence, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),  # all, model, instance, client
    sa.Column("name", sa.Text, nullable=False),  # of the client, or of the model
    sa.Column("instance", sa.Text, nullable=False),
)
sa.Index("subjects_name", subjects.c.kind, subjects.c.name, subjects.c.instance, unique=True)

# Which of them the receipts of these facets count for: no client for copies, a model and an instance only where there was one.
facet_subjects = sa.Table(
    "facet_subjects",
    metadata,
    sa.Column("facet", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("client", sa.BigInteger),
    sa.Column("model", sa.BigInteger),
    sa.Column("instance", sa.BigInteger),
    sa.Column("admitted", sa.BigInteger, nullable=False),  # 1 or 0, and so is what follows
    sa.Column("failed", sa.BigInteger, nullable=False),
)
sa.Index("facet_subjects_client", facet_subjects.c.client)


def _tally(name: str) -> sa.Table:
    """What the receipts of one subject in a span come to: `tallies.py` says how."""
    return sa.Table(
        name,
        metadata,
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),  # of the span
        sa.Column("subject", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tally", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


tallies = {name: _tally(f"tally_{name}") for name in ("minutes", "hours", "days", "months")}

# All clients' sums of a span, side by side, so that they are added up in no time: made from the rollups when they are asked for,
# and valid as long as `requests` is what the model's tally, or that of everything, says. `rankings.py` says what is in them.
vectors = sa.Table(
    "client_vectors",
    metadata,
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("until", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.BigInteger, primary_key=True, autoincrement=False),  # everything, or a model
    sa.Column("figure", sa.Text, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("lanes", sa.LargeBinary, nullable=False),
)

# What retention has deleted: everything of a level, or of the receipts, from before this time.
kept_since = sa.Table(
    "kept_since",
    metadata,
    sa.Column("level", sa.Text, primary_key=True),  # a name of `rollups`, or `receipts`
    sa.Column("time", sa.BigInteger, nullable=False),
)

journal_positions = sa.Table(
    "journal_positions",
    metadata,
    sa.Column("segment", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("team", sa.Text),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("revoked", sa.BigInteger),
    sa.Column("owner", sa.Text),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("networks", sa.JSON, nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),
)
sa.Index("keys_created", keys.c.created, keys.c.id)  # the order in which they are listed
sa.Index(
    "keys_live_name",
    keys.c.name,
    unique=True,
    sqlite_where=sa.text("revoked IS NULL"),
    postgresql_where=sa.text("revoked IS NULL"),
)

key_secrets = sa.Table(
    "key_secrets",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("key_id", sa.Text, sa.ForeignKey("keys.id"), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger),
)
sa.Index("key_secrets_key", key_secrets.c.key_id)

# By the id of a key, stored or declared: when it was last used, and from where.
key_uses = sa.Table(
    "key_uses",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
)

# Numbered by who writes, without gaps. A trigger refuses to change or to delete a row; `sealing.py` says what `seal` is.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", _Sequence, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # JSON, as it was sealed
    sa.Column("previous", sa.LargeBinary, nullable=False),  # the seal of the row before
    sa.Column("seal", sa.LargeBinary, nullable=False),
)

# The operators' own tables: who may change things here, and who is signed in. Digests only.
admin_accounts = sa.Table(
    "admin_accounts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
)

admin_keys = sa.Table(
    "admin_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("revoked", sa.BigInteger),
)
sa.Index("admin_keys_digest", admin_keys.c.digest, unique=True)
sa.Index(
    "admin_keys_live_name",
    admin_keys.c.name,
    unique=True,
    sqlite_where=sa.text("revoked IS NULL"),
    postgresql_where=sa.text("revoked IS NULL"),
)

admin_sessions = sa.Table(
    "admin_sessions",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("account", sa.Text),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
)

# Notices of plans that are being used up, and of events of the gate, each made once. `retry`: when it is sent next.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("team", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("retry", sa.BigInteger),
    sa.Column("delivered", sa.BigInteger),
    sa.Column("webhook", sa.Text, nullable=False, server_default=""),
    sa.Column("subject", sa.Text, nullable=False, server_default=""),
    sa.Column("type", sa.Text, nullable=False, server_default="plan.threshold"),
)
sa.Index("notices_subject", notices.c.subject, notices.c.created)
sa.Index(
    "notices_retry",
    notices.c.retry,
    sqlite_where=sa.text("retry IS NOT NULL"),
    postgresql_where=sa.text("retry IS NOT NULL"),
)

# What operators said of instances at run time. `options`: JSON of those that an added one has; empty: it was not added.
instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("drained", sa.Boolean, nullable=False),
)

# Prompts and answers that roles want kept. `id` is the receipt's, `expires` when it is to be deleted.
contents = sa.Table(
    "contents",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False),
    sa.Column("prompt", sa.Text),
    sa.Column("prompt_cut", sa.Boolean, nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("answer_cut", sa.Boolean, nullable=False),
    sa.Column("masked", sa.BigInteger, nullable=False),
)
sa.Index("contents_expires", contents.c.expires)


def to_us(time: datetime) -> int:
    """Microseconds since the epoch; exact, which a float would not be."""
    return (time - EPOCH) // MICROSECOND


def from_us(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)
