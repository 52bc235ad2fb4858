"""What analytics tell, as tiles, cells and charts: the same words, units and colours on every page.

It asks nothing: pages bring the figures. Times are microseconds there and seconds here, money billionths there and decimals here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from slmgate.control.admin.dashboard import charts, words
from slmgate.control.admin.dashboard.asking import Ask
from slmgate.control.admin.dashboard.charts import Bar, Chart, Ranking, Series
from slmgate.control.admin.dashboard.tables import Cell, Column
from slmgate.control.analytics import OTHER, Compared, Count, Figures, Latency, Percentiles, Row
from slmgate.control.analytics import Series as Told

PERCENTILES = ("p50", "p95", "p99")
KINDS = {
    "queue": "Waiting in line",
    "connect": "Connecting",
    "instance": "Instance to first token",
    "stream": "Streaming the answer",
    "overhead": "The gate itself",
}
"""What a request's time goes into, in the order in which it passes."""
NOBODY = "(nobody)"
"""Who asked without a key that the gate knows. There is no page of them."""
CURRENCIES = 4
"""Columns of money of one table, at the most."""


class Tile(NamedTuple):
    """One figure with its name. `change` is against the period before, empty where that is not asked for."""

    label: str
    figure: str
    note: str = ""
    change: str = ""
    tone: str = ""
    href: str = ""
    spark: object = ""
    id: str = ""


def seconds(figures: Figures, kind: str, part: str = "p95") -> float | None:
    """A percentile of what something took."""
    found: Percentiles | None = getattr(figures.latency, kind) if figures.latency is not None else None
    return None if found is None else getattr(found, part) / 1_000_000


def speed(figures: Figures, part: str = "p50") -> float | None:
    """Tokens a second of a stream."""
    latency: Latency | None = figures.latency
    return None if latency is None or latency.speed is None else float(getattr(latency.speed, part))


def cost(figures: Figures, currency: str) -> Decimal:
    """Exactly."""
    return Decimal(figures.costs.get(currency, 0)).scaleb(-9)


def money(figures: Figures) -> str:
    """All of it, in words: 1.20 EUR + 3.00 USD."""
    said = [words.money(cost(figures, currency), currency) for currency in sorted(figures.costs)]
    return " + ".join(said) or words.NONE


def currencies(all: Iterable[Figures]) -> list[str]:
    """Those that occur, a few at the most."""
    return sorted({currency for figures in all for currency in figures.costs})[:CURRENCIES]


def tiles(compared: Compared, ask: Ask, sparks: Told | None = None) -> list[Tile]:
    """The figures of a time at a glance, with the change where it is asked for and known."""
    now, before = compared.now, compared.before
    points = list(sparks.lines[0].points) if sparks is not None else []

    def against(of: Callable[[Figures], float | None]) -> str:
        return words.change(of(now), of(before)) if ask.compare and compared.kept else ""

    def spark(of: Callable[[Figures], float], label: str) -> object:
        values = [of(point) for point in points]
        return charts.sparkline(values, label) if any(values) else ""

    def cost_tile(currency: str) -> Tile:
        change = against(lambda each: float(cost(each, currency)))
        line = spark(lambda each: float(cost(each, currency)), "Cost over the time")
        return Tile("Cost", words.money(cost(now, currency), currency), "", change, spark=line, id=f"tile-cost-{currency}")

    return [
        Tile(
            "Requests",
            words.short(now.requests),
            f"{words.count(now.requests)} in all" if now.requests >= 1000 else "",
            against(lambda each: each.requests),
            spark=spark(lambda each: each.requests, "Requests over the time"),
            id="tile-requests",
        ),
        Tile(
            "Tokens",
            words.short(now.tokens),
            f"{words.short(now.prompt_tokens)} in, {words.short(now.completion_tokens)} out",
            against(lambda each: each.tokens),
            spark=spark(lambda each: each.tokens, "Tokens over the time"),
            id="tile-tokens",
        ),
        *map(cost_tile, currencies([now, before])[:2]),
        Tile(
            "Errors",
            words.share(now.error_share) if now.admitted else words.NONE,
            f"{words.count(now.errors)} of {words.count(now.admitted)} admitted",
            against(lambda each: each.error_share),
            tone="bad" if now.error_share >= 0.05 else "warn" if now.error_share >= 0.01 else "",
            id="tile-errors",
        ),
        Tile(
            "Refused",
            words.share(now.refused_share) if now.requests else words.NONE,
            f"{words.count(now.refused)} of {words.count(now.requests)}",
            against(lambda each: each.refused_share),
            id="tile-refused",
        ),
        Tile(
            "First token, p95",
            words.duration(seconds(now, "first_byte")),
            f"p50 {words.duration(seconds(now, 'first_byte', 'p50'))}",
            against(lambda each: seconds(each, "first_byte")),
            id="tile-first",
        ),
        Tile(
            "Whole answer, p95",
            words.duration(seconds(now, "total")),
            f"p50 {words.duration(seconds(now, 'total', 'p50'))}",
            against(lambda each: seconds(each, "total")),
            id="tile-total",
        ),
    ]


