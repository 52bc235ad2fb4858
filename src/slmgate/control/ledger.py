"""The ingest: from the workers' journal segments into the ledger, each receipt exactly once.

What makes it exact is one transaction for each step: receipts and how far the segments were taken are written together or
not at all, so the ingest may be killed anywhere and goes on from what the store says. It knows the journal's format and the
store's protocol; it does not know who calls it, how often, or what a receipt means.

The life of a segment, seen from here: *live* while its worker holds its lock; *final* once sealed, or once the lock can
be had because the worker is dead; gone when a final segment was taken to its end. Segments of one worker run (an
incarnation) are taken in order. This relies on two promises of the writer: a segment gets its name only once it is locked,
and a new segment is there before the old one is sealed. What a dead worker did not finish is `settling.py`'s affair.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from slmgate.control.reading import OtherForm, Reader, newest_uses
from slmgate.control.settling import UNREADABLE, Settling, is_free, keep_unreadable
from slmgate.link import journal
from slmgate.stores.base import LedgerStore
from slmgate.stores.parted import Parted
from slmgate.stores.records import Batch

STEP = 4 * 1024 * 1024
"""Bytes read in one step, from all workers' segments together. The more, the fewer rows of sums are written for each receipt,
of which there is one for each client and model in a step; it takes about five times the memory."""

_MAX_STEPS = 256  # of one run, so that a run ends even when workers write as fast as it reads
_REST = 1024 * 1024  # bytes of what should be zeros, looked at in one go

_log = logging.getLogger("slmgate.ledger")


State = Literal["waiting", "more", "done", "corrupt"]
"""After a segment was looked at: all taken but its worker may write; there is more to take, or its end to see; at its end;
not readable further."""


class _Step:
    """What one step has read and not yet written."""

    def __init__(self) -> None:
        self.receipts = Parted()
        self.lines: list[bytes] = []  # the receipts as they were journaled, a line each: what goes into the access log
        self.positions: dict[str, int] = {}
        self.more = False  # there is surely something for another step
        self.finished: dict[Path, State] = {}
        self.unreadable: list[tuple[Path, bytes, str]] = []


class Ingest:
    """Takes the segments in `journal_dir` into `store`. One at a time; not for use from two threads at once.

    `access_log` is given the receipts of each step as lines of JSON after they are in the store, `count` those new in it.
    """

    def __init__(
        self,
        store: LedgerStore,
        journal_dir: Path,
        access_log: Callable[[bytes], None] | None = None,
        count: Callable[[Parted], None] | None = None,
    ) -> None:
        self._store = store
        self._dir = journal_dir
        self._access_log = access_log
        self.told: list[Callable[[Parted], None]] = []
        """Who is given the receipts of each step after they are in the store; nothing that waits, and nothing that raises."""
        self._count = count
        self._settling = Settling(store, journal_dir, access_log, count)
        # Mirrors the store, so that a step asks it nothing; read again after any failure.
        self._positions: dict[str, int] | None = None
        self._reader = Reader()

    def __repr__(self) -> str:
        return f"<Ingest {'not read yet' if self._positions is None else f'{len(self._positions)} segments'}>"

    def run_once(self) -> int:
        """Take what is there now; returns the number of receipts taken, the ones settled as `unknown` included.

        Raises LedgerUnavailable: nothing is lost, the next call tries again. OSError: the directory cannot be used.
        """
        try:
            return self._run()
        except BaseException:  # whatever it was, what is remembered here may no longer be what the store holds
            self._positions = None
            raise

    def _run(self) -> int:
        if self._positions is None:
            self._positions = self._store.positions()
        taken = 0
        for _ in range(_MAX_STEPS):
            step = self._read(self._positions)
            if step.positions or step.finished:
                self._commit(step, self._positions)
                taken += len(step.receipts)
            if not step.more:
                break
        return taken + self._settling.run_once()

    # Reading

    def _segments(self) -> dict[str, list[Path]]:
        """The segments there are now: incarnation -> in order of their sequence."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for entry in os.scandir(self._dir):
            parts = journal.parse_segment_name(entry.name)
            if parts is not None:
                found.setdefault(parts[0], []).append((parts[1], self._dir / entry.name))
        return {incarnation: [path for _, path in sorted(numbered)] for incarnation, numbered in found.items()}

    def _read(self, positions: dict[str, int]) -> _Step:
        step = _Step()
        runs = self._segments()
        most = max(STEP // max(1, len(runs)), 2 * journal.MAX_RECORD)
        for segments in runs.values():
            for path in segments:
                state = self._read_segment(path, positions.get(path.name, journal.HEADER_SIZE), most, step)
                if state in ("waiting", "more"):
                    step.more = step.more or state == "more"
                    break  # the next one holds what came later
                step.finished[path] = state
        return step

    def _read_segment(self, path: Path, position: int, most: int, step: _Step) -> State:
        try:
            segment = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return "waiting"
        try:
            # asked before reading: what a worker wrote before it sealed or died is then all there to be read
            final = _is_final(segment)
            if not final and os.pread(segment, 4, position) in (b"", bytes(4)):
                return "waiting"
            data = os.pread(segment, most, position)
            records, end = journal.read_payloads(data)
            if end:
                self._take(path, records, step)
                step.positions[path.name] = position + end
                # What was written while we read is left for the next run: many small steps would cost more than they bring.
                return "more" if final or end + journal.MAX_RECORD > len(data) else "waiting"
            if not final:
                return "waiting"
            return "done" if _ends_cleanly(segment, data, position) else "corrupt"
        finally:
            os.close(segment)

    def _take(self, path: Path, records: list[bytes], step: _Step) -> None:
        """Read these records of one segment into the step. What is done for all of them is done by the batch."""
        try:
            step.receipts.add(self._reader.read(records))
        except OtherForm:  # one of them is damaged, or no line, or of another build: which one?
            records = self._one_by_one(path, records, step)
        if records:
            step.lines.append(b"\n".join([*records, b""]))

    def _one_by_one(self, path: Path, records: list[bytes], step: _Step) -> list[bytes]:
        """Those of these records that can be understood; the others go aside."""
        good: list[bytes] = []
        for record in records:
            try:
                step.receipts.add(self._reader.read_one(record))
                good.append(record)
            except UNREADABLE as error:
                step.unreadable.append((path, record, str(error)))
        return good

    # Writing

    def _commit(self, step: _Step, positions: dict[str, int]) -> None:
        # A position is dropped only once its segment is seen to be gone: until then it is what keeps it from being read twice.
        forgotten = [name for name in positions if name not in step.positions and not (self._dir / name).exists()]
        batch = Batch(
            receipts=step.receipts,
            positions=step.positions,
            forgotten=forgotten,
            used=newest_uses(step.receipts),
        )
        if step.positions or forgotten:
            new = self._store.write(batch)
            if self._count is not None:
                self._count(new)
        positions.update(step.positions)
        for name in forgotten:
            del positions[name]
        for found in step.unreadable:
            keep_unreadable(*found)
        if step.lines and self._access_log is not None:
            self._access_log(b"".join(step.lines))
        if len(step.receipts):
            for tell in self.told:
                tell(step.receipts)
        if step.finished:
            self._store.make_durable()
            for path, state in step.finished.items():
                _remove(path, state, positions.get(path.name, journal.HEADER_SIZE))


def _is_final(segment: int) -> bool:
    """Nobody will write to this segment any more: it is sealed, or its lock is free because its worker is dead."""
    header = os.pread(segment, journal.HEADER_SIZE, 0)
    return (len(header) == journal.HEADER_SIZE and journal.is_sealed(header)) or is_free(segment)


def _ends_cleanly(segment: int, data: bytes, position: int) -> bool:
    """Whether a final segment, in which no whole record begins at `position`, simply ends there.

    A worker that died inside a copy leaves a payload without its frame: at most one record's bytes, behind a length of
    0. Any other bytes are damage.
    """
    if os.pread(segment, len(journal.MAGIC), 0) != journal.MAGIC:
        return False
    if any(data[:4]):
        return False
    position += journal.MAX_RECORD
    rest = os.pread(segment, _REST, position)
    while rest:
        if rest != bytes(len(rest)):  # `any` would take the time of thousands of receipts
            return False
        position += len(rest)
        rest = os.pread(segment, _REST, position)
    return True


def _remove(path: Path, state: State, position: int) -> None:
    if state == "corrupt":
        beside = path.with_name(f"{path.name}.bad")
        _log.error("The segment %s is damaged at byte %d: what follows is not in the ledger. Kept as %s.", path, position, beside)
        path.rename(beside)
    else:
        path.unlink()
