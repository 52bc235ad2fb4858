"""The fair queue by itself: shares, classes, places and the pace, in rows and as properties of whatever may come.

Time is a number that the test counts up. How exchanges come into the queue and out of it is `test_pool.py`'s.
"""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmgate.policy import queue as module
from slmgate.policy.queue import LONGEST_ANSWER, PATIENCE, USUAL_ANSWER, FairQueue, tokens
from slmgate.terms import Ask

Item = tuple[str, int]
"""Whose it is, and its number."""


class Line:
    """A queue that is told names only; what comes has a number of its own."""

    def __init__(self) -> None:
        self.queue: FairQueue[Item] = FairQueue()
        self.numbers = count()

    def join(self, flow: str, priority: int = 0, weight: int = 1, cost: int = 1, now: float = 0.0) -> Item:
        item = flow, next(self.numbers)
        self.queue.join(item, flow, priority, weight, cost, now)
        return item

    def again(self, flow: str, priority: int = 0, weight: int = 1, now: float = 0.0) -> Item:
        item = flow, next(self.numbers)
        self.queue.rejoin(item, flow, priority, weight, now)
        return item

    def order(self, turns: int = 10**9, now: float = 0.0) -> str:
        """The flows of those that go next."""
        gone = ""
        while self.queue.fresh and len(gone) < turns:
            gone += self.queue.next(now)[0]
        return gone


@pytest.mark.parametrize(
    ("ask", "cost"),
    [
        (Ask("m", prompt_estimate=10), 10 + USUAL_ANSWER),
        (Ask("m", prompt_estimate=10, max_tokens=0), 10),
        (Ask("m", prompt_estimate=10, max_tokens=1), 11),
        (Ask("m", prompt_estimate=-5, max_tokens=-1), 0),
        (Ask("m", max_tokens=LONGEST_ANSWER), LONGEST_ANSWER),
        (Ask("m", max_tokens=LONGEST_ANSWER + 1), LONGEST_ANSWER),
        (Ask("m", max_tokens=10**18), LONGEST_ANSWER),
    ],
)
def test_what_a_request_is_taken_to_cost(ask: Ask, cost: int) -> None:
    assert tokens(ask) == cost


def test_one_flow_is_first_come_first_served() -> None:
    line = Line()
    came = [line.join("a", cost=cost) for cost in (5, 1, 9)]
    assert [line.queue.next(0.0) for _ in came] == came
    assert not line.queue.fresh and not line.queue.places


def test_many_waiting_delay_one_by_one() -> None:
    line = Line()
    for _ in range(6):
        line.join("a")
    assert line.order(2) == "aa"
    line.join("b")
    assert line.order() == "baaaa"


def test_who_comes_one_at_a_time_goes_every_other_time() -> None:
    line = Line()
    for _ in range(500):
        line.join("a")
    gone = line.order(1)
    for _ in range(20):
        line.join("b")
        waited = 0
        while (who := line.order(1)) == "a":
            waited += 1
        gone += "a" * waited + who
        assert waited <= 1
    assert gone.count("b") == 20


@pytest.mark.parametrize(("weights", "shares"), [((1, 1), (6, 6)), ((1, 2), (4, 8)), ((1, 3), (3, 9)), ((5, 1), (10, 2))])
def test_weights(weights: tuple[int, int], shares: tuple[int, int]) -> None:
    line = Line()
    for _ in range(12):
        line.join("a", weight=weights[0])
        line.join("b", weight=weights[1])
    gone = line.order(12)
    assert (gone.count("a"), gone.count("b")) == shares


def test_tokens_and_not_requests_are_shared() -> None:
    line = Line()
    for _ in range(40):
        line.join("a", cost=300)
        line.join("b", cost=100)
    gone = line.order(40)
    assert (gone.count("a"), gone.count("b")) == (10, 30)


