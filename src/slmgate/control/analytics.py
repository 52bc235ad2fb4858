"""What people ask of the ledger: volume, tokens, cost, errors and latencies, of clients, models and instances, over time.

The dashboard and the admin API show what these functions return and nothing else. Every answer is of a `Range` (see `ranges.py`),
bounded however much is in the ledger, and comes from the rollups; the store's own words (facets, levels) end here. Times that
things took are microseconds, amounts of money billionths of their currency. Functions block: they are called from a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, get_args

import msgspec

from slmgate.control.ranges import Range
from slmgate.stores.base import ReceiptFilter, Store, UsageRow

Sort = Literal["requests", "tokens", "cost", "errors", "refused", "name"]
"""What clients are listed by: from the most to the least, names from A to Z."""
SORTS: tuple[Sort, ...] = get_args(Sort)

By = Literal["model", "instance", "client", "reason"]
"""What a series can be parted by."""
BYS: tuple[By, ...] = get_args(By)

PAGE = 50
MOST_ROWS = 1000
"""Rows of one page, at the most; models, instances and reasons are listed up to this many too."""
LINES = 8
"""Lines of a series by something: the largest ones, and `OTHER` for the rest."""
TOP = 10
"""Rows of the short lists of an overview."""
SPARKS = 24
"""Points of a sparkline, at the most."""
OTHER = "(other)"


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Half, 95 and 99 of a hundred took at most this long (microseconds), within 10 %. `count`: of so many requests."""

    count: int
    p50: int
    p95: int
    p99: int


class Speeds(msgspec.Struct, frozen=True, kw_only=True):
    """Half, 95 and 99 of a hundred answers came with at least so many tokens a second, within 10 %."""

    count: int
    p50: float
    p95: float
    p99: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of requests that an instance answered went; None where there was no such request.

    `queue`: waiting for an instance. `connect`: opening a connection (0 on a kept one). `first_byte`: from the request's
    first byte to the answer's. `stream`: from there to the last byte. `overhead`: the gate's own share. `total`: all of it.
    `per_token`: of one completion token after the first byte, and `speed` the other way round.
    """

    queue: Percentiles | None = None
    connect: Percentiles | None = None
    first_byte: Percentiles | None = None
    stream: Percentiles | None = None
    overhead: Percentiles | None = None
    total: Percentiles | None = None
    per_token: Percentiles | None = None
    speed: Speeds | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over requests. `refused` were answered by the gate, `errors` were admitted and failed, whoever's fault it was.

    Tokens are of admitted requests; `estimated_tokens` is the part of them that the gate counted. `costs` has billionths by
    currency, without those that are 0. `latency` is None where it was not asked for, or nothing is known.
    """

    requests: int = 0
    refused: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: int = 0
    costs: dict[str, int] = {}
    latency: Latency | None = None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def admitted(self) -> int:
        return self.requests - self.refused

    @property
    def error_share(self) -> float:
        """Of the admitted requests, 0 to 1."""
        return self.errors / self.admitted if self.admitted else 0.0

    @property
    def refused_share(self) -> float:
        """Of all requests, 0 to 1."""
        return self.refused / self.requests if self.requests else 0.0


class Count(msgspec.Struct, frozen=True):
    """So many requests have this in common: a reason, or how they ended."""

    name: str
    requests: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a list: a client, a model, or an instance (`name`) of `model`. `share` is its part of all requests, 0 to 1.

    `spark` is its requests over the range, in parts of equal length, oldest first. `before` is the period before; None where
    that was not asked for.
    """

    name: str
    figures: Figures
    share: float
    spark: Sequence[int] = ()
    before: Figures | None = None
    model: str = ""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows out of `total`; `page` counts from 1, and the last is `pages`, which is 1 where there is nothing."""

    rows: Sequence[Row]
    total: int
    page: int
    size: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))


