"""The scanner of newline-delimited JSON: cuts, last lines, and lines that are too long to keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.ndjson import MAX_KEPT, NdjsonScanner
from slmgate.terms import Usage
from tests.tools.feeds import cut, every_way, feed


class Letters(NdjsonScanner):
    """A stand-in: `t` is generated text, a line with `!` is special."""

    __slots__ = ()

    def special(self, data: bytes) -> bool:
        return b"!" in data

    def count(self, data: bytes) -> int:
        return data.count(b"t")

    def look(self, line: bytes) -> None:
        self.finished = self.finished or line.strip() == b"end!"
        self.usage = Usage(len(line.strip()), 0)


@pytest.mark.parametrize("tail", [b"", b"\n", b"\ntrailing t", b"\r\n", b"\n\n"])
def test_every_cut_gives_the_same(tail: bytes) -> None:
    data = b"t\nother!\n\nt t\nend!" + tail
    whole = every_way(Letters, data)
    assert whole == (data, Usage(4, 0), 4 + tail.count(b"t"), True)


def test_chunks_are_returned_themselves() -> None:
    scanner = Letters()
    for chunk in (b"t\n", b"half", b" line\n", b"", b"end!\nx"):
        assert scanner.feed(chunk) is chunk
    assert scanner.finished


def test_usual_lines_need_not_be_fed() -> None:
    scanner = Letters()
    assert [scanner.usual(chunk) for chunk in (b"t\n", b"t\nt\n", b"", b"t", b"end!\n")] == [1, 2, -1, -1, -1]
    assert (scanner.tokens_seen, scanner.at_rest) == (0, True), "it was asked, and told nothing"
    for half in (b"half", b"!" * (MAX_KEPT + 1)):
        scanner.feed(half)
        assert not scanner.at_rest
        scanner.feed(b"\n")
        assert scanner.at_rest


def test_mid_event() -> None:
    scanner = Letters()
    assert not scanner.mid_event
    scanner.feed(b"t\nhalf")
    assert scanner.mid_event
    scanner.feed(b"\n")
    assert not scanner.mid_event


@pytest.mark.parametrize(("size", "kept"), [(MAX_KEPT - 1, True), (MAX_KEPT, True), (MAX_KEPT + 1, False)])
def test_kept_bytes_are_bounded(size: int, kept: bool) -> None:
    scanner = Letters()
    scanner.feed(b"!" + b"x" * (size - 1))
    assert scanner.mid_event
    assert len(scanner._buffer) == (size if kept else 0)
    scanner.feed(b"more")
    scanner.feed(b"\nt\nend!\n")
    assert (scanner.finished, scanner.tokens_seen, scanner.mid_event) == (True, 1, False)


def test_the_questions_are_for_a_dialect_to_answer() -> None:
    bare = NdjsonScanner()
    for question in (bare.special, bare.count, bare.look):
        with pytest.raises(NotImplementedError):
            question(b"")


@given(
    st.lists(st.sampled_from([b"t", b"end!", b"other!", b"\n", b"\r\n"]), max_size=20), st.lists(st.integers(0, 99), max_size=8)
)
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    whole = every_way(Letters, data, stride=3)
    assert feed(Letters, cut(data, places)) == whole
    assert whole.sent == data
