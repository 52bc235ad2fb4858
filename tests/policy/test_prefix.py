"""Prompts that begin alike: how they are told, where they go, what is forgotten, and that a hot one spreads."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy import prefix
from slmgate.policy.balance import Affinity
from slmgate.policy.prefix import AT_LEAST, BLOCK, ENDS, MOST, WARM, Prefix, affinity_of
from tests.tools.candidates import One


def some(count: int) -> list[One]:
    return [One(name=f"m/10.0.0.{number}:80") for number in range(count)]


def told(text: str, tenant: bytes = b"") -> Affinity:
    found = affinity_of([text], tenant)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("size", "blocks"), [(BLOCK, 1), (2 * BLOCK - 1, 1), (2 * BLOCK, 2), (8 * BLOCK, 8), (9 * BLOCK, 8), (10 * BLOCK, 9)]
)
def test_beginnings_are_told_at_lengths_that_grow(size: int, blocks: int) -> None:
    assert len(told("x" * size).blocks) == blocks


def test_a_short_prompt_is_not_told() -> None:
    assert affinity_of(["x" * (BLOCK - 1)]) is None
    assert affinity_of([]) is None


def test_lengths() -> None:
    assert list(ENDS) == sorted(set(ENDS))
    assert MOST <= ENDS[-1] < 2 * MOST
    assert all(later <= earlier * 2 for earlier, later in pairwise(ENDS))
    assert len(told("x" * (3 * MOST)).blocks) == len(ENDS)


@given(st.text(max_size=3000), st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_what_begins_alike_is_told_alike(same: str, one: str, other: str) -> None:
    """As many beginnings are equal as lie in what is common, and no more."""
    first, second = affinity_of([same + one]), affinity_of([same + other])
    if first is None or second is None:
        return
    left, right = (same + one).encode(), (same + other).encode()
    common = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    equal = sum(a == b for a, b in zip(first.blocks, second.blocks, strict=False))
    assert equal == sum(end <= common for end in ENDS)
    assert first.blocks[:equal] == second.blocks[:equal]


def test_texts_are_told_apart_from_one_another() -> None:
    assert affinity_of(["a" * BLOCK, "b" * BLOCK]) != affinity_of(["a" * BLOCK + "b" * BLOCK])


def test_a_lone_surrogate_is_text_too() -> None:
    assert told("\ud800" * BLOCK).blocks


def test_tenants_whose_caches_are_apart_are_told_apart() -> None:
    one, other = told("x" * BLOCK, b"one"), told("x" * BLOCK, b"other")
    assert one.point != other.point and one.blocks != other.blocks


def test_a_prompt_goes_where_its_beginning_is_warm() -> None:
    instances = some(8)
    chooser = Prefix(instances)
    shared = "You are a careful assistant. " * 100
    first = chooser.choose(0.0, affinity=told(shared + "one"))
    assert first is not None
    chooser.took(told(shared + "one"), first)
    for one in instances:
        one.busy = 0 if one is not first else 1
    assert chooser.choose(0.0, in_flight=1, affinity=told(shared + "two")) is first


def test_the_longest_beginning_decides() -> None:
    instances = some(3)
    chooser = Prefix(instances)
    chooser.took(told("x" * 4 * BLOCK), instances[0])
    chooser.took(told("x" * 2 * BLOCK + "y" * 2 * BLOCK), instances[1])
    assert chooser.choose(0.0, affinity=told("x" * 5 * BLOCK)) is instances[0]
    assert chooser.choose(0.0, affinity=told("x" * 2 * BLOCK + "y" * 3 * BLOCK)) is instances[1]


def test_workers_agree_on_a_new_beginning() -> None:
    new = told("brand new " * 100)
    homes = {one.name for one in (Prefix(some(5)).choose(0.0, affinity=new) for _ in range(3)) if one is not None}
    assert len(homes) == 1


def test_a_hot_beginning_spreads_and_is_remembered_in_several_places() -> None:
    instances = some(2)
    chooser = Prefix(instances)
    hot = told("hot " * 200)
    chooser.took(hot, instances[0])
    for turn in range(20):
        one = chooser.choose(0.0, in_flight=turn, affinity=hot)
        assert one is not None
        one.busy += 1
        chooser.took(hot, one)
        assert one.busy <= max(AT_LEAST, -(-5 * (turn + 1) // 8))
    assert {one.busy for one in instances} == {10}
    assert set(chooser.kept[hot.blocks[0]]) == {one.name for one in instances}


def test_one_that_is_down_full_tried_or_gone_is_passed_over() -> None:
    instances = some(3)
    chooser = Prefix(instances)
    known = told("known " * 100)
    chooser.took(known, instances[2])
    assert chooser.choose(0.0, (instances[2],), affinity=known) is not instances[2]
    instances[2].down_until = 9.0
    assert chooser.choose(0.0, affinity=known) is not instances[2]
    later = Prefix(instances[:2], chooser.kept)
    assert later.choose(0.0, affinity=known) in instances[:2]
    instances[2].down_until = 0.0
    again = Prefix(instances, chooser.kept)
    assert again.choose(0.0, affinity=known) is instances[2], "a reload forgets nothing"


def test_without_a_beginning_the_least_busy() -> None:
    instances = some(3)
    instances[0].busy = instances[2].busy = 1
    chooser = Prefix(instances)
    assert chooser.choose(0.0) is instances[1]
    chooser.took(None, instances[1])
    assert not chooser.kept


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "KEPT", 3)
    instances = some(1)
    chooser = Prefix(instances)
    for letter in "abac" + "d":
        chooser.took(told(letter * BLOCK), instances[0])
    assert list(chooser.kept) == [told(letter * BLOCK).blocks[0] for letter in "acd"]


def test_of_one_beginning_a_few_places_are_remembered() -> None:
    instances = some(WARM + 2)
    chooser = Prefix(instances)
    known = told("x" * BLOCK)
    for one in instances:
        chooser.took(known, one)
    assert chooser.kept[known.blocks[0]] == tuple(one.name for one in reversed(instances[2:]))
