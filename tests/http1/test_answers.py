"""The gate's own answers as bytes: heads that say their body's length, no body where HTTP has none.

Whose answer it is and what stands in it is decided elsewhere.
"""

from __future__ import annotations

import pytest

from slmgate.http1.answers import CLOSE, CONTINUE, KEEP_ALIVE, answer, date_line, without_body

DATE = b"date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (784111777.0, b"Sun, 06 Nov 1994 08:49:37 GMT"),  # the example of RFC 9110 section 5.6.7
        (784111777.999, b"Sun, 06 Nov 1994 08:49:37 GMT"),
    ],
)
def test_dates(now: float, text: bytes) -> None:
    assert date_line(now) == b"date: " + text + b"\r\n"


def test_a_whole_answer() -> None:
    whole = answer(429, b'{"a":1}', DATE, fields=b"retry-after: 1\r\n" + CLOSE, request_id=b"r-1")
    assert whole == (
        b"HTTP/1.1 429 Too Many Requests\r\n" + DATE + b"content-type: application/json\r\ncontent-length: 7\r\n"
        b"x-request-id: r-1\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        b'{"a":1}'
    )


@pytest.mark.parametrize("body", [b"", b"ok\n", b"\r\n\r\n", b"x" * 100_000])
def test_the_length_is_the_bodys(body: bytes) -> None:
    head, _, rest = answer(200, body, DATE, content_type=b"text/plain").partition(b"\r\n\r\n")
    assert rest == body
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
    assert b"x-request-id" not in head


def test_no_content() -> None:
    assert answer(204, b"", DATE, fields=b"allow: GET\r\n") == b"HTTP/1.1 204 No Content\r\n" + DATE + b"allow: GET\r\n\r\n"


@pytest.mark.parametrize("body", [b"", b"abc", b"a\r\n\r\nb"])
def test_head_gets_the_head(body: bytes) -> None:
    whole = answer(200, body, DATE)
    assert without_body(whole) + body == whole


def test_words() -> None:
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (CLOSE, KEEP_ALIVE) == (b"connection: close\r\n", b"connection: keep-alive\r\n")