def test_having_been_away_is_neither_paid_nor_paid_for() -> None:
    line = Line()
    for _ in range(4):
        line.join("b")
    for _ in range(10):
        line.join("a")
    assert line.order(8) == "babababa"
    assert line.order(3) == "aaa"  # `b` has nothing waiting, for as long as this takes
    line.join("b")
    line.join("b")
    assert line.order(4) in ("baba", "abab")


def test_what_was_had_is_remembered_while_others_wait() -> None:
    line = Line()
    line.join("a", cost=1000)
    for _ in range(5):
        line.join("b", cost=100)
    assert line.order(2) == "ab"
    line.join("a", cost=1)
    assert line.order() == "bbbba"


def test_who_leaves_costs_its_flow_nothing() -> None:
    line = Line()
    leaving = [line.join("a", cost=1000) for _ in range(3)]
    line.join("a")
    line.join("b")
    for item in leaving:
        line.queue.leave(item)
    line.queue.leave(leaving[0])
    assert line.order() == "ab"


def test_a_flow_that_left_is_passed_over() -> None:
    line = Line()
    gone = line.join("a")
    line.join("b")
    line.queue.leave(gone)
    assert repr(line.queue) == "<FairQueue: 1 waiting, 0 of them again>"
    assert line.order() == "b"


def test_a_class_goes_before_a_lower_one() -> None:
    line = Line()
    for _ in range(3):
        line.join("a", priority=1)
        line.join("b", priority=7)
        line.join("c")
    assert line.order() == "bbbaaaccc"


def test_no_class_is_passed_over_for_ever() -> None:
    line = Line()
    for _ in range(3 * (PATIENCE + 1)):
        line.join("a", priority=2)
        line.join("b", priority=1)
        line.join("c")
    gone = line.order(2 * (PATIENCE + 1))
    first = "a" * PATIENCE + "bc"
    assert gone.startswith(first)
    assert gone[len(first) :].startswith("a" * (PATIENCE - 2))


def test_patience_begins_when_somebody_waits() -> None:
    line = Line()
    for _ in range(2 * PATIENCE):
        line.join("a", priority=1)
    again = line.again("b")  # in the lower class, but not for its first turn
    assert line.order(PATIENCE) == "a" * PATIENCE
    line.join("b")
    assert line.order(2) == "aa"
    line.queue.leave(again)


def test_who_had_its_turn_is_not_in_line_but_has_a_place() -> None:
    line = Line()
    line.join("a", priority=3)
    item = line.again("b")
    assert list(line.queue.again) == [item] and len(line.queue.places) == 2
    assert repr(line.queue) == "<FairQueue: 2 waiting, 1 of them again>"
    assert repr(line.queue.places[item]) == "<Flow b: 1 waiting>"
    line.queue.next_again(item, 0.0)
    assert not line.queue.again and line.order() == "a"
    other = line.again("c")
    assert not line.queue.fresh and line.queue.places
    line.queue.leave(other)
    assert not line.queue.places and not line.queue.again


def test_a_flow_of_which_only_those_again_are_left() -> None:
    """It comes up while it has no line, and gets one later."""
    line = Line()
    line.join("a")
    line.again("a")
    line.join("b")
    line.join("b")
    assert line.order() == "abb"
    line.join("a")
    assert line.order() == "a"
    assert [str(flow) for flow in line.queue.places.values()] == ["<Flow a: 1 waiting>"]
    assert "<_Level 0: 0 waiting in 2 flows>" in repr(line.queue._levels)


def test_a_flow_unlisted_is_gone_with_its_last() -> None:
    line = Line()
    line.join("a")
    item = line.again("a")
    line.join("b")
    line.join("b")
    line.join("b")
    assert line.order(3) == "abb"
    line.queue.leave(item)
    assert set(line.queue._levels[0].flows) == {"b"}


def test_too_many_flows_that_wait_for_nothing_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    line = Line()
    line.join("z")
    for number in range(20):
        item = f"f{number}", number
        line.queue.join(item, item[0], 0, 1, 1, 0.0)
        line.queue.leave(item)
        assert len(line.queue._levels[0].flows) <= 2 + 3 + 1
    assert line.order() == "z"


