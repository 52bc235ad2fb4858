"""The access log as a whole: all lines to all targets, targets that come and go, and ones that cannot be opened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from slmgate.control.access.sink import Sink, Tell
from slmgate.control.access.targets import Target, open_target
from slmgate.control.access_log import AccessLog


def test_lines_go_to_every_target(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    log = AccessLog([Target(one), Target(two, "logfmt"), Target("off")])
    log.write(b'{"id":"a","status":200}\n')
    log.close()
    assert one.read_bytes() == b'{"id":"a","status":200}\n'
    assert two.read_bytes() == b"id=a status=200\n"
    assert log.dropped == 0


def test_none_at_all() -> None:
    log = AccessLog([Target("off")])
    log.write(b"one\n")
    log.reopen()
    log.close()
    assert repr(log) == "<AccessLog []>"
    assert log.dropped == 0


def test_one_that_cannot_be_opened_at_the_start(tmp_path: Path) -> None:
    good = tmp_path / "good.log"
    with pytest.raises(OSError, match="none"):
        AccessLog([Target(good), Target(tmp_path / "none" / "access.log")])
    assert good.exists()


def test_reopened_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog([Target(path)])
    path.rename(tmp_path / "old")
    log.reopen()
    log.write(b"{}\n")
    log.close()
    assert path.read_bytes() == b"{}\n"


def test_a_target_that_stays_is_not_touched(tmp_path: Path) -> None:
    made: list[Target] = []

    def opener(target: Target, tell: Tell) -> Sink | None:
        made.append(target)
        return open_target(target, tell)

    stays, goes, comes = Target(tmp_path / "stays"), Target(tmp_path / "goes"), Target(tmp_path / "comes")
    log = AccessLog([stays, goes], opener=opener)
    log.configure([stays, goes])
    log.write(b"1\n")
    log.configure([comes, stays])
    log.write(b"2\n")
    log.close()
    assert made == [stays, goes, comes]
    assert (tmp_path / "stays").read_bytes() == b"1\n2\n"
    assert (tmp_path / "comes").read_bytes() == b"2\n"


def test_what_a_target_dropped_stays_counted_when_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it ends: who asked then would count it once more when it is there again."""
    log = AccessLog([Target(tmp_path / "a")])
    (sink,) = (one for one in log._sinks.values() if one is not None)
    sink.lost(3, "it was too long")
    ending: list[Callable[[], None]] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: ending.append(thread.run))
    log.configure([])
    assert log.dropped == 3
    for end in ending:
        end()
    assert log.dropped == 3 and len(ending) == 1


def test_one_that_cannot_be_opened_later_is_told_of_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("slmgate.control.access_log.time.monotonic", lambda: now[0])
    told: list[str] = []
    late = tmp_path / "late" / "access.log"
    log = AccessLog([], told.append)
    log.configure([Target(late), Target(tmp_path / "good")])
    log.write(b"1\n2\n")
    assert log.dropped == 2
    assert told == [f"the access log to {late} cannot be opened, its lines are dropped: No such file or directory"]
    late.parent.mkdir()
    now[0] += 11
    log.write(b"3\n")
    log.close()
    assert late.read_bytes() == b"3\n"
    assert (tmp_path / "good").read_bytes() == b"1\n2\n3\n"
    assert log.dropped == 2
