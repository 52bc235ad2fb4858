"""The notices of plans that are being used up: which were made, and whether they arrived.

Written out in full and not taken from `schema.py`, because a revision must go on making what it made when it was
released. There is no way down: a backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("retry", sa.BigInteger),
        sa.Column("delivered", sa.BigInteger),
    )
    waiting = sa.text("retry IS NOT NULL")
    op.create_index("notices_retry", "notices", ["retry"], sqlite_where=waiting, postgresql_where=waiting)
