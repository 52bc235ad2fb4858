"""The access log: one line for each finished request, to each of its targets.

Lines come as JSON, in batches; each target has a buffer and a thread of its own (`access/sink.py`), so that one that is slow
or gone holds up neither the caller nor the others. It does not know what a line says, nor how any target is written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from slmgate.control.access.sink import CLOSE_SECONDS, TELL_SECONDS, Sink, Tell
from slmgate.control.access.targets import Target, open_target


class AccessLog:
    """Writes lines to its targets, which `configure` may change. End it with `close`."""

    def __init__(
        self,
        targets: Iterable[Target],
        tell: Tell = lambda text: None,
        opener: Callable[[Target, Tell], Sink | None] = open_target,
    ) -> None:
        """Raises OSError, of which `filename` says what cannot be opened."""
        self._tell = tell
        self._open = opener
        self._lock = threading.Lock()  # lines come from one thread, changes from another
        self._sinks: dict[Target, Sink | None] = {}
        self._unopened: set[Target] = set()
        self._ending: list[Sink] = []  # they write what waits
        self._gone = 0  # lines that targets had dropped that are no more
        self._unwritten = 0
        self._again_at = 0.0  # of the monotonic clock, when targets that cannot be opened are tried again
        try:
            for target in targets:
                self._sinks[target] = opener(target, tell)
        except OSError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<AccessLog {[sink for sink in self._sinks.values() if sink is not None]}>"

    @property
    def dropped(self) -> int:
        """Lines that could not be written, of all targets; it only grows."""
        with self._lock:
            there = [*self._ending, *(sink for sink in self._sinks.values() if sink is not None)]
            return self._gone + self._unwritten + sum(sink.dropped for sink in there)

    def write(self, lines: bytes) -> None:
        """Take whole lines, each with its newline. Never blocks and never fails."""
        if self._unopened and time.monotonic() >= self._again_at:
            self.configure(list(self._sinks))
        with self._lock:
            for sink in self._sinks.values():
                if sink is not None:
                    sink.write(lines)
            self._unwritten += len(self._unopened) * lines.count(b"\n")

    def configure(self, targets: Iterable[Target]) -> None:
        """Write to these from now on. One that cannot be opened is told of, its lines are counted, and it is tried again
        now and then."""
        wanted = dict.fromkeys(targets)
        if list(wanted) == list(self._sinks) and not self._unopened:
            return
        made: dict[Target, Sink | None] = {}
        unopened = set()
        for target in wanted:
            if target in self._sinks and target not in self._unopened:
                made[target] = self._sinks[target]
                continue
            try:
                made[target] = self._open(target, self._tell)
            except OSError as error:
                made[target] = None
                unopened.add(target)
                self._tell(f"the access log to {target.to} cannot be opened, its lines are dropped: {error.strerror}")
        with self._lock:
            old = [sink for target, sink in self._sinks.items() if sink is not None and made.get(target) is not sink]
            self._ending += old
            self._sinks, self._unopened = made, unopened
            self._again_at = time.monotonic() + TELL_SECONDS
        if old:  # which may take its time
            threading.Thread(target=self._retire, args=(old,), name="access-log-end", daemon=True).start()

    def _retire(self, sinks: Iterable[Sink]) -> None:
        for sink in sinks:
            sink.close()
            with self._lock:
                self._ending.remove(sink)
                self._gone += sink.dropped

    def reopen(self) -> None:
        """Have each target opened anew, after a rotation moved its file away."""
        with self._lock:
            for sink in self._sinks.values():
                if sink is not None:
                    sink.reopen()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds for each target, and end."""
        for sink in self._sinks.values():
            if sink is not None:
                sink.close(timeout)
