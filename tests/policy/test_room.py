"""Whether there is room: bounds of answers, words for clients, and the verdict where somebody says what was used."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from slmgate.policy.charges import Tariff
from slmgate.policy.limiting import Meter
from slmgate.policy.limits import NANO, LimitSpec, Price
from slmgate.policy.room import COMPLETION, Need, Weighed, first_bound, weigh, whole_in
from slmgate.terms import Refuse

NOON = 1_800_000_000.0
"""An hour of UTC: 16 of them are left of the day."""
PLAIN = Need(10, 100, 1)


def limit(unit: str = "requests", amount: int = 2, **fields: Any) -> LimitSpec:
    window = {} if unit == "concurrent" or "calendar" in fields else {"seconds": 60}
    whole = {"name": f"limits.{unit}", "text": unit, "identity": unit, "unit": unit, "amount": amount, **window, **fields}
    return msgspec.convert(whole, LimitSpec)


def tariff(*limits: LimitSpec, price: Price | None = None) -> Tariff:
    return Tariff([(one, "k") for one in limits], "gold", "EUR", price or Price())


def weighed(*limits: LimitSpec, used: tuple[int, ...], need: Need = PLAIN, price: Price | None = None) -> Weighed:
    return weigh(tariff(*limits, price=price), used, need, NOON)


def refused(found: Weighed) -> Refuse:
    assert found.refuse is not None
    assert found.bound is None
    return found.refuse


@pytest.mark.parametrize(
    ("spec", "used", "passed"),
    [
        (limit(amount=2), 0, True),
        (limit(amount=2), 1, True),
        (limit(amount=2), 2, False),
        (limit(amount=0), 0, False),
        (limit("tokens", 110), 0, True),
        (limit("tokens", 110), 1, False),
        (limit("prompt_tokens", 10), 0, True),
        (limit("completion_tokens", 100), 1, False),
        (limit("concurrent", 1), 0, True),
        (limit("concurrent", 1), 1, False),
        (limit(amount=1, burst=3), 2, True),
        (limit(amount=1, burst=3), 3, False),
        (limit(amount=1, raised=2, raised_until=NOON + 1), 1, True),
        (limit(amount=1, raised=2, raised_until=NOON), 1, False),
    ],
)
def test_at_the_bound_and_past_it(spec: LimitSpec, used: int, passed: bool) -> None:
    found = weighed(spec, used=(used,))
    (row,) = found.counted
    assert (row.passed, row.used, row.rule) == (passed, used, spec.name)
    assert (found.refuse is None) is passed


@pytest.mark.parametrize(
    ("spec", "used", "code", "said", "after"),
    [
        (limit(), 2, "rate_limit_exceeded", "no room: 2 of 2 are used. Try again in 60 s.", 60),
        (limit(amount=0), 0, "rate_limit_exceeded", "0 of 0 are used", 60),
        (limit(amount=0, calendar="day"), 0, "quota_exceeded", "0 of 0 are used", 86_400),
        (limit(calendar="day"), 2, "quota_exceeded", "2 of 2 are used", 57_600),
        (limit(amount=60, burst=3), 3, "rate_limit_exceeded", "3 of 3 are used. Try again in 1 s.", 1),
        (limit("concurrent"), 2, "rate_limit_exceeded", "2 are under way. Try again when one has ended.", 1),
        (limit("tokens", 200), 91, "rate_limit_exceeded", "91 of 200 are used, and this needs 110", 60),
        (limit("tokens", 109), 0, "request_too_large", "may come to 110, and your limit of tokens allows 109 at once", None),
        (limit("cost", NANO, calendar="day", currency="EUR"), NANO, "quota_exceeded", "may cost 0.40 EUR", 57_600),
    ],
)
def test_what_the_client_is_told(spec: LimitSpec, used: int, code: str, said: str, after: int | None) -> None:
    refuse = refused(weighed(spec, used=(used,), price=Price(0, 4_000_000)))
    assert (refuse.code, refuse.rule, refuse.retry_after) == (code, spec.name, after)
    assert said in refuse.message


def test_a_raise_that_ends_before_there_is_room() -> None:
    """The wait is what it takes under the limit's own amount; what is more than that is told apart."""
    plain = refused(weighed(limit(raised=9, raised_until=NOON + 1), used=(9,)))
    assert (plain.code, plain.retry_after) == ("rate_limit_exceeded", 60)
    bucket = limit(amount=60, burst=3, raised=9, raised_until=NOON + 4)
    assert refused(weighed(bucket, used=(9,))).retry_after == 1
    bucket = limit(amount=60, burst=3, raised=9, raised_until=NOON + 1)
    assert refused(weighed(bucket, used=(9,))).retry_after == 7
    for more in ({}, {"calendar": "day"}):
        tokens = limit("tokens", 109, raised=200, raised_until=NOON + 60, **more)
        large = refused(weighed(tokens, used=(91,)))
        assert (large.code, large.retry_after) == ("request_too_large", None)
        assert "may come to 110, and your limit of tokens has no room for it before its raise to 200 ends." in large.message
    nothing = refused(weighed(limit(amount=0, raised=2, raised_until=NOON + 1), used=(2,)))
    assert (nothing.code, nothing.retry_after) == ("rate_limit_exceeded", 60), "as of a limit of nothing"


def test_of_several_the_longest_wait_is_told() -> None:
    found = weighed(limit(), limit(amount=2, calendar="day", name="limits.day"), limit("concurrent", 1), used=(2, 2, 1))
    assert refused(found).rule == "limits.day"
    assert [row.passed for row in found.counted] == [False, False, False]
    assert weighed(used=()) == Weighed(None, None, ())


def test_an_answer_without_bound_gets_one() -> None:
    tokens = limit("tokens", 9000)
    assert first_bound(tariff(tokens), None) == COMPLETION
    assert (first_bound(tariff(tokens), 5), first_bound(tariff(limit()), None)) == (None, None)
    free = Need(10, None, 1)
    assert weighed(tokens, used=(0,), need=free).bound == COMPLETION
    assert weighed(tokens, used=(8000,), need=free).bound == 990
    assert refused(weighed(tokens, used=(8990,), need=free)).code == "rate_limit_exceeded"
    assert weighed(limit(), used=(0,), need=free).bound is None


def test_clamp_gives_what_is_left_of_the_tightest() -> None:
    specs = (limit("completion_tokens", 250, clamp=True), limit("tokens", 200, clamp=True))
    found = weighed(*specs, used=(100, 120), need=Need(10, 300, 1))
    assert (found.refuse, found.bound) == (None, 70)
    assert [row.takes for row in found.counted] == [70, 80]
    assert weighed(*specs, used=(0, 0)).bound is None
    assert weighed(specs[0], used=(0,), need=Need(1, 100, 3)).bound == 83
    assert refused(weighed(limit("tokens", 200), specs[0], used=(120, 0))).rule == "limits.tokens"


@pytest.mark.parametrize(
    ("spec", "used", "seconds"),
    [
        (limit(), 0, None),
        (limit(), 1, 60.0),
        (limit(), 9, 60.0),
        (limit(calendar="day"), 1, 16 * 3600.0),
        (limit(calendar="day"), 0, None),
        (limit(amount=2, burst=8), 3, 90.0),
        (limit(amount=0, burst=8), 3, None),
        (limit("concurrent"), 2, None),
    ],
)
def test_when_a_limit_is_whole_again(spec: LimitSpec, used: int, seconds: float | None) -> None:
    assert whole_in(Meter(spec), used, NOON) == seconds
