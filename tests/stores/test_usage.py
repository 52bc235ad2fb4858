"""How a time is cut into pieces; what the sums come to is in tests/contracts, over every store."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest

from slmgate.stores.rollups import DAY, HOUR, LEVELS, MINUTE
from slmgate.stores.schema import to_us
from slmgate.stores.usage import RECEIPTS, Piece, pieces

JAN, FEB, MAR = (to_us(datetime(2026, month, 1, tzinfo=UTC)) for month in (1, 2, 3))


def cut(start: int, end: int, kept: dict[str, int] | None = None, levels: int = 4) -> list[tuple[str, int, int]]:
    return [(level.name if level else RECEIPTS, *times) for level, *times in pieces(LEVELS[:levels], start, end, kept or {})]


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (FEB, MAR, [("months", FEB, MAR)]),
        (FEB, FEB, []),
        (FEB + 1, FEB + 2, [(RECEIPTS, FEB + 1, FEB + 2)]),
        (FEB + 1, FEB, []),
        (FEB + MINUTE, FEB + HOUR, [("minutes", FEB + MINUTE, FEB + HOUR)]),
        (
            JAN - DAY - 1,
            FEB + MINUTE + 1,
            [
                (RECEIPTS, JAN - DAY - 1, JAN - DAY),
                ("days", JAN - DAY, JAN),
                ("months", JAN, FEB),
                ("minutes", FEB, FEB + MINUTE),
                (RECEIPTS, FEB + MINUTE, FEB + MINUTE + 1),
            ],
        ),
    ],
)
def test_pieces(start: int, end: int, found: list[tuple[str, int, int]]) -> None:
    assert cut(start, end) == found


def test_no_coarser_than_asked() -> None:
    assert cut(JAN, MAR, levels=3) == [("days", JAN, MAR)]
    assert cut(JAN, MAR, levels=2) == [("hours", JAN, MAR)]
    assert cut(JAN, MAR, levels=0) == [(RECEIPTS, JAN, MAR)]


def test_what_is_gone_comes_from_what_is_left() -> None:
    half = FEB + HOUR // 2
    assert cut(FEB, half, {"minutes": MAR}) == [(RECEIPTS, FEB, half)]
    assert cut(FEB, half, {"minutes": MAR, RECEIPTS: MAR}) == []
    assert cut(FEB, FEB + HOUR + 1, {RECEIPTS: MAR}) == [("hours", FEB, FEB + HOUR)]
    assert cut(FEB, MAR, {"days": MAR}, 3) == [("hours", FEB, MAR)]
    assert cut(JAN, MAR, {"days": FEB, "hours": MAR, "minutes": MAR, RECEIPTS: FEB - DAY}, 3) == [
        (RECEIPTS, FEB - DAY, FEB),
        ("days", FEB, MAR),
    ]


def test_pieces_meet_and_cover_all() -> None:
    random = Random(4)
    for _ in range(500):
        start, end = sorted(random.choice((DAY, HOUR, MINUTE, 1)) * random.randrange(10**4) for _ in range(2))
        kept = {name: DAY * random.randrange(100) for name in ("minutes", "hours", "days") if random.random() < 0.5}
        found = pieces(LEVELS[: random.randrange(5)], start, end, kept)
        assert all(before.end == after.start for before, after in pairwise(found))
        assert (found[0].start, found[-1].end) == (start, end) if start < end else not found
        assert all(piece.level is None or kept.get(piece.level.name, 0) <= piece.start for piece in found)
        assert len(found) <= 2 * len(LEVELS) + 1
        assert all(isinstance(piece, Piece) for piece in found)
