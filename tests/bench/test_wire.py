"""The benchmark's own request and its reading of answers, fed whole, short and with trailing bytes."""

from __future__ import annotations

import json

import pytest

from bench import wire

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\n\r\n"


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
def test_an_answer_is_read_whole_with_trailing_bytes_and_never_short(data: bytes) -> None:
    assert wire.parse(data)[0::2] == (200, b"hello")
    assert wire.parse(data + b"HTTP/1.1 ...").size == len(data)
    for end in range(len(data)):
        with pytest.raises(wire.IncompleteError):
            wire.parse(data[:end])


@pytest.mark.parametrize("data", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n"])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an HTTP response|neither a length"):
        wire.parse(data)


def test_the_request_is_compact_and_says_its_length() -> None:
    head, _, body = wire.request(9000, wire.body(stream=True, chunks=7)).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    fields = json.loads(body)
    assert (fields["stream"], fields["max_tokens"], fields["stream_options"]) == (True, 7, {"include_usage": True})
    assert 250 <= len(wire.body()) <= 350


def test_the_text_of_a_right_answer_and_of_others() -> None:
    assert wire.text_of(wire.answer()) == wire.ANSWER
    for other in (b"", b"{}", b"[]", b'{"choices":[]}', b'{"choices":[{"message":null}]}', b"<html>"):
        assert wire.text_of(other) == ""
