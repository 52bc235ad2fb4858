"""The state directory: the names of what lies in it, and whether a running gate owns it.

Everything that must outlive a restart is here. This module opens nothing but the lock and the note of an address, and is cheap
to import for commands that only want to know whom to ask.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEDGER_FILE = "ledger.sqlite3"
LOCK_FILE = "serve.lock"
CONTROL_LOCK = "control.lock"
"""Held by the control process for as long as it lives."""
TAKEOVER = "takeover"
"""The socket at which a new gate asks the running one for what it has."""
JOURNAL_DIR = "journal"
LIMITS_FILE = "limits.table"
ANSWERS_DIR = "answers"
ADDRESSES_FILE = "addresses.1"
"""What addresses have done, and which are banned. The number is its form's: gates of two forms can stand side by side."""
ENGINES_DIR = "engines"
"""What is known of engines that the gate started, so that none is lost and none runs twice."""
ACME_DIR = "acme"
"""Certificates that the gate got by itself, with their keys and those of its accounts."""
SALT_KEY = "salt.key"
"""What the salts of engines' caches are made with; nodes that share instances may share it."""
ADMIN_ADDRESS = "admin.address"
"""Where the admin side of a gate without configuration file listens: commands have nothing else to know it from."""
DISCOVERED = "discovered.json"
"""The addresses that names of instances had last."""
LISTED = "listed.json"
"""What files of instances listed last, as far as it was good."""
METRICS_FILE = "metrics.json"
"""How far the counters for Prometheus are."""
LAST_GOOD = "last-good.yaml"
"""A copy of the configuration file in force, for when the file itself has become bad."""
COMMAND_SECONDS = 30.0
"""How long a gate that starts waits for commands that are changing the store."""


def is_served(state_dir: Path) -> bool:
    """Whether a gate owns this state directory: it holds the lock for as long as it lives. Raises OSError (not ours to read)."""
    try:
        lock = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


@contextmanager
def changing(state_dir: Path) -> Iterator[bool]:
    """Change the store with no gate about: one that starts meanwhile waits, since it would not hear of what is changed behind
    its first look. False: a gate owns the directory already. Raises OSError."""
    lock = os.open(state_dir / LOCK_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def own(lock: int, seconds: float = COMMAND_SECONDS) -> bool:
    """Own the state directory by a descriptor of its lock, for as long as that is open. Commands that are changing the store, or
    look whether a gate runs, are waited for. False: a gate owns it, or a command takes too long."""
    until = time.monotonic() + seconds
    while not _lock(lock, fcntl.LOCK_EX):
        if not _lock(lock, fcntl.LOCK_SH) or time.monotonic() > until:
            return False
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(0.01)  # the kernel has no word for waiting so long and no longer
    return True


def _lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_control(state_dir: Path) -> int | None:
    """The lock of the one control process, for the caller to keep; None: another one still has it. Raises OSError."""
    lock = os.open(state_dir / CONTROL_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _lock(lock, fcntl.LOCK_EX):
        return lock
    os.close(lock)
    return None


def make_salt_key(state_dir: Path) -> None:
    """Make the key of the salts, unless it is there. Raises OSError."""
    path = state_dir / SALT_KEY
    if path.exists() and path.stat().st_size:
        return
    fresh = path.with_name(f".{SALT_KEY}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(f"{secrets.token_hex(24)}\n")
    fresh.replace(path)


def note_admin_address(state_dir: Path, address: str) -> None:
    """Leave word of where the admin side listens. Raises OSError."""
    path = state_dir / ADMIN_ADDRESS
    fresh = path.with_name(f".{ADMIN_ADDRESS}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(f"{address}\n")
    fresh.replace(path)


def noted_admin_address(state_dir: Path) -> str | None:
    """What `note_admin_address` left; None where there is nothing to be read."""
    try:
        return (state_dir / ADMIN_ADDRESS).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
