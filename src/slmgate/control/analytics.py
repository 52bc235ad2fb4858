"""What people ask of the ledger: volume, tokens, cost, errors and latencies, of clients, models and instances, over time.

The dashboard and the admin API show what these functions return and nothing else. Every answer is of a `Range` (see `ranges.py`),
bounded however much is in the ledger, and comes from the rollups; the store's own words (facets, levels) end here. Times that
things took are microseconds, amounts of money billionths of their currency. Functions block: they are called from a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain, repeat
from typing import Literal, get_args

import msgspec

from slmgate.control.ranges import Range
from slmgate.stores.base import Store
from slmgate.stores.subjects import ALL, Name
from slmgate.stores.tallies import SUMS, Tally, percentiles, plus

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
SPARKS = 32
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
    """Where the time of admitted requests went; None where there was no such request.

    `queue`: standing in line for an instance. `connect`: opening a connection (0: a kept one). `overhead`: the gate's own share.
    `instance`: from the instance being asked to its first byte. `first_byte`: all that went by until then, as clients see it.
    `stream`: from there to the last byte. `total`: all of it. `per_token`: of one token of a stream, but the first; `speed` is
    the other way round.
    """

    queue: Percentiles | None = None
    connect: Percentiles | None = None
    first_byte: Percentiles | None = None
    instance: Percentiles | None = None
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

    `spark` is its requests over the range, oldest first (of the first `PAGE` rows). `before` is the period before; None where
    it is not told.
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


class Whole(msgspec.Struct, frozen=True):
    """What one subject's tallies say of a range: of the period before it, of the range, and of each of its steps."""

    before: Tally
    now: Tally
    points: Sequence[Tally] = ()


class NoSuchFigures(ValueError):
    """The question joins what is not counted together; the message says which may be asked."""


