"""What a TLS client says in its first message, as far as that is asked here: how long it is, and what it offers.

OpenSSL reads the message as well, and judges it; here a malformed one just offers nothing. Pure: bytes in, facts out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CLIENT_HELLO = 1
"""The type of the handshake message (RFC 8446 section 4)."""
_HEADER = 4
"""Bytes before a message of the handshake: its type and its length."""
_HANDSHAKE, _RECORD_HEADER = 22, 5
"""The type of the records that such messages come in, and the bytes before each: type, version, length."""
_ALPN, _VERSIONS, _KEY_SHARE = 16, 43, 51
_TLS_1_3 = b"\3\4"
GROUPS = frozenset((29, 23, 24))
"""The numbers of those in `openssl.GROUPS` (RFC 8446 section 4.2.7)."""
_FIXED = _HEADER + 2 + 32
"""Bytes before the first field that varies: type and length, version, random."""


class Begun(NamedTuple):
    """How a connection begins, as far as that has come."""

    message: bytes
    """The ClientHello with its header of four bytes, or its beginning."""
    length: int
    """How long it says that it is, without that header; 0: that has yet to come."""
    missing: int
    """Bytes that have to come at the least before more can be told; 0: it is whole."""


BROKEN: Final = Begun(b"", 0, 0)
"""No client may begin like that (RFC 8446 section 5.1), but OpenSSL would take it: nobody can say for how long."""


def begun(came: bytes) -> Begun | None:
    """What a connection begins with. None: with no ClientHello, as OpenSSL sees too. Records may cut a message anywhere."""
    message = bytearray()
    wanted = _HEADER
    at = 0
    while len(message) < wanted:
        record = came[at : at + _RECORD_HEADER]
        if record and record[0] != _HANDSHAKE:
            return BROKEN if at else None
        if len(record) < _RECORD_HEADER:
            missing = _RECORD_HEADER + wanted - len(message) - len(record) if came else 1
            break
        holds = int.from_bytes(record[3:])
        if not holds:
            return BROKEN
        at += _RECORD_HEADER
        message += came[at : at + holds]
        at += holds
        if message[:1] not in (b"", bytes((CLIENT_HELLO,))):
            return None
        if len(message) >= _HEADER:
            wanted = _HEADER + int.from_bytes(message[1:_HEADER])
        missing = max(0, wanted - len(message))
        if at > len(came):
            break
    length = int.from_bytes(message[1:_HEADER]) if len(message) >= _HEADER else 0
    return Begun(bytes(message[:wanted]), length, missing)


def is_asked_again(message: bytes) -> bool:
    """Whether the server has to ask for another ClientHello: this one offers TLS 1.3, but no key of a group in `GROUPS`.

    How long the second one may be is up to OpenSSL. True also of what nobody can read.
    """
    extensions = _extensions(message)
    if extensions is None:
        return True
    versions = _field(extensions.get(_VERSIONS, b"\0"), 1)
    if versions is None:
        return True
    if _TLS_1_3 not in [versions[at : at + 2] for at in range(0, len(versions), 2)]:
        return False
    shares = _field(extensions.get(_KEY_SHARE), 2)
    while shares:
        key = _field(shares[2:], 2)
        if key is None:
            return True
        if int.from_bytes(shares[:2]) in GROUPS:
            return False
        shares = shares[4 + len(key) :]
    return True


def protocols(message: bytes) -> tuple[bytes, ...]:
    """The protocols that a ClientHello offers, with its handshake header of four bytes; none where there is anything else."""
    return _names(_field((_extensions(message) or {}).get(_ALPN), 2))


def _extensions(message: bytes) -> dict[int, bytes] | None:
    """Those of a ClientHello, by their kinds; None: it cannot be read. Of two of a kind (OpenSSL refuses them) the first."""
    if message[:1] != bytes((CLIENT_HELLO,)) or int.from_bytes(message[1:4]) != len(message) - 4:
        return None
    rest = _behind(message[_FIXED:], 1)  # the session's id
    rest = _behind(rest, 2)  # cipher suites
    rest = _behind(rest, 1)  # compression methods
    if not rest:
        return None if rest is None else {}
    extensions = _field(rest, 2)
    if extensions is None:
        return None
    found: dict[int, bytes] = {}
    while extensions:
        kind, body = extensions[:2], _field(extensions[2:], 2)
        if body is None:
            return None
        found.setdefault(int.from_bytes(kind), body)
        extensions = extensions[4 + len(body) :]
    return found


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
