"""The metrics of a gate: from receipts in a real ledger to the text for scrapers, over restarts of the control process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from slmgate.control.metrics import service as module
from slmgate.control.metrics.gauges import Use
from slmgate.control.metrics.kept import read
from slmgate.control.metrics.service import AGAIN_SECONDS, KEEP_SECONDS, MAX_RUNS, Metrics
from slmgate.link.messages import Tally
from slmgate.stores.base import Store
from slmgate.stores.parted import parted
from slmgate.stores.records import Batch, LedgerUnavailable
from slmgate.stores.sql import open_store
from tests.tools.admin_gate import AdminGate
from tests.tools.fakes import Clock
from tests.tools.journal_writer import Segment, make_receipt

DONE = 'slmgate_requests_total{code="200",ended="complete",endpoint="chat",model="smollm2"}'


class Kept:
    """One state directory, and the control processes that come one after the other."""

    def __init__(self, state_dir: Path) -> None:
        self.gate = AdminGate(state_dir)
        self.file = state_dir / "metrics.json"
        self.store: Store = self.gate.store
        self.clock = Clock()
        self.metrics = self.gate.metrics
        self.restart()

    def restart(self) -> None:
        self.metrics = Metrics(self.file, self.file.parent, self.store, clock=self.clock.monotonic)
        self.metrics.begin()

    def ingest(self, *ids: str) -> None:
        """As the ledger's thread does it."""
        self.metrics.count(self.store.write(Batch(receipts=[make_receipt(id) for id in ids])))

    def value(self, name: str) -> float | None:
        return told(self.scraped(), name)

    def scraped(self, accept: str = "") -> str:
        self.clock.passed += AGAIN_SECONDS
        return asyncio.run(self.metrics.scrape(self.gate, accept))[0].decode()


def told(text: str, name: str) -> float | None:
    return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_each_receipt_once(kept: Kept) -> None:
    kept.ingest("r1", "r2")
    kept.ingest("r2", "r3", "r3")
    assert kept.value(DONE) == 3


def test_figures_that_are_there_before_anything_happens(kept: Kept) -> None:
    text = kept.scraped()
    names = ("guarded_requests_total", "bans_total", "worker_restarts_total", "shadow_requests_total", "log_dropped_lines_total")
    assert [told(text, f"slmgate_{name}") for name in names] == [0.0] * len(names)
    assert told(text, 'slmgate_connections_refused_total{why="shed"}') == 0
    assert told(text, "slmgate_overhead_duration_seconds_count") == 0
    assert told(text, "slmgate_trace_dropped_spans_total") == 0


@pytest.mark.parametrize("kept_first", [True, False])
def test_counters_go_on_after_a_restart(kept: Kept, kept_first: bool) -> None:
    """What was counted after the file was written is counted from the ledger; a file is there from the first round on."""
    kept.ingest("r1", "r2")
    kept.metrics.keep(now=kept_first)
    kept.store.write(Batch(receipts=[make_receipt("r3")]))  # and died before it was counted
    kept.restart()
    assert kept.value(DONE) == 3
    kept.ingest("r3", "r4")
    kept.metrics.keep(now=True)
    kept.restart()
    assert kept.value(DONE) == 4


def test_pages_of_what_was_missed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    kept.metrics.keep(now=True)
    kept.store.write(Batch(receipts=[make_receipt(f"r{number}") for number in range(10)]))
    kept.restart()
    assert kept.value(DONE) == 10


def test_without_a_file_they_begin_at_zero(kept: Kept) -> None:
    kept.ingest("r1")
    kept.file.unlink(missing_ok=True)
    kept.restart()
    assert kept.value(DONE) is None
    kept.ingest("r2")
    assert kept.value(DONE) == 1


