"""Notices of plans that are being used up: what has been reached is announced once, to the plan's webhook.

One identity for each team, plan, month and threshold stands in the store, so that a restart neither forgets a notice nor makes it
twice; `webhooks.py` sends it. How much is used is added up from the receipts, of which only new ones are read. All of it is off
the road; this module knows no request.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.plan_options import Plan
from slmgate.control.keyring import utc_now
from slmgate.control.statements import LATE, currency_of, used_of
from slmgate.policy.billing import month_bounds, month_of, nano_text
from slmgate.stores.billing import BillingStore, NoticeRecord

_log = logging.getLogger("slmgate.control")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a notice. `included` and `used` are tokens, or decimal text of `currency` where money is included."""

    id: str
    type: str = "plan.threshold"
    created: datetime
    team: str
    plan: str
    month: str
    timezone: str
    at: int
    unit: str
    included: int | str
    used: int | str
    currency: str = ""


class Span(NamedTuple):
    """A month by the clocks of a zone."""

    month: str
    zone: str


class Notices:
    """Announces what is reached. One for each control process; `look` blocks and runs in a thread, one at a time."""

    def __init__(
        self,
        store: BillingStore,
        config: Callable[[], Config],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`config` is asked anew each time."""
        self._store = store
        self._config = config
        self._now = now
        # How far each month has been added up, and to what: (team, plan) -> currency -> tokens and billionths. Of every plan: a
        # reload may bring others. Lost with the process, and made again from the receipts.
        self._seen: dict[Span, int] = {}
        self._sums: dict[Span, dict[tuple[str, str], dict[str, tuple[int, int]]]] = {}

    def look(self) -> None:
        """Make a notice of each threshold that is reached and was not announced. Raises LedgerUnavailable."""
        config, now = self._config(), self._now()
        watched = {name: plan for name, plan in config.plans.items() if plan.included is not None}
        spans: dict[Span, list[str]] = {}
        for name, plan in watched.items():
            # for as long as receipts of the last month may come
            for month in {month_of(now, plan.timezone), month_of(now - LATE, plan.timezone)}:
                spans.setdefault(Span(month, plan.timezone), []).append(name)
        for gone in self._seen.keys() - spans.keys():
            del self._seen[gone], self._sums[gone]
        for span, names in spans.items():
            self._add_up(span)
            for (team, name), sums in self._sums[span].items():
                if name in names:
                    self._announce(team, name, watched[name], span, *_charged(sums, watched[name]))

    def used(self) -> list[tuple[str, str, float]]:
        """Team, plan, and how much of what it includes was used this month, at the last look: 1 is all of it."""
        config, now = self._config(), self._now()
        found = []
        for span, sums in list(self._sums.items()):
            for (team, name), in_currencies in list(sums.items()):
                plan = config.plans.get(name)
                if plan is None or plan.included is None or span != Span(month_of(now, plan.timezone), plan.timezone):
                    continue
                tokens, nano = _charged(in_currencies, plan)
                used = nano if plan.included.unit == "cost" else tokens
                found.append((team, name, used / plan.included.amount if plan.included.amount else 1.0))
        return found

    def _add_up(self, span: Span) -> None:
        """Add the receipts that came since the last look."""
        bounds = month_bounds(span.month, span.zone)
        newest, before = self._store.newest(), self._seen.get(span, 0)
        sums = self._sums.setdefault(span, {})
        if bounds is not None and newest > before:
            for row in self._store.charges(*bounds, after=before, upto=newest):
                if row.plan:
                    of_plan, currency, used = sums.setdefault((row.team, row.plan), {}), currency_of(row), used_of(row)
                    tokens, nano = of_plan.get(currency, (0, 0))
                    of_plan[currency] = tokens + used.prompt_tokens + used.completion_tokens, nano + used.cost
        self._seen[span] = newest

    def _announce(self, team: str, name: str, plan: Plan, span: Span, tokens: int, nano: int) -> None:
        if plan.included is None or plan.notify is None:
            return
        money = plan.included.unit == "cost"
        used, included = nano if money else tokens, plan.included.amount
        for at in sorted(set(plan.notify.at)):
            if used * 100 < at * included:
                break
            now = self._now()
            id = identity(team, name, span.month, at)
            notice = Notice(
                id=id,
                created=now,
                team=team,
                plan=name,
                month=span.month,
                timezone=span.zone,
                at=at,
                unit=plan.included.unit,
                included=nano_text(included) if money else included,
                used=nano_text(used) if money else used,
                currency=plan.included.currency,
            )
            record = NoticeRecord(id=id, team=team, plan=name, payload=msgspec.json.encode(notice), created=now, retry=now)
            if self._store.add_notice(record):
                _log.info("the team %r has used %d %% of what its plan %s includes in %s", team, at, name, span.month)


def _charged(sums: Mapping[str, tuple[int, int]], plan: Plan) -> tuple[int, int]:
    """Tokens and billionths that the plan is charged for: at a price in its currency or at none, as its statement has it."""
    (tokens, nano), (more, cost) = sums.get(plan.currency, (0, 0)), sums.get("", (0, 0))
    return tokens + more, nano + cost


def identity(team: str, plan: str, month: str, at: int) -> str:
    """What a notice is known by, the same however often it is worked out."""
    named = msgspec.json.encode((team, plan, month, at))
    return f"nt_{hashlib.sha256(named).hexdigest()[:32]}"
