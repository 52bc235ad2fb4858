"""Kinds of money: what each accepts, exactly what it comes to, and that what it writes reads back the same."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Kind
from slmgate.control.config.money_kinds import Allowance, Amount, Currency, Included, Money, TokenPrice, Zone
from slmgate.policy.limits import NANO

RIGHT: list[tuple[Kind, str, Any, str]] = [
    (Currency(), "EUR", "EUR", "EUR"),
    (Zone(), "Europe/Berlin", "Europe/Berlin", "Europe/Berlin"),
    (TokenPrice(), "0.10/1M", 100, "0.1/1M"),
    (TokenPrice(), "0.001/1M", 1, "0.001/1M"),
    (TokenPrice(), "0/1M", 0, "0/1M"),
    (TokenPrice(), "0.002/1k", 2000, "2/1M"),
    (TokenPrice(), "0.000000001/1", 1, "0.001/1M"),
    (TokenPrice(), "1/1", NANO, "1000000/1M"),
    (TokenPrice(), "0.100000000000000000/1M", 100, "0.1/1M"),
    (Amount(), "20 EUR", Money(20 * NANO, "EUR"), "20 EUR"),
    (Amount(), "49.50 EUR", Money(49_500_000_000, "EUR"), "49.5 EUR"),
    (Amount(), "0.001 KWD", Money(1_000_000, "KWD"), "0.001 KWD"),
    (Amount(), "1000000000 JPY", Money(NANO * NANO, "JPY"), "1000000000 JPY"),
    (Allowance(), "10M tokens/month", Included("tokens", 10_000_000), "10M tokens/month"),
    (Allowance(), "1 tokens/month", Included("tokens", 1), "1 tokens/month"),
    (Allowance(), "1_500_000 tokens/month", Included("tokens", 1_500_000), "1500k tokens/month"),
    (Allowance(), "1000000G tokens/month", Included("tokens", 10**15), "1000000G tokens/month"),
    (Allowance(), "5 EUR/month", Included("cost", 5 * NANO, "EUR"), "5 EUR/month"),
]

WRONG: list[tuple[Kind, str, str, str]] = [
    (Currency(), "eur", "is not a currency", "did you mean EUR?"),
    (Currency(), "EURO", "is not a currency", "write its ISO 4217 code, like EUR"),
    (Zone(), "Europe/Berlim", "is not a known time zone", "did you mean Europe/Berlin?"),
    (Zone(), "", "is not a known time zone", "write Europe/Berlin or UTC"),
    (Zone(), "../etc/passwd", "is not a known time zone", "write Europe/Berlin or UTC"),
    (TokenPrice(), "0.10", "does not say for how many tokens", "write 0.10/1M, 0.10/1k or 0.10/1"),
    (TokenPrice(), "0.0001/1M", "is finer than a billionth of the currency for each token", "0.001/1M is the finest"),
    (TokenPrice(), "0.0000000001/1", "is finer than a billionth", "0.001/1M is the finest"),
    (TokenPrice(), "1.1/1", "is more than 1 of the currency for each token", "write the price for 1M tokens"),
    (TokenPrice(), "-1/1M", "is not a price", "write 0.10/1M"),
    (TokenPrice(), "1/1G", "is not a price", "write 0.10/1M"),
    (TokenPrice(), "01/1M", "is not a price", "write 0.10/1M"),
    (TokenPrice(), "1/1M\n", "is not a price", "write 0.10/1M"),
    (Amount(), "20", "is not an amount of money", "write 20 EUR"),
    (Amount(), "20 XYZ", "is not a currency", "ISO 4217"),
    (Amount(), "20.001 EUR", "is finer than EUR has money for", "2 decimal places"),
    (Amount(), "0.0000000001 EUR", "is finer than EUR has money for", "2 decimal places"),
    (Amount(), "20.5 JPY", "is finer than JPY has money for", "no decimal places"),
    (Amount(), "1000000000.01 EUR", "is more than this option takes", "at most 1_000_000_000 EUR"),
    (Allowance(), "10M tokens", "is not an allowance for a month", "write 10M tokens/month"),
    (Allowance(), "0 tokens/month", "is less than this option takes", "from 1"),
    (Allowance(), "1000001G tokens/month", "is more than this option takes", "from 1"),
    (Allowance(), "0.00 EUR/month", "includes nothing", "leave the option out"),
    (Allowance(), "1.5M tokens/month", "is not an amount of money", "write 10M tokens/month or 5 EUR/month"),
]


@pytest.mark.parametrize(("kind", "text", "value", "written"), RIGHT)
def test_accepted(kind: Kind, text: str, value: Any, written: str) -> None:
    assert kind.take(text, "plain") == value
    assert kind.write(value) == written
    assert kind.take(written, "plain") == value
    schema = kind.schema()
    assert text in schema["enum"] if "enum" in schema else re.search(schema["pattern"], text)


@pytest.mark.parametrize(("kind", "text", "problem", "hint"), WRONG)
def test_refused(kind: Kind, text: str, problem: str, hint: str) -> None:
    with pytest.raises(BadValueError) as wrong:
        kind.take(text, "plain")
    assert wrong.value.problem.startswith(problem)
    assert hint in wrong.value.hint


@pytest.mark.parametrize("kind", {type(kind): kind for kind, *_ in RIGHT}.values())
def test_each_says_what_it_accepts(kind: Kind) -> None:
    assert kind.accepts()
