"""How engines are tied to the rest of control: what they ask of the checker, the roster and who publishes, and what they tell.

Called once, when a control process is made. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from slmgate.control.checker import Checker, Outcome, Target
from slmgate.control.engines.service import Engines
from slmgate.control.reaching import make_client

if TYPE_CHECKING:
    import httpx

    from slmgate.control.reload import Publisher
    from slmgate.control.roster import Roster


class Prober:
    """Asks engines that start whether they are ready, as they are checked later. Nothing is made before the first one starts."""

    def __init__(self, checker: Checker, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` stands for the network in tests."""
        self._checker = checker
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def ask(self, target: Target) -> Outcome:
        """Ask once."""
        self._client = self._client or make_client(self._transport)
        return await self._checker.ask(self._client, target)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def connect(
    engines: Engines, publisher: Publisher, roster: Roster, checker: Checker, workers: Callable[[], Collection[int]]
) -> None:
    """Tie them together. `workers` says who may have a request at an instance."""

    def out_since(id: str) -> float | None:
        one = checker.checkups().get(id)
        return one.out_at if one is not None and one.checks.verdict == "unhealthy" else None

    engines.drained = lambda: roster.drained
    engines.workers = workers
    engines.out_since = out_since
    engines.agreed = publisher.agreed
    engines.on_change = publisher.refresh
    engines.tell = publisher.broadcast
