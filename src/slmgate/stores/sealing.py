"""What makes the audit log's rows a chain: the seal of each, the key that seals are made with, and the note of the newest one.

A row's seal is an HMAC (RFC 2104, SHA-256) over its number, the seal of the row before, and every field, as they are stored. The
key and the note are files beside the store, so that who can write to the database alone can neither make a seal nor shorten
the log unseen. Rows from before there was a key have seals without one; the key's file says where they end. It knows no SQL.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

KEY_FILE = "audit.key"
HEAD_FILE = "audit.head"
START = bytes(32)
"""What stands for the seal before the first row."""
_HEAD = re.compile(r"([0-9]{1,19})[: ]([0-9a-f]{64})")


class DamagedNote(Exception):
    """The note of the newest row is there and cannot be read."""


class Head(msgspec.Struct, frozen=True):
    """One row by its number and its seal: what the newest one was at some time."""

    number: int
    seal: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.seal.hex()}"


def read_head(text: str) -> Head | None:
    """The head that `text` is, as `NUMBER:SEAL`; None where it is none."""
    found = _HEAD.fullmatch(text.strip())
    return None if found is None else Head(int(found[1]), bytes.fromhex(found[2]))


class SealKey(msgspec.Struct, frozen=True):
    """The secret of the seals from row `first` on; earlier ones are made without."""

    key: bytes
    first: int

    def __repr__(self) -> str:
        return f"SealKey(first={self.first})"

    def of(self, number: int) -> bytes:
        return self.key if number >= self.first else b""


def seal(key: bytes, previous: bytes, number: int, fields: tuple[Any, ...]) -> bytes:
    """The seal of a row. JSON of a list tells every field from the next, whatever stands in them."""
    return hmac.digest(key, msgspec.json.encode([number, previous.hex(), *fields]), "sha256")


def read_key(home: Path) -> SealKey | None:
    """The key beside the store; None where there is none. Raises OSError; ValueError where the file holds no key."""
    try:
        words = (home / KEY_FILE).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    if len(words) != 2 or not words[0].isdecimal() or len(key := bytes.fromhex(words[1])) != 32:
        raise ValueError(f"{home / KEY_FILE} holds no key of the audit log; bring the right file back.")
    return SealKey(key, int(words[0]))


def make_key(home: Path, first: int) -> SealKey:
    """A new key for the rows from `first` on, readable by its owner only; or the one that another has made meanwhile.

    Raises OSError, ValueError.
    """
    made = SealKey(secrets.token_bytes(32), first)
    # Whole under another name and then linked, as nobody may ever read half of it.
    draft = home / f".{KEY_FILE}.{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(f"{made.first} {made.key.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, home / KEY_FILE)
    except FileExistsError:
        return read_key(home) or made
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    return made


class Note:
    """The file that says which row was the newest. Several processes may write it; it never goes back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Head | None:
        """None: nothing is noted. Raises DamagedNote."""
        try:
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as file:
                return self._content(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedNote(f"{self._path.name} cannot be read: {error.strerror}") from error

    def move(self, head: Head) -> None:
        """Note this one, unless a newer one is noted already. Raises OSError, DamagedNote."""
        with self._locked(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as file:
            now = self._content(file)
            if now is None or now.number < head.number:
                # in place and of one length: never half of two, and no other file to be put in its place
                os.pwrite(file, b"%019d %s\n" % (head.number, head.seal.hex().encode()), 0)

    @contextlib.contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        file = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, lock)
            yield file
        finally:
            os.close(file)

    def _content(self, file: int) -> Head | None:
        text = os.pread(file, 200, 0).decode(errors="replace")
        if not text:
            return None
        head = read_head(text)
        if head is None:
            raise DamagedNote(f"{self._path.name} holds no row's number and seal")
        return head
