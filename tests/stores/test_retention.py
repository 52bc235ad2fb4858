"""What is deleted is noted, no earlier than it is; that sums and answers stay right is in tests/contracts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from slmgate.stores.records import Batch
from slmgate.stores.schema import to_us
from slmgate.stores.sql import open_store
from slmgate.stores.usage import kept_since
from tests.tools.journal_writer import make_receipt

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def test_the_note_goes_with_the_first_row_and_never_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    times = [MIDNIGHT - 2 * DAY, MIDNIGHT - DAY, MIDNIGHT]
    store.write(Batch(receipts=[make_receipt(f"r{place}", time=time) for place, time in enumerate(times)]))

    def noted() -> dict[str, int]:
        with store._reading() as connection:
            return kept_since(connection)

    assert store.forget("receipts", MIDNIGHT - 9 * DAY, 5) == 0
    assert noted() == {}
    assert store.forget("receipts", MIDNIGHT - DAY, 1) == 1
    assert store.forget("receipts", MIDNIGHT, 1) == 1
    assert noted() == {"receipts": to_us(MIDNIGHT)}
    store.write(Batch(receipts=[make_receipt("late", time=MIDNIGHT - 2 * DAY)]))
    assert store.forget("receipts", MIDNIGHT - DAY, 5) == 1
    assert store.forget("days", MIDNIGHT, 1) == 1
    assert noted() == {"receipts": to_us(MIDNIGHT), "days": to_us(MIDNIGHT)}
    store.close()