def flight_tile(instances: Iterable[Mapping[str, Any]]) -> Tile:
    """What these instances carry now, given the fields of their `InstanceStatus`."""
    rows = list(instances)
    in_flight, waiting = (sum(row[name] for row in rows) for name in ("in_flight", "waiting"))
    return Tile("In flight", words.count(in_flight), f"{words.count(waiting)} waiting in line", id="tile-flight")


def requests_chart(ask: Ask, told: Told, before: Told | None = None, id: str = "requests") -> Chart:
    """What became of requests, on each other."""
    points = _points(told)
    parts = [
        Series("Answered", [point.admitted - point.errors for point in points]),
        Series("Failed", [point.errors for point in points], "bad"),
        Series("Refused", [point.refused for point in points], "warn"),
    ]
    return _chart(ask, told, id, f"Requests per {ask.span.step_said}", parts, "", before, lambda each: each.requests, "stacked")


def tokens_chart(ask: Ask, told: Told, before: Told | None = None, id: str = "tokens") -> Chart:
    """Tokens in and out, on each other."""
    points = _points(told)
    parts = [
        Series("Prompt", [point.prompt_tokens for point in points]),
        Series("Completion", [point.completion_tokens for point in points]),
    ]
    return _chart(ask, told, id, f"Tokens per {ask.span.step_said}", parts, "", before, lambda each: each.tokens, "stacked")


def cost_chart(ask: Ask, told: Told, currency: str, before: Told | None = None, id: str = "cost") -> Chart:
    """Money of one currency."""
    parts = [Series("Cost", [float(cost(point, currency)) for point in _points(told)])]
    title = f"Cost per {ask.span.step_said}"
    return _chart(ask, told, id, title, parts, f"money:{currency}", before, lambda each: float(cost(each, currency)), "stacked")


def latency_chart(ask: Ask, told: Told, kind: str, title: str, before: Told | None = None) -> Chart:
    """Percentiles of what something took; a gap where there was no request."""
    points = _points(told)
    parts = [Series(part, [seconds(point, kind, part) for point in points]) for part in PERCENTILES]
    return _chart(ask, told, kind, title, parts, "seconds", before, lambda each: seconds(each, kind), "lines", "p95 before")


def speed_chart(ask: Ask, told: Told, before: Told | None = None, id: str = "speed") -> Chart:
    """Tokens a second of streams: as fast as half of them, and as 95 of a hundred at least."""
    points = _points(told)
    parts = [
        Series("half are faster", [speed(point) for point in points]),
        Series("95 % are faster", [speed(point, "p95") for point in points]),
    ]
    return _chart(ask, told, id, "Tokens a second of an answer", parts, "tokens/s", before, speed, "lines", "half, before")


