"""The writing side of the journal: a worker may die at any store, a disk may be full at any time, and nothing is lost.

What is written is read back with `link.journal` from the files, as control would do it.

Length: all that may go wrong with one file, on one kind of broken disk.
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
from slmgate.dataplane.journal import NEEDED, SLOTS, Journal
from slmgate.link import journal as form
from slmgate.link.journal import HEADER_SIZE, MAX_RECORD, SLOT

NAME = "0123456789ab"
SIZE = 8 * MAX_RECORD


def intent(id: str = "1", size: int = 0) -> bytes:
    return msgspec.json.encode({"id": id, "model": "m" * size})


def receipt(id: str = "1", size: int = 0) -> bytes:
    return msgspec.json.encode({"id": id, "path": "p" * size})


BARE = len(receipt("00000000"))
LONGEST = MAX_RECORD - 8 - BARE  # with 8 bytes of frame
LONGEST_INTENT = SLOT - 8


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def read(directory: Path) -> list[str]:
    """The ids of all receipts."""
    payloads = [payload for path in segments(directory) for payload in form.read_payloads(path.read_bytes(), HEADER_SIZE)[0]]
    return [msgspec.json.decode(payload)["id"] for payload in payloads]


def under_way(directory: Path) -> set[str]:
    """The ids of the intents that stand."""
    payloads, damaged = form.read_intents((directory / form.intents_name(NAME)).read_bytes())
    assert damaged == []
    return {msgspec.json.decode(payload)["id"] for payload in payloads}


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
    slot = journal.intent(intent())
    assert (read(directory), under_way(directory)) == ([], {"1"})
    assert repr(journal) == f"<Journal {NAME}: 2 segments, 1 open, {journal.room} bytes left>"
    assert journal.receipt(receipt(), slot)
    assert journal.receipt(receipt("2"))
    assert (read(directory), under_way(directory)) == (["1", "2"], set())
    assert (journal.open_intents, exact(journal)) == (0, True)
    journal.close()
    assert [form.is_sealed(path.read_bytes()) for path in segments(directory)] == [True, True]
    assert [path.name for path in segments(directory)] == [form.segment_name(NAME, 1), form.segment_name(NAME, 2)]
    journal.close()


def test_files_are_locked_until_they_are_sealed(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    names = [form.segment_name(NAME, 1), form.segment_name(NAME, 2), form.intents_name(NAME)]
    assert sorted(os.listdir(directory)) == sorted(names)
    for name in names:
        with (directory / name).open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    journal.close()
    for name in names:
        with (directory / name).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_only_this_user_may_read_them(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    assert [path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())] == [0o700, 0o600, 0o600, 0o600]
    journal.close()


# --- intents


def test_the_slot_given_back_last_is_taken_first(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    slots = [journal.intent(intent(str(number))) for number in range(3)]
    assert slots == [HEADER_SIZE + number * SLOT for number in range(3)]
    for place in (2, 0):
        journal.receipt(receipt(str(place)), slots[place])
    assert under_way(directory) == {"1"}
    assert [journal.intent(intent(str(number))) for number in (3, 4, 5)] == [slots[0], slots[2], HEADER_SIZE + 3 * SLOT]
    assert under_way(directory) == {"1", "3", "4", "5"}
    journal.close()


def test_an_intent_that_is_forgotten_needs_no_receipt(directory: Path) -> None:
    journal = Journal(directory, NAME, SIZE)
    room = journal.room
    slot = journal.intent(intent("a"))
    journal.forget(slot)
    assert (under_way(directory), journal.open_intents, journal.room) == (set(), 0, room)
    journal.close()
    journal.forget(slot)


@pytest.mark.parametrize("opened", [0, 1, SLOTS - 1, SLOTS, SLOTS + 1, 2 * SLOTS, 3 * SLOTS + 1])
def test_the_table_grows(directory: Path, opened: int) -> None:
    journal = Journal(directory, NAME, 4 * SLOTS * MAX_RECORD)
    slots = {}
    for number in range(opened):
        assert journal.room >= NEEDED
        slots[f"{number}"] = journal.intent(intent(f"{number}"))
        assert exact(journal)
    assert len(set(slots.values())) == journal.open_intents == opened
    assert under_way(directory) == set(slots)
    size = (directory / form.intents_name(NAME)).stat().st_size
    assert size == HEADER_SIZE + (opened // SLOTS + 1) * SLOTS * SLOT, "one is always free"
    for id, slot in slots.items():
        assert journal.receipt(receipt(id), slot)
        assert exact(journal)
    assert (journal.open_intents, under_way(directory)) == (0, set())
    journal.close()


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_intent(directory: Path, more: int) -> None:
    journal = Journal(directory, NAME, SIZE)
    before, behind = journal.intent(intent("0")), HEADER_SIZE + 2 * SLOT
    longest = intent("1", LONGEST_INTENT - len(intent("1")) + more)
    if more:
        with pytest.raises(ValueError, match="no slot"):
            journal.intent(longest)
        assert (journal.open_intents, exact(journal)) == (1, True)
        assert under_way(directory) == {"0"}
    else:
        journal.intent(longest)
        assert journal.intent(intent("2")) == behind
        assert under_way(directory) == {"0", "1", "2"}
    journal.receipt(receipt("0"), before)
    journal.close()


def test_a_closed_journal_begins_no_second_table(directory: Path) -> None:
    """It would take the place of the first, and of what stands in there."""
    journal = Journal(directory, NAME, SIZE)
    journal.intent(intent())
    journal.close()
    assert not journal.prepare()
    assert journal.room < NEEDED
    assert not journal.receipt(receipt())
    with pytest.raises(ValueError, match="no slot"):
        journal.intent(intent())
    assert under_way(directory) == {"1"}


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, LONGEST])
def test_it_rolls_over_and_loses_nothing(directory: Path, size: int) -> None:
    journal = Journal(directory, NAME, SIZE)
    ids = [f"{number:08}" for number in range(3 * SIZE // (BARE + size))]
    for id in ids:
        assert journal.room >= MAX_RECORD
        assert journal.receipt(receipt(id, size))
        assert exact(journal)
    assert read(directory) == ids
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
def test_killed_while_a_receipt_is_copied(directory: Path, part: float) -> None:
    journal = Journal(directory, NAME, SIZE)
    slot = journal.intent(intent())
    segment = journal._current
    assert segment is not None
    segment.map = DyingMap(segment.map, part)  # type: ignore[assignment]  # dies in the middle of the copy
    with pytest.raises(Died):
        journal.receipt(receipt(), slot)
    assert (read(directory), under_way(directory)) == ([], {"1"}), "half a record was read"


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_killed_while_an_intent_is_copied(directory: Path, part: float) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.receipt(receipt("0"), journal.intent(intent("0")))
    table = journal._intents
    assert table is not None
    table.map = DyingMap(table.map, part)  # type: ignore[assignment]  # dies in the middle of the copy
    with pytest.raises(Died):
        journal.intent(intent())
    assert under_way(directory) == set()


@pytest.mark.parametrize(
    ("store", "written", "stand"),
    [
        (1, [], set()),  # the intent's frame
        (2, [], {"1"}),  # the receipt's
        (3, ["1"], {"1"}),  # the slot's end
        (4, ["1"], set()),  # the next intent's
    ],
)
def test_killed_before_each_store_that_counts(
    directory: Path, monkeypatch: pytest.MonkeyPatch, store: int, written: list[str], stand: set[str]
) -> None:
    journal = Journal(directory, NAME, SIZE)
    real, stores = module._pack_frame, 0

    def pack(*arguments: Any) -> None:
        nonlocal stores
        stores += 1
        if stores == store:
            raise Died
        real(*arguments)

    monkeypatch.setattr(module, "_pack_frame", pack)

    def work() -> None:
        journal.receipt(receipt("1"), journal.intent(intent("1")))
        journal.intent(intent("2"))

    with pytest.raises(Died):
        work()
    assert (read(directory), under_way(directory)) == (written, stand)
    journal.close()


@pytest.mark.parametrize("step", ["posix_fallocate", "rename"])
def test_killed_before_a_file_has_its_name(directory: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def die(*_: object) -> None:
        raise Died

    monkeypatch.setattr(os, step, die)
    with pytest.raises(Died):
        Journal(directory, NAME, SIZE)
    assert [name for name in os.listdir(directory) if not name.endswith(".new")] == []


# --- a full disk


def test_no_room_from_the_start_and_recovery(directory: Path, disk: Disk) -> None:
    disk.full = True
    journal = Journal(directory, NAME, SIZE)
    assert journal.room < NEEDED
    assert not journal.receipt(receipt())
    assert segments(directory) == [], "a segment that could not be had leaves nothing behind"
    assert not journal.prepare()
    disk.full = False
    assert journal.prepare()
    assert journal.room >= NEEDED
    assert journal.receipt(receipt())
    journal.close()


def test_what_is_admitted_can_be_recorded_on_a_full_disk(directory: Path, disk: Disk) -> None:
    """Intents are taken while there is room for the largest receipts; then each of those still finds its place."""
    journal = Journal(directory, NAME, SIZE)
    disk.full = True
    slots: list[int] = []
    while journal.room >= NEEDED:
        slots.append(journal.intent(intent(f"{len(slots):08}", LONGEST)))
    assert len(slots) > 2
    for number, slot in enumerate(slots):
        assert journal.receipt(receipt(f"{number:08}", LONGEST), slot)
        assert exact(journal)
    assert len(read(directory)) == len(slots)
    assert journal.open_intents == 0
    disk.full = False
    assert journal.prepare()
    assert journal.room >= NEEDED
    journal.close()


def test_no_more_slots_on_a_full_disk(directory: Path, disk: Disk) -> None:
    """Segments have room, but the table cannot grow: nothing more is admitted until a slot is given back."""
    journal = Journal(directory, NAME, 4 * SLOTS * MAX_RECORD)
    disk.full = True
    slots = [journal.intent(intent(str(number))) for number in range(SLOTS)]
    assert journal.room < NEEDED
    assert not journal.prepare()
    assert journal.receipt(receipt("0"), slots[0])
    assert journal.room >= NEEDED
    assert exact(journal)
    assert journal.intent(intent("again")) == slots[0]
    assert journal.room < NEEDED
    disk.full = False
    assert journal.prepare()
    assert journal.room >= NEEDED
    assert exact(journal)
    assert journal.intent(intent("more")) not in slots
    assert under_way(directory) == {str(number) for number in range(1, SLOTS)} | {"again", "more"}
    journal.close()


def test_a_table_that_finds_no_place_in_memory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has grown, its mapping has not: that is tried again, and read over meanwhile."""
    journal = Journal(directory, NAME, 4 * SLOTS * MAX_RECORD)
    table = journal._intents
    assert table is not None
    real = table.map

    class Full:
        def resize(self, size: int) -> None:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    for number in range(SLOTS - 1):
        journal.intent(intent(str(number)))
    table.left, table.map = 0, Full()  # type: ignore[assignment]  # a mapping that cannot grow
    assert not journal.prepare()
    assert len(under_way(directory)) == SLOTS - 1
    table.map = real
    assert journal.prepare()
    assert table.left == SLOTS
    journal.close()


