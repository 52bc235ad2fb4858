"""What the options of one limit must be to each other, and money limits to the plans: the faults that no single option shows.

A part of `checks.py` in a file of its own. It knows no YAML, and nothing of what was used.
"""

from __future__ import annotations

from collections.abc import Mapping

from slmgate.control.config.compile_limits import holders
from slmgate.control.config.limit_options import ALL, Limit
from slmgate.control.config.limit_words import write
from slmgate.control.config.options import Config
from slmgate.control.config.reading import Reader

CLAMPED = ("tokens", "completion_tokens", "cost")
"""What a smaller `max_tokens` saves."""


def check_limits(config: Config, reader: Reader) -> None:
    """Give `reader` every fault within a limit of `config`."""
    for holder in holders(config):
        for limit in holder.limits:
            check_limit(limit, reader)


def check_limit(limit: Limit, reader: Reader) -> None:
    """Give `reader` every fault within this limit."""
    words = limit.limit
    if ALL in limit.per and len(limit.per) > 1:
        _blame(reader, limit, "per", "all and others cannot be counted together", "leave all out, or write all alone")
    if len(set(limit.per)) < len(limit.per):
        _blame(reader, limit, "per", "one of them stands twice", "write each once")
    if limit.timezone is not None and words.calendar is None:
        _blame(
            reader,
            limit,
            "timezone",
            f"{write(words)} has no day of the calendar",
            "leave timezone out, or limit by day, week or month",
        )
    if limit.week_starts is not None and words.calendar != "week":
        _blame(reader, limit, "week_starts", f"{write(words)} has no week", "leave week_starts out, or limit by week")
    if limit.on_excess == "clamp" and words.unit not in CLAMPED:
        hint = "leave it out: only tokens, completion tokens and money can be clamped"
        _blame(reader, limit, "on_excess", f"max_tokens does not change {write(words)}", hint)
    _raised(limit, reader)


def _raised(limit: Limit, reader: Reader) -> None:
    raised, words = limit.raised, limit.limit
    if raised is None:
        return
    right = "the raise has the unit and window of its limit, a larger amount and no burst"
    if raised.to.kind != words.kind:
        _blame(reader, limit, "raised", f"{write(raised.to)} is not of the unit and window of {write(words)}", right)
    elif raised.to.burst is not None:
        _blame(reader, limit, "raised", "a burst cannot be raised", right)
    elif raised.to.amount <= words.amount:
        _blame(reader, limit, "raised", f"{write(raised.to)} is not more than {write(words)}", right)


def check_money(config: Config, reader: Reader, currencies: Mapping[str, str], plan_of: Mapping[str, str | None]) -> None:
    """Give `reader` every limit of money that nothing could ever count against.

    `currencies`: plan -> its currency. `plan_of`: team -> its plan.
    """
    for holder in holders(config):
        team = holder.place.removeprefix("teams.") if holder.place.startswith("teams.") else None
        plan = None if team is None else plan_of.get(team)
        for limit in holder.limits:
            fault = money_fault(limit.limit.currency, currencies, plan)
            if fault is not None:
                _blame(reader, limit, "limit", *fault)


def money_fault(money: str, currencies: Mapping[str, str], plan: str | None) -> tuple[str, str] | None:
    """What is wrong with a limit in the currency `money`, and what would do; `plan` is its team's, if one team is meant."""
    known = sorted(set(currencies.values()))
    if not money:
        return None
    if money not in known:
        there = f"there is {', '.join(known)}" if known else "the file has no plans at all"
        return f"no plan counts in {money}", f"{there}: give a plan prices in {money}"
    if plan is not None and currencies.get(plan, money) != money:
        hint = f"write the limit in {currencies[plan]}, or give the team another plan"
        return f"the plan of this team, {plan}, counts in {currencies[plan]}", hint
    return None


def _blame(reader: Reader, limit: Limit, option: str, problem: str, hint: str) -> None:
    place = reader.places.get((id(limit), option))
    if place is not None:
        reader.blame(place, place.node.span, problem, hint)
