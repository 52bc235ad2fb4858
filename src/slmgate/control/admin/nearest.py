"""Who is near a limit, without looking at everybody: what nobody has alone, and the principals that could be near one.

Of a hundred thousand keys nearly all are far from any limit, and to look at each would hold the workers' table for seconds. Near
is who was refused lately, or asked much: the ledger's sums say who that is, and only these are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.admin import handlers, standing
from slmgate.control.analytics import Analytics
from slmgate.control.config import Config
from slmgate.control.keyring import utc_now
from slmgate.control.ranges import Range
from slmgate.control.standing import Seat, Stand, Standing
from slmgate.stores.base import Store

if TYPE_CHECKING:
    from slmgate.control.admin.params import Context

PRINCIPALS = 100
"""Those that were refused most, and as many of those that asked most."""
MOST = 2000
"""Limits that are looked at."""


class Nearest(msgspec.Struct, frozen=True, kw_only=True):
    """Where limits stand at `time`, the nearest to their ends first. So many `principals` were looked at; `cut`: there are more
    limits."""

    time: datetime
    limits: list[Stand]
    principals: int
    cut: bool


async def nearest(context: Context, since: datetime, until: datetime) -> Nearest:
    """What is nobody's alone, and what is of those who were refused or asked most in this time."""
    config = context.config
    if config is None:
        raise handlers.BadQuery("No gate runs here, so that no limit is in use.")
    standings = Standing(config)
    seats, principals, cut = await asyncio.to_thread(_seats, context, config, standings, since, until)
    found = await context.look([(seat.counted.spec, seat.counted.subject) for seat in seats])
    now = utc_now()
    stands = [standings.stand(seat, used, amount, now) for seat, (used, amount) in zip(seats, found, strict=True)]
    return Nearest(time=now, limits=sorted(stands, key=lambda one: -one.share), principals=principals, cut=cut)


def _seats(
    context: Context, config: Config, standings: Standing, since: datetime, until: datetime
) -> tuple[list[Seat], int, bool]:
    seats = list(islice(standings.shared(), MOST + 1))
    seen: set[str] = set()
    for name in active(context.store, since, until):
        if len(seats) > MOST:
            break
        try:
            principal = standing.principal_of(context, config, name)
        except handlers.Unknown:
            continue  # it was revoked since
        if principal.id in seen:
            continue
        seen.add(principal.id)
        seats += islice(standings.alone(principal), MOST + 1 - len(seats))
    return seats[:MOST], len(seen), len(seats) > MOST


def active(store: Store, since: datetime, until: datetime) -> Iterator[str]:
    """The names of those who could be near: who was refused most, and then who asked most."""
    span = Range(since=since, until=until, zone="UTC", step="1d")
    analytics = Analytics(store)
    refused = [row.name for row in analytics.clients(span, "refused", size=PRINCIPALS).rows if row.figures.refused]
    asked = [row.name for row in analytics.clients(span, "requests", size=PRINCIPALS).rows]
    yield from (name for name in dict.fromkeys((*refused, *asked)) if name)
