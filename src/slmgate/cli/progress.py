"""A progress bar for commands that take long: on stderr, and only where that is a terminal.

So what a command prints can be piped while the bar is seen. It knows no command; rich is imported only when a bar is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Bar(Protocol):
    def advance(self, count: int) -> None:
        """So much more is done."""
        ...

    def reach(self, done: int, total: int) -> None:
        """So much of so much is done."""
        ...


class _NoBar:
    def advance(self, count: int) -> None:
        pass

    def reach(self, done: int, total: int) -> None:
        pass


class _RichBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def reach(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress(what: str, total: int | None = None, quiet: bool = False) -> Iterator[Bar]:
    """A bar; `total` None: not known yet, or never. `quiet`: none, whatever stderr is."""
    if quiet or not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        yield _RichBar(shown, shown.add_task(what, total=total))
