"""The writing side of the journal: a worker may die at any store, a disk may be full at any time, and nothing is lost.

What is written is read back with `link.journal.read_payloads` from the files, as control would do it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmgate.dataplane import journal as module
from slmgate.dataplane.journal import NEEDED, Journal
from slmgate.link import journal as form
from slmgate.link.journal import HEADER_SIZE, MAX_RECORD

NAME = "0123456789ab"
SIZE = 8 * MAX_RECORD


def intent(id: str = "1", size: int = 0) -> bytes:
    return form.INTENT + msgspec.json.encode({"id": id, "model": "m" * size})


def receipt(id: str = "1", size: int = 0) -> bytes:
    return form.RECEIPT + msgspec.json.encode({"id": id, "path": "p" * size})


BARE = len(receipt("00000000"))
LONGEST = MAX_RECORD - 8 - BARE  # with 8 bytes of frame


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def read(directory: Path) -> list[tuple[str, str]]:
    """Kind and id of every record."""
    return [
        (payload[:1].decode(), msgspec.json.decode(payload[1:])["id"])
        for path in segments(directory)
        for payload in form.read_payloads(path.read_bytes(), HEADER_SIZE)[0]
    ]


class Disk:
    """`posix_fallocate` of a disk that may be full."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._real = os.posix_fallocate
        patch.setattr(os, "posix_fallocate", self._allocate)

    def _allocate(self, fd: int, offset: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._real(fd, offset, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal"


def exact(journal: Journal) -> bool:
    """Whether the running count of room is what a fresh count comes to."""
    room = journal.room
    journal._count()
    return journal.room == room


def test_what_is_written_is_there_at_once(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.intent(intent())
    assert read(directory) == [("I", "1")]
    assert repr(journal) == f"<Journal {NAME}: 2 segments, 1 open, {journal.room} bytes left>"
    assert journal.receipt(receipt(), closes_intent=True)
    assert journal.receipt(receipt("2"), closes_intent=False)
    assert read(directory) == [("I", "1"), ("R", "1"), ("R", "2")]
    assert (journal.open_intents, exact(journal)) == (0, True)
    journal.close()
    assert [form.is_sealed(path.read_bytes()) for path in segments(directory)] == [True, True]
    assert [path.name for path in segments(directory)] == [form.segment_name(NAME, 1), form.segment_name(NAME, 2)]
    journal.close()


def test_segments_are_locked_until_they_are_sealed(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    with segments(directory)[0].open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_only_this_user_may_read_them(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    assert [path.stat().st_mode & 0o777 for path in (directory, *segments(directory))] == [0o700, 0o600, 0o600]
    journal.close()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, LONGEST])
def test_it_rolls_over_and_loses_nothing(directory: Path, size: int) -> None:
    journal = Journal(directory, NAME, SIZE)
    ids = [f"{number:08}" for number in range(3 * SIZE // (BARE + size))]
    for id in ids:
        assert journal.room >= MAX_RECORD
        assert journal.receipt(receipt(id, size), closes_intent=False)
        assert exact(journal)
    assert read(directory) == [("R", id) for id in ids]
    sealed = [form.is_sealed(path.read_bytes()) for path in segments(directory)]
    assert sealed == [True] * (len(sealed) - 2) + [False, False]
    journal.close()


# --- a worker that dies inside a write


class Died(BaseException):
    """The worker is killed here."""


class DyingMap:
    """A segment's memory whose process dies at its `left`-th store, having stored `part` of the payload's bytes."""

    def __init__(self, real: Any, part: float) -> None:
        self.real = real
        self.part = part

    def __setitem__(self, where: slice, data: bytes) -> None:
        kept = int(len(data) * self.part)
        self.real[where.start : where.start + kept] = data[:kept]
        if self.part < 1:
            raise Died


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_killed_while_the_payload_is_copied(directory: Path, part: float) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.intent(intent())
    segment = journal._current
    assert segment is not None
    segment.map = DyingMap(segment.map, part)  # type: ignore[assignment]  # dies in the middle of the copy
    with pytest.raises(Died):
        journal.receipt(receipt(), closes_intent=True)
    assert read(directory) == [("I", "1")], "half a record was read"


def test_killed_between_payload_and_frame(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.intent(intent())

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(module, "_pack_frame", die)
        with pytest.raises(Died):
            journal.receipt(receipt(), closes_intent=True)
    assert read(directory) == [("I", "1")]
    journal.close()


# --- a full disk


def test_no_room_from_the_start_and_recovery(directory: Path, disk: Disk) -> None:
    disk.full = True
    journal = Journal(directory, NAME, SIZE)
    assert journal.room < NEEDED
    assert not journal.receipt(receipt(), closes_intent=False)
    assert segments(directory) == [], "a segment that could not be had leaves nothing behind"
    assert not journal.prepare()
    disk.full = False
    assert journal.prepare()
    assert journal.room >= NEEDED
    assert journal.receipt(receipt(), closes_intent=False)
    journal.close()


def test_what_is_admitted_can_be_recorded_on_a_full_disk(directory: Path, disk: Disk) -> None:
    """Intents are taken while there is room for the largest records; then every receipt still finds its place."""
    journal = Journal(directory, NAME, SIZE)
    disk.full = True
    opened = 0
    while journal.room >= NEEDED:
        opened += 1
        journal.intent(intent(f"{opened:08}", LONGEST))
    assert opened > 2
    for number in range(opened):
        assert journal.receipt(receipt(f"{number + 1:08}", LONGEST), closes_intent=True)
        assert exact(journal)
    assert len(read(directory)) == 2 * opened
    assert journal.open_intents == 0
    disk.full = False
    assert journal.prepare()
    assert journal.room >= NEEDED
    journal.close()


def test_refusals_stop_being_recorded_before_receipts_do(directory: Path, disk: Disk) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.intent(intent())
    disk.full = True
    written = 0
    while journal.receipt(receipt("2", LONGEST), closes_intent=False):
        written += 1
    assert written
    assert journal.receipt(receipt("1", LONGEST), closes_intent=True)
    assert read(directory)[-1] == ("R", "1")
    journal.close()


@pytest.mark.parametrize("offset", [-1, 0])
def test_the_bound_of_room_for_a_refusal(directory: Path, offset: int) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.room = MAX_RECORD + offset
    assert journal.receipt(receipt(), closes_intent=False) is (offset == 0)
    journal._count()
    journal.close()


def test_a_journal_that_was_closed_has_no_room(directory: Path, disk: Disk) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.close()
    disk.full = True
    with pytest.raises(OSError, match="no room"):
        journal._write(b"Rx")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["intent", "receipt", "refusal", "full", "empty", "tick"]), st.integers(0, LONGEST)),
        max_size=40,
    )
)
def test_whatever_happens_an_intent_has_its_receipt(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        directory = tmp_path_factory.mktemp("journal")
        journal = Journal(directory, NAME, SIZE)
        wrote: list[tuple[str, str]] = []
        opened: list[str] = []
        for number, (act, size) in enumerate(acts):
            id = f"{number:08}"
            if act == "intent" and journal.room >= NEEDED:
                journal.intent(intent(id, size))
                opened.append(id)
                wrote.append(("I", id))
            elif act == "receipt" and opened:
                assert journal.receipt(receipt(opened[0], size), closes_intent=True)
                wrote.append(("R", opened.pop(0)))
            elif act == "refusal" and journal.receipt(receipt(id, size), closes_intent=False):
                wrote.append(("R", id))
            elif act in ("full", "empty"):
                disk.full = act == "full"
            else:
                journal.prepare()
            assert exact(journal)
            assert journal.open_intents == len(opened)
        for id in opened:
            assert journal.receipt(receipt(id, LONGEST), closes_intent=True)
            wrote.append(("R", id))
        assert read(directory) == wrote
        journal.close()


# --- forced to the disk


def test_syncing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    closed: list[int] = []
    real = os.close
    journal = Journal(directory, NAME, SIZE)
    assert journal._current is not None
    sync = journal.syncer()
    journal.close()  # the segment may be gone by the time another thread comes to it

    def note(fd: int) -> None:
        closed.append(fd)
        real(fd)

    failing: Callable[[int], None] = synced.append
    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "close", note)
    sync()
    assert synced == closed != []
    journal.syncer()()
    assert len(closed) == 1, "without a segment there is nothing to force"


def test_a_disk_that_fails_to_sync_is_not_this_threads_affair(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(directory, NAME, SIZE)

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    journal.syncer()()
    journal.close()
