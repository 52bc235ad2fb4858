"""What a limit is and what tokens cost, as plain records. A limit's own record stands in `terms`, since keys carry theirs.

The amounts are integers in the unit's own measure, so that nothing is ever rounded. How a file writes a limit down is the
configuration's affair, where its state lives the table's (`dataplane/table.py`). Nothing here reads a clock.
"""

from __future__ import annotations

import msgspec

from slmgate.terms import Calendar as Calendar
from slmgate.terms import LimitSpec as LimitSpec
from slmgate.terms import Per as Per
from slmgate.terms import Unit as Unit

NANO = 1_000_000_000
"""Billionths in one unit of a currency."""


class Price(msgspec.Struct, frozen=True):
    """What tokens of one model cost, in billionths of the currency for each."""

    prompt: int = 0
    completion: int = 0


class PlanSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the road needs of a team's plan: its currency and the prices of models, by name or with `*`; the first that fits."""

    name: str
    currency: str
    prices: tuple[tuple[str, Price], ...] = ()
