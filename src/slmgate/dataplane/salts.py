"""Whose cache a request may use, told to an engine that keeps what it has read apart by a salt.

A tenant (a team; who has none, alone) has one salt: a digest under a key of this gate, from which no name can be learned and
which nobody can guess, so that no tenant finds out by the time an answer takes what another one asked. It does not know where in
a body the salt stands.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from pathlib import Path

from slmgate.terms import Principal

MAX_KEPT = 10_000
"""Tenants whose salt is remembered."""


class Salts:
    """The salts under the key in the file `path`. "", or where it cannot be read: under one that ends with this process."""

    __slots__ = ("_kept", "_key", "problem")

    def __init__(self, path: str) -> None:
        self.problem = ""
        """What the operator should know of the file."""
        key = b""
        try:
            key = Path(path).read_bytes().strip() if path else b""
        except OSError as error:  # tenants stay apart all the same, and find less of what they have asked before
            self.problem = f"{path} cannot be read ({error.strerror}): engines' caches are salted anew"
        self._key = blake2b(key or secrets.token_bytes(32)).digest()
        self._kept: dict[tuple[str | None, str], str] = {}

    def of(self, principal: Principal) -> str:
        team = principal.team
        which = team, principal.id if team is None else ""
        salt = self._kept.get(which)
        if salt is None:
            tenant = f"principal {principal.id}" if team is None else f"team {team}"
            salt = blake2b(tenant.encode(), key=self._key, digest_size=16).hexdigest()
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[which] = salt
        return salt
