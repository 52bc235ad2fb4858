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

import msgspec

from slmgate.control.keyfields import DECLARED
from slmgate.control.settling import UNREADABLE, Settling, is_free, keep_unreadable
from slmgate.dialects import PATHS
from slmgate.link import journal
from slmgate.stores.base import Batch, KeyUse, LedgerStore
from slmgate.terms import Receipt

CHUNK = 1024 * 1024
"""Bytes read from one segment in one step. Must hold the largest record twice."""

UNKNOWN = "(unknown)"
"""In the ledger, a path that the gate does not have. Which it was is in the access log."""
MAX_UNKNOWN = 1000
"""Names of models that nobody has, which the ledger learns a day. All further ones are `UNKNOWN`."""

_MAX_STEPS = 256  # of one run, so that a run ends even when workers write as fast as it reads
_INCARNATION = 12  # leading characters of an id

_log = logging.getLogger("slmgate.ledger")
_read_receipt = msgspec.json.Decoder(Receipt).decode
_read_receipts = msgspec.json.Decoder(Receipt).decode_lines
_FORMER_INTENT, _RECEIPT = journal.FORMER_INTENT[0], journal.RECEIPT[0]


State = Literal["waiting", "more", "done", "corrupt"]
"""After a segment was looked at: all taken but its worker may write; there is more to take, or its end to see; at its end;
not readable further."""


