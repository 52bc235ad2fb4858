"""A question to what may not answer, such as a database whose machine is gone: who asks waits so long, and no longer.

One question is under way at a time; until it is answered, no other is asked, so that no threads pile up behind it. It does not
know what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Patience(Generic[T]):
    """So many seconds of it. All calls are made on the event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked: asyncio.Task[T] | None = None  # what is not answered yet

    def __repr__(self) -> str:
        return f"<Patience {'at its end' if self._asked is not None and not self._asked.done() else self._seconds}>"

    async def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """The answer, or what is raised instead. None: there is none in time, or one that was asked before has none yet."""
        before = self._asked
        if before is not None:
            if not before.done():
                return None
            if not before.cancelled():
                before.exception()  # what it had to say is too old, also if that was a failure
        self._asked = task = asyncio.get_running_loop().create_task(question())
        done, _ = await asyncio.wait((task,), timeout=self._seconds)
        if not done:
            return None
        self._asked = None
        return task.result()
