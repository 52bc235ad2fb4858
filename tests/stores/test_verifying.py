"""How verifying goes about it: days that hold something, then months. What it finds is in tests/contracts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from slmgate.stores.records import Batch, Difference, Verified
from slmgate.stores.sql import open_store
from tests.tools.journal_writer import make_receipt


def test_days_with_something_in_them_and_every_month_between(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    times = [
        datetime(2026, 1, 31, 23, 59, 59, 999_999, UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 4, 2, 5, tzinfo=UTC),
    ]
    store.write(Batch(receipts=[make_receipt(f"r{place}", time=time) for place, time in enumerate(times)]))
    # at each level a row of the facet, and the tallies of everything, the model, the instance and the client
    days = [Verified("days", time.replace(hour=0, minute=0, second=0, microsecond=0), 3 * (1 + 4), []) for time in times]
    months = [Verified("months", datetime(2026, month, 1, tzinfo=UTC), 0 if month == 3 else 1 + 4, []) for month in (1, 2, 3, 4)]
    begin = Verified("days", datetime(2026, 1, 1, tzinfo=UTC), 0, [])  # the sums by month begin here
    assert list(store.verify()) == [begin, *days, *months]
    store.close()


def test_a_difference_in_words() -> None:
    found = Difference("hours", datetime(2026, 1, 1, 5, tzinfo=UTC), 7, {"requests": 4, "cost": 1}, {"requests": 5, "cost": 1})
    assert found.told() == "hours 2026-01-01T05:00Z facet 7: requests is 4, should be 5"
