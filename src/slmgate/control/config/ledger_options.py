"""The rows of the option table under `ledger`: for how long receipts and their sums are kept.

Part of `options.py` in all but place, under the same rules: frozen records, times in seconds once loaded. This module knows
no YAML, no file and no database.
"""

from __future__ import annotations

from typing import Annotated, Literal

from slmgate.control.config.kinds import Duration
from slmgate.control.config.table import Option, Section

_DAY = 86_400_000  # milliseconds, as the bounds of a Duration
_LONGEST = 36_500 * _DAY
_TWO_MONTHS = 63 * _DAY  # 31 and 31 days, and one because months do not begin at once all over the world

Keep = Literal["never"] | float
"""Seconds after which something is deleted."""


class Ledger(Section, frozen=True, kw_only=True):
    """After how long what the ledger holds is deleted. Sums by month are kept for good."""

    receipts: Annotated[
        Keep,
        Option(
            "After how long receipts are deleted. Statements are made of them: the least keeps last month until this one ends.",
            Duration(low=_TWO_MONTHS, high=_LONGEST, words=("never",)),
            example="400d",
        ),
    ] = "never"
    minutes: Annotated[
        Keep, Option("After how long the sums by minute are deleted.", Duration(low=_DAY, high=_LONGEST, words=("never",)))
    ] = 7 * 86_400.0
    hours: Annotated[
        Keep, Option("After how long the sums by hour are deleted.", Duration(low=_DAY, high=_LONGEST, words=("never",)))
    ] = "never"
    days: Annotated[
        Keep, Option("After how long the sums by day are deleted.", Duration(low=_TWO_MONTHS, high=_LONGEST, words=("never",)))
    ] = "never"
