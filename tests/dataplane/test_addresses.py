"""The table of addresses: one place for each, who is forgotten when a set is full, bans told to all, the rows of the dead."""

from __future__ import annotations

import os
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from slmgate.dataplane import addresses as module
from slmgate.dataplane.addresses import BANNED, KNOWN, PLACES, RING, SEEN, SETS, SHARED, SUBJECT, WAYS, WORDS, Addresses

IPV4 = 0xFFFF << 32


@pytest.fixture
def table(tmp_path: Path) -> Addresses:
    return Addresses(tmp_path / "addresses", 0, 2)


def set_of(table: Addresses, subject: int) -> int:
    return table.place(subject, table.now()) // WAYS


def of_one_set(table: Addresses, count: int) -> list[int]:
    """Subjects whose places are in the same set: only who knows the key can tell."""
    found: list[int] = []
    subject = IPV4
    while len(found) < count:
        digest = blake2b(subject.to_bytes(8, "little"), digest_size=4, key=table._seed).digest()
        if int.from_bytes(digest, "little") % SETS == 5:
            found.append(subject)
        subject += 1
    return found


def mark(table: Addresses, place: int, word: int, value: int) -> None:
    table.words[place * WORDS + word] = value


def test_a_subject_keeps_its_place(table: Addresses) -> None:
    now = table.now()
    places = {subject: table.place(subject, now) for subject in range(IPV4, IPV4 + 500)}
    assert len(set(places.values())) == 500
    assert {subject: table.place(subject, now) for subject in places} == places
    assert table.words[places[IPV4 + 7] * WORDS + SUBJECT] == IPV4 + 7


@pytest.mark.parametrize("count", [0, 1, WAYS, WAYS + 1])
def test_a_full_set_forgets_the_longest_unseen(table: Addresses, count: int) -> None:
    subjects = of_one_set(table, count)
    for number, subject in enumerate(subjects):
        mark(table, table.place(subject, 1), SEEN, 100 + number)
    kept = table.words[5 * WAYS * WORDS : 6 * WAYS * WORDS : WORDS].tolist()
    assert sorted(filter(None, kept)) == sorted(subjects[max(0, count - WAYS) :])


def test_strangers_are_forgotten_before_the_known(table: Addresses) -> None:
    *subjects, late = of_one_set(table, WAYS + 1)
    for number, subject in enumerate(subjects):
        mark(table, table.place(subject, 1), SEEN, 100 + number)
    for subject in subjects[:-1]:
        mark(table, table.place(subject, 1), KNOWN, 1)
    table.place(late, 200)
    kept = table.words[5 * WAYS * WORDS : 6 * WAYS * WORDS : WORDS].tolist()
    assert set(kept) == {*subjects[:-1], late}


def test_the_banned_and_those_who_are_here_are_never_forgotten(table: Addresses) -> None:
    *subjects, late, later = of_one_set(table, WAYS + 2)
    now = table.now()
    for subject in subjects[:4]:
        mark(table, table.place(subject, now), BANNED, now + 1000)
    for subject in subjects[4:]:
        table.own[table.place(subject, now)] = 1
    assert table.place(late, now) == SHARED
    assert table.place(late, now + 1000) != SHARED, "a ban has ended"
    table.own[table.place(subjects[5], now)] = 0
    assert table.place(later, now) != SHARED
    kept = table.words[5 * WAYS * WORDS : 6 * WAYS * WORDS : WORDS].tolist()
    assert set(kept) == {*subjects[:5], *subjects[6:], late, later} - {subjects[0]}, "who has gone, and whose ban has ended"


def test_many_addresses_take_no_more_room(table: Addresses) -> None:
    size = len(table.words)
    banned = table.place(IPV4, 1)
    mark(table, banned, BANNED, 1 << 60)
    for subject in range(IPV4 + 1, IPV4 + 20_000):
        table.place(subject, 2)
    assert len(table.words) == size
    assert table.place(IPV4, 3) == banned


