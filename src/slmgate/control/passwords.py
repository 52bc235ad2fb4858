"""Passwords of local accounts: what one must be, its argon2id hash, and a check that takes as long for nobody as for somebody.

It holds no account and knows no store. A hash takes 64 MiB and tens of milliseconds on purpose, so whoever lets strangers
ask must bound how many are made at once; `check` does that for sign-ins.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_LENGTH = 12
MAX_LENGTH = 256
AT_ONCE = 2
MAX_WAITING = 32


class BadPassword(ValueError):
    """A password that will not do; the message says what would, and never repeats it."""


class Busy(Exception):
    """Too many passwords are being checked; ask again in a moment."""


class Passwords:
    """Hashes and checks. Any thread may call `hash`; `check` belongs to one event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """`hasher` None: argon2id with the parameters that RFC 9106 recommends second (64 MiB, 3 passes, 4 lanes)."""
        from argon2 import PasswordHasher  # here: commands that need no password need not wait for it

        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex(16))  # what is checked where there is no account
        self._threads = ThreadPoolExecutor(AT_ONCE, "password")
        self._waiting = 0

    def hash(self, password: str) -> str:
        return self._hasher.hash(prepared(password))

    def is_right(self, password: str, encoded: str | None) -> bool:
        """Whether `encoded` is of this password. None: there is no account, which takes as long and is never right."""
        from argon2.exceptions import InvalidHashError, VerificationError

        if len(password) > MAX_LENGTH:
            password = ""  # no account has it, but the time is the same
        try:
            self._hasher.verify(self._nobody if encoded is None else encoded, prepared(password))
        except (VerificationError, InvalidHashError):
            return False
        return encoded is not None

    def is_dated(self, encoded: str) -> bool:
        """Whether the hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(encoded)

    async def check(self, password: str, encoded: str | None) -> bool:
        """`is_right`, off the event loop. Raises Busy when too many wait already."""
        if self._waiting >= MAX_WAITING:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self.is_right, password, encoded)
        finally:
            self._waiting -= 1


def prepared(password: str) -> str:
    """One form for texts that look the same (RFC 8265, section 4.2: NFC), however a keyboard composes them."""
    return unicodedata.normalize("NFC", password)


def check_new(password: str, name: str) -> None:
    """Raises BadPassword unless it may be the password of the account `name`. Length is what counts (NIST SP 800-63B, 3.1.1)."""
    if len(prepared(password)) < MIN_LENGTH:
        raise BadPassword(
            f"The password must have at least {MIN_LENGTH} characters; a few words in a row are easy to keep in mind."
        )
    if len(password) > MAX_LENGTH:
        raise BadPassword(f"The password must have at most {MAX_LENGTH} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise BadPassword("The password must not hold control characters.")
    plain = password.casefold()
    if len(set(plain)) < 4 or plain.replace(name.casefold(), "") in ("", "password", "slmgate"):
        raise BadPassword("That password is guessed first; take another one.")
