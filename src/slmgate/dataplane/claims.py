"""Whose are the slots of the limit table: each living worker claims one, and who dies leaves it to be settled.

A worker's number does not say it: while one gate takes over from another, the workers of both count in one table. So a claim is a
kernel lock (`fcntl`) on a byte of the file, which ends with its process, and a mark in the header, by which a slot is found whose
worker has died. It knows the lock that changes of the table are made under, and no cell, hold or amount.

These locks do not tell the tables of one process apart, which a worker never has several of; what this process has claimed is
remembered here, so that it does not take its own for a dead worker's.
"""

from __future__ import annotations

import errno
import fcntl
import os

MAX_WORKERS = 128
"""Slots of a table: workers of all gates that share it."""
MARKS = MAX_WORKERS // 32
"""Words of marks."""
_CHANGES, _WAITING, _CLAIMS = 0, 1, 2
"""Bytes of the file that are locked: for a change, by who waits to make one, and for each slot from here on."""

_ours: set[tuple[int, int, int]] = set()


class Claims:
    """One worker's view of them. All but `lock`, `unlock`, `is_waited_for` and `marked` are called inside the lock."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        status = os.fstat(fd)
        self._file = (status.st_dev, status.st_ino)
        self._marks = memoryview(bytearray(MARKS * 8)).cast("q")
        self._slot = -1

    def __repr__(self) -> str:
        return f"<Claims: ours is {self._slot}, marked {self.marked()}>"

    def lock(self) -> None:
        """Wait for the lock of changes, so that one who keeps it for a while sees that it is waited for."""
        fcntl.lockf(self._fd, fcntl.LOCK_SH, 1, _WAITING)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, _CHANGES)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _WAITING)

    def unlock(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _CHANGES)

    def is_waited_for(self) -> bool:
        """Whether somebody stands in `lock`."""
        return not self._try(_WAITING)

    def begin(self, marks: memoryview) -> None:
        """The words of the header that the marks stand in."""
        self._marks = marks

    def claim(self, wanted: int, workers: int) -> int:
        """A slot: the one `wanted` of so many, or where a living worker has that, another. Raises OSError: all are taken."""
        slots: list[int] = [*range(wanted, MAX_WORKERS, workers), *range(MAX_WORKERS)]
        for slot in slots:
            # one of this process's own is claimed again only as its successor's
            if (slot == wanted or not self._is_ours(slot)) and self._try(_CLAIMS + slot, keep=True):
                self._marks[slot // 32] |= 1 << (slot % 32)
                self._slot = slot
                _ours.add((*self._file, slot))
                return slot
        raise OSError(errno.EUSERS, os.strerror(errno.EUSERS))

    def is_left(self, slot: int) -> bool:
        """Whether no living worker has this slot."""
        return not self._is_ours(slot) and self._try(_CLAIMS + slot)

    def marked(self) -> list[int]:
        """The slots of others that were claimed, and not settled since."""
        words: list[int] = self._marks.tolist()
        if not any(words):
            return []
        return [slot for slot in range(MAX_WORKERS) if words[slot // 32] >> slot % 32 & 1 and slot != self._slot]

    def alone(self) -> bool:
        """Whether no other worker has a slot."""
        return all(self.is_left(slot) for slot in self.marked())

    def settled(self, slot: int) -> None:
        """What this slot's dead worker had is no more."""
        self._marks[slot // 32] &= ~(1 << slot % 32)

    def close(self) -> None:
        """With the file: the kernel drops the claim then."""
        self._marks.release()
        _ours.discard((*self._file, self._slot))

    def _is_ours(self, slot: int) -> bool:
        return (*self._file, slot) in _ours

    def _try(self, byte: int, *, keep: bool = False) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as fcntl(2) has it
            return False
        if not keep:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)
        return True
