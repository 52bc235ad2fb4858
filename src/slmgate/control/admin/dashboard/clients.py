"""The pages of clients: all of them, a part at a time, and one. They read through analytics alone."""

from __future__ import annotations

from typing import cast

from slmgate.control.admin.dashboard import figures
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.tables import Cell, Column, Table, asked, part, place, wanted, whole
from slmgate.control.analytics import MOST_ROWS, PAGE, Analytics, Page, Row, Sort

MOST_CSV = 10_000
"""Clients of one CSV: the first of the order that is asked for."""
_SORTS: dict[str, Sort] = {"name": "name", "requests": "requests", "tokens": "tokens", "errors": "errors", "refused": "refused"}
"""A column's key -> what analytics list by."""


def clients(ask: Ask) -> View:
    """Who asks, from the most to the least."""
    span, search = ask.span.range, ask.text("q", 100)
    told = Analytics(ask.context.store)
    order = wanted(ask, _ORDERED, "-requests")
    sort = _SORTS.get(order.removeprefix("-"), "cost")
    if asked(ask, ""):
        rows, total = _all(told, ask, sort, search)
        page = Page(rows=rows, total=total, page=1, size=max(1, len(rows)))
    else:
        page = told.clients(span, sort, place(ask), PAGE, search)
    favourites = told.favourites(span, [row.name for row in page.rows[:PAGE]])
    columns = [
        _sorted_by(column)
        for column in figures.columns(
            "Client", [row.figures for row in page.rows], (Column("model", "Top model", sort=False, wide=True),)
        )
    ]
    shown = [
        figures.cells(row, ask.at("clients", row.name))
        | {"model": Cell(model, ask.at("models", model)) if (model := favourites.get(row.name)) else None}
        for row in page.rows
    ]
    table = part(ask, columns, shown, order, page=page.page, size=page.size, total=page.total)
    return View(template="clients.html", values={"table": table, "search": search}, tables=[table], refresh=30)


def client(ask: Ask) -> View:
    """One client, by its name."""
    name = ask.names["name"]
    told = Analytics(ask.context.store)
    seen = told.client(name, ask.span.range)
    before = told.series(ask.span.range.before(), client=name) if ask.compare else None
    models = _models(ask, seen.models)
    return View(
        template="client.html",
        title=name,
        values={
            "name": name,
            "tiles": figures.tiles(seen.compared, ask, seen.series),
            "charts": [
                figures.requests_chart(ask, seen.series, before),
                figures.tokens_chart(ask, seen.series, before),
                figures.latency_chart(ask, seen.series, "first_byte", "Time to the first token", before),
                figures.latency_chart(ask, seen.series, "total", "Time of the whole answer", before),
                *(
                    figures.cost_chart(ask, seen.series, currency, before, f"cost-{currency}")
                    for currency in figures.currencies([seen.compared.now])
                ),
            ],
            "rankings": [
                figures.split(seen.compared.now, "split", "Where its time goes"),
                figures.counted(seen.refusals, "refusals", "Refused, by reason", "warn"),
                figures.counted(seen.failures, "failures", "Failed, by how it ended", "bad"),
            ],
            "models": models,
            "nothing": not seen.compared.now.requests,
            "later": seen.since if seen.since > ask.span.since else None,
        },
        tables=[models],
        refresh=30,
    )


_ORDERED = [Column(key, "") for key in (*_SORTS, "cost")]


def _sorted_by(column: Column) -> Column:
    """What analytics do not list by has no link."""
    return column._replace(sort=column.key in _SORTS)


def _all(told: Analytics, ask: Ask, sort: Sort, search: str) -> tuple[list[Row], int]:
    """Every client, up to `MOST_CSV`, in steps as large as analytics give."""
    rows: list[Row] = []
    number, total = 1, 0
    while len(rows) < MOST_CSV:
        page = told.clients(ask.span.range, sort, number, MOST_ROWS, search)
        rows += page.rows
        total = page.total
        if number >= page.pages:
            break
        number += 1
    return rows[:MOST_CSV], total


def _models(ask: Ask, rows: object) -> Table:
    listed = cast("list[Row]", rows)
    columns = figures.columns("Model", [row.figures for row in listed], latency=False)
    columns = [column for column in columns if column.key != "spark"]
    return whole(ask, columns, [figures.cells(row, ask.at("models", row.name)) for row in listed], "-requests", "models")
