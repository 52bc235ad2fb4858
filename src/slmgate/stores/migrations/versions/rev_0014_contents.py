"""Prompts and answers that roles want kept, masked, until their time is over.

Written out in full and not taken from `schema.py`, because a revision must go on making what it made when it was
released. There is no way down: a backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "contents",
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
    op.create_index("contents_expires", "contents", ["expires"])
