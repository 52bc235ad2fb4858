"""The ingest: from the workers' journal segments into the ledger, each receipt exactly once.

What makes it exact is one transaction for each step: receipts, intents still open and how far the segments were taken
are written together or not at all, so the ingest may be killed anywhere and goes on from what the store says. It knows
the journal's format and the store's protocol; it does not know who calls it, how often, or what a receipt means.

The life of a segment, seen from here: *live* while its worker holds its lock; *final* once sealed, or once the lock can
be had because the worker is dead; gone when a final segment was taken to its end. Segments of one worker run (an
incarnation) are taken in order. When an incarnation has no segment left, its intents without receipt can never get one,
and are settled as `unknown`. This relies on two promises of the writer: a segment gets its name only once it is locked,
and a new segment is there before the old one is sealed.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from slmgate.control.keyfields import DECLARED
from slmgate.dialects import PATHS
from slmgate.link import journal
from slmgate.policy.billing import cost, read_price
from slmgate.stores.base import Batch, KeyUse, LedgerStore
from slmgate.terms import Intent, Receipt

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
_read_intent = msgspec.json.Decoder(Intent).decode
_write_receipts = msgspec.json.Encoder().encode_lines
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_INTENT, _RECEIPT = journal.INTENT[0], journal.RECEIPT[0]


State = Literal["waiting", "more", "done", "corrupt"]
"""After a segment was looked at: all taken but its worker may write; there is more to take, or its end to see; at its end;
not readable further."""


class _Step:
    """What one step has read and not yet written."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.lines = b""  # the receipts as they were journaled, a line each: what goes into the access log
        self.intents: dict[bytes, bytes] = {}  # payloads without receipt so far, by the text that both begin with
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
        # Both mirror the store, so that a step asks it nothing; read again after any failure.
        self._positions: dict[str, int] | None = None
        self._open: dict[str, Intent] = {}
        self._names = InventedNames()

    def __repr__(self) -> str:
        known = "not read yet" if self._positions is None else f"{len(self._positions)} segments, {len(self._open)} open intents"
        return f"<Ingest {known}>"

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
            self._open = {intent.id: intent for intent in self._store.open_intents()}
            self._positions = self._store.positions()
        taken = 0
        for _ in range(_MAX_STEPS):
            step = self._read(self._positions)
            if step.positions or step.finished:
                self._commit(step, self._positions)
                taken += len(step.receipts)
            if not step.more:
                break
        return taken + self._settle()

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
        opened = list(_still_open(step.intents))
        closed = [receipt.id for receipt in step.receipts if receipt.id in self._open] if self._open else []
        # A position is dropped only once its segment is seen to be gone: until then it is what keeps it from being read twice.
        forgotten = [name for name in positions if name not in step.positions and not (self._dir / name).exists()]
        batch = Batch(
            receipts=step.receipts,
            opened=opened,
            closed=closed,
            positions=step.positions,
            forgotten=forgotten,
            used=newest_uses(step.receipts),
        )
        if step.positions or forgotten:
            self._store.write(batch)
        positions.update(step.positions)
        for name in forgotten:
            del positions[name]
        for id in closed:
            del self._open[id]
        self._open.update((intent.id, intent) for intent in opened)
        for found in step.unreadable:
            _keep_unreadable(*found)
        if step.lines and self._access_log is not None:
            self._access_log(step.lines)
        if step.finished:
            self._store.make_durable()
            for path, state in step.finished.items():
                _remove(path, state, positions.get(path.name, journal.HEADER_SIZE))

    def _settle(self) -> int:
        """Close the intents of incarnations that have no segment left: their receipts can come from nowhere."""
        if not self._open:
            return 0
        alive = self._segments()  # listed after the last segment was removed, so a new one would be here
        orphans = [intent for intent in self._open.values() if intent.id[:_INCARNATION] not in alive]
        if not orphans:
            return 0
        receipts = [unknown_receipt(intent) for intent in orphans]
        self._store.write(Batch(receipts=receipts, closed=[intent.id for intent in orphans]))
        for intent in orphans:
            del self._open[intent.id]
        if self._access_log is not None:
            self._access_log(_write_receipts(receipts))
        return len(receipts)


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


