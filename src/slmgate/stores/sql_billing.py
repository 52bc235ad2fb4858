"""Billing's part of the store in SQL, in the transactions that `sql.py` lends.

Sums are made by facets first, of which there are few, so that no text is looked at for each receipt. Driver exceptions are
translated where the transactions come from; this module knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from slmgate.stores import schema
from slmgate.stores.billing import ChargeRow, NoticeRecord
from slmgate.stores.schema import from_us, to_us
from slmgate.stores.usage import RECEIPTS, kept_since

Transaction = Callable[[], AbstractContextManager[Connection]]
_entries, _facets, _notices = schema.entries.c, schema.facets.c, schema.notices.c
_SHARED = (_facets.team, _facets.plan, _facets.price, _facets.model)


class SqlBilling:
    """`BillingStore` in the tables of one `SqlStore`, which lends its transactions and its insert that knows conflicts."""

    def __init__(self, reading: Transaction, writing: Transaction, insert: Any) -> None:
        self._reading = reading
        self._writing = writing
        self._insert = insert

    def newest(self) -> int:
        with self._reading() as connection:
            return connection.execute(sa.select(sa.func.max(_entries.seq))).scalar() or 0

    def kept_since(self) -> datetime | None:
        with self._reading() as connection:
            time = kept_since(connection).get(RECEIPTS)
        return None if time is None else from_us(time)

    def charges(
        self, since: datetime, until: datetime, team: str | None = None, after: int = 0, upto: int | None = None
    ) -> list[ChargeRow]:
        meant = sa.select(_facets.id).where(
            _facets.verdict == "admit", _facets.team == team if team is not None else _facets.team != ""
        )
        within = [_entries.time >= to_us(since), _entries.time < to_us(until), _entries.facet.in_(meant)]
        if after:
            within.append(_entries.seq > after)
        if upto is not None:
            within.append(_entries.seq <= upto)
        sums = (
            sa.select(
                _entries.facet,
                sa.func.count().label("requests"),
                *(sa.func.sum(_entries[name]).label(name) for name in ("prompt_tokens", "completion_tokens", "cost")),
            )
            .where(*within)
            .group_by(_entries.facet)
            .subquery()
        )
        query = (
            sa.select(
                *_SHARED,
                *(sa.func.sum(sums.c[name]) for name in ("requests", "prompt_tokens", "completion_tokens", "cost")),
                *(
                    sa.func.sum(sa.case((which, sums.c.requests), else_=0))
                    for which in (_facets.estimated, _facets.ended == "unknown")
                ),
            )
            .join_from(sums, schema.facets, sums.c.facet == _facets.id)
            .group_by(*_SHARED)
            .order_by(*_SHARED)
        )
        with self._reading() as connection:
            return [_charge(row) for row in connection.execute(query)]

    def add_notice(self, record: NoticeRecord) -> bool:
        statement = self._insert(schema.notices).values(_row(record)).on_conflict_do_nothing(index_elements=["id"])
        with self._writing() as connection:
            return bool(connection.execute(statement).rowcount)

    def save_notice(self, record: NoticeRecord) -> None:
        with self._writing() as connection:
            connection.execute(sa.update(schema.notices).where(_notices.id == record.id).values(_row(record)))

    def due_notices(self, now: datetime, limit: int, without: Collection[tuple[str, str]] = ()) -> list[NoticeRecord]:
        query = sa.select(schema.notices).where(_notices.retry <= to_us(now)).order_by(_notices.retry, _notices.id).limit(limit)
        for webhook, plan in without:
            query = query.where(sa.or_(_notices.webhook != webhook, _notices.plan != plan))
        with self._reading() as connection:
            return [_notice(row) for row in connection.execute(query).mappings()]

    def last_types(self, subjects: Sequence[str]) -> dict[str, str]:
        newest = (
            sa.select(_notices.subject, sa.func.max(_notices.created).label("created"))
            .where(_notices.subject.in_(subjects))
            .group_by(_notices.subject)
            .subquery()
        )
        query = sa.select(_notices.subject, _notices.type).join_from(
            schema.notices, newest, sa.and_(_notices.subject == newest.c.subject, _notices.created == newest.c.created)
        )
        with self._reading() as connection:
            return {row.subject: row.type for row in connection.execute(query)}

    def notices(self, limit: int) -> list[NoticeRecord]:
        query = sa.select(schema.notices).order_by(_notices.created.desc(), _notices.id).limit(limit)
        with self._reading() as connection:
            return [_notice(row) for row in connection.execute(query).mappings()]


def _charge(row: sa.Row[Any]) -> ChargeRow:
    team, plan, price, model, *figures = tuple(row)
    requests, prompt, completion, cost, estimated, unknown = map(int, figures)  # PostgreSQL's sums are decimals
    return ChargeRow(
        team=team,
        plan=plan,
        price=price,
        model=model,
        requests=requests,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
        estimated=estimated,
        unknown=unknown,
    )


def _row(record: NoticeRecord) -> dict[str, Any]:
    row = msgspec.structs.asdict(record)
    row["created"] = to_us(record.created)
    row["retry"] = None if record.retry is None else to_us(record.retry)
    row["delivered"] = None if record.delivered is None else to_us(record.delivered)
    return row


def _notice(row: RowMapping) -> NoticeRecord:
    times = {name: None if row[name] is None else from_us(row[name]) for name in ("retry", "delivered")}
    return NoticeRecord(**{**row, **times, "created": from_us(row["created"]), "payload": bytes(row["payload"])})
