"""Stamps of files: another one for whatever may have become another file."""

from __future__ import annotations

import os
from pathlib import Path

from slmgate.control.config.stamps import stamp, stamp_of, stamp_text, stamps


def test_another_file_has_another_stamp(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert (stamp(one), stamp_text(one)) == (None, "-")
    one.write_text("a")
    first = stamp(one)
    assert first == stamp(one) == stamp_of(one.stat())
    assert stamp_text(one) == "-".join(map(str, first or ()))
    os.utime(one, ns=(1, 1))
    touched = stamp(one)
    one.write_text("ab")
    os.utime(one, ns=(1, 1))
    longer = stamp(one)
    other.write_text("ab")
    os.utime(other, ns=(1, 1))
    other.replace(one)
    assert len({first, touched, longer, stamp(one)}) == 4
    assert stamps([one, other]) == [stamp(one), None]
