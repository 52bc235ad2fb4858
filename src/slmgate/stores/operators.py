"""The operators' part of the store: records of local accounts, admin keys and sessions, and the questions asked of them.

It holds digests only: an account's password as its argon2 hash, a key's secret and a session's id as SHA-256. No driver
is named here; `sql_operators.py` answers. It knows no password, no role's meaning and no clock.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from slmgate.stores.records import AuditRecord


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One local account. `role` is viewer, operator or owner; `password` is the encoded argon2 hash."""

    name: str
    role: str
    password: str
    created: datetime
    changed: datetime
    """When the password was set last."""


class AdminKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One admin key beside the first one. `digest` is SHA-256 of its secret. Revoked ones stay, as the audit log names them."""

    id: str
    name: str
    role: str
    digest: bytes
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One signed-in browser. `digest` is SHA-256 of its cookie's text, `source` a digest of the settings that let it in."""

    digest: bytes
    id: str
    """Names it in lists; opens nothing."""
    operator: str
    account: str | None
    """The local account that it belongs to, and ends with."""
    role: str
    source: str
    address: str
    created: datetime
    seen: datetime


class OperatorStore(Protocol):
    """What control asks of the store about operators. All raise LedgerUnavailable with nothing written."""

    def account(self, name: str) -> AccountRecord | None: ...

    def accounts(self) -> list[AccountRecord]:
        """By name."""
        ...

    def add_account(self, record: AccountRecord, audit: AuditRecord) -> None:
        """Raises NameTaken."""
        ...

    def change_account(self, before: AccountRecord, record: AccountRecord, audit: AuditRecord) -> bool:
        """Replace it and end its sessions. False: it is not as it was `before` any more, or gone, and nothing was written."""
        ...

    def rehash(self, name: str, old: str, new: str) -> None:
        """The same password under newer parameters, unless it was changed meanwhile. Ends nothing."""
        ...

    def remove_account(self, name: str, audit: AuditRecord) -> bool:
        """Remove it and end its sessions. False: there is none of this name."""
        ...

    def admin_keys(self) -> list[AdminKeyRecord]:
        """All, revoked ones too, oldest first."""
        ...

    def admin_key(self, digest: bytes) -> AdminKeyRecord | None: ...

    def save_admin_key(self, record: AdminKeyRecord, audit: AuditRecord) -> None:
        """Add or replace. Raises NameTaken."""
        ...

    def session(self, digest: bytes) -> SessionRecord | None: ...

    def sessions(self) -> list[SessionRecord]:
        """The newest first."""
        ...

    def add_session(
        self, record: SessionRecord, audit: AuditRecord, bounds: tuple[int, int], proof: AccountRecord | None
    ) -> bool:
        """Add it. `bounds`: of all the so many seen last stay, and of this operator's the so many newest.

        `proof` is the local account as it was when its password was found right. False, with nothing written: it has changed
        meanwhile, or is gone.
        """
        ...

    def touch_session(self, digest: bytes, seen: datetime) -> None: ...

    def end_sessions(self, digests: list[bytes], audit: AuditRecord | None) -> int:
        """How many of them there were; the audit line is written if there was one."""
        ...

    def drop_sessions(self, created_until: datetime, seen_until: datetime) -> None:
        """Remove those made, or seen last, up to these times: they have run out."""
        ...
