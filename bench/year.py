"""A year of a busy gate, asked for: how long usage takes over 100 million receipts, from their rollups.

`python -m bench.year [--clients N]` fills the rollups of a year in a SQLite file as that many receipts would, and asks what
`slmgate usage` and a dashboard ask. The rows are synthetic, written straight into the tables: the receipts are not there, so an
answer begins and ends with a span that is. Minutes are there for a week, as by default.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from slmgate.stores.records import Batch, ReceiptFilter
from slmgate.stores.rollups import DAY, FIGURES, HOUR, MINUTE
from slmgate.stores.schema import to_us
from slmgate.stores.sql import SqlStore, open_store
from slmgate.terms import Receipt

RECEIPTS = 100_000_000
DAYS = 365
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_END = _BEGIN + timedelta(days=DAYS)
_KINDS = (("chat", "admit", 200), ("embeddings", "admit", 200), ("chat", "admit", 502), ("chat", "refuse", 429))
"""What each client's receipts have in common by fours: four rows for each client and span."""
_MODELS = 5


def facets(clients: int) -> Iterator[Receipt]:
    """A receipt of each kind of each client: they make the rows that the sums refer to."""
    for client in range(clients):
        for kind, (endpoint, verdict, status) in enumerate(_KINDS):
            yield Receipt(
                id=f"{client:08}-{kind}",
                request_id=f"{client:08}-{kind}",
                time=_BEGIN,
                method="POST",
                path=f"/v1/{endpoint}",
                status=status,
                verdict="admit" if verdict == "admit" else "refuse",
                reason="",
                ended="complete" if status == 200 else "upstream_error" if status == 502 else "refused",
                principal=f"client-{client}",
                key=f"k{client}",
                team=f"team-{client % 20}",
                endpoint=endpoint,
                model=f"model-{client % _MODELS}",
                instance=f"10.0.0.{client % 8}:8000",
                plan="gold",
                price="EUR 100 300",
            )


def fill(path: Path, clients: int) -> int:
    """The sums of the year; returns how many rows they are."""
    store = open_store(path)
    store.write(Batch(receipts=list(facets(clients))))
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    numbers = [number for (number,) in connection.execute("SELECT id FROM facets ORDER BY id")]
    connection.execute("DELETE FROM entries")
    begin, end, rows = to_us(_BEGIN), to_us(_END), 0
    share = RECEIPTS / DAYS / len(numbers) / DAY  # receipts of one kind and client in a microsecond
    week = end - 7 * DAY
    spans = {"minutes": (week, MINUTE), "hours": (begin, HOUR), "days": (begin, DAY)}
    for name, (first, width) in spans.items():
        rows += _insert(connection, name, [(start, start + width) for start in range(first, end, width)], numbers, share)
    months = [to_us(_BEGIN.replace(month=month)) for month in range(1, 13)] + [end]
    rows += _insert(connection, "months", list(pairwise(months)), numbers, share)
    connection.execute("INSERT INTO kept_since VALUES ('minutes', ?), ('receipts', ?)", (week, end))
    connection.commit()
    connection.close()
    return rows


def _insert(connection: sqlite3.Connection, level: str, spans: list[tuple[int, int]], facets: list[int], share: float) -> int:
    connection.execute(f"DELETE FROM rollup_{level}")
    marks = ", ".join("?" * (2 + len(FIGURES)))
    insert = f"INSERT INTO rollup_{level} VALUES ({marks})"

    def rows() -> Iterator[tuple[int, ...]]:
        debt = 0.5  # what whole numbers leave over, so that the year comes out right
        for start, end in spans:
            for facet in facets:
                debt += share * (end - start)
                requests = int(debt)
                debt -= requests
                if requests:
                    yield (start, facet, requests, *_figures(requests))

    return connection.executemany(insert, rows()).rowcount


def _figures(requests: int) -> tuple[int, ...]:
    """All but the first of `FIGURES`."""
    return tuple(requests * each for each in (200, 120, 900, 700, 1_000, 1, 80_000, 900_000, 56_000))


def questions() -> Iterator[tuple[str, list[str], ReceiptFilter]]:
    odd = _END - timedelta(days=30, hours=5, minutes=17)
    year, month, week = (ReceiptFilter(since=since) for since in (_BEGIN, odd, _END - timedelta(days=7)))
    yield "the year, as a whole", [], year
    yield "the year by client and model", ["client", "model"], year
    yield "the year by month, team, status", ["month", "team", "status"], year
    yield "the year by day", ["day"], year
    yield "the year by day and model", ["day", "model"], year
    yield "the year by day, one client", ["day"], ReceiptFilter(since=_BEGIN, client="client-7")
    yield "30 days by client and model", ["client", "model"], month
    yield "30 days by hour", ["hour"], month
    yield "7 days by hour and model", ["hour", "model"], week


def ask(store: SqlStore) -> float:
    """Print how long each question takes, the best of three; returns the longest."""
    longest = 0.0
    for called, by, which in questions():
        took = []
        for _ in range(3):
            begun = time.perf_counter()
            rows = store.usage(by, which)
            took.append(time.perf_counter() - begun)
        longest = max(longest, min(took))
        requests = sum(row.requests for row in rows)
        print(f"{called:36} {min(took) * 1000:8,.0f} ms  {len(rows):6,} rows  {requests:12,} requests", flush=True)
    return longest


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="how long usage takes over a year of 100 million receipts")
    parser.add_argument("--clients", type=int, default=100, help="clients, each with four kinds of receipts at all times")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="slmgate-year-") as name:
        path = Path(name) / "ledger.sqlite3"
        begun = time.perf_counter()
        rows = fill(path, options.clients)
        size = path.stat().st_size / 1e6
        print(f"{rows:,} synthetic sums of {RECEIPTS:,} receipts, {size:,.0f} MB, in {time.perf_counter() - begun:.0f} s")
        store = open_store(path)
        longest = ask(store)
        store.close()
    return 0 if longest < 1.0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
