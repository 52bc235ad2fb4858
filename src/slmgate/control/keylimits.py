"""The limits of stored keys: read from how operators write them, as strictly as a configuration's, and written back.

A limit is its words (`60 requests/minute`), or its options as the configuration has them, in braces on one line. What is stored
is what a worker counts by. Since the key itself is always among those for whom it counts, what it is known by names no key, and
keys with the same limits share them. It knows no store; whoever has a configuration in force gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from msgspec.structs import replace

from slmgate.control.config.compile_limits import Holder, specs
from slmgate.control.config.document import parse
from slmgate.control.config.faults import quote
from slmgate.control.config.kinds import Moment
from slmgate.control.config.limit_checks import check_limit, money_fault
from slmgate.control.config.limit_options import ALL, WEEKDAYS, Limit
from slmgate.control.config.limit_words import LimitWords, write
from slmgate.control.config.options import Config
from slmgate.control.config.reading import Reader
from slmgate.control.keyfields import BadKeyInput
from slmgate.terms import LimitSpec

MAX_LIMITS = 10
"""Limits of one key: a request may come under 17 in all, and others have some too."""
MAX_TEXT = 500
"""Characters of one."""

PLACE = "key"
"""Where these limits stand: `key.limits[0]` is the first of the key's own."""

_MOMENT = Moment()


def read_limits(texts: Iterable[str]) -> tuple[LimitSpec, ...]:
    """Limits as operators write them. Raises BadKeyInput, in the words of a configuration's faults."""
    return _specs(tuple(texts))


def of_options(limits: Sequence[Limit]) -> tuple[LimitSpec, ...]:
    """Limits of one key, from their options."""
    return specs(Holder(PLACE, tuple(replace(limit, per=_per(limit.per)) for limit in limits), ("principal",)))


def check_currencies(limits: Iterable[LimitSpec], team: str | None, config: Config | None) -> None:
    """Raises BadKeyInput for a limit of money that nothing of `config` would count against. None: nobody can say."""
    if config is None:
        return
    currencies = {name: plan.currency for name, plan in config.plans.items()}
    plan = config.teams[team].plan if team in config.teams else None
    for limit in limits:
        fault = money_fault(limit.currency, currencies, plan)
        if fault is not None:
            raise BadKeyInput(_told(f"{limit.text!r}: {fault[0]}", fault[1]))


def limit_text(limit: LimitSpec) -> str:
    """A limit as it is written: `read_limits` reads the same from it."""
    options: list[str] = []
    per = [one for one in limit.per if one != "principal"]
    if per:
        options.append(f"per: [{', '.join(per)}]")
    if limit.zone != "UTC":
        options.append(f"timezone: {limit.zone}")
    if limit.first_day:
        options.append(f"week_starts: {WEEKDAYS[limit.first_day]}")
    if limit.clamp:
        options.append("on_excess: clamp")
    if limit.raised is not None:
        until = _MOMENT.form(datetime.fromtimestamp(limit.raised_until, UTC))
        options.append(f"raised: {{to: {raised_text(limit)}, until: {until}}}")
    return f"{{limit: {', '.join([limit.text, *options])}}}" if options else limit.text


def raised_text(limit: LimitSpec) -> str:
    """The words of what the limit is raised to."""
    assert limit.raised is not None
    return write(
        LimitWords(unit=limit.unit, amount=limit.raised, seconds=limit.seconds, calendar=limit.calendar, currency=limit.currency)
    )


@lru_cache(maxsize=1024)
def _specs(texts: tuple[str, ...]) -> tuple[LimitSpec, ...]:
    """Kept, since of many keys most have the same."""
    if len(texts) > MAX_LIMITS:
        raise BadKeyInput(f"A key may have {MAX_LIMITS} limits at the most.")
    return of_options([_read(text) for text in texts])


def _read(text: str) -> Limit:
    if len(text) > MAX_TEXT:
        raise BadKeyInput(f"A limit may have {MAX_TEXT} characters at the most.")
    if "${" in text:  # nothing of this machine is fetched for whoever may make keys
        raise BadKeyInput(f"{quote(text)} refers to something: write the limit itself.")
    root, troubles = parse(text)
    if troubles:
        raise BadKeyInput(_told(f"{quote(text)}: {troubles[0].problem}", troubles[0].hint))
    if root is None:
        raise BadKeyInput("A limit is empty; write 60 requests/minute, 20k tokens/minute or 4 concurrent.")
    reader = Reader("", text, Path("/"), {})
    limit = reader.document(Limit, root)
    if isinstance(limit, Limit):
        check_limit(limit, reader)
    faults = reader.faults()
    if faults or not isinstance(limit, Limit):
        told = (_told(f"{fault.option}: {fault.problem}" if fault.option else fault.problem, fault.hint) for fault in faults)
        raise BadKeyInput("; ".join(told))
    return limit


def _told(problem: str, hint: str) -> str:
    return f"{problem} ({hint})" if hint else problem


def _per(given: tuple[str, ...]) -> tuple[str, ...]:
    """Whose use is counted together, within the key."""
    return ("principal", *(one for one in given if one not in ("principal", ALL)))
