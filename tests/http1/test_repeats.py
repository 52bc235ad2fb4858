"""Heads that come again: known only where nothing but the length differs, and the body is there to its last byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.http1.framing import MAX_DIGITS
from slmgate.http1.repeats import MAX_SEEN, seen_head

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Length: %b\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize("body", [b"", b"x", b"12", b"\r\n\r\n", b"y" * 12345])
@pytest.mark.parametrize("seen", [b"0", b"7", b"99", b"100000"])
def test_the_same_head_with_another_length(seen: bytes, body: bytes) -> None:
    known = seen_head(HEAD % seen)
    assert known is not None
    assert known.body(HEAD % b"%d" % len(body) + body) == body


@pytest.mark.parametrize("length", [b"007", b"0" * (MAX_DIGITS - 1) + b"7"])
def test_leading_zeros_are_digits(length: bytes) -> None:
    known = seen_head(HEAD % b"3")
    assert known is not None
    assert known.body(HEAD % length + b"seven b") == b"seven b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD % b"",
        HEAD % b"-1",
        HEAD % b"+1" + b"x",
        HEAD % b"1 " + b"x",
        HEAD % b" 1" + b"x",
        HEAD % b"1_0" + b"x" * 10,
        HEAD % b"0x1" + b"x",
        HEAD % "\u0661".encode() + b"x",
        HEAD % (b"0" * MAX_DIGITS + b"1") + b"x",
        HEAD % b"2" + b"x",
        HEAD % b"2" + b"xyz",
        HEAD % b"1" + b"x" + HEAD % b"1" + b"x",
        HEAD % b"1\r\nContent-Length: 1" + b"x",
        HEAD % b"1\r\nTransfer-Encoding: chunked" + b"x",
        (HEAD % b"1").replace(b"gate", b"gat3") + b"x",
        (HEAD % b"1").replace(b"*/*", b"*/x") + b"x",
        (HEAD % b"1").replace(b"Host", b"host") + b"x",
        (HEAD % b"1").replace(b"\r\n\r\n", b"\n\n") + b"x",
        (HEAD % b"1")[:-1],
        b" " + HEAD % b"1" + b"x",
    ],
)
def test_what_is_not_known_again(data: bytes) -> None:
    known = seen_head(HEAD % b"1")
    assert known is not None
    assert known.body(data) is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: g\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nX-Content-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: %b\r\n\r\n" % (b"1" * (MAX_DIGITS + 1)),
    ],
)
def test_heads_without_one_length(head: bytes) -> None:
    assert seen_head(head) is None


@pytest.mark.parametrize("past", [0, 1])
def test_the_bound_of_what_is_kept(past: int) -> None:
    head = HEAD % b"1"
    longest = head.replace(b"*/*", b"x" * (MAX_SEEN - len(head) + 3 + past))
    assert len(longest) == MAX_SEEN + past
    assert (seen_head(longest) is None) is bool(past)


def test_blanks_behind_the_digits_are_read_the_long_way() -> None:
    known = seen_head(HEAD % b"1 ")
    assert known is not None
    assert known.body(HEAD % b"1 " + b"x") is None


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 60))
def test_any_bytes_put_anywhere(put: bytes, start: int, end: int) -> None:
    """Whatever is known again is the head with other digits, to the byte, and a body as long as they say."""
    whole = HEAD % b"5" + b"hello"
    data = whole[: len(whole) - end] + put + whole[len(whole) - end + start :]
    known = seen_head(HEAD % b"5")
    assert known is not None
    body = known.body(data)
    if body is not None:
        digits = data[len(HEAD.partition(b"%b")[0]) :].partition(b"\r")[0]
        assert data == HEAD % digits + body
        assert int(digits) == len(body)


def test_repr() -> None:
    assert repr(seen_head(b"P / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")) == "<SeenHead of 34 bytes>"
