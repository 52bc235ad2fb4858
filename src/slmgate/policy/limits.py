"""What a limit is: how much of what, in which window, counted for whom; as plain records.

The amounts are integers in the unit's own measure, so that nothing is ever rounded. How a file writes a limit down is the
configuration's affair, where its state lives the table's (`dataplane/table.py`). Nothing here reads a clock.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Unit = Literal["requests", "tokens", "prompt_tokens", "completion_tokens", "cost", "engine_time", "concurrent"]
"""`cost` is in billionths of the currency, `engine_time` in microseconds of an instance's work, the others are counted."""

Calendar = Literal["day", "week", "month"]

Per = Literal["principal", "team", "role", "model", "ip"]
"""Whose use is counted together. Several of them make one count for each combination; none: one count for all."""

NANO = 1_000_000_000
"""Billionths in one unit of a currency."""


class LimitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One limit. `name` is where it stands (`roles.partner.limits[0]`), `text` how it is told to people.

    Exactly one of `seconds` (a rolling window), `calendar` and neither (`concurrent`). A rolling window without `burst` lets
    through at most `amount` in any window of its length; with it, a bucket of `burst` units that fills at `amount` a window.
    `identity` is what the state is known by: it names no amount, so that what was used stays used when an amount changes.
    A calendar's day, week (from `first_day`, 0 is Monday) and month begin at midnight in `zone`.
    """

    name: str
    text: str
    identity: str
    unit: Unit
    amount: int
    seconds: int = 0
    calendar: Calendar | None = None
    burst: int | None = None
    zone: str = "UTC"
    first_day: int = 0
    per: tuple[Per, ...] = ("principal",)
    clamp: bool = False
    """Whether a request for more tokens than are left gets what is left, and is not refused."""
    currency: str = ""
    raised: int | None = None
    """The amount until the second `raised_until` since the epoch."""
    raised_until: float = 0.0


class Price(msgspec.Struct, frozen=True):
    """What tokens of one model cost, in billionths of the currency for each."""

    prompt: int = 0
    completion: int = 0


class PlanSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the road needs of a team's plan: its currency and the prices of models, by name or with `*`; the first that fits."""

    name: str
    currency: str
    prices: tuple[tuple[str, Price], ...] = ()
