"""At which addresses an instance may be: not where clouds keep their machines' credentials, nor where there can be none.

Pure: an address in, yes or no out, whatever form it has and whatever it is wrapped in. It looks up no name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))
"""Where clouds tell machines their credentials, beside the link-local address of most."""


def is_address(host: str) -> bool:
    """Whether the host of a URL is an address, and not a name."""
    return ":" in host or re.fullmatch(r"[0-9.]+", host) is not None


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
