"""The answers that the gate gives itself: refusals, lists, health, and the date line that all answers share.

Bodies come ready made (a dialect's, or a short text); this module puts an HTTP head before them. It knows no socket and
no policy, and reads no clock: `now` is an argument.
"""

from __future__ import annotations

from email.utils import formatdate

from slmgate.http1.heads import STATUS_LINES

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"  # said only to HTTP/1.0 clients, which need the word
JSON = b"application/json"


def date_line(now: float) -> bytes:
    """The `date` header line for `now`, seconds since the epoch (RFC 9110 section 6.6.1). Made once a second by the worker."""
    return b"date: %b\r\n" % formatdate(now, usegmt=True).encode()


def answer(
    status: int, body: bytes, date: bytes, *, fields: bytes = b"", request_id: bytes = b"", content_type: bytes = JSON
) -> bytes:
    """A whole answer of the gate's own. `fields` are further header lines, each with its line end.

    204 has neither body nor length (RFC 9110 section 8.6).
    """
    if status == 204:
        return b"%b%b%b\r\n" % (STATUS_LINES[status], date, fields)
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        STATUS_LINES[status],
        date,
        content_type,
        len(body),
        b"x-request-id: %b\r\n" % request_id if request_id else b"",
        fields,
        body,
    )


def without_body(whole: bytes) -> bytes:
    """The same answer as HEAD asks for it: the head alone, its content-length kept (RFC 9110 section 9.3.2)."""
    return whole[: whole.index(b"\r\n\r\n") + 4]
