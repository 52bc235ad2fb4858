"""What the route about limits in use does: finds who is meant, asks the workers what is used, and tells where each stands.

A call looks at so many keys, however few of them are told, so that no call takes long; whoever wants all asks on. What there is
to look at is made in `control/standing.py`. Who may call stands in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.admin import handlers
from slmgate.control.config import Config, declared_keys
from slmgate.control.keyfields import DECLARED
from slmgate.control.keyring import UnknownKey, as_term, utc_now
from slmgate.control.standing import Seat, Stand, Standing
from slmgate.control.trials.asked import declared_key
from slmgate.stores.records import KeyFilter, ReceiptFilter
from slmgate.terms import Key, Principal

if TYPE_CHECKING:
    from litestar.params import FromQuery

    from slmgate.control.admin.params import Context, Limit, Share

SHARED = "shared:"
"""So begins `next` while what is nobody's alone is told; no key's id begins so."""
MAX_SEATS = 5000
"""With so many limits to look at, a page ends."""


class LimitPage(msgspec.Struct, frozen=True, kw_only=True):
    """Where limits stood at `time`. `next` is what to ask on from with `after`, null on the last page."""

    time: datetime
    limits: Sequence[Stand]
    next: str | None


async def limits(
    context: Context,
    key: FromQuery[str | None] = None,
    near: Share = 0.0,
    address: FromQuery[str | None] = None,
    limit: Limit = 100,
    after: FromQuery[str | None] = None,
) -> LimitPage:
    """Limits in use: first what is nobody's alone, then those of keys, which are not revoked, in their order.

    `key` is one key's id or name, or that of whoever came with a token or a certificate: all limits that it comes under. `near`
    is the least share of a limit that is used, as 0.8. `address` is a client's, for limits that count by it, which are left out
    without. `limit` is how many keys are looked at.
    """
    if context.config is None:
        raise handlers.BadQuery("No gate runs here, so that no limit is in use.")
    standing = Standing(context.config, _address(address))
    if key is not None:
        seats, following = await asyncio.to_thread(_of_one, context, context.config, standing, key), None
    else:
        seats, following = await asyncio.to_thread(page, context, context.config, standing, limit, after)
    found = await context.look([(seat.counted.spec, seat.counted.subject) for seat in seats])
    now = utc_now()
    stands = [standing.stand(seat, used, amount, now) for seat, (used, amount) in zip(seats, found, strict=True)]
    return LimitPage(time=now, limits=[stand for stand in stands if stand.share >= near], next=following)


def _address(text: str | None) -> str:
    if not text:
        return ""
    try:
        return str(ip_address(text))
    except ValueError:
        raise handlers.BadQuery(f"{text[:60]!r} is not an address; write it like 192.0.2.7 or 2001:db8::1.") from None


def _of_one(context: Context, config: Config, standing: Standing, name: str) -> list[Seat]:
    return list(islice(standing.all(principal_of(context, config, name)), MAX_SEATS))


def principal_of(context: Context, config: Config, name: str) -> Principal:
    """The key with this id or name; or who else called under it, as the newest receipt has it."""
    try:
        record = context.keyring.show(name)
        if record.revoked is None:
            return as_term(record)
        gone = f"The key {record.name!r} is revoked, so that it comes under no limit."
    except UnknownKey as error:
        gone = str(error)
    if (declared := declared_key(config, name)) is not None:
        return declared
    for which in (ReceiptFilter(key=name), ReceiptFilter(client=name)):
        for numbered in context.store.receipts(which, 1):
            past = numbered.receipt
            if past.key is not None and not past.key.startswith(DECLARED) and context.store.key(past.key) is None:
                roles = tuple(role for role in past.roles.split(",") if role)
                return Principal(id=past.key, name=past.principal, kind="token", team=past.team, roles=roles)
    raise handlers.Unknown(gone)


def page(context: Context, config: Config, standing: Standing, limit: int, after: str | None) -> tuple[list[Seat], str | None]:
    """What to look at from `after` on, and where to go on; None: that was all."""
    seats: list[Seat] = []
    if after is None or after.startswith(SHARED):
        start = _number(after)
        seats = list(islice(standing.shared(), start, start + MAX_SEATS))
        if len(seats) == MAX_SEATS:
            return seats, f"{SHARED}{start + MAX_SEATS}"
        after = None
    last = None
    for number, (id, one) in enumerate(_keys(context, config, limit, after), 1):
        if one is not None:
            seats += islice(standing.alone(one), MAX_SEATS)
        if number == limit or len(seats) >= MAX_SEATS:
            last = id
            break
    return seats, last


def _number(after: str | None) -> int:
    text = "0" if after is None else after.removeprefix(SHARED)
    if not text.isdecimal() or len(text) > 9:
        raise handlers.BadQuery("`after` is no place in the list, as an answer gives it.")
    return int(text)


def _keys(context: Context, config: Config, limit: int, after: str | None) -> Iterator[tuple[str, Key | None]]:
    """`limit` keys from behind `after`, declared ones first, with their ids; None in place of revoked ones."""
    declared = declared_keys(config)
    ids = list(declared)
    if after is not None:
        ids = ids[ids.index(after) + 1 :] if after in declared else []
    for id in ids[:limit]:
        yield id, declared[id]
    if len(ids) < limit:
        behind = None if after is None or after in declared else after
        for record in context.keyring.page(KeyFilter(), limit - len(ids), behind):
            yield record.id, None if record.revoked is not None else as_term(record)
