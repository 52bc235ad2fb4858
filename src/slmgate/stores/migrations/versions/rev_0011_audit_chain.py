"""The audit log as a chain: rows numbered without gaps, each with a seal over its fields and the seal of the row before.

The rows that are there become the beginning of the chain, with seals made without a key: from when on there is one stands in
the key's own file, which is made when the store is opened. Written out in full and not taken from `sealing.py`, because a
revision must go on making what it made when it was released. There is no way down: a backup is.
"""

from __future__ import annotations

import hmac
import json

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_REFUSAL = "the audit log is only added to"


def upgrade() -> None:
    op.rename_table("audit", "audit_before")
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous", sa.LargeBinary, nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=False),
    )
    connection = op.get_bind()
    insert = sa.text(
        "INSERT INTO audit (id, time, actor, action, target, address, detail, previous, seal) "
        "VALUES (:id, :time, :actor, :action, :target, :address, :detail, :previous, :seal)"
    )
    previous = bytes(32)
    old = sa.text("SELECT time, actor, action, target, CAST(detail AS TEXT) FROM audit_before ORDER BY id")
    for number, (time, actor, action, target, text) in enumerate(connection.execute(old).all(), 1):
        detail = json.loads(text)
        address = detail.pop("address", "")
        said = json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        fields = [number, previous.hex(), time, actor, action, target, address, said]
        canonical = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        seal = hmac.digest(b"", canonical, "sha256")
        row = {"id": number, "time": time, "actor": actor, "action": action, "target": target, "address": address}
        connection.execute(insert, {**row, "detail": said, "previous": previous, "seal": seal})
        previous = seal
    op.drop_table("audit_before")
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


_SQLITE = (
    f"CREATE TRIGGER audit_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    f"CREATE TRIGGER audit_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    # what replaces a row deletes it without asking the trigger above
    "CREATE TRIGGER audit_added_behind BEFORE INSERT ON audit WHEN NEW.id <> (SELECT coalesce(max(id), 0) + 1 FROM audit) "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION audit_only_added() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
    "CREATE TRIGGER audit_not_changed BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_added()",
    "CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_only_added()",
)
