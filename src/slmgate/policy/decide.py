"""Question 2: may this principal have that? Authorize, then limits, then route; the first refusal wins.

Most of the answer was worked out when the snapshot was made (`access.py`); here a request is held against what is left of it.
It keeps nothing and waits for nothing. Limits and routes are not decided yet: a model's instance is `balance.py`'s choice.
"""

from __future__ import annotations

from math import inf

from slmgate.policy.access import Access, Admit, Facts, Offer, Offers
from slmgate.policy.roles import Scalar
from slmgate.terms import Ask, Refuse


def decide(access: Access, ask: Ask, endpoint: str, facts: Facts) -> Admit | Refuse:
    """The verdict on one request: the model to forward it to and what it must be set to, or why not.

    `endpoint` is the name that all APIs share (`Route.access`). An API without a model field (`Ask.model` empty) means the only
    model that the caller may know of; with several, it must be named.
    """
    row = access.rows.get((ask.model, endpoint))
    if type(row) is Admit:
        return row
    if row is None:
        row = access.row(ask.model, endpoint)
    return _weigh(row, ask, facts) if isinstance(row, Offers) else row


def _weigh(row: Offers, ask: Ask, facts: Facts) -> Admit | Refuse:
    for denial in row.denials:
        if (refused := denial.test(ask, facts)) is not None:
            return refused
    furthest = -1
    told: Refuse | None = None
    for offer in row.offers:
        for check in offer.checks:
            if (refused := check.test(ask, facts)) is not None:
                if check.at > furthest:
                    furthest, told = check.at, refused
                break
        else:
            return settled(offer, ask, facts)
    assert told is not None
    return told


def settled(offer: Offer, ask: Ask, facts: Facts) -> Admit:
    """The offer taken: with what the request must be set to, because it left it alone."""
    if not offer.fills:
        return offer.admit
    settings: list[tuple[str, Scalar]] = []
    for name, value in offer.fills:
        if name == "max_tokens" and (offer.bounded or ask.max_tokens is None):
            # Under the name that every engine knows, whatever the request calls it. A name of another API bounds nothing here.
            if ask.max_tokens is not None:
                settings.append((name, ask.max_tokens))
            elif inf not in facts.parameter(name):
                settings.append((name, value if offer.context is None else _left(offer.context, value, ask)))
        elif not facts.parameter(name):
            settings.append((name, value))
    if not settings:
        return offer.admit
    admit = offer.admit
    return Admit(admit.model, admit.role, admit.rule, tuple(settings), admit.priority, admit.weight, admit.capture)


def _left(context: int, value: Scalar, ask: Ask) -> Scalar:
    """The length to set: `value`, or what the prompt leaves of the context where that is less."""
    left = context - ask.prompt_estimate
    return left if isinstance(value, str) or value > left else value
