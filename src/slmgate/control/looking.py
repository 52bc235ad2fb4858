"""What is used of limits, asked of a worker: control does not read the workers' table itself.

So many at a time that a worker's clients hardly wait for it. One worker is asked, since all count in one table; the next one
is if it does not answer. It knows no key and no store. All its calls are made on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from slmgate.link.channel import Peer, pack
from slmgate.link.messages import Look, Looked
from slmgate.terms import LimitSpec

AT_ONCE = 64
"""Limits in one question: what a worker looks up within half a millisecond, in which no worker can count."""
SECONDS = 1.0
"""How long a worker is waited for."""

Place = tuple[LimitSpec, str]
"""A limit, and the text of whom it is counted for."""


class NobodyLooks(Exception):
    """No worker could tell; the message says what that means."""


class Looking:
    """The workers that are there, and what they were asked."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []
        self._asked: dict[int, tuple[Peer, asyncio.Future[Looked | None]]] = {}
        self._number = 0

    def joined(self, peer: Peer) -> None:
        self._peers.append(peer)

    def left(self, peer: Peer) -> None:
        """Whoever waits for its answer asks another."""
        if peer in self._peers:
            self._peers.remove(peer)
        for asked, answer in self._asked.values():
            if asked is peer and not answer.done():
                answer.set_result(None)

    def told(self, message: Looked) -> None:
        _, answer = self._asked.get(message.number, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def ask(self, places: Sequence[Place]) -> list[tuple[int, int]]:
        """What is used of each, and what may be at most now. Raises NobodyLooks."""
        found: list[tuple[int, int]] = []
        for start in range(0, len(places), AT_ONCE):
            found += await self._ask_some(places[start : start + AT_ONCE])
        return found

    async def _ask_some(self, places: Sequence[Place]) -> tuple[tuple[int, int], ...]:
        specs = list({id(spec): spec for spec, _ in places}.values())
        numbers = {id(spec): number for number, spec in enumerate(specs)}
        named = tuple((numbers[id(spec)], subject) for spec, subject in places)
        for peer in tuple(self._peers):
            self._number += 1
            answer: asyncio.Future[Looked | None] = asyncio.get_running_loop().create_future()
            self._asked[self._number] = peer, answer
            number = self._number
            try:
                peer.send(pack(Look(number, tuple(specs), named)))
                async with asyncio.timeout(SECONDS):
                    looked = await answer
            except TimeoutError:
                continue
            finally:
                del self._asked[number]
            if looked is not None and looked.found is not None:
                return looked.found
        raise NobodyLooks("No worker can tell what is used of limits now; the log of slmgate says why. Try again.")
