"""Notices of events of the gate, beside those of plans: which webhook each goes to, what it is about, and what happened.

Written out in full and not taken from `schema.py`, because a revision must go on making what it made when it was
released. There is no way down: a backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("notices", sa.Column("webhook", sa.Text, nullable=False, server_default=""))
    op.add_column("notices", sa.Column("subject", sa.Text, nullable=False, server_default=""))
    op.add_column("notices", sa.Column("type", sa.Text, nullable=False, server_default="plan.threshold"))
    op.create_index("notices_subject", "notices", ["subject", "created"])
