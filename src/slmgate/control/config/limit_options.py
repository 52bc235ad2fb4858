"""The options of one limit: its words, for whom it counts, when its days begin, what happens to more, and a raise for a time.

A part of `options.py`'s table in a file of its own: roles, teams, models, keys and the whole gate have the same. It knows neither
where a limit stands, which decides what `per` means when it is left out, nor what a worker does with it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.config.kinds import Choice, Kind, Moment, Zone
from slmgate.control.config.limit_words import SCHEMA_PATTERN, LimitWords, parse, write
from slmgate.control.config.table import Option, Section

ALL = "all"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Words(Kind, frozen=True, kw_only=True):
    """A limit in words; `LimitWords` once read."""

    label: ClassVar[str] = "limit"

    def read(self, text: str) -> LimitWords:
        return parse(text)

    def form(self, value: LimitWords) -> str:
        return write(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": SCHEMA_PATTERN}

    def own_values(self) -> str:
        return "a limit in words, like `60 requests/minute`, `20k tokens/minute burst 40k`, `4 concurrent` or `25 EUR/month`"


class Raised(Section, frozen=True, kw_only=True):
    """More than the limit, until a moment."""

    to: Annotated[
        LimitWords,
        Option(
            "The limit until then: the same unit and window, a larger amount, no burst.", Words(), example="100k requests/week"
        ),
    ]
    until: Annotated[
        datetime,
        Option("When the raise ends; a date stands for its first moment in UTC.", Moment(), example="2030-01-01T00:00Z"),
    ]


class Limit(Section, frozen=True, kw_only=True):
    """One limit. Its words alone may stand for it."""

    text: ClassVar[str] = "limit"

    limit: Annotated[LimitWords, Option("How much of what in which window.", Words(), example="10k requests/week")]
    per: Annotated[
        tuple[str, ...],
        Option(
            "Whose use is counted together; of several, each combination has a count of its own. `team`: each principal that has "
            "no team by itself. Unset: `principal` for roles and keys, `team` for teams, `all` for models and the whole gate.",
            Choice(values=("principal", "team", "role", "model", "ip", ALL)),
            at_least=1,
            example="principal",
            lone=True,
        ),
    ] = ()
    timezone: Annotated[
        str | None,
        Option("Where a day, week or month begins at midnight. Unset: in UTC.", Zone(), example="UTC"),
    ] = None
    week_starts: Annotated[
        str | None, Option("The first day of a week. Unset: Monday.", Choice(values=WEEKDAYS), example="monday")
    ] = None
    on_excess: Annotated[
        Literal["refuse", "clamp"],
        Option(
            "What a request gets that asks for more tokens than are left: `refuse` it, or `clamp` its `max_tokens` to them.",
            Choice(values=("refuse", "clamp")),
        ),
    ] = "refuse"
    raised: Annotated[Raised | None, Option("More than the limit, until a moment. Unset: never.")] = None
