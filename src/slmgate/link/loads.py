"""The board of loads: a page of memory in which each worker says how many requests it has in flight at each instance.

A row for each worker, a column for each instance that is chosen among others. A worker writes its own cells and reads those of
the others, so that what is least busy is so for the whole node. Columns are given out under a lock by the instance's id, and free
again when no row marks them; the row of a dead worker is struck out. It does not know how an instance is chosen.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from operator import add

COLUMNS = 8192
"""Of these the first is nobody's; of instances for which there is none, each worker knows only its own requests."""
MARK = 1 << 31
"""In a cell: its worker has this instance, and the rest of the cell is how many are in flight there."""
_DIRECTORY = COLUMNS * 8  # who has each column: a digest of the instance's id. In the first's place: how often that changed
_ROW = COLUMNS * 4


def create(rows: int) -> int:
    """A new board; its file descriptor, to be inherited by the children. Only what is used of it takes memory."""
    fd = os.memfd_create("slmgate-loads", 0)
    os.ftruncate(fd, _DIRECTORY + rows * _ROW)
    return fd


def strike(fd: int, row: int) -> None:
    """The worker of this row is dead: what it had in flight is so no more. Takes no descriptor: there may be none left."""
    os.pwrite(fd, bytes(_ROW), _DIRECTORY + row * _ROW)


class Loads:
    """One worker's view of the board, whose row is struck out first: it may be a dead one's."""

    __slots__ = ("_directory", "_fd", "_free", "_known", "_map", "_others", "_seen", "cells", "workers")

    def __init__(self, fd: int, row: int, rows: int) -> None:
        strike(fd, row)
        self._fd = fd
        self._map = memoryview(mmap.mmap(fd, _DIRECTORY + rows * _ROW))
        self._directory = self._map[:_DIRECTORY].cast("Q")
        each = [self._map[_DIRECTORY + index * _ROW : _DIRECTORY + (index + 1) * _ROW].cast("I") for index in range(rows)]
        self.workers = rows
        self.cells = each.pop(row)
        """This worker's own: it writes `MARK` and what it has in flight."""
        self._others = each
        # the directory as it was at the change `_seen`
        self._seen = -1
        self._known: dict[int, int] = {}
        self._free: list[int] = []

    def claim(self, ids: Iterable[str]) -> dict[str, int]:
        """A column for each of these instances, marked as in use by this worker; without those for which there is none left."""
        claimed: dict[str, int] = {}
        fcntl.lockf(self._fd, fcntl.LOCK_EX)  # a record lock: it ends with its process, and knows processes apart
        try:
            self._read_directory()
            for id in ids:
                digest = int.from_bytes(blake2b(id.encode(), digest_size=8).digest()) or 1
                column = self._known.get(digest)
                if column is None:
                    if not self._free and not self._free_unmarked():
                        continue
                    column = self._free.pop()
                    self._write(column, digest)
                    self._known[digest] = column
                self.cells[column] = MARK
                claimed[id] = column
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        return claimed

    def others(self, columns: Sequence[int]) -> list[int]:
        """What the other workers have in flight at each of these, now. Takes time for each of them and each worker."""
        if not columns:
            return []
        first, end = min(columns), max(columns) + 1
        if end - first > 2 * len(columns) + 8:  # far apart
            return [sum([row[column] & ~MARK for row in self._others]) for column in columns]
        sums = [0] * (end - first)
        for row in self._others:
            sums = list(map(add, sums, row[first:end].tolist()))
        return [sums[column - first] & (MARK - 1) for column in columns]

    def _read_directory(self) -> None:
        if self._seen == self._directory[0]:
            return
        column_of = {digest: column for column, digest in enumerate(self._directory.tolist()) if digest and column}
        used = set(column_of.values())
        self._known, self._free = column_of, [column for column in range(COLUMNS - 1, 0, -1) if column not in used]
        self._seen = self._directory[0]

    def _write(self, column: int, digest: int) -> None:
        self._directory[column] = digest
        self._seen += 1
        self._directory[0] = self._seen

    def _free_unmarked(self) -> bool:
        """Give up the columns that no worker has. Under the lock, since who claims marks. False: there are none."""
        sums = self.cells.tolist()
        for row in self._others:
            sums = list(map(add, sums, row.tolist()))
        for column in range(1, COLUMNS):
            if not sums[column]:
                self._write(column, 0)
        self._seen = -1
        self._read_directory()
        return bool(self._free)
