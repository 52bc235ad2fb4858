"""What is due when, and that it goes in steps with pauses between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slmgate.control.config.ledger_options import Ledger
from slmgate.control.retention import PAUSE, STEP, Retention, due

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("length", "before"),
    [
        (86_400.0, datetime(2026, 11, 23, tzinfo=UTC)),
        (86_401.0, datetime(2026, 11, 22, tzinfo=UTC)),
        (7 * 86_400.0, datetime(2026, 11, 17, tzinfo=UTC)),
    ],
)
def test_nothing_goes_before_its_time_is_over(length: float, before: datetime) -> None:
    assert due(Ledger(minutes=length), NOON) == {"minutes": before}
    assert before + timedelta(seconds=length) <= NOON


def test_never() -> None:
    assert due(Ledger(minutes="never"), NOON) == {}
    assert list(due(Ledger(receipts=1e7, minutes=1e7, hours=1e7, days=1e7), NOON)) == ["receipts", "minutes", "hours", "days"]


class Rows:
    """A store that has so many rows to forget."""

    def __init__(self, **left: int) -> None:
        self.left = left
        self.asked: list[str] = []

    def forget(self, what: str, before: datetime, most: int) -> int:
        self.asked.append(what)
        gone = min(most, self.left[what])
        self.left[what] -= gone
        return gone


def test_steps_and_pauses() -> None:
    store: Any = Rows(receipts=STEP + 1, minutes=2)
    now = [0.0]
    retention = Retention(store, lambda: Ledger(receipts=1e7), lambda: NOON, lambda: now[0])
    assert [retention.step() for _ in range(5)] == [STEP, 1, 2, 0, 0]
    assert store.asked == ["receipts", "receipts", "receipts", "minutes", "receipts", "minutes"]
    store.left["minutes"] = 1
    now[0] = PAUSE - 1
    assert retention.step() == 0
    now[0] = PAUSE
    assert retention.step() == 1
