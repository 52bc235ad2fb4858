"""The questions of key holders as the control process has them: bounded in number, answered beside everything else.

A worker has found whose key it is; here the key is looked at again, as the store has it now. A few questions at a time go to
the store, in threads, so that a storm of them stalls nobody; what was told a moment ago is told again. It knows no HTTP and no
figure.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from slmgate.control.config import Config
from slmgate.control.keyring import Keyring
from slmgate.control.looking import NobodyLooks, Place
from slmgate.control.me.answers import Figures, Refused, rotate
from slmgate.link.messages import Mine, MineTold
from slmgate.link.questions import AWAY
from slmgate.stores.base import Store
from slmgate.stores.records import LedgerUnavailable
from slmgate.terms import Key, Refuse

MAX_UNDER_WAY = 512
AT_ONCE = 2
"""Questions that the store is asked at once: it has more to do."""
LINE_SECONDS = 2.0
"""How long a question may wait for its turn."""
KEPT_SECONDS = 2.0
"""How long an answer is told again to the same holder."""
MAX_KEPT = 2000

BUSY = Refuse("rate_limit_exceeded", "A question of this key is being answered. Ask again when it is.", retry_after=1)

_log = logging.getLogger("slmgate.control")

Reply = Callable[[MineTold], object]


class Sources(Protocol):
    """What answers are made from: the admin API's context, less than all of it."""

    @property
    def store(self) -> Store: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def config(self) -> Config | None: ...

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]: ...


class SelfService:
    """One for each control process. All but `_work` runs on the event loop."""

    def __init__(self, sources: Sources, beside: Callable[..., object], clock: Callable[[], float] = time.monotonic) -> None:
        """`beside` runs a coroutine until it is done."""
        self._sources = sources
        self._beside = beside
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._under_way: set[str] = set()  # keys
        self._kept: dict[tuple[str, ...], tuple[float, bytes]] = {}
        self._figures: tuple[Config, Figures] | None = None  # of the configuration that they were made for

    def __repr__(self) -> str:
        return f"<SelfService: {len(self._under_way)} under way>"

    def ask(self, question: Mine, reply: Reply) -> None:
        """Answer, later; `reply` is called once."""
        if question.key in self._under_way:
            reply(MineTold(question.number, refuse=BUSY))
        elif len(self._under_way) >= MAX_UNDER_WAY:
            reply(MineTold(question.number, refuse=AWAY))
        else:
            self._under_way.add(question.key)
            self._beside(self._answer(question, reply))

    async def _answer(self, question: Mine, reply: Reply) -> None:
        told = MineTold(question.number, refuse=AWAY)
        try:
            told = MineTold(question.number, await self._told(question))
        except Refused as no:
            told = MineTold(question.number, refuse=no.refuse)
        except (LedgerUnavailable, NobodyLooks) as error:
            _log.error("a key's holder could not be answered: %s", error)
        except Exception:  # noqa: BLE001  # whatever it was, it costs this question
            _log.exception("a key's holder could not be answered")
        finally:
            self._under_way.discard(question.key)
            reply(told)

    async def _told(self, question: Mine) -> bytes:
        figures = self._of(self._sources.config)
        asked = self._clock()
        async with self._turns:
            if self._clock() - asked > LINE_SECONDS:
                raise Refused(AWAY)  # the worker may have given up: a new secret now would be nobody's
            key = await asyncio.to_thread(figures.holder, question.key, question.digest)
            if question.what == "rotate":
                # no answer of before is true any more
                self._forget(question.key)
                return msgspec.json.encode(await asyncio.to_thread(rotate, figures, key, question))
            which = question.key, question.digest.hex(), question.what, question.address
            until, body = self._kept.get(which, (0.0, b""))
            if until <= self._clock():
                body = msgspec.json.encode(await self._made(figures, key, question))
                self._keep(which, body)
            return body

    async def _made(self, figures: Figures, key: Key, question: Mine) -> object:
        if question.what == "key":
            return await asyncio.to_thread(figures.facts, key, question.digest)
        if question.what == "usage":
            return await asyncio.to_thread(figures.usage, key)
        if question.what == "statement":
            return await asyncio.to_thread(figures.statement, key)
        seats = figures.seats(key, question.address)
        used = await self._sources.look([(seat.counted.spec, seat.counted.subject) for seat in seats])
        return figures.limits(key, question.address, seats, used)

    def _of(self, config: Config | None) -> Figures:
        """What is told under this configuration; to make it anew for each question would be most of the work."""
        if config is None:
            raise Refused(AWAY)
        if self._figures is None or self._figures[0] is not config:
            self._figures = config, Figures(config, self._sources.store, self._sources.keyring)
            self._kept.clear()
        return self._figures[1]

    def _keep(self, which: tuple[str, ...], body: bytes) -> None:
        now = self._clock()
        if len(self._kept) >= MAX_KEPT:
            self._kept = {one: kept for one, kept in self._kept.items() if kept[0] > now}
        if len(self._kept) < MAX_KEPT:
            self._kept[which] = now + KEPT_SECONDS, body

    def _forget(self, key: str) -> None:
        for which in [which for which in self._kept if which[0] == key]:
            del self._kept[which]
