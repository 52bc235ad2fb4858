"""What dead workers have left: requests that were forwarded, and whose receipt can come from nowhere any more.

A worker's table of intents is looked at when the worker is dead and no segment of its run is left. Of what stands in it then,
whatever has no receipt in the ledger gets one that ended `unknown`. The table goes once that survives a loss of power; until
then all of this may be done again, and comes to the same. It relies on the writer's promises that a file gets its name only
once it is locked, and that an intent stands until its receipt does. It does not know how segments are taken.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from slmgate.link import journal
from slmgate.policy.billing import cost, read_price
from slmgate.stores.base import LedgerStore
from slmgate.stores.parted import Parted
from slmgate.stores.records import Batch
from slmgate.terms import Intent, Receipt

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a record may raise."""

_log = logging.getLogger("slmgate.ledger")
_read_intent = msgspec.json.Decoder(Intent).decode
_write_receipts = msgspec.json.Encoder().encode_lines


class Settling:
    """Settles the tables of intents in `journal_dir`; `access_log` is given the receipts of each as lines of JSON, `count` those
    that are new in the ledger."""

    def __init__(
        self,
        store: LedgerStore,
        journal_dir: Path,
        access_log: Callable[[bytes], None] | None,
        count: Callable[[Parted], None] | None = None,
    ) -> None:
        self._store = store
        self._dir = journal_dir
        self._access_log = access_log
        self._count = count

    def run_once(self) -> int:
        """Settle what can be settled now; returns the number of receipts. Raises LedgerUnavailable, OSError."""
        return sum(map(self._settle, self._left_alone()))

    def _left_alone(self) -> list[Path]:
        """The tables of intents of worker runs that have no segment now."""
        names = [entry.name for entry in os.scandir(self._dir)]
        found = {run: name for name in names if (run := journal.parse_intents_name(name)) is not None}
        if not found:
            return []
        for parts in map(journal.parse_segment_name, names):
            if parts is not None:
                found.pop(parts[0], None)
        return [self._dir / name for name in found.values()]

    def _settle(self, path: Path) -> int:
        """Settle a table of intents, if its worker is dead and all of its segments are taken; and remove it."""
        table = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Looked for again once it is known to be dead: it may have begun a segment since, and died.
            if not is_free(table) or path not in self._left_alone():
                return 0
            with os.fdopen(os.dup(table), "rb") as file:
                data = file.read()
            return self._settle_all(path, data)
        finally:
            os.close(table)

    def _settle_all(self, path: Path, data: bytes) -> int:
        payloads, damaged = journal.read_intents(data)
        if not data.startswith(journal.INTENTS_MAGIC):
            damaged.insert(0, 0)
        intents: list[Intent] = []
        for payload in payloads:
            try:
                intents.append(_read_intent(payload))
            except UNREADABLE as error:
                keep_unreadable(path, payload, str(error))
        # The worker may have died between a receipt and its slot, and this process between the ledger and the file.
        known = self._store.known([intent.id for intent in intents]) if intents else set()
        receipts = [unknown_receipt(intent) for intent in intents if intent.id not in known]
        if receipts:
            new = self._store.write(Batch(receipts=receipts))
            if self._count is not None:
                self._count(new)
            if self._access_log is not None:
                self._access_log(_write_receipts(receipts))
        if intents:
            self._store.make_durable()
        if damaged:
            beside = path.with_name(f"{path.name}.damaged.bad")
            _log.error("The intents in %s are damaged at byte %d: some have no receipt. Kept as %s.", path, damaged[0], beside)
            path.rename(beside)
        else:
            path.unlink()
        return len(receipts)


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


def is_free(file: int) -> bool:
    """Whether the worker that held this file's lock is dead."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True  # closing the descriptor gives the lock back


def keep_unreadable(path: Path, payload: bytes, fault: str) -> None:
    """Append a record that does not decode to a file of its own, one a line: the rest of its segment is good."""
    beside = path.with_name(f"{path.name}.bad")
    _log.error("A record in %s cannot be understood (%s); it is kept in %s and not in the ledger.", path, fault, beside)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as kept:
        kept.write(payload + b"\n")
