"""The addresses of a name: asked of DNS or of the system, and which of them may be instances.

One question at a time, bounded in time; whatever goes wrong becomes `CannotTell`, with words for the operator. It keeps
nothing between questions, and does not know what an address is for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from slmgate.control.config.addresses import Address

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

LIFETIME = 5.0
"""Seconds that one question may take, with all its tries."""
METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))
"""Where clouds tell machines their credentials, beside the link-local address of most."""


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


def allowed(address: str, loopback: bool, networks: Collection[str] = ()) -> bool:
    """Whether an address may be an instance. Private networks may, as that is where instances are, unless others are named; what
    is link-local, where clouds keep their machines' credentials, never may."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return all(_allowed(one, loopback) for one in (ip, *_inside(ip))) and (not networks or _is_in(ip, networks))


def _is_in(ip: IPv4Address | IPv6Address, networks: Collection[str]) -> bool:
    plain = getattr(ip, "ipv4_mapped", None) or ip
    return plain.is_loopback or any(plain in ip_network(network) for network in networks)


def _inside(ip: IPv4Address | IPv6Address) -> Collection[IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if isinstance(ip, IPv4Address):
        return ()
    inside = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip.packed[:12] in (bytes.fromhex("0064ff9b") + bytes(8), bytes(12)) and int(ip) > 1:  # NAT64 (RFC 6052), and the old form
        inside.append(IPv4Address(ip.packed[12:]))
    return [one for one in inside if one is not None]


def _allowed(ip: IPv4Address | IPv6Address, loopback: bool) -> bool:
    if ip.is_loopback:
        return loopback
    if ip in METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return ip.version == 6 or not ip.is_reserved  # much of IPv6 counts as reserved that is in use, NAT64 for one
