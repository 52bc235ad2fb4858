"""The access log: every line, in order, in few writes; and what happens when nobody takes them.

The thread is real; the tests wait for it by closing the log, and hold it up with a gate in place of the system call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from slmgate.control.access_log import AccessLog


def test_lines_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path)
    log.write(b"one\ntwo\n")
    log.write(b"three\n")
    log.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    AccessLog(path).close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_reopen_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path)
    path.rename(tmp_path / "old")
    log.reopen()
    log.write(b"new\n")
    log.close()
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "old").read_bytes() == b""


@pytest.mark.parametrize(("target", "fd"), [("stdout", 1), ("stderr", 2)])
def test_standard_streams(target: str, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, bytes]] = []

    def write(to: int, data: memoryview) -> int:
        written.append((to, bytes(data[:4])))
        return min(len(data), 4)

    monkeypatch.setattr("slmgate.control.access_log.os.write", write)
    log = AccessLog("stdout" if target == "stdout" else "stderr")
    log.write(b"one\ntwo\n")
    log.close()
    assert written == [(fd, b"one\n"), (fd, b"two\n")]  # a pipe may take less than it was given


def test_off() -> None:
    log = AccessLog("off")
    log.write(b"one\n")
    log.close()
    assert repr(log) == "<AccessLog off: 0 bytes waiting, 0 dropped>"


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        AccessLog(tmp_path / "none" / "access.log")


def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, Callable[[], None]]:
    """Holds the writing thread in its first write; returns an event for "it is there" and a function to let it go."""
    inside, go, write = threading.Event(), threading.Event(), os.write

    def slow(to: int, data: memoryview) -> int:
        inside.set()
        go.wait(10)
        return write(to, data)

    monkeypatch.setattr("slmgate.control.access_log.os.write", slow)
    return inside, go.set


def test_what_does_not_fit_is_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    inside, go = held_up(monkeypatch)
    log = AccessLog(path, max_bytes=20)
    log.write(b"first\n")
    assert inside.wait(10)
    log.write(b"0123456789\n01234567\nx\n" + b"y" * 30 + b"\n")
    assert repr(log) == f"<AccessLog {path}: 20 bytes waiting, 2 dropped>"
    log.write(b"z\n")
    assert repr(log) == f"<AccessLog {path}: 20 bytes waiting, 3 dropped>"
    go()
    log.close()
    lines = path.read_bytes().splitlines()
    assert lines[:3] == [b"first", b"0123456789", b"01234567"]
    assert msgspec.json.decode(lines[3])["dropped"] == 3
    assert len(lines) == 4


def test_a_failing_disk_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    failed, write = threading.Event(), os.write

    def broken(to: int, data: memoryview) -> int:
        if not failed.is_set():
            raise OSError(28, "No space left on device")
        return write(to, data)

    def drop(self: AccessLog, count: int) -> None:
        original(self, count)
        failed.set()

    original = AccessLog._drop
    monkeypatch.setattr("slmgate.control.access_log.os.write", broken)
    monkeypatch.setattr(AccessLog, "_drop", drop)
    log = AccessLog(path)
    log.write(b"lost\nlost too\n")
    assert failed.wait(10)
    log.write(b"kept\n")
    log.close()
    lines = path.read_bytes().splitlines()
    assert lines[0] == b"kept"
    assert msgspec.json.decode(lines[1])["dropped"] == 2
    assert log.dropped == 2


def test_a_pipe_that_must_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    write = os.write

    def full_once(to: int, data: memoryview) -> int:
        if not waits:
            raise BlockingIOError
        return write(to, data)

    monkeypatch.setattr("slmgate.control.access_log.os.write", full_once)
    monkeypatch.setattr("slmgate.control.access_log.select.select", lambda *_: waits.append(1))
    log = AccessLog(tmp_path / "access.log")
    log.write(b"one\n")
    log.close()
    assert (tmp_path / "access.log").read_bytes() == b"one\n"


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    log.write('{"model":"a\u2028\x9b2J\x7f"}\n{"model":"é"}\n'.encode())
    log.close()
    assert (tmp_path / "access.log").read_text() == '{"model":"a\\u2028\\u009b2J\\u007f"}\n{"model":"é"}\n'
