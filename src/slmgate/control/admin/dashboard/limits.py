"""The page of limits in use: who is near one, all limits of one principal, and everybody's, some keys at a time.

Who is near is asked of `admin/nearest.py`, the rest of the admin API's own handler; how full a limit is, only the workers know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from slmgate.control.admin import handlers, nearest, standing
from slmgate.control.admin.dashboard import charts, tables, words
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.tables import Cell, Column
from slmgate.control.standing import Stand

REFRESH = 10
KEYS = 200
"""Keys that are looked at for one part of everybody's."""
LEVELS = {"0": "all", "0.5": "half used", "0.8": "80 % used", "1": "used up"}
COLUMNS = (
    Column("whose", "Whose"),
    Column("share", "Used", "share"),
    Column("limit", "Limit"),
    Column("gauge", "", "html", sort=False, wide=True),
    Column("used", "So far", "count"),
    Column("left", "Left", "count"),
    Column("whole", "All there again", "time", wide=True),
    Column("name", "Where", "code", wide=True),
)
MORE = tuple(Column(name, name) for name in ("principal", "team", "role", "model", "unit", "currency", "amount"))
"""Of each limit, in CSV beside what the page shows."""


async def limits(ask: Ask) -> View:
    """Where limits stand."""
    key, near = ask.text("key"), _near(ask)
    every = ask.text("all") == "1"
    following: str | None = None
    principals, cut, problem = 0, False, ""
    found: Sequence[Stand] = ()
    if key or every:
        try:
            page = await standing.limits(
                ask.context, key=key or None, near=near, limit=KEYS, after=None if key else ask.query.get("after")
            )
            found, following = page.limits, page.next
        except (handlers.Unknown, handlers.BadQuery) as error:
            problem = str(error.args[0])
    else:
        all_of_them = await nearest.nearest(ask.context, ask.span.since, ask.span.until)
        found = [one for one in all_of_them.limits if one.share >= near]
        principals, cut = all_of_them.principals, all_of_them.cut
    columns = (*COLUMNS, *MORE) if tables.asked(ask, "") else COLUMNS
    table = tables.whole(ask, columns, [_row(ask, one) for one in found], "-share")
    return View(
        template="limits.html",
        values={
            "table": table,
            "key": key,
            "near": f"{near:g}",
            "levels": LEVELS,
            "every": every,
            "following": following,
            "principals": principals,
            "cut": cut,
            "problem": problem,
            "full": sum(one.share >= 1 for one in found),
            "close": sum(0.8 <= one.share < 1 for one in found),
            "counted": len(found),
        },
        tables=[table],
        refresh=REFRESH,
        ranged=not key and not every,
    )


def _near(ask: Ask) -> float:
    given = ask.text("near")
    return float(given) if given in LEVELS else 0.0


def _row(ask: Ask, one: Stand) -> Mapping[str, Any]:
    said = f"{words.share(one.share)} of {one.limit} used by {one.whose}"
    tone = "bad" if one.share >= 1 else "warn" if one.share >= 0.8 else ""
    raised = f" (raised to {one.raised})" if one.raised else ""
    return {
        "whose": Cell(one.whose, href=ask.at("limits", key=one.principal) if one.client is not None else ""),
        "limit": Cell(one.limit, html=Markup('<bdi class="nowrap">{}</bdi>').format(one.limit + raised)),
        "share": Cell(one.share, tone=tone),
        "gauge": Cell(one.share, html=charts.gauge(one.share, said)),
        "used": Cell(_number(one, one.used), text=_amount(one, one.used)),
        "left": Cell(_number(one, one.left), text=_amount(one, one.left)),
        "whole": one.whole,
        "name": one.name,
        **{column.key: getattr(one, column.key) for column in MORE},
    }


def _number(one: Stand, amount: int | float | str) -> Any:
    return float(amount) if one.unit == "cost" else amount


def _amount(one: Stand, amount: int | float | str) -> str:
    if one.unit == "cost":
        return words.money(amount, one.currency)
    return words.duration(float(amount)) if one.unit == "engine_time" else words.count(float(amount))
