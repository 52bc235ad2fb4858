"""What seeing costs: processor time for each request with metrics, access log and traces (a tenth of them), and without.

`python -m bench.seeing` takes the same receipts (of 50 clients, 4 models and 8 instances, half of them streams) into a fresh
ledger in five ways, which take turns in changing order, and prints the medians and what each adds in the control process; spans
go to a collector in a process of its own. A scrape is timed too. On the road only tracing costs anything, for what is counted are
the receipts that it writes anyway: that is timed with `bench.road`, with tracing and without in turns.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.road import Road
from bench.rooms import a_receipt, encode
from slmgate.control.access.targets import Target
from slmgate.control.access_log import AccessLog
from slmgate.control.admin.context import GateStatus
from slmgate.control.config.tracing_options import Tracing as Options
from slmgate.control.ledger import Ingest
from slmgate.control.metrics.service import AGAIN_SECONDS, Metrics
from slmgate.control.tracing.export import GATHER_SECONDS, Exporter
from slmgate.control.tracing.export import Target as Collector
from slmgate.control.tracing.service import Tracing
from slmgate.dataplane.journal import Journal
from slmgate.http1.trace_context import threshold
from slmgate.policy.specs import TracingSpec
from slmgate.stores.parted import Parted
from slmgate.stores.sql import open_store

RECEIPTS = 20_000
ROUNDS = 16
AIM = 4.0
"""Microseconds of processor time that everything may add to a request."""
SAMPLED = 10
"""Of so many requests one is traced."""


class Way(NamedTuple):
    """What is on."""

    metrics: bool = False
    log: bool = False
    traces: bool = False


WAYS = {
    "nothing": Way(),
    "metrics": Way(metrics=True),
    "access log": Way(log=True),
    "traces": Way(traces=True),
    "everything": Way(True, True, True),
}


class _Nobody:
    """A gate without limits, as a scrape sees it."""

    config = None

    def status(self) -> GateStatus:
        return GateStatus(ledger_lag=0.0)


class _Collector(BaseHTTPRequestHandler):
    """It takes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def receipts(*, traced: bool) -> list[bytes]:
    """Journaled records, as workers write them: where requests are traced, every tenth says so."""
    made = []
    for number in range(RECEIPTS):
        client, model = number % 50, number % 4
        one = msgspec.structs.replace(
            a_receipt(number),
            principal=f"client-{client}",
            key=f"key-{client}",
            model=f"model-{model}",
            instance=f"instance-{number % 8}",
            stream=bool(client % 2),
            queue_us=40 + number % 900,
            overhead_us=30 + number % 90,
            first_byte_us=3000 + number % 50_000,
            total_us=90_000 + number * 7919 % 5_000_000,
            trace=os.urandom(16).hex() if traced and number % SAMPLED == 0 else "",
        )
        made.append(encode(one))
    return made


class Traced:
    """Tracing that lasts over all rounds, as in a gate that runs: what the first spans set up is not counted again and again."""

    def __init__(self, collector: int) -> None:
        made: list[Exporter] = []

        def make(name: str, target: Collector, around: Callable[[Iterable[bytes]], bytes]) -> Exporter:
            made.append(Exporter(name, target, around))
            return made[-1]

        self._tracing = Tracing(make)
        self._tracing.wants(Options(otlp=f"http://127.0.0.1:{collector}", sample=1 / SAMPLED))
        self._tracing.configure()
        [self._exporter] = made
        self._spans = 0

    def take(self, receipts: Parted) -> None:
        self._tracing.take(receipts)

    def wait(self) -> None:
        """Until the collector has all; ends the program if it never has."""
        end = time.monotonic() + 30
        before = -1
        while self._exporter.sent > before and time.monotonic() < end:
            before = self._exporter.sent
            time.sleep(2 * GATHER_SECONDS)  # longer than a batch is gathered: who has sent nothing meanwhile has nothing left
        if self._exporter.dropped or self._exporter.sent == self._spans:
            sys.exit(f"{self._exporter}: the figures would be too good")
        self._spans = self._exporter.sent


