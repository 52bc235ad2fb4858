"""What the routes about bans do: tell whose address is banned for too many wrong keys, and lift a ban.

They ask the workers, who keep the table of addresses; bans are made and end without anybody here. Who may call stands in the
table.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.admin import handlers
from slmgate.control.audit import line
from slmgate.control.keyring import utc_now
from slmgate.link.messages import Ban

if TYPE_CHECKING:
    from litestar.params import JSONBody

    from slmgate.control.admin.params import Caller, Context, Limit


class BanList(msgspec.Struct, frozen=True, kw_only=True):
    """Who is banned, the longest first; `count` is how many are, of whom no more than `limit` are told."""

    count: int
    bans: Sequence[Ban]


class BannedAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose ban is to be lifted: an IP address, or a /64 as the list has it."""

    address: str


async def bans(context: Context, limit: Limit = 100) -> BanList:
    """Addresses that are banned because too many API keys from there were wrong, and for how many seconds more."""
    found = sorted(await context.bans(), key=lambda ban: (-ban.seconds, ban.address))
    return BanList(count=len(found), bans=found[:limit])


async def lift_ban(context: Context, caller: Caller, data: JSONBody[BannedAddress]) -> Ban:
    """Let an address in again, on every worker, and forget what was wrong. 404 where it is not banned."""
    address = data.address.strip()
    try:
        ip_address(address.removesuffix("/64").partition("%")[0])
    except ValueError:
        raise handlers.BadQuery(f"{address[:64]!r} is no IP address, nor a /64 as `slmgate bans list` shows it.") from None
    lifted = await context.lift_ban(address)
    if lifted is None:
        raise handlers.Unknown(f"{address} is not banned; `slmgate bans list` shows who is.")
    noted = line(utc_now(), caller.name, "ban.lift", lifted.address, {"seconds": str(lifted.seconds), "times": str(lifted.times)})
    await handlers.note_done(context, noted, f"{lifted.address} is not banned any more")
    return lifted
