"""Delays grow with failures, end with time, and hold for tries at the same time."""

from __future__ import annotations

import pytest

from slmgate.control.admin.signin.throttle import Rule, Throttle, network

RULE = Rule(free=3, longest=8.0, forget=100.0)


def failed(times: int, now: float = 1000.0) -> Throttle:
    throttle = Throttle(RULE, b"salt")
    for _ in range(times):
        throttle.charge("ann", now)
    return throttle


@pytest.mark.parametrize(("times", "wait"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 8), (7, 8), (5000, 8)])
def test_each_failure_doubles_the_delay(times: int, wait: float) -> None:
    assert failed(times).wait("ann", 1000.0) == wait
    assert failed(times).wait("ann", 1000.0 + wait) == 0.0
    assert failed(times).wait("bob", 1000.0) == 0.0


def test_all_is_forgotten_in_time() -> None:
    throttle = failed(6)
    throttle.charge("ann", 1050.0)
    assert throttle.wait("ann", 1050.0) == 8.0
    assert throttle.wait("ann", 1150.0) == 0.0
    throttle.charge("ann", 1150.0)
    assert throttle.wait("ann", 1150.0) == 0.0


def test_a_right_password_makes_good() -> None:
    throttle = failed(6)
    throttle.forget("ann")
    assert throttle.wait("ann", 1000.0) == 0.0
    throttle = failed(3)
    throttle.give_back("ann")
    assert throttle.wait("ann", 1000.0) == 0.0
    throttle.give_back("bob")
    assert throttle.wait("bob", 1000.0) == 0.0


def test_memory_is_fixed_and_names_share_places() -> None:
    throttle = Throttle(RULE, b"salt", places=1)
    for number in range(100):
        throttle.charge(f"made up {number}", 1.0)
    assert throttle.wait("ann", 1.0) == 8.0


def test_places_differ_by_salt() -> None:
    one, other = Throttle(RULE, b"a"), Throttle(RULE, b"b")
    assert [one._place(str(name)) for name in range(9)] != [other._place(str(name)) for name in range(9)]
    assert one._place("\ud800") >= 0


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_address(address: str, same: str) -> None:
    assert network(address) == same