class Line(msgspec.Struct, frozen=True):
    """One line of a series: figures for each of its steps. `name` is empty where it is not parted by anything."""

    name: str
    points: Sequence[Figures]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Figures over time. `starts` are the beginnings of the steps; the last one ends with the range, or later than now."""

    range: Range
    by: By | None
    starts: Sequence[datetime]
    lines: Sequence[Line]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A range and the one of the same length before it. `kept` False: of that one, not everything is kept any more."""

    now: Figures
    before: Figures
    kept: bool = True


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance. `since` is later than the range's where retention has deleted what was before.

    `models` and `clients` are the busiest few; `clients_total` is how many there were. `refusals` are by reason, `failures`
    by how the requests ended that were admitted and did not go well.
    """

    range: Range
    since: datetime
    compared: Compared
    series: Series
    models: Sequence[Row]
    clients: Sequence[Row]
    clients_total: int
    refusals: Sequence[Count]
    failures: Sequence[Count]


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    """One client. `models` are those that it asked for, the busiest first."""

    range: Range
    since: datetime
    name: str
    compared: Compared
    series: Series
    models: Sequence[Row]
    refusals: Sequence[Count]
    failures: Sequence[Count]


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One model, with its instances, and the clients that use it most."""

    range: Range
    since: datetime
    name: str
    compared: Compared
    series: Series
    instances: Sequence[Row]
    clients: Sequence[Row]
    refusals: Sequence[Count]
    failures: Sequence[Count]


