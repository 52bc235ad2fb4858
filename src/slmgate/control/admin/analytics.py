"""The routes about volume, tokens, cost, errors and latencies: what `control/analytics.py` says, as data and as CSV.

Here are the parameters read, strictly, and amounts made decimals; what is asked is asked there. Handlers are plain functions, run
in a thread; who may call stands in the table. CSV is for one table of each answer, and safe for spreadsheets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from slmgate.control.admin.handlers import BadQuery
from slmgate.control.admin.views import decimal_text
from slmgate.control.analytics import (
    BYS,
    SORTS,
    Analytics,
    Compared,
    Count,
    Figures,
    Latency,
    NoSuchFigures,
    Percentiles,
    Row,
    Series,
)
from slmgate.control.keyring import utc_now
from slmgate.control.ranges import BadRange, Range, Step, between, of_length
from slmgate.control.sheets import csv_text
from slmgate.stores.tallies import KINDS

if TYPE_CHECKING:
    from litestar import Response
    from litestar.params import FromQuery

    from slmgate.control.admin.params import Context, Limit, PageNumber, Span, Zone

STEPS: tuple[Step, ...] = get_args(Step)
CSV = "text/csv"
DEFAULT = "24h"

_PARTS = ("p50", "p95", "p99")
_SUMS = ("requests", "refused", "errors", "prompt_tokens", "completion_tokens", "estimated_tokens")
COLUMNS = (
    *_SUMS,
    "cost",
    *(f"{kind}_{part}_us" for kind in KINDS for part in _PARTS),
    *(f"tokens_per_second_{p}" for p in _PARTS),
)
"""What a CSV says of each row, behind its name. `cost` has all currencies: `EUR 1.20; USD 0.05`."""


class RangeView(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` to `until`, exclusive; `answered` is later than `since` where what was before is not kept any more."""

    since: datetime
    until: datetime
    zone: str
    step: str
    answered: datetime


