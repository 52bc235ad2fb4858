"""One request's life on fakes, as transcripts: every way through, and every step at which it can fail.

The `road` fixture checks behind each test that every request left exactly one receipt and that nothing is held. A record
stands before the bytes that it must precede: the intent before the request, the receipt before the client's last bytes.
"""

from __future__ import annotations

from tests.tools.road import STREAMED, Road
from tests.tools.shown import meant

USAGE = rb'{"usage":{"prompt_tokens":5,"completion_tokens":7}}'

# --- the plain way


def test_plain(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 {}
        == 200     complete a 5+1~
        << client  200 | {}
    """)


def test_streamed_with_its_usage_stripped(road: Road) -> None:
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       chunk <5+2>
        >> a       chunk <x>
        << client  2f\r\n<x>\r\n
        >> a       chunk <done>
        << client  e\r\n<done>\r\n
        >> a       end
        == 200     complete a 5+2
        << client  0\r\n\r\n
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       200 <used>
        == 200     complete a 5+7
        << client  200 | <used>
    """)


def test_a_stream_in_one_piece_without_figures(road: Road) -> None:
    road.plays(
        r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       all
        == 200     complete a 8+1~
        << client  <sse> 3d\r\n<x><done>\r\n0\r\n\r\n
        """,
        all=STREAMED + b"3d\r\n" + meant("<x><done>") + b"\r\n0\r\n\r\n",
    )


def test_a_sized_body_in_pieces(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234
        << client  200 content-length: 10 | 01234
        >> a       567
        << client  567
        >> a       89
        == 200     complete a 5+3~
        << client  89
    """)


def test_a_body_until_close(road: Road) -> None:
    """Whole if its JSON is whole (RFC 9112 section 6.3 leaves nothing else to go by)."""
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 200 OK\r\n\r\n<used>
        << client  200 transfer-encoding: chunked | 33\r\n<used>\r\n
        >> a       ends
        << a       closed
        == 200     complete a 5+7
        << client  0\r\n\r\n
        >> client  chat
        == intent  a
        << a2      <chat>
        >> a2      HTTP/1.1 200 OK\r\n\r\n{"usage":
        << client  200 transfer-encoding: chunked | 9\r\n{"usage":\r\n
        >> a2      ends
        << a2      closed
        == 200     upstream_error a !upstream_error 5+3~
        << client  closed
    """)


def test_a_status_of_the_instance_passes(road: Road) -> None:
    road.plays(r"""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       400 {"error":{"code":"too_long"}}
        == 400     complete a
        << client  400 !too_long
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 204 No Content\r\n\r\n
        == 204     complete a 5+0~
        << client  204
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       HTTP/1.1 299 Odd\r\ncontent-length: 0\r\nretry-after: 3\r\nserver: x\r\n\r\n
        == 299     complete a 5+0~
        << client  299 retry-after: 3
    """)
