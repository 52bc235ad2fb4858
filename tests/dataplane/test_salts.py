"""Salts: one for each tenant, the same under the same key, and nothing to be learned from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.dataplane import salts
from slmgate.dataplane.salts import Salts
from slmgate.terms import Key, Principal

ACME = Key(id="k1", name="bot", team="acme")


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "salt.key"
    path.write_text("00ff" * 12 + "\n")
    return str(path)


def test_a_team_has_one_and_who_has_none_its_own(key: str) -> None:
    mine = Salts(key)
    assert mine.of(ACME) == mine.of(Key(id="k2", name="other", team="acme"))
    lone = [Principal(id="k1", name="a"), Principal(id="k2", name="a"), Principal(id="acme", name="a"), ACME]
    assert len({mine.of(one) for one in lone}) == 4


def test_a_salt_depends_on_the_key_alone(key: str, tmp_path: Path) -> None:
    assert Salts(key).of(ACME) == Salts(key).of(ACME)
    other = tmp_path / "other.key"
    other.write_text("11ff" * 12)
    assert Salts(str(other)).of(ACME) != Salts(key).of(ACME)
    assert Salts("").of(ACME) != Salts("").of(ACME)


def test_a_salt_tells_no_name(key: str) -> None:
    salt = Salts(key).of(ACME)
    assert len(salt) == 32 and set(salt) <= set("0123456789abcdef")
    assert "acme" not in salt


def test_what_is_remembered_is_bounded(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salts, "MAX_KEPT", 2)
    mine = Salts(key)
    before = [mine.of(Principal(id=f"k{number}", name="a")) for number in range(5)]
    assert len(mine._kept) <= 2
    assert before == [mine.of(Principal(id=f"k{number}", name="a")) for number in range(5)]


@pytest.mark.parametrize("content", [None, b"", b"\n"])
def test_without_the_file_nobody_can_guess_them(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gone"
    if content is not None:
        path.write_bytes(content)
    assert Salts(str(path)).of(ACME) != Salts(str(path)).of(ACME)
    assert ("cannot be read" in Salts(str(path)).problem) is (content is None)