def test_the_newest_of_the_longest_flow_has_to_go() -> None:
    line = Line()
    for _ in range(3):
        last = line.join("a")
    line.join("b")
    assert line.queue.surplus() == last
    line.queue.leave(last)
    newest = line.join("b")  # now they are equal: who came last
    assert line.queue.surplus() == newest
    line.queue.leave(newest)
    high = line.join("c", priority=1)
    assert line.queue.surplus()[0] == "a"
    line.join("c", priority=1)
    assert line.queue.surplus()[0] == "a", "of equals, the lower class"
    third = line.join("c", priority=1)
    assert line.queue.surplus() == third != high


def test_one_again_goes_only_when_its_flow_has_nothing_else() -> None:
    line = Line()
    first = line.join("a")
    line.again("b")
    line.again("a")
    last = line.again("a")
    assert line.queue.surplus() == first
    line.queue.leave(first)
    assert line.queue.surplus() == last


def test_numbers_in_line() -> None:
    line = Line()
    queue = line.queue
    assert queue.number(("x", 0), "x", 0, 1) == 1
    a = [line.join("a") for _ in range(5)]
    assert [queue.number(item, "a", 0, 1) for item in a] == [1, 2, 3, 4, 5]
    assert queue.number(("x", 0), "a", 0, 1) == 6, "another one of `a`"
    assert queue.number(("x", 0), "b", 0, 1) == 2, "the first one of `b`"
    assert queue.number(("x", 0), "b", 0, 5) == 2
    assert queue.number(("x", 0), "b", 1, 1) == 1
    b = line.join("b", priority=-1)
    assert queue.number(b, "b", -1, 1) == 6
    once, twice = line.again("c", priority=9), line.again("c", priority=9)
    assert [queue.number(item, "c", 9, 1) for item in (once, twice)] == [1, 2]
    assert queue.number(a[0], "a", 0, 1) == 3
    assert queue.number(("x", 0), "c", 9, 1) == 3
    assert queue.numbers() == {once: 1, twice: 2, **{item: place for place, item in enumerate(a, 3)}, b: 8}
    assert FairQueue[Item]().numbers() == {}


def test_the_pace() -> None:
    line = Line()
    assert line.queue.seconds(1, 0.0) is None
    for _ in range(40):
        line.join("a", now=100.0)
    for turn in range(1, 21):
        line.queue.next(100.0 + turn / 4)
    assert line.queue.seconds(4, 105.0) == pytest.approx(1.0)
    assert line.queue.seconds(1, 90.0) == pytest.approx(0.25), "a clock that went back"
    late = line.queue.seconds(4, 110.0)
    assert late is not None and late > 2.0, "nothing comes free any more"
    for _ in range(20):
        line.queue.next(105.0)
    assert line.queue.seconds(1, 1000.0) == pytest.approx(0.087, abs=0.001), "time in which nobody waited is none"
    item = line.again("a", now=2000.0)
    line.queue.next_again(item, 2000.0)
    assert line.queue.seconds(1, 2000.0) == pytest.approx(0.083, abs=0.001)


# --- whatever may come

FLOWS = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 400)), min_size=2, max_size=6)
"""Of each flow its weight, and the most that one of its requests costs."""


@settings(max_examples=20)
@given(FLOWS, st.randoms(use_true_random=False))
def test_backlogged_flows_get_their_shares(flows: list[tuple[int, int]], chance: object) -> None:
    """At every moment, between any two, what they had for their weight differs by one request of each at most."""
    line = Line()
    had = [0] * len(flows)
    costs: dict[Item, int] = {}

    def more(number: int) -> None:
        cost = chance.randint(1, flows[number][1])  # type: ignore[attr-defined]  # hypothesis' own Random
        costs[line.join(chr(97 + number), weight=flows[number][0], cost=cost)] = cost

    for number in range(len(flows)):
        more(number)
        more(number)
    bounds = [most / weight for weight, most in flows]
    for _ in range(200):
        item = line.queue.next(0.0)
        number = ord(item[0]) - 97
        had[number] += costs[item]
        more(number)
        got = [amount / weight for amount, (weight, _) in zip(had, flows, strict=True)]
        for one in range(len(flows)):
            for other in range(one):
                assert abs(got[one] - got[other]) <= bounds[one] + bounds[other] + 1e-3


