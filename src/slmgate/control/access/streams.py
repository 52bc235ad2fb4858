"""Targets of the access log that are open files: a standard stream, a file that a rotation may move away, or a named pipe.

A line that a full disk took only half of is finished first when there is room again, so that no file has torn lines.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from pathlib import Path
from typing import Literal

from slmgate.control.access.formats import Name
from slmgate.control.access.sink import MAX_BYTES, RETRY_SECONDS, Sink, Tell, is_ready

Standard = Literal["stdout", "stderr"]
_WAIT_SECONDS = 1.0


class StreamSink(Sink):
    """Writes to an open file, as a rule all that waits in one system call."""

    def __init__(
        self, to: Standard | Path, form: Name, tell: Tell, *, max_bytes: int = MAX_BYTES, retry: float = RETRY_SECONDS
    ) -> None:
        """Raises OSError when the file cannot be opened for appending."""
        self._path = to if isinstance(to, Path) else None
        self._file = 2 if to == "stderr" else 1 if self._path is None else _open(self._path)
        self._torn = False  # what is left begins in the middle of a line
        super().__init__(str(to), form, tell, max_bytes=max_bytes, retry=retry)

    def deliver(self, lines: bytes) -> bytes:
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self._written(rest) :]
        except OSError as error:
            self.trouble(f"it cannot be written: {error.strerror}")
        written = len(lines) - len(rest)
        if written:
            self._torn = lines[written - 1 : written] != b"\n"
        return bytes(rest)

    def _written(self, data: memoryview) -> int:
        """Bytes that were written: a pipe may take it in parts, or be set not to block."""
        try:
            return os.write(self._file, data)
        except BlockingIOError:
            if not is_ready(self._file, select.POLLOUT, _WAIT_SECONDS):
                raise
            return 0

    def anew(self, unwritten: bytes) -> bytes:
        if self._path is None:
            return unwritten
        try:
            new = _open(self._path)
        except OSError as error:
            self.trouble(f"it cannot be opened anew, the old file is written on: {error.strerror}")
            return unwritten
        os.close(self._file)
        self._file = new
        if self._torn:  # its beginning is in the old file
            self._torn = False
            self.lost(1, "a line was half written when the file was moved away")
            return unwritten[unwritten.find(b"\n") + 1 :]
        return unwritten

    def end(self) -> None:
        if self._path is not None:
            os.close(self._file)


def _open(path: Path) -> int:
    """Open for appending. To open a named pipe would wait until somebody reads it, which may be never: it is opened for both (see
    fifo(7)), so that lines wait in it, and then here, as with any other pipe that nobody reads."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(path.stat().st_mode):
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
