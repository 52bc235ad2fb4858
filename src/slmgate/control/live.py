"""The requests that are under way in all workers, asked of them; and one of them ended through the worker that has it.

Nothing is kept between two questions: who asks pays, and no request does. A worker that leaves, or does not answer in time, is
missing from the answer, which says so. One list is made at a time, however many ask. It knows no store and no HTTP. All its
calls are made on the event loop.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from heapq import merge
from itertools import islice
from typing import Literal, NamedTuple

from slmgate.link.channel import Peer, pack
from slmgate.link.messages import Cancelled, CancelLive, ListLive, Live, LiveFilter, LiveRequest, Message

SECONDS = 2.0
"""How long the workers are waited for."""
MOST = 1000
"""Requests in one list."""
_ID = re.compile(r"[0-9a-f]{20,28}")
"""What a worker calls a request: its own twelve digits, and a count."""
_NAME = 12


class NobodyCancels(Exception):
    """The worker that has a request does not answer; the message says what that means."""


class Listing(NamedTuple):
    """Requests under way, the oldest first; how many there are in all, and how many of them are meant."""

    requests: Sequence[LiveRequest]
    total: int
    matching: int
    clients: Sequence[tuple[str, int, int]]
    """Those with the most: how many each has, and how many of them wait for an instance."""
    silent: int
    """Workers that did not answer, whose requests are missing."""


class _Question:
    """What one worker is asked; its answer may come in parts."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.parts: list[Live] = []
        self.done: asyncio.Future[Cancelled | None] = asyncio.get_running_loop().create_future()
        self.left = False

    def end(self, answer: Cancelled | None = None) -> None:
        if not self.done.done():
            self.done.set_result(answer)


class LiveRequests:
    """The workers that are there, and what they were asked."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []
        self._asked: dict[int, _Question] = {}
        self._number = 0
        self._listing = asyncio.Lock()

    def joined(self, peer: Peer) -> None:
        self._peers.append(peer)

    def left(self, peer: Peer) -> None:
        """Nobody waits for its answer any more."""
        if peer in self._peers:
            self._peers.remove(peer)
        for question in self._asked.values():
            if question.peer is peer:
                question.left = True
                question.end()

    def told(self, message: Live | Cancelled) -> None:
        question = self._asked.get(message.number)
        if question is None:
            return  # it comes too late
        if isinstance(message, Cancelled):
            question.end(message)
            return
        question.parts.append(message)
        if message.last:
            question.end()

    async def list(self, which: LiveFilter, most: int = MOST) -> Listing:
        """The oldest requests that are meant, of all workers. One that does not answer is counted, and not waited for long."""
        async with self._listing:
            asked = [self._ask(peer, lambda number: ListLive(number, which, most)) for peer in self._peers]
            numbers = [number for number, _ in asked]
            questions = [question for _, question in asked]
            try:
                if questions:
                    await asyncio.wait([question.done for question in questions], timeout=SECONDS)
            finally:
                for number in numbers:
                    del self._asked[number]
        whole = [question for question in questions if question.parts and question.parts[-1].last]
        rows = [[row for part in question.parts for row in part.requests] for question in questions]
        clients, queued = Counter[str](), Counter[str]()
        for question in questions:
            for name, count, waiting in question.parts[0].clients if question.parts else ():
                clients[name] += count
                queued[name] += waiting
        first = [question.parts[0] for question in questions if question.parts]
        return Listing(
            requests=list(islice(merge(*rows, key=lambda row: row.since), most)),
            total=sum(part.total for part in first),
            matching=sum(part.matching for part in first),
            clients=[(name, count, queued[name]) for name, count in sorted(clients.items(), key=lambda one: (-one[1], one[0]))],
            silent=len(questions) - len(whole),
        )

    async def find(self, id: str) -> LiveRequest | Literal["over"] | None:
        """The request with this id, if it is under way; None: nobody knows of it, who is there now."""
        return await self._ask_one(id, look=True)

    async def cancel(self, id: str) -> LiveRequest | Literal["over"] | None:
        """End it. What it was then, or as `find` has it. Raises NobodyCancels."""
        return await self._ask_one(id, look=False)

    async def _ask_one(self, id: str, look: bool) -> LiveRequest | Literal["over"] | None:
        peer = next((peer for peer in self._peers if peer.hello.incarnation == id[:_NAME]), None)
        if peer is None or not _ID.fullmatch(id):
            return None
        number, question = self._ask(peer, lambda number: CancelLive(number, id, look))
        try:
            async with asyncio.timeout(SECONDS):
                answer = await question.done
        except TimeoutError:
            answer = None
        finally:
            del self._asked[number]
        if answer is not None:
            return answer.request or ("over" if answer.over else None)
        if question.left:
            raise NobodyCancels("The worker that had this request has ended, and the request with it.")
        raise NobodyCancels("The worker that has this request does not answer now; the log of slmgate says why. Try again.")

    def _ask(self, peer: Peer, ask: Callable[[int], Message]) -> tuple[int, _Question]:
        self._number += 1
        question = self._asked[self._number] = _Question(peer)
        peer.send(pack(ask(self._number)))
        return self._number, question
