"""A worker's journal as tests need it: writes segments with the format's own helpers, and dies wherever it is told to.

It stands for `dataplane/journal.py` in tests of the reading side and shares nothing with it but the format.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from zlib import crc32

import msgspec

from slmgate.link import journal
from slmgate.terms import Intent, Receipt

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def make_intent(id: str, **fields: object) -> Intent:
    values: dict[str, object] = {
        "id": id, "request_id": id, "time": NOON, "key": "k1", "principal": "bot", "team": "acme", "model": "smollm2",
        "instance": "i1", "dialect": "openai", "endpoint": "chat", "prompt_tokens": 7,
    }  # fmt: skip
    return msgspec.convert(values | fields, Intent)


def make_receipt(id: str, **fields: object) -> Receipt:
    values: dict[str, object] = {
        "id": id, "request_id": id, "time": NOON, "method": "POST", "path": "/v1/chat/completions", "status": 200,
        "verdict": "admit", "reason": "ok", "ended": "complete", "principal": "bot", "key": "k1", "team": "acme",
        "dialect": "openai", "endpoint": "chat", "model": "smollm2", "instance": "i1", "prompt_tokens": 7,
        "completion_tokens": 5, "total_us": 1200, "attempts": 1,
    }  # fmt: skip
    return msgspec.convert(values | fields, Receipt)


def framed(payload: bytes) -> bytes:
    return (journal.FRAME.pack(len(payload), crc32(payload)) + payload).ljust(journal.padded(len(payload)), b"\0")


def encoded(record: Intent | Receipt) -> bytes:
    return msgspec.json.encode(record)


class Segment:
    """One segment file. Held (locked) until it is sealed or its writer `dies`."""

    def __init__(self, directory: Path, incarnation: str, sequence: int = 1, size: int = 64 * 1024) -> None:
        self.path = directory / journal.segment_name(incarnation, sequence)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.ftruncate(self._fd, size)
        os.pwrite(self._fd, journal.new_header(), 0)
        self.end = journal.HEADER_SIZE

    def write(self, *records: Receipt) -> None:
        for record in records:
            self.write_raw(framed(encoded(record)))

    def write_raw(self, data: bytes) -> None:
        os.pwrite(self._fd, data, self.end)
        self.end += len(data)

    def write_torn(self, record: Receipt, stage: int) -> bool:
        """The first `stage` bytes of a write, in the order a worker makes them: the payload, then its frame at once.

        Returns whether the record is whole.
        """
        payload = encoded(record)
        os.pwrite(self._fd, payload[:stage], self.end + journal.FRAME.size)
        if stage <= len(payload):
            return False
        os.pwrite(self._fd, journal.FRAME.pack(len(payload), crc32(payload)), self.end)
        self.end += journal.padded(len(payload))
        return True

    def seal(self) -> None:
        os.pwrite(self._fd, b"\1", journal.SEALED_OFFSET)

    def die(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.die()


class Table:
    """The table of intents of a worker run, of so many slots. Held (locked) until its writer `dies`."""

    def __init__(self, directory: Path, incarnation: str, slots: int = 8) -> None:
        self.path = directory / journal.intents_name(incarnation)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.ftruncate(self._fd, journal.HEADER_SIZE + slots * journal.SLOT)
        os.pwrite(self._fd, journal.new_header(journal.INTENTS_MAGIC), 0)
        self.slots: dict[str, int] = {}  # the ids of what is under way
        self._free = [journal.HEADER_SIZE + number * journal.SLOT for number in range(slots)]

    def take(self, *intents: Intent) -> None:
        for intent in intents:
            self.slots[intent.id] = self._free.pop()
            self.take_raw(self.slots[intent.id], encoded(intent))

    def take_raw(self, at: int, payload: bytes) -> None:
        os.pwrite(self._fd, payload, at + journal.FRAME.size)
        os.pwrite(self._fd, journal.FRAME.pack(len(payload), crc32(payload)), at)

    def take_torn(self, intent: Intent, stage: int) -> bool:
        """The first `stage` bytes of it, in the order in which a worker makes them. Returns whether it is whole."""
        payload = encoded(intent)
        if stage > len(payload):
            self.take(intent)
            return True
        os.pwrite(self._fd, payload[:stage], self._free[-1] + journal.FRAME.size)
        return False

    def give_back(self, id: str) -> None:
        at = self.slots.pop(id)
        os.pwrite(self._fd, bytes(journal.FRAME.size), at)
        self._free.append(at)

    def die(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.die()
