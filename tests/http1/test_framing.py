"""Where a body ends: every reading of the framing fields but one is refused, and chunks are one body however they come.

The chunked reader is held against a slow one that sees the whole text at once and follows the grammar of RFC 9112 section 7.1.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slmgate.http1.framing import (
    CHUNK_LINES,
    CHUNKED,
    FREE_OVERHEAD,
    MAX_CHUNK_LINE,
    MAX_TRAILERS,
    USUAL,
    ChunkedReader,
    request_framing,
)
from slmgate.terms import Refuse
from tests.tools.feeds import cut

LENGTH, CODING = b"content-length", b"transfer-encoding"

# --- which framing


@pytest.mark.parametrize(
    ("fields", "minor", "framing"),
    [
        ({}, 1, 0),
        ({}, 0, 0),
        ({LENGTH: b"0"}, 1, 0),
        ({LENGTH: b"1"}, 0, 1),
        ({LENGTH: b"0042"}, 1, 42),
        ({LENGTH: b"9" * 18}, 1, 10**18 - 1),
        ({CODING: b"chunked"}, 1, CHUNKED),
        ({CODING: b"Chunked"}, 1, CHUNKED),
    ],
)
def test_read_in_one_way(fields: dict[bytes, bytes], minor: int, framing: int) -> None:
    assert request_framing(fields, minor) == framing


@pytest.mark.parametrize(
    ("fields", "minor"),
    [
        *(
            ({LENGTH: text}, 1)
            for text in (b"", b"-1", b"+1", b" 1", b"1 ", b"1,1", b"1, 1", b"0x1", b"1_0", b"1.0", b"1e2", b"9" * 19, b"1\n")
        ),
        ({LENGTH: "\u0661".encode()}, 1),  # a digit, but not one of ASCII
        ({LENGTH: b"\xb2"}, 1),
        ({LENGTH: b"0", CODING: b"chunked"}, 1),
        ({LENGTH: b"3", CODING: b"chunked"}, 0),
        ({CODING: b"chunked"}, 0),
        *(
            ({CODING: text}, 1)
            for text in (b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked;x", b"xchunked", b"identity")
        ),
    ],
)
def test_refused(fields: dict[bytes, bytes], minor: int) -> None:
    refused = request_framing(fields, minor)
    assert isinstance(refused, Refuse)
    assert refused.code == "invalid_request"


values = (
    st.none()
    | st.sampled_from([b"3", b"chunked", b""])
    | st.binary(max_size=20)
    | st.integers(0, 10**20).map(lambda n: b"%d" % n)
)


@given(values, values, st.integers(0, 1))
def test_framing_against_a_strict_reading(length: bytes | None, coding: bytes | None, minor: int) -> None:
    fields = {name: value for name, value in ((LENGTH, length), (CODING, coding)) if value is not None}
    expected: int | None = None
    if coding is None and length is None:
        expected = 0
    elif coding is None and length is not None and re.fullmatch(rb"[0-9]{1,18}", length):
        expected = int(length)
    elif coding is not None and length is None and minor == 1 and re.fullmatch(rb"(?i:chunked)", coding):
        expected = CHUNKED
    found = request_framing(fields, minor)
    assert found == expected if expected is not None else isinstance(found, Refuse)


# --- the chunked coding

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")


def reference(data: bytes) -> tuple[bytes, bytes] | str | None:
    """The body and what is behind it; "fault"; None where more is to come. The whole text, line by line."""
    body, at, trailers = b"", 0, 0
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return "fault" if len(data) - at > MAX_CHUNK_LINE + 1 else None
        line = data[at:end]
        if not line.endswith(b"\r"):
            return "fault"
        size = _SIZE.fullmatch(line[:-1])
        if size is None or len(line) > MAX_CHUNK_LINE + 1:
            return "fault"
        count, at = int(size[1], 16), end + 1
        if count == 0:
            break
        body += data[at : at + count]
        at += count
        if at > len(data) or len(data) - at < 2:
            return None if at > len(data) or data[at:] in (b"", b"\r") else "fault"
        if data[at : at + 2] != b"\r\n":
            return "fault"
        at += 2
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return "fault" if len(data) - at > MAX_TRAILERS else None
        line = data[at:end]
        at, trailers = end + 1, trailers + len(line) + 1
        if line == b"\r":
            return body, data[at:]
        if not line.endswith(b"\r") or trailers > MAX_TRAILERS or not _TRAILER.fullmatch(line[:-1]):
            return "fault"


def fed(pieces: list[bytes]) -> tuple[bytes, bytes] | str | None:
    reader = ChunkedReader()
    body, behind = b"", b""
    for number, piece in enumerate(pieces):
        got, rest = reader.feed(piece)
        body += b"".join(got)
        if reader.fault is not None:
            assert not reader.done
            return "fault"
        if reader.done:
            behind = rest + b"".join(pieces[number + 1 :])
            return body, behind
        assert rest == b""
    return None


def every_way(data: bytes) -> tuple[bytes, bytes] | str | None:
    whole = fed([data])
    assert fed([bytes((byte,)) for byte in data]) == whole, "byte by byte differs from whole"
    for place in range(len(data) + 1):
        assert fed([data[:place], data[place:]]) == whole, f"cut at {place} differs from whole"
    return whole


GOOD = {
    b"0\r\n\r\n": b"",
    b"000\r\n\r\n": b"",
    b"3\r\nabc\r\n0\r\n\r\n": b"abc",
    b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n": b"abc0123456789",
    b"2\r\n\r\n\r\n0\r\n\r\n": b"\r\n",
    b"1;a=b\r\nx\r\n0 ; last\r\n\r\n": b"x",
    b'1\t;a="\xe4"\r\nx\r\n0\r\n\r\n': b"x",
    b"1\r\nx\r\n0\r\na: b\r\nc:\r\n\r\n": b"x",
}


@pytest.mark.parametrize("data", GOOD)
@pytest.mark.parametrize("behind", [b"", b"G", b"\r\n", b"0\r\n\r\n"])
def test_bodies_fed_in_every_way(data: bytes, behind: bytes) -> None:
    assert every_way(data + behind) == (GOOD[data], behind)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\nx\r\n",
        b"+1\r\nx\r\n",
        b"0x1\r\nx\r\n",
        b" 1\r\nx\r\n",
        b"1 \r\nx\r\n",
        b"1\nx\r\n0\r\n\r\n",
        b"1\r\nxy\r\n",
        b"1\r\nx\n0\r\n\r\n",
        b"1\r\nx\rz",
        b"1;a\x00\r\nx\r\n",
        b"1;a\rb\r\nx\r\n",
        b"1" * 16 + b"\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\na b: c\r\n\r\n",
        b"0\r\na\r\n\r\n",
        b"0\r\n a: b\r\n\r\n",
        b"0\r\na: b\n\r\n",
        b"0\r\n\n",
    ],
)
def test_faults_fed_in_every_way(data: bytes) -> None:
    assert every_way(data) == "fault"


@pytest.mark.parametrize("past", [-1, 0, 1])
def test_the_bound_of_a_size_line(past: int) -> None:
    line = b"0;" + b"x" * (MAX_CHUNK_LINE - 2 + past)
    assert every_way(line + b"\r\n\r\n") == ("fault" if past > 0 else (b"", b""))


def test_a_size_line_without_end() -> None:
    assert fed([b"0;" + b"x" * MAX_CHUNK_LINE]) == "fault"


@pytest.mark.parametrize("past", [-1, 0, 1])
@pytest.mark.parametrize("lines", [1, 2])
def test_the_bound_of_trailers(past: int, lines: int) -> None:
    size = (MAX_TRAILERS + past - 4 * lines) // lines
    trailers = b"".join(b"a:%b\r\n" % (b"x" * size) for _ in range(lines - 1))
    trailers += b"a:%b\r\n" % (b"x" * (MAX_TRAILERS + past - len(trailers) - 4))
    expected = "fault" if past > 0 else (b"", b"")
    data = b"0\r\n" + trailers + b"\r\n"
    assert fed([data]) == expected
    assert fed([bytes((byte,)) for byte in data]) == expected


def test_trailers_without_end() -> None:
    assert fed([b"0\r\n" + b"a" * (MAX_TRAILERS + 1)]) == "fault"


@st.composite
def chunked(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body in the chunked coding, and the body."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
    extension = draw(st.sampled_from([b"", b";a", b" ;a=b", b";" + b"x" * 250]))
    trailers = draw(st.sampled_from([b"", b"a: b\r\n", b"a:\r\nb: c\r\n"]))
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return coded + b"0" + extension + b"\r\n" + trailers + b"\r\n", b"".join(pieces)


@given(chunked(), st.binary(max_size=10), st.lists(st.integers(0), max_size=6))
def test_any_split_gives_the_same_body(made: tuple[bytes, bytes], behind: bytes, places: list[int]) -> None:
    data, body = made
    assert fed(cut(data + behind, places)) == (body, behind)


mutations = st.lists(
    st.tuples(st.integers(0), st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"0", b"f", b" ", b";", b"\x00", b":"])), max_size=3
)


@given(chunked(), mutations, st.lists(st.integers(0), max_size=4), st.booleans())
@example((b"1\r\nx\r\n0\r\n\r\n", b"x"), [(3, b"")], [], True)
def test_mutated_input_is_read_as_the_reference_reads_it(
    made: tuple[bytes, bytes], changes: list[tuple[int, bytes]], places: list[int], replace: bool
) -> None:
    data = made[0]
    for place, new in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + replace :]
    assert fed(cut(data, places)) == reference(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_the_reference_reads_them(data: bytes) -> None:
    assert fed([data]) == reference(data)


def test_the_states_as_repr_tells_them() -> None:
    reader = ChunkedReader()
    seen = [repr(reader)]
    for piece in (b"2\r\nx", b"x", b"\r\n", b"0\r\n", b"\r\n"):
        reader.feed(piece)
        seen.append(repr(reader))
    names = ["size", "data", "data_end", "size", "trailer", "done"]
    assert seen == [f"<ChunkedReader {name}>" for name in names]
    reader = ChunkedReader()
    reader.feed(b"x\r\n")
    assert repr(reader) == "<ChunkedReader A chunk's size line is malformed.>"


def test_tiny_chunks_have_an_end() -> None:
    """A chunk costs more than its bytes: so many tiny ones are refused, wherever they are cut."""
    reader = ChunkedReader()
    most = FREE_OVERHEAD // 2  # each adds three bytes of size line for one of body
    reader.feed(b"1\r\nx\r\n" * most)
    assert reader.fault is None
    reader.feed(b"1\r\nx\r\n")
    assert reader.fault == "The chunks are too small for so many of them."
    fair = ChunkedReader()
    fair.feed(b"40\r\n" + b"x" * 64 + b"\r\n")
    for _ in range(FREE_OVERHEAD):
        fair.feed(b"4\r\nabcd\r\n")
    assert fair.fault is None


ONE = b"5\r\nhello\r\n"


def only_chunk(data: bytes) -> bytes | None:
    """The chunk that `data` is by its line."""
    line = CHUNK_LINES[len(data)] if len(data) < USUAL else b"longer than any"
    return data[len(line) : -2] if data.startswith(line) and data.endswith(b"\r\n") else None


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, USUAL - 8])
def test_the_one_chunk_that_a_piece_is(size: int) -> None:
    assert only_chunk(b"%x\r\n%b\r\n" % (size, b"x" * size)) == b"x" * size
    assert len(CHUNK_LINES) == USUAL


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"5",
        b"\r\n",
        ONE[:-1],
        ONE + b"0",
        ONE + ONE,
        b"4\r\nhello\r\n",
        b"6\r\nhello\r\n",
        b"05\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5;a\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n\n",
        b"5\r\nhello\r\r",
        b"A\r\n0123456789\r\n",
        b"0\r\n\r\n",
        b"1000\r\n" + b"x" * 4096 + b"\r\n",
        # of these lengths no chunk is: found by fuzzing, when a NUL stood for that
        *(b"\0" * (size - 2) + b"\r\n" for size in (3, 4, 5, 21, 262)),
    ],
)
def test_what_is_not_one_chunk(data: bytes) -> None:
    """Or is one that is seldom seen: all that is `feed`'s to read."""
    assert only_chunk(data) is None


@pytest.mark.parametrize("before", [b"3", b"3\r\n", b"3\r\nab", b"3\r\nabc", b"3\r\nabc\r", b"0\r\n", b"0\r\n\r\n", b"x\r\n"])
def test_at_rest_between_chunks_only(before: bytes) -> None:
    reader = ChunkedReader()
    assert reader.at_rest
    reader.feed(before)
    assert not reader.at_rest or reader.fault is not None
    between = ChunkedReader()
    between.feed(ONE)
    assert between.at_rest


@given(st.binary(max_size=30))
def test_one_chunk_is_read_as_feed_reads_it(data: bytes) -> None:
    chunk = only_chunk(data)
    if chunk is not None:
        assert ChunkedReader().feed(data) == ([chunk], b"")


def test_what_is_announced_of_a_body() -> None:
    """The size of a chunk counts as soon as it is told, so that nobody waits for what is too much."""
    reader = ChunkedReader()
    assert reader.announced == 0
    reader.feed(b"2\r\n{}\r\nffffff\r\n{")
    assert reader.announced == 2 + 0xFFFFFF
