"""Answers to challenges, brought to every worker before the authority asks for them.

A worker says when it has them; who joins meanwhile is told first of all. Nothing else is known here of workers, and nothing of
authorities.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from slmgate.link.channel import Peer, pack
from slmgate.link.messages import Answering, Challenges

CONFIRM_SECONDS = 3.0
"""How long workers are waited for: one that is stuck is not to cost everyone the certificate."""


class Presenter:
    """All calls are made on the event loop."""

    def __init__(self, workers: Callable[[], Iterable[Peer]]) -> None:
        """`workers` are those that are connected and understand what is said."""
        self._workers = workers
        self._now = Challenges(0)
        self._answering: dict[Peer, int] = {}  # the number of what each has
        self._changed = asyncio.Event()

    def message(self) -> Challenges:
        """What a worker that joins has to know."""
        return self._now

    async def present(self, tokens: dict[str, str], certificates: dict[str, bytes]) -> bool:
        """Have all workers answer so, and nothing else. `tokens`: the text for each; `certificates`: of each name, PEM.

        True: all do. False: some have not said so in time.
        """
        self._now = Challenges(self._now.number + 1, tokens, certificates)
        packed = pack(self._now)
        for peer in self._workers():
            peer.send(packed)
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                while any(self._answering.get(peer) != self._now.number for peer in self._workers()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def told(self, peer: Peer, message: Answering) -> None:
        self._answering[peer] = message.number
        self._changed.set()

    def left(self, peer: Peer) -> None:
        self._answering.pop(peer, None)
        self._changed.set()
