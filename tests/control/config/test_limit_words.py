"""Limits in words: what is right, what is wrong and says what is right, and that writing and reading are each other's inverse."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.limit_words import LARGEST, LONGEST_WINDOW, SCHEMA_PATTERN, LimitWords, parse, window, write
from slmgate.policy.limits import NANO

L = LimitWords


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("60 requests/minute", L(unit="requests", amount=60, seconds=60)),
        ("1 request/second", L(unit="requests", amount=1, seconds=1)),
        ("100/second", L(unit="requests", amount=100, seconds=1)),
        ("7 requests/2 seconds", L(unit="requests", amount=7, seconds=2)),
        ("20k tokens/minute burst 40k", L(unit="tokens", amount=20_000, seconds=60, burst=40_000)),
        ("4 concurrent", L(unit="concurrent", amount=4)),
        ("2M tokens/month", L(unit="tokens", amount=2_000_000, calendar="month")),
        ("25 EUR/month", L(unit="cost", amount=25 * NANO, calendar="month", currency="EUR")),
        ("0.50 eur/day", L(unit="cost", amount=NANO // 2, calendar="day", currency="EUR")),
        ("1.5k EUR/week", L(unit="cost", amount=1500 * NANO, calendar="week", currency="EUR")),
        ("0.000000001 USD/hour", L(unit="cost", amount=1, seconds=3600, currency="USD")),
        ("600 gpu-seconds/day", L(unit="engine_time", amount=600_000_000, calendar="day")),
        ("1 GPU-second/minute", L(unit="engine_time", amount=1_000_000, seconds=60)),
        ("10k prompt tokens/hour", L(unit="prompt_tokens", amount=10_000, seconds=3600)),
        ("5_000 completion tokens/minute", L(unit="completion_tokens", amount=5000, seconds=60)),
        ("24 hours".replace("24", "5 requests/24"), L(unit="requests", amount=5, seconds=86_400)),
        ("0 requests/day", L(unit="requests", amount=0, calendar="day")),
        ("1_000_000_000G requests/day", L(unit="requests", amount=LARGEST, calendar="day")),
    ],
)
def test_right(text: str, meant: LimitWords) -> None:
    assert parse(text) == meant
    assert parse(write(meant)) == meant
    assert re.fullmatch(SCHEMA_PATTERN, write(meant))


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("", "does not begin with an amount", "60 requests/minute"),
        ("requests/minute", "does not begin with an amount", "4 concurrent"),
        ("many tokens/day", "does not begin with an amount", "20k tokens/minute"),
        ("-5 requests/minute", "is negative", "0 lets nobody in"),
        ("1.5 requests/minute", "has a fraction, and only money may", "60 requests/minute"),
        ("1.5k tokens/minute", "has a fraction, and only money may", "1500 is the same"),
        ("5x requests/minute", "has an amount that cannot be read", "k, M or G"),
        ("5 apples/minute", "has an unknown unit", "units are requests"),
        ("5 requets/minute", "has an unknown unit", "did you mean requests?"),
        ("5 input tokens/minute", "has an unknown unit", "did you mean prompt tokens?"),
        ("5 parallel", "has an unknown unit", "did you mean concurrent?"),
        ("5 UER/month", "has an unknown unit", "did you mean"),
        ("5 €/month", "has an unknown unit", "did you mean EUR?"),
        ("5 requests", "has no window", "5 requests/minute"),
        ("5", "has no window", "5 requests/minute or 5 concurrent"),
        ("5 requests/fortnight", "has an unknown window", "windows are second"),
        ("5 requests/mintue", "has an unknown window", "did you mean minute?"),
        ("5 requests/m", "has an unknown window", "did you mean minute?"),
        ("5 requests/0 seconds", "has a window that is too short", "from 1 second"),
        ("5 requests/100000 hours", "has a window that is too long", str(LONGEST_WINDOW // 3600)),
        ("5 requests/2 days", "has several days", "48 hours for a rolling window"),
        ("5 requests/2 months", "has several days", "one by one"),
        ("5 requests/1.5 hours", "has a window that cannot be read", "/10 seconds"),
        ("5 concurrent/minute", "has a window", "5 concurrent"),
        ("5 concurrent burst 7", "has a burst", "5 concurrent"),
        ("5 requests/day burst 7", "has a burst, and a day of the calendar has none", "leave it out"),
        ("5 requests/minute burst 0", "has a burst of nothing", "burst 100"),
        ("0 requests/minute burst 5", "has a burst beside an amount of 0", "leave the burst out"),
        ("1_000_000_001G requests/day", "is more than can be counted", "leave the limit out"),
        ("9" * 60 + " requests/day", "is more than can be counted", "the largest amount is"),
        ("0.0000000001 EUR/day", "has more than 9 decimals", "0.50 EUR/day"),
        ("60 requests per minute", "is not spelled as a limit is", "write 60 requests/minute"),
        ("60requests / minute", "is not spelled as a limit is", "write 60 requests/minute"),
        ("20K tokens/minute", "is not spelled as a limit is", "write 20k tokens/minute"),
        ("5 requests/minute, burst 10 requests", "is not spelled as a limit is", "write 5 requests/minute burst 10"),
        ("4 concurrent requests", "is not spelled as a limit is", "write 4 concurrent"),
        ("  5   appels per minute", "does not begin with an amount", "write"),
    ],
)
def test_wrong(text: str, problem: str, hint: str) -> None:
    with pytest.raises(BadValueError) as wrong:
        parse(text)
    assert problem in str(wrong.value), wrong.value
    assert hint in (wrong.value.hint or ""), wrong.value.hint


AMOUNTS = st.integers(0, LARGEST)
WINDOWS = st.one_of(
    st.builds(lambda seconds: {"seconds": seconds}, st.integers(1, LONGEST_WINDOW)),
    st.sampled_from([{"calendar": calendar} for calendar in ("day", "week", "month")]),
)
UNITS = st.sampled_from(
    [{"unit": unit} for unit in ("requests", "tokens", "prompt_tokens", "completion_tokens")]
    + [{"unit": "cost", "currency": "EUR"}]
)


@given(AMOUNTS, WINDOWS, UNITS)
def test_what_is_written_is_read_back(amount: int, over: dict[str, object], unit: dict[str, object]) -> None:
    limit = LimitWords(amount=amount, **over, **unit)  # type: ignore[arg-type]  # fields by name
    assert parse(write(limit)) == limit


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_burst_is_read_back(amount: int, burst: int) -> None:
    limit = LimitWords(unit="tokens", amount=amount, seconds=60, burst=burst)
    assert parse(write(limit)) == limit


@given(st.text(max_size=40))
def test_anything_else_is_a_fault_with_a_hint(text: str) -> None:
    try:
        limit = parse(text)
    except BadValueError as fault:
        wrong = fault
    else:
        assert parse(write(limit)) == limit
        return
    assert wrong.hint


def test_what_is_counted_over_which_window() -> None:
    assert parse("5 requests/minute").kind == parse("9 requests/60 seconds burst 3").kind
    assert parse("5 requests/minute").kind != parse("5 requests/hour").kind
    windows = [window(parse(text)) for text in ("5/90 seconds", "5/2 hours", "5/day", "5 concurrent")]
    assert windows == ["/90 seconds", "/2 hours", "/day", ""]
