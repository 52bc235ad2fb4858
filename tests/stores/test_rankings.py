"""Vectors of all clients: what is packed comes back, and is added up without running over into the next one's place."""

from __future__ import annotations

import zlib
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.stores.rankings import MOST, Total, packed, spans
from slmgate.stores.rollups import DAY, HOUR, LEVELS
from slmgate.stores.usage import Piece
from tests.stores.test_usage import FEB, JAN, MAR

LISTS = st.lists(st.lists(st.integers(0, 2**54), max_size=20), max_size=5)


def added(vectors: list[bytes], size: int) -> list[int]:
    total = Total()
    for vector in vectors:
        total.add(vector)
    return total.values(size).tolist()


def as_before(numbers: list[int]) -> bytes:
    """A vector as the first version kept it."""
    return zlib.compress(array("Q", numbers).tobytes(), 1)


@given(LISTS)
def test_vectors_are_added_up_each_place_for_itself(lists: list[list[int]]) -> None:
    right = [sum(each[place] for each in lists if place < len(each)) for place in range(20)]
    assert added([packed(array("Q", each)) for each in lists], 20) == right
    assert added([as_before(each) for each in lists], 20) == right
    assert added([as_before(each) if each[:1] > [7] else packed(array("Q", each)) for each in lists], 20) == right


@pytest.mark.parametrize("number", [1, MOST - 1, MOST, MOST + 1, 2 * MOST + 3])
@pytest.mark.parametrize("value", [1, 255, 256, 2**16 - 1, 2**54 - 1, 2**54])
def test_however_many_are_added(number: int, value: int) -> None:
    number = min(number, 2**64 // value - 1)
    assert added([packed(array("Q", [value, 0, value]))] * number, 4) == [number * value, 0, number * value, 0]


def test_nothing() -> None:
    assert added([], 2) == [0, 0]
    assert added([packed(array("Q")), packed(array("Q", [0, 0]))], 2) == [0, 0]


def test_a_total_tells_how_many_it_has() -> None:
    total = Total()
    total.add(packed(array("Q", [1])))
    assert repr(total) == "<Total 1 added>"


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