@settings(max_examples=20)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_shares_match_weights_within_five_percent(weights: list[int], chance: object) -> None:
    line = Line()
    had: Counter[str] = Counter()
    costs: dict[Item, int] = {}
    names = [chr(97 + number) for number in range(len(weights))]

    def more(name: str) -> None:
        cost = chance.randint(50, 500)  # type: ignore[attr-defined]  # hypothesis' own Random
        costs[line.join(name, weight=weights[ord(name) - 97], cost=cost)] = cost

    for name in names:
        more(name)
        more(name)
    for _ in range(300 * sum(weights) // min(weights)):
        item = line.queue.next(0.0)
        had[item[0]] += costs.pop(item)
        more(item[0])
        if min(had[name] for name in names) > 60 * 500:
            break
    whole = sum(had.values())
    for name, weight in zip(names, weights, strict=True):
        assert had[name] / whole == pytest.approx(weight / sum(weights), rel=0.05)


@given(st.integers(1, 8), st.integers(0, 200), st.integers(1, 500))
def test_a_newcomer_waits_for_one_of_each_other_at_most(others: int, gone: int, many: int) -> None:
    line = Line()
    for _ in range(many):
        for number in range(others):
            line.join(chr(97 + number))
    line.order(min(gone, others * many - 1))
    line.join("z")
    assert "z" in line.order(others + 1)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True))
def test_no_class_waits_longer_than_its_bound(classes: list[int]) -> None:
    line = Line()
    for number in classes:
        for _ in range(200):
            line.join(str(number), priority=number)
    gone = line.order(200)
    bound = PATIENCE + len(classes)
    for number in classes:
        assert all(str(number) in gone[begin : begin + bound] for begin in range(200 - bound))


STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "join", "again", "leave", "next", "surplus"]), st.integers(0, 5), st.integers(0, 30)),
    max_size=120,
)


@given(STEPS)
def test_the_lengths_are_right_whoever_comes_and_goes(steps: list[tuple[str, int, int]]) -> None:
    line = Line()
    queue = line.queue
    waiting: dict[Item, None] = {}
    again: set[Item] = set()

    def gone(item: Item) -> None:
        del waiting[item]
        again.discard(item)

    for what, who, number in steps:
        flow, priority = f"{who}", who % 2
        if what == "join":
            waiting[line.join(flow, priority, 1 + number, 1 + number)] = None
        elif what == "again":
            item = line.again(flow, priority)
            waiting[item] = None
            again.add(item)
        elif what == "leave" and waiting:
            item = list(waiting)[number % len(waiting)]
            queue.leave(item)
            gone(item)
        elif what == "next" and queue.fresh:
            item = queue.next(0.0)
            assert item not in again
            assert item == next(one for one in waiting if one[0] == item[0] and one not in again), "in order of coming"
            gone(item)
        elif what == "surplus" and waiting:
            item = queue.surplus()
            sizes = Counter(one[0] for one in waiting)
            assert sizes[item[0]] == max(sizes.values())
            fresh = [one for one in waiting if one[0] == item[0] and one not in again]
            assert item == (fresh or [one for one in waiting if one[0] == item[0]])[-1]
        assert queue.places.keys() == waiting.keys() and queue.again.keys() == again
        assert queue.fresh == (len(waiting) > len(again))
        assert len(queue._levels) == len({int(one[0]) % 2 for one in waiting})
        for one in waiting:
            assert 1 <= queue.number(one, one[0], 0, 1) <= len(waiting)
        assert queue.numbers() == {one: queue.number(one, one[0], 0, 1) for one in waiting}
    while queue.fresh:
        gone(queue.next(0.0))
    assert waiting.keys() == again
