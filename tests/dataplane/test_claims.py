"""Claims of the limit table's slots, by processes that live and die: a kernel of locks that can be several processes at once."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from slmgate.dataplane import claims as module
from slmgate.dataplane.claims import MARKS, MAX_WORKERS, Claims


class Kernel:
    """Record locks on one file, which belong to processes; `me` is the one that runs."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self.patch = patch
        self.file = path.open("wb+")
        self.locks: dict[int, set[str]] = {}
        self.remembered: dict[str, set[tuple[int, int, int]]] = {}
        self.marks = memoryview(bytearray(MARKS * 8)).cast("q")
        patch.setattr(
            module,
            "fcntl",
            SimpleNamespace(lockf=self.lockf, **{name: getattr(fcntl, name) for name in dir(fcntl) if name.startswith("LOCK_")}),
        )
        self.run("first")

    def run(self, process: str) -> None:
        self.me = process
        self.patch.setattr(module, "_ours", self.remembered.setdefault(process, set()))

    def die(self, process: str) -> None:
        for holders in self.locks.values():
            holders.discard(process)

    def lockf(self, fd: int, what: int, length: int, start: int) -> None:
        assert fd == self.file.fileno()
        assert length == 1
        holders = self.locks.setdefault(start, set())
        if what == fcntl.LOCK_UN:
            holders.discard(self.me)
        elif holders <= {self.me} or what & fcntl.LOCK_SH:
            holders.add(self.me)
        else:
            assert what & fcntl.LOCK_NB, "a deadlock"
            raise BlockingIOError

    def claims(self, process: str) -> Claims:
        self.run(process)
        made = Claims(self.file.fileno())
        made.begin(self.marks[:])
        return made


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(monkeypatch, tmp_path / "table")
    yield made
    made.file.close()


def test_a_gate_beside_another_gets_other_slots(kernel: Kernel) -> None:
    assert [kernel.claims(f"old {slot}").claim(slot, 2) for slot in range(2)] == [0, 1]
    assert [kernel.claims(f"new {slot}").claim(slot, 3) for slot in range(3)] == [3, 4, 2]


def test_a_successor_gets_the_slot_of_the_dead(kernel: Kernel) -> None:
    first = kernel.claims("first")
    assert first.claim(1, 2) == 1
    assert repr(first) == "<Claims: ours is 1, marked []>"
    second = kernel.claims("second")
    assert second.claim(0, 2) == 0
    assert second.marked() == [1]
    assert not second.is_left(1)
    assert not second.alone()
    kernel.die("first")
    assert second.is_left(1)
    assert second.alone()
    assert kernel.claims("third").claim(1, 2) == 1


def test_a_mark_stands_until_what_the_dead_left_is_settled(kernel: Kernel) -> None:
    for slot in (0, 31, 32, 63, 64, MAX_WORKERS - 1):
        kernel.claims(f"worker {slot}").claim(slot, MAX_WORKERS)
    last = kernel.claims("last")
    assert last.claim(5, MAX_WORKERS) == 5
    kernel.die("worker 63")
    kernel.die("worker 127")
    assert [slot for slot in last.marked() if last.is_left(slot)] == [63, 127]
    last.settled(63)
    last.settled(127)
    assert last.marked() == [0, 31, 32, 64]


def test_when_all_slots_are_taken(kernel: Kernel) -> None:
    for slot in range(MAX_WORKERS):
        kernel.claims(f"worker {slot}").claim(slot, MAX_WORKERS)
    one_too_many = kernel.claims("one too many")
    with pytest.raises(OSError, match="users"):
        one_too_many.claim(0, 2)


def test_ones_own_is_no_dead_workers(kernel: Kernel) -> None:
    claims = kernel.claims("first")
    claims.claim(0, 2)
    other = kernel.claims("first")
    assert not other.is_left(0)
    assert other.claim(0, 2) == 0, "its own successor, after the table could not be opened"
    other.close()
    assert kernel.claims("first").is_left(0)


def test_who_waits_is_seen(kernel: Kernel) -> None:
    holder = kernel.claims("holder")
    holder.lock()
    assert not holder.is_waited_for()
    kernel.run("waiting")
    kernel.locks[1].add("waiting")  # as in the middle of `lock`
    kernel.run("holder")
    assert holder.is_waited_for()
    holder.unlock()
    kernel.run("waiting")
    kernel.claims("waiting").lock()
    assert kernel.locks == {0: {"waiting"}, 1: set()}
