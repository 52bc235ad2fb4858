"""Rates, bans and subjects of addresses: against a slow reference that remembers every moment, and row by row at the bounds."""

from __future__ import annotations

import random

import pytest

from slmgate.policy.guard import (
    DOUBLINGS,
    LONGEST_BAN,
    SECOND,
    GuardSpec,
    RateSpec,
    ban,
    number_of_subject,
    open_bits,
    room,
    shown,
    subject_of,
    take,
    wait,
)
from slmgate.policy.networks import number_of

DAY = 86_400 * SECOND


class Reference:
    """A bucket that holds what came and loses one in each interval while it is not empty."""

    def __init__(self, rate: RateSpec) -> None:
        self.rate, self.level, self.at = rate, 0, 0  # the level in nanoseconds of draining

    def admits(self, now: int) -> bool:
        self.level = max(0, self.level - (now - self.at))
        self.at = now
        if self.level + self.rate.interval > self.rate.burst * self.rate.interval:
            return False
        self.level += self.rate.interval
        return True


@pytest.mark.parametrize("rate", [RateSpec(1, 1, 1), RateSpec(3, 1, 5), RateSpec(10, 60, 10), RateSpec(7, 3600, 2)])
def test_a_rate_is_what_the_reference_says(rate: RateSpec) -> None:
    chance = random.Random(6)
    reference, at, now, admitted = Reference(rate), 0, 1, []
    for _ in range(3000):
        now += chance.choice([0, 0, 1, rate.interval // 3, rate.interval - 1, rate.interval, 4 * rate.interval])
        fits = room(at, now, rate) > 0
        assert fits == reference.admits(now), now
        assert fits == (wait(at, now, rate) == 0)
        if fits:
            at = take(at, now, rate)
            admitted.append(now)
    for index, first in enumerate(admitted):  # in no window more than the burst and what drains in it
        for size in (1, rate.burst, 3 * rate.burst):
            if index + size < len(admitted):
                passed = admitted[index + size] - first
                assert size + 1 <= rate.burst + passed // rate.interval + 1


@pytest.mark.parametrize("burst", [1, 2, 200])
def test_at_the_limit_and_one_past_it(burst: int) -> None:
    rate = RateSpec(100, 1, burst)
    at, now = 0, 10 * DAY
    assert room(at, now, rate) == burst
    for left in range(burst, 0, -1):
        assert room(at, now, rate) == left
        assert wait(at, now, rate) == 0
        at = take(at, now, rate)
    assert room(at, now, rate) == 0
    assert wait(at, now, rate) == rate.interval
    assert room(at, now + rate.interval - 1, rate) == 0
    assert room(at, now + rate.interval, rate) == 1


def test_several_at_once() -> None:
    rate = RateSpec(10, 1, 8)
    at = take(0, DAY, rate, 8)
    assert room(at, DAY, rate) == 0
    assert at == DAY + 8 * rate.interval


def test_what_was_taken_under_a_wider_rate_is_no_more_than_a_full_bucket() -> None:
    wide, narrow = RateSpec(1, 3600, 1000), RateSpec(10, 1, 2)
    at = take(0, DAY, wide, 1000)
    assert wait(at, DAY, narrow) == narrow.interval


def test_the_interval_is_rounded_up() -> None:
    assert RateSpec(3, 1, 1).interval == 333_333_334
    assert RateSpec(10_000_000, 1, 1).interval == 100


@pytest.mark.parametrize(
    ("count", "until", "now", "first", "expected"),
    [
        (0, 0, DAY, 900, (1, 900)),
        (1, DAY, DAY, 900, (2, 1800)),
        (2, DAY, DAY, 900, (3, 3600)),
        (6, DAY, DAY, 900, (7, 57_600)),
        (7, DAY, DAY, 900, (8, LONGEST_BAN)),
        (DOUBLINGS, DAY, DAY, 900, (DOUBLINGS, LONGEST_BAN)),
        (2, DAY, 2 * DAY - 1, 900, (3, 3600)),  # not a whole day yet
        (2, DAY, 2 * DAY, 900, (2, 1800)),
        (2, DAY, 9 * DAY, 900, (1, 900)),
        (3, DAY, DAY, 2 * LONGEST_BAN, (4, 2 * LONGEST_BAN)),  # longer than that from the beginning
    ],
)
def test_bans_grow_and_are_forgotten(count: int, until: int, now: int, first: float, expected: tuple[int, int]) -> None:
    bans, end = ban(count, until, now, first)
    assert (bans, (end - now) // SECOND) == expected


@pytest.mark.parametrize(
    ("address", "same", "other", "text"),
    [
        ("203.0.113.7", "::ffff:203.0.113.7", "203.0.113.8", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::ffff:0:1", "2001:db8:0:1::1", "2001:db8::/64"),
        ("::1", "::2", "0:0:0:2::1", "::/64"),
        ("0.0.0.0", "::ffff:0:0", "0.0.0.1", "0.0.0.0"),
    ],
)
def test_who_is_counted(address: str, same: str, other: str, text: str) -> None:
    subject = subject_of(number_of(address))
    assert subject == subject_of(number_of(same)) != subject_of(number_of(other))
    assert 0 < subject < 1 << 64
    assert shown(subject) == text
    assert open_bits(subject) == (64 if text.endswith("/64") else 0)
    if text != "::/64":
        assert subject_of(number_of_subject(subject)) == subject


def test_whether_anything_is_counted() -> None:
    assert not GuardSpec().counts
    assert not GuardSpec(exempt=("10.0.0.0/8",)).counts
    assert GuardSpec(connections=1).counts
    assert GuardSpec(all_new_connections=RateSpec(1, 1, 1)).counts
