"""The bill: it adds up to the minor unit whatever the order, rounds half to even once a line, and knows its months."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.policy.billing import (
    MINOR_UNITS,
    Terms,
    Used,
    bill,
    cost,
    minor,
    money_text,
    month_bounds,
    month_of,
    nano_text,
    price_text,
    read_price,
    shares,
)
from slmgate.policy.limits import NANO, Price

SMALL = Price(100, 300)
EUR = Terms(currency="EUR")


def used(model: str, prompt: int, completion: int, price: Price = SMALL, requests: int = 1) -> Used:
    return Used(model=model, price=price, requests=requests, prompt_tokens=prompt, completion_tokens=completion)


def test_cost() -> None:
    assert cost(1_000_000, 1_000_000, SMALL) == 400_000_000
    assert cost(0, 0, SMALL) == 0
    assert used("m", 7, 3).cost == 1600


@pytest.mark.parametrize(("currency", "price"), [("EUR", Price(100, 300)), ("JPY", Price(0, 0)), ("KWD", Price(NANO, 1))])
def test_a_receipts_price_is_read_as_it_was_written(currency: str, price: Price) -> None:
    assert read_price(price_text(currency, price)) == (currency, price)


def test_the_text_of_a_price() -> None:
    assert price_text("EUR", SMALL) == "EUR 100 300"


@pytest.mark.parametrize(
    "text", ["", "EUR", "EUR 1", "eur 1 2", "EUR 1 2\n", "EUR 1.0 2", "EUR -1 2", "EUR 1 2 3", "EUR \u0661 2"]
)
def test_what_is_no_price(text: str) -> None:
    assert read_price(text) is None


@pytest.mark.parametrize(
    ("nano", "currency", "expected"),
    [
        (4_999_999, "EUR", 0),
        (5_000_000, "EUR", 0),
        (5_000_001, "EUR", 1),
        (15_000_000, "EUR", 2),
        (25_000_000, "EUR", 2),
        (500_000_000, "JPY", 0),
        (1_500_000_000, "JPY", 2),
        (500_000, "KWD", 0),
        (1_500_000, "KWD", 2),
        (12_340_000_000, "EUR", 1234),
    ],
)
def test_rounding_is_half_to_even(nano: int, currency: str, expected: int) -> None:
    assert minor(nano, currency) == expected


@given(st.integers(0, 10**20), st.sampled_from(sorted(MINOR_UNITS)))
def test_rounding_is_that_of_decimal(nano: int, currency: str) -> None:
    places = Decimal(1).scaleb(-MINOR_UNITS[currency])
    assert Decimal(money_text(minor(nano, currency), currency)) == (Decimal(nano) / NANO).quantize(places, ROUND_HALF_EVEN)


@pytest.mark.parametrize(
    ("units", "currency", "text"),
    [
        (1234, "EUR", "12.34"),
        (5, "EUR", "0.05"),
        (0, "EUR", "0.00"),
        (-5, "EUR", "-0.05"),
        (1234, "JPY", "1234"),
        (1, "KWD", "0.001"),
    ],
)
def test_money_as_text(units: int, currency: str, text: str) -> None:
    assert money_text(units, currency) == text


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (NANO, "1"), (100, "0.0000001"), (-1_500_000_000, "-1.5"), (20 * NANO, "20")]
)
def test_billionths_as_text(nano: int, text: str) -> None:
    assert nano_text(nano) == text


@pytest.mark.parametrize(
    ("amount", "weights", "dealt"),
    [
        (0, [1, 2], [0, 0]),
        (1, [1, 1], [1, 0]),
        (2, [1, 1, 1], [1, 1, 0]),
        (10, [30, 10], [8, 2]),  # 7.5 and 2.5: the first of equal remainders
        (40, [30, 10], [30, 10]),
        (41, [30, 10], [30, 10]),
        (5, [0, 10, 0], [0, 5, 0]),
        (5, [], []),
        (0, [0, 0], [0, 0]),
    ],
)
def test_shares(amount: int, weights: list[int], dealt: list[int]) -> None:
    assert shares(amount, weights) == dealt


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**14), max_size=12))
def test_shares_add_up_and_take_no_more_than_there_is(amount: int, weights: list[int]) -> None:
    dealt = shares(amount, weights)
    assert sum(dealt) == min(amount, sum(weights))
    assert all(0 <= part <= weight for part, weight in zip(dealt, weights, strict=True))


def test_a_plain_bill() -> None:
    made = bill(EUR, [used("smollm2", 3_000_000, 1_000_000)])
    assert (made.lines[0].amount, made.base, made.credit, made.total) == (60, 0, 0, 60)


def test_nothing_used() -> None:
    assert bill(Terms(currency="EUR", base=49 * NANO, credit=20 * NANO), []).total == 2900


def test_credit_goes_no_further_than_the_bill() -> None:
    made = bill(Terms(currency="EUR", credit=20 * NANO), [used("smollm2", 3_000_000, 1_000_000)])
    assert (made.credit, made.total) == (60, 0)


def test_included_tokens_are_taken_in_proportion() -> None:
    made = bill(Terms(currency="EUR", included_tokens=2_000_000), [used("a", 3_000_000, 1_000_000), used("b", 4_000_000, 0)])
    assert [(line.included_prompt, line.included_completion) for line in made.lines] == [(750_000, 250_000), (1_000_000, 0)]
    assert [line.amount for line in made.lines] == [45, 30]  # 0.225 + 0.225 and 0.3 EUR
    assert made.total == 75


@pytest.mark.parametrize(("included", "amount"), [(0, 60), (10_000_000, 59), (590_000_000, 1), (600_000_000, 0), (NANO, 0)])
def test_included_money(included: int, amount: int) -> None:
    made = bill(Terms(currency="EUR", included_cost=included), [used("a", 3_000_000, 1_000_000)])
    assert made.total == amount


def test_two_prices_make_two_lines() -> None:
    made = bill(EUR, [used("a", 10, 0, Price(200, 0)), used("a", 10, 0), used("a", 5, 0)])
    assert [(line.used.price.prompt, line.used.prompt_tokens, line.used.requests) for line in made.lines] == [
        (100, 15, 2),
        (200, 10, 1),
    ]


_USES = st.lists(
    st.builds(
        used,
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.builds(Price, st.integers(0, 10**6), st.integers(0, 10**6)),
    ),
    max_size=20,
)


@given(
    _USES,
    st.integers(0, 10**10),
    st.integers(0, 10**16),
    st.integers(0, 100 * NANO),
    st.integers(0, 100 * NANO),
    st.sampled_from(["EUR", "JPY", "KWD"]),
    st.randoms(use_true_random=False),
)
def test_lines_add_up_in_any_order(uses, tokens, money, base, credit, currency, random) -> None:  # type: ignore[no-untyped-def] # hypothesis gives them
    terms = Terms(currency=currency, base=base, credit=credit, included_tokens=tokens, included_cost=money)
    made = bill(terms, uses)
    assert made.total == made.base + sum(line.amount for line in made.lines) - made.credit
    assert made.total >= 0
    assert all(line.charged >= 0 for line in made.lines)
    taken = sum(line.included_prompt + line.included_completion for line in made.lines)
    assert taken == min(tokens, sum(one.prompt_tokens + one.completion_tokens for one in uses))
    if not tokens and not money:
        assert sum(line.charged for line in made.lines) == sum(one.cost for one in uses)
    shuffled = list(uses)
    random.shuffle(shuffled)
    assert bill(terms, shuffled) == made


@pytest.mark.parametrize(
    ("month", "zone", "start", "hours"),
    [
        ("2026-11", "UTC", "2026-11-01T00:00Z", 30 * 24),
        ("2026-10", "Europe/Berlin", "2026-09-30T22:00Z", 31 * 24 + 1),
        ("2026-03", "Europe/Berlin", "2026-02-28T23:00Z", 31 * 24 - 1),
        ("2026-12", "Asia/Kolkata", "2026-11-30T18:30Z", 31 * 24),
        ("2024-02", "America/New_York", "2024-02-01T05:00Z", 29 * 24),
        ("1970-01", "Asia/Tokyo", "1969-12-31T15:00Z", 31 * 24),
    ],
)
def test_months(month: str, zone: str, start: str, hours: int) -> None:
    bounds = month_bounds(month, zone)
    assert bounds is not None
    assert bounds[0] == datetime.fromisoformat(start)
    assert (bounds[1] - bounds[0]).total_seconds() == hours * 3600
    assert month_of(bounds[0], zone) == month
    assert month_of(bounds[1], zone) > month


@pytest.mark.parametrize(
    "month", ["", "2026", "2026-13", "2026-00", "2026-1", "2026-11-01", "26-11", "1969-12", "9999-12", "2026-11\n"]
)
def test_what_is_no_month(month: str) -> None:
    assert month_bounds(month, "UTC") is None


def test_a_second_before_midnight_is_in_another_month_of_each_zone() -> None:
    last = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    assert [month_of(last, zone) for zone in ("UTC", "Europe/Berlin", "America/New_York")] == ["2026-11", "2026-12", "2026-11"]
