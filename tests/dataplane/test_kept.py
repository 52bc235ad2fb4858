"""Answers on the disk: one worker at a time works on a key, what it keeps is found by all, and what it leaves is no answer."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slmgate.dataplane.kept import BLOCK, BUSY, HURRY, KEPT_SECONDS, MAX_META, OTHER, PARTS, Answer, Claim, Kept, name_of

NOW = 1_780_000_000.0
ONE, TWO = b"1" * 32, b"2" * 32
NAME = name_of("k1", "", "first")


def answer(body: bytes = b"{}", at: float = NOW) -> Answer:
    return Answer(200, "application/json", "cache-control: no-store\r\n", at, len(body), body)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "answers")


def taken(kept: Kept, name: str = NAME, fingerprint: bytes = ONE, now: float = NOW) -> Claim:
    found = kept.claim(name, fingerprint, now)
    assert isinstance(found, Claim), found
    return found


def test_names_are_of_one_principal_and_one_key() -> None:
    assert len({name_of("a", "", "bc"), name_of("ab", "", "c"), name_of("a", "b", "c"), name_of("a", "", "bc")}) == 3
    assert len(NAME) == 64


def test_what_was_kept_is_found_by_all(kept: Kept, tmp_path: Path) -> None:
    claim = taken(kept)
    assert repr(claim) == "<Claim held>"
    claim.keep(answer(b"hello"))
    assert repr(claim) == "<Claim over>"
    assert repr(kept) == "<Kept answers>"
    for other in (kept, Kept(tmp_path / "answers")):
        assert other.claim(NAME, ONE, NOW) == answer(b"hello")
        assert other.claim(NAME, TWO, NOW) is OTHER


def test_an_empty_body_is_an_answer_too(kept: Kept) -> None:
    taken(kept).keep(answer(b""))
    assert kept.claim(NAME, ONE, NOW) == answer(b"")


def test_it_is_read_by_its_owner_alone(kept: Kept, tmp_path: Path) -> None:
    taken(kept).keep(answer())
    modes = {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_dir()}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert modes == {"0o700"}
    assert [oct(path.stat().st_mode & 0o777) for path in files] == ["0o600"]
    assert b"first" not in files[0].name.encode()


def test_while_one_works_the_others_wait(kept: Kept) -> None:
    claim = taken(kept)
    assert kept.claim(NAME, ONE, NOW) is BUSY
    assert kept.claim(NAME, TWO, NOW) is OTHER
    taken(kept, name_of("k1", "", "second")).release()
    claim.release()
    taken(kept, fingerprint=TWO).release()


def test_what_a_killed_worker_leaves_is_no_answer(kept: Kept, tmp_path: Path) -> None:
    """The kernel gives its lock back; of the file there is any number of bytes."""
    taken(kept).keep(answer(b"whole"))
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        claim = taken(kept)
        assert path.read_bytes() == ONE
        os.close(claim._fd)  # as a death does
    path.write_bytes(whole)
    assert kept.claim(NAME, ONE, NOW) == answer(b"whole")


@pytest.mark.parametrize("head", [b"{}", b"x" * 5, b'{"fields":"\xff"}', b"\xff" * (MAX_META + 1)])
def test_what_cannot_be_read_is_no_answer(kept: Kept, tmp_path: Path, head: bytes) -> None:
    taken(kept).keep(answer())
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(ONE + len(head).to_bytes(4, "big") + head)
    taken(kept).release()


@pytest.mark.parametrize(
    ("age", "is_there"), [(0, True), (KEPT_SECONDS - 1, True), (KEPT_SECONDS, False), (KEPT_SECONDS + 1, False)]
)
def test_a_day(kept: Kept, age: int, is_there: bool) -> None:
    taken(kept).keep(answer())
    found = kept.claim(NAME, ONE, NOW + age)
    assert isinstance(found, Answer) is is_there
    assert isinstance(found, Claim) is not is_there


def test_a_disk_that_is_full(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not kept whole is not kept at all, and leaves the key free."""
    claim = taken(kept)
    real = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        if at > 32:
            raise OSError(28, "No space left on device")
        return real(fd, data[:20], at)

    monkeypatch.setattr("slmgate.dataplane.kept.os.pwrite", full)
    with pytest.raises(OSError, match="No space"):
        claim.keep(answer(b"x" * 100))
    monkeypatch.undo()
    taken(kept).release()


