"""That all is prepared, one thing at a time, and then looked at now and then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from slmgate.control.preparing import BACK, PAUSE, Preparing

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Tallies:
    """Of which so much is left to prepare."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.asked: list[tuple[datetime, datetime]] = []

    def prepare(self, since: datetime, until: datetime) -> bool:
        self.asked.append((since, until))
        self.left -= 1
        return self.left >= 0


def test_steps_and_pauses() -> None:
    tallies: Any = Tallies(2)
    now = [7.0]
    preparing = Preparing(lambda: tallies, lambda: NOON, lambda: now[0])
    assert [preparing.step() for _ in range(5)] == [True, True, False, False, False]
    assert tallies.asked == [(NOON - BACK, NOON)] * 3
    assert repr(preparing) == "<Preparing, next look at 67>"
    tallies.left = 1
    now[0] = 7.0 + PAUSE - 1
    assert not preparing.step()
    now[0] = 7.0 + PAUSE
    assert preparing.step()
