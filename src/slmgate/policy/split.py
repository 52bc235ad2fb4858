"""Which requests for a model go to another version of it, or are copied to one: by who asks, or a share in even turns.

No chance is in it: a caller's place is the digest of its name, and turns are multiples of the golden ratio, of which any stretch,
and every second or tenth of them too, holds as much of the share as it should. It knows no instance, and who asks as texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from slmgate.policy.ring import point_of
from slmgate.terms import Principal

WHOLE = 2**64
"""How many places there are; a share is that part of them, from 0 on."""
GOLDEN = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio."""


class CanarySpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests for a model another one serves, as a version of it. `by` is `principal`, `request` or `header NAME`.

    `principals` are names or ids; who is named in any of the three lists is served by it, whatever the share.
    """

    model: str
    share: float = 0.0
    by: str = "principal"
    principals: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()


class ShadowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests for a model are copied to another one. Bounds are of each worker; sizes in bytes, times in seconds."""

    model: str
    share: float = 0.0
    in_flight: int = 16
    max_body: int = 256 * 1024
    timeout: float = 60.0


class Turns:
    """A share of what comes, in turns that are spread evenly: after any number of them never off by more than a few."""

    __slots__ = ("_at", "_most")

    def __init__(self, share: float) -> None:
        self._at = 0
        self._most = 0
        self.update(share)

    def __repr__(self) -> str:
        return f"<Turns {self._most / WHOLE:.0%}>"

    def update(self, share: float) -> None:
        """Another share from now on; the turns go on."""
        self._most = int(share * WHOLE)

    def take(self) -> bool:
        """Whether the next one is of the share."""
        self._at = at = (self._at + GOLDEN) % WHOLE
        return at < self._most


def is_named(canary: CanarySpec, principal: Principal, roles: Callable[[], Iterable[str]]) -> bool:
    """Whether a caller is always served by the canary. `roles` gives the names of those that it has; asked only if need be."""
    if principal.name in canary.principals or principal.id in canary.principals or principal.team in canary.teams:
        return True
    return bool(canary.roles) and not canary.roles.isdisjoint(roles())


def place_of(model: str, key: bytes) -> int:
    """Where a caller, or a session, stands among all for one model: its own place for each, and not that of balancing."""
    return point_of(b"split\0%b\0%b" % (model.encode(), key))


def is_within(place: int, share: float) -> bool:
    """Whether a place is of the share. Of a larger share it still is."""
    return place < int(share * WHOLE)
