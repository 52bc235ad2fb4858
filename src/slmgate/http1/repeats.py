"""Heads that come again: the same bytes as before, but for the digits of Content-Length.

A client repeats its head from request to request, an instance from answer to answer. What was worked out for a head holds
for its repetition, since all but the body's length follows from the bytes; so the parser is spared. This module knows
neither what a head says nor who sent it.
"""

from __future__ import annotations

import re

from slmgate.http1.framing import MAX_DIGITS

MAX_SEEN = 4096
"""Bytes of a head that is kept: one for each connection, so that long ones would add up."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})(?=[ \t]*\r\n)" % MAX_DIGITS, re.IGNORECASE)


class SeenHead:
    """One head that was found good, cut at the digits of its Content-Length."""

    __slots__ = ("_after", "_before", "_rest", "_start")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._start = len(before)
        self._rest = len(after)

    def __repr__(self) -> str:
        return f"<SeenHead of {self._start + self._rest} bytes>"

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head again, with any length, and exactly the body of that length; else None."""
        if not data.startswith(self._before):
            return None
        start = self._start
        end = data.find(b"\r", start, start + MAX_DIGITS + 1)
        if end < 0 or not data.startswith(self._after, end):
            # blanks behind the digits belong to what comes after them: such a head is read the long way each time
            return None
        digits = data[start:end]
        body = data[end + self._rest :]
        return body if digits.isdigit() and int(digits) == len(body) else None


def seen_head(head: bytes) -> SeenHead | None:
    """The head (with its empty line) as one to be known again; None where it is long, or has not exactly one Content-Length.

    Only for a head that was accepted: a repetition is accepted unread.
    """
    found = list(_LENGTH.finditer(head)) if len(head) <= MAX_SEEN else []
    return SeenHead(head[: found[0].start(1)], head[found[0].end(1) :]) if len(found) == 1 else None
