"""Streams that wait for nobody: pipes that are full, files, sockets, terminals; what is missing is told, and nothing is torn."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import sys
from pathlib import Path

import pytest

from slmgate.link import unhurried
from slmgate.link.unhurried import Unhurried, never_wait

ROOM = 4096
MSG_DONTWAIT = 0x40


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, ROOM)
    return reader, writer


@pytest.mark.parametrize("reopened", [True, False])
def test_a_pipe_that_nobody_reads(reopened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe()
    if not reopened:

        def refused(*_: object) -> int:
            raise PermissionError(13, "another user's")

        monkeypatch.setattr("slmgate.link.unhurried.os.open", refused)
    stream = Unhurried(writer, patience=0.0)
    assert os.get_blocking(writer)  # which others share
    fill = b"x" * (ROOM - 1) + b"\n"
    assert stream.write(fill) == ROOM
    for _ in range(3):
        assert stream.write(b"lost\n") == 5
    assert repr(stream) == f"<Unhurried {writer}: 3 pieces missing>"
    assert os.read(reader, 2 * ROOM) == fill
    stream.write(b"heard\n")
    assert os.read(reader, ROOM) == b"slmgate: 3 pieces of this log are missing here: nobody took them\nheard\n"
    stream.write(b"again\n")
    assert os.read(reader, ROOM) == b"again\n"


def test_a_long_piece_that_broke_off_ends_its_line() -> None:
    reader, writer = pipe()
    stream = Unhurried(writer, patience=0.0)
    stream.write(b"x" * (ROOM + 500) + b"\n")
    assert os.read(reader, 2 * ROOM) == b"x" * ROOM
    stream.write(b"next\n")
    assert os.read(reader, ROOM) == b"\nnext\n"


def test_who_is_slow_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that comes within a moment misses nothing; one that does not come is not waited for again."""
    reader, writer = pipe()
    stream = Unhurried(writer, patience=5.0)
    waited: list[float] = []

    def select(_: object, them: list[int], __: object, seconds: float) -> tuple[list[int], list[int], list[int]]:
        waited.append(seconds)
        if len(waited) == 1:
            os.read(reader, ROOM)
        return [], them if len(waited) == 1 else [], []

    monkeypatch.setattr("slmgate.link.unhurried.select.select", select)
    stream.write(b"x" * ROOM)
    stream.write(b"heard\n")
    assert os.read(reader, ROOM) == b"heard\n"
    stream.write(b"x" * ROOM)
    for _ in range(3):
        stream.write(b"lost\n")
    assert len(waited) == 2
    assert 0 < waited[0] <= 5.0


def test_a_socket_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service's streams are: journald's are sockets, which take a part of a piece and then nothing for a while."""
    room, taken, ends = [3, 0], bytearray(), []

    class Link:
        def __init__(self, fileno: int) -> None:
            os.close(fileno)  # it has one of its own

        def send(self, data: memoryview, flags: int) -> int:
            assert flags == MSG_DONTWAIT
            many = room.pop(0) if room else len(data)
            if not many:
                raise BlockingIOError(11, "not now")
            taken.extend(data[:many])
            return many

        def close(self) -> None:
            ends.append(self)

    monkeypatch.setattr("slmgate.link.unhurried.socket.socket", Link)
    monkeypatch.setattr("slmgate.link.unhurried.stat.S_ISSOCK", lambda mode: True)
    _, writer = pipe()
    with Unhurried(writer, patience=0.0) as stream:
        for piece in (b"first\n", b"second\n"):
            stream.write(piece)
    assert taken == b"fir\nsecond\n"
    assert len(ends) == 1
    assert os.fstat(writer)  # the process' own stays open


def test_a_file_goes_on_where_it_was(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.write(b"one\n")
        file.flush()
        stream = Unhurried(file.fileno())
        stream.write(b"two\n")
        file.write(b"three\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_a_terminal() -> None:
    ours, theirs = pty.openpty()
    stream = Unhurried(theirs, patience=0.0)
    assert stream.isatty()
    stream.write(b"seen\n")
    assert os.read(ours, 100) == b"seen\r\n"
    assert (stream.fileno(), stream.writable()) == (theirs, True)


def test_nobody_behind_it_is_told() -> None:
    reader, writer = pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        Unhurried(writer).write(b"x\n")


def test_the_stream_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes text, whatever is in it; a stream that is not the process' own, or none, stays as it is."""
    reader, writer = pipe()

    class Own(io.StringIO):
        def fileno(self) -> int:
            return 2

    for other in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", other)
        never_wait("stderr")
        assert sys.stderr is other
    monkeypatch.setattr(sys, "stderr", Own())
    monkeypatch.setattr(unhurried, "Unhurried", lambda fd: Unhurried(writer))
    never_wait("stderr")
    print("é\ud800", file=sys.stderr)
    assert os.read(reader, 100) == "é\\ud800\n".encode()