class Analytics:
    """The questions. Holds the store and nothing else that it could not find again."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def overview(self, range: Range) -> Overview:
        """All traffic."""
        clients = self.clients(range, size=TOP)
        return Overview(
            range=range,
            since=self._since(range),
            compared=self.compare(range),
            series=self.series(range),
            models=self.models(range)[:TOP],
            clients=clients.rows,
            clients_total=clients.total,
            refusals=self.refusals(range),
            failures=self.failures(range),
        )

    def clients(self, range: Range, sort: Sort = "requests", page: int = 1, size: int = PAGE, search: str = "") -> Page:
        """A page of the clients that asked anything, by name or from the most to the least.

        `search` is a part of the name, in whatever case. A page behind the last one is the last one.
        """
        size = max(1, min(size, MOST_ROWS))
        rows = self._usage("client", range)
        everything = sum(row.requests for row in rows)
        if search:
            rows = [row for row in rows if search.lower() in row.group[0].lower()]
        rows.sort(key=_order(sort))
        page = max(1, min(page, -(-len(rows) // size)))
        shown = rows[(page - 1) * size : page * size]
        sparks = self.sparklines(range, [row.group[0] for row in shown])
        listed = [self._row(row, everything, sparks.get(row.group[0], ())) for row in shown]
        return Page(rows=listed, total=len(rows), page=page, size=size)

    def client(self, name: str, range: Range) -> ClientView:
        """One client by its name; one that asked nothing has figures of 0."""
        which = ReceiptFilter(client=name)
        return ClientView(
            range=range,
            since=self._since(range),
            name=name,
            compared=self.compare(range, client=name),
            series=self.series(range, client=name),
            models=self._rows("model", range, which),
            refusals=self.refusals(range, client=name),
            failures=self.failures(range, client=name),
        )

    def models(self, range: Range) -> Sequence[Row]:
        """All models that were asked for, the busiest first; at most `MOST_ROWS`."""
        return self._rows("model", range, ReceiptFilter())

    def model(self, name: str, range: Range) -> ModelView:
        """One model by its name; one that was not asked for has figures of 0."""
        which = ReceiptFilter(model=name)
        return ModelView(
            range=range,
            since=self._since(range),
            name=name,
            compared=self.compare(range, model=name),
            series=self.series(range, model=name),
            instances=self._rows("instance", range, which),
            clients=self._rows("client", range, which)[:TOP],
            refusals=self.refusals(range, model=name),
            failures=self.failures(range, model=name),
        )

    def series(
        self,
        range: Range,
        by: By | None = None,
        client: str | None = None,
        model: str | None = None,
        instance: str | None = None,
    ) -> Series:
        """Figures for each step of the range, of everything or of one client, model, instance.

        With `by`, a line for each of the largest, and one for all others.
        """
        starts = range.steps()
        ends = [*starts[1:], range.until]
        which = ReceiptFilter(client=client, model=model, instance=instance)
        points = [self._usage(by, range, which, start, end) for start, end in zip(starts, ends, strict=True)]
        if by is None:
            return Series(range=range, by=by, starts=starts, lines=[Line("", [_figures(rows) for rows in points])])
        sizes: dict[str, int] = {}
        for rows in points:
            for row in rows:
                sizes[row.group[0]] = sizes.get(row.group[0], 0) + row.requests
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:LINES]
        lines = [Line(name, [_figures(row for row in rows if row.group[0] == name) for rows in points]) for name in largest]
        if len(sizes) > LINES:
            rest = [_figures(row for row in rows if row.group[0] not in largest) for rows in points]
            lines.append(Line(OTHER, rest))
        return Series(range=range, by=by, starts=starts, lines=lines)

    def compare(self, range: Range, client: str | None = None, model: str | None = None, instance: str | None = None) -> Compared:
        """The figures of a range and of the period before it, with percentiles."""
        which = ReceiptFilter(client=client, model=model, instance=instance)
        before = range.before()
        return Compared(
            now=_figures(self._usage(None, range, which)),
            before=_figures(self._usage(None, before, which)),
            kept=self._since(before) <= before.since,
        )

    def refusals(self, range: Range, client: str | None = None, model: str | None = None) -> Sequence[Count]:
        """Refused requests by reason, the most first."""
        rows = self._usage("reason", range, ReceiptFilter(client=client, model=model, verdict="refuse"))
        return _counts((row.group[0], row.refused) for row in rows)

    def failures(self, range: Range, client: str | None = None, model: str | None = None) -> Sequence[Count]:
        """Admitted requests that failed, by how they ended, the most first."""
        rows = self._usage("ended", range, ReceiptFilter(client=client, model=model, verdict="admit"))
        return _counts((row.group[0], row.errors) for row in rows)

    def sparklines(self, range: Range, clients: Sequence[str]) -> dict[str, Sequence[int]]:
        """Requests of each of these clients, in parts of the range of equal length; those without any are left out."""
        found: dict[str, list[int]] = {}
        edges = spark_edges(range)
        for place, (start, end) in enumerate(pairwise(edges)):
            for row in self._usage("client", range, None, start, end):
                if row.group[0] in clients:
                    found.setdefault(row.group[0], [0] * (len(edges) - 1))[place] += row.requests
        return dict(found)

    # Of the store

    def _usage(
        self,
        by: str | None,
        range: Range,
        which: ReceiptFilter | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[UsageRow]:
        times = {"since": since or range.since, "until": until or range.until}
        return self._store.usage([] if by is None else [by], msgspec.structs.replace(which or ReceiptFilter(), **times))

    def _rows(self, by: str, range: Range, which: ReceiptFilter) -> list[Row]:
        rows = self._usage(by, range, which)
        everything = sum(row.requests for row in rows)
        rows.sort(key=_order("requests"))
        return [self._row(row, everything, ()) for row in rows[:MOST_ROWS]]

    def _row(self, row: UsageRow, everything: int, spark: Sequence[int]) -> Row:
        return Row(
            name=row.group[0],
            figures=_figures([row]),
            share=row.requests / everything if everything else 0.0,
            spark=spark,
        )

    def _since(self, range: Range) -> datetime:
        since, _ = self._store.answered([], ReceiptFilter(since=range.since, until=range.until))
        return range.since if since is None else max(since, range.since)


def spark_edges(range: Range) -> list[datetime]:
    """The beginnings of a sparkline's parts, and the end of the last: whole minutes, and as even as these allow."""
    minutes = range.length // timedelta(minutes=1)
    parts = min(SPARKS, minutes)
    return [range.since + timedelta(minutes=minutes * part // parts) for part in _upto(parts)]


def _upto(last: int) -> Iterable[int]:
    return (number for number, _ in enumerate([None] * (last + 1)))


def _order(sort: Sort) -> Callable[[UsageRow], tuple[int, str]]:
    sizes: dict[str, Callable[[UsageRow], int]] = {
        "requests": lambda row: row.requests,
        "tokens": lambda row: row.prompt_tokens + row.completion_tokens,
        "cost": lambda row: sum(row.costs.values()),
        "errors": lambda row: row.errors,
        "refused": lambda row: row.refused,
        "name": lambda row: 0,
    }
    size = sizes[sort]
    return lambda row: (-size(row), row.group[0])


def _counts(found: Iterable[tuple[str, int]]) -> list[Count]:
    return [Count(name, count) for name, count in sorted(found, key=lambda each: (-each[1], each[0])) if count][:MOST_ROWS]


def _figures(rows: Iterable[UsageRow]) -> Figures:
    sums = [0] * 6
    costs: dict[str, int] = {}
    for row in rows:
        figures = (row.requests, row.refused, row.errors, row.prompt_tokens, row.completion_tokens, row.estimated_tokens)
        sums = [a + b for a, b in zip(sums, figures, strict=True)]
        for currency, cost in row.costs.items():
            costs[currency] = costs.get(currency, 0) + cost
    requests, refused, errors, prompt, completion, estimated = sums
    return Figures(
        requests=requests,
        refused=refused,
        errors=errors,
        prompt_tokens=prompt,
        completion_tokens=completion,
        estimated_tokens=estimated,
        costs=costs,
    )
