"""Usage: sums of receipts by what facets and times tell, from the rollups wherever these can say it exactly.

A time asked for is cut into pieces: whole months, days, hours and minutes from their rollups, what is left at its two ends from
the receipts themselves. So an answer is always that of the receipts, however old, and reads few rows. What retention has deleted
is left to the next finer level that has it; where none has, the answer begins later, and `answered` says when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from slmgate.stores import schema
from slmgate.stores.records import USAGE_GROUPS, ReceiptFilter, UsageRow
from slmgate.stores.rollups import LEVELS, MOST, Level
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.tallies import FAILED

RECEIPTS = "receipts"
"""What `kept_since` calls the receipts themselves."""
SHADOW = "shadow"
"""The verdict of copies: they are nobody's requests, and in no sum unless they are asked for."""

_SUMS = ("requests", "prompt_tokens", "completion_tokens", "cost")
_END = to_us(datetime(9999, 12, 1, tzinfo=UTC))
_BUCKETS = {"hour": 3_600_000_000, "day": 86_400_000_000, "month": 86_400_000_000}  # months are added up from days
_BUCKET_FORMATS = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
_COARSEST = {"hour": 2, "day": 3, "month": 4}  # how many of LEVELS can tell them apart
_facets, _entries = schema.facets.c, schema.entries.c


class Piece(NamedTuple):
    """A part of the time asked for, microseconds since the epoch, `end` exclusive; `level` None: from the receipts."""

    level: Level | None
    start: int
    end: int


def pieces(levels: Sequence[Level], start: int, end: int, kept: Mapping[str, int]) -> list[Piece]:
    """Cut a time so that as much of it as can be comes from the last of these levels, and the rest from those before it.

    `kept` says from when on a level is whole. What nothing has any more is in no piece.
    """
    if not levels:
        start = max(start, kept.get(RECEIPTS, 0))
        return [Piece(None, start, end)] if start < end else []
    *finer, level = levels
    first, last = level.ceil(max(start, kept.get(level.name, 0))), level.floor(end)
    if first >= last:
        return pieces(finer, start, end, kept)
    return [*pieces(finer, start, first, kept), Piece(level, first, last), *pieces(finer, last, end, kept)]


def kept_since(connection: Connection) -> dict[str, int]:
    """Level, or `receipts` -> from when on it is whole; those of which nothing was ever deleted are not among them."""
    return {row.level: row.time for row in connection.execute(sa.select(schema.kept_since))}


def plan(connection: Connection, by: Sequence[str], which: ReceiptFilter) -> list[Piece]:
    """The pieces that answer a question."""
    levels = LEVELS[: min((_COARSEST[name] for name in by if name in _COARSEST), default=len(LEVELS))]
    if which.request_id is not None:
        levels = ()
    start = 0 if which.since is None else to_us(which.since)
    end = _END if which.until is None else to_us(which.until)
    return pieces(levels, start, end, kept_since(connection))


def answered(connection: Connection, by: Sequence[str], which: ReceiptFilter) -> tuple[datetime | None, datetime | None]:
    """The part of the time asked for that is still kept in as fine a level as it takes; None: no bound was asked for."""
    found = plan(connection, by, which)
    if not found:
        return which.until, which.until
    start, end = found[0].start, found[-1].end
    since, until = from_us(start) if start else None, None if end == _END and which.until is None else from_us(end)
    return which.since if start == 0 else since, until


def usage(connection: Connection, by: Sequence[str], which: ReceiptFilter) -> list[UsageRow]:
    """`LedgerStore.usage`."""
    totals: dict[tuple[str, ...], _Total] = {}
    for piece in plan(connection, by, which):
        for row in connection.execute(_query(piece, by, which)):
            group = tuple(_group_text(name, value) for name, value in zip(by, row, strict=False))
            totals.setdefault(group, _Total()).add(row[len(by) :])
    return [total.row(group) for group, total in sorted(totals.items(), key=lambda item: item[0])]


