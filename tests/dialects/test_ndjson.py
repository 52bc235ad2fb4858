"""The scanner of newline-delimited JSON: cuts, last lines, and lines that are too long to keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.masking import Mask
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


# --- masked


def masked_by() -> Letters:
    return Letters(Mask("pub"))


LINE = b'{"c":"t","model":"/srv/a"}\n'


def test_whole_lines_are_sent_on_masked() -> None:
    data = b'{"c":"","model":"/srv/a"}\n' + LINE + b'{"c":"t","model":"pub"}\n\n{"x, "model":"/srv/a"\n' + LINE.strip()
    whole = every_way(masked_by, data)
    assert whole.sent == data.replace(b"/srv/a", b"pub")
    assert whole.tokens_seen == 3


def test_what_is_to_be_masked_is_learnt_from_the_first_line_with_text() -> None:
    subject = masked_by()
    assert not subject.at_rest
    subject.feed(LINE)
    assert subject.at_rest
    assert subject.swap is not None
    assert subject.swap.usual(LINE) == -3
    assert subject.feed(LINE) == LINE.replace(b"/srv/a", b"pub")
    plain = masked_by()
    plain.feed(b"t\n")
    assert plain.at_rest
    assert plain.swap is None
    assert plain.feed(b"t\nt") == b"t\n"
    assert not plain.mid_event


def test_a_failure_is_left_out_and_all_that_follows() -> None:
    said = b'{"error":"/srv/engine"}\n'
    assert every_way(masked_by, b"t\n" + said + b"t\nend!\n").sent == b"t\n"
    subject = masked_by()
    subject.feed(said)
    assert subject.failed == said.strip()


def test_the_beginning_of_a_line_too_long_is_masked() -> None:
    long = b'{"model":"/srv/a","x":"' + b"x" * MAX_KEPT
    subject = masked_by()
    out = [subject.feed(long), subject.feed(b"yy"), subject.feed(b'"}\nt\n')]
    assert b"".join(out) == long.replace(b"/srv/a", b"pub") + b'yy"}\nt\n'