@pytest.mark.parametrize(("seq", "begins"), [(-1, 2), (0, 1), (9, None)])
def test_a_file_of_another_ledger(kept: Kept, seq: int, begins: int | None) -> None:
    kept.ingest("r1")
    kept.metrics.keep(now=True)
    kept.file.write_text(kept.file.read_text().replace('"seq":1', f'"seq":{1 + seq}'))
    kept.restart()
    assert kept.value(DONE) == begins


def test_too_much_was_missed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MISSED", 1)
    kept.ingest("r1")
    kept.restart()
    assert kept.value(DONE) == 1
    kept.ingest("r2", "r3")
    kept.restart()
    assert kept.value(DONE) is None


def test_they_are_kept_now_and_then(kept: Kept) -> None:
    kept.ingest("r0")
    kept.metrics.keep()
    found = read(kept.file)
    assert found is not None and found.seq == 0, "it is not time yet"
    kept.clock.passed += KEEP_SECONDS
    kept.metrics.keep()
    first = kept.file.stat().st_mtime_ns
    kept.clock.passed += KEEP_SECONDS
    kept.metrics.keep()
    assert kept.file.stat().st_mtime_ns == first, "nothing has changed"
    kept.ingest("r1")
    kept.metrics.keep()
    found = read(kept.file)
    assert found is not None and found.seq == 2


def test_nothing_is_kept_before_it_has_begun(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "m", tmp_path, open_store(tmp_path / "l"))
    metrics.keep(now=True)
    assert not (tmp_path / "m").exists()
    assert repr(metrics).startswith("<Metrics up to 0")


# --- workers


def tally(bans: int = 0, guarded: int = 0, turned_away: int = 0, shed: int = 0, unjournaled: int = 0) -> Tally:
    return Tally(0, 1, 0, 0, 0, unjournaled, turned_away=turned_away, guarded=guarded, bans=bans, shed=shed)


def test_what_workers_say_grows_over_their_deaths(kept: Kept) -> None:
    kept.metrics.told("a", tally(bans=2, guarded=5, turned_away=1, shed=3, unjournaled=4))
    kept.metrics.told("a", tally(bans=3, guarded=5, turned_away=1, shed=3, unjournaled=4))
    kept.metrics.told("b", tally(bans=1))
    kept.metrics.told("b", tally(bans=1))
    text = kept.scraped()
    assert told(text, "slmgate_bans_total") == 4
    assert told(text, "slmgate_guarded_requests_total") == 5
    assert told(text, "slmgate_unrecorded_requests_total") == 4
    assert [told(text, f'slmgate_connections_refused_total{{why="{why}"}}') for why in ("turned_away", "shed")] == [1, 3]
    kept.metrics.keep(now=True)
    kept.restart()
    kept.metrics.told("a", tally(bans=5))
    assert kept.value("slmgate_bans_total") == 6


def test_restarts_of_workers(kept: Kept) -> None:
    for place, run in [("g/0", "a"), ("g/1", "b"), ("g/0", "a"), ("g/0", "c"), ("h/0", "d")]:
        kept.metrics.joined(place, run)
    assert kept.value("slmgate_worker_restarts_total") == 1
    kept.metrics.keep(now=True)
    kept.restart()
    kept.metrics.joined("g/1", "e")
    assert kept.value("slmgate_worker_restarts_total") == 2


def test_who_comes_before_the_counts_are_there(kept: Kept) -> None:
    kept.metrics.joined("g/0", "a")
    kept.metrics.told("a", tally(bans=2))
    kept.metrics.keep(now=True)
    late = Metrics(kept.file, kept.file.parent, kept.store)
    late.joined("g/0", "b")
    late.told("a", tally(bans=3))
    late.begin()
    late.begin()
    late.told("a", tally(bans=3))
    kept.metrics = late
    text = kept.scraped()
    assert (told(text, "slmgate_bans_total"), told(text, "slmgate_worker_restarts_total")) == (3, 1)


