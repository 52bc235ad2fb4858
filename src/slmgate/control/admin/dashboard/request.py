"""The page of one request: where its time went, what it came to, and why it was admitted or refused.

All of it is what the admin API has of it, the receipt and the explanation; here it is put in order for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from slmgate.control.admin import explaining, handlers
from slmgate.control.admin.dashboard import words
from slmgate.control.admin.dashboard.asking import Ask, Go, View
from slmgate.control.admin.dashboard.requests import outcome
from slmgate.control.admin.dashboard.timeline import timeline
from slmgate.control.admin.live import find_live
from slmgate.control.admin.views import decimal_text
from slmgate.control.trials.told import Counted, Past, Step, Told
from slmgate.errors import FAULTS
from slmgate.terms import Receipt

ENDED = {
    "complete": "The client had the whole answer.",
    "refused": "The gate answered without asking an instance.",
    "client_left": "The client closed before its last byte.",
    "upstream_error": "The instance died, broke the protocol or could not be reached.",
    "upstream_timeout": "The instance was silent for longer than its time limit.",
    "gate_failed": "A fault of the gate itself; its log says more under the request's id.",
    "gate_stopped": "The gate ended it while it was under way.",
    "unknown": "Its worker died: this was settled from what it had written down before.",
}
SAID = {"running": "The request is still under way: its receipt comes with its end."}


class Fact(NamedTuple):
    """A line of what is known: its name, its value, a link, and whether it is code."""

    name: str
    value: str
    href: str = ""
    code: bool = False


class Rules(NamedTuple):
    """Some rules that were looked at, under a heading."""

    title: str
    note: str
    steps: Sequence[Step]


async def request(ask: Ask) -> View | Go:
    """One request by its id, or by what its client called it."""
    try:
        receipt = await asyncio.to_thread(handlers.receipt, ask.context, ask.names["id"])
    except handlers.Unknown:
        if ask.context.live is not None and await find_live(ask.context, ask.names["id"]) not in (None, "over"):
            return Go(ask.at("live"), "running")
        raise
    past = await asyncio.to_thread(_past, ask, receipt)
    said, tone = outcome(receipt)
    return View(
        template="request.html",
        values={
            "receipt": receipt,
            "outcome": said,
            "tone": tone or "good",
            "ended": ENDED[receipt.ended],
            "fault": FAULTS.get(receipt.reason),
            "parts": timeline(receipt),
            "facts": list(facts(ask, receipt)),
            "cost": cost(receipt),
            "past": past,
            "today": None if past is None else past.today,
            "rules": [] if past is None or past.today is None else list(rules(past.today)),
            "counted": [] if past is None or past.today is None else [(one, *figures(one)) for one in past.today.verdict.limits],
        },
        title=f"Request {receipt.request_id}",
        ranged=False,
    )


def _past(ask: Ask, receipt: Receipt) -> Past | None:
    """What `slmgate explain --request` says of it. None: no configuration is in force by which that could be said."""
    if ask.context.config is None:
        return None
    try:
        return explaining.explain_request(ask.context, receipt.id)
    except handlers.Unknown:  # retention has deleted it this very moment
        return None


def facts(ask: Ask, receipt: Receipt) -> Iterator[Fact]:
    """What is known of it, without what stands in the figures above."""
    yield Fact("Its id", receipt.id, code=True)
    if receipt.request_id != receipt.id:
        yield Fact("Its client's id", receipt.request_id, code=True)
    yield Fact("Began", f"{words.moment(receipt.time, ask.zone)} {ask.zone}")
    yield Fact("Client", receipt.principal or "not known", ask.at("clients", receipt.principal) if receipt.principal else "")
    if receipt.key:
        yield Fact("Key", receipt.key, ask.at("keys", receipt.key), code=True)
    if receipt.team:
        yield Fact("Team", receipt.team)
    if receipt.roles:
        yield Fact("Roles", receipt.roles.replace(",", ", "))
    yield Fact("Model", receipt.model or "none", ask.at("models", receipt.model) if receipt.model else "")
    if receipt.instance:
        tries = "" if receipt.attempts < 2 else f", the last of {receipt.attempts} that were tried"
        yield Fact("Instance", f"{receipt.instance}{tries}")
    streamed = ", streamed" if receipt.stream else ""
    yield Fact("Asked", f"{receipt.method} {receipt.path}{streamed}", code=True)
    if receipt.parameters:
        yield Fact("With", receipt.parameters, code=True)
    yield Fact("Verdict", f"{receipt.verdict}{f' by {receipt.rule}' if receipt.rule else ''}")
    yield Fact("Bytes", f"{words.size(receipt.bytes_in)} in, {words.size(receipt.bytes_out)} out")
    if receipt.plan:
        yield Fact("Plan", f"{receipt.plan}{f', at {price(receipt)}' if receipt.price else ''}")
    yield Fact("From", f"{receipt.address or 'not known'}, by worker {receipt.worker}")
    if receipt.trace:
        yield Fact("Trace", receipt.trace, code=True)


def cost(receipt: Receipt) -> str:
    """What it cost, empty where nothing was asked for."""
    currency = receipt.price.partition(" ")[0]
    return words.money(decimal_text(receipt.cost), currency) if currency else ""


def price(receipt: Receipt) -> str:
    """What a million tokens cost then."""
    currency, prompt, completion = receipt.price.split(" ")
    asked, answered = (words.money(decimal_text(int(each) * 1_000_000), currency) for each in (prompt, completion))
    return f"{asked} for a million prompt tokens, {answered} for completion tokens"


def rules(told: Told) -> Iterator[Rules]:
    """The rules that were looked at: of the key, whatever the role, then role by role."""
    shared = [*told.identity, *told.first]
    if shared:
        yield Rules("Whatever the role", "", shared)
    for role in told.roles:
        sets = ", ".join(f"{name}={_plain(value)}" for name, value in role.settings.items())
        note = f"It sets {sets}." if sets and role.admits else ""
        yield Rules(f"Role {role.name}, {role.of}: {'admits' if role.admits else 'does not admit'}", note, role.steps)


def figures(row: Counted) -> tuple[str, str, str]:
    """A limit's figures: used before, of how much, and what the request takes."""
    return _amount(row, row.used), _amount(row, row.amount), _amount(row, row.takes)


def _amount(row: Counted, value: int) -> str:
    if row.unit == "cost":
        return words.money(Decimal(value).scaleb(-9), row.currency)
    return words.duration(value / 1e6) if row.unit == "engine_time" else words.count(value)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
