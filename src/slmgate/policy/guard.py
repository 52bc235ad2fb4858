"""Rate-based defence: what one address may do before it is turned away, and for how long it is banned.

`GuardSpec` says how much; the functions count, in whole nanoseconds of a clock that only goes forward, with `now` an argument.
Rates are counted as a bucket that drains (GCRA): one number for each, the time at which all that was taken will have drained, so
that the state of an address has a fixed size. It knows no table, connection or request; who is counted is a *subject*: an IPv4
address, or the /64 network of an IPv6 address, whose owner has all of its 2^64 addresses.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import msgspec

SECOND = 1_000_000_000
"""Nanoseconds."""
LONGEST_BAN = 86_400
"""Seconds. Each ban of one subject is twice as long as the one before, up to this."""
FORGETS = 86_400
"""Seconds. For each such time that has passed since a ban ended, one doubling is forgotten."""
DOUBLINGS = 32
"""No more bans than these are counted of one subject."""

_IPV4 = 0xFFFF
_SMALLEST_IPV6 = 1 << 48


class RateSpec(msgspec.Struct, frozen=True):
    """`amount` in `seconds` seconds, and `burst` at once. `text` is how its option says it."""

    amount: int
    seconds: int
    burst: int
    text: str = ""

    @property
    def interval(self) -> int:
        """Nanoseconds in which one drains; rounded up, so that never more get through than the rate says."""
        return -(-self.seconds * SECOND // self.amount)


class GuardSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What each address may do; None or 0: as much as it likes. `ban`: seconds of the first ban for failed authentication.

    `all_new_connections` is for all addresses of this node together. Who is in `exempt` (networks) is neither counted nor banned.
    """

    requests: RateSpec | None = None
    connections: int = 0
    new_connections: RateSpec | None = None
    failed_auth: RateSpec | None = None
    ban: float = 900.0
    all_new_connections: RateSpec | None = None
    exempt: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether anything is to be counted at all."""
        limits = self.requests, self.connections, self.new_connections, self.failed_auth, self.all_new_connections
        return any(limits)


def subject_of(number: int) -> int:
    """Who is counted for the address `number` (as `networks.number_of` makes it): never 0, and within 64 bits."""
    return number if number >> 32 == _IPV4 else number >> 64 or 1


def number_of_subject(subject: int) -> int:
    """The first address of a subject."""
    return subject if subject >> 32 == _IPV4 else subject << 64


def open_bits(subject: int) -> int:
    """Of how many bits a subject has all addresses."""
    return 0 if subject >> 32 == _IPV4 else 64


def shown(subject: int) -> str:
    """A subject as operators see it: `203.0.113.7`, or `2001:db8::/64`."""
    if subject >> 32 == _IPV4:
        return str(IPv4Address(subject & 0xFFFFFFFF))
    return f"{IPv6Address(subject << 64 if subject > 1 else 0)}/64"


def drains_at(at: int, now: int, rate: RateSpec) -> int:
    """When what was taken has drained. Never later than a full bucket's worth from now, whatever the rate was before."""
    return min(max(at, now), now + rate.burst * rate.interval)


def room(at: int, now: int, rate: RateSpec) -> int:
    """How many may be taken now, where what was taken will have drained `at`."""
    return rate.burst - -(-(drains_at(at, now, rate) - now) // rate.interval)


def take(at: int, now: int, rate: RateSpec, count: int = 1) -> int:
    """When all will have drained once `count` more are taken, of which there must be room."""
    return drains_at(at, now, rate) + count * rate.interval


def wait(at: int, now: int, rate: RateSpec) -> int:
    """Nanoseconds until there is room for one more; 0: there is."""
    return max(0, drains_at(at, now, rate) + rate.interval - now - rate.burst * rate.interval)


def ban(count: int, until: int, now: int, first: float) -> tuple[int, int]:
    """A further ban, of who had `count` of them, the last one `until`: how many it had then, and when the new one ends.

    `first` is how many seconds the first one lasts; it may be longer than `LONGEST_BAN`, and none is shorter than it.
    """
    forgotten = max(0, now - until) // (FORGETS * SECOND) if until else 0
    count = max(0, count - forgotten)
    seconds = max(first, min(first * (1 << count), LONGEST_BAN))
    return min(count + 1, DOUBLINGS), now + int(seconds * SECOND)
