"""Where a request's body ends: the rules of RFC 9112 section 6, in their strictest reading, and the chunked coding.

One reading or a refusal: what two parsers could read differently is refused here, so that nothing behind the gate can
disagree with it. This module knows no socket and keeps no clock; it does not decide how large a body may be, only what
its framing says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from slmgate.terms import Refuse

CHUNKED = -1
"""The framing of a body in the chunked coding, where a sized body's framing is its length."""

UNTIL_CLOSE = -2
"""The framing of an answer that ends with its connection (RFC 9112 section 6.3, last rule)."""

MAX_DIGITS = 18
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
MAX_CHUNK_LINE = 256
MAX_TRAILERS = 8192
FREE_OVERHEAD = 64 * 1024
"""Bytes of size lines that any body may have; beyond, a body may not have more of them than of itself."""


def request_framing(fields: Mapping[bytes, bytes], minor: int) -> int | Refuse:
    """The body's length in bytes, or `CHUNKED`, from a request's fields (lower-case names); RFC 9112 section 6.3.

    `minor` is the minor HTTP version: HTTP/1.0 has no chunked coding. Both framings at once are refused, as the RFC
    allows and as the smuggling cases ask for.
    """
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is None:
        if length is None:
            return 0
        if length.isdigit() and len(length) <= MAX_DIGITS:  # ASCII digits only, for bytes
            return int(length)
        return Refuse("invalid_request", "The Content-Length header is not a number.")
    if length is not None:
        return Refuse("invalid_request", "A request has Content-Length or Transfer-Encoding, not both.")
    if minor == 0:
        return Refuse("invalid_request", "HTTP/1.0 has no Transfer-Encoding.")
    if coding.lower() != b"chunked":
        return Refuse("invalid_request", "The only transfer coding understood here is chunked.")
    return CHUNKED


USUAL = 4096
"""Of pieces shorter than this, size line and all, it is known at a glance whether they are one chunk."""


def _lines() -> list[bytes]:
    none = bytes(USUAL)  # longer than any piece that is looked up, so that none begins with it, whatever its bytes are
    lines: list[bytes] = []
    for size in range(1, USUAL):
        line = b"%x\r\n" % size
        lines += [none] * (len(line) + size + 2 - len(lines))
        lines.append(line)
    return lines[:USUAL]


CHUNK_LINES = _lines()
"""The size line of a chunk by the length of the whole, of which each has one at the most; else what no piece begins with.

A piece that is shorter than `USUAL`, begins with its line and ends with CR LF is one chunk, from its first byte to its last. That
is a short way beside `ChunkedReader.feed`, while the reader is `at_rest`: what is taken so, it must not be given.
"""
# The states of a reader: what comes next.
SIZE: Final = "size"
DATA: Final = "data"
DATA_END: Final = "data_end"
TRAILER: Final = "trailer"


class ChunkedReader:
    """Takes the chunked coding off a body as its bytes arrive (RFC 9112 section 7.1), strictly.

    Bare line feeds, signs, blanks around a size, oversized extensions and malformed trailers are faults. Trailers are
    read and thrown away: nothing here acts on them. Feed it; when `done`, what `feed` returned second follows the body.
    """

    __slots__ = ("_body", "_free", "_left", "_overhead", "_pending", "_state", "_trailers", "done", "fault")

    def __init__(self, free: float = FREE_OVERHEAD) -> None:
        """`free`: bytes of size lines that the body may have beyond its own size; infinite where small chunks are no attack."""
        self._free = free
        self._pending = b""  # bytes of an incomplete line, or of the line end behind a chunk
        self._left = 0  # bytes still to come of the chunk under way
        self._state = SIZE
        self._body = 0  # bytes of body so far, by the sizes of its chunks
        self._overhead = 0  # bytes of size lines so far
        self._trailers = 0  # bytes of trailers so far
        self.done = False
        self.fault: str | None = None

    def __repr__(self) -> str:
        return f"<ChunkedReader {'done' if self.done else self.fault or self._state}>"

    @property
    def announced(self) -> int:
        """The bytes of body so far, with those of the chunk under way that are still to come."""
        return self._body

    @property
    def at_rest(self) -> bool:
        """No chunk is unfinished, nor a line: the next bytes begin a new one, and `CHUNK_LINES` may be asked."""
        return self._state is SIZE and not self._pending

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The pieces of body in `data`, and the bytes after the body's end (only when `done`).

        After a fault, `fault` says what was wrong, and nothing more is to be fed.
        """
        pieces: list[bytes] = []
        data = self._pending + data
        self._pending = b""
        at = 0
        while self.fault is None and not self.done:
            if self._state is DATA:
                piece = data[at : at + self._left]
                if piece:
                    pieces.append(piece)
                    at += len(piece)
                    self._left -= len(piece)
                if self._left:
                    return pieces, b""
                self._state = DATA_END
            if self._state is DATA_END:
                if not b"\r\n".startswith(data[at : at + 2]):
                    self.fault = "A chunk does not end where its size says."
                elif len(data) - at < 2:
                    self._pending = data[at:]
                    return pieces, b""
                else:
                    at += 2
                    self._state = SIZE
                continue
            end = data.find(b"\n", at)
            if end < 0:
                # of a size line, its carriage return may be here
                if len(data) - at > (MAX_TRAILERS if self._state is TRAILER else MAX_CHUNK_LINE + 1):
                    self.fault = "A line of the chunked coding is too long."
                self._pending = data[at:]
                return pieces, b""
            self._line(data[at : end + 1])
            at = end + 1
        return pieces, data[at:] if self.done else b""

    def _line(self, line: bytes) -> None:
        """Act on one line, a chunk's size or a trailer, given with its line end."""
        if not line.endswith(b"\r\n"):
            self.fault = "A line of the chunked coding ends without a carriage return."
            return
        text = line[:-2]
        if self._state is SIZE:
            found = _CHUNK_LINE.fullmatch(text)
            if found is None or len(text) > MAX_CHUNK_LINE:
                self.fault = "A chunk's size line is malformed."
                return
            self._left = int(found[1], 16)
            self._body += self._left
            self._overhead += len(line)
            if self._overhead > self._free + self._body:
                self.fault = "The chunks are too small for so many of them."
                return
            self._state = DATA if self._left else TRAILER
            return
        self._trailers += len(line)
        if not text:
            self.done = True
        elif self._trailers > MAX_TRAILERS or not _TRAILER_LINE.fullmatch(text):
            self.fault = "The trailers are malformed or too long."
