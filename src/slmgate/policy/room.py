"""Whether a request has room in its limits: how long its answers may be, and what its client is told where there is none.

The road asks with what the shared table says, a trial with what somebody says was used; what follows from it is written here
alone, so that both come to the same. It holds no state and reads no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from slmgate.policy.charges import Tariff, amount_text
from slmgate.policy.limiting import BUCKET, CALENDAR, CONCURRENT, NEVER, SECOND, SLIDING, Meter, bucket_wait
from slmgate.terms import Refuse

COMPLETION = 4096
"""The bound of an answer where it counts and neither the request nor a rule sets one."""
TRIES = 8
"""How often the bound of an answer is lowered to what is left, while others take of it at the same time."""
LONGEST_WAIT = 366 * 86_400


class Short(NamedTuple):
    """A limit had no room: which of those asked for, what it holds at most, what was left of that, and the microseconds until
    there is room (`NEVER`: never).
    """

    which: int
    amount: int
    left: int
    wait: int


class Need(NamedTuple):
    """What a request may come to: `prompt` tokens, and `answers` answers of `longest` tokens each.

    None: it sets no bound; 0: it generates nothing.
    """

    prompt: int
    longest: int | None
    answers: int


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that a request comes under, in the limit's own measure: `used` before it, and what it `takes`."""

    rule: str
    limit: str
    amount: int
    used: int
    takes: int
    passed: bool
    unit: str
    currency: str = ""


class Weighed(NamedTuple):
    """What the limits say: no (`refuse`), or yes, with the bound that each answer must be given, if one must."""

    refuse: Refuse | None
    bound: int | None
    counted: tuple[Counted, ...]


def first_bound(tariff: Tariff, longest: int | None) -> int | None:
    """The bound that answers are given because their length counts and nothing else bounds it."""
    return COMPLETION if longest is None and tariff.bounded else None


def shorter(tariff: Tariff, short: Short, need: Need, each: int | None) -> int | None:
    """How long answers may be instead of `each`, so that `short` has room; None: that cannot be, or may not."""
    room = tariff.tokens_for(short.which, short.left, need.prompt) // need.answers
    may_be_less = each is not None and room < each and (need.longest is None or tariff.meters[short.which].spec.clamp)
    return room if room >= 1 and may_be_less else None


def refused(tariff: Tariff, short: Short, want: int) -> Refuse:
    """Why there is no room, for the client: which limit, its size, what was used and when to come back."""
    meter = tariff.meters[short.which]
    spec = meter.spec
    size, used = amount_text(spec, short.amount), amount_text(spec, short.amount - short.left)
    if meter.kind == CONCURRENT:
        message = f"Your limit is {spec.text}, and {used} are under way. Try again when one has ended."
        return Refuse("rate_limit_exceeded", message, retry_after=1, rule=spec.name)
    if short.wait >= NEVER and (meter.amount or want > short.amount > 0):
        needed = amount_text(spec, want)
        allows = f"allows {size} at once" if want > short.amount else f"has no room for it before its raise to {size} ends"
        message = f"This request may come to {needed}, and your limit of {spec.text} {allows}."
        return Refuse("request_too_large", f"{message} Shorten the prompt, or set max_tokens lower.", rule=spec.name)
    wait = min(LONGEST_WAIT, -(-short.wait // SECOND)) if short.wait < NEVER else whole_window(meter)
    code = "quota_exceeded" if meter.kind == CALENDAR else "rate_limit_exceeded"
    what = f"{used} of {size} are used" if want <= 1 or short.amount == 0 else f"{used} of {size} are used, and this needs {want}"
    if spec.unit == "cost" and want > 1:
        what = f"{used} of {size} are used, and this may cost {amount_text(spec, want)}"
    message = f"Your limit of {spec.text} has no room: {what}. Try again in {max(1, wait)} s."
    return Refuse(code, message, retry_after=max(1, wait), rule=spec.name)


def whole_window(meter: Meter) -> int:
    """Seconds of a limit's window; of a calendar's, a day."""
    return meter.spec.seconds or 86_400


def whole_in(meter: Meter, used: int, second: float) -> float | None:
    """Seconds until a limit of which so much is used is whole again at the latest, if nothing more is used of it.

    None: nothing is used, or nobody can say.
    """
    if used <= 0 or meter.kind == CONCURRENT:
        return None
    if meter.kind == CALENDAR:
        return meter.period_at(second)[1] - second
    if meter.kind == BUCKET:
        wait = bucket_wait(0, meter.rate, meter.period, used)
        return None if wait >= NEVER else wait / SECOND
    return float(meter.spec.seconds)


def weigh(tariff: Tariff, used: Sequence[int], need: Need, second: float) -> Weighed:
    """The verdict of the limits where `used[n]` is used of the n-th; `second` is the wall clock's.

    How old what was used is, nobody says: of a rolling window it is all taken to be new.
    """
    bound = first_bound(tariff, need.longest)
    each = need.longest if bound is None else bound
    while True:
        wants = tariff.wants(need.prompt, (each or 0) * need.answers)
        rows = tuple(_counted(meter, was, want, second) for meter, was, want in zip(tariff.meters, used, wants, strict=True))
        short = _short(tariff, rows, second)
        if short is None:
            return Weighed(None, bound, rows)
        less = shorter(tariff, short, need, each)
        if less is None:
            return Weighed(refused(tariff, short, wants[short.which]), None, rows)
        each = bound = less  # shorter each time, so this ends


def _counted(meter: Meter, used: int, takes: int, second: float) -> Counted:
    spec, amount = meter.spec, meter.amount_at(second)
    return Counted(
        rule=spec.name,
        limit=spec.text,
        amount=amount,
        used=used,
        takes=takes,
        passed=used + takes <= amount,
        unit=spec.unit,
        currency=spec.currency,
    )


def _short(tariff: Tariff, rows: Sequence[Counted], second: float) -> Short | None:
    """The limit without room that has the longest wait, as the table tells it."""
    found: Short | None = None
    for which, (meter, row) in enumerate(zip(tariff.meters, rows, strict=True)):
        if row.passed:
            continue
        wait = _wait(meter, row, second)
        if found is None or wait > found.wait:
            found = Short(which, row.amount, row.amount - row.used, wait)
    return found


def _wait(meter: Meter, row: Counted, second: float) -> int:
    wait = _wait_under(meter, row, row.amount, second)
    falls = meter.falls(second, wait) if wait < NEVER else 0
    return _wait_under(meter, row, row.amount - falls, second) if falls else wait


def _wait_under(meter: Meter, row: Counted, amount: int, second: float) -> int:
    if row.takes > amount:
        return NEVER
    if meter.kind == SLIDING:
        return meter.period
    if meter.kind == CALENDAR:
        return max(SECOND, int((meter.period_at(second)[1] - second) * SECOND))
    return bucket_wait(0, meter.rate, meter.period, row.used + row.takes - amount) if meter.kind == BUCKET else SECOND
