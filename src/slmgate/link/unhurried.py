"""stdout and stderr of the gate's own processes, as streams that never wait for who reads them.

Who stops a terminal (Ctrl-S), or has a pager or a log driver that sleeps, must not stop the gate with it: a line that nobody
takes within a moment is left out, and the next one that is taken says how many were. Everything that writes to `sys.stderr` of a
process goes through this, loggers and tracebacks too. It knows no line's meaning.
"""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

PATIENCE = 0.1
"""Seconds that a line may wait for room, once; where there was none, the next ones do not wait at all until there is."""
_ATOMIC = 4096
"""Bytes that a pipe which can be written to takes at once (pipe(7))."""
_LOST = b"slmgate: %d pieces of this log are missing here: nobody took them\n"


class Unhurried(io.RawIOBase):
    """Writes to an open file, of which pipes, terminals and sockets are not waited for."""

    def __init__(self, fd: int, patience: float = PATIENCE) -> None:
        super().__init__()
        self._fd = fd
        self._patience = patience
        self._put, self._end = _way(fd)
        self._lost = 0
        self._torn = False  # the last piece broke off in the middle

    def __repr__(self) -> str:
        return f"<Unhurried {self._fd}: {self._lost} pieces missing>"

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """The file itself stays open: it is the process' own."""
        if not self.closed:
            self._end()
        super().close()

    def write(self, data: Any, /) -> int:
        """Take a piece: one line, or a few that belong together. Raises OSError as the file does, but for want of room."""
        piece = bytes(data)
        before = b"\n" * self._torn + (_LOST % self._lost if self._lost else b"")
        until = time.monotonic() + (0.0 if self._lost else self._patience)
        rest = memoryview(before + piece)
        while rest:
            done = self._put(rest)
            rest = rest[done:]
            if not done and not self._room(until):
                break
        taken = len(before) + len(piece) - len(rest)
        if taken >= len(before) and taken:  # what was missing is told; of this piece, all is there, or a part, or nothing
            self._lost, self._torn = int(taken == len(before) and bool(piece)), len(before) < taken and bool(rest)
        elif rest:
            self._lost, self._torn = self._lost + 1, self._torn or bool(taken)
        return len(piece)

    def _room(self, until: float) -> bool:
        left = until - time.monotonic()
        return left > 0 and bool(select.select([], [self._fd], [], left)[1])


def _way(fd: int) -> tuple[Callable[[memoryview], int], Callable[[], object]]:
    """What writes to this file without waiting, and returns how many bytes went (0: there is no room now); and its end."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISSOCK(kind):
        link = socket.socket(fileno=os.dup(fd))
        return lambda data: _tried(lambda: link.send(data, socket.MSG_DONTWAIT)), link.close
    if stat.S_ISREG(kind):
        return lambda data: os.write(fd, data), lambda: None
    try:
        # Opened once more, since not to wait is a property of an open file, which this one shares with other processes.
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # it is another user's, say
        return lambda data: os.write(fd, data[:_ATOMIC]) if select.select([], [fd], [], 0)[1] else 0, lambda: None
    return lambda data: _tried(lambda: os.write(own, data)), lambda: os.close(own)


def _tried(write: Callable[[], int]) -> int:
    try:
        return write()
    except BlockingIOError:
        return 0


def never_wait(name: Literal["stdout", "stderr"]) -> None:
    """From now on, what this process writes there waits for nobody. A stream that is another's, as in tests, stays as it is."""
    stream, fd = getattr(sys, name), 1 if name == "stdout" else 2
    try:
        if stream.fileno() != fd:
            return
        stream.flush()
        made = io.TextIOWrapper(Unhurried(fd), encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]  # as with python -u, there is no buffer between
    except (OSError, ValueError, AttributeError):  # there is none, or it is closed
        return
    setattr(sys, name, made)
