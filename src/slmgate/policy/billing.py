"""What tokens cost: prices as text, a month's bill from sums of receipts, and where money is rounded.

All money is an integer, of billionths of the currency (`NANO`) until a line is rounded to the currency's minor unit, once and
half to even. A bill is the same whatever the order of what it is made from. Nothing here knows where receipts are kept, what
time it is, or how a bill looks on paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from slmgate.policy.limits import NANO, Price
from slmgate.policy.roles import zone_of

_NO_MINOR_UNIT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
_HUNDREDTHS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE "
    "CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD "
    "KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR "
    "PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU "
    "UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
MINOR_UNITS: dict[str, int] = {
    **dict.fromkeys(_HUNDREDTHS.split(), 2),
    **dict.fromkeys(_NO_MINOR_UNIT.split(), 0),
    **dict.fromkeys(_THOUSANDTHS.split(), 3),
}
"""Decimal places of each currency's minor unit, by its code (ISO 4217)."""

_PRICE = re.compile(r"([A-Z]{3}) ([0-9]{1,18}) ([0-9]{1,18})")
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan asks for beside its prices. `base` and `credit` are billionths of the currency, for each month.

    What is included is `included_tokens` of any model and direction, or usage worth `included_cost` billionths, or nothing.
    """

    currency: str
    base: int = 0
    credit: int = 0
    included_tokens: int = 0
    included_cost: int = 0


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of one model at one price. `estimated` and `unknown`: requests whose figures are less sure."""

    model: str
    price: Price
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    unknown: int = 0

    @property
    def cost(self) -> int:
        """In billionths of the currency, with nothing taken off."""
        return cost(self.prompt_tokens, self.completion_tokens, self.price)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a bill: what was used, what of it was included, and what the rest comes to in minor units."""

    used: Used
    included_prompt: int = 0
    included_completion: int = 0
    included_cost: int = 0
    amount: int = 0

    @property
    def charged(self) -> int:
        """The same before it was rounded, in billionths."""
        used = self.used
        prompt, completion = used.prompt_tokens - self.included_prompt, used.completion_tokens - self.included_completion
        return cost(prompt, completion, used.price) - self.included_cost


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """A month's bill. Money is in minor units; `total` is `base` and all lines, less `credit`, which never exceeds them."""

    currency: str
    lines: tuple[Line, ...]
    base: int
    credit: int
    total: int


def cost(prompt_tokens: int, completion_tokens: int, price: Price) -> int:
    """What so many tokens cost, in billionths of the price's currency."""
    return prompt_tokens * price.prompt + completion_tokens * price.completion


def price_text(currency: str, price: Price) -> str:
    """A price as a receipt keeps it: the currency, then billionths for each prompt token and each completion token."""
    return f"{currency} {price.prompt} {price.completion}"


def read_price(text: str) -> tuple[str, Price] | None:
    """Currency and price of a receipt's text; None where it is no price, as for requests that came under no plan."""
    found = _PRICE.fullmatch(text)
    return None if found is None else (found[1], Price(int(found[2]), int(found[3])))


def minor(nano: int, currency: str) -> int:
    """Billionths rounded to minor units of the currency, half to even."""
    step: int = NANO // 10 ** MINOR_UNITS[currency]
    whole, rest = divmod(nano, step)
    up = 2 * rest > step or (2 * rest == step and whole % 2 == 1)
    return whole + up


def money_text(units: int, currency: str) -> str:
    """Minor units as a decimal number: 1234 of EUR is `12.34`, of JPY `1234`, of KWD `1.234`."""
    places = MINOR_UNITS[currency]
    digits = f"{abs(units):0{places + 1}}"
    whole = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{whole}" if units < 0 else whole


def nano_text(nano: int) -> str:
    """Billionths as a decimal number without needless zeros: a price or an amount that was not rounded."""
    whole, rest = divmod(abs(nano), NANO)
    text = f"{whole}.{rest:09}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


def shares(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` dealt out in proportion to `weights`, whole numbers that add up to it; never more than a weight.

    What the division leaves over goes to the largest remainders, of equal ones to the first. More than there is takes all.
    """
    total = sum(weights)
    if amount >= total:
        return list(weights)
    dealt = [amount * weight // total for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: (-(amount * weights[i] % total), i))
    for i in order[: amount - sum(dealt)]:
        dealt[i] += 1
    return dealt


def bill(terms: Terms, uses: Iterable[Used]) -> Bill:
    """The bill of one month. `uses` are in the terms' currency, in any order and in as many pieces as they come.

    Included tokens are taken from all models and both directions in proportion to what was used of each, whatever their price
    and their time; included money likewise from what each line costs.
    """
    merged = _merged(uses)
    tokens = shares(terms.included_tokens, [count for used in merged for count in (used.prompt_tokens, used.completion_tokens)])
    lines = [
        Line(used=used, included_prompt=prompt, included_completion=completion)
        for used, prompt, completion in zip(merged, tokens[::2], tokens[1::2], strict=True)
    ]
    money = shares(terms.included_cost, [line.charged for line in lines])
    lines = [msgspec.structs.replace(line, included_cost=part) for line, part in zip(lines, money, strict=True)]
    rounded = tuple(msgspec.structs.replace(line, amount=minor(line.charged, terms.currency)) for line in lines)
    base = minor(terms.base, terms.currency)
    before = base + sum(line.amount for line in rounded)
    credit = min(minor(terms.credit, terms.currency), before)
    return Bill(currency=terms.currency, lines=rounded, base=base, credit=credit, total=before - credit)


def _merged(uses: Iterable[Used]) -> list[Used]:
    """One for each model and price, in the order of model, then price."""
    found: dict[tuple[str, int, int], Used] = {}
    for used in uses:
        key = used.model, used.price.prompt, used.price.completion
        before = found.get(key)
        if before is not None:
            used = Used(
                model=used.model,
                price=used.price,
                requests=before.requests + used.requests,
                prompt_tokens=before.prompt_tokens + used.prompt_tokens,
                completion_tokens=before.completion_tokens + used.completion_tokens,
                estimated=before.estimated + used.estimated,
                unknown=before.unknown + used.unknown,
            )
        found[key] = used
    return [found[key] for key in sorted(found)]


def month_bounds(month: str, zone: str) -> tuple[datetime, datetime] | None:
    """First moment of a month like `2026-11`, and of the next, by the clocks of `zone`, in UTC; None where it is no month.

    Where midnight does not exist, the month begins with the first moment that does; where it comes twice, with the first.
    """
    found = _MONTH.fullmatch(month)
    if found is None or not 1970 <= int(found[1]) <= 9000:
        return None
    year, number = int(found[1]), int(found[2])
    after = (year, number + 1) if number < 12 else (year + 1, 1)
    start, end = (datetime(y, m, 1, tzinfo=zone_of(zone)).astimezone(UTC) for y, m in ((year, number), after))
    return start, end


def month_of(moment: datetime, zone: str) -> str:
    """The month in which a moment lies, by the clocks of `zone`."""
    return f"{moment.astimezone(zone_of(zone)):%Y-%m}"
