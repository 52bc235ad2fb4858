"""Every question about the ledger, over stores filled by hand: the figures are those of the receipts, and lists are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.analytics import LINES, MOST_ROWS, OTHER, SORTS, SPARKS, Analytics, Count, Figures, spark_edges
from slmgate.control.ranges import NAMES, between, of_length
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from slmgate.terms import Receipt
from tests.tools.journal_writer import make_receipt

NOW = datetime(2026, 11, 28, 16, 38, tzinfo=UTC)
DAY = of_length("24h", NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(tmp_path / "ledger.sqlite3")
    yield opened
    opened.close()


def receipt(number: int, ago: timedelta = timedelta(hours=1), **fields: object) -> Receipt:
    return make_receipt(f"r{number}", time=NOW - ago, **fields)


def refused(number: int, reason: str, **fields: object) -> Receipt:
    values: dict[str, Any] = {
        "verdict": "refuse",
        "reason": reason,
        "status": 429,
        "ended": "refused",
        "instance": "",
        "completion_tokens": 0,
    }
    return receipt(number, **(values | fields))


def filled(store: SqlStore, receipts: list[Receipt]) -> Analytics:
    store.write(Batch(receipts=receipts))
    return Analytics(store)


def test_nothing(store: SqlStore) -> None:
    asked = Analytics(store)
    seen = asked.overview(DAY)
    assert (seen.compared.now, seen.compared.before) == (Figures(), Figures())
    assert (seen.models, seen.clients, seen.clients_total, seen.refusals, seen.failures) == ([], [], 0, [], [])
    assert seen.since == DAY.since
    assert {point.requests for line in seen.series.lines for point in line.points} == {0}
    assert asked.clients(DAY).pages == 1
    assert asked.client("nobody", DAY).models == []
    assert asked.model("none", DAY).instances == []


def test_overview(store: SqlStore) -> None:
    asked = filled(store, [
        receipt(1, cost=100, price="EUR 1 1"),
        receipt(2, principal="ann", model="big", instance="i2", price="USD 1 1", cost=7, estimated=True),
        receipt(3, ended="upstream_error", status=502),
        refused(4, "rate_limited"),
        refused(5, "rate_limited", principal="ann"),
        refused(6, "model_not_found", principal="ann", model="nope"),
        receipt(7, timedelta(hours=30)),
    ])  # fmt: skip
    seen = asked.overview(DAY)
    now = seen.compared.now
    assert (now.requests, now.refused, now.errors, now.prompt_tokens, now.completion_tokens, now.estimated_tokens) == (
        6, 3, 1, 21, 15, 12,
    )  # fmt: skip
    assert now.costs == {"EUR": 100, "USD": 7}
    assert (now.admitted, now.tokens) == (3, 36)
    assert (now.error_share, now.refused_share) == (1 / 3, 0.5)
    assert seen.compared.before.requests == 1
    assert seen.refusals == [Count("rate_limited", 2), Count("model_not_found", 1)]
    assert seen.failures == [Count("upstream_error", 1)]
    assert [(row.name, row.figures.requests, row.share) for row in seen.clients] == [("ann", 3, 0.5), ("bot", 3, 0.5)]
    assert [(row.name, row.figures.requests) for row in seen.models] == [("smollm2", 4), ("(other)", 1), ("big", 1)]
    assert sum(point.requests for point in seen.series.lines[0].points) == 6


def test_client_and_model(store: SqlStore) -> None:
    asked = filled(store, [
        receipt(1), receipt(2, instance="i2"), receipt(3, instance="i2", principal="ann"), receipt(4, model="big"),
        refused(5, "rate_limited"),
    ])  # fmt: skip
    client = asked.client("bot", DAY)
    assert client.compared.now.requests == 4
    assert [(row.name, row.figures.requests) for row in client.models] == [("smollm2", 3), ("big", 1)]
    assert client.refusals == [Count("rate_limited", 1)]
    model = asked.model("smollm2", DAY)
    assert [(row.name, row.figures.requests) for row in model.instances] == [("i2", 2), ("i1", 1)]
    assert [(row.name, row.figures.requests) for row in model.clients] == [("bot", 3), ("ann", 1)]


def test_pages_of_clients(store: SqlStore) -> None:
    receipts = [receipt(number, principal=f"c{number % 120:03}", completion_tokens=number % 120) for number in range(240)]
    asked = filled(store, receipts)
    first = asked.clients(DAY, "tokens")
    assert (len(first.rows), first.total, first.pages, first.page) == (50, 120, 3, 1)
    assert first.rows[0].name == "c119"
    assert [len(asked.clients(DAY, page=page).rows) for page in (2, 3)] == [50, 20]
    assert asked.clients(DAY, page=99).page == 3
    assert asked.clients(DAY, page=-1).page == 1
    assert [row.name for row in asked.clients(DAY, "name", size=2).rows] == ["c000", "c001"]
    assert asked.clients(DAY, size=10**9).size == MOST_ROWS
    assert asked.clients(DAY, search="C11").total == 10
    assert asked.clients(DAY, search="%").total == 0
    names = {sort: sorted(row.name for row in asked.clients(DAY, sort, size=1000).rows) for sort in SORTS}
    assert all(found == names["name"] for found in names.values())


def test_sparklines_are_of_all_requests(store: SqlStore) -> None:
    asked = filled(store, [receipt(number, timedelta(minutes=7 * number + 1)) for number in range(100)])
    (row,) = asked.clients(DAY).rows
    assert len(row.spark) == len(spark_edges(DAY)) - 1 == 25
    assert sum(row.spark) == row.figures.requests == 100
    assert len(spark_edges(of_length("5m", NOW))) == 6
    assert max(len(spark_edges(of_length(name, NOW))) for name in NAMES) <= SPARKS + 1


def test_series_by_model_has_the_largest_and_the_rest(store: SqlStore) -> None:
    asked = filled(store, [receipt(number, model=f"m{number % 12:02}") for number in range(120)] + [receipt(500, model="m03")])
    series = asked.series(DAY, by="model")
    assert [line.name for line in series.lines] == ["m03", *(f"m{n:02}" for n in (0, 1, 2, 4, 5, 6, 7)), OTHER]
    assert len(series.lines) == LINES + 1
    assert sum(point.requests for line in series.lines for point in line.points) == 121
    assert all(len(line.points) == len(series.starts) for line in series.lines)


def test_a_day_of_25_hours(store: SqlStore) -> None:
    start = datetime(2026, 10, 24, 22, tzinfo=UTC)
    asked = filled(store, [make_receipt(f"h{hour}", time=start + timedelta(hours=hour)) for hour in range(-1, 27)])
    series = asked.series(between("2026-10-24", "2026-10-27", NOW, "Europe/Berlin", "1d"))
    assert [point.requests for point in series.lines[0].points] == [1, 25, 2]


def test_favourites(store: SqlStore) -> None:
    asked = filled(store, [receipt(1), receipt(2, model="big"), receipt(3, model="big"), receipt(4, principal="ann", model="b")])
    assert asked.favourites(DAY, ["bot", "ann", "nobody"]) == {"bot": "big", "ann": "b"}
