"""What of the journal is not in the ledger yet, found out from the files alone."""

from __future__ import annotations

from pathlib import Path

from slmgate.control.metrics.waiting import waiting_bytes
from slmgate.link import journal
from tests.tools.journal_writer import Segment, make_receipt

RUN, OTHER = "0123456789ab", "ba9876543210"


def test_what_is_behind_the_positions(tmp_path: Path) -> None:
    assert waiting_bytes(tmp_path, {}) == 0
    one = Segment(tmp_path, RUN)
    one.write(make_receipt("r1"), make_receipt("r2"))
    written = one.end - journal.HEADER_SIZE
    assert waiting_bytes(tmp_path, {}) == written
    assert waiting_bytes(tmp_path, {one.path.name: one.end}) == 0
    other = Segment(tmp_path, OTHER)
    other.write(make_receipt("r3"))
    assert waiting_bytes(tmp_path, {one.path.name: one.end}) == other.end - journal.HEADER_SIZE
    (tmp_path / "something").write_bytes(b"else")


def test_segments_that_are_full(tmp_path: Path) -> None:
    segments = [Segment(tmp_path, RUN, number) for number in (1, 2, 3)]
    segments[1].write(make_receipt("r1"))
    size = segments[0].path.stat().st_size
    assert waiting_bytes(tmp_path, {}) == size - journal.HEADER_SIZE + segments[1].end - journal.HEADER_SIZE
