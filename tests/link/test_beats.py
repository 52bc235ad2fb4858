"""The board of heartbeats: rows of their own, states that a beat keeps, one view for all who hold the descriptor.

The clock is the test's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from slmgate.link import beats
from slmgate.link.beats import DRAINING_ROW, READY, ROWS, STARTING, Beats
from tests.tools.fakes import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(beats, "time", clock)
    return clock


@pytest.fixture
def board() -> Iterator[int]:
    fd = beats.create()
    yield fd
    os.close(fd)


def test_a_new_board(board: int) -> None:
    assert {Beats(board).read(row) for row in range(ROWS)} == {(0.0, STARTING)}


@pytest.mark.parametrize("row", [0, 1, DRAINING_ROW])
def test_a_row_is_seen_by_all_and_touches_no_other(board: int, clock: Clock, row: int) -> None:
    child, supervisor = Beats(board), Beats(board)
    child.mark(row, READY)
    assert supervisor.read(row) == (1000.0, READY)
    assert {supervisor.read(other) for other in range(ROWS) if other != row} == {(0.0, STARTING)}


def test_a_beat_keeps_the_state(board: int, clock: Clock) -> None:
    one = Beats(board)
    one.beat(0)
    assert one.read(0) == (1000.0, STARTING)
    one.mark(0, READY)
    clock.passed = 1001.5
    one.beat(0)
    assert one.read(0) == (1001.5, READY)
    one.mark(0, STARTING)
    assert one.read(0) == (1001.5, STARTING)


def test_the_last_row_is_the_supervisors(board: int) -> None:
    assert DRAINING_ROW == ROWS - 1
    with pytest.raises(Exception, match="unpack_from requires"):
        Beats(board).read(ROWS)