def test_two_workers_see_the_same(table: Addresses, tmp_path: Path) -> None:
    other = Addresses(tmp_path / "addresses", 1, 2)
    place = table.place(IPV4 + 1, 1)
    assert other.place(IPV4 + 1, 1) == place
    table.tend()
    other.tend()
    table.own[place], other.own[place] = 2, 3
    assert table.live(place) == other.live(place) == 5
    other.close()
    table.tend()
    assert table.live(place) == 2, "a dead worker's connections are no more"
    heir = Addresses(tmp_path / "addresses", 1, 2)
    table.tend()
    assert table.live(place) == 2, "its successor begins with none"
    heir.close()


def test_a_slot_that_is_taken(table: Addresses, tmp_path: Path) -> None:
    """While a gate takes over from another, both have a worker of this number: each counts in a row of its own."""
    pid = os.fork()
    if not pid:  # as another process, since locks do not tell those of one apart
        heir = Addresses(tmp_path / "addresses", 0, 2)
        os._exit(heir._slot == 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_bans_are_told(table: Addresses, tmp_path: Path) -> None:
    other = Addresses(tmp_path / "addresses", 1, 2)
    before = other.changes
    table.tell_ban(IPV4 + 1, 100)
    table.tell_ban(IPV4 + 2, 200)
    table.tell_ban(IPV4 + 1, 300)
    assert other.changes == before + 3
    assert other.bans(99) == {IPV4 + 1: 300, IPV4 + 2: 200}
    assert other.bans(200) == {IPV4 + 1: 300}
    table.tell_ban(IPV4 + 2, 0)
    table.tell_ban(IPV4 + 3, 0)
    assert other.bans(199) == {IPV4 + 1: 300, IPV4 + 2: 200, IPV4 + 3: 0}
    assert other.bans(200) == {IPV4 + 1: 300, IPV4 + 2: 0, IPV4 + 3: 0}
    other.close()


@pytest.mark.parametrize("count", [RING, RING + 1])
def test_the_newest_bans_are_told(table: Addresses, count: int) -> None:
    for number in range(count):
        table.tell_ban(IPV4 + number, 100)
    assert set(table.bans(1)) == set(range(IPV4 + count - RING, IPV4 + count))


def test_it_outlives_the_gate_and_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "addresses"
    table = Addresses(path, 0, 1)
    now = table.now()
    mark(table, table.place(IPV4, now), BANNED, now + 10**12)
    place = table.place(IPV4, now)
    table.tend()
    table.close()
    again = Addresses(path, 0, 1)
    assert again.place(IPV4, now) == place
    assert again.words[place * WORDS + BANNED] == now + 10**12
    again.close()
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"another boot")
    monkeypatch.setattr(module, "_clock", lambda: 5)
    rebooted = Addresses(path, 0, 1)
    assert now < rebooted.now() < now + 10**12, "its time goes on where it stopped"
    assert rebooted.words[place * WORDS + BANNED] == now + 10**12
    rebooted.close()


def test_the_key_of_its_hash_is_its_own(tmp_path: Path) -> None:
    one, other = (Addresses(tmp_path / name, 0, 1) for name in ("one", "other"))
    assert [set_of(one, IPV4 + n) for n in range(8)] != [set_of(other, IPV4 + n) for n in range(8)]


def test_without_a_file(tmp_path: Path) -> None:
    table = Addresses(None, 3, 4)
    place = table.place(IPV4, 1)
    table.own[place] += 1
    table.tend()
    assert table.live(place) == 1
    assert repr(table) == "<Addresses: slot 0, 0 changes of bans>"
    table.close()


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Addresses(tmp_path / "addresses", 0, 1)


def test_the_file_is_not_for_others(table: Addresses, tmp_path: Path) -> None:
    assert (tmp_path / "addresses").stat().st_mode & 0o777 == 0o600
    assert PLACES * 64 < 32 << 20
    assert sys.getsizeof(table) < 1000