class Analytics:
    """The questions. Holds the store and nothing else that it could not find again."""

    def __init__(self, store: Store) -> None:
        self._tallies = store.tallies

    def overview(self, range: Range) -> Overview:
        """All traffic."""
        clients = self.clients(range, size=TOP)
        whole = self._whole(ALL, range)
        return Overview(
            range=range,
            since=self.since(range),
            compared=self._compared(whole, range),
            series=_series(range, whole.points),
            models=self._rows(self._tallies.subjects("model"), range, TOP),
            clients=clients.rows,
            clients_total=clients.total,
            refusals=_counts(whole.now, "-"),
            failures=_counts(whole.now, "!"),
        )

    def clients(self, range: Range, sort: Sort = "requests", page: int = 1, size: int = PAGE, search: str = "") -> Page:
        """A page of the clients that asked anything, by name or from the most to the least.

        `search` is a part of the name, in whatever case. A page behind the last one is the last one.
        """
        size = max(1, min(size, MOST_ROWS))
        page = max(1, min(page, 2**31))
        figure = None if sort == "name" else sort
        names, total = self._tallies.clients(figure, range.since, range.until, (page - 1) * size, size, search)
        rows = self._rows([("client", name, "") for name in names], range)
        return Page(rows=rows, total=total, page=min(page, max(1, -(-total // size))), size=size)

    def client(self, name: str, range: Range) -> ClientView:
        """One client by its name; one that asked nothing has figures of 0."""
        whole = self._whole(("client", name, ""), range)
        asked = self._tallies.models_of([name], range.since, range.until).get(name, {})
        everything = sum(each[0] for each in asked.values())
        models = [Row(name=model, figures=figures(each), share=each[0] / everything) for model, each in asked.items() if each]
        return ClientView(
            range=range,
            since=self.since(range),
            name=name,
            compared=self._compared(whole, range),
            series=_series(range, whole.points),
            models=sorted(models, key=_busiest)[:MOST_ROWS],
            refusals=_counts(whole.now, "-"),
            failures=_counts(whole.now, "!"),
        )

    def models(self, range: Range) -> Sequence[Row]:
        """All models that were asked for, the busiest first; at most `MOST_ROWS`."""
        return self._rows(self._tallies.subjects("model"), range, MOST_ROWS)

    def model(self, name: str, range: Range) -> ModelView:
        """One model by its name; one that was not asked for has figures of 0."""
        whole = self._whole(("model", name, ""), range)
        clients, _ = self._tallies.clients("requests", range.since, range.until, 0, TOP, model=name)
        return ModelView(
            range=range,
            since=self.since(range),
            name=name,
            compared=self._compared(whole, range),
            series=_series(range, whole.points),
            instances=self._rows(self._tallies.subjects("instance", name), range, MOST_ROWS),
            clients=self._clients_of(name, clients, range, whole.now.get(0, 0)),
            refusals=_counts(whole.now, "-"),
            failures=_counts(whole.now, "!"),
        )

    def series(
        self,
        range: Range,
        by: By | None = None,
        client: str | None = None,
        model: str | None = None,
        instance: str | None = None,
    ) -> Series:
        """Figures for each step of the range, of everything or of one client, model, or instance of a model.

        With `by`, a line for each of the largest, and one for what is left: by model or client of everything, by instance of one
        model, by reason (refused requests) of anything. Raises NoSuchFigures.
        """
        whose = _subject(client, model, instance)
        starts = range.steps()
        cuts = [*starts, range.until]
        (whole,) = self._tallies.read([whose], cuts)
        if by is None:
            return _series(range, whole)
        if by == "reason":
            return Series(range=range, by=by, starts=starts, lines=_by_reason(whole))
        if whose != ALL if by != "instance" else whose[0] != "model":
            raise NoSuchFigures("A series is by model or client of all requests, by instance of one model, or by reason.")
        names = self._largest(by, model, range)
        found = self._tallies.read(names, cuts) if names else []
        lines = [
            Line(name[2] if by == "instance" else name[1], list(map(figures, points)))
            for name, points in zip(names, found, strict=True)
        ]
        rest = [_minus(figures(all), [line.points[place] for line in lines]) for place, all in enumerate(whole)]
        if any(point.requests for point in rest):
            lines.append(Line(OTHER, rest))
        return Series(range=range, by=by, starts=starts, lines=lines)

    def compare(self, range: Range, client: str | None = None, model: str | None = None, instance: str | None = None) -> Compared:
        """The figures of a range and of the period before it, with percentiles. Raises NoSuchFigures."""
        cuts = [range.before().since, range.since, range.until]
        ((then, now),) = self._tallies.read([_subject(client, model, instance)], cuts)
        return self._compared(Whole(then, now), range)

    def favourites(self, range: Range, clients: Sequence[str]) -> dict[str, str]:
        """The model that each of these clients asked for most; those without any are left out."""
        found = self._tallies.models_of(clients, range.since, range.until)
        return {name: min(asked, key=lambda model: (-asked[model].get(0, 0), model)) for name, asked in found.items() if asked}

    # Of the store

    def _whole(self, whose: Name, range: Range) -> Whole:
        """All that is told of one subject, read once."""
        ((before, *points),) = self._tallies.read([whose], [range.before().since, *range.steps(), range.until])
        now: Tally = {}
        for point in points:
            plus(now, point)
        return Whole(before, now, points)

    def _compared(self, whole: Whole, range: Range) -> Compared:
        before = range.before()
        return Compared(now=figures(whole.now), before=figures(whole.before), kept=self.since(before) <= before.since)

    def _rows(self, names: Sequence[Name], range: Range, most: int | None = None) -> list[Row]:
        """Rows of those that asked anything: the busiest first, so many at the most; None: all, in the order given."""
        if not names:
            return []
        if most is not None:
            names = self._by_requests(names, range)[:most]
        ((whole,),) = self._tallies.counts([ALL], [range.since, range.until])
        found = self._tallies.read(names, [range.before().since, range.since, range.until])
        there = [(name, then, now) for name, (then, now) in zip(names, found, strict=True) if now]
        sparks = self._tallies.counts([name for name, _, _ in there[:PAGE]], spark_edges(range))
        drawn = chain(sparks, repeat(()))
        return [
            Row(
                name=name[2] or name[1],
                figures=figures(now),
                share=now[0] / whole if whole else 0.0,
                spark=spark,
                before=figures(then),
                model=name[1] if name[0] == "instance" else "",
            )
            for (name, then, now), spark in zip(there, drawn, strict=False)
        ]

    def _by_requests(self, names: Sequence[Name], range: Range) -> list[Name]:
        """Those that asked anything, from the most requests to the least."""
        found = self._tallies.counts(names, [range.since, range.until])
        counts = {name: count for name, (count,) in zip(names, found, strict=True) if count}
        return sorted(counts, key=lambda name: (-counts[name], name))

    def _clients_of(self, model: str, clients: Sequence[str], range: Range, whole: int) -> list[Row]:
        """What these clients asked of one model."""
        rows = []
        for name, asked in self._tallies.models_of(clients, range.since, range.until).items():
            tally = asked.get(model)
            if tally:
                rows.append(Row(name=name, figures=figures(tally), share=tally[0] / whole if whole else 0.0))
        return sorted(rows, key=_busiest)

    def _largest(self, by: By, model: str | None, range: Range) -> list[Name]:
        if by == "client":
            found, _ = self._tallies.clients("requests", range.since, range.until, 0, LINES)
            return [("client", name, "") for name in found]
        return self._by_requests(self._tallies.subjects(by, model), range)[:LINES]

    def since(self, range: Range) -> datetime:
        """From when on this range is answered: later than it begins where retention has deleted what was before."""
        return max(range.since, self._tallies.since(range.since, range.until))


def figures(tally: Tally) -> Figures:
    """What a tally tells people."""
    if not tally:
        return Figures()
    sums = {name: tally.get(number, 0) for number, name in enumerate(SUMS)}
    costs = {name[1:]: cost for name, cost in tally.items() if isinstance(name, str) and name.startswith("$")}
    return Figures(**sums, costs=dict(sorted(costs.items())), latency=latency(tally))


def latency(tally: Tally) -> Latency | None:
    """The percentiles of a tally; None where it has no histogram."""
    found = {
        kind: Percentiles(count=count, p50=parts[0], p95=parts[1], p99=parts[2])
        for kind, (count, parts) in percentiles(tally, (50, 95, 99)).items()
    }
    if not found:
        return None
    slow = found.get("per_token")
    speed = None
    if slow is not None and slow.p50:
        rates = [round(1_000_000 / max(1, part), 2) for part in (slow.p50, slow.p95, slow.p99)]
        speed = Speeds(count=slow.count, p50=rates[0], p95=rates[1], p99=rates[2])
    return Latency(**found, speed=speed)


def _series(range: Range, points: Sequence[Tally]) -> Series:
    """Figures over time that are parted by nothing."""
    return Series(range=range, by=None, starts=range.steps(), lines=[Line("", list(map(figures, points)))])


def spark_edges(range: Range) -> list[datetime]:
    """The beginnings of a sparkline's parts, and the end of the last: some of the range's steps each, all alike."""
    steps = range.steps()
    return [*steps[:: -(-len(steps) // SPARKS)], range.until]


def _subject(client: str | None, model: str | None, instance: str | None) -> Name:
    if client is not None:
        if model is not None or instance is not None:
            raise NoSuchFigures("Figures are of a client, or of a model, not of both.")
        return ("client", client, "")
    if instance is not None:
        if model is None:
            raise NoSuchFigures("Figures of an instance are those of one model: say which.")
        return ("instance", model, instance)
    return ALL if model is None else ("model", model, "")


def _busiest(row: Row) -> tuple[int, str]:
    return -row.figures.requests, row.name


def _counts(tally: Tally, sign: str) -> list[Count]:
    found = ((name[1:], count) for name, count in tally.items() if isinstance(name, str) and name.startswith(sign))
    return [Count(*each) for each in sorted(found, key=lambda each: (-each[1], each[0]))][:MOST_ROWS]


def _by_reason(points: Sequence[Tally]) -> list[Line]:
    """Lines of refused requests, each by its reason."""
    whole: Tally = {}
    for tally in points:
        plus(whole, tally)
    names = [count.name for count in _counts(whole, "-")[:LINES]]
    found = [[tally.get("-" + name, 0) for tally in points] for name in names]
    lines = [Line(name, [Figures(requests=n, refused=n) for n in counts]) for name, counts in zip(names, found, strict=True)]
    rest = [tally.get(1, 0) - sum(counts[place] for counts in found) for place, tally in enumerate(points)]
    return [*lines, Line(OTHER, [Figures(requests=n, refused=n) for n in rest])] if any(rest) else lines


def _minus(whole: Figures, parts: Sequence[Figures]) -> Figures:
    """What is left of a whole; its percentiles are not known."""
    sums = {name: getattr(whole, name) - sum(getattr(part, name) for part in parts) for name in SUMS}
    costs = {name: cost - sum(part.costs.get(name, 0) for part in parts) for name, cost in whole.costs.items()}
    return Figures(**sums, costs={name: cost for name, cost in costs.items() if cost})
