"""Which limits are nearest to being full: looked up now and then, so many at the most, however many keys and limits there are.

Looked at are the limits that nobody has alone, and those of the clients that called last. Workers are asked by the way that
`slmgate limits` goes. It knows no figures of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from slmgate.control.config import Config, declared_keys
from slmgate.control.keyring import as_term, utc_now
from slmgate.control.looking import NobodyLooks
from slmgate.control.metrics.counting import Caller
from slmgate.control.metrics.gauges import Use
from slmgate.control.standing import Seat, Standing
from slmgate.stores.records import LedgerUnavailable
from slmgate.terms import Principal

if TYPE_CHECKING:
    from slmgate.control.admin.context import AdminContext

MAX_SHARED, MAX_SEATS = 200, 300
"""Limits that are looked at: those that nobody has alone, and all."""
SECONDS = 5.0
"""For how long a look holds."""


class LimitsInUse:
    """One look at a time. All calls are made on the event loop."""

    def __init__(self) -> None:
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._found: Sequence[Use] | None = None
        # what is worked out for a configuration stands until there is another one
        self._config: Config | None = None
        self._standing: Standing | None = None

    def __repr__(self) -> str:
        return f"<LimitsInUse {'none' if self._found is None else len(self._found)}>"

    async def look(self, context: AdminContext, callers: Sequence[Caller]) -> Sequence[Use] | None:
        """How much is used of each; None: no worker could tell."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked_at >= SECONDS:
                try:
                    self._found = await self._look(context, callers)
                except (NobodyLooks, LedgerUnavailable):
                    self._found = None
                self._looked_at = loop.time()
            return self._found

    async def _look(self, context: AdminContext, callers: Sequence[Caller]) -> Sequence[Use]:
        config = context.config
        if config is None:
            return ()
        if config is not self._config or self._standing is None:
            self._standing = await asyncio.to_thread(Standing, config)
            self._config = config
        standing = self._standing
        seats = await asyncio.to_thread(_seats, context, config, standing, callers)
        if not seats:
            return ()
        found = await context.look([(seat.counted.spec, seat.counted.subject) for seat in seats])
        now = utc_now()
        stands = [standing.stand(seat, used, amount, now) for seat, (used, amount) in zip(seats, found, strict=True)]
        return [Use((one.name, one.whose), one.share) for one in stands]


def _seats(context: AdminContext, config: Config, standing: Standing, callers: Sequence[Caller]) -> list[Seat]:
    seats = list(islice(standing.shared(), MAX_SHARED))
    for who in _principals(context, config, callers):
        seats += islice(standing.alone(who), MAX_SEATS - len(seats))
        if len(seats) >= MAX_SEATS:
            break
    return seats


def _principals(context: AdminContext, config: Config, callers: Sequence[Caller]) -> Iterator[Principal]:
    """Who called last, as the limits see them now."""
    declared = declared_keys(config)
    for id, name, team, roles in callers:
        if id in declared:
            yield declared[id]
        elif (record := context.store.key(id)) is not None:
            if record.revoked is None:
                yield as_term(record)
        elif id != "anonymous":  # that one is among the limits that nobody has alone
            yield Principal(id=id, name=name, kind="token", team=team, roles=tuple(role for role in roles.split(",") if role))
