"""Rates of addresses in words: what is read, what is refused, and that what is written is read again."""

from __future__ import annotations

import pytest

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.guard_options import MOST, REQUESTS, Rate
from slmgate.control.config.limit_words import LimitWords


def words(amount: int, seconds: int, burst: int | None = None) -> LimitWords:
    return LimitWords(unit="requests", amount=amount, seconds=seconds, burst=burst)


@pytest.mark.parametrize(
    ("text", "value", "form"),
    [
        ("100/second burst 200", words(100, 1, 200), "100/second burst 200"),
        ("1/second", words(1, 1), "1/second"),
        ("1 request/minute", words(1, 60), "1/minute"),
        ("10 requests/minute", words(10, 60), "10/minute"),
        ("5/10 seconds", words(5, 10), "5/10 seconds"),
        ("2k/hour burst 1_000", words(2000, 3600, 1000), "2k/hour burst 1k"),
        ("10M/second", words(MOST, 1), "10M/second"),
    ],
)
def test_what_is_read(text: str, value: LimitWords, form: str) -> None:
    rate = Rate(like="1/second")
    assert rate.take(text, "plain") == value
    assert rate.write(value) == form
    assert rate.take(form, "plain") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("100", "is not a rate"),
        ("", "is not a rate"),
        ("off", "is not a rate"),
        ("5 tokens/second", "is not a rate"),
        ("4 concurrent", "is not a rate"),
        ("5/second burst", "is not a rate"),
        ("5/second\n", "is not a rate"),
        ("-5/second", "is not a rate"),
        ("5/fortnight", "has an unknown window"),
        ("5/day", "is counted by the calendar"),
        ("0/second", "is nothing"),
        ("10_000_001/second", "is more than this option takes"),
        ("5/second burst 10_000_001", "is more than this option takes"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as caught:
        Rate(like="1/second").read(text)
    assert caught.value.problem == problem
    assert caught.value.hint


def test_off() -> None:
    assert REQUESTS.take("off", "plain") == "off"
    assert REQUESTS.accepts().startswith("`off` or a rate like `100/second burst 200`")
