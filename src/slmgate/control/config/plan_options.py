"""The rows of the option table under `plans`: what a team pays for its use, what is included, and who is told of it.

Part of `options.py` in all but place, under the same rules: frozen records, money in billionths once loaded. This module knows
no YAML and no file, and adds nothing up: `policy/billing.py` does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from slmgate.control.config.addresses import WebUrl
from slmgate.control.config.auth_options import NOTHING
from slmgate.control.config.kinds import Choice, Password, Secret, Text, Whole
from slmgate.control.config.money_kinds import Allowance, Amount, Currency, Included, Money, TokenPrice, Zone
from slmgate.control.config.table import Option, Section

PRICED = Text(
    pattern=r"[A-Za-z0-9*][A-Za-z0-9._:/@+*-]{0,127}",
    described="a model's name, in which * stands for any characters",
)


class TokenPrices(Section, frozen=True, kw_only=True):
    """What the tokens of a model cost."""

    prompt: Annotated[int, Option("The price of prompt tokens.", TokenPrice(), example="0.10/1M")] = 0
    completion: Annotated[int, Option("The price of completion tokens.", TokenPrice(), example="0.30/1M")] = 0


class Notify(Section, frozen=True, kw_only=True):
    """A webhook that is told when much of what a plan includes is used up."""

    url: Annotated[
        str,
        Option(
            "Where the notices are sent, as `POST` with a JSON body; docs/billing.md has its form.",
            WebUrl(path=True),
            example="https://billing.example.com/slmgate",
        ),
    ]
    secret: Annotated[
        Secret,
        Option(
            "The secret by which the receiver knows that a notice is from this gate: the key of the HMAC in `slmgate-signature`.",
            Password(),
            example="${env:SLMGATE_NOTIFY_SECRET}",
        ),
    ]
    at: Annotated[
        tuple[int, ...],
        Option("When a notice is sent: at so many percent of what is included.", Whole(low=1, high=1000), at_least=1),
    ] = (80, 100)


class Plan(Section, frozen=True, kw_only=True):
    """What a team's use costs. docs/billing.md says how a statement is made of it."""

    currency: Annotated[str, Option("The currency of all that the plan says.", Currency(), example="EUR")]
    timezone: Annotated[str, Option("Whose midnights begin and end a month.", Zone())] = "UTC"
    prices: Annotated[
        dict[str, TokenPrices],
        Option(
            "What tokens cost, by the model's name or with `*`; the first that fits. What none fits costs nothing.",
            key=PRICED,
        ),
    ] = NOTHING
    included: Annotated[
        Included | None,
        Option(
            "What of each month's use costs nothing: so many tokens, of all models and of prompts and completions together, or "
            "use worth so much. Unset: none.",
            Allowance(),
            example="10M tokens/month",
        ),
    ] = None
    overage: Annotated[
        Literal["allow", "stop"],
        Option(
            "When what is included is used up: go on and charge (`allow`), or refuse with `quota_exceeded` until the next month.",
            Choice(values=("allow", "stop")),
        ),
    ] = "allow"
    base: Annotated[
        Money | None, Option("What each month costs before anything is used. Unset: nothing.", Amount(), example="49.00 EUR")
    ] = None
    credit: Annotated[
        Money | None,
        Option(
            "What is taken off each month's statement, as far as it goes; the rest of it lapses. Unset: nothing.",
            Amount(),
            example="20 EUR",
        ),
    ] = None
    notify: Annotated[Notify | None, Option("Who is told when much of what is included is used up. Unset: nobody.")] = None
