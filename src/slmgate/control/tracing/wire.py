"""OTLP's protobuf, as far as it is written here: messages as bytes, put together from parts that are encoded once.

The official classes would take ten times as long for each span, and the SDK thirty times: docs/dependencies.md has the figures.
Tests read what this writes with the official classes. It knows the format's field numbers, and no receipt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans."""
INFO, WARN, ERROR = 9, 13, 17
"""Severities of log records."""
FAILED = b"\x7a\x02\x18\x02"
"""The status of a span that ended in an error."""

_DOUBLE = struct.Struct("<cd").pack
# Spans (trace.proto): trace_id, span_id, parent_span_id, kind, start and end, flags (W3C's, and whether the parent is remote).
_CHILD = struct.Struct("<2s16s2s8s2s8scBcQcQ2sI").pack
_ROOT = struct.Struct("<2s16s2s8scBcQcQ2sI").pack
_KNOWN, _REMOTE = 0x100, 0x200
# Log records (logs.proto): time and observed time.
_TIMES = struct.Struct("<cQcQ").pack

_SMALL_VALUE = 128
_MOST_WHOLES = 4096
"""Numbers below this are kept as they are written, for each key; no others."""
_SMALL = [bytes((number,)) for number in range(256)]


def varint(number: int) -> bytes:
    """A whole number that is not negative."""
    if number < 0x80:
        return _SMALL[number]
    if number < 0x4000:
        return _SMALL[number & 0x7F | 0x80] + _SMALL[number >> 7]
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def block(field: int, payload: bytes) -> bytes:
    """A field (below 16) that holds a text, bytes or a message."""
    return _SMALL[field << 3 | 2] + varint(len(payload)) + payload


def texted(field: int, text: str) -> bytes:
    return block(field, text.encode(errors="replace"))


class Key:
    """The name of an attribute; `field` is where the attributes stand in what they are of: 9 in a span, 6 in a log record."""

    __slots__ = ("_field", "_heads", "_key", "_text_heads", "_wholes")

    def __init__(self, name: str, field: int = 9) -> None:
        self._field = field
        self._key = texted(1, name) + b"\x12"
        self._heads: dict[int, bytes] = {}  # by a value's size, of small ones: what stands before it
        self._text_heads: dict[int, bytes] = {}  # the same of texts, by their own size
        self._wholes: dict[int, bytes] = {}  # whole numbers as they stand there, for most come again

    def _of(self, value: bytes) -> bytes:
        size = len(value)
        head = self._heads.get(size)
        if head is None:
            before = self._key + varint(size)
            head = b"%c%b%b" % (self._field << 3 | 2, varint(len(before) + size), before)
            if size < _SMALL_VALUE:
                self._heads[size] = head
        return head + value

    def text(self, value: str) -> bytes:
        text = value.encode(errors="replace")
        head = self._text_heads.get(len(text))
        if head is not None:
            return head + text
        made = self._of(block(1, text))
        if len(text) < _SMALL_VALUE:
            self._text_heads[len(text)] = made[: len(made) - len(text)]
        return made

    def whole(self, value: int) -> bytes:
        made = self._wholes.get(value)
        if made is None:
            made = self._of(b"\x18" + varint(value))
            if value < _MOST_WHOLES:
                self._wholes[value] = made
        return made

    def fraction(self, value: float) -> bytes:
        return self._of(_DOUBLE(b"\x21", value))

    def switch(self, value: bool) -> bytes:
        return self._of(b"\x10\x01" if value else b"\x10\x00")


def texts(values: Iterable[tuple[str, str]], field: int = 9) -> bytes:
    """Attributes that are texts; of empty ones nothing is said."""
    return b"".join(Key(name, field).text(value) for name, value in values if value)


def span(ids: tuple[bytes, bytes, bytes], flags: int, kind: int, times: tuple[int, int], rest: bytes) -> bytes:
    """A span as it stands in `ScopeSpans`. `ids`: of the trace, of the span, of its parent (empty: none). `times` are nanoseconds
    since the epoch. `rest`: its name, attributes and status. `flags`: of the trace; with `REMOTE`, the parent is another's span.
    """
    trace_id, own, parent = ids
    if parent:
        head = _CHILD(
            b"\x0a\x10", trace_id, b"\x12\x08", own, b"\x22\x08", parent, b"\x30", kind, b"\x39", times[0], b"\x41", times[1],
            b"\x85\x01", flags,
        )  # fmt: skip
    else:
        head = _ROOT(
            b"\x0a\x10", trace_id, b"\x12\x08", own, b"\x30", kind, b"\x39", times[0], b"\x41", times[1], b"\x85\x01", flags
        )
    return block(2, head + rest)


def flags(of_trace: int, remote: bool) -> int:
    """A span's flags: those of its trace, and whether its parent is another's."""
    return of_trace | _KNOWN | (_REMOTE if remote else 0)


def log_record(at: int, seen: int, rest: bytes) -> bytes:
    """A log record as it stands in `ScopeLogs`, of what happened `at` and was `seen` then (nanoseconds since the epoch)."""
    return block(2, _TIMES(b"\x09", at, b"\x59", seen) + rest)


def severity(number: int, word: str) -> bytes:
    return b"\x10%c" % number + texted(3, word)


def body(text: str) -> bytes:
    """What a log record says."""
    return block(5, texted(1, text))


def place(trace_id: bytes, span_id: bytes, of_trace: int) -> bytes:
    """The span that a log record is of."""
    return struct.pack("<cI", b"\x45", of_trace) + block(9, trace_id) + block(10, span_id)


class Envelope:
    """What a request to a collector holds around its spans or log records: who says it."""

    def __init__(self, resource: Iterable[tuple[str, str]], scope: tuple[str, str]) -> None:
        self._resource = block(1, texts(resource, field=1))
        self._scope = block(1, texted(1, scope[0]) + texted(2, scope[1]))

    def around(self, items: Iterable[bytes]) -> bytes:
        """The whole request; traces and logs have the same form here."""
        return block(1, self._resource + block(2, self._scope + b"".join(items)))


def rejected(answer: bytes) -> int:
    """How many of the items a collector says it has not taken (`partial_success`). An answer that cannot be read says nothing."""
    inner = _first_block(answer)
    if not inner or inner[0] != 0x08:
        return 0
    number = shift = 0
    for byte in inner[1:11]:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number if number < 1 << 63 else 0
    return 0


def _first_block(message: bytes) -> bytes:
    """The payload of field 1, where a message begins with it."""
    if len(message) < 2 or message[0] != 0x0A or message[1] >= 0x80:
        size, at = (message[1] & 0x7F | message[2] << 7, 3) if len(message) > 2 and message[0] == 0x0A else (0, 0)
    else:
        size, at = message[1], 2
    return message[at : at + size]