class _Total:
    """The sums of one group, while pieces and currencies are added up."""

    def __init__(self) -> None:
        self.figures = [0] * 6
        self.costs: dict[str, int] = {}

    def add(self, values: Sequence[Any]) -> None:
        price, cost, *figures = values
        self.figures = [a + int(b or 0) for a, b in zip(self.figures, figures, strict=True)]
        if cost:
            currency = price.partition(" ")[0]
            self.costs[currency] = self.costs.get(currency, 0) + int(cost)

    def row(self, group: tuple[str, ...]) -> UsageRow:
        requests, refused, errors, prompt, completion, estimated = self.figures
        return UsageRow(
            group=group,
            requests=requests,
            refused=refused,
            errors=errors,
            prompt_tokens=prompt,
            completion_tokens=completion,
            estimated_tokens=estimated,
            costs=dict(sorted(self.costs.items())),
        )


def _query(piece: Piece, by: Sequence[str], which: ReceiptFilter) -> sa.Select[Any]:
    """Sums of a piece. Unless times are asked for, by facets first, which are numbers and few, and then by what they tell."""
    source, time = (schema.entries, _entries.time) if piece.level is None else (piece.level.table, piece.level.table.c.start)
    figures = [_figure(source, name) for name in _SUMS]
    # a literal, because PostgreSQL does not see that two parameters are the same expression
    times = [(time.op("/")(sa.literal_column(str(_BUCKETS[name])))).label(name) for name in by if name in _BUCKETS]
    chosen = [time >= piece.start, time < piece.end]
    conditions = list(_conditions(which))
    if conditions:
        chosen.append(source.c.facet.in_(sa.select(_facets.id).where(*conditions)))
    if which.request_id is not None:
        chosen.append(sa.or_(_entries.id == which.request_id, called(which.request_id)))
    if times:  # there are hardly fewer spans of the same facets than rows
        few = sa.select(source.c.facet, *times, *map(sa.label, _SUMS, figures)).where(*chosen).subquery().c
    else:
        sums = (sa.func.sum(figure) for figure in figures)
        few = sa.select(source.c.facet, *map(sa.label, _SUMS, sums)).where(*chosen).group_by(source.c.facet).subquery().c
    groups = [few[name] if name in _BUCKETS else _facets[USAGE_GROUPS[name]] for name in by]
    admitted = _facets.verdict.in_(("admit", SHADOW))  # of which only one is asked for
    failed = sa.or_(_facets.ended.in_(FAILED), _facets.status >= 500)
    asked = (
        _facets.price,
        sa.func.sum(few.cost),
        sa.func.sum(few.requests),
        _sum_where(~admitted, few.requests),
        _sum_where(sa.and_(admitted, failed), few.requests),
        _sum_where(admitted, few.prompt_tokens),
        _sum_where(admitted, few.completion_tokens),
        _sum_where(sa.and_(admitted, _facets.estimated), few.prompt_tokens + few.completion_tokens),
    )
    return (
        sa.select(*groups, *asked)
        .join_from(schema.facets, few.facet.table, _facets.id == few.facet)
        .where(_facets.verdict == SHADOW if which.verdict == SHADOW else _facets.verdict != SHADOW)
        .group_by(*groups, _facets.price)
    )


def _figure(source: sa.Table, name: str) -> sa.ColumnElement[Any]:
    if source is not schema.entries:
        return source.c[name]
    return sa.literal_column("1") if name == "requests" else bounded(source.c[name])


def bounded(figure: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """What a receipt's figure adds to a sum."""
    return sa.case((figure > MOST, MOST), else_=figure)


def called(request_id: str) -> sa.ColumnElement[bool]:
    """Requests that their client called so. The second part is what lets the partial index serve."""
    return sa.and_(_entries.request_id == request_id, _entries.request_id != sa.literal_column("''"))


def _conditions(which: ReceiptFilter) -> Iterator[sa.ColumnElement[bool]]:
    for field in ("team", "key", "model", "instance", "endpoint", "status", "verdict", "reason", "ended"):
        value = getattr(which, field)
        if value is not None:
            yield _facets[field] == value
    if which.client is not None:
        yield _facets.principal == which.client


def _group_text(name: str, value: Any) -> str:
    bucket = _BUCKETS.get(name)
    if bucket is not None:
        return datetime.fromtimestamp(value * bucket // 1_000_000, UTC).strftime(_BUCKET_FORMATS[name])
    return "" if value is None else str(value)


def _sum_where(condition: sa.ColumnElement[bool], value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((condition, value), else_=0))
