"""Receipts on disk before the client's last byte: a copy into a memory-mapped segment, no system call per record.

The writing side of `link/journal.py`'s format. A record survives the death of every process from the moment `receipt()`
returns; this module does not know who reads it, nor what it says. Space is taken from the disk ahead (`posix_fallocate`),
so that a full disk shows here as a refusal before the work, never as a fault in the middle of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from slmgate.link.journal import (
    FRAME,
    HEADER_SIZE,
    MAX_RECORD,
    SEALED_OFFSET,
    WORD,
    new_header,
    segment_name,
)

NEEDED = 2 * MAX_RECORD
"""Bytes of `Journal.room` that one more request takes at the most: its intent and its receipt."""

_FRAME_SIZE = FRAME.size
_pack_frame = FRAME.pack_into


class _Segment:
    """One mapped file, locked while this process lives and has not sealed it."""

    __slots__ = ("at", "fd", "map", "size")

    def __init__(self, path: Path, size: int) -> None:
        """Raises OSError when the disk has no room for the whole segment; nothing is left behind then."""
        # It gets its name when it is locked and begun: control takes an unlocked segment for a dead worker's.
        unnamed = path.with_suffix(".new")
        self.fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            os.posix_fallocate(self.fd, 0, size)
            self.map = mmap.mmap(self.fd, size)
            self.map[:HEADER_SIZE] = new_header()
            os.rename(unnamed, path)
        except (OSError, MemoryError):
            os.unlink(unnamed)
            os.close(self.fd)
            raise
        self.size = size
        self.at = HEADER_SIZE

    def seal(self) -> None:
        WORD.pack_into(self.map, SEALED_OFFSET, 1)
        self.map.close()
        os.close(self.fd)


class Journal:
    """This worker's journal: the segment being written, one more in reserve, and room kept for what is still open.

    `open_intents` counts the intents whose receipt has yet to come; each has space set aside, so that work once
    admitted can always be recorded.
    """

    __slots__ = ("_current", "_directory", "_incarnation", "_sequence", "_size", "_spare", "open_intents", "room")

    def __init__(self, directory: Path, incarnation: str, segment_size: int) -> None:
        self._directory = directory
        self._incarnation = incarnation
        self._size = segment_size
        self._sequence = 0
        self._spare: _Segment | None = None
        self._current: _Segment | None = None
        self.open_intents = 0
        self.room = 0  # bytes that may still be written, without what is set aside for open intents
        self.prepare()

    def __repr__(self) -> str:
        return f"<Journal {self._incarnation}: {self._sequence} segments, {self.open_intents} open, {self.room} bytes left>"

    def prepare(self) -> bool:
        """Take a reserve segment from the disk if there is none. False: the disk has no room now; ask again later."""
        try:
            if self._current is None:
                self._current = self._allocate()
            if self._spare is None:
                self._spare = self._allocate()
        except (OSError, MemoryError):
            return False
        finally:
            self._count()
        return True

    def _allocate(self) -> _Segment:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        segment = _Segment(self._directory / segment_name(self._incarnation, self._sequence + 1), self._size)
        self._sequence += 1
        return segment

    def _count(self) -> None:
        """Work out `room` afresh, when segments have come or gone."""
        room = 0
        for segment in (self._current, self._spare):
            if segment is not None:
                room += segment.size - segment.at - MAX_RECORD  # the last record may not fit behind the others
        self.room = room - self.open_intents * MAX_RECORD

    def intent(self, intent: bytes) -> None:
        """Record that work is about to begin (`link.journal.INTENT` and its JSON); its receipt must follow.

        Only with `room` for `NEEDED` bytes.
        """
        self._write(intent)
        self.open_intents += 1
        self.room -= MAX_RECORD

    def receipt(self, receipt: bytes, closes_intent: bool) -> bool:
        """Record a finished request (`link.journal.RECEIPT` and its JSON).

        False, nothing written: no room, which only a request without an intent can meet.
        """
        if not closes_intent and self.room < MAX_RECORD:
            return False
        self._write(receipt)
        if closes_intent:
            self.open_intents -= 1
            self.room += MAX_RECORD
        return True

    def _write(self, payload: bytes) -> None:
        segment = self._current
        size = len(payload)
        whole = (_FRAME_SIZE + size + 7) & ~7
        if segment is None or segment.at + whole + _FRAME_SIZE > segment.size:
            segment = self._roll()
        at, mapped = segment.at, segment.map
        start, end, left = at + _FRAME_SIZE, at + whole, self.room - whole
        # Payload first, then length and checksum: a record cut short is no record. Behind them nothing can fail.
        mapped[start : start + size] = payload
        _pack_frame(mapped, at, size, crc32(payload))
        segment.at, self.room = end, left

    def _roll(self) -> _Segment:
        """Go on in the reserve segment. Raises OSError when there is none; who looked at `room` before never meets that."""
        if self._spare is None:
            self.prepare()
        full, self._current, self._spare = self._current, self._spare, None
        if full is not None:
            full.seal()
        self.prepare()
        if self._current is None:
            raise OSError("the journal has no room")
        return self._current

    def syncer(self) -> Callable[[], None]:
        """A call for another thread, which forces what is written so far to the disk (for the loss of power)."""
        segment = self._current
        fd = os.dup(segment.fd) if segment is not None else -1

        def sync() -> None:
            if fd >= 0:
                with contextlib.suppress(OSError):  # a disk that fails shows when the next segment is taken
                    os.fdatasync(fd)
                os.close(fd)

        return sync

    def close(self) -> None:
        """Seal everything: this worker writes no more."""
        for segment in (self._current, self._spare):
            if segment is not None:
                with contextlib.suppress(OSError):
                    segment.seal()
        self._current = self._spare = None
