"""What a TLS client offers in its first message, as far as that is asked here: the protocols behind TLS (ALPN, RFC 7301).

OpenSSL reads the message as well, and judges it; here a malformed one just offers nothing. Pure: bytes in, facts out.
"""

from __future__ import annotations

CLIENT_HELLO = 1
"""The type of the handshake message (RFC 8446 section 4)."""
_ALPN = 16
_FIXED = 4 + 2 + 32
"""Bytes before the first field that varies: type and length, version, random."""


def protocols(message: bytes) -> tuple[bytes, ...]:
    """The protocols that a ClientHello offers, with its handshake header of four bytes; none where there is anything else."""
    if message[:1] != bytes((CLIENT_HELLO,)) or int.from_bytes(message[1:4]) != len(message) - 4:
        return ()
    rest = _behind(message[_FIXED:], 1)  # the session's id
    rest = _behind(rest, 2)  # cipher suites
    rest = _behind(rest, 1)  # compression methods
    extensions = _field(rest, 2)
    while extensions:
        kind, body = extensions[:2], _field(extensions[2:], 2)
        if body is None:
            return ()
        if int.from_bytes(kind) == _ALPN:
            return _names(_field(body, 2))
        extensions = extensions[4 + len(body) :]
    return ()


def _names(listed: bytes | None) -> tuple[bytes, ...]:
    found: list[bytes] = []
    while listed:
        name = _field(listed, 1)
        if not name:
            return ()
        found.append(name)
        listed = listed[1 + len(name) :]
    return tuple(found)


def _field(data: bytes | None, width: int) -> bytes | None:
    """The field that `data` begins with, behind its length in so many bytes; None: it is not all there."""
    if data is None or len(data) < width:
        return None
    length = int.from_bytes(data[:width])
    return data[width : width + length] if width + length <= len(data) else None


def _behind(data: bytes | None, width: int) -> bytes | None:
    """What stands behind such a field."""
    field = _field(data, width)
    return None if data is None or field is None else data[width + len(field) :]
