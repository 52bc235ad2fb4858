"""A child process of the tour: started with its errors in a log, waited for by what it prints, ended by its own pid.

It knows nothing of what runs inside; it keeps the end of the log for when something goes wrong.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

TAIL_LINES = 15
POLL = 0.02
GRACE = 8.0
"""Seconds that a child has to end by itself."""


class ChildFailed(Exception):
    """A child ended, or stayed silent for too long; the message says which, with the end of its log."""


class Child:
    """`python -m MODULE ARGUMENTS...` as a process of our own. Use it in a `with`: leaving ends it.

    All that it prints goes to the file `log`, not into a pipe that would fill up while nobody reads.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,  # a child that reads it learns that we are gone, however we went
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; the children are ended in order
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def wait_for(self, pattern: str, seconds: float) -> str:
        """The first group of `pattern` in a whole line of the log. Raises `ChildFailed` with the log's end."""
        wanted = re.compile(pattern)
        end = time.monotonic() + seconds
        while True:
            ended = self.process.poll()  # asked before the log is read, so that its last words are not missed
            for line in self._printed().splitlines(keepends=True):
                if line.endswith("\n") and (found := wanted.fullmatch(line.strip())):
                    return found[1]
            if ended is not None:
                raise ChildFailed(f"{self.name} ended with exit code {ended}.\n{self.tail()}")
            if time.monotonic() > end:
                raise ChildFailed(f"{self.name} was not ready within {seconds:.0f} s.\n{self.tail()}")
            time.sleep(POLL)

    def _printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """The last lines of its log, to be shown with a failure."""
        lines = [f"    {line}" for line in self._printed().splitlines() if line.strip()][-TAIL_LINES:]
        return "\n".join(["The end of its log:", *lines]) if lines else "It printed nothing."

    def end(self) -> None:
        """End it: asked first, then killed. Safe to call twice."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
