"""What is stored of automatic certificates: modes, moves into place, and files that are broken, foreign or not ours to write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmgate.control.acme.files import Account, AcmeFiles
from slmgate.control.acme.making import placeholder_pem
from slmgate.control.acme.timing import Tries

NAME = "gate.example.com"
NOW = 1_800_000_000.0
DIRECTORY = "https://acme.example.com/directory"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def files(tmp_path: Path, said: list[str]) -> AcmeFiles:
    return AcmeFiles(tmp_path / "acme", DIRECTORY, said.append)


def test_what_is_kept_is_read_again_by_another(files: AcmeFiles, tmp_path: Path, said: list[str]) -> None:
    files.keep_account(Account(key="-----BEGIN PRIVATE KEY-----", uri="https://acme.example.com/1"))
    files.keep_certificate(NAME, placeholder_pem(NAME, NOW))
    files.keep_tries(NAME, Tries(refused=3))
    other = AcmeFiles(tmp_path / "acme", DIRECTORY, said.append)
    account, leaf = other.account(), other.leaf(NAME)
    assert account is not None and account.uri == "https://acme.example.com/1"
    assert leaf is not None and leaf.names == (NAME,)
    assert other.tries(NAME).refused == 3 and said == []


def test_nobody_else_may_read_any_of_it(files: AcmeFiles) -> None:
    mask = os.umask(0)
    try:
        files.keep_account(Account(key="k"))
        files.keep_certificate(NAME, b"c")
        files.keep_tries(NAME, Tries())
    finally:
        os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in files.folder.iterdir()} == {0o600}
    assert len(list(files.folder.iterdir())) == 3, "nothing half written stays"
    assert {path.stat().st_mode & 0o777 for path in (files.folder, files.folder.parent)} == {0o700}


def test_a_key_does_not_show_in_a_repr() -> None:
    assert "PRIVATE" not in repr(Account(key="-----BEGIN PRIVATE KEY-----"))


def test_nothing_is_there_at_first(files: AcmeFiles) -> None:
    assert (files.account(), files.leaf(NAME), files.tries(NAME)) == (None, None, Tries())


def test_authorities_have_folders_of_their_own(tmp_path: Path, said: list[str]) -> None:
    two = [AcmeFiles(tmp_path, url, said.append) for url in (DIRECTORY, "https://acme.example.com/staging")]
    assert two[0].folder != two[1].folder and all("acme.example.com" in one.folder.name for one in two)
    assert ":" not in AcmeFiles(tmp_path, "https://[::1]:14000/dir", said.append).folder.name


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100, b'{"key": 5}', b'{"uri": "x"}', b"[" * 5000])
def test_a_broken_account_is_moved_aside_and_told(files: AcmeFiles, said: list[str], content: bytes) -> None:
    files.keep_account(Account(key="k"))
    (files.folder / "account.json").write_bytes(content)
    assert files.account() is None
    assert (files.folder / "account.json.bad").read_bytes() == content
    assert len(said) == 1 and "moved to account.json.bad" in said[0]
    assert files.account() is None and len(said) == 1


def test_a_certificate_for_another_name_is_none(files: AcmeFiles, said: list[str]) -> None:
    files.keep_certificate(NAME, placeholder_pem("other.example.com", NOW))
    assert files.leaf(NAME) is None
    assert "for other names" in said[0] and not files.certificate_path(NAME).exists()


def test_broken_tries_are_none(files: AcmeFiles, said: list[str]) -> None:
    files.keep_tries(NAME, Tries(refused=1))
    (files.folder / f"{NAME}.json").write_bytes(b"{}}")
    assert files.tries(NAME) == Tries() and len(said) == 1


def test_a_write_that_fails_leaves_the_old(files: AcmeFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.keep_tries(NAME, Tries(refused=1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.keep_tries(NAME, Tries(refused=2))
    assert files.tries(NAME).refused == 1
