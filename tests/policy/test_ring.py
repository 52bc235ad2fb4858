"""Consistent hashing with bounded loads: where keys go, what moves when instances come and go, and that nobody has too many."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.balance import Affinity
from slmgate.policy.ring import MOST_POINTS, SLACK, Ring, point_of
from tests.tools.candidates import One

KEYS = [Affinity(point_of(b"key %d" % number)) for number in range(2000)]


def some(count: int, **settings: int) -> list[One]:
    return [One(name=f"m/10.0.0.{number}:80", **settings) for number in range(count)]


def homes(instances: list[One]) -> list[str]:
    """Where each key goes while nobody is at work."""
    ring = Ring(instances)
    found = [ring.choose(0.0, affinity=key) for key in KEYS]
    return [one.name for one in found if one is not None]


def test_a_point_is_the_same_for_ever() -> None:
    assert point_of(b"acme") == 0x302657B33C4DA281
    assert 0 <= point_of(b"") < 2**64


def test_the_order_of_instances_decides_nothing() -> None:
    assert homes(some(5)) == homes(some(5)[::-1])


def test_keys_spread_over_all() -> None:
    counts = Counter(homes(some(4)))
    assert len(counts) == 4
    assert max(counts.values()) < 2 * min(counts.values())


def test_keys_spread_by_weight() -> None:
    instances = some(2)
    instances[0].weight = 3
    counts = Counter(homes(instances))
    assert counts[instances[0].name] / len(KEYS) == pytest.approx(0.75, abs=0.08)


def test_who_leaves_moves_no_keys_but_its_own() -> None:
    before, after = homes(some(5)), homes(some(5)[:-1])
    gone = some(5)[-1].name
    assert [one for one, other in zip(before, after, strict=True) if one != other] == [gone] * before.count(gone)


def test_a_key_whose_home_is_down_or_full_or_tried_goes_to_the_next() -> None:
    instances = some(3)
    ring = Ring(instances)
    home = ring.choose(0.0, affinity=KEYS[0])
    assert home is not None
    second = ring.choose(0.0, (home,), affinity=KEYS[0])
    assert second is not None and second is not home
    home.down_until = 9.0
    assert ring.choose(0.0, affinity=KEYS[0]) is second
    home.down_until, home.max_in_flight = 0.0, 0
    assert ring.choose(0.0, affinity=KEYS[0]) is second
    home.max_in_flight = None
    assert ring.choose(0.0, affinity=KEYS[0]) is home


def test_without_a_key_the_least_busy() -> None:
    instances = some(3, busy=1)
    instances[1].busy = 0
    assert Ring(instances).choose(0.0) is instances[1]
    assert Ring(instances).choose(0.0, affinity=Affinity(-1)) is instances[1]


def test_what_other_workers_have_there_counts() -> None:
    instances = some(4)
    ring = Ring(instances)
    home = ring.choose(0.0, in_flight=0, affinity=KEYS[0])
    assert home is not None
    home.others = 3
    assert ring.choose(0.0, in_flight=3, affinity=KEYS[0]) is not home


def test_the_points_are_bounded_whatever_the_weights() -> None:
    instances = some(3, weight=1000)
    ring = Ring(instances)
    assert ring.choose(0.0, affinity=KEYS[0]) is not None
    assert len(ring._points) <= MOST_POINTS + len(instances)


@given(
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    keys=st.lists(st.integers(0, 3), max_size=120),
    ends=st.lists(st.booleans(), max_size=120),
)
def test_nobody_has_more_than_its_share(weights: list[int], keys: list[int], ends: list[bool]) -> None:
    """However few keys there are: at most 1.25 times the average, for its weight, rounded up."""
    instances = [One(name=f"i{at}", weight=weight) for at, weight in enumerate(weights)]
    ring = Ring(instances)
    under_way: list[One] = []
    for at, key in enumerate(keys):
        one = ring.choose(0.0, in_flight=len(under_way), affinity=KEYS[key])
        assert one is not None
        one.busy += 1
        under_way.append(one)
        assert one.busy <= ceil(SLACK * len(under_way) * one.weight / sum(weights))
        if at < len(ends) and ends[at]:
            under_way.pop(0).busy -= 1


def test_nobody() -> None:
    assert Ring[One]([]).choose(0.0, affinity=KEYS[0]) is None


def test_where_all_have_their_share_or_are_down_the_least_busy_is_asked() -> None:
    instances = some(2)
    instances[0].down_until, instances[1].busy = 9.0, 7
    assert Ring(instances).choose(0.0, in_flight=0, affinity=KEYS[0]) is instances[1]
    assert Ring(instances).least(0.0, (), 0) is instances[1]


@pytest.mark.parametrize(("in_flight", "share"), [(0, 1), (2, 1), (3, 2), (7, 3), (15, 5)])
def test_a_share(in_flight: int, share: int) -> None:
    instances = some(4)
    assert Ring(instances).share(instances[0], in_flight) == share
