"""What the route about teams does: each team of the configuration, with its keys, its plan, and how far that is used this month.

Use is added up from the sums of usage, which are fast however much there is; what is charged in the end, the statement says,
recomputed from the receipts. Handlers are plain functions, run in a thread; who may call stands in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from slmgate.control.admin import handlers
from slmgate.control.admin.views import decimal_text
from slmgate.control.config import Config
from slmgate.control.config.limit_words import write
from slmgate.control.keyring import utc_now
from slmgate.policy.billing import month_bounds, month_of
from slmgate.stores.records import ReceiptFilter, UsageRow

if TYPE_CHECKING:
    from slmgate.control.admin.params import Context

NOTHING = UsageRow(group=("",), requests=0, refused=0, errors=0, prompt_tokens=0, completion_tokens=0, estimated_tokens=0)


class PlanUse(msgspec.Struct, frozen=True, kw_only=True):
    """A team's plan in the month by its clock. `included` and `used` are tokens, or decimal text of `currency`; null: nothing is.

    `share` is the part of what is included that is used, over 1 where it is more.
    """

    name: str
    month: str
    since: datetime
    currency: str
    unit: Literal["tokens", "cost"] | None
    included: int | str | None
    used: int | str | None
    share: float | None
    overage: Literal["allow", "stop"]


class TeamView(msgspec.Struct, frozen=True, kw_only=True):
    """One team. `keys` are those that are not revoked; `declared`: whether the configuration has it, or only keys name it.

    `requests`, `tokens` and `cost` are those of the month, by the plan's clock or UTC's.
    """

    name: str
    declared: bool
    roles: Sequence[str]
    limits: Sequence[str]
    keys: int
    plan: PlanUse | None
    requests: int
    tokens: int
    cost: dict[str, str]


def teams(context: Context) -> Sequence[TeamView]:
    """The teams of the configuration, and those that only keys name, with what they used this month."""
    config = context.config
    if config is None:
        raise handlers.BadQuery("No gate runs here, so that no configuration says which teams there are.")
    now = utc_now()
    members = context.store.members()
    for key in config.keys:
        if key.team is not None:
            members[key.team] = members.get(key.team, 0) + 1
    used: dict[str, dict[str, UsageRow]] = {}
    for zone in {_zone(config, name) for name in (*config.teams, *members)}:
        bounds = month_bounds(month_of(now, zone), zone)
        assert bounds is not None  # it is a month, by `month_of`
        rows = context.store.usage(["team"], ReceiptFilter(since=bounds[0], until=bounds[1]))
        used[zone] = {row.group[0]: row for row in rows}
    return [
        _team(config, name, members.get(name, 0), used[_zone(config, name)].get(name, NOTHING), now)
        for name in sorted({*config.teams, *members})
    ]


def _zone(config: Config, team: str) -> str:
    found = config.teams.get(team)
    plan = None if found is None or found.plan is None else config.plans.get(found.plan)
    return "UTC" if plan is None else plan.timezone


def _team(config: Config, name: str, keys: int, row: UsageRow, now: datetime) -> TeamView:
    team = config.teams.get(name)
    return TeamView(
        name=name,
        declared=team is not None,
        roles=() if team is None else team.roles,
        limits=() if team is None else [write(limit.limit) for limit in team.limits],
        keys=keys,
        plan=_plan(config, None if team is None else team.plan, row, now),
        requests=row.requests,
        tokens=row.prompt_tokens + row.completion_tokens,
        cost={currency: decimal_text(cost) for currency, cost in row.costs.items()},
    )


def _plan(config: Config, name: str | None, row: UsageRow, now: datetime) -> PlanUse | None:
    plan = None if name is None else config.plans.get(name)
    if plan is None or name is None:
        return None
    month = month_of(now, plan.timezone)
    bounds = month_bounds(month, plan.timezone)
    assert bounds is not None  # it is a month, by `month_of`
    included, money = plan.included, plan.included is not None and plan.included.unit == "cost"
    used = row.costs.get(plan.currency, 0) if money else row.prompt_tokens + row.completion_tokens
    return PlanUse(
        name=name,
        month=month,
        since=bounds[0],
        currency=plan.currency,
        unit=None if included is None else "cost" if money else "tokens",
        included=None if included is None else decimal_text(included.amount) if money else included.amount,
        used=None if included is None else decimal_text(used) if money else used,
        share=None if included is None else round(used / included.amount, 4) if included.amount else 1.0,
        overage=plan.overage,
    )
