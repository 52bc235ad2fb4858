"""What a dashboard asks of 10 million receipts of a year: how long each question takes, for a few clients and for very many.

`python -m bench.pages [--clients 1 1000 100000] [--receipts N] [--reuse DIRECTORY]` fills a SQLite ledger with receipts and all
that is kept beside them, in bulk, and asks every question of `control/analytics.py` over an hour, a day, a week, a month and a
year, in a zone whose days are not those of the ledger; then the pages themselves, whole answers of the admin listener's
application, in this process. Receipts are made by arithmetic: each facet has one of 64 sets of figures, so what they come to is
known without reading them. Each client asks at all times of the year, the worst there is: no sum holds more than a few.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Litestar
from litestar.testing import TestClient

from slmgate.control.analytics import Analytics
from slmgate.control.preparing import BACK
from slmgate.control.ranges import NAMES, of_length
from slmgate.stores import schema
from slmgate.stores.records import Batch
from slmgate.stores.rollups import DAY, FIGURES, HOUR, LEVELS, MINUTE
from slmgate.stores.schema import to_us
from slmgate.stores.sql import open_store
from slmgate.stores.subjects import facts_of
from slmgate.stores.tallies import Facts, Tally, encode, histograms, plus
from slmgate.terms import Receipt
from tests.tools.admin_gate import AdminGate, asking

Client = TestClient[Litestar]

RECEIPTS = 10_000_000
DAYS = 365
LIMIT = 0.3
"""Seconds that a question may take."""
ROUNDS = 5
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_ZONE = "Europe/Berlin"
_SETS = 64
_STEP = 7_368_787  # a prime: receipts in a row are of clients far apart
_MODELS, _INSTANCES = 5, 3
_ENTRY = [column.name for column in schema.entries.columns]


def figures(facet: int) -> dict[str, int]:
    """What each receipt of these facets says."""
    one = facet * 37 % _SETS
    first = 12_000 + 1500 * one + one**3
    return {
        "prompt_tokens": 100 + one, "completion_tokens": 20 + 3 * one, "bytes_in": 900, "bytes_out": 700,
        "queue_us": 90 + 5 * one + 300 * (one % 7 == 0), "first_byte_us": first, "total_us": first + 90_000 + 31_000 * one,
        "attempts": 1, "worker": one % 2, "cost": 80_000 + one, "receive_us": 30, "connect_us": 250 * (one % 5 == 0),
        "overhead_us": 31 + one,
    }  # fmt: skip


def facets(clients: int) -> Iterator[Receipt]:
    """A receipt of each kind of each client: streams, and in turn whole answers, failures and refusals."""
    for client in range(clients):
        model = f"model-{client % _MODELS}"
        for kind in range(2):
            refused, failed = kind == 1 and client % 8 == 1, kind == 1 and client % 8 == 2
            yield Receipt(
                id=f"{client:08}-{kind}",
                request_id=f"{client:08}-{kind}",
                time=_BEGIN,
                method="POST",
                path="/v1/chat/completions",
                status=429 if refused else 502 if failed else 200,
                verdict="refuse" if refused else "admit",
                reason="rate_limited" if refused else "ok",
                ended="refused" if refused else "upstream_error" if failed else "complete",
                principal=f"client-{client}",
                key=f"k{client}",
                team=f"team-{client % 20}",
                dialect="openai",
                endpoint="chat",
                model=model,
                instance="" if refused else f"10.0.{client % _MODELS}.{client % _INSTANCES}:8000",
                stream=kind == 0,
                price="EUR 100 300",
            )


class Filling:
    """One ledger while it is filled."""

    def __init__(self, path: Path, clients: int, receipts: int, days: int = DAYS) -> None:
        store = open_store(path)
        some = list(facets(clients))
        for start in range(0, len(some), 10_000):
            store.write(Batch(receipts=some[start : start + 10_000]))
        with store._reading() as connection:
            self.known: Mapping[int, Facts] = facts_of(connection, range(1, len(some) + 1))
        store.close()
        self.receipts, self.days, self.facets = receipts, days, len(some)
        self.sums = {facet: self._sums(facet) for facet in self.known}
        self.of_set: dict[int, Tally] = {}
        self.tallies = {facet: self._tally(facet) for facet in self.known}
        self.connection = sqlite3.connect(path)
        self.begin = to_us(_BEGIN)

    def _row(self, facet: int) -> tuple[Any, ...]:
        values = {"id": "", "request_id": "", "address": "", "parameters": "", "trace": "", "time": 0, "facet": facet}
        return tuple((values | figures(facet))[name] for name in _ENTRY if name != "seq")

    def _sums(self, facet: int) -> tuple[int, ...]:
        one = figures(facet)
        return tuple(1 if name in ("requests", "first_bytes") else one[name] for name in FIGURES)

    def _tally(self, facet: int) -> Tally:
        """What one receipt of these facets counts: the same for all of one set of figures and one kind."""
        place = self._place(facet)
        if place not in self.of_set:
            buckets = histograms([self._row(facet)], {facet: self.known[facet]}, MINUTE)
            self.of_set[place] = self.known[facet].of(self.sums[facet]) | buckets.get((0, facet), {})
        return self.of_set[place]

    def _place(self, facet: int) -> int:
        facts = self.known[facet]
        kind = 0 if facts.stream else 2 if facts.failed else 1 if facts.admitted else 3
        return facet * 37 % _SETS * 4 + kind

    def facet(self, number: int) -> int:
        return 1 + number * _STEP % self.facets

    def moment(self, number: int) -> int:
        return self.begin + number * (self.days * DAY) // self.receipts

    def fill(self) -> None:
        run = self.connection.execute
        run("PRAGMA journal_mode=OFF")  # nothing is lost but a file that is made anew
        run("PRAGMA synchronous=OFF")
        run("PRAGMA cache_size=-400000")
        for table in (
            "entries",
            "client_vectors",
            *(f"{kind}_{each}" for kind in ("rollup", "tally") for each in schema.rollups),
        ):
            run(f"DELETE FROM {table}")
        self._entries()
        week = self.begin + (self.days - 7) * DAY
        counts: dict[str, Counter[int]] = {level.name: Counter() for level in LEVELS}
        starts = {level.name: level.floor(self.begin) for level in LEVELS}
        number = 0
        for minute in range(self.begin, self.begin + self.days * DAY, MINUTE if self.days <= 7 else HOUR):
            if minute >= week and minute % HOUR == 0 and self.days > 7:
                for part in range(minute, minute + HOUR, MINUTE):
                    number = self._span(number, part, part + MINUTE, counts, starts)
            else:
                width = MINUTE if self.days <= 7 else HOUR
                number = self._span(number, minute, minute + width, counts, starts)
        for level in LEVELS:
            self._flush(level.name, starts[level.name], counts[level.name])
        run("INSERT INTO kept_since VALUES ('minutes', ?)", (max(week, self.begin),))
        self.connection.commit()
        self.connection.close()

    def _span(self, number: int, start: int, end: int, counts: dict[str, Counter[int]], starts: dict[str, int]) -> int:
        last = min(self.receipts, -(-(end - self.begin) * self.receipts // (self.days * DAY)))
        found = Counter(map(self.facet, range(number, last)))
        for level in LEVELS:
            if level is LEVELS[0] and end - start > MINUTE:
                starts[level.name] = end
                continue
            span = level.floor(start)
            if span != starts[level.name]:
                self._flush(level.name, starts[level.name], counts[level.name])
                starts[level.name] = span
            counts[level.name].update(found)
        return last

    def _flush(self, level: str, start: int, counts: Counter[int]) -> None:
        if not counts:
            return
        marks = ", ".join("?" * (2 + len(FIGURES)))
        rows = ((start, facet, *(n * each for each in self.sums[facet])) for facet, n in sorted(counts.items()))
        self.connection.executemany(f"INSERT INTO rollup_{level} VALUES ({marks})", rows)
        tallies: dict[int, Tally] = {}
        parts: dict[tuple[int, ...], Counter[int]] = {}
        for facet, n in counts.items():
            *shared, client = self.known[facet].subjects
            own = self.tallies[facet] if n == 1 else {name: n * each for name, each in self.tallies[facet].items()}
            plus(tallies.setdefault(client, {}), own)
            parts.setdefault(tuple(shared), Counter())[self._place(facet)] += n
        for shared_by, sets in parts.items():
            whole: Tally = {}
            for each, n in sets.items():
                plus(whole, {name: n * count for name, count in self.of_set[each].items()})
            for subject in shared_by:
                plus(tallies.setdefault(subject, {}), whole)
        found = ((start, subject, encode(tally)) for subject, tally in sorted(tallies.items()))
        self.connection.executemany(f"INSERT INTO tally_{level} VALUES (?, ?, ?)", found)
        counts.clear()

    def _entries(self) -> None:
        """The receipts: made within the database, because ten million of them would take minutes from outside."""
        run = self.connection.execute
        for name in ("entries_id", "entries_time", "entries_request_id"):
            run(f"DROP INDEX {name}")
        names = ", ".join(figures(0))
        run(f"CREATE TEMP TABLE sets (one INTEGER PRIMARY KEY, {names})")
        marks = ", ".join("?" * (1 + len(figures(0))))
        alike = {facet * 37 % _SETS: facet for facet in range(1, 1 + _SETS)}
        rows = [(one, *figures(facet).values()) for one, facet in alike.items()]
        self.connection.executemany(f"INSERT INTO sets VALUES ({marks})", rows)
        own = ("id", "request_id", "address", "parameters", "trace")
        values = {
            "seq": "n + 1", "id": "printf('%020x', n)", "time": f"{self.begin} + n * {self.days * DAY} / {self.receipts}",
            "facet": "facet", **dict.fromkeys(own[1:], "''"),
        }  # fmt: skip
        columns = ", ".join(values.get(name, name) for name in _ENTRY)
        run(
            f"WITH RECURSIVE numbers (n, facet) AS (SELECT 0, 1 UNION ALL SELECT n + 1, 1 + (n + 1) * {_STEP} % {self.facets} "
            f"FROM numbers WHERE n + 1 < {self.receipts}) "
            f"INSERT INTO entries SELECT {columns} FROM numbers CROSS JOIN sets ON one = facet * 37 % {_SETS}"
        )
        run("CREATE UNIQUE INDEX entries_id ON entries (id)")
        run("CREATE INDEX entries_time ON entries (time)")
        run("CREATE INDEX entries_request_id ON entries (request_id) WHERE request_id <> ''")


def questions(asked: Analytics, name: str, clients: int, now: datetime) -> Iterator[tuple[str, Callable[[], object]]]:
    range = of_length(name, now, _ZONE)
    client, model = f"client-{clients // 2}", f"model-{clients // 2 % _MODELS}"
    yield "overview", lambda: asked.overview(range)
    yield "clients, most requests", lambda: asked.clients(range)
    yield "clients, most tokens, last page", lambda: asked.clients(range, "tokens", 10**6)
    yield "clients by name, page 2", lambda: asked.clients(range, "name", 2)
    yield "clients, searched", lambda: asked.clients(range, "cost", search="T-77")
    yield "one client", lambda: asked.client(client, range)
    yield "models", lambda: asked.models(range)
    yield "one model", lambda: asked.model(model, range)
    yield "series", lambda: asked.series(range)
    yield "series by model", lambda: asked.series(range, "model")
    yield "series by instance", lambda: asked.series(range, "instance", model=model)
    yield "series by client", lambda: asked.series(range, "client")
    yield "series by reason", lambda: asked.series(range, "reason")
    yield "compared", lambda: asked.compare(range)


def pages(client: Client, name: str, clients: int, now: datetime) -> Iterator[tuple[str, Callable[[], object]]]:
    """The pages of a range, as a browser asks for them."""
    range, zone = of_length(name, now, _ZONE), ZoneInfo(_ZONE)
    since, until = (f"{time.astimezone(zone):%Y-%m-%dT%H:%M}" for time in (range.since, range.until))
    one, model = f"client-{clients // 2}", f"model-{clients // 2 % _MODELS}"

    def page(path: str, **query: str) -> Callable[[], object]:
        def get() -> None:
            given = {"from": since, "to": until, "tz": _ZONE, **query}
            answer = client.get(path, params=given, headers={"accept": "text/html"})
            if answer.status_code not in (200, 404):  # a model that nobody asked for lately, where receipts are few
                raise RuntimeError(f"{path} answered {answer.status_code}")

        return get

    yield "page: overview", page("/")
    yield "page: overview, compared", page("/", compare="1")
    yield "page: clients", page("/clients")
    yield "page: clients by tokens, last", page("/clients", sort="-tokens", page=str(10**6))
    yield "page: clients by name, second", page("/clients", sort="name", page="2")
    yield "page: clients, searched", page("/clients", q="T-77")
    yield "page: client", page(f"/clients/{one}")
    yield "page: client, compared", page(f"/clients/{one}", compare="1")
    yield "page: models", page("/models")
    yield "page: model", page(f"/models/{model}")
    yield "page: model, compared", page(f"/models/{model}", compare="1")
    yield "page: requests", page("/requests")
    yield "page: requests of a client", page("/requests", client=one)
    yield "page: requests that failed", page("/requests", status="502")


def timed(asked: Iterable[tuple[str, Callable[[], object]]], name: str) -> float:
    """Print how long each of these takes; returns the longest that any took."""
    longest = 0.0
    for called, question in asked:
        took, worked = [], []
        for _ in range(ROUNDS):
            begun, cpu = time.perf_counter(), time.process_time()
            question()
            took.append(time.perf_counter() - begun)
            worked.append(time.process_time() - cpu)
        longest = max(longest, max(took))
        most = f"worst {max(took) * 1000:6,.0f} ms, of processor time {max(worked) * 1000:6,.0f} ms"
        print(f"{name:5} {called:32} median {median(took) * 1000:6,.0f} ms, {most}", flush=True)
    return longest


def ask(state: Path, clients: int, now: datetime) -> float:
    """Print how long every question and every page takes; returns the longest that any took."""
    gate = AdminGate(state)
    begun, steps = time.perf_counter(), 0
    while gate.store.tallies.prepare(now - BACK, now):
        steps += 1
    print(f"the order of all clients made ready for {steps} days and months: {time.perf_counter() - begun:.1f} s")
    asked, longest = Analytics(gate.store), 0.0
    with asking(gate) as client:
        for name in NAMES:
            longest = max(longest, timed(questions(asked, name, clients, now), name))
            longest = max(longest, timed(pages(client, name, clients, now), name))
    gate.store.close()
    return longest


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="how long the questions of a dashboard take over 10 million receipts")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 1000, 100_000])
    parser.add_argument("--receipts", type=int, default=RECEIPTS)
    parser.add_argument("--directory", help="where the ledgers are made, and deleted")
    parser.add_argument("--reuse", type=Path, help="where they are kept instead, and asked again the next time")
    options = parser.parse_args(arguments)
    longest = 0.0
    for clients in options.clients:
        with tempfile.TemporaryDirectory(prefix="slmgate-pages-", dir=options.directory) as name:
            state = Path(name) if options.reuse is None else options.reuse / f"{clients}-{options.receipts}"
            path, begun = state / "ledger.sqlite3", time.perf_counter()
            if not path.exists():
                state.mkdir(parents=True, exist_ok=True)
                Filling(path, clients, options.receipts).fill()
            size, took = path.stat().st_size / 1e6, time.perf_counter() - begun
            print(f"{options.receipts:,} receipts of {clients:,} clients, {size:,.0f} MB, in {took:.0f} s", flush=True)
            longest = max(longest, ask(state, clients, _BEGIN + timedelta(days=DAYS, seconds=-1000)))
    print(f"the longest took {longest * 1000:,.0f} ms, of {LIMIT * 1000:.0f} that it may")
    return 0 if longest < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