def test_no_place_to_keep_it(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("a file")
    with pytest.raises(OSError, match="Not a directory"):
        Kept(tmp_path / "answers").claim(NAME, ONE, NOW)


def test_a_file_that_goes_while_it_is_opened(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker gave the key up between our open and our lock: the file that we hold is nobody's any more."""
    taken(kept).keep(answer())
    real, left = Kept._open, [2]

    def opened(self: Kept, path: Path) -> int:
        fd = real(self, path)
        if left[0]:
            left[0] -= 1
            path.unlink()
        return fd

    monkeypatch.setattr(Kept, "_open", opened)
    claim = taken(kept)
    assert left == [0]
    claim.keep(answer(b"new"))
    assert kept.claim(NAME, ONE, NOW) == answer(b"new")
    left[0] = 99
    assert kept.claim(NAME, ONE, NOW) is BUSY


def test_a_fault_while_it_is_read_leaves_no_lock(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("slmgate.dataplane.kept._answer", lambda fd, now: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            kept.claim(NAME, ONE, NOW)
    taken(kept).release()


def test_what_comes_faster_is_swept_faster(kept: Kept, tmp_path: Path) -> None:
    """One part a second would be all of them in four minutes, and in four minutes a flood keeps many times what may be kept."""
    most, part = 2 * PARTS * BLOCK, 0
    largest = 0
    for second in range(24):
        for number in range(PARTS):  # half of what may be kept, each second
            name = f"{number:02x}{second:062x}"
            taken(kept, name).keep(answer())
            os.utime(tmp_path / "answers" / name[:2] / name, (time.time() - 1000 + second,) * 2)
        for _ in range(kept.hurry):
            part = (part + 1) % PARTS
            kept.sweep(part, most)
        if second % 4 == 3:
            largest = max(largest, sum(len(os.listdir(one)) for one in (tmp_path / "answers").iterdir()) * BLOCK)
    assert kept.hurry == HURRY
    assert largest < 3 * most, "of 12 times as much that came"
    for again in range(2 * PARTS):  # and nothing comes any more
        kept.sweep(again % PARTS, most)
    assert kept.hurry == 1


def test_several_parts_are_swept_at_once(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []

    def sweep(part: int) -> None:
        assert kept.sweeping
        if part == 9:
            raise MemoryError
        swept.append(part)

    monkeypatch.setattr(kept, "sweep", sweep)
    kept.sweep_all([3, 4])
    with pytest.raises(MemoryError):
        kept.sweep_all([5, 9, 10])
    assert swept == [3, 4, 5]
    assert not kept.sweeping


def test_sweeping(kept: Kept, tmp_path: Path) -> None:
    """Old ones go, and of too many the oldest of each part; what is worked on stays, and so does what is not ours."""
    names = [f"ab{number:062x}" for number in range(5)] + ["cd" + "0" * 62]
    paths = [tmp_path / "answers" / name[:2] / name for name in names]
    for name in (*names[:4], names[5]):
        taken(kept, name).keep(answer())
    claim = taken(kept, names[4])
    for age, path in zip((KEPT_SECONDS + 60, 40, 30, 20, KEPT_SECONDS + 60, 10), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    stranger = tmp_path / "answers" / "ab" / "note"
    stranger.write_text("mine")
    os.utime(stranger, (0, 0))

    def after(*parts: int, **most: int) -> list[int]:
        for part in parts:
            kept.sweep(part, **most)
        return [number for number, path in enumerate(paths) if path.exists()]

    assert after(0xCD, 0xAB, 0xEF) == [1, 2, 3, 4, 5]
    assert after(0xAB, most=4 * BLOCK) == [2, 3, 4, 5], "of all parts there are more than that"
    assert after(0xAB, most=3 * BLOCK) == [3, 4, 5], "what is worked on counts, and stays"
    assert after(0xCD, most=3 * BLOCK) == [3, 4, 5]
    claim.release()
    assert after(0xAB, 0xCD, most=0) == []
    assert stranger.read_text() == "mine"
    Kept(tmp_path / "none").sweep(0)
