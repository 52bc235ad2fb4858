"""Of how many requests how many are tried again: the share, the floor, and what is forgotten after a while.

Who counts requests and asks is `tests/dataplane/test_pool.py`'s affair.
"""

from __future__ import annotations

import pytest

from slmgate.policy.retries import FLOOR, HALF, Budget


def taken(budget: Budget, requests: int, live: int = 0, now: float = 0.0) -> int:
    """How many retries there are before one is refused."""
    count = 0
    while budget.take(requests, live, now):
        count += 1
        assert count <= 10_000
    return count


@pytest.mark.parametrize(
    ("share", "requests", "live", "most"),
    [
        (0.2, 0, 0, FLOOR),
        (0.2, 1, 1, FLOOR),
        (0.2, 54, 0, FLOOR),
        (0.2, 55, 0, 11),
        (0.2, 1000, 0, 200),
        (0.2, 0, 1000, 200),  # those under way count where there are more of them
        (0.2, 500, 1000, 200),
        (1.0, 100, 0, 100),
        (3.0, 100, 0, 300),
        (0.001, 1000, 0, FLOOR),
        (0.0, 1000, 1000, 0),
    ],
)
def test_share_and_floor(share: float, requests: int, live: int, most: int) -> None:
    assert taken(Budget(share), requests, live) == most


def test_what_is_old_does_not_count() -> None:
    budget = Budget(0.2)
    budget.look(0, 100.0)
    budget.look(1000, 100.0 + HALF)
    assert taken(budget, 1000, now=100.0 + HALF) == 200, "half a time later they count still"
    assert taken(budget, 1100, now=100.0 + HALF * 1.9) == 20
    assert taken(budget, 1100, now=100.0 + HALF * 2) == 0, "220 retries count, and only 100 requests"
    assert taken(budget, 1100, now=100.0 + HALF * 3) == FLOOR, "all is forgotten"


def test_over_a_long_time_it_is_the_share() -> None:
    """A pool in which every request fails: 60 s at 100 requests a second, and each is to be tried again."""
    budget, retries, requests = Budget(0.2), 0, 0
    for step in range(6000):
        requests += 1
        retries += budget.take(requests, 0, step / 100)
    assert 0.17 * requests <= retries <= 0.2 * requests


def test_after_a_good_time_a_burst_is_allowed_but_no_more() -> None:
    budget = Budget(0.2)
    for second in range(20):
        budget.look(second * 100, float(second))
    assert 100 <= taken(budget, 2000, now=20.0) <= 200, "five to ten seconds of them count"
    assert taken(budget, 2000, now=20.0) == 0


def test_what_could_not_be_refused_counts() -> None:
    budget = Budget(0.2)
    for _ in range(FLOOR - 1):
        budget.spend()
    assert taken(budget, 10) == 1
    budget.spend()
    assert taken(budget, 10) == 0


def test_it_tells_what_was_spent() -> None:
    budget = Budget(0.2)
    budget.take(1, 1, 0.0)
    assert repr(budget) == "<Budget 0.2: 1 retries>"
