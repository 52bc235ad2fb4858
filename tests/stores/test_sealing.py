"""Seals, their key and the note of the newest row: what each file may hold, and who may change it. No SQL here."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from slmgate.stores.sealing import (
    HEAD_FILE,
    KEY_FILE,
    START,
    DamagedNote,
    Head,
    Note,
    SealKey,
    make_key,
    read_head,
    read_key,
    seal,
)

FIELDS = (5, "ann", "key.create", "k1", "127.0.0.1", "{}")


def test_a_seal_changes_with_everything_it_is_over() -> None:
    same = seal(b"k", START, 1, FIELDS)
    assert same == seal(b"k", START, 1, FIELDS)
    assert len(same) == 32
    others = [
        seal(b"l", START, 1, FIELDS),
        seal(b"k", b"x" * 32, 1, FIELDS),
        seal(b"k", START, 2, FIELDS),
        *(seal(b"k", START, 1, (*FIELDS[:at], 6 if at == 0 else "x", *FIELDS[at + 1 :])) for at in range(len(FIELDS))),
        # no field's end can be taken for the next one's beginning
        seal(b"k", START, 1, (5, "ann", "key.createk1", "", "127.0.0.1", "{}")),
        seal(b"k", START, 1, (5, 'ann","key.create', "", "k1", "127.0.0.1", "{}")),
    ]
    assert len({same, *others}) == len(others) + 1


def test_heads_as_texts() -> None:
    head = Head(17, bytes(range(32)))
    assert read_head(str(head)) == head
    assert read_head(f" {head}\n") == head
    for wrong in ("", "17", "17:ab", f"{head}0", f"-{head}", str(head).upper(), f"x{head}"):
        assert read_head(wrong) is None


def test_the_key(tmp_path: Path) -> None:
    assert read_key(tmp_path) is None
    made = make_key(tmp_path, 3)
    assert made == read_key(tmp_path)
    assert made == make_key(tmp_path, 9)  # another has made it meanwhile
    assert (made.of(2), made.of(3)) == (b"", made.key)
    assert made.key.hex() not in repr(made)
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "1", "x " + "00" * 32, "1 zz", "1 " + "00" * 31, "1 " + "00" * 32 + " 2"])
def test_a_file_that_holds_no_key(text: str, tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text(text)
    with pytest.raises(ValueError):
        read_key(tmp_path)


def test_a_note_never_goes_back(tmp_path: Path) -> None:
    note = Note(tmp_path / HEAD_FILE)
    assert note.read() is None
    first, second = Head(9, b"a" * 32), Head(10, b"b" * 32)
    note.move(second)
    note.move(first)
    note.move(Head(10, b"c" * 32))
    assert note.read() == second
    assert stat.S_IMODE((tmp_path / HEAD_FILE).stat().st_mode) == 0o600


def test_a_damaged_note_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / HEAD_FILE
    path.write_text("something else\n")
    with pytest.raises(DamagedNote, match="no row's number"):
        Note(path).read()
    with pytest.raises(DamagedNote):
        Note(path).move(Head(1, START))
    assert path.read_text() == "something else\n"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(DamagedNote, match="cannot be read"):
        Note(path).read()


def test_the_key_is_not_shown() -> None:
    assert repr(SealKey(b"secret" * 6, 4)) == "SealKey(first=4)"