def lines_chart(ask: Ask, told: Told, title: str, id: str) -> Chart:
    """Requests, on each other, by what the series is parted by."""
    parts = [
        Series("none of them" if line.name == OTHER else line.name, [point.requests for point in line.points])
        for line in told.lines
    ]
    return _chart(ask, told, id, title, parts, "", None, lambda each: each.requests, "stacked")


def split(figures: Figures, id: str, title: str, part: str = "p95") -> Ranking:
    """Where the time goes: the percentile of each part of a request, in the order in which they pass."""
    bars = [Bar(label, seconds(figures, kind, part) or 0.0) for kind, label in KINDS.items()]
    return Ranking(id=id, title=title, bars=bars, unit="seconds", note=f"{part} of each part; they do not add up to that of all.")


def counted(counts: Sequence[Count], id: str, title: str, tone: str = "", most: int = 8) -> Ranking:
    """Reasons, the most first."""
    rest = sum(count.requests for count in counts[most:])
    return Ranking(
        id=id,
        title=title,
        bars=[Bar(count.name.replace("_", " "), count.requests, tone=tone) for count in counts[:most]],
        unit="",
        rest=f"And {words.count(rest)} for other reasons." if rest else "",
    )


def top(rows: Sequence[Row], ask: Ask, where: str, id: str, title: str, rest: str = "") -> Ranking:
    """The busiest, each with its page, which nobody has."""
    bars = [Bar(row.name or NOBODY, row.figures.requests, ask.at(where, row.name) if row.name else "") for row in rows]
    return Ranking(id=id, title=title, bars=bars, unit="requests", rest=rest)


def columns(title: str, all: Sequence[Figures], extra: Sequence[Column] = (), latency: bool = True) -> list[Column]:
    """Of a table of rows of figures: a name, what `extra` are, sums, and a spark."""
    return [
        Column("name", title),
        *extra,
        Column("requests", "Requests", "count"),
        Column("spark", "Trend", "html", sort=False, wide=True),
        Column("tokens", "Tokens", "tokens"),
        *(Column(f"cost_{currency}", f"Cost, {currency}", "money", unit=currency) for currency in currencies(all)),
        Column("errors", "Errors", "share", help="of those that were admitted"),
        Column("refused", "Refused", "share", wide=True),
        *(
            (
                Column("first", "First token, p95", "seconds", wide=True),
                Column("total", "All, p95", "seconds", wide=True),
            )
            if latency
            else ()
        ),
    ]


def cells(row: Row, href: str) -> dict[str, object]:
    """The cells of a row for `columns`. `href` is its page, which nobody has."""
    now, name = row.figures, row.name or NOBODY
    made: dict[str, object] = {
        "name": Cell(row.name, href if row.name else "", text=name),
        "requests": now.requests,
        "tokens": now.tokens,
        "errors": Cell(now.error_share, tone="bad" if now.error_share >= 0.05 else "") if now.admitted else None,
        "refused": now.refused_share,
        "first": seconds(now, "first_byte"),
        "total": seconds(now, "total"),
        "spark": Cell(None, html=charts.sparkline(row.spark, f"Requests of {name} over the time")),
    }
    return made | {f"cost_{currency}": cost(now, currency) for currency in now.costs}


def _points(told: Told) -> Sequence[Figures]:
    return told.lines[0].points


def _chart(
    ask: Ask,
    told: Told,
    id: str,
    title: str,
    parts: Sequence[Series],
    unit: str,
    before: Told | None,
    of: Callable[[Figures], float | None],
    kind: str,
    named: str = "Before",
) -> Chart:
    made = list(parts)
    if before is not None:
        past: list[float | None] = [of(point) for point in _points(before)][: len(told.starts)]
        past += [None] * (len(told.starts) - len(past))
        made.append(Series(named, past, before=True))
    return Chart(id=id, title=title, times=told.starts, step=ask.span.step, series=made, unit=unit, zone=ask.zone, kind=kind)
