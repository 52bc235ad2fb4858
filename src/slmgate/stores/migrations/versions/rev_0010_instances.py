"""What operators say of instances at run time: which are drained, and which were added.

Written out in full and not taken from `schema.py`, because a revision must go on making what it made when it was
released. There is no way down: a backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "instances",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("drained", sa.Boolean, nullable=False),
    )
