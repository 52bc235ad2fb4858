"""What a TLS client says in its first message, as far as that is asked here: how long it is, and which protocols it offers.

OpenSSL reads the message as well, and judges it; here a malformed one just offers nothing. Pure: bytes in, facts out.
"""

from __future__ import annotations

CLIENT_HELLO = 1
"""The type of the handshake message (RFC 8446 section 4)."""
_HEADER = 4
"""Bytes before a message of the handshake: its type and its length."""
_HANDSHAKE, _RECORD_HEADER = 22, 5
"""The type of the records that such messages come in, and the bytes before each: type, version, length."""
_ALPN = 16
_FIXED = _HEADER + 2 + 32
"""Bytes before the first field that varies: type and length, version, random."""


def length(came: bytes) -> int | None:
    """How long the ClientHello says that it is with which a connection begins, of which so much has come. 0: it is none.

    None: that is still to come. Records may cut a message anywhere (RFC 8446 section 5.1).
    """
    head, at = b"", 0
    while len(head) < _HEADER:
        record = came[at : at + _RECORD_HEADER]
        if record and record[0] != _HANDSHAKE:
            return 0
        if len(record) < _RECORD_HEADER:
            return None
        holds = int.from_bytes(record[3:])
        if not holds:
            return 0  # no record of a handshake may be empty
        at += _RECORD_HEADER
        head += came[at : at + min(holds, _HEADER - len(head))]
        at += holds
    return int.from_bytes(head[1:]) if head[0] == CLIENT_HELLO else 0


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