class FiguresView(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over requests; `cost` has an exact decimal for each currency. Percentiles are within 10 %; null: nothing is known."""

    requests: int
    refused: int
    errors: int
    error_share: float
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated_tokens: int
    cost: dict[str, str]
    latency: Latency | None


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """A client, a model, or an instance of `model`. `share` is its part of all requests; `spark` its requests over the range.

    `before` is the period of the same length before; null where it is not told.
    """

    name: str
    model: str
    share: float
    figures: FiguresView
    before: FiguresView | None
    spark: Sequence[int]


class ComparedView(msgspec.Struct, frozen=True, kw_only=True):
    """The range and the period of the same length before it; `kept` false: of that, not everything is kept any more."""

    range: RangeView
    now: FiguresView
    before: FiguresView
    kept: bool


class LineView(msgspec.Struct, frozen=True):
    """One line: figures for each step. The name is empty where the series is parted by nothing."""

    name: str
    points: Sequence[FiguresView]


class SeriesView(msgspec.Struct, frozen=True, kw_only=True):
    """Figures over time; `starts` are where the steps begin."""

    range: RangeView
    by: str | None
    starts: Sequence[datetime]
    lines: Sequence[LineView]


class OverviewView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance: the busiest models and clients, and how many clients there were."""

    compared: ComparedView
    series: SeriesView
    models: Sequence[RowView]
    clients: Sequence[RowView]
    clients_total: int
    refusals: Sequence[Count]
    failures: Sequence[Count]


class ClientsView(msgspec.Struct, frozen=True, kw_only=True):
    """One page of `total` clients."""

    range: RangeView
    rows: Sequence[RowView]
    total: int
    page: int
    pages: int


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """One client, and the models that it asked for."""

    name: str
    compared: ComparedView
    series: SeriesView
    models: Sequence[RowView]
    refusals: Sequence[Count]
    failures: Sequence[Count]


class ModelsView(msgspec.Struct, frozen=True, kw_only=True):
    range: RangeView
    rows: Sequence[RowView]


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One model, its instances, and the clients that ask it most."""

    name: str
    compared: ComparedView
    series: SeriesView
    instances: Sequence[RowView]
    clients: Sequence[RowView]
    refusals: Sequence[Count]
    failures: Sequence[Count]


def analytics_overview(
    context: Context,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    format: FromQuery[str] = "json",
) -> Response[OverviewView]:
    """All traffic of a range of time, with the period before. As CSV: the series."""
    asked, made = Analytics(context.store), _range(range, since, until, zone)
    found = asked.overview(made)
    body = OverviewView(
        compared=_compared(found.compared, made, found.since),
        series=_series(found.series, found.since),
        models=list(map(_row, found.models)),
        clients=list(map(_row, found.clients)),
        clients_total=found.clients_total,
        refusals=found.refusals,
        failures=found.failures,
    )
    return _answer(format, body, ("start", "name"), _points(found.series))


def analytics_clients(
    context: Context,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    sort: FromQuery[str] = "requests",
    page: PageNumber = 1,
    limit: Limit = 50,
    search: FromQuery[str] = "",
    format: FromQuery[str] = "json",
) -> Response[ClientsView]:
    """Clients from the most to the least of `sort` (requests, tokens, cost, errors, refused), or by name, a page at a time.

    `search` is a part of the name. A page behind the last one is the last one.
    """
    if sort not in SORTS:
        raise BadQuery(f"Clients cannot be sorted by {sort[:40]!r}; `sort` is one of {', '.join(SORTS)}.")
    asked, made = Analytics(context.store), _range(range, since, until, zone)
    found = asked.clients(made, sort, page, limit, search)
    body = ClientsView(
        range=_told(made, asked.since(made)),
        rows=list(map(_row, found.rows)),
        total=found.total,
        page=found.page,
        pages=found.pages,
    )
    return _answer(format, body, ("client",), ((row.name, row.figures) for row in found.rows))


def analytics_client(
    context: Context,
    client: FromQuery[str | None] = None,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    format: FromQuery[str] = "json",
) -> Response[ClientReport]:
    """One client by its name; one that asked nothing has figures of 0. As CSV: the models that it asked for."""
    if client is None:
        raise BadQuery("Say which `client`, by its name.")
    asked, made = Analytics(context.store), _range(range, since, until, zone)
    found = asked.client(client, made)
    body = ClientReport(
        name=client,
        compared=_compared(found.compared, made, found.since),
        series=_series(found.series, found.since),
        models=list(map(_row, found.models)),
        refusals=found.refusals,
        failures=found.failures,
    )
    return _answer(format, body, ("model",), ((row.name, row.figures) for row in found.models))


def analytics_models(
    context: Context,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    format: FromQuery[str] = "json",
) -> Response[ModelsView]:
    """All models that were asked for, the busiest first."""
    asked, made = Analytics(context.store), _range(range, since, until, zone)
    found = asked.models(made)
    body = ModelsView(range=_told(made, asked.since(made)), rows=list(map(_row, found)))
    return _answer(format, body, ("model",), ((row.name, row.figures) for row in found))


def analytics_model(
    context: Context,
    model: FromQuery[str | None] = None,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    format: FromQuery[str] = "json",
) -> Response[ModelReport]:
    """One model by its name; one that was not asked for has figures of 0. As CSV: its instances."""
    if model is None:
        raise BadQuery("Say which `model`, by its name.")
    asked, made = Analytics(context.store), _range(range, since, until, zone)
    found = asked.model(model, made)
    body = ModelReport(
        name=model,
        compared=_compared(found.compared, made, found.since),
        series=_series(found.series, found.since),
        instances=list(map(_row, found.instances)),
        clients=list(map(_row, found.clients)),
        refusals=found.refusals,
        failures=found.failures,
    )
    return _answer(format, body, ("instance",), ((row.name, row.figures) for row in found.instances))


def analytics_series(
    context: Context,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    step: FromQuery[str | None] = None,
    by: FromQuery[str | None] = None,
    client: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    instance: FromQuery[str | None] = None,
    format: FromQuery[str] = "json",
) -> Response[SeriesView]:
    """Figures over time, of all requests or of one client, model, or instance of a model.

    `step` is 1m, 5m, 30m, 3h, 1d, 1w or 1M; without it, what suits the range. `by` makes a line for each of the largest, and one
    for the others: client or model (of all requests), instance (of one model), reason (of those that were refused).
    """
    if by not in (None, *BYS):
        raise BadQuery(f"A series is not by {str(by)[:40]!r}; `by` is one of {', '.join(BYS)}.")
    asked, made = Analytics(context.store), _range(range, since, until, zone, step)
    try:
        found = asked.series(made, by, client, model, instance)
    except NoSuchFigures as error:
        raise BadQuery(str(error)) from None
    return _answer(format, _series(found, asked.since(made)), ("start", found.by or "name"), _points(found))


def analytics_compare(
    context: Context,
    range: Span = None,
    since: FromQuery[str | None] = None,
    until: FromQuery[str | None] = None,
    zone: Zone = "UTC",
    client: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    instance: FromQuery[str | None] = None,
    format: FromQuery[str] = "json",
) -> Response[ComparedView]:
    """The figures of a range of time and of the period of the same length before it."""
    asked, made = Analytics(context.store), _range(range, since, until, zone)
    try:
        found = asked.compare(made, client, model, instance)
    except NoSuchFigures as error:
        raise BadQuery(str(error)) from None
    rows = (("now", found.now), ("before", found.before))
    return _answer(format, _compared(found, made, asked.since(made)), ("period",), rows)


# What is asked


def _range(name: str | None, since: str | None, until: str | None, zone: str, step: str | None = None) -> Range:
    if name is not None and (since is not None or until is not None):
        raise BadQuery("Give `range`, or `since` and `until`, not both.")
    if since is None and until is not None:
        raise BadQuery("`until` needs `since`.")
    if step not in (None, *STEPS):
        raise BadQuery(f"There is no step {str(step)[:40]!r}; `step` is one of {', '.join(STEPS)}.")
    try:
        if since is not None:
            return between(since, until, utc_now(), zone, step)
        return of_length(name or DEFAULT, utc_now(), zone, step)
    except BadRange as error:
        raise BadQuery(str(error)) from None


# What is told


def _told(range: Range, answered: datetime) -> RangeView:
    return RangeView(since=range.since, until=range.until, zone=range.zone, step=range.step, answered=answered)


def _figures(found: Figures) -> FiguresView:
    return FiguresView(
        requests=found.requests,
        refused=found.refused,
        errors=found.errors,
        error_share=round(found.error_share, 6),
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        total_tokens=found.tokens,
        estimated_tokens=found.estimated_tokens,
        cost={currency: decimal_text(cost) for currency, cost in found.costs.items()},
        latency=found.latency,
    )


def _row(row: Row) -> RowView:
    return RowView(
        name=row.name,
        model=row.model,
        share=round(row.share, 6),
        figures=_figures(row.figures),
        before=None if row.before is None else _figures(row.before),
        spark=row.spark,
    )


def _compared(found: Compared, range: Range, answered: datetime) -> ComparedView:
    return ComparedView(range=_told(range, answered), now=_figures(found.now), before=_figures(found.before), kept=found.kept)


def _series(found: Series, answered: datetime) -> SeriesView:
    return SeriesView(
        range=_told(found.range, answered),
        by=found.by,
        starts=found.starts,
        lines=[LineView(line.name, list(map(_figures, line.points))) for line in found.lines],
    )


def _points(found: Series) -> Iterable[tuple[Any, ...]]:
    for line in found.lines:
        for start, figures in zip(found.starts, line.points, strict=True):
            yield start.isoformat(), line.name, figures


def _answer(format: str, body: Any, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> Response[Any]:
    from litestar import Response

    if format == "json":
        return Response(body)
    if format != "csv":
        raise BadQuery(f"There is no format {format[:40]!r}; `format` is json or csv.")
    text = csv_text((*names, *COLUMNS), ((*row[:-1], *_cells(row[-1])) for row in rows))
    return Response(text, media_type=CSV, headers={"content-disposition": 'attachment; filename="slmgate.csv"'})


def _cells(figures: Figures) -> list[object]:
    found: list[object] = [getattr(figures, name) for name in _SUMS]
    found.append("; ".join(f"{currency} {decimal_text(cost)}" for currency, cost in figures.costs.items()))
    for name in (*KINDS, "speed"):
        parts: Percentiles | None = None if figures.latency is None else getattr(figures.latency, name)
        found += ["" if parts is None else getattr(parts, part) for part in _PARTS]
    return found
