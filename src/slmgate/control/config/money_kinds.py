"""What options about money and billing can be: currencies, amounts, prices for tokens, what a plan includes, time zones.

Beside `kinds.py`, under the same rules: a class for each kind, `BadValueError` for what it cannot take. All money comes out as
integers of billionths; what could not be kept exactly is a fault. This module knows no option and no position in a file.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, ClassVar, Literal
from zoneinfo import available_timezones

import msgspec

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Kind
from slmgate.policy.billing import MINOR_UNITS, nano_text
from slmgate.policy.limits import NANO
from slmgate.policy.roles import zone_of

MOST = 1_000_000_000
"""Units of a currency in one amount: its billionths fit into 64 bits."""
MOST_TOKENS = 1_000_000_000_000_000
"""Tokens that a plan includes at most."""

_PER = {"1": 1, "1k": 1000, "1M": 1_000_000}
_UNITS = {"": 1, "k": 1000, "M": 1_000_000, "G": 1_000_000_000}
_DECIMAL = r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,18})?"
_AMOUNT = re.compile(rf"({_DECIMAL}) ([A-Z]{{3}})")
_PRICE = re.compile(rf"({_DECIMAL})/(1[kM]?)")
_TOKENS = re.compile(r"([0-9]{1,15}(?:_[0-9]{3})*)([kMG]?) tokens/month")
_EXAMPLE = "10M tokens/month or 5 EUR/month"


class Money(msgspec.Struct, frozen=True):
    """An amount of money, in billionths of a currency."""

    nano: int
    currency: str

    def __str__(self) -> str:
        return f"{nano_text(self.nano)} {self.currency}"


class Included(msgspec.Struct, frozen=True):
    """What a plan includes in each month: `amount` tokens, or usage worth `amount` billionths of `currency`."""

    unit: Literal["tokens", "cost"]
    amount: int
    currency: str = ""

    def __str__(self) -> str:
        if self.unit == "cost":
            return f"{Money(self.amount, self.currency)}/month"
        unit = next((unit for unit in "GMk" if self.amount and self.amount % _UNITS[unit] == 0), "")
        return f"{self.amount // _UNITS[unit]}{unit} tokens/month"


class Currency(Kind, frozen=True, kw_only=True):
    """The code of a currency in use (ISO 4217)."""

    label: ClassVar[str] = "currency"

    def read(self, text: str) -> str:
        return _currency(text)

    def own_schema(self) -> dict[str, Any]:
        return {"enum": sorted(MINOR_UNITS)}

    def own_values(self) -> str:
        return "a currency's code of three capital letters, like `EUR`"


class Zone(Kind, frozen=True, kw_only=True):
    """A time zone of the IANA database."""

    label: ClassVar[str] = "time zone"

    def read(self, text: str) -> str:
        try:
            zone_of(text)
        except (LookupError, ValueError, OSError):
            near = get_close_matches(text[:40], available_timezones(), 1)
            hint = f"did you mean {near[0]}?" if near else "write Europe/Berlin or UTC"
            raise BadValueError("is not a known time zone", hint) from None
        return text

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[A-Za-z0-9_+/-]{1,64}$"}

    def own_values(self) -> str:
        return "a time zone, like `Europe/Berlin`"


class TokenPrice(Kind, frozen=True, kw_only=True):
    """What tokens cost: billionths of the plan's currency for each, once read."""

    label: ClassVar[str] = "price"

    def read(self, text: str) -> int:
        found = _PRICE.fullmatch(text)
        if found is None:
            if re.fullmatch(_DECIMAL, text):
                raise BadValueError("does not say for how many tokens", f"write {text}/1M, {text}/1k or {text}/1")
            raise BadValueError("is not a price", "write 0.10/1M: 0.10 of the plan's currency for 1M tokens")
        nano = _nano(found[1])
        if nano is None or nano % _PER[found[2]]:
            raise BadValueError(
                "is finer than a billionth of the currency for each token", "0.001/1M is the finest price: write a multiple of it"
            )
        if nano // _PER[found[2]] > NANO:
            raise BadValueError("is more than 1 of the currency for each token", "write the price for 1M tokens, like 0.10/1M")
        return nano // _PER[found[2]]

    def form(self, value: int) -> str:
        return f"{nano_text(value * 1_000_000)}/1M"

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_PRICE.pattern}$"}

    def own_values(self) -> str:
        return "a price for `1M`, `1k` or `1` tokens, like `0.10/1M`"


class Amount(Kind, frozen=True, kw_only=True):
    """An amount of money, no finer than the currency's minor unit."""

    label: ClassVar[str] = "amount of money"

    def read(self, text: str) -> Money:
        return _money(text, "20 EUR")

    def form(self, value: Money) -> str:
        return str(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_AMOUNT.pattern}$"}

    def own_values(self) -> str:
        return "an amount and its currency, like `20 EUR`"


class Allowance(Kind, frozen=True, kw_only=True):
    """What each month includes: tokens or money."""

    label: ClassVar[str] = "allowance"

    def read(self, text: str) -> Included:
        found = _TOKENS.fullmatch(text)
        if found is not None:
            tokens = int(found[1]) * _UNITS[found[2]]
            if not 1 <= tokens <= MOST_TOKENS:
                raise BadValueError(
                    f"is {'less' if not tokens else 'more'} than this option takes", f"from 1 to {MOST_TOKENS:_} tokens"
                )
            return Included("tokens", tokens)
        if not text.endswith("/month"):
            raise BadValueError("is not an allowance for a month", f"write {_EXAMPLE}")
        money = _money(text.removesuffix("/month"), _EXAMPLE)
        if not money.nano:
            raise BadValueError("includes nothing", "leave the option out")
        return Included("cost", money.nano, money.currency)

    def form(self, value: Included) -> str:
        return str(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{_TOKENS.pattern}|{_AMOUNT.pattern}/month)$"}

    def own_values(self) -> str:
        return "tokens or money for a month, like `10M tokens/month` or `5 EUR/month`"


def _currency(text: str) -> str:
    if text in MINOR_UNITS:
        return text
    near = text.upper() if text.upper() in MINOR_UNITS else ""
    raise BadValueError("is not a currency", f"did you mean {near}?" if near else "write its ISO 4217 code, like EUR")


def _money(text: str, example: str) -> Money:
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise BadValueError("is not an amount of money", f"write {example}")
    currency = _currency(found[2])
    nano, places = _nano(found[1]), MINOR_UNITS[currency]
    if nano is None or nano % (NANO // 10**places):
        raise BadValueError(
            f"is finer than {currency} has money for",
            f"{currency} has {f'{places} decimal places' if places else 'no decimal places'}",
        )
    if nano > MOST * NANO:
        raise BadValueError("is more than this option takes", f"at most {MOST:_} {currency}")
    return Money(nano, currency)


def _nano(text: str) -> int | None:
    """Billionths of a decimal number; None where it is finer than one."""
    whole, _, decimals = text.partition(".")
    decimals = decimals.rstrip("0")
    return None if len(decimals) > 9 else int(whole) * NANO + int(decimals.ljust(9, "0"))
