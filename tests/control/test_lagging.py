"""How far the ledger is behind: up to date, failing, and waiting for a database that says nothing."""

from __future__ import annotations

from slmgate.control.lagging import SLOW_SECONDS, Lag
from tests.tools.fakes import Clock


def test_what_is_told_of_each_round() -> None:
    clock = Clock()
    lag = Lag(clock.monotonic)
    assert repr(lag) == "<Lag None>"  # nothing has been taken in yet
    clock.passed += 1.0
    lag.none()
    clock.passed += 3.0
    assert (lag.seconds, repr(lag)) == (0.0, "<Lag 0.0>")  # the next round is at work
    lag.failed()
    clock.passed += 11.0  # each try takes as long as it takes
    lag.failed()
    assert lag.seconds == 14.0
    lag.none()
    assert lag.seconds == 0.0


def test_a_round_that_does_not_end() -> None:
    """The database's machine is gone, and nobody says so."""
    clock = Clock()
    lag = Lag(clock.monotonic)
    lag.none()
    clock.passed += SLOW_SECONDS
    assert lag.seconds == 0.0
    clock.passed += 1.0
    assert lag.seconds == SLOW_SECONDS + 1.0
    lag.none()
    assert lag.seconds == 0.0


def test_one_that_was_never_well() -> None:
    clock = Clock()
    lag = Lag(clock.monotonic)
    clock.passed += 2.0
    lag.failed()
    assert lag.seconds == 2.0
