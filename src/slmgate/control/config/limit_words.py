"""A limit in words, like `20k tokens/minute burst 40k`: read from text, and written back in one normal form.

One amount, one unit, one window, and for rolling rates a burst; docs/limits.md says what each word means. This module knows
neither where a limit stands nor for whom it counts.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from fractions import Fraction

import msgspec

from slmgate.control.config.faults import BadValueError
from slmgate.policy.billing import MINOR_UNITS
from slmgate.policy.limits import NANO, Calendar, Unit

LARGEST = 10**18
"""The largest amount, in the unit's own measure: it leaves a signed 64-bit cell room to add a few of them."""
LONGEST_WINDOW = 366 * 86_400
"""Seconds of the longest rolling window."""

SCHEMA_PATTERN = r"^[0-9][0-9_.]*[kMG]?(?: [A-Za-z-]+(?: [A-Za-z]+)?)?(?:/(?:[0-9]+ )?[A-Za-z]+)?(?: burst [0-9][0-9_.]*[kMG]?)?$"
"""What every limit in words fits, for editors; it is looser than `parse`."""

_FACTORS = {"k": 1000, "M": 1000**2, "G": 1000**3}
_AMOUNT = re.compile(r"([0-9]+(?:_[0-9]+)*)(?:\.([0-9]+))?([kMG])?")
_WINDOW = re.compile(r"(?:([0-9]{1,9}) )?([A-Za-z]+)")
_SCALES: dict[Unit, int] = {"cost": NANO, "engine_time": 1_000_000}
_SINGULAR: dict[str, Unit] = {
    "request": "requests",
    "token": "tokens",
    "prompt token": "prompt_tokens",
    "completion token": "completion_tokens",
    "gpu-second": "engine_time",
}
_UNITS: dict[str, Unit] = {**_SINGULAR, **{f"{name}s": unit for name, unit in _SINGULAR.items()}, "concurrent": "concurrent"}
_NAMES: dict[Unit, str] = {unit: name for name, unit in _SINGULAR.items()}
_ROLLING = {"second": 1, "minute": 60, "hour": 3600}
_CALENDAR: dict[str, Calendar] = {"day": "day", "week": "week", "month": "month"}
_MEANT = {
    "req": "requests",
    "reqs": "requests",
    "calls": "requests",
    "input tokens": "prompt tokens",
    "output tokens": "completion tokens",
    "engine-seconds": "gpu-seconds",
    "parallel": "concurrent",
    "connections": "concurrent",
    "€": "EUR",
    "euro": "EUR",
    "euros": "EUR",
    "$": "USD",
    "dollars": "USD",
}
"""What people write for a unit, where no likeness of letters tells what they mean."""
_WINDOWS_MEANT = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month"}


