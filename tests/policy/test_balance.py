"""The choice among instances: by how busy, how heavy, how full, how healthy each is.

Candidates are plain numbers; a property says that a choice is always one that has room.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.balance import choose


@dataclass(eq=False)
class One:
    """What a strategy may know of an instance."""

    busy: int = 0
    weight: int = 1
    max_in_flight: int | None = None
    down_until: float = 0.0
    served: float = 0.0
    share: float = 1.0


STRATEGIES = ["least_busy", "round_robin", "weighted"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody(strategy: str) -> None:
    assert choose(strategy, [], 0.0) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("bound", "busy", "room"), [(0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True), (2, 3, False)])
def test_room(strategy: str, bound: int, busy: int, room: bool) -> None:
    assert (choose(strategy, [One(busy=busy, max_in_flight=bound)], 0.0) is not None) is room


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tried_and_full_are_passed_over(strategy: str) -> None:
    tried, full, left = One(), One(busy=1, max_in_flight=1), One(busy=9, served=99.0)
    assert choose(strategy, [tried, full, left], 0.0, (tried,)) == 2
    assert choose(strategy, [tried, full], 0.0, (tried,)) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("now", "chosen"), [(4.9, 1), (5.0, 0), (5.1, 0)])
def test_down_until(strategy: str, now: float, chosen: int) -> None:
    assert choose(strategy, [One(down_until=5.0), One(busy=3, served=3.0)], now) == chosen


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_down_the_one_that_is_up_first(strategy: str) -> None:
    assert choose(strategy, [One(down_until=9.0), One(down_until=8.0), One(down_until=10.0)], 5.0) == 1


def test_least_busy_counts_the_weight_and_then_what_was_served() -> None:
    assert choose("least_busy", [One(busy=2), One(busy=1)], 0.0) == 1
    assert choose("least_busy", [One(busy=2, weight=4), One(busy=1, weight=1)], 0.0) == 0
    assert choose("least_busy", [One(busy=1, served=5.0), One(busy=1, served=4.0)], 0.0) == 1


def test_who_has_come_back_takes_its_part_of_the_work() -> None:
    """Nothing in flight, it is like the others; with something, it waits until they have as much for their share."""
    assert choose("least_busy", [One(busy=0, share=0.1), One(busy=1)], 0.0) == 0
    assert choose("least_busy", [One(busy=1, share=0.1), One(busy=9)], 0.0) == 1
    assert choose("least_busy", [One(busy=1, share=0.1), One(busy=11)], 0.0) == 0


def times(strategy: str, *instances: One) -> list[int]:
    """How often each is chosen in sixty turns."""
    for _ in range(60):
        index = choose(strategy, instances, 0.0)
        assert index is not None
        instances[index].served += 1
    return [int(one.served) for one in instances]


def test_round_robin_takes_turns() -> None:
    assert times("round_robin", One(), One(weight=9), One(busy=5)) == [20, 20, 20]


def test_weighted_takes_turns_by_weight() -> None:
    assert times("weighted", One(weight=1), One(weight=2), One(weight=3)) == [10, 20, 30]


@given(
    strategy=st.sampled_from(STRATEGIES),
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 3), st.none() | st.integers(0, 4), st.floats(0, 10), st.booleans()),
        max_size=6,
    ),
)
def test_a_choice_has_room_and_was_not_tried(strategy: str, rows: list[tuple[int, int, int | None, float, bool]]) -> None:
    instances = [One(busy, weight, most, down) for busy, weight, most, down, _ in rows]
    tried = [one for one, row in zip(instances, rows, strict=True) if row[4]]
    good = [
        n for n, one in enumerate(instances) if one not in tried and (one.max_in_flight is None or one.busy < one.max_in_flight)
    ]
    index = choose(strategy, instances, 5.0, tried)
    if not good:
        assert index is None
    else:
        assert index in good
        up = [n for n in good if instances[n].down_until <= 5.0]
        assert index in up or not up
