"""Who is banned, told to control over the link, and a ban lifted at its word.

The table is told in parts, since clients wait while a worker looks at it; how many are asked for is the asker's affair. It knows
the guard, and no message of another kind.
"""

from __future__ import annotations

from slmgate.dataplane.addresses import PARTS
from slmgate.dataplane.guard import Guard
from slmgate.link.messages import AskBans, Ban, Bans, LiftBan
from slmgate.policy.guard import shown, subject_of
from slmgate.policy.networks import NOWHERE, number_of


def told(guard: Guard, asked: AskBans) -> Bans:
    """The bans in one part of the table."""
    found = guard.banned(asked.part) if 0 <= asked.part < PARTS else []
    return Bans(asked.number, tuple(_ban(*one) for one in found), PARTS)


def lifted(guard: Guard, asked: LiftBan) -> Bans:
    """The ban that was lifted; none where the address, or its /64, has none."""
    number = number_of(asked.address.removesuffix("/64"))
    found = None if number == NOWHERE else guard.lift(subject_of(number))
    return Bans(asked.number, () if found is None else (_ban(*found),))


def _ban(subject: int, seconds: int, count: int) -> Ban:
    return Ban(shown(subject), seconds, count)