class LimitWords(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as its words say it. `amount` and `burst` are whole numbers of the unit's own measure (policy/limits.py).

    Exactly one of `seconds` (rolling) and `calendar` is set; neither is for `concurrent`.
    """

    unit: Unit
    amount: int
    seconds: int = 0
    calendar: Calendar | None = None
    burst: int | None = None
    currency: str = ""

    @property
    def kind(self) -> tuple[Unit, int, Calendar | None, str]:
        """What is counted over which window: all but the amounts."""
        return self.unit, self.seconds, self.calendar, self.currency


def parse(text: str) -> LimitWords:
    """The limit that `text` says. Raises BadValueError, whose hint shows a right one."""
    try:
        return _parse(text)
    except BadValueError as wrong:
        # Nothing but spelling is mended here, and only for the hint: what is written is either right or refused.
        tidy = _tidied(text)
        if tidy == text:
            raise
        try:
            meant = _parse(tidy)
        except BadValueError:
            raise wrong from None
        raise BadValueError("is not spelled as a limit is", f"write {write(meant)}") from None


def write(limit: LimitWords) -> str:
    """The normal form: `parse(write(limit)) == limit`."""
    words = f"{_written(limit.amount, limit.unit)} {_unit(limit)}{window(limit)}"
    return words if limit.burst is None else f"{words} burst {_written(limit.burst, limit.unit)}"


def window(limit: LimitWords) -> str:
    """`/minute`, `/10 seconds`, `/month`; empty for `concurrent`."""
    if limit.calendar is not None:
        return f"/{limit.calendar}"
    if not limit.seconds:
        return ""
    name, size = next((name, size) for name, size in reversed(_ROLLING.items()) if limit.seconds % size == 0)
    count = limit.seconds // size
    return f"/{name}" if count == 1 else f"/{count} {name}s"


def _parse(text: str) -> LimitWords:
    rate, has_burst, burst_text = text.partition(" burst ")
    head, has_window, window_text = rate.partition("/")
    amount_text, _, unit_text = head.partition(" ")
    if not re.fullmatch(r"[-+]?\.?[0-9].*", amount_text):
        raise BadValueError("does not begin with an amount", "write 60 requests/minute, 20k tokens/minute or 4 concurrent")
    unit, currency = _unit_of(unit_text, has_window == "/") if unit_text else ("requests", "")
    example = _example(unit, currency)
    amount = _amount(amount_text, unit, example)
    if unit == "concurrent":
        if has_window or has_burst:
            extra = "window" if has_window else "burst"
            raise BadValueError(f"has a {extra}, and what is under way at once has none", f"write {amount} concurrent")
        return LimitWords(unit=unit, amount=amount)
    if not has_window:
        hint = f"write {amount_text} {unit_text or 'requests'}/minute" + ("" if unit_text else f" or {amount_text} concurrent")
        raise BadValueError("has no window", hint)
    seconds, calendar = _window_of(window_text, example)
    burst = _burst_of(burst_text, unit, example, calendar, amount) if has_burst else None
    return LimitWords(unit=unit, amount=amount, seconds=seconds, calendar=calendar, burst=burst, currency=currency)


def _unit_of(text: str, rate: bool) -> tuple[Unit, str]:
    """The unit and, for money, its currency."""
    low = text.lower()
    if (unit := _UNITS.get(low)) is not None:
        return unit, ""
    if text.upper() in MINOR_UNITS:
        return "cost", text.upper()
    known = [name for name in _UNITS if name.endswith("s") or name == "concurrent"]
    near = [_MEANT[low]] if low in _MEANT else get_close_matches(low[:40], known, 1)
    if not near and len(text) == 3:
        near = get_close_matches(text.upper(), sorted(MINOR_UNITS), 1)
    right = "write 60 requests/minute" if rate else "write 4 concurrent"
    units = "units are requests, tokens, prompt tokens, completion tokens, concurrent, gpu-seconds and currencies like EUR"
    raise BadValueError("has an unknown unit", f"did you mean {near[0]}? {right}" if near else f"{units}: {right}")


def _amount(text: str, unit: Unit, example: str) -> int:
    """An amount or burst in the unit's own measure."""
    if text.startswith("-"):
        raise BadValueError("is negative", f"write {example}; an amount of 0 lets nobody in")
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise BadValueError("has an amount that cannot be read", f"digits, _ between them, then k, M or G: write {example}")
    whole, decimals, letter = found.groups()
    factor, scale = _FACTORS.get(letter, 1), _SCALES.get(unit, 1)
    if len(whole) > 40:
        raise _too_large(unit)
    if decimals is not None and unit != "cost":
        exact = Fraction(f"{whole.replace('_', '')}.{decimals[:40]}") * factor
        right = f"{_written(exact.numerator * scale, unit)} is the same" if exact.denominator == 1 else f"write {example}"
        raise BadValueError("has a fraction, and only money may", right)
    if decimals is not None and len(decimals) > 9:
        raise BadValueError("has more than 9 decimals", f"write {example}")
    value = int(whole) * factor * scale + int((decimals or "").ljust(9, "0")) * factor
    if value > LARGEST:
        raise _too_large(unit)
    return value


def _too_large(unit: Unit) -> BadValueError:
    largest = _written(LARGEST, unit)
    return BadValueError("is more than can be counted", f"the largest amount is {largest}; leave the limit out to have none")


def _window_of(text: str, example: str) -> tuple[int, Calendar | None]:
    """(seconds, calendar): one of them is set."""
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise BadValueError("has a window that cannot be read", f"write {example}, or a window like /10 seconds or /24 hours")
    count, name = int(found[1] or 1), found[2].lower()
    name = name if name in _WINDOWS_MEANT else name.removesuffix("s")
    if name in _CALENDAR:
        if count == 1:
            return 0, _CALENDAR[name]
        hours = {"day": 24, "week": 168}.get(name)
        rolling = f": write {count * hours} hours for a rolling window" if hours else f": write {example}"
        raise BadValueError("has several days, weeks or months in one window", f"those are the calendar's, one by one{rolling}")
    if name not in _ROLLING:
        known = [*_ROLLING, *_CALENDAR]
        near = [_WINDOWS_MEANT[name]] if name in _WINDOWS_MEANT else get_close_matches(name[:40], known, 1)
        told = f"did you mean {near[0]}?" if near else "windows are second, minute, hour, day, week and month:"
        raise BadValueError("has an unknown window", f"{told} write {example}")
    seconds = count * _ROLLING[name]
    if not 1 <= seconds <= LONGEST_WINDOW:
        told = f"from 1 second to {LONGEST_WINDOW // 3600} hours: write {example}"
        raise BadValueError(f"has a window that is too {'long' if seconds else 'short'}", told)
    return seconds, None


def _burst_of(text: str, unit: Unit, example: str, calendar: Calendar | None, amount: int) -> int:
    if calendar is not None:
        raise BadValueError(f"has a burst, and a {calendar} of the calendar has none", f"leave it out: write {example}")
    burst = _amount(text, unit, f"{example} burst 100")
    if burst < 1:
        raise BadValueError("has a burst of nothing", f"leave it out, or write {example} burst 100")
    if amount < 1:
        raise BadValueError("has a burst beside an amount of 0", f"leave the burst out, or write {example} burst 100")
    return burst


def _example(unit: Unit, currency: str) -> str:
    return {
        "requests": "60 requests/minute",
        "tokens": "20k tokens/minute",
        "prompt_tokens": "10k prompt tokens/hour",
        "completion_tokens": "5k completion tokens/minute",
        "engine_time": "600 gpu-seconds/day",
        "concurrent": "4 concurrent",
        "cost": f"0.50 {currency}/day",
    }[unit]


def _unit(limit: LimitWords) -> str:
    if limit.unit == "cost":
        return limit.currency
    if limit.unit == "concurrent":
        return "concurrent"
    return _NAMES[limit.unit] + ("" if limit.amount == _SCALES.get(limit.unit, 1) else "s")


def _written(value: int, unit: Unit) -> str:
    """An amount as people write it: `20k`, `0.50`."""
    whole, rest = divmod(value, _SCALES.get(unit, 1))
    if unit == "cost":
        return f"{whole}.{f'{rest:09}'.rstrip('0').ljust(2, '0')}" if rest else str(whole)
    letter = next((letter for letter, size in reversed(_FACTORS.items()) if whole and whole % size == 0), "")
    return f"{whole // _FACTORS.get(letter, 1)}{letter}"


def _tidied(text: str) -> str:
    """The text with what people write instead mended: blanks, `per` for the stroke, a unit right behind its amount or burst."""
    text = re.sub(r" *(?:/| per ) *", "/", " ".join(text.split()), count=1)
    text = re.sub(r"([0-9][kMG]?)(?=[A-Za-z]{2})", r"\1 ", text, count=1)
    text = re.sub(r"^([0-9_.]+)K\b", r"\1k", text)
    text = re.sub(r"(?i)[ ,]+(burst) ([0-9_.]+[kMG]?)(?: [A-Za-z -]+)?$", lambda found: f" burst {found[2]}", text)
    return text.replace("concurrent requests", "concurrent")
