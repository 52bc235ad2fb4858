"""Records on disk before what they must precede: copies into memory-mapped files, no system call per record.

The writing side of `link/journal.py`'s format. A receipt survives the death of every process from the moment `receipt()`
returns, an intent from the moment `intent()` does; this module does not know who reads them, nor what they say. Space is taken
from the disk ahead (`posix_fallocate`), so that a full disk shows here as a refusal before the work, never as a fault in the
middle of it.
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
    INTENTS_MAGIC,
    MAGIC,
    MAX_RECORD,
    SEALED_OFFSET,
    SLOT,
    WORD,
    intents_name,
    new_header,
    segment_name,
)

NEEDED = 2 * MAX_RECORD
"""Bytes of `Journal.room` that one more request must find: for its receipt, and for that of a refusal for want of room."""
SLOTS = 128
"""By how many slots a table of intents grows."""

_FRAME_SIZE = FRAME.size
_LONGEST_INTENT = SLOT - _FRAME_SIZE
_NO_SLOT = 2**40  # what `room` is short of while every slot is taken and no more can be had
_WARM = 128 * 1024
_COLD = bytes(_WARM)
_pack_frame = FRAME.pack_into


def _begin(path: Path, size: int, magic: bytes) -> tuple[int, mmap.mmap]:
    """A new file of zeros behind its header, open, locked and mapped.

    Raises OSError when the disk has no room for the whole of it; nothing is left behind then.
    """
    # It gets its name when it is locked and begun: control takes an unlocked one for a dead worker's.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unnamed = path.with_suffix(".new")
    fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.posix_fallocate(fd, 0, size)
        mapped = mmap.mmap(fd, size)
        mapped[:HEADER_SIZE] = new_header(magic)
        os.rename(unnamed, path)
    except (OSError, MemoryError):
        os.unlink(unnamed)
        os.close(fd)
        raise
    return fd, mapped


class _Segment:
    """One mapped segment, locked while this process lives and has not sealed it."""

    __slots__ = ("at", "fd", "map", "size", "warm")

    def __init__(self, path: Path, size: int) -> None:
        self.fd, self.map = _begin(path, size, MAGIC)
        self.size = size
        self.at = HEADER_SIZE
        self.warm = 0  # how far its pages are in memory

    def warm_up(self, end: int) -> None:
        """Have the pages up to `end`, and some more, in memory.

        Zeros over zeros: what is written in large pieces the kernel keeps in large pieces, so that the mapping meets a fault
        for each of those and not for every page. It is a good part of what a record costs.
        """
        while self.warm < end:
            begin = self.warm
            start, self.warm = max(begin, HEADER_SIZE), min(begin + _WARM, self.size)
            with contextlib.suppress(OSError):  # it is only for speed
                os.pwrite(self.fd, _COLD[: self.warm - start], start)

    def seal(self) -> None:
        WORD.pack_into(self.map, SEALED_OFFSET, 1)
        self.map.close()
        os.close(self.fd)


class _Intents:
    """The mapped table of intents of this worker run, locked while this process lives and has not closed it.

    `free` holds the offsets of the slots that may be taken, the first `left` of them, the one given back last at the end: it is
    still in the processor's cache. It has a place for every slot, so that to give one back needs no memory.
    """

    __slots__ = ("fd", "free", "left", "map", "size")

    def __init__(self, path: Path) -> None:
        self.size = HEADER_SIZE + SLOTS * SLOT
        self.fd, self.map = _begin(path, self.size, INTENTS_MAGIC)
        self.free = list(range(self.size - SLOT, 0, -SLOT))
        self.left = len(self.free)

    def grow(self) -> None:
        """Add slots to a table of which all are taken. Raises OSError, with nothing changed, when the disk has no room."""
        added = range(self.size + (SLOTS - 1) * SLOT, self.size - 1, -SLOT)
        free = [*added, *self.free]
        size = self.size + SLOTS * SLOT
        os.posix_fallocate(self.fd, self.size, SLOTS * SLOT)
        self.map.resize(size)
        self.free, self.left, self.size = free, len(added), size

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


class Journal:
    """This worker's journal: the segment being written, one more in reserve, and the intents of what is under way.

    Each open intent has space set aside for its receipt, so that work once admitted can always be recorded.
    """

    __slots__ = ("_closed", "_current", "_directory", "_incarnation", "_intents", "_sequence", "_size", "_spare", "room")

    def __init__(self, directory: Path, incarnation: str, segment_size: int) -> None:
        self._directory = directory
        self._incarnation = incarnation
        self._size = segment_size
        self._sequence = 0
        self._closed = False
        self._spare: _Segment | None = None
        self._current: _Segment | None = None
        self._intents: _Intents | None = None
        self.room = 0  # bytes that may still be written, without what is set aside for open intents
        self.prepare()

    def __repr__(self) -> str:
        return f"<Journal {self._incarnation}: {self._sequence} segments, {self.open_intents} open, {self.room} bytes left>"

    @property
    def open_intents(self) -> int:
        """How many intents wait for their receipt."""
        intents = self._intents
        return 0 if intents is None else len(intents.free) - intents.left

    def prepare(self) -> bool:
        """Take from the disk what is missing. False: it has no room now, ask again later; or this journal was closed."""
        if self._closed:
            return False
        try:
            if self._current is None:
                self._current = self._allocate()
            if self._intents is None:
                self._intents = _Intents(self._directory / intents_name(self._incarnation))
            elif not self._intents.left:
                self._intents.grow()
            if self._spare is None:
                self._spare = self._allocate()
        except (OSError, MemoryError):
            return False
        finally:
            self._count()
        return True

    def _allocate(self) -> _Segment:
        segment = _Segment(self._directory / segment_name(self._incarnation, self._sequence + 1), self._size)
        self._sequence += 1
        return segment

    def _count(self) -> None:
        """Work out `room` afresh, when segments or slots have come or gone."""
        room = 0
        for segment in (self._current, self._spare):
            if segment is not None:
                room += segment.size - segment.at - MAX_RECORD  # the last record may not fit behind the others
        if self._intents is None or not self._intents.left:
            room -= _NO_SLOT
        self.room = room - self.open_intents * MAX_RECORD

    def intent(self, intent: bytes) -> int:
        """Record that work is about to begin (JSON of a `terms.Intent`). Returns its slot, which its receipt must give back.

        Only with `room` for `NEEDED` bytes.
        """
        table, size, room = self._intents, len(intent), self.room - MAX_RECORD
        if table is None or size > _LONGEST_INTENT:
            raise ValueError(f"an intent of {size} bytes has no slot")
        mapped, left = table.map, table.left - 1
        at = table.free[left]
        start = at + _FRAME_SIZE
        # Payload first, then length and checksum: a record cut short is no record. Behind them nothing can fail.
        mapped[start : start + size] = intent
        _pack_frame(mapped, at, size, crc32(intent))
        table.left, self.room = left, room
        if not left:
            self.prepare()
        return at

    def receipt(self, receipt: bytes, slot: int = 0) -> bool:
        """Record a finished request (JSON of a `terms.Receipt`), and give back the `slot` of its intent (0: none).

        False, nothing written: no room, which only a request without an intent can meet.
        """
        if not slot and self.room < MAX_RECORD:
            return False
        segment, size = self._current, len(receipt)
        whole = (_FRAME_SIZE + size + 7) & ~7
        if segment is None or segment.at + whole + _FRAME_SIZE > segment.warm:
            segment = self._go_on(whole)
        at, mapped, room = segment.at, segment.map, self.room - whole
        start, end = at + _FRAME_SIZE, at + whole
        # As above. The intent stands until the receipt does: who dies in between leaves both, and the receipt counts.
        mapped[start : start + size] = receipt
        _pack_frame(mapped, at, size, crc32(receipt))
        segment.at = end
        table = self._intents
        if slot and table is not None:
            _pack_frame(table.map, slot, 0, 0)
            left = table.left
            table.free[left] = slot
            table.left = left + 1
            room += MAX_RECORD
        self.room = room
        if room < 0:
            self._count()
        return True

    def forget(self, slot: int) -> None:
        """Give back the slot of an intent without a receipt: what it told of is not being done any more."""
        table = self._intents
        if table is not None:
            _pack_frame(table.map, slot, 0, 0)
            table.free[table.left] = slot
            table.left += 1
            self._count()

    def _go_on(self, whole: int) -> _Segment:
        """The segment for a record that takes so many bytes, with warm pages. Raises OSError when there is no room.

        Who looked at `room` before never meets that.
        """
        segment = self._current
        if segment is None or segment.at + whole + _FRAME_SIZE > segment.size:
            if self._spare is None:
                self.prepare()
            full, self._current, self._spare = self._current, self._spare, None
            if full is not None:
                full.seal()
            self.prepare()
            segment = self._current
            if segment is None:
                raise OSError("the journal has no room")
        segment.warm_up(segment.at + whole + _FRAME_SIZE)
        return segment

    def syncer(self) -> Callable[[], None]:
        """A call for another thread, which forces what is written so far to the disk (for the loss of power)."""
        # in this order: a slot must not be seen given back where its receipt is not to be seen yet
        fds: list[int] = []
        with contextlib.suppress(OSError):  # no descriptor is left: the next one forces this as well
            fds += (os.dup(file.fd) for file in (self._current, self._intents) if file is not None)

        def sync() -> None:
            for fd in fds:
                with contextlib.suppress(OSError):  # a disk that fails shows when the next segment is taken
                    os.fdatasync(fd)
                os.close(fd)

        return sync

    def close(self) -> None:
        """Seal everything: this worker writes no more. Intents that are still open are control's to settle."""
        for segment in (self._current, self._spare):
            if segment is not None:
                with contextlib.suppress(OSError):
                    segment.seal()
        if self._intents is not None:
            self._intents.close()
        self._current = self._spare = self._intents = None
        self._closed = True
        self._count()