def test_refusals_stop_being_recorded_before_receipts_do(directory: Path, disk: Disk) -> None:
    journal = Journal(directory, NAME, SIZE)
    slot = journal.intent(intent())
    disk.full = True
    written = 0
    while journal.receipt(receipt("2", LONGEST)):
        written += 1
    assert written
    assert journal.receipt(receipt("1", LONGEST), slot)
    assert read(directory)[-1] == "1"
    journal.close()


@pytest.mark.parametrize("offset", [-1, 0])
def test_the_bound_of_room_for_a_refusal(directory: Path, offset: int) -> None:
    journal = Journal(directory, NAME, SIZE)
    journal.room = MAX_RECORD + offset
    assert journal.receipt(receipt()) is (offset == 0)
    journal._count()
    journal.close()


def test_who_did_not_look_at_the_room(directory: Path, disk: Disk) -> None:
    disk.full = True
    journal = Journal(directory, NAME, SIZE)
    with pytest.raises(OSError, match="no room"):
        journal.receipt(receipt(), HEADER_SIZE)


def test_pages_that_cannot_be_warmed_are_no_fault(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fails)
    journal = Journal(directory, NAME, SIZE)
    ids = [f"{number:08}" for number in range(2 * SIZE // BARE)]
    assert all(journal.receipt(receipt(id)) for id in ids)
    assert read(directory) == ids
    journal.close()


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
        wrote: list[str] = []
        opened: dict[str, int] = {}
        for number, (act, size) in enumerate(acts):
            id = f"{number:08}"
            if act == "intent" and journal.room >= NEEDED:
                opened[id] = journal.intent(intent(id, size))
            elif act == "receipt" and opened:
                wrote.append(min(opened))
                assert journal.receipt(receipt(wrote[-1], size), opened.pop(wrote[-1]))
            elif act == "refusal" and journal.receipt(receipt(id, size)):
                wrote.append(id)
            elif act in ("full", "empty"):
                disk.full = act == "full"
            else:
                journal.prepare()
            assert exact(journal)
            assert journal.open_intents == len(opened)
            assert not opened or under_way(directory) == set(opened)
        for id, slot in opened.items():
            assert journal.receipt(receipt(id, LONGEST), slot)
            wrote.append(id)
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
    assert synced == closed
    assert len(closed) == 2, "the segment, and the intents"
    journal.syncer()()
    assert len(closed) == 2, "without them there is nothing to force"


def test_syncing_without_descriptors(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could be had is forced, and given back; the rest is when there is one."""
    journal = Journal(directory, NAME, SIZE)
    real, given = os.dup, [0]

    def dup(fd: int) -> int:
        if given:
            raise OSError(errno.EMFILE, "Too many open files")
        given.append(real(fd))
        return given[-1]

    monkeypatch.setattr(os, "dup", dup)
    journal.syncer()()
    given.clear()
    journal.syncer()()
    (fd,) = given
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    journal.close()


def test_a_disk_that_fails_to_sync_is_not_this_threads_affair(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(directory, NAME, SIZE)

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    journal.syncer()()
    journal.close()
