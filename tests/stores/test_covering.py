"""How a time is put together from whole spans, added and taken away; what the sums come to is in tests/contracts."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from slmgate.stores.covering import Part, cover
from slmgate.stores.rollups import DAY, HOUR, LEVELS, MINUTE
from slmgate.stores.usage import RECEIPTS, pieces
from tests.stores.test_usage import FEB, JAN, MAR


def told(parts: list[Part]) -> list[tuple[str, str, int, int]]:
    return [
        ("+" if part.sign > 0 else "-", part.piece.level.name if part.piece.level else RECEIPTS, part.piece.start, part.piece.end)
        for part in parts
    ]


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (FEB, MAR, [("+", "months", FEB, MAR)]),
        (FEB, FEB, []),
        (FEB + 1, FEB, []),
        (FEB + 1, FEB + 2, [("+", RECEIPTS, FEB + 1, FEB + 2)]),
        (FEB, FEB + 23 * HOUR, [("+", "days", FEB, FEB + DAY), ("-", "hours", FEB + 23 * HOUR, FEB + DAY)]),
        (FEB + HOUR, FEB + DAY, [("-", "hours", FEB, FEB + HOUR), ("+", "days", FEB, FEB + DAY)]),
        (
            FEB + HOUR,
            FEB + 23 * HOUR,
            [
                ("+", "days", FEB, FEB + DAY),
                ("-", "hours", FEB, FEB + HOUR),
                ("-", "hours", FEB + 23 * HOUR, FEB + DAY),
            ],
        ),
        (
            FEB - HOUR,
            FEB + 2 * DAY - HOUR,
            [
                ("+", "hours", FEB - HOUR, FEB),
                ("+", "days", FEB, FEB + 2 * DAY),
                ("-", "hours", FEB + 2 * DAY - HOUR, FEB + 2 * DAY),
            ],
        ),
    ],
)
def test_a_time_is_covered_by_few_spans(start: int, end: int, found: list[tuple[str, str, int, int]]) -> None:
    assert told(cover(LEVELS, start, end, {})) == found


def test_times_that_meet_within_a_span_read_the_same_half_of_it() -> None:
    half = FEB + HOUR // 2
    before, after = cover(LEVELS, FEB - HOUR, half, {}), cover(LEVELS, half, FEB + 2 * HOUR, {})
    assert ("+", "minutes", FEB, half) in told(before)
    assert ("-", "minutes", FEB, half) in told(after)


def test_nothing_is_taken_away_that_is_not_kept() -> None:
    end = FEB + 23 * HOUR
    assert told(cover(LEVELS, FEB, end, {"hours": FEB + DAY, "minutes": FEB + DAY, RECEIPTS: FEB + DAY})) == []
    assert told(cover(LEVELS, FEB, end, {"hours": FEB + DAY, "minutes": FEB + DAY})) == [
        ("+", "days", FEB, FEB + DAY),
        ("-", RECEIPTS, end, FEB + DAY),
    ]
    assert told(cover(LEVELS, FEB, end, {"days": MAR})) == [("+", "hours", FEB, end)]


def covered(parts: list[Part]) -> list[tuple[int, int, int]]:
    """How often each time between two edges is counted."""
    edges = sorted({edge for part in parts for edge in part.piece[1:]})
    found = [(a, b, sum(part.sign for part in parts if part.piece.start <= a < part.piece.end)) for a, b in pairwise(edges)]
    return [each for each in found if each[2]]


def test_all_of_a_time_is_counted_once_and_nothing_else() -> None:
    random = Random(5)
    for _ in range(3000):
        start, end = sorted(JAN + random.choice((DAY, HOUR, MINUTE, 1)) * random.randrange(10**4) for _ in range(2))
        kept = {name: JAN + DAY * random.randrange(50) for name in ("minutes", "hours", "days") if random.random() < 0.5}
        levels = LEVELS[: random.randrange(5)]
        found = cover(levels, start, end, kept)
        at = start
        for a, b, times in covered(found):
            assert (a, times) == (at, 1)
            at = b
        assert at == end
        assert all(part.piece.level is None or kept.get(part.piece.level.name, 0) <= part.piece.start for part in found)


def test_what_is_gone_for_good_is_in_no_part() -> None:
    random = Random(6)
    for _ in range(3000):
        start, end = sorted(JAN + random.choice((DAY, HOUR, MINUTE, 1)) * random.randrange(10**4) for _ in range(2))
        # as retention has it: the finer, the sooner
        days, hours, minutes, receipts = sorted(JAN + DAY * random.randrange(60) for _ in range(4))
        kept = {"days": days, "hours": hours, "minutes": minutes, RECEIPTS: receipts}
        said = sum(piece.end - piece.start for piece in pieces(LEVELS, start, end, kept))
        found = covered(cover(LEVELS, start, end, kept))
        assert all(times == 1 and start <= a < b <= end for a, b, times in found)
        assert sum(b - a for a, b, _ in found) >= said
