"""The page of teams: their keys, roles and plans, and how far what a plan includes is used this month.

By the admin API's function; nothing is changed here, as teams stand in the configuration.
"""

from __future__ import annotations

from typing import Any

from slmgate.control.admin import teams as api
from slmgate.control.admin.dashboard import tables, words
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.dashboard.tables import Cell, Column
from slmgate.control.operators import Permission

_COLUMNS = (
    Column("name", "Team"),
    Column("keys", "Keys", "count"),
    Column("roles", "Roles", wide=True),
    Column("plan", "Plan"),
    Column("share", "Plan used", "share", help="Of what the plan includes in this month"),
    Column("left", "Used of what is included", sort=False, wide=True),
    Column("requests", "Requests", "count", wide=True, help="This month"),
    Column("tokens", "Tokens", "tokens", help="This month"),
    Column("cost", "Cost", wide=True, help="This month, before anything that is included"),
)
_MORE = (Column("limits", "Limits"),)


def team_list(ask: Ask) -> View:
    """All teams, or those whose name has what is searched for."""
    search = ask.text("search")
    found = [team for team in api.teams(ask.context) if search.casefold() in team.name.casefold()]
    columns = (*_COLUMNS, *_MORE) if tables.asked(ask, "") else _COLUMNS
    table = tables.whole(ask, columns, [_row(ask, team) for team in found], "name")
    values = {"table": table, "search": search, "strangers": sum(not team.declared for team in found)}
    return View(template="teams.html", values=values, tables=[table], ranged=False)


def _row(ask: Ask, team: api.TeamView) -> dict[str, Any]:
    plan = team.plan
    share = None if plan is None else plan.share
    return {
        "name": Cell(team.name, text=team.name if team.declared else f"{team.name} (not in the configuration)"),
        "keys": Cell(team.keys, href=ask.at("keys", team=team.name)),
        "roles": team.roles,
        "plan": None if plan is None else Cell(plan.name, href=ask.at("statements", team=team.name, month=plan.month)),
        "share": Cell(share, tone="" if share is None else "bad" if share >= 1 else "warn" if share >= 0.8 else ""),
        "left": None if plan is None or plan.unit is None else _used(plan),
        "requests": team.requests,
        "tokens": team.tokens,
        "cost": ", ".join(words.money(amount, currency) for currency, amount in team.cost.items()),
        "limits": "; ".join(team.limits),
    }


def _used(plan: api.PlanUse) -> str:
    if plan.unit == "cost":
        return f"{words.money(plan.used, '')} of {words.money(plan.included, plan.currency)}"
    return f"{words.short(float(plan.used or 0))} of {words.short(float(plan.included or 0))} tokens"


PAGES: tuple[Page, ...] = (
    Page(path="/teams", permission=Permission.VIEWER, handler=team_list, title="Teams", place=("Access", 20)),
)
