"""What seeing costs: processor time of the control process for each receipt, with metrics and access log and without.

`python -m bench.seeing` takes the same receipts (of 50 clients, 4 models and 8 instances, half of them streams) into a fresh
ledger in four ways, which take turns in changing order, and prints the medians and what each adds. A scrape is timed too. The
road itself does the same work whether anybody looks or not: what is counted are the receipts that it writes anyway.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.rooms import a_receipt, encode
from slmgate.control.access.targets import Target
from slmgate.control.access_log import AccessLog
from slmgate.control.admin.context import GateStatus
from slmgate.control.ledger import Ingest
from slmgate.control.metrics.service import AGAIN_SECONDS, Metrics
from slmgate.dataplane.journal import Journal
from slmgate.stores.parted import Parted
from slmgate.stores.sql import open_store

RECEIPTS = 20_000
ROUNDS = 8
WAYS = {"nothing": (False, False), "metrics": (True, False), "access log": (False, True), "both": (True, True)}


class _Nobody:
    """A gate without limits, as a scrape sees it."""

    config = None

    def status(self) -> GateStatus:
        return GateStatus(ledger_lag=0.0)


def receipts() -> list[bytes]:
    """Journaled records, as workers write them."""
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
        )
        made.append(encode(one))
    return made


def taken(records: list[bytes], directory: Path, counts: bool, logs: bool) -> tuple[float, float]:
    """Microseconds of processor time for each receipt, and milliseconds for a scrape after it (0: nobody counts)."""
    where = directory / "segments"
    journal = Journal(where, "d" * 12, 32 * 1024 * 1024)
    for record in records:
        journal.receipt(record)
    store = open_store(directory / "ledger.sqlite")
    log = AccessLog([Target(directory / "access.log")]) if logs else None
    metrics = Metrics(directory / "metrics.json", where, store)
    metrics.begin()
    count: Callable[[Parted], None] | None = metrics.count if counts else None
    reader = Ingest(store, where, log.write if log is not None else None, count)
    begun = time.process_time_ns()
    while reader.run_once():
        if counts:
            metrics.keep(now=True)
    if log is not None:
        log.close()
    took = (time.process_time_ns() - begun) / len(records) / 1000
    scrape = 0.0
    if counts:
        nobody: Any = _Nobody()
        asyncio.run(metrics.scrape(nobody, ""))  # the library is read once
        time.sleep(AGAIN_SECONDS)  # before that a scrape is told the text of the one before
        begun = time.process_time_ns()
        asyncio.run(metrics.scrape(nobody, ""))
        scrape = (time.process_time_ns() - begun) / 1e6
    journal.close()
    store.close()
    return took, scrape


def main() -> int:
    records = receipts()
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    scrapes: list[float] = []
    ways = list(WAYS.items())
    for number in range(ROUNDS):
        for name, (counts, logs) in ways[number % len(ways) :] + ways[: number % len(ways)]:
            with tempfile.TemporaryDirectory(prefix="slmgate-seeing-") as directory:
                took, scrape = taken(records, Path(directory), counts, logs)
            found[name].append(took)
            if scrape:
                scrapes.append(scrape)
    print(f"{RECEIPTS:,} receipts, {ROUNDS} rounds, processor time for each, medians (least to most)")
    bare = found["nothing"]
    for name, each in found.items():
        more = statistics.median(with_it - without for with_it, without in zip(each, bare, strict=True))
        print(f"{name:12} {statistics.median(each):6.2f} us ({min(each):.2f}-{max(each):.2f})   adds {more:+.2f} us")
    print(f"{'a scrape':12} {statistics.median(scrapes):6.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
