"""Keys with an owner, tags and networks, and a table of when and from where each was last used.

That has a table of its own because it is written with the receipts, again and again, and because declared keys, which are in no
table, are used as well. The index is the order in which keys are listed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("keys", sa.Column("owner", sa.Text))
    for column in ("tags", "networks"):
        op.add_column("keys", sa.Column(column, sa.JSON, nullable=False, server_default="[]"))
    op.create_index("keys_created", "keys", ["created", "id"])
    op.create_index("key_secrets_key", "key_secrets", ["key_id"])
    op.create_table(
        "key_uses",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
    )