def unknown_receipt(intent: Intent) -> Receipt:
    """The receipt of a request that was forwarded and whose worker died: what came of it is not known, its prompt is charged."""
    known = read_price(intent.price)
    return Receipt(
        id=intent.id,
        request_id=intent.request_id,
        time=intent.time,
        method="",
        path="",
        status=0,
        verdict="admit",
        reason="worker_died",
        ended="unknown",
        principal=intent.principal,
        key=intent.key,
        team=intent.team,
        roles=intent.roles,
        dialect=intent.dialect,
        endpoint=intent.endpoint,
        model=intent.model,
        instance=intent.instance,
        stream=intent.stream,
        prompt_tokens=intent.prompt_tokens,
        estimated=True,
        attempts=1,
        address=intent.address,
        worker=intent.worker,
        plan=intent.plan,
        price=intent.price,
        cost=0 if known is None else cost(intent.prompt_tokens, 0, known[1]),
    )


def _sort(path: Path, payloads: list[bytes], step: _Step) -> None:
    """Put each payload where it belongs in the step. What is done for all of them is done by the batch."""
    intents, receipts = step.intents, [payload for payload in payloads if payload[0] == _RECEIPT]
    # `id` is the first field of both records, so that the two of one request find each other without being decoded
    begun = {payload[1 : payload.find(b",")]: payload for payload in payloads if payload[0] == _INTENT}
    intents |= begun
    if len(receipts) + len(begun) < len(payloads):
        others = (payload for payload in payloads if payload[0] not in (_INTENT, _RECEIPT))
        step.unreadable += [(path, payload, "it is neither an intent nor a receipt") for payload in others]
    lines = b"\n".join([payload[1:] for payload in receipts])
    try:
        decoded = _read_receipts(lines)
    except _UNREADABLE:
        decoded = []
    if len(decoded) != len(receipts):  # one of them is damaged, or no line: which one?
        receipts, decoded = _one_by_one(path, receipts, step)
        lines = b"\n".join([payload[1:] for payload in receipts])
    step.receipts += decoded
    step.lines += lines and lines + b"\n"
    for payload in receipts:
        intents.pop(payload[1 : payload.find(b",")], None)


def _one_by_one(path: Path, payloads: list[bytes], step: _Step) -> tuple[list[bytes], list[Receipt]]:
    """The receipts among these that can be understood, as they were and decoded; the others go aside."""
    good: list[bytes] = []
    decoded: list[Receipt] = []
    for payload in payloads:
        try:
            decoded.append(_read_receipt(payload[1:]))
            good.append(payload)
        except _UNREADABLE as error:
            step.unreadable.append((path, payload, str(error)))
    return good, decoded


def _still_open(intents: dict[bytes, bytes]) -> Iterator[Intent]:
    for name, payload in intents.items():
        try:
            yield _read_intent(payload[1:])
        except _UNREADABLE as error:
            _log.error("The intent %r cannot be understood (%s): no receipt if its worker dies.", name[:60], error)


def _is_final(segment: int) -> bool:
    """Nobody will write to this segment any more: it is sealed, or its lock is free because its worker is dead."""
    header = os.pread(segment, journal.HEADER_SIZE, 0)
    if len(header) == journal.HEADER_SIZE and journal.is_sealed(header):
        return True
    try:
        fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True  # closing the descriptor gives the lock back


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


def _keep_unreadable(path: Path, payload: bytes, fault: str) -> None:
    """Append a record that does not decode to a file of its own, one a line: the rest of its segment is good."""
    beside = path.with_name(f"{path.name}.bad")
    _log.error("A record in %s cannot be understood (%s); it is kept in %s and not in the ledger.", path, fault, beside)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as kept:
        kept.write(payload + b"\n")


def _remove(path: Path, state: State, position: int) -> None:
    if state == "corrupt":
        beside = path.with_name(f"{path.name}.bad")
        _log.error("The segment %s is damaged at byte %d: what follows is not in the ledger. Kept as %s.", path, position, beside)
        path.rename(beside)
    else:
        path.unlink()
