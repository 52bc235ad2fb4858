"""A small ledger that tests of tallies read: seven receipts of three clients, all of one moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from tests.tools.journal_writer import make_receipt

TIME = datetime(2026, 11, 20, 12, 34, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = TIME.replace(hour=0, minute=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(tmp_path / "ledger.db")
    opened.write(Batch(receipts=[make_receipt(f"r{n}", time=TIME, principal=f"c{n % 3}") for n in range(7)]))
    yield opened
    opened.close()
