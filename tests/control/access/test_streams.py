"""Targets that are open files: rotation, full disks, pipes that take a part, and lines that are never torn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmgate.control.access import streams
from slmgate.control.access.streams import StreamSink


def sink(to: Path, told: list[str] | None = None, retry: float = 0.0) -> StreamSink:
    return StreamSink(to, "json", (told if told is not None else []).append, retry=retry)


def test_lines_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = sink(path)
    log.write(b"one\n")
    log.close()
    sink(path).close()
    assert path.read_bytes() == b"one\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_reopen_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = sink(path)
    path.rename(tmp_path / "old")
    log.reopen()
    log.write(b"new\n")
    log.close()
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "old").read_bytes() == b""


def test_a_named_pipe_that_nobody_reads_yet(tmp_path: Path) -> None:
    """To open it waits for nobody, nor does the end; what was written is there for who comes meanwhile."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    log, other = sink(path), sink(path)
    log.reopen()
    log.write(b"one\n")
    log.close()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    other.close()


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        sink(tmp_path / "none" / "access.log")


def test_a_file_that_cannot_be_opened_anew(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    told: list[str] = []
    log = sink(folder / "access.log", told)
    folder.rename(tmp_path / "away")
    log.reopen()
    log.write(b"one\n")
    log.close()
    assert (tmp_path / "away" / "access.log").read_bytes() == b"one\n"
    assert "the old file is written on" in told[0]


@pytest.mark.parametrize(("to", "fd"), [("stdout", 1), ("stderr", 2)])
def test_standard_streams(to: streams.Standard, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, bytes]] = []

    def write(to: int, data: memoryview) -> int:
        written.append((to, bytes(data[:4])))
        return min(len(data), 4)

    monkeypatch.setattr("slmgate.control.access.streams.os.write", write)
    log = StreamSink(to, "json", lambda _: None)
    log.write(b"one\ntwo\n")
    log.reopen()  # means nothing to it
    log.close()
    assert written == [(fd, b"one\n"), (fd, b"two\n")]  # a pipe may take less than it was given


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes five bytes, then none for a while."""
    path = tmp_path / "access.log"
    room, refused, write = [5, 0, 0], [], os.write

    def full(to: int, data: memoryview) -> int:
        if not room:
            return write(to, data)
        most = room.pop(0)
        if not most:
            refused.append(bytes(data))
            raise OSError(28, "No space left on device")
        return write(to, data[:most])

    monkeypatch.setattr("slmgate.control.access.streams.os.write", full)
    told: list[str] = []
    log = sink(path, told)
    log.write(b"one\ntwo\nthree\n")
    while room:
        log.write(b"")
    log.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert refused == [b"wo\nthree\n"] * 2
    assert told == [f"the access log to {path}: it cannot be written: No space left on device"]
    assert log.dropped == 0


def test_what_is_left_of_a_torn_line_stays_out_of_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    told: list[str] = []
    log = sink(path, told)
    log._torn = True
    path.rename(tmp_path / "old")
    assert log.anew(b"wo\nthree\n") == b"three\n"
    assert log.dropped == 1
    assert log.anew(b"three\n") == b"three\n"
    log.close()


def test_a_pipe_that_must_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = [False, True]  # it is ready at the second look
    write = os.write

    def full_twice(to: int, data: memoryview) -> int:
        if waits:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return write(to, data)

    def takes_more(file: int, event: int, seconds: float) -> bool:
        return waits.pop(0)

    monkeypatch.setattr("slmgate.control.access.streams.os.write", full_twice)
    monkeypatch.setattr("slmgate.control.access.streams.is_ready", takes_more)
    log = sink(tmp_path / "access.log")
    log.write(b"one\n")
    while waits:
        log.write(b"")
    log.close()
    assert (tmp_path / "access.log").read_bytes() == b"one\n"


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    log = sink(tmp_path / "access.log")
    log.write('{"model":"a\u2028\x9b2J\x7f"}\n{"model":"é"}\n'.encode())
    log.close()
    assert (tmp_path / "access.log").read_text() == '{"model":"a\\u2028\\u009b2J\\u007f"}\n{"model":"é"}\n'
