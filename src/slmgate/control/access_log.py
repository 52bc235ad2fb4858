"""The access log: one line for each finished request, written in batches by a thread of its own.

The callers' side never waits: lines go into a bounded buffer, and what does not fit, because the reader of a pipe sleeps
or a disk is full, is counted and told in a line of its own. It does not know what a line says.
"""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path
from typing import Literal

from slmgate.control.gatelog import visible

MAX_BYTES = 16 * 1024 * 1024
"""Bytes that may wait to be written; lines beyond are dropped."""

Target = Literal["stdout", "stderr", "off"] | Path


class AccessLog:
    """Writes lines to a standard stream or a file (`target`), `off` to nowhere. Start it by making it, end it with `close`."""

    def __init__(self, target: Target, max_bytes: int = MAX_BYTES) -> None:
        """Raises OSError when the file cannot be opened for appending."""
        self._target = target
        self._path = target if isinstance(target, Path) else None
        self._off = target == "off"
        self._max_bytes = max_bytes
        self._file = self._open()
        # Shared with the thread, guarded by the condition's lock.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._reopen = False
        self._closing = False
        self._changed = threading.Condition()
        # Told from by the thread alone; reading it from elsewhere is a picture of a moment.
        self.dropped = 0
        self._untold = 0
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        if not self._off:
            self._thread.start()

    def __repr__(self) -> str:
        return f"<AccessLog {self._target}: {self._waiting_bytes} bytes waiting, {self.dropped} dropped>"

    def write(self, lines: bytes) -> None:
        """Take whole lines, each with its newline. Never blocks and never fails."""
        if self._off:
            return
        lines = visible(lines)
        with self._changed:
            room = self._max_bytes - self._waiting_bytes
            if len(lines) > room:
                fits = lines.rfind(b"\n", 0, max(0, room)) + 1
                self._drop(lines.count(b"\n", fits))
                lines = lines[:fits]
            if lines:
                self._waiting.append(lines)
            self._waiting_bytes += len(lines)
            self._changed.notify()

    def reopen(self) -> None:
        """Have the file opened anew before the next line, after a rotation moved it away. Nothing for a standard stream."""
        with self._changed:
            self._reopen = True

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds, and end."""
        if self._off:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        if self._path is not None and not self._thread.is_alive():
            os.close(self._file)

    def _open(self) -> int:
        if self._path is not None:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return 2 if self._target == "stderr" else 1

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._closing):
                    self._changed.wait()
                if not self._waiting:
                    return
                blocks, self._waiting, self._waiting_bytes = self._waiting, [], 0
                reopen, self._reopen = self._reopen, False
                untold, self._untold = self._untold, 0
            if untold:
                blocks.append(b'{"dropped":%d,"message":"lines of the access log could not be written"}\n' % untold)
            data = b"".join(blocks)
            try:
                if reopen and self._path is not None:
                    new = self._open()
                    os.close(self._file)
                    self._file = new
                self._write_all(data)
            except OSError:
                with self._changed:
                    self._drop(data.count(b"\n") + untold - bool(untold))

    def _write_all(self, data: bytes) -> None:
        """All of it in one system call, as a rule: a pipe may take it in parts, or be set not to block."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:
                select.select([], [self._file], [], 1.0)
