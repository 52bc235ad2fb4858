"""The counting that the limit tests rest on, against slow readings of the same words.

What `windows.py` finds is compared with every window tried one by one over small random histories, and at the edges
where a limit is met exactly. It knows no gate.
"""

from __future__ import annotations

import itertools
import random

import pytest

from tests.tools.windows import Span, at_once, by_period, could, most, surely

HISTORIES = [random.Random(seed) for seed in range(40)]


def slow_most(events: list[tuple[int, int]], length: int) -> int:
    ends = range(-1, 60)
    return max((sum(w for t, w in events if end - length < t <= end) for end in ends), default=0)


@pytest.mark.parametrize(
    ("events", "length", "largest"),
    [
        ([], 5, 0),
        ([(0, 1)], 5, 1),
        ([(0, 1), (5, 1)], 5, 1),
        ([(0, 1), (4, 1)], 5, 2),
        ([(4, 2), (0, 1), (5, 3)], 5, 5),
        ([(7, 1), (7, 1), (7, 1)], 1, 3),
    ],
)
def test_most_at_the_edges(events: list[tuple[int, int]], length: int, largest: int) -> None:
    assert most(events, length) == largest


@pytest.mark.parametrize("chance", HISTORIES)
def test_most_is_what_trying_every_window_finds(chance: random.Random) -> None:
    events = [(chance.randrange(50), chance.randrange(4)) for _ in range(chance.randrange(20))]
    for length in (1, 2, 7, 49):
        assert most(events, length) == slow_most(events, length)


@pytest.mark.parametrize("chance", HISTORIES)
def test_surely_of_known_instants_is_most(chance: random.Random) -> None:
    events = [(chance.randrange(50), chance.randrange(4)) for _ in range(chance.randrange(20))]
    for length in (1, 2, 7, 49):
        assert surely([Span(t, t, w) for t, w in events], length) == most(events, length)


@pytest.mark.parametrize("chance", HISTORIES)
def test_surely_is_what_trying_every_window_finds(chance: random.Random) -> None:
    firsts = [chance.randrange(50) for _ in range(chance.randrange(12))]
    spans = [Span(first, first + chance.randrange(9), 1 + chance.randrange(3)) for first in firsts]
    for length in (1, 2, 7, 49):
        slow = max(sum(w for first, last, w in spans if end - length < first and last <= end) for end in range(-1, 70))
        assert surely(spans, length) == slow


@pytest.mark.parametrize("chance", HISTORIES[:8])
def test_surely_is_explained_by_no_choice_of_instants(chance: random.Random) -> None:
    spans = [Span(first, first + chance.randrange(3)) for first in (chance.randrange(8) for _ in range(5))]
    choices = itertools.product(*(range(first, last + 1) for first, last, _ in spans))
    least = min(most([(instant, 1) for instant in choice], 3) for choice in choices)
    assert surely(spans, 3) <= least


def test_span_as_long_as_the_window_says_nothing() -> None:
    assert surely([Span(0, 4), Span(0, 5)], 5) == 1


def test_by_period_sums_each() -> None:
    assert by_period([(0, 1), (9, 2), (10, 4), (25, 8)], lambda instant: instant // 10) == {0: 3, 1: 4, 2: 8}


def test_at_once_makes_room_as_one_ends() -> None:
    assert at_once([]) == 0
    assert at_once([(0, 5), (5, 9)]) == 1
    assert at_once([(0, 6), (5, 9), (1, 2)]) == 2
    assert at_once([(3, 3)]) == 0
    assert at_once([(0, 10), (2, 8), (4, 6)]) == 3


def test_could_lets_through_what_fits() -> None:
    assert could([], 3, 10) == 0
    assert could([(t, 1) for t in range(30)], 3, 10) == 9
    assert could([(0, 2), (1, 2), (2, 1)], 3, 10) == 3
    assert could([(0, 1), (9, 1), (10, 1)], 1, 10) == 2
    assert could([(0, 5)], 4, 10) == 0


@pytest.mark.parametrize("chance", HISTORIES)
def test_could_passes_its_own_proof(chance: random.Random) -> None:
    asked = [(chance.randrange(100), 1) for _ in range(60)]
    passed = could(asked, 4, 10)
    assert passed <= len(asked)
    assert passed >= could(asked, 4, 11), "a longer window lets no more through"
    assert passed >= could(asked, 3, 10)
