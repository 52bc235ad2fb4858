"""X-Forwarded-For and Forwarded (RFC 7239), read from the right: each proxy writes behind what it was sent.

Bytes in, addresses out, one hop at a time: what stands further left may be a client's invention, and is not looked at before
somebody has said that the hop on its right is to be believed. This module knows no connection and no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

LONGEST_HOP = 512
"""Bytes of one hop that are looked at. Forwarded may say more of each than its address."""

_OWS = b" \t"
_PORT = rb"(?::[0-9]{1,5})?"
_NODE = re.compile(rb"([0-9.]{7,15})%b|\[([0-9A-Fa-f:.]{2,45})\]%b|([0-9A-Fa-f:.]{2,45})" % (_PORT, _PORT))
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rb'(%b)=(%b|"[^"\\]*")' % (_TOKEN, _TOKEN))
_ELEMENT = re.compile(rb"[ \t]*%b[ \t]*(?:;[ \t]*%b[ \t]*)*" % (_PAIR.pattern, _PAIR.pattern))
_FORWARDED_PORT = rb"(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?"  # RFC 7239 section 6
_FORWARDED_NODE = re.compile(rb"([0-9.]{7,15})%b|\[([0-9A-Fa-f:.]{2,45})\]%b" % (_FORWARDED_PORT, _FORWARDED_PORT))


def forwarded_for(value: bytes) -> Iterator[str | None]:
    """The addresses of an X-Forwarded-For field, the last proxy's word first; None for a hop that names none, which is the end.

    `value`: the whole field, its lines joined in their order.
    """
    for hop in _from_right(value, quotes=False):
        address = None if hop is None else _address(_NODE.fullmatch(hop.strip(_OWS)))
        yield address
        if address is None:
            return


def forwarded(value: bytes) -> Iterator[str | None]:
    """The same of a Forwarded field: of each hop, whom its `for` names. A hidden or an unknown one is None."""
    for hop in _from_right(value, quotes=True):
        address = None if hop is None else _named(hop)
        yield address
        if address is None:
            return


def _from_right(value: bytes, quotes: bool) -> Iterator[bytes | None]:
    """What stands between commas, from the right; None for what is too long. `quotes`: commas in quoted strings are none."""
    end = len(value)
    while end >= 0:
        low = max(0, end - LONGEST_HOP - 1)
        comma = value.rfind(b",", low, end)
        while quotes and comma >= 0 and value.count(b'"', comma + 1, end) % 2:
            comma = value.rfind(b",", low, comma)
        yield value[comma + 1 : end] if end - comma <= LONGEST_HOP + 1 else None  # which is where no comma was found
        end = comma


def _named(element: bytes) -> str | None:
    """The address in the `for` of one forwarded-element; None where it has none, or is malformed."""
    if _ELEMENT.fullmatch(element) is None:
        return None
    named = [value for name, value in _PAIR.findall(element) if name.lower() == b"for"]
    return _address(_FORWARDED_NODE.fullmatch(named[0].strip(b'"'))) if len(named) == 1 else None


def _address(found: re.Match[bytes] | None) -> str | None:
    """The address of a node, as it is usually written; one of IPv4 that is written as one of IPv6 is still that client's."""
    if found is None:
        return None
    try:
        if found[1] is not None:
            return str(IPv4Address(found[1].decode()))
        text = next(group for group in found.groups()[1:] if group is not None)
        address = IPv6Address(text.decode())
    except ValueError:
        return None
    return str(address.ipv4_mapped or address)
