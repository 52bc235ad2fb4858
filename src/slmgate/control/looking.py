"""What is used of limits, and who is banned, asked of a worker: control does not read the workers' tables itself.

So much at a time that a worker's clients hardly wait for it. One worker is asked, since all share one table; the next one
is if it does not answer. It knows no key and no store. All its calls are made on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from slmgate.link.channel import Peer, pack
from slmgate.link.messages import AskBans, Ban, Bans, LiftBan, Look, Looked
from slmgate.terms import LimitSpec

AT_ONCE = 64
"""Limits in one question: what a worker looks up within half a millisecond, in which no worker can count."""
SECONDS = 1.0
"""How long a worker is waited for."""

Question = Look | AskBans | LiftBan
Told = Looked | Bans
Place = tuple[LimitSpec, str]
"""A limit, and the text of whom it is counted for."""


class NobodyLooks(Exception):
    """No worker could tell; the message says what that means."""


class Looking:
    """The workers that are there, and what they were asked."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []
        self._asked: dict[int, tuple[Peer, asyncio.Future[Told | None]]] = {}
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

    def told(self, message: Told) -> None:
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
        async for told in self._answers(lambda number: Look(number, tuple(specs), named)):
            if isinstance(told, Looked) and told.found is not None:
                return told.found
        raise NobodyLooks("No worker can tell what is used of limits now; the log of slmgate says why. Try again.")

    async def bans(self) -> list[Ban]:
        """Who is banned, in no order. Raises NobodyLooks."""
        found = await self._bans(lambda number: AskBans(number, 0))
        bans = list(found.bans)
        for part in range(1, found.parts):
            bans += (await self._bans(partial(AskBans, part=part))).bans
        return bans

    async def lift(self, address: str) -> Ban | None:
        """Ban an address no more; what was lifted, if it was banned. Raises NobodyLooks."""
        found = await self._bans(lambda number: LiftBan(number, address))
        return found.bans[0] if found.bans else None

    async def _bans(self, question: Callable[[int], Question]) -> Bans:
        async for told in self._answers(question):
            if isinstance(told, Bans):
                return told
        raise NobodyLooks("No worker can tell who is banned now; the log of slmgate says why. Try again.")

    async def _answers(self, question: Callable[[int], Question]) -> AsyncIterator[Told]:
        """What each worker answers in turn, of those that do: whoever has what it wants asks no further."""
        for peer in tuple(self._peers):
            self._number += 1
            answer: asyncio.Future[Told | None] = asyncio.get_running_loop().create_future()
            self._asked[self._number] = peer, answer
            number = self._number
            try:
                peer.send(pack(question(number)))
                async with asyncio.timeout(SECONDS):
                    told = await answer
            except TimeoutError:
                continue
            finally:
                del self._asked[number]
            if told is not None:
                yield told
