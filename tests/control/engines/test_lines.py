"""An engine's output as lines: whole, cut, cleaned, and not too many."""

from __future__ import annotations

from slmgate.control.engines.lines import BURST, LONGEST, PER_SECOND, Lines
from tests.tools.feeds import cut


def test_lines_whatever_the_pieces() -> None:
    data = b"one\r\n\n  two \xff\x1b[31m\nthree"
    for pieces in ([data], [bytes((byte,)) for byte in data], *(cut(data, [place]) for place in range(len(data)))):
        lines = Lines()
        told = [line for piece in pieces for line in lines.feed(piece, 0.0)]
        assert told == ["one", "two \ufffd [31m"]
        assert lines.close() == ["three"]
        assert lines.close() == []


def test_a_long_line_is_cut() -> None:
    lines = Lines()
    long = b"x" * (LONGEST + 1)
    assert lines.feed(long[:-1], 0.0) == []
    assert lines.feed(b"x", 0.0) == ["x" * LONGEST + " ..."]
    assert lines.feed(long * 100, 0.0) == []
    assert lines.feed(b" end\nnext\n", 0.0) == ["next"]
    assert lines.feed(long + b"\nnext\n", 0.0) == ["x" * LONGEST + " ...", "next"]
    assert lines.close() == []


def test_too_many_lines_are_counted() -> None:
    lines = Lines()
    assert len(lines.feed(b"a\n" * (BURST + 5), 100.0)) == BURST
    assert lines.feed(b"b\n", 100.0) == []
    assert repr(lines) == "<Lines: 6 left out>"
    later = 100.0 + 1.5 / PER_SECOND
    assert lines.feed(b"c\n", later) == ["(6 lines left out)", "c"]
    assert lines.feed(b"d\n", later) == []
    assert lines.close() == ["(1 lines left out)"]
