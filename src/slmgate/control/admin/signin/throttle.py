"""Delays for those who guess: growing with each failure, per account and per address, in memory that does not grow.

Names fall into a fixed number of places by a keyed hash, so a flood of made-up names takes no memory and pushes nobody
out; two names in one place share its delays, which is rare and does no harm. It knows no clock and no password. After a
restart it begins anew.
"""

from __future__ import annotations

import hashlib
import ipaddress
from array import array
from typing import NamedTuple

PLACES = 65_536


class Rule(NamedTuple):
    """`free` failures cost nothing; each one after doubles the delay, from 1 s to `longest`. `forget`: seconds without a failure
    after which all is as it was."""

    free: int
    longest: float
    forget: float = 3600.0


ACCOUNT = Rule(free=5, longest=300.0)
ADDRESS = Rule(free=20, longest=900.0)


class Throttle:
    """Failures of one kind of name. `now` is seconds of a clock that never goes back."""

    def __init__(self, rule: Rule, salt: bytes, places: int = PLACES) -> None:
        """`salt`: at most 64 random bytes, so that nobody can choose whose place he shares."""
        self._rule = rule
        self._salt = salt
        self._places = places
        self._failures = array("I", bytes(4 * places))
        self._last = array("d", bytes(8 * places))  # when the last one was charged

    def wait(self, name: str, now: float) -> float:
        """Seconds until `name` may try again; 0.0: it may now."""
        place = self._place(name)
        over = self._current(place, now) - self._rule.free
        if over < 0:
            return 0.0
        return max(0.0, self._last[place] + min(self._rule.longest, 2.0 ** min(over, 30)) - now)

    def charge(self, name: str, now: float) -> None:
        """Count a try as a failure, before it is known: tries at the same time must not all be free."""
        place = self._place(name)
        self._failures[place] = min(self._current(place, now) + 1, 1000)
        self._last[place] = now

    def give_back(self, name: str) -> None:
        """The try that was charged was none of guessing."""
        place = self._place(name)
        self._failures[place] = max(0, self._failures[place] - 1)

    def forget(self, name: str) -> None:
        """All is as it was: the password was right."""
        self._failures[self._place(name)] = 0

    def _current(self, place: int, now: float) -> int:
        return 0 if now - self._last[place] >= self._rule.forget else self._failures[place]

    def _place(self, name: str) -> int:
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), key=self._salt, digest_size=8).digest()
        return int.from_bytes(digest, "big") % self._places


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which is what one customer has."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(ip)
