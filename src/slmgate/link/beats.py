"""The board of heartbeats: a page of memory shared by the supervisor and its children, one row for each.

A child writes that it lives and how far it is; the supervisor reads. No system call per beat, nothing to block on, and a
frozen child shows by its silence. It does not know what is done about a silent one.
"""

from __future__ import annotations

import mmap
import os
import time
from struct import Struct

STARTING = 0
READY = 1
_ROW = Struct("=QQ")  # monotonic nanoseconds of the last beat | how far the child is
_SIZE = 4096
ROWS = _SIZE // _ROW.size
DRAINING_ROW = ROWS - 1
"""The supervisor's own row: marked READY once it is stopping, so that control can say 'not ready' at once."""


def create() -> int:
    """A new board; its file descriptor, to be inherited by the children."""
    fd = os.memfd_create("slmgate-beats", 0)
    os.ftruncate(fd, _SIZE)
    return fd


class Beats:
    """One process's view of the board. `row` is a worker's slot, or one that the supervisor gave."""

    __slots__ = ("_map",)

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE)

    def beat(self, row: int) -> None:
        _, state = _ROW.unpack_from(self._map, row * _ROW.size)
        _ROW.pack_into(self._map, row * _ROW.size, time.monotonic_ns(), state)

    def mark(self, row: int, state: int) -> None:
        _ROW.pack_into(self._map, row * _ROW.size, time.monotonic_ns(), state)

    def read(self, row: int) -> tuple[float, int]:
        """Seconds (monotonic) of the row's last beat, and its state."""
        beat, state = _ROW.unpack_from(self._map, row * _ROW.size)
        return beat / 1e9, state
