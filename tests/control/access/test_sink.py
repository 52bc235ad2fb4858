"""The buffer and its thread: every line, in order; and what happens when the target takes nothing for a while, or ever.

The thread is real; the tests wait for it by closing the sink, and hold it up with a gate in place of the target.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading

import pytest

from slmgate.control.access import sink as module
from slmgate.control.access.formats import Name
from slmgate.control.access.sink import Sink, is_ready
from tests.tools.far import far_pipe


class Memory(Sink):
    """Takes lines into a list, unless it is told to be full or to wait."""

    def __init__(self, form: Name = "json", max_bytes: int = 1000, full: int = 0, retry: float = 0.0) -> None:
        self.taken: list[bytes] = []
        self.told: list[str] = []
        self.full = full  # how often it takes nothing
        self.inside, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.ended = False
        self.opened = 0
        super().__init__("memory", form, self.told.append, max_bytes=max_bytes, retry=retry)

    def deliver(self, lines: bytes) -> bytes:
        self.inside.set()
        self.go.wait(10)
        if self.full:
            self.full -= 1
            self.trouble("it is full")
            return lines
        self.taken.append(lines)
        return b""

    def anew(self, unwritten: bytes) -> bytes:
        self.opened += 1
        return unwritten

    def end(self) -> None:
        self.ended = True

    @property
    def all(self) -> bytes:
        return b"".join(self.taken)


def held_up(max_bytes: int = 1000, form: Name = "json") -> Memory:
    """One that holds the thread in its first delivery."""
    memory = Memory(form, max_bytes)
    memory.go.clear()
    memory.write(b"first\n")
    assert memory.inside.wait(10)
    return memory


def test_lines_arrive_in_order() -> None:
    memory = Memory()
    memory.write(b"one\ntwo\n")
    memory.write(b"three\n")
    memory.close()
    assert memory.all == b"one\ntwo\nthree\n"
    assert memory.ended
    assert not memory.told


def test_what_does_not_fit_is_counted_and_told() -> None:
    memory = held_up(max_bytes=20)
    memory.write(b"0123456789\n01234567\nx\n" + b"y" * 30 + b"\n")
    assert repr(memory) == "<Memory memory: 20 bytes waiting, 2 dropped>"
    memory.write(b"z\n")
    assert repr(memory) == "<Memory memory: 20 bytes waiting, 3 dropped>"
    memory.go.set()
    memory.close()
    lines = memory.all.splitlines()
    assert lines[:3] == [b"first", b"0123456789", b"01234567"]
    assert lines[3].startswith(b'{"dropped":3,')
    assert len(lines) == 4
    assert memory.told == [
        "the access log to memory: it takes less than there is to write; 3 lines were dropped, the ledger has them"
    ]


def test_a_format_without_room_for_it_says_nothing_of_dropped_lines() -> None:
    memory = Memory("combined", max_bytes=3)
    memory.write(b"much too long\n")
    memory.write(b"x\n")  # no receipt, so that nothing is to be written either
    memory.close()
    assert memory.all == b""
    assert memory.dropped == 1
    assert len(memory.told) == 1


def test_what_cannot_be_written_now_is_written_later() -> None:
    memory = Memory(full=3)
    memory.write(b"one\n")
    memory.write(b"two\n")
    memory.go.wait(10)
    memory.inside.wait(10)
    while memory.full:
        memory.reopen()  # wakes it
    memory.close()
    assert memory.all == b"one\ntwo\n"
    assert memory.dropped == 0
    assert memory.told == ["the access log to memory: it is full"]  # once, however often it was tried


def test_at_the_end_what_nobody_takes_is_counted() -> None:
    memory = Memory(full=1000, retry=1000.0)
    memory.write(b"one\ntwo\n")
    assert memory.inside.wait(10)
    memory.write(b"three\n")
    memory.close(10)
    assert memory.dropped == 3
    assert memory.told[-1].endswith("3 lines were dropped, the ledger has them")
    assert memory.ended


def test_large_batches_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 8)
    memory = held_up()
    for number in range(5):
        memory.write(b"line%d\n" % number)
    memory.go.set()
    memory.close()
    assert len(memory.taken) == 6
    assert memory.all == b"first\nline0\nline1\nline2\nline3\nline4\n"


def test_a_fault_of_the_format_costs_its_lines_alone() -> None:
    def broken(lines: bytes) -> bytes:
        if b"bad" in lines:
            raise KeyError("no such month")
        return lines

    memory = held_up()
    memory._format = broken
    memory.write(b"bad\n")
    memory.go.set()
    while not memory.dropped:
        memory.reopen()
    memory.write(b"good\n")
    memory.close()
    assert memory.all.startswith(b"first\n")
    assert b"good\n" in memory.all
    assert memory.dropped == 1
    assert "could not be put into its format" in memory.told[0]


def test_reopening_waits_for_no_line() -> None:
    memory = Memory()
    memory.reopen()
    memory.close()
    assert memory.opened == 1


def test_the_base_takes_nothing() -> None:
    class Base(Sink):
        pass

    base = Base.__new__(Base)
    with pytest.raises(NotImplementedError):
        base.deliver(b"")
    assert base.anew(b"rest") == b"rest"
    base.end()


def test_a_fault_of_the_target_is_no_end_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises, such as for a host that no name can be: lines wait, and it is told, as where a server is away."""
    memory = held_up()
    faults = [ValueError("no such host"), RuntimeError("closed")]
    deliver, anew, again = memory.deliver, memory.anew, threading.Event()

    def failing(lines: bytes) -> bytes:
        if faults:
            raise faults.pop()
        left = deliver(lines)
        again.set()
        return left

    def failing_anew(unwritten: bytes) -> bytes:
        monkeypatch.setattr(memory, "anew", anew)
        raise KeyError("anew")

    monkeypatch.setattr(memory, "deliver", failing)
    monkeypatch.setattr(memory, "anew", failing_anew)
    memory.write(b"second\n")
    memory.reopen()
    memory.go.set()
    assert again.wait(10)
    memory.close(10)
    assert memory.all == b"first\nsecond\n"
    assert memory.dropped == 0
    assert memory.ended
    assert memory.told == ["the access log to memory: it failed: KeyError('anew')"]


def test_what_is_waited_for_behind_many_descriptors() -> None:
    with far_pipe() as (back, to):
        assert not is_ready(back, select.POLLIN, 0.0)
        assert is_ready(to, select.POLLOUT, 0.0)
        os.write(to, b"x")
        assert is_ready(back, select.POLLIN, 0.0)
        os.set_blocking(to, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(to, bytes(4096))
        assert not is_ready(to, select.POLLOUT, 0.0)
