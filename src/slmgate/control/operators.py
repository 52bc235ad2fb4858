"""The keys of the admin API: the first one in a file of `state_dir`, others in the store, and what their holders may do.

Apart from the clients' keys in every way: another prefix, another place, never valid at the gate. The first key is an
owner's. It knows no HTTP, no account and no session; the admin API asks it.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.keyring import utc_now

if TYPE_CHECKING:
    from slmgate.stores.operators import OperatorStore

ADMIN_KEY_FILE = "admin.key"
PREFIX = "sk-slm-admin-"


class Permission(enum.IntEnum):
    """What a route of the admin API asks of its caller; each includes the ones before it. PUBLIC asks for nothing."""

    PUBLIC = 0
    VIEWER = 1
    OPERATOR = 2
    OWNER = 3


ROLES = {"viewer": Permission.VIEWER, "operator": Permission.OPERATOR, "owner": Permission.OWNER}
"""The admin roles by name, the least first."""


class Operator(msgspec.Struct, frozen=True):
    """Who calls the admin API. `name` is what the audit log says.

    `admin` holds the first key, `cli` the files themselves; others say how they came: `key:NAME`, `user:NAME`, `oidc:NAME`.
    """

    name: str
    permission: Permission


def create_first_admin_key(state_dir: Path) -> str | None:
    """Make the first admin key, readable by its owner only; None when there is one. Makes `state_dir` if need be.

    Raises OSError.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state_dir / ADMIN_KEY_FILE
    if path.exists():
        return None
    secret = PREFIX + secrets.token_urlsafe(32)
    # Written whole under another name and then linked: a file under its own name is never half there, nor two makers' at once.
    draft = state_dir / f".{ADMIN_KEY_FILE}.{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return None
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    return secret


def read_admin_key(state_dir: Path) -> str | None:
    """The secret of the first admin key; None when there is none. Raises OSError where it may not be read."""
    try:
        return (state_dir / ADMIN_KEY_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


class AdminKeys:
    """Checks admin secrets against the key file of `state_dir`, which may change while it is used, and the keys of the store."""

    def __init__(self, state_dir: Path, store: OperatorStore | None = None, clock: Callable[[], datetime] = utc_now) -> None:
        """`store` None: the first key is the only one."""
        self._state_dir = state_dir
        self._store = store
        self._clock = clock

    def check(self, secret: str) -> Operator | None:
        """Who holds this secret; None: nobody. Takes the same time however much of a guess is right.

        Reads files, so call it in a thread. Raises LedgerUnavailable: another key's holder cannot be told now.
        """
        try:
            known = read_admin_key(self._state_dir)
        except OSError:
            known = None
        given = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        right = hmac.compare_digest(given, hashlib.sha256((known or "").encode()).digest())
        if right and known:
            return Operator("admin", Permission.OWNER)
        if self._store is None or not secret.startswith(PREFIX):
            return None
        key = self._store.admin_key(given)
        if key is None or key.revoked is not None or (key.expires is not None and key.expires <= self._clock()):
            return None
        permission = ROLES.get(key.role)
        return None if permission is None else Operator(f"key:{key.name}", permission)
