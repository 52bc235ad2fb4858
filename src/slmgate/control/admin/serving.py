"""How the admin API is served: uvicorn without its own signal handlers, and bounds on what a stranger may hold open.

It knows nothing of what is served. The listener is for operators, but whoever reaches it must not be able to exhaust control.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_ADMIN_HEAD = 32 * 1024
MAX_ADMIN_CONNECTIONS = 256
HEAD_SECONDS = 10.0
END_SECONDS = 5.0
"""How long requests may hold up the end of control. One whose body never ends, or whose answer nobody reads, would hold it up for
ever, and with it the end of the gate, or a takeover."""


class AdminServer(uvicorn.Server):
    """The control process has signal handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take no more requests, and let those that are there come to their end; within bounds."""
        self.should_exit = True
        loop.call_later(END_SECONDS, self._cut)

    def _cut(self) -> None:
        for one in list(self.server_state.connections):
            one.transport.abort()


class AdminConnection(H11Protocol):
    """A connection that must begin with a request in time, and of which there are not too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own is typed
        super().connection_made(transport)
        if len(self.connections) > MAX_ADMIN_CONNECTIONS:
            transport.abort()
        else:
            self._first = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        first: Any = getattr(self, "_first", None)
        if first is not None:
            first.cancel()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        cycle: object = self.cycle  # None until the first request, whatever its type says
        if cycle is None and not self.transport.is_closing():
            self.transport.close()
