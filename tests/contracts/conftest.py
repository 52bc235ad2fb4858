"""An empty store for each test of the contracts, of every kind: PostgreSQL too when `SLMGATE_TEST_POSTGRES` gives a URL.

Whatever that database held of ours is gone afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from slmgate.stores import schema
from slmgate.stores.base import Store
from slmgate.stores.sql import open_store

POSTGRES = os.environ.get("SLMGATE_TEST_POSTGRES")


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        where: Path | str = tmp_path / "ledger.db"
    else:
        where = str(POSTGRES)
        url = sa.make_url(where).set(drivername="postgresql+psycopg")
        with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
            connection.execute(sa.text("DROP VIEW IF EXISTS receipts"))
            schema.metadata.drop_all(connection)
            connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
    store = open_store(where)
    yield store
    store.close()
