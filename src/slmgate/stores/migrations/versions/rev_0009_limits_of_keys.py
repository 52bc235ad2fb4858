"""Keys with limits of their own, beside those of their roles and teams.

A list of limits as records, in the form of `terms.LimitSpec`; keys that were there before have none. There is no way down: a
backup is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("keys", sa.Column("limits", sa.JSON, nullable=False, server_default="[]"))
