"""The metrics of one gate: counts receipts as they come into the ledger, keeps the counts, and answers scrapers.

Receipts are counted in the thread that brings them into the ledger, scrapers are answered from the event loop, and the text is
made in a thread of its own: of many scrapers at once, one has the work and all have its result. What is behind the figures is
told to it, and no request waits for any of it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from slmgate.control.metrics import kept, waiting
from slmgate.control.metrics.counting import Counts
from slmgate.control.metrics.families import BOUNDS, BY_NAME, FROM_RECEIPTS, FROM_WORKERS
from slmgate.control.metrics.gauges import Beside, Use, samples
from slmgate.control.metrics.limits import LimitsInUse
from slmgate.control.metrics.patience import Patience
from slmgate.link.messages import Tally
from slmgate.stores.base import Store
from slmgate.stores.parted import Parted, parted
from slmgate.stores.records import LedgerUnavailable, ReceiptFilter

if TYPE_CHECKING:
    from slmgate.control.admin.context import AdminContext

KEEP_SECONDS = 5.0
"""How often the counts are written down, if they have changed."""
AGAIN_SECONDS = 0.5
"""For how long a text is told again: as long as receipts may take to come into the ledger."""
MAX_MISSED = 500_000
"""Receipts that are counted from the ledger at a start. Of more, counters begin at zero."""
BEGIN_SECONDS = 8.0
"""How long a scraper waits for the counts to be there: scrapers give up after 10."""
LOOK_SECONDS = 4.0
"""How long a scraper waits for what the database or workers have to say: without it, it is told the rest."""
PAGE = 1000
MAX_RUNS = 1000
"""Worker runs of which it is known what they told last."""

_TOLD = ("turned_away", "shed", "guarded", "bans", "unjournaled")
_SERIES: tuple[tuple[str, ...], ...] = (
    ("slmgate_connections_refused_total", "turned_away"),
    ("slmgate_connections_refused_total", "shed"),
    ("slmgate_guarded_requests_total",),
    ("slmgate_bans_total",),
    ("slmgate_unrecorded_requests_total",),
)


class Metrics:
    """See above. `begin`, `count` and `keep` are the ledger's thread's, all else is called on the event loop."""

    def __init__(
        self,
        file: Path,
        journal_dir: Path,
        store: Store,
        clients: int = BOUNDS["client"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`file` is where the counts are kept."""
        self._file = file
        self._journal_dir = journal_dir
        self._store = store
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()  # over the counts, for as long as it takes to count a step or to copy them
        self._counts = Counts(clients)
        self._begun = threading.Event()
        self._early: list[tuple[str, str]] = []  # workers that were here before
        self._seq = 0  # the ledger's newest receipt among those that were counted
        self._changed = False
        self._kept_at = clock()
        # of workers, as they told last
        self._runs: dict[str, tuple[int, ...]] = {}
        self._slots: dict[str, str] = {}
        # of this process
        self._watched: list[tuple[str, Callable[[], int]]] = []
        self._seen: dict[str, int] = {}
        self._limits = LimitsInUse()
        self._limits_said = Patience[Sequence[Use] | None](LOOK_SECONDS)
        self._taken: Mapping[str, int] = {}  # how far the ledger had taken each segment when it was asked last
        self._taken_said = Patience[Mapping[str, int]](LOOK_SECONDS)
        self._answering = asyncio.Lock()
        self._texts: dict[str, tuple[float, bytes]] = {}
        self.plans: Callable[[], Sequence[Use]] = lambda: ()
        """How much each team has used of what its plan includes; called in a thread."""
        self.reloaded_well = True
        self.reloaded_at = time.time()

    def __repr__(self) -> str:
        return f"<Metrics up to {self._seq}: {self._counts!r}>"

    # -- receipts, in the ledger's thread

    def begin(self) -> None:
        """Go on where the counts were left, and count what came into the ledger since. Raises LedgerUnavailable."""
        if self._begun.is_set():
            return
        newest, taken = self._store.billing.newest(), self._store.positions()
        found = kept.read(self._file)
        counts = Counts(self._clients)
        if found is not None and 0 <= newest - found.seq <= MAX_MISSED:
            kept.restore(found, counts)
            after = found.seq
            while page := self._store.receipts(ReceiptFilter(), PAGE, after=after):
                counts.count(parted([one.receipt for one in page]))
                after = page[-1].seq
            newest = max(newest, after)
        for family in (*FROM_RECEIPTS, *FROM_WORKERS):  # so that they are there before the first one is counted
            if family.kind == "counter" and not family.labels:
                counts.series(family.name)
        for name, *labels in _SERIES:
            counts.series(name, *labels)
        counts.histogram("slmgate_overhead_duration_seconds")
        with self._lock:
            self._counts = counts
            if found is not None:
                self._runs, self._slots = dict(found.workers), dict(found.slots)
            self._seq, self._changed, self._taken = newest, True, taken
            early, self._early = self._early, []
            self._begun.set()
        for place, run in early:
            self.joined(place, run)
        self.keep(now=True)  # from the first receipt on, each is in what was kept, or behind it in the ledger

    def count(self, receipts: Parted) -> None:
        """These receipts have just come into the ledger, each for the first time."""
        if len(receipts):
            with self._lock:
                self._counts.count(receipts)
            self._changed = True

    def keep(self, now: bool = False) -> None:
        """Write the counts down, if it is time. All that is in the ledger must have been counted. Raises LedgerUnavailable."""
        if not (self._begun.is_set() and (now or self._clock() - self._kept_at >= KEEP_SECONDS)):
            return
        with self._lock:
            self._look()
        if not self._changed:
            return
        self._changed = False
        self._seq = self._store.billing.newest()
        with self._lock:
            what = kept.kept_of(self._counts, self._seq, self._runs, self._slots)
        kept.write(self._file, what)
        self._kept_at = self._clock()

    # -- workers and this process, on the event loop

    def watch(self, name: str, number: Callable[[], int]) -> None:
        """Something counts by itself for the family of this name, which has no labels, from zero in this process."""
        self._watched.append((BY_NAME[name].name, number))

    def _look(self) -> None:
        for name, number in self._watched:
            now = number()
            if now != self._seen.get(name, 0):
                self._counts.series(name)[0] += max(0, now - self._seen.get(name, 0))
                self._seen[name] = now
                self._changed = True

    def joined(self, place: str, run: str) -> None:
        """A worker run has come to a place that one has; `place` tells those of other gates apart."""
        with self._lock:
            if not self._begun.is_set():
                self._early.append((place, run))
                return
            before = self._slots.pop(place, run)
            self._slots[place] = run
            if len(self._slots) > MAX_RUNS:
                del self._slots[next(iter(self._slots))]
            self._counts.series("slmgate_worker_restarts_total")[0] += before != run
        self._changed, self._kept_at = True, float("-inf")  # so rare, and so telling, that it is kept at the next round

    def told(self, run: str, tally: Tally) -> None:
        """What a worker run says of itself; its counters only grow."""
        now = tuple(getattr(tally, name) for name in _TOLD)
        before = self._runs.get(run)
        if before == now or not self._begun.is_set():
            return  # what it has counted until then comes with its next word
        with self._lock:
            before = self._runs.pop(run, None) or (0,) * len(now)
            self._runs[run] = now
            if len(self._runs) > MAX_RUNS:
                del self._runs[next(iter(self._runs))]
            for (name, *labels), old, new in zip(_SERIES, before, now, strict=True):
                self._counts.series(name, *labels)[0] += max(0, new - old)
        self._changed = True

    def reloaded(self, well: bool) -> None:
        """The configuration was read, and taken or not."""
        self.reloaded_well = well
        if well:
            self.reloaded_at = time.time()

    # -- scrapers

    async def scrape(self, context: AdminContext, accept: str) -> tuple[bytes, str]:
        """The text for a scraper with this Accept, and its content type. Raises LedgerUnavailable: nothing is counted yet."""
        from slmgate.control.metrics import exposition  # what it rests on is wanted by nobody who is not asked for figures

        kind = exposition.form(accept)
        async with self._answering:
            if not self._begun.is_set() and not await asyncio.to_thread(self._begun.wait, BEGIN_SECONDS):
                raise LedgerUnavailable("The receipts that came meanwhile are still being counted.")
            at, text = self._texts.get(kind, (float("-inf"), b""))
            if self._clock() - at >= AGAIN_SECONDS:
                limits, _ = await asyncio.gather(
                    self._limits_said.ask(lambda: self._limits.look(context, self._last_callers())), self._ask_how_far()
                )
                status = context.status()
                text = await asyncio.to_thread(self._text, status, limits, accept)
                self._texts = {**dict(list(self._texts.items())[-3:]), kind: (self._clock(), text)}
        return text, kind

    async def _ask_how_far(self) -> None:
        """While the ledger does not say how far it is, it is where it was: nothing comes into it then."""
        with suppress(LedgerUnavailable):
            said = await self._taken_said.ask(lambda: asyncio.to_thread(self._store.positions))
            self._taken = self._taken if said is None else said

    def _last_callers(self) -> list[tuple[str, str, str | None, str]]:
        with self._lock:
            return self._counts.callers()

    def _text(self, status: object, limits: Sequence[Use] | None, accept: str) -> bytes:
        from slmgate.control.admin.context import GateStatus
        from slmgate.control.metrics import exposition

        assert isinstance(status, GateStatus)
        with self._lock:
            self._look()
            counters, histograms = self._counts.copied()
        beside = Beside(
            ledger_up=status.ledger_lag == 0.0,
            waiting_bytes=self._waiting(),
            reloaded_well=self.reloaded_well,
            reloaded_at=self.reloaded_at,
            plans=self.plans(),
            limits=limits,
        )
        return exposition.told(exposition.Picture(counters, histograms, samples(status, beside)), accept)

    def _waiting(self) -> int:
        try:
            return waiting.waiting_bytes(self._journal_dir, self._taken)
        except OSError:
            return 0
