"""The page of statements: a team's month, recomputed from the receipts, to look at, to print, and as CSV and JSON.

By the admin API's function. What is on a statement is made in `control/statements.py`.
"""

from __future__ import annotations

from typing import Any

from slmgate.control import statements as made
from slmgate.control.admin import billing
from slmgate.control.admin.dashboard import tables
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.dashboard.tables import Column
from slmgate.control.admin.handlers import BadQuery
from slmgate.control.operators import Permission
from slmgate.control.statements import Statement
from slmgate.policy.billing import month_of

MONTHS = 24
"""Months back that are offered."""


def statement_page(ask: Ask) -> View:
    """The choice, and the statement where one was chosen."""
    config = ask.context.config
    billed = sorted(name for name, team in config.teams.items() if team.plan is not None) if config else []
    team, month = ask.text("team"), ask.text("month") or month_of(ask.now, "UTC")
    statement: Statement | None = None
    wrong = ""
    if team:
        try:
            statement = billing.statement(ask.context, team, month)
        except BadQuery as no:
            wrong = str(no)
    rows: list[dict[str, Any]] = []
    if statement is not None:
        head, *rest = made.table(statement)
        rows = [dict(zip(map(str, head), row, strict=True)) for row in rest]
    csv = tables.whole(ask, [Column(name, name) for name in (rows[0] if rows else ())], rows, "", "statement")
    values = {
        "teams": billed,
        "team": team,
        "month": month,
        "months": _months(ask),
        "statement": statement,
        "wrong": wrong,
        "csv": csv,
        "query": {"team": team, "month": month},
    }
    return View(template="statements.html", values=values, tables=[csv], status=400 if wrong else 200, ranged=False)


def _months(ask: Ask) -> list[str]:
    year, month = ask.now.year, ask.now.month
    found: list[Any] = []
    for _ in range(MONTHS):
        found.append(f"{year:04}-{month:02}")
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return found


PAGES: tuple[Page, ...] = (
    Page(path="/statements", permission=Permission.VIEWER, handler=statement_page, title="Statements", place=("Records", 20)),
)
