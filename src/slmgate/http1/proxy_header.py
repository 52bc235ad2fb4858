"""The PROXY protocol's header, versions 1 and 2: what a proxy says of the connection that it passes on, before anything else.

Bytes in, `Announced` out; a beginning that can become a header is told from one that never will. It follows the specification
of haproxy.org (2.1 and 2.2). This module knows no socket, and not who may speak so.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

LONGEST_LINE = 107
"""Bytes of the longest header of version 1, with its line end."""
LONGEST = 4096
"""Bytes of the longest header that is read. Version 2 could have 64 KiB, of which nobody sends a tenth."""

_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16  # bytes of version 2 before the addresses

_PORT = rb"(?:0|[1-9][0-9]{0,4})"
_OVER_IPV4 = re.compile(rb"PROXY TCP4 ([0-9.]{7,15}) ([0-9.]{7,15}) (%b) (%b)" % (_PORT, _PORT))
_OVER_IPV6 = re.compile(rb"PROXY TCP6 ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) (%b) (%b)" % (_PORT, _PORT))

_LOCAL, _PROXY = 0x20, 0x21  # version 2 and its commands
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_CRC32C = 0x03  # type of a TLV


class Announced(NamedTuple):
    """A whole header. `length`: its bytes; `address`: the client's, None where the proxy names nobody."""

    length: int
    address: str | None


class Malformed(NamedTuple):
    """No header, whatever may follow; `why` says it for the operator, without a byte of what came."""

    why: str


_NOT_ONE: Final = Malformed("it does not begin with a PROXY protocol header")


def read(data: bytes) -> Announced | Malformed | None:
    """The header that `data` begins with. None: what is here may become one."""
    if data.startswith(_SIGNATURE):
        return _read_binary(data)
    if data.startswith(_LINE):
        return _read_line(data)
    return None if _SIGNATURE.startswith(data) or _LINE.startswith(data) else _NOT_ONE


def _read_line(data: bytes) -> Announced | Malformed | None:
    end = data.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            return Malformed(f"its PROXY line has no end within {LONGEST_LINE} bytes")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Announced(end + 2, None)  # whatever else it says is to be ignored
    try:
        if (found := _OVER_IPV4.fullmatch(line)) is not None:
            client, _ = (IPv4Address(one.decode()) for one in found.groups()[:2])
            return _announced(end + 2, client, found.groups()[2:])
        if (found := _OVER_IPV6.fullmatch(line)) is not None:
            source, _ = (IPv6Address(one.decode()) for one in found.groups()[:2])
            return _announced(end + 2, source, found.groups()[2:])
    except ValueError:
        pass  # no address, whatever it is made of
    return Malformed("its PROXY line is malformed")


def _announced(length: int, client: IPv4Address | IPv6Address, ports: tuple[bytes, ...]) -> Announced | Malformed:
    if any(int(port) > 0xFFFF for port in ports):
        return Malformed("its PROXY line has a port that is none")
    return Announced(length, _text(client))


def _read_binary(data: bytes) -> Announced | Malformed | None:
    kind = data[len(_SIGNATURE) : _FIXED]
    if kind and kind[0] not in (_LOCAL, _PROXY):
        return Malformed("its PROXY header has a version or a command that is unknown")
    if len(kind) > 1 and kind[0] == _PROXY and kind[1] not in (_UNSPECIFIED, _TCP4, _TCP6):
        return Malformed("its PROXY header is for no TCP connection over IPv4 or IPv6")
    if len(kind) < 4:
        return None
    length = _FIXED + int.from_bytes(kind[2:])
    if length > LONGEST:
        return Malformed(f"its PROXY header has more than {LONGEST} bytes")
    if len(data) < length:
        return None
    if kind[0] == _LOCAL or kind[1] == _UNSPECIFIED:
        return Announced(length, None)  # whatever else it says is to be ignored
    addresses = 12 if kind[1] == _TCP4 else 36
    if length < _FIXED + addresses:
        return Malformed("its PROXY header is too short for its addresses")
    fault = _tlv_fault(data[:length], _FIXED + addresses)
    if fault is not None:
        return fault
    if kind[1] == _TCP4:
        return Announced(length, _text(IPv4Address(data[_FIXED : _FIXED + 4])))
    return Announced(length, _text(IPv6Address(data[_FIXED : _FIXED + 16])))


def _tlv_fault(header: bytes, at: int) -> Malformed | None:
    """What is wrong with the type-length-value parts that begin `at`. None is used, but a checksum is checked if it is there."""
    while at < len(header):
        end = at + 3 + int.from_bytes(header[at + 1 : at + 3])
        if at + 3 > len(header) or end > len(header):
            return Malformed("a part of its PROXY header does not end within it")
        if header[at] == _CRC32C:
            said = header[at + 3 : end]
            if len(said) != 4 or crc32c(header[: at + 3] + bytes(4) + header[end:]) != int.from_bytes(said):
                return Malformed("the checksum of its PROXY header is wrong")
        at = end
    return None


def _text(address: IPv4Address | IPv6Address) -> str:
    """An IPv4 address that is written as one of IPv6 is still that client's."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _reduced(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # the polynomial of RFC 3720, its bits reversed
    return byte


_TABLE = tuple(map(_reduced, range(256)))


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 appendix B.4 (Castagnoli), which `zlib.crc32` is not."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = rest >> 8 ^ _TABLE[(rest ^ byte) & 0xFF]
    return rest ^ 0xFFFFFFFF
