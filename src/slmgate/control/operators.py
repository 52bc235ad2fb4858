"""The credentials of the admin API: secrets in files of `state_dir`, and what their holders may do.

Apart from the clients' keys in every way: another prefix, another place, never valid at the gate. In this version there
is one admin key and it is an owner's. It knows no HTTP; the admin API asks it.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import hmac
import os
import secrets
from pathlib import Path

import msgspec

ADMIN_KEY_FILE = "admin.key"
PREFIX = "sk-slm-admin-"


class Permission(enum.IntEnum):
    """What a route of the admin API asks of its caller; each includes the ones before it. PUBLIC asks for nothing."""

    PUBLIC = 0
    VIEWER = 1
    OPERATOR = 2
    OWNER = 3


class Operator(msgspec.Struct, frozen=True):
    """Who calls the admin API. `name` is what the audit log says."""

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
    """Checks admin secrets against the key file of `state_dir`, which may change while it is used."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def check(self, secret: str) -> Operator | None:
        """Who holds this secret; None: nobody. Takes the same time however much of a guess is right."""
        try:
            known = read_admin_key(self._state_dir)
        except OSError:
            known = None
        given = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        right = hmac.compare_digest(given, hashlib.sha256((known or "").encode()).digest())
        return Operator("admin", Permission.OWNER) if right and known else None
