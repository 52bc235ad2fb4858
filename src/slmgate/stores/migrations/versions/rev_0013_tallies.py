"""Tallies of everything, each model, instance and client: sums and histograms of latencies, by minute, hour, day and month.

What is there already is tallied here, a day at a time: the sums from the rollups, the histograms from the receipts that are kept,
a minute or so for each million. It is done by the code that writes tallies, and not written out: what a tally holds is what
`slmgate db verify` asks of it, and a revision that changes this has to make all of them anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from slmgate.stores.filling import fill

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "subjects",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
    )
    op.create_index("subjects_name", "subjects", ["kind", "name", "instance"], unique=True)
    op.create_table(
        "facet_subjects",
        sa.Column("facet", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("client", sa.BigInteger),
        sa.Column("model", sa.BigInteger),
        sa.Column("instance", sa.BigInteger),
        sa.Column("admitted", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
    )
    op.create_index("facet_subjects_client", "facet_subjects", ["client"])
    for level in ("minutes", "hours", "days", "months"):
        op.create_table(
            f"tally_{level}",
            sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("subject", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("tally", sa.LargeBinary, nullable=False),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "client_vectors",
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("until", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("figure", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("lanes", sa.LargeBinary, nullable=False),
    )
    fill(op.get_bind())
