"""Open intents stand in the workers' own files, and not in the database any more.

What a former build left in the table is dropped: a gate that was stopped cleanly left nothing. There is no way down: a backup is.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.drop_table("open_intents")
