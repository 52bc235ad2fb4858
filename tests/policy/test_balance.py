"""The choice among instances: by how busy, how heavy, how full, how healthy, how slow each is.

Candidates are plain numbers; properties say that a choice is always one that has room, and that many are chosen as few are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.balance import (
    MEMORY,
    SCANNED,
    Chooser,
    InTurn,
    LeastBusy,
    PeakEwma,
    first_byte_of,
    learned,
)
from slmgate.policy.prefix import Prefix
from slmgate.policy.ring import Ring
from tests.tools.candidates import One

Make = Callable[[Sequence[One]], Chooser[One]]


def round_robin(instances: Sequence[One]) -> Chooser[One]:
    return InTurn(instances, weighted=False)


def weighted(instances: Sequence[One]) -> Chooser[One]:
    return InTurn(instances, weighted=True)


STRATEGIES: list[Make] = [round_robin, weighted, LeastBusy, PeakEwma, Ring, Prefix]
every = pytest.mark.parametrize("make", STRATEGIES)


def index(make: Make, instances: list[One], now: float = 0.0, tried: Sequence[One] = (), number: int = 0) -> int | None:
    chosen = make(instances).choose(now, tried, number)
    return None if chosen is None else instances.index(chosen)


@every
def test_nobody(make: Make) -> None:
    assert make([]).choose(0.0) is None


@every
@pytest.mark.parametrize(("bound", "busy", "room"), [(0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True), (2, 3, False)])
def test_room(make: Make, bound: int, busy: int, room: bool) -> None:
    assert (index(make, [One(busy=busy, max_in_flight=bound)]) is not None) is room


@every
@pytest.mark.parametrize("more", [0, SCANNED])
def test_tried_and_full_are_passed_over(make: Make, more: int) -> None:
    tried, full, left = One(), One(busy=1, max_in_flight=1), One(busy=9, served=99.0)
    rest = [One(busy=1, max_in_flight=1) for _ in range(more)]
    assert index(make, [tried, full, left, *rest], tried=(tried,)) == 2
    assert index(make, [tried, full, *rest], tried=(tried,)) is None


@every
@pytest.mark.parametrize(("now", "chosen"), [(4.9, 1), (5.0, 0), (5.1, 0)])
def test_down_until(make: Make, now: float, chosen: int) -> None:
    assert index(make, [One(down_until=5.0), One(busy=3, served=3.0, slowness=1.0)], now) == chosen


@every
def test_all_down_the_one_that_is_up_first(make: Make) -> None:
    assert index(make, [One(down_until=9.0), One(down_until=8.0), One(down_until=10.0)], 5.0) == 1
    assert (
        index(make, [One(down_until=9.0), One(down_until=8.0, busy=1, max_in_flight=1), One(down_until=9.0, served=-1)], 5.0) == 2
    )


def test_in_turn_hears_who_is_up_again_before_it_was_thought() -> None:
    down = One(down_until=9.0)
    chooser = round_robin([down, One(served=1.0)])
    assert chooser.choose(5.0) is not down
    down.down_until = 0.0
    chooser.changed()
    assert chooser.choose(5.0) is down


@pytest.mark.parametrize("make", [LeastBusy, PeakEwma])
def test_who_has_come_back_takes_its_part_of_the_work(make: Make) -> None:
    """Nothing in flight, it is like the others; with something, it waits until they have as much for their share."""
    assert index(make, [One(busy=0, share=0.1, slowness=1.0), One(busy=1, slowness=1.0)]) == 0
    assert index(make, [One(busy=1, share=0.1, slowness=1.0), One(busy=9, slowness=1.0)]) == 1
    assert index(make, [One(busy=1, share=0.1, slowness=1.0), One(busy=11, slowness=1.0)]) == 0


def times(make: Make, *instances: One, turns: int = 60) -> list[int]:
    """How often each is chosen."""
    chooser = make(instances)
    for _ in range(turns):
        one = chooser.choose(0.0)
        assert one is not None
        one.served += 1
    return [int(one.served) for one in instances]


def test_round_robin_takes_turns() -> None:
    assert times(round_robin, One(), One(weight=9), One(busy=5)) == [20, 20, 20]


def test_weighted_takes_turns_by_weight() -> None:
    assert times(weighted, One(weight=1), One(weight=2), One(weight=3)) == [10, 20, 30]


def test_one_in_turn_that_was_down_comes_back() -> None:
    down, up = One(down_until=3.5), One()
    chooser = round_robin([down, up])
    seen = []
    for now in (0.0, 1.0, 2.0, 3.0, 3.4, 3.5, 3.6):
        one = chooser.choose(now)
        assert one is not None
        one.served += 1
        seen.append("ud"[one is down])
    assert "".join(seen) == "uuuuudd"


def test_one_in_turn_that_comes_back_sooner_is_seen_within_a_second() -> None:
    down, up = One(down_until=inf), One()
    chooser = round_robin([down, up])
    assert chooser.choose(0.0) is up
    down.down_until = 0.0
    up.served = 1.0
    assert chooser.choose(0.9) is up
    assert chooser.choose(1.0) is down


def test_one_in_turn_that_is_full_keeps_its_turn() -> None:
    full, other = One(busy=1, max_in_flight=1), One(served=5.0)
    chooser = round_robin([full, other])
    assert [chooser.choose(0.0), chooser.choose(0.0)] == [other, other]
    full.busy = 0
    assert chooser.choose(0.0) is full


def test_what_was_served_may_grow_between_two_choices() -> None:
    first, second = One(), One(served=1.0)
    chooser = round_robin([first, second])
    first.served = 7.0
    assert chooser.choose(0.0) is second


def test_least_busy_counts_the_weight_and_then_what_was_served() -> None:
    assert index(LeastBusy, [One(busy=2), One(busy=1)]) == 1
    assert index(LeastBusy, [One(busy=2, weight=4), One(busy=1, weight=1)]) == 0
    assert index(LeastBusy, [One(busy=1, served=5.0), One(busy=1, served=4.0)]) == 1
    assert index(LeastBusy, [One(busy=3, weight=2, served=9.0), One(busy=1, served=5.0)]) == 0


def test_least_busy_counts_what_other_workers_have_there() -> None:
    assert index(LeastBusy, [One(busy=0, others=3), One(busy=2)]) == 1


def many(count: int = 4 * SCANNED) -> list[One]:
    return [One(name=f"i{number}") for number in range(count)]


@pytest.mark.parametrize("make", [LeastBusy, PeakEwma])
def test_of_many_the_better_one_of_two_is_taken(make: Make) -> None:
    instances = many()
    instances[3].busy = instances[5].busy = instances[5].others = 1
    for one in instances:
        one.slowness = 1.0
    chooser = make(instances)
    assert chooser.choose(0.0, (), 3 | 5 << 32) is instances[3]
    assert chooser.choose(0.0, (), 3 | 6 << 32) is instances[6]
    assert chooser.choose(0.0, (), (3 + len(instances)) | 5 << 32) is instances[3], "a lot is any number"
    assert chooser.choose(0.0, (instances[3],), 3 | 5 << 32) is instances[5]


def test_a_lot_is_drawn_by_weight() -> None:
    instances = many()
    instances[0].weight = 100
    total = 100 + len(instances) - 1
    chooser = LeastBusy(instances)
    drawn = {chooser.choose(0.0, (), number | number << 32) is instances[0] for number in range(100)}
    assert drawn == {True}
    assert chooser.choose(0.0, (), (total - 1) | (total - 1) << 32) is instances[-1]


def test_two_that_are_closed_do_not_hide_the_others() -> None:
    instances = many()
    for one in instances[:-1]:
        one.down_until = 9.0
    assert LeastBusy(instances).choose(5.0, (), 0) is instances[-1]


def test_of_many_the_fullest_is_not_much_fuller_than_the_average() -> None:
    """Two by lot: the known bound is ln ln n above the average, where one by lot would be several times that."""
    instances, lots = many(1000), Random(7)
    chooser = LeastBusy(instances)
    for _ in range(10_000):
        one = chooser.choose(0.0, (), lots.getrandbits(64))
        assert one is not None
        one.busy += 1
    assert max(one.busy for one in instances) <= 14


# --- peak ewma


@pytest.mark.parametrize(
    ("slowness", "seconds", "passed", "after"),
    [
        (0.0, 0.5, 100.0, 0.5),
        (1.0, 1.0, 0.0, 1.0),
        (1.0, 3.0, 0.0, 3.0),  # a peak counts whole
        (1.0, 0.5, 0.0, 1.0),  # at the same moment nothing has faded
        (1.0, 0.5, MEMORY, 0.5 + 0.5 * exp(-1)),
        (1.0, 0.5, 1e9, 0.5),
    ],
)
def test_slowness_learns_peaks_at_once_and_the_rest_with_time(
    slowness: float, seconds: float, passed: float, after: float
) -> None:
    assert learned(slowness, 10.0, seconds, 10.0 + passed) == pytest.approx(after)


@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(0, 100)), min_size=1, max_size=20))
def test_slowness_stays_between_what_was_seen(answers: list[tuple[float, float]]) -> None:
    slowness, at = 0.0, 0.0
    for seconds, passed in answers:
        slowness = learned(slowness, at, seconds, at + passed)
        at += passed
        assert slowness >= seconds * (1 - 1e-9)
    assert slowness <= max(seconds for seconds, _ in answers) * (1 + 1e-9)


def test_the_slow_one_gets_less() -> None:
    fast, slow = One(slowness=0.1, busy=3), One(slowness=1.0, busy=1)
    assert index(PeakEwma, [fast, slow]) == 0
    fast.busy = 20
    assert index(PeakEwma, [fast, slow]) == 1


def test_a_slow_one_without_work_gets_another_chance() -> None:
    fast, slow = One(slowness=0.1, busy=1, learned_at=30.0), One(slowness=1.0)
    assert index(PeakEwma, [fast, slow], 15.0) == 0
    assert index(PeakEwma, [fast, slow], 30.0) == 1
    slow.busy = 1
    assert index(PeakEwma, [fast, slow], 30.0) == 0, "its silence is no good sign"


def test_an_unknown_one_gets_one_request() -> None:
    known, unknown = One(slowness=0.1, busy=5), One()
    assert index(PeakEwma, [known, unknown]) == 1
    unknown.busy = 1
    assert index(PeakEwma, [known, unknown]) == 0
    assert index(PeakEwma, [One(busy=2), One(busy=1)]) == 1
    assert index(PeakEwma, [One(served=2.0), One(served=1.0)]) == 1


def test_a_heavy_one_may_be_slower() -> None:
    assert index(PeakEwma, [One(slowness=0.1, busy=1), One(slowness=0.15, busy=1, weight=2)]) == 1


def test_peak_ewma_leaves_the_slow_one_of_four() -> None:
    """Answers after 10 ms, one instance after 1 s; a request each 5 ms. Round robin gives the slow one a quarter."""
    instances = [One(name=f"i{number}") for number in range(4)]
    chooser = PeakEwma(instances)
    under_way: list[tuple[float, float, One]] = []
    given = [0, 0, 0, 0]
    for turn in range(2000):
        now = turn * 0.005
        for ends, began, one in [each for each in under_way if each[0] <= now]:
            under_way.remove((ends, began, one))
            one.busy -= 1
            one.slowness = learned(one.slowness, one.learned_at, ends - began, now)
            one.learned_at = now
        chosen = chooser.choose(now)
        assert chosen is not None
        chosen.busy += 1
        chosen.served += 1
        which = instances.index(chosen)
        given[which] += 1
        under_way.append((now + (1.0 if which == 0 else 0.01), now, chosen))
    assert given[0] <= 2
    assert min(given[1:]) > 600


@pytest.mark.parametrize(("tokens", "part"), [(0, 1.0), (16, 0.5), (48, 0.25)])
def test_of_a_whole_answer_the_part_of_its_first_token(tokens: int, part: float) -> None:
    assert first_byte_of(8.0, tokens) == 8.0 * part


# --- all of them

rows = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(1, 3), st.none() | st.integers(0, 4), st.floats(0, 10), st.booleans(), st.floats(0, 3)
    ),
    max_size=2 * SCANNED,
)


@given(make=st.sampled_from(STRATEGIES), rows=rows, number=st.integers(0, 2**64 - 1))
def test_a_choice_has_room_and_was_not_tried(
    make: Make, rows: list[tuple[int, int, int | None, float, bool, float]], number: int
) -> None:
    instances = [
        One(name=f"i{at}", busy=busy, weight=weight, max_in_flight=most, down_until=down, slowness=slow)
        for at, (busy, weight, most, down, _, slow) in enumerate(rows)
    ]
    tried = [one for one, row in zip(instances, rows, strict=True) if row[4]]
    good = [one for one in instances if one not in tried and (one.max_in_flight is None or one.busy < one.max_in_flight)]
    chosen = make(instances).choose(5.0, tried, number)
    if not good:
        assert chosen is None
    else:
        assert chosen in good
        assert chosen.down_until <= 5.0 or all(one.down_until > 5.0 for one in good)


@given(
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    weighs=st.booleans(),
    events=st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=60),
)
def test_in_turn_is_the_one_served_least(weights: list[int], weighs: bool, events: list[tuple[int, bool]]) -> None:
    """The heap says what a look at each would, whatever was full or served elsewhere meanwhile."""
    instances = [One(name=f"i{at}", weight=weight, max_in_flight=1) for at, weight in enumerate(weights)]
    chooser = InTurn(instances, weighs)
    for at, fills in events:
        touched = instances[at % len(instances)]
        if fills:
            touched.busy = 1 - touched.busy
        else:
            touched.served += 1
        chosen = chooser.choose(0.0)
        left = [one for one in instances if not one.busy]
        turns = [one.served / one.weight if weighs else one.served for one in left]
        assert chosen is (left[turns.index(min(turns))] if left else None)