def test_however_many_workers_die(kept: Kept) -> None:
    for number in range(MAX_RUNS + 50):
        kept.metrics.joined(f"g/{number}", "a")
        kept.metrics.told(f"r{number}", tally(bans=1))
    kept.metrics.keep(now=True)
    found = read(kept.file)
    assert found is not None and (len(found.workers), len(found.slots)) == (MAX_RUNS, MAX_RUNS)
    assert kept.value("slmgate_bans_total") == MAX_RUNS + 50


def test_what_counts_by_itself_in_this_process(kept: Kept) -> None:
    lines = 3
    kept.metrics.watch("slmgate_log_dropped_lines_total", lambda: lines)
    assert kept.value("slmgate_log_dropped_lines_total") == 3
    lines = 5
    kept.metrics.keep(now=True)
    kept.restart()
    assert kept.value("slmgate_log_dropped_lines_total") == 5


def test_reloads(kept: Kept) -> None:
    at = kept.metrics.reloaded_at
    kept.metrics.reloaded(False)
    assert kept.value("slmgate_config_last_reload_successful") == 0
    assert kept.metrics.reloaded_at == at
    kept.metrics.reloaded(True)
    assert kept.metrics.reloaded_at >= at and kept.metrics.reloaded_well


# --- scrapers


def test_many_scrapers_at_once_are_one_work(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = Metrics._text

    def counted(self: Metrics, status: object, limits: Sequence[Use] | None, accept: str) -> bytes:
        made.append(accept)
        return real(self, status, limits, accept)

    monkeypatch.setattr(Metrics, "_text", counted)

    async def crowd() -> set[bytes]:
        asked = [kept.metrics.scrape(kept.gate, accept) for accept in ["", "application/openmetrics-text;version=1.0.0"] * 100]
        return {text for text, _ in await asyncio.gather(*asked)}

    assert len(asyncio.run(crowd())) == 2
    assert len(made) == 2
    kept.clock.passed += 1.0
    kept.ingest("r1")
    assert kept.value(DONE) == 1


def test_a_scraper_waits_for_the_counts(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEGIN_SECONDS", 0.0)
    kept.metrics = Metrics(kept.file, kept.file.parent, kept.store)
    with pytest.raises(LedgerUnavailable, match="still being counted"):
        kept.scraped()


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "silent"])
def test_a_ledger_that_is_away(kept: Kept, monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """What is counted is told all the same, and what waits for it is not told as nothing; of threads that hang there is one."""
    kept.ingest("r1")
    segment = Segment(kept.file.parent, "0123456789ab")
    segment.write(make_receipt("r2"))
    there = segment.end
    kept.store.write(Batch(positions={segment.path.name: there}))
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0 if hangs else 60.0)
    kept.restart()
    segment.write(make_receipt("r3"))
    back, asked = threading.Event(), 0

    def away() -> dict[str, int]:
        nonlocal asked
        asked += 1
        if hangs:
            back.wait(60)
        raise LedgerUnavailable("gone")

    async def scraped() -> str:
        kept.clock.passed += AGAIN_SECONDS
        text, _ = await kept.metrics.scrape(kept.gate, "")
        return text.decode()

    async def both() -> list[str]:
        found = [await scraped(), await scraped()]
        back.set()
        return found

    monkeypatch.setattr(kept.store, "positions", away)
    for text in asyncio.run(both()):
        assert (told(text, "slmgate_workers"), told(text, "slmgate_journal_waiting_bytes")) == (1, segment.end - there)
    assert asked == (1 if hangs else 2)


def test_plans(kept: Kept) -> None:
    kept.metrics.plans = lambda: [Use(("acme", "gold"), 0.25)]
    assert kept.value('slmgate_plan_used_ratio{plan="gold",team="acme"}') == 0.25


def test_nothing_new_is_nothing(kept: Kept) -> None:
    kept.metrics.keep(now=True)
    kept.metrics.count(parted([]))
    before = kept.file.stat().st_mtime_ns
    kept.metrics.keep(now=True)
    assert kept.file.stat().st_mtime_ns == before
