"""Lanes of many clients in one integer: what is packed comes back, and is added up without running over."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from slmgate.stores.rankings import LANE, kept, packed, spans, unpacked, values
from slmgate.stores.rollups import DAY, HOUR, LEVELS
from slmgate.stores.usage import Piece
from tests.stores.test_usage import FEB, JAN, MAR

LISTS = st.lists(st.integers(0, 2**54), max_size=20)


def lanes(numbers: list[int]) -> int:
    return sum(number << (8 * LANE * place) for place, number in enumerate(numbers))


@given(LISTS, LISTS)
def test_lanes_are_added_up_each_for_itself(one: list[int], other: list[int]) -> None:
    size = max(len(one), len(other))
    both = [a + b for a, b in zip(one + [0] * (size - len(one)), other + [0] * (size - len(other)), strict=True)]
    found = values(unpacked(packed(lanes(one))) + unpacked(packed(lanes(other)))).tolist()
    assert found + [0] * (size - len(found)) == both


def test_nothing() -> None:
    assert values(0) == array("Q")
    assert unpacked(packed(0)) == 0


def test_spans_are_whole_days_and_months_and_what_is_left() -> None:
    _, hours, days, months = LEVELS
    found = spans(
        [Piece(None, 1, 2), Piece(hours, JAN - 2 * HOUR, JAN), Piece(days, JAN, JAN + 2 * DAY), Piece(months, FEB, MAR)]
    )
    assert found == [
        ("receipts", 1, 2),
        ("hours", JAN - 2 * HOUR, JAN),
        ("days", JAN, JAN + DAY),
        ("days", JAN + DAY, JAN + 2 * DAY),
        ("months", FEB, MAR),
    ]
    assert [kept(level) for level, *_ in found] == [False, False, True, True, True]
