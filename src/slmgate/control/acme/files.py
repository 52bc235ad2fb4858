"""The files of automatic certificates: in `acme/` of the state directory, one folder for each authority.

In it `account.json` (with the account's key), and for each name `NAME.pem` (the certificate, those behind it, and its key in one
file, so that none is ever read beside the other's predecessor) and `NAME.json` (what became of the last tries). All are 0600 and
written beside, then moved into place. What cannot be read is moved aside, never overwritten. It asks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec

from slmgate.control.acme.making import Leaf, leaf_of
from slmgate.control.acme.timing import Tries
from slmgate.control.config.addresses import host_of

MAX_BYTES = 256 * 1024

_Read = TypeVar("_Read")


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account at an authority: its key (PEM), its address there, and what it was made with."""

    key: str
    uri: str = ""
    email: str = ""
    kid: str = ""

    def __repr__(self) -> str:
        return f"Account({self.uri})"


class AcmeFiles:
    """What is stored of one authority. All methods raise OSError where the disk does not do what it is asked."""

    def __init__(self, home: Path, directory: str, complain: Callable[[str], None]) -> None:
        """`home` is `acme/` of the state directory, `directory` the address of the authority's."""
        mark = blake2b(directory.encode(), digest_size=4).hexdigest()
        self.host = host_of(directory)
        self.folder = home / f"{self.host.replace(':', '_')}-{mark}"
        self._complain = complain

    def __repr__(self) -> str:
        return f"<AcmeFiles {self.folder.name}>"

    def certificate_path(self, domain: str) -> Path:
        return self.folder / f"{domain}.pem"

    def account(self) -> Account | None:
        return self._read(self.folder / "account.json", lambda data: msgspec.json.decode(data, type=Account))

    def keep_account(self, account: Account) -> None:
        self._write(self.folder / "account.json", msgspec.json.encode(account))

    def leaf(self, domain: str) -> Leaf | None:
        """What is stored as the certificate of `domain`; None: nothing that could be shown."""

        def read(data: bytes) -> Leaf:
            leaf = leaf_of(data)
            if domain not in leaf.names:
                raise ValueError("it is for other names")
            return leaf

        return self._read(self.certificate_path(domain), read)

    def keep_certificate(self, domain: str, pem: bytes) -> None:
        self._write(self.certificate_path(domain), pem)

    def tries(self, domain: str) -> Tries:
        return self._read(self.folder / f"{domain}.json", lambda data: msgspec.json.decode(data, type=Tries)) or Tries()

    def keep_tries(self, domain: str, tries: Tries) -> None:
        self._write(self.folder / f"{domain}.json", msgspec.json.encode(tries))

    def _read(self, path: Path, read: Callable[[bytes], _Read]) -> _Read | None:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES)
        except FileNotFoundError:
            return None
        try:
            return read(data)
        except (ValueError, IndexError) as error:
            aside = path.with_name(f"{path.name}.bad")
            path.replace(aside)
            self._complain(f"{path} cannot be used and was moved to {aside.name}: {_short(error)}")
            return None

    def _write(self, path: Path, data: bytes) -> None:
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def _short(error: Exception) -> str:
    """Of a fault in reading, its first words: never a whole text that might hold what stood there."""
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
