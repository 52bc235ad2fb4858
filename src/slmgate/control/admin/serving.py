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
BODY_TIMES = 6
"""Times `HEAD_SECONDS` that the body of one request may take, or the head of a next one."""
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
    """A connection that must begin with a request in time, and end each that it begins; and of which there are not too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own is typed
        super().connection_made(transport)
        if len(self.connections) > MAX_ADMIN_CONNECTIONS:
            transport.abort()
        else:
            self._waited_for: Any = None  # the request of which more was to come when it was last looked at
            self._times = 0
            self._look = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        look: Any = getattr(self, "_look", None)
        if look is not None:
            look.cancel()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        cycle: Any = self.cycle  # None until the first request, whatever its type says
        waits = cycle is None or cycle.more_body or cycle.response_complete
        self._times = self._times + 1 if waits and cycle is self._waited_for else 0
        self._waited_for = cycle
        if self.transport.is_closing():
            return
        if waits and (cycle is None or self._times >= BODY_TIMES):
            self.transport.close() if cycle is None else self.transport.abort()
        else:
            self._look = self.loop.call_later(HEAD_SECONDS, self._too_slow)
