"""The addresses of a name: asked of DNS or of the system.

One question at a time, bounded in time; whatever goes wrong becomes `CannotTell`, with words for the operator. It keeps
nothing between questions, and does not know what an address is for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from slmgate.control.config.addresses import Address

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

LIFETIME = 5.0
"""Seconds that one question may take, with all its tries."""


class CannotTell(Exception):
    """The name could not be asked for, or has no address; the message says why."""


class Found(NamedTuple):
    """The addresses of a name, and for how many seconds they hold (None: nobody says). `unknown` are the families (4, 6) that
    could not be asked for."""

    addresses: tuple[str, ...]
    ttl: float | None
    unknown: tuple[int, ...] = ()


async def ask(name: str, nameservers: Sequence[Address] = ()) -> Found:
    """Every address of a name, IPv4 and IPv6. Without `nameservers`, the system's are asked. Raises CannotTell."""
    import dns.exception
    import dns.resolver

    try:
        resolver = _resolver(nameservers)
    except dns.resolver.NoResolverConfiguration:
        return await _ask_system(name)
    four, six = await asyncio.gather(_ask_for(resolver, name, "A"), _ask_for(resolver, name, "AAAA"))
    if not four.addresses and not six.addresses:
        if four.unknown or six.unknown:
            raise CannotTell("no DNS server answers for it")
        if nameservers:
            raise CannotTell("DNS has no address for it")
        return await _ask_system(name)
    lives = [one.ttl for one in (four, six) if one.addresses and one.ttl is not None]
    return Found(four.addresses + six.addresses, min(lives), four.unknown + six.unknown)


def _resolver(nameservers: Sequence[Address]) -> Resolver:
    # Imported here: a gate without names needs none of it.
    from dns.asyncresolver import Resolver

    resolver = Resolver(configure=not nameservers)
    if nameservers:
        resolver.nameservers = [one.host for one in nameservers]
        resolver.nameserver_ports = {one.host: one.port for one in nameservers}
    return resolver


async def _ask_for(resolver: Resolver, name: str, kind: str) -> Found:
    from dns.exception import DNSException
    from dns.resolver import NXDOMAIN

    try:
        answer = await resolver.resolve(name, kind, raise_on_no_answer=False, search=True, lifetime=LIFETIME)
    except NXDOMAIN:
        return Found((), None)
    except (DNSException, OSError):
        return Found((), None, (4 if kind == "A" else 6,))
    if answer.rrset is None:
        return Found((), None)
    return Found(tuple(record.address for record in answer.rrset), float(answer.chaining_result.minimum_ttl))


async def _ask_system(name: str) -> Found:
    """What this machine makes of a name: /etc/hosts and whatever else it is set up to look into."""
    try:
        async with asyncio.timeout(LIFETIME):
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # TimeoutError is an OSError
        raise CannotTell("neither DNS nor this machine has an address for it") from None
    return Found(tuple(dict.fromkeys(str(entry[4][0]) for entry in found)), None)


def family(address: str) -> int:
    return 6 if ":" in address else 4
