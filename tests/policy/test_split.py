"""How many are of a share, in any order and in any part of them, and who is always of it.

What becomes of requests that are is `tests/dataplane/test_split.py`'s affair.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.policy.split import WHOLE, CanarySpec, Turns, is_named, is_within, place_of
from slmgate.terms import Principal

SHARES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.99, 1.0)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("each", [1, 2, 3, 10, 100])
def test_turns_are_as_many_as_the_share_says_of_all_and_of_every_nth(share: float, each: int) -> None:
    turns = Turns(share)
    came, taken, worst = 0, 0, 0.0
    for number in range(10_000):
        one = turns.take()
        if number % each == 0:
            came, taken = came + 1, taken + one
            worst = max(worst, abs(taken - came * share))
    assert worst <= (3 if each == 1 else 8), "any first so many of them hold their part of the share"


def test_another_share_goes_on_in_turn() -> None:
    turns = Turns(0.0)
    assert not any(turns.take() for _ in range(100))
    turns.update(0.2)
    assert sum(turns.take() for _ in range(1000)) == pytest.approx(200, abs=2)
    turns.update(1.0)
    assert all(turns.take() for _ in range(100))
    assert repr(turns) == "<Turns 100%>"


def test_places_of_callers() -> None:
    """They are even, each model has its own, and who is of a share is of any larger one."""
    places = [place_of("m", b"%d" % number) for number in range(10_000)]
    for share in SHARES:
        assert sum(is_within(place, share) for place in places) == pytest.approx(10_000 * share, abs=200)
        assert all(is_within(place, 1.0) for place in places)
    small = [place for place in places if is_within(place, 0.1)]
    assert all(is_within(place, 0.2) for place in small)
    other = [place_of("n", b"%d" % number) for number in range(10_000)]
    both = sum(is_within(one, 0.5) and is_within(two, 0.5) for one, two in zip(places, other, strict=True))
    assert both == pytest.approx(2500, abs=150)
    assert max(places) < WHOLE


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, False),
        ({"principals": {"acme-bot"}}, True),
        ({"principals": {"k1"}}, True),
        ({"principals": {"other"}}, False),
        ({"teams": {"acme"}}, True),
        ({"teams": {"other"}}, False),
        ({"roles": {"tester", "other"}}, True),
        ({"roles": {"other"}}, False),
    ],
)
def test_who_is_named(named: dict[str, Any], expected: bool) -> None:
    canary = CanarySpec(model="n", **named)
    who = Principal(id="k1", name="acme-bot", team="acme")
    assert is_named(canary, who, lambda: ["partner", "tester"]) is expected


def test_who_has_no_team_is_in_none() -> None:
    canary = CanarySpec(model="n", teams=frozenset({"acme"}))
    assert not is_named(canary, Principal(id="k1", name="acme-bot"), list)