def taken(records: list[bytes], directory: Path, way: Way, traced: Traced) -> tuple[float, float]:
    """Microseconds of processor time for each receipt, and milliseconds for a scrape after it (0: nobody counts)."""
    where = directory / "segments"
    journal = Journal(where, "d" * 12, 32 * 1024 * 1024)
    for record in records:
        journal.receipt(record)
    store = open_store(directory / "ledger.sqlite")
    log = AccessLog([Target(directory / "access.log")]) if way.log else None
    metrics = Metrics(directory / "metrics.json", where, store)
    metrics.begin()
    heard = [*([metrics.count] if way.metrics else []), *([traced.take] if way.traces else [])]

    def hear(parted: Parted) -> None:
        for each in heard:
            each(parted)

    count: Callable[[Parted], None] | None = hear if heard else None
    reader = Ingest(store, where, log.write if log is not None else None, count)
    begun = time.process_time_ns()
    while reader.run_once():
        if way.metrics:
            metrics.keep(now=True)
    if log is not None:
        log.close()
    if way.traces:
        traced.wait()
    took = (time.process_time_ns() - begun) / len(records) / 1000
    scrape = 0.0
    if way.metrics:
        nobody: Any = _Nobody()
        asyncio.run(metrics.scrape(nobody, ""))  # the library is read once
        time.sleep(AGAIN_SECONDS)  # before that a scrape is told the text of the one before
        begun = time.process_time_ns()
        asyncio.run(metrics.scrape(nobody, ""))
        scrape = (time.process_time_ns() - begun) / 1e6
    journal.close()
    store.close()
    return took, scrape


def told(name: str, each: list[float], bare: list[float]) -> float:
    """Print one row; returns what it adds."""
    more = statistics.median(with_it - without for with_it, without in zip(each, bare, strict=True))
    print(f"{name:16} {statistics.median(each):6.2f} us ({min(each):.2f}-{max(each):.2f})   adds {more:+.2f} us")
    return more


def control(rounds: int) -> float:
    """The control process: what everything adds to a receipt."""
    records = {traced: receipts(traced=traced) for traced in (False, True)}
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    scrapes: list[float] = []
    ways = list(WAYS.items())
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    collector = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    collector.start()
    try:
        traced = Traced(server.server_port)
        with tempfile.TemporaryDirectory(prefix="slmgate-seeing-") as directory:
            taken(records[True], Path(directory), WAYS["everything"], traced)  # what is set up once is set up
        for number in range(rounds):
            for name, way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                with tempfile.TemporaryDirectory(prefix="slmgate-seeing-") as directory:
                    took, scrape = taken(records[way.traces], Path(directory), way, traced)
                found[name].append(took)
                if scrape:
                    scrapes.append(scrape)
    finally:
        collector.terminate()
        server.server_close()
    print(f"control, {RECEIPTS:,} receipts, {rounds} rounds, processor time for each, medians (least to most)")
    added = [told(name, each, found["nothing"]) for name, each in found.items()]
    print(f"{'a scrape':16} {statistics.median(scrapes):6.1f} ms")
    return added[-1]


def road(rounds: int) -> float:
    """A worker: what tracing adds to a request."""
    with tempfile.TemporaryDirectory(prefix="slmgate-seeing-") as directory:
        spec = TracingSpec(threshold(1 / SAMPLED), True)
        ways = {"not traced": Road(Path(directory, "without")), "traced": Road(Path(directory, "with"), tracing=spec)}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
                found[name].append(way.measure())
    print(f"worker, in process, {rounds} rounds of it")
    return [told(name, each, found["not traced"]) for name, each in found.items()][-1]


def main() -> int:
    more = control(ROUNDS) + road(5 * ROUNDS)
    print(f"everything on adds {more:.1f} us to a request; the aim is at most {AIM:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