class _Step:
    """What one step has read and not yet written."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.lines = b""  # the receipts as they were journaled, a line each: what goes into the access log
        self.positions: dict[str, int] = {}
        self.more = False  # there is surely something for another step
        self.finished: dict[Path, State] = {}
        self.unreadable: list[tuple[Path, bytes, str]] = []


class Ingest:
    """Takes the segments in `journal_dir` into `store`. One at a time; not for use from two threads at once.

    `access_log` is given the receipts of each step as lines of JSON after they are in the store.
    """

    def __init__(self, store: LedgerStore, journal_dir: Path, access_log: Callable[[bytes], None] | None = None) -> None:
        self._store = store
        self._dir = journal_dir
        self._access_log = access_log
        self._settling = Settling(store, journal_dir, access_log)
        # Mirrors the store, so that a step asks it nothing; read again after any failure.
        self._positions: dict[str, int] | None = None
        self._names = InventedNames()

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
        for segments in self._segments().values():
            for path in segments:
                state = self._read_segment(path, positions.get(path.name, journal.HEADER_SIZE), step)
                if state in ("waiting", "more"):
                    step.more = step.more or state == "more"
                    break  # the next one holds what came later
                step.finished[path] = state
        return step

    def _read_segment(self, path: Path, position: int, step: _Step) -> State:
        try:
            segment = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return "waiting"
        try:
            # asked before reading: what a worker wrote before it sealed or died is then all there to be read
            final = _is_final(segment)
            if not final and os.pread(segment, 4, position) in (b"", bytes(4)):
                return "waiting"
            data = os.pread(segment, CHUNK, position)
            payloads, end = journal.read_payloads(data)
            if end:
                _sort(path, payloads, step)
                step.positions[path.name] = position + end
                # What was written while we read is left for the next run: many small steps would cost more than they bring.
                return "more" if final or end + journal.MAX_RECORD > len(data) else "waiting"
            if not final:
                return "waiting"
            return "done" if _ends_cleanly(segment, data, position) else "corrupt"
        finally:
            os.close(segment)

    # Writing

    def _commit(self, step: _Step, positions: dict[str, int]) -> None:
        self._names.bound(step.receipts)
        # A position is dropped only once its segment is seen to be gone: until then it is what keeps it from being read twice.
        forgotten = [name for name in positions if name not in step.positions and not (self._dir / name).exists()]
        batch = Batch(
            receipts=step.receipts,
            positions=step.positions,
            forgotten=forgotten,
            used=newest_uses(step.receipts),
        )
        if step.positions or forgotten:
            self._store.write(batch)
        positions.update(step.positions)
        for name in forgotten:
            del positions[name]
        for found in step.unreadable:
            keep_unreadable(*found)
        if step.lines and self._access_log is not None:
            self._access_log(step.lines)
        if step.finished:
            self._store.make_durable()
            for path, state in step.finished.items():
                _remove(path, state, positions.get(path.name, journal.HEADER_SIZE))


class InventedNames:
    """Bounds what callers can add to the ledger by asking for what is not there.

    Receipts share their path, model and so on in rows that stay for good, as do the sums of each. So a path of no row is one
    word, and of models that are refused as unknown there are so many a day at most. The access log has all as they came.
    """

    def __init__(self) -> None:
        self._day = 0
        self._models: set[str] = set()

    def __repr__(self) -> str:
        return f"<InventedNames {len(self._models)} models>"

    def bound(self, receipts: list[Receipt]) -> None:
        """Replace those that would add too many."""
        for index, receipt in enumerate(receipts):
            if receipt.endpoint == "":
                if receipt.path and receipt.path not in PATHS:
                    receipts[index] = msgspec.structs.replace(receipt, path=UNKNOWN)
            elif receipt.reason == "model_not_found" and not self._is_known(receipt):
                receipts[index] = msgspec.structs.replace(receipt, model=UNKNOWN)

    def _is_known(self, receipt: Receipt) -> bool:
        """Whether it is one of the first unknown ones of the day."""
        day = receipt.time.toordinal()
        if day != self._day:
            self._day = day
            self._models.clear()
        if len(self._models) < MAX_UNKNOWN:
            self._models.add(receipt.model)
        return receipt.model in self._models


def newest_uses(receipts: list[Receipt]) -> dict[str, KeyUse]:
    """When and from where keys were used last, by their ids. Other principals (see `terms.Principal`) are left out.

    A request counts as a use when its key was known, also if it was refused for another reason.
    """
    newest: dict[str, Receipt] = {}
    for receipt in receipts:
        key = receipt.key
        if key is not None:
            known = newest.get(key)
            if known is None or known.time < receipt.time:
                newest[key] = receipt
    return {
        key: KeyUse(receipt.time, receipt.address)
        for key, receipt in newest.items()
        if ":" not in key or key.startswith(DECLARED)
    }


def _sort(path: Path, payloads: list[bytes], step: _Step) -> None:
    """Put each payload where it belongs in the step. What is done for all of them is done by the batch."""
    receipts = [payload for payload in payloads if payload[0] == _RECEIPT]
    if len(receipts) < len(payloads):
        others = [payload for payload in payloads if payload[0] not in (_FORMER_INTENT, _RECEIPT)]
        step.unreadable += [(path, payload, "it is no receipt") for payload in others]
        if len(receipts) + len(others) < len(payloads):
            _log.error("%s is of a former build: requests that it did not finish have no receipt.", path)
    lines = b"\n".join([payload[1:] for payload in receipts])
    try:
        decoded = _read_receipts(lines)
    except UNREADABLE:
        decoded = []
    if len(decoded) != len(receipts):  # one of them is damaged, or no line: which one?
        receipts, decoded = _one_by_one(path, receipts, step)
        lines = b"\n".join([payload[1:] for payload in receipts])
    step.receipts += decoded
    step.lines += lines and lines + b"\n"


def _one_by_one(path: Path, payloads: list[bytes], step: _Step) -> tuple[list[bytes], list[Receipt]]:
    """The receipts among these that can be understood, as they were and decoded; the others go aside."""
    good: list[bytes] = []
    decoded: list[Receipt] = []
    for payload in payloads:
        try:
            decoded.append(_read_receipt(payload[1:]))
            good.append(payload)
        except UNREADABLE as error:
            step.unreadable.append((path, payload, str(error)))
    return good, decoded


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
    rest = os.pread(segment, CHUNK, position)
    while rest:
        if rest != bytes(len(rest)):  # `any` would take the time of thousands of receipts
            return False
        position += len(rest)
        rest = os.pread(segment, CHUNK, position)
    return True


def _remove(path: Path, state: State, position: int) -> None:
    if state == "corrupt":
        beside = path.with_name(f"{path.name}.bad")
        _log.error("The segment %s is damaged at byte %d: what follows is not in the ledger. Kept as %s.", path, position, beside)
        path.rename(beside)
    else:
        path.unlink()
