"""How long an engine that fails is left alone: longer each time, bounded, and less when it had been well."""

from __future__ import annotations

from slmgate.control.engines.pause import FIRST, LONGEST, SPREAD, STEADY, Pause


def test_longer_each_time() -> None:
    pause = Pause(lambda: 0.0)
    seconds = [pause.failed(100.0) for _ in range(9)]
    assert seconds == [FIRST, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]
    assert pause.until == 100.0 + LONGEST
    for _ in range(5000):
        pause.failed(0.0)
    assert pause.failed(0.0) == LONGEST


def test_a_part_is_left_to_chance() -> None:
    assert Pause(lambda: 1.0).failed(0.0) == FIRST * (1 - SPREAD)


def test_one_that_was_ready_comes_back_at_once_the_first_time() -> None:
    pause = Pause(lambda: 0.0)
    assert pause.failed(10.0, served=1.0) == 0.0
    assert pause.until == 10.0
    assert pause.failed(11.0, served=1.0) == 2 * FIRST
    assert pause.failed(12.0) == 4 * FIRST


def test_what_was_long_ago_does_not_count() -> None:
    pause = Pause(lambda: 0.0)
    pause.failed(0.0)
    pause.failed(0.0)
    assert repr(pause) == "<Pause: 2 failures in a row>"
    assert pause.failed(0.0, served=STEADY) == 0.0
    pause.failed(0.0)
    pause.steady()
    assert pause.failed(0.0) == FIRST
