"""The board of loads: columns that all workers agree on, what others have in flight, dead rows, and a board that is full."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmgate.link import loads
from slmgate.link.loads import MARK, Loads, create, strike


@pytest.fixture
def board() -> Iterator[int]:
    fd = create(3)
    yield fd
    os.close(fd)


def workers(fd: int, count: int = 3) -> list[Loads]:
    return [Loads(fd, row, count) for row in range(count)]


def test_all_workers_have_the_same_columns(board: int) -> None:
    one, two, three = workers(board)
    first = one.claim(["a", "b"])
    assert len({*first.values()}) == 2 and 0 not in first.values()
    assert two.claim(["b", "c"])["b"] == first["b"]
    assert three.claim(["c", "a"]) == {"c": two.claim(["c"])["c"], "a": first["a"]}
    assert one.claim([]) == {}


def test_others_are_summed_without_ones_own(board: int) -> None:
    one, two, three = workers(board)
    columns = one.claim(["a", "b"])
    assert two.claim(["a", "b"]) == three.claim(["b", "a"]) == columns
    a, b = columns["a"], columns["b"]
    one.cells[a] = MARK + 5
    two.cells[a] = MARK + 2
    three.cells[a] = MARK + 4
    three.cells[b] = MARK + 1
    assert one.others([a, b]) == [6, 1]
    assert two.others([b, a]) == [1, 9]
    assert three.others([a]) == [7]
    assert one.others([]) == []


def test_columns_far_apart_are_summed_too(board: int) -> None:
    one, two, _ = workers(board)
    columns = one.claim([f"i{number}" for number in range(100)])
    two.claim(columns)
    near, far = columns["i0"], columns["i99"]
    two.cells[near], two.cells[far] = MARK + 3, MARK + 4
    assert one.others([near, far]) == [3, 4]


def test_a_dead_workers_row_is_struck_out(board: int) -> None:
    one, two, _ = workers(board)
    column = one.claim(["a"])["a"]
    two.claim(["a"])
    two.cells[column] = MARK + 7
    assert one.others([column]) == [7]
    strike(board, 1)
    assert one.others([column]) == [0]
    assert one.cells[column] == MARK


def test_a_successor_strikes_out_what_it_finds(board: int) -> None:
    one, two, _ = workers(board)
    column = one.claim(["a"])["a"]
    two.claim(["a"])
    two.cells[column] = MARK + 7
    again = Loads(board, 1, 3)
    assert one.others([column]) == [0]
    assert again.claim(["a"]) == {"a": column}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A board of three columns, one of them nobody's."""
    monkeypatch.setattr(loads, "COLUMNS", 3)
    monkeypatch.setattr(loads, "_DIRECTORY", 3 * 8)
    monkeypatch.setattr(loads, "_ROW", 3 * 4)
    fd = create(2)
    yield fd
    os.close(fd)


def test_a_full_board(small: int) -> None:
    one, two = workers(small, 2)
    assert sorted(one.claim(["a", "b", "c"])) == ["a", "b"]
    assert two.claim(["c"]) == {}


def test_a_column_that_nobody_has_is_given_to_another(small: int) -> None:
    one, two = workers(small, 2)
    columns = one.claim(["a", "b"])
    two.claim(["a"])
    one.cells[columns["a"]] = one.cells[columns["b"]] = 0
    assert two.claim(["c"]) == {"c": columns["b"]}, "a is still two's"
    assert one.claim(["c", "b", "a"]) == {"c": columns["b"], "a": columns["a"]}
    two.cells[columns["a"]] = two.cells[columns["b"]] = 0
    one.cells[columns["a"]] = 0
    assert two.claim(["d"]) == {"d": columns["a"]}
    assert one.claim(["d"]) == {"d": columns["a"]}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["claim", "leave"]), st.sampled_from("abcd")), max_size=40))
def test_no_two_instances_that_are_in_use_share_a_column(events: list[tuple[int, str, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loads, "COLUMNS", 4)
        patch.setattr(loads, "_DIRECTORY", 4 * 8)
        patch.setattr(loads, "_ROW", 4 * 4)
        fd = create(2)
        both = workers(fd, 2)
        has: list[dict[str, int]] = [{}, {}]
        for row, what, id in events:
            if what == "claim" and id not in has[row]:
                has[row] |= both[row].claim([id])
            elif id in has[row]:
                both[row].cells[has[row].pop(id)] = 0
            for mine in has:
                assert len({*mine.values()}) == len(mine)
            for id, column in has[0].items():
                assert all(other == id for other, its in has[1].items() if its == column)
                assert has[1].get(id, column) == column
        os.close(fd)
