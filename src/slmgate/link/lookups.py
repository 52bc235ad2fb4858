"""An event loop's names, looked up by threads of their own, each question once at a time.

A loop has few threads. Where DNS has fallen silent for some names, their lookups would have them all: in control, those that read
the configuration and the files that it follows; in a worker, those that look up all other names. This module does not know what
a name is for, and puts no limit to how long a lookup takes: who asks does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

MOST_THREADS = 64

Question = tuple[Any, ...]
_Loop: Any = asyncio.AbstractEventLoop if TYPE_CHECKING else object


class OwnLookups(_Loop):  # type: ignore[misc]  # what it is to be mixed with is not known here
    """`getaddrinfo` of an event loop: to be a base of its class, before the loop's own."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way: dict[Question, asyncio.Future[Any]] = {}
        self._questions: SimpleQueue[Question] = SimpleQueue()
        self._threads = 0

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As `socket.getaddrinfo`. Who asks what is being asked already waits for the same answer."""
        question = (host, port, family, type, proto, flags)
        found = self._under_way.get(question)
        if found is None:
            found = self._under_way[question] = self.create_future()
            if self._threads < min(MOST_THREADS, len(self._under_way)):
                self._threads += 1
                # a daemon: the process's end does not wait for an answer that may never come
                threading.Thread(target=self._look_up, name="names", daemon=True).start()
            self._questions.put(question)
        return await asyncio.shield(found)

    def _look_up(self) -> None:
        """A thread's life: one question after the other."""
        while True:
            question = self._questions.get()
            found: Any = None
            failed: Exception | None = None
            try:
                found = socket.getaddrinfo(*question)
            except Exception as error:  # noqa: BLE001  # whatever it was is for who asked
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.call_soon_threadsafe(self._answered, question, found, failed)

    def _answered(self, question: Question, found: Any, failed: Exception | None) -> None:
        future = self._under_way.pop(question)
        if failed is None:
            future.set_result(found)
        else:
            future.set_exception(failed)
            future.exception()  # nobody may be waiting any more


class ControlLoop(OwnLookups, asyncio.SelectorEventLoop):
    """The usual event loop, with names looked up so."""
