"""What a target of the access log has in common with others: a bounded buffer, and a thread that writes from it.

Whoever gives lines never waits and never fails. What cannot be written yet, because a disk is full, a reader sleeps or a
server is away, is kept and tried again each second; what goes beyond the buffer is dropped, counted, and told: to the operator at
once, and in the log itself where its format can say it. What writing is, those built on it say.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from socket import socket

from slmgate.control.access.formats import FORMATS, Name, note

MAX_BYTES = 16 * 1024 * 1024
"""Bytes that may wait to be written; lines beyond are dropped."""
BATCH = 1024 * 1024
"""Bytes that are taken from the buffer at once, if they end a line."""
RETRY_SECONDS = 1.0
TELL_SECONDS = 10.0
"""The operator is told of the same trouble so often at the most."""
CLOSE_SECONDS = 2.0

Tell = Callable[[str], object]


def is_ready(what: int | socket, event: int, seconds: float) -> bool:
    """Wait for it; `event` is `select.POLLIN` or `select.POLLOUT`. Not by `select`, which knows no descriptor beyond 1,023."""
    asked = select.poll()
    asked.register(what, event)
    return bool(asked.poll(seconds * 1000))


class Sink:
    """Writes lines in one format, in a thread of its own. Start it by making it, end it with `close`."""

    def __init__(self, name: str, form: Name, tell: Tell, *, max_bytes: int = MAX_BYTES, retry: float = RETRY_SECONDS) -> None:
        """`name` is how the operator knows it."""
        self.name = name
        self._form: Name = form
        self._format = FORMATS[form]
        self._tell = tell
        self._max_bytes = max_bytes
        self._retry = retry
        # Shared with the thread, guarded by the condition's lock.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._reopen = False
        self._closing = False
        self._changed = threading.Condition()
        self.dropped = 0
        self._untold = 0  # of those, in the log itself
        self._untold_here = 0  # and to the operator
        # The thread's own.
        self._rest = b""  # as the format has it; what could not be written yet
        self._trouble = ""
        self._told_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._waiting_bytes} bytes waiting, {self.dropped} dropped>"

    # -- for those who give lines; any thread may

    def write(self, lines: bytes) -> None:
        """Take whole lines of JSON, each with its newline."""
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
        """Have the target opened anew at once, as after a rotation."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    # -- for those built on it; called in the thread

    def deliver(self, lines: bytes) -> bytes:
        """Write these lines, in the target's format; return what is left, to be given again. Raises nothing but by a fault."""
        raise NotImplementedError  # each kind of target says how

    def anew(self, unwritten: bytes) -> bytes:
        """Open the target anew; return what is left of what it was given."""
        return unwritten

    def end(self) -> None:
        """Let go of the target."""

    def lost(self, count: int, why: str) -> None:
        """These lines can never be written."""
        self._trouble = why
        with self._changed:
            self._drop(count)

    def trouble(self, why: str) -> None:
        """Something cannot be written now."""
        self._trouble = why

    # -- inside

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count
        self._untold_here += count

    def _run(self) -> None:
        try:
            while self._round():
                pass
        finally:
            self.end()

    def _round(self) -> bool:
        """Wait for something to do, and do it. False: that was all."""
        with self._changed:
            while not (self._waiting or self._closing or self._reopen or self._rest):
                self._changed.wait()
            ending = self._closing
            lines = b"" if self._rest else self._take()
            reopen, self._reopen = self._reopen, False
            untold, self._untold = (0, self._untold) if self._rest else (self._untold, 0)
        if lines or untold:
            self._rest = self._formatted(lines) + (note(self._form, untold) if untold else b"")
        try:
            if reopen:
                self._rest = self.anew(self._rest)
            if self._rest:
                self._rest = self.deliver(self._rest)
        except Exception as error:  # noqa: BLE001  # a fault of ours is trouble like another: lines wait, and the log goes on
            self.trouble(f"it failed: {error!r}")
        self._tell_of_it()
        with self._changed:
            if self._rest:
                if ending:
                    self._give_up()
                    return False
                self._changed.wait_for(lambda: self._closing or self._reopen, self._retry)
            return bool(self._rest or self._waiting or not ending)

    def _formatted(self, lines: bytes) -> bytes:
        try:
            return self._format(lines)
        except Exception as error:  # noqa: BLE001  # a fault of ours costs these lines, and not the log for good
            self.lost(lines.count(b"\n"), f"lines could not be put into its format: {error!r}")
            return b""

    def _take(self) -> bytes:
        """What waits, or a good part of it; the lock is held."""
        taken, size = 0, 0
        while taken < len(self._waiting) and (not taken or size + len(self._waiting[taken]) <= BATCH):
            size += len(self._waiting[taken])
            taken += 1
        lines = b"".join(self._waiting[:taken])
        del self._waiting[:taken]
        self._waiting_bytes -= size
        return lines

    def _give_up(self) -> None:
        """The end has come, and the target takes nothing."""
        left = self._rest.count(b"\n") + sum(block.count(b"\n") for block in self._waiting)
        self._rest, self._waiting, self._waiting_bytes = b"", [], 0
        self._drop(left)
        self._told_at = float("-inf")
        self._tell_of_it()

    def _tell_of_it(self) -> None:
        """Tell the operator what is wrong, now and then."""
        if not (self._trouble or self._untold_here) or time.monotonic() < self._told_at + TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        trouble, self._trouble = self._trouble or "it takes less than there is to write", ""
        count, self._untold_here = self._untold_here, 0
        more = f"; {count} lines were dropped, the ledger has them" if count else ""
        self._tell(f"the access log to {self.name}: {trouble}{more}")
