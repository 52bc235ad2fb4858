"""How much was let through: the largest sum in any window, sums by calendar period, the most at once, and what could have been.

Times are integers of one unit (microseconds in the tests) and windows are half-open: two instants exactly a length apart are in
no window together. An observer seldom knows the instant of an admission, only that it lies between two others that it does
know (asked before, arrived after); `surely` counts only what no choice of instants between them can explain away, so that
what it finds over a limit was over it. Nothing here knows a gate, a socket or a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple, TypeVar

P = TypeVar("P", bound=Hashable)


class Span(NamedTuple):
    """Something of `weight` that happened at one instant, not before `first` and not after `last`."""

    first: int
    last: int
    weight: int = 1


def most(events: Iterable[tuple[int, int]], length: int) -> int:
    """The largest sum of weights in any half-open window of `length`, of (instant, weight) in any order; 0 of none."""
    largest = total = 0
    inside: deque[tuple[int, int]] = deque()
    for instant, weight in sorted(events):
        inside.append((instant, weight))
        total += weight
        while inside[0][0] <= instant - length:
            total -= inside.popleft()[1]
        largest = max(largest, total)
    return largest


def surely(spans: Iterable[Span], length: int) -> int:
    """The largest sum that lies wholly in one half-open window of `length`, wherever in its span each instant was.

    A span is wholly in the window that ends with the instant `end` from `end == last` until `end == first + length`: the sum
    of those is a function of `end` with a step at each of the two.
    """
    steps: list[tuple[int, int]] = []
    for first, last, weight in spans:
        if last < first + length:
            steps += [(last, weight), (first + length, -weight)]
    largest = total = 0
    for _, step in sorted(steps):  # at one instant what leaves comes first: windows are half-open
        total += step
        largest = max(largest, total)
    return largest


def by_period(events: Iterable[tuple[int, int]], period: Callable[[int], P]) -> dict[P, int]:
    """The sum of weights in each calendar period; `period` names the one that an instant is in."""
    sums: dict[P, int] = {}
    for instant, weight in events:
        name = period(instant)
        sums[name] = sums.get(name, 0) + weight
    return sums


def at_once(pairs: Iterable[tuple[int, int]]) -> int:
    """The most that were under way at one time, of (begin, end); one that ends as another begins has made room for it."""
    steps = [step for begin, end in pairs if end > begin for step in ((begin, 1), (end, -1))]
    largest = total = 0
    for _, step in sorted(steps):
        total += step
        largest = max(largest, total)
    return largest


def could(asked: Iterable[tuple[int, int]], amount: int, length: int) -> int:
    """The sum that a perfect limiter lets through of (instant, weight): each one that fits, in the order in which they ask."""
    passed = total = 0
    inside: deque[tuple[int, int]] = deque()
    for instant, weight in sorted(asked):
        while inside and inside[0][0] <= instant - length:
            total -= inside.popleft()[1]
        if total + weight <= amount:
            inside.append((instant, weight))
            total += weight
            passed += weight
    return passed
