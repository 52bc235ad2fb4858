"""Who may use the admin side: local accounts, admin keys beside the first one, and the sessions of signed-in browsers.

The rules of their lives, each change with its line in the audit log. It knows no HTTP and no cookie; what a role may do
stands in the table of routes, and how a password is checked in `passwords.py`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property

from msgspec import structs

from slmgate.control import audit
from slmgate.control.keyfields import BadKeyInput, check_name
from slmgate.control.keyring import new_id, utc_now
from slmgate.control.operators import PREFIX, ROLES
from slmgate.control.passwords import BadPassword, Passwords, check_new
from slmgate.stores.base import Store
from slmgate.stores.operators import AccountRecord, AdminKeyRecord, SessionRecord
from slmgate.stores.records import AuditRecord

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_RESERVED = ("admin", "cli")  # what the audit log calls the first key, and commands without a gate


class UnknownOperator(LookupError):
    """There is no such account, admin key or session."""


class Accounts:
    """The accounts, keys and sessions of one store. Any thread may call."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utc_now, passwords: Passwords | None = None) -> None:
        self._audit = store
        self.store = store.operators
        self.now = clock
        self._given = passwords

    @cached_property
    def passwords(self) -> Passwords:
        return self._given or Passwords()

    # Accounts

    def all(self) -> list[AccountRecord]:
        return self.store.accounts()

    def show(self, name: str) -> AccountRecord:
        """Raises UnknownOperator."""
        found = self.store.account(name)
        if found is None:
            raise UnknownOperator(f"There is no account {name!r}; `slmgate admin users list` shows all.")
        return found

    def add(self, name: str, role: str, password: str, actor: str) -> AccountRecord:
        """Make an account. Raises BadKeyInput (name, role or password), NameTaken, LedgerUnavailable."""
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise BadKeyInput(
                "The name must begin with a small letter or digit and have small letters, digits and . _ @ - only, 64 at most; "
                f"{' and '.join(_RESERVED)} are taken."
            )
        _check_role(role)
        now = self.now()
        record = AccountRecord(name=name, role=role, password=self._hash(password, name), created=now, changed=now)
        self.store.add_account(record, self.line(actor, "account.create", f"user:{name}", role=role))
        return record

    def set_password(self, name: str, password: str, actor: str) -> AccountRecord:
        """A new password ends the account's sessions. Raises UnknownOperator, BadKeyInput, LedgerUnavailable."""
        self.show(name)
        hashed = self._hash(password, name)  # takes long, and the account may be another one afterwards
        while True:
            old = self.show(name)
            new = structs.replace(old, password=hashed, changed=self._later(old))
            if self.store.change_account(old, new, self.line(actor, "account.password", f"user:{name}")):
                return new

    def set_role(self, name: str, role: str, actor: str) -> AccountRecord:
        """A new role ends the account's sessions. Raises UnknownOperator, BadKeyInput, LedgerUnavailable."""
        _check_role(role)
        while True:
            old = self.show(name)
            if old.role == role:
                return old
            new = structs.replace(old, role=role)
            if self.store.change_account(old, new, self.line(actor, "account.role", f"user:{name}", role=role, before=old.role)):
                return new

    def remove(self, name: str, actor: str) -> AccountRecord:
        """Ends the account and its sessions. Raises UnknownOperator, LedgerUnavailable."""
        old = self.show(name)
        if not self.store.remove_account(name, self.line(actor, "account.remove", f"user:{name}")):
            self.show(name)
        return old

    def _later(self, old: AccountRecord) -> datetime:
        """Now, and in any case another moment than before: by it a sign-in under way sees the change."""
        return max(self.now(), old.changed + timedelta(microseconds=1))

    def _hash(self, password: str, name: str) -> str:
        try:
            check_new(password, name)
        except BadPassword as error:
            raise BadKeyInput(str(error)) from None
        return self.passwords.hash(password)

    # Admin keys

    def admin_keys(self) -> list[AdminKeyRecord]:
        return self.store.admin_keys()

    def create_key(self, name: str, role: str, expires: datetime | None, actor: str) -> tuple[AdminKeyRecord, str]:
        """Issue an admin key; its secret exists nowhere else. Raises BadKeyInput, NameTaken, LedgerUnavailable."""
        check_name(name, "name")
        _check_role(role)
        now = self.now()
        if expires is not None and expires <= now:
            raise BadKeyInput("The expiry is in the past; give a date to come, a duration such as 30d, or never.")
        secret = PREFIX + secrets.token_urlsafe(32)
        digest = hashlib.sha256(secret.encode()).digest()
        record = AdminKeyRecord(id=new_id(), name=name, role=role, digest=digest, created=now, expires=expires)
        detail = {"role": role} | ({} if expires is None else {"expires": expires.isoformat()})
        self.store.save_admin_key(record, self.line(actor, "admin-key.create", f"key:{name}", **detail))
        return record, secret

    def revoke_key(self, key: str, actor: str) -> AdminKeyRecord:
        """End an admin key, by id or name, for good; twice changes nothing. Raises UnknownOperator, LedgerUnavailable."""
        found = [each for each in self.admin_keys() if key in (each.id, each.name)]
        if not found:
            raise UnknownOperator(f"There is no admin key {key!r}; `slmgate admin keys list` shows all.")
        record = next((each for each in found if each.revoked is None), found[-1])
        if record.revoked is not None:
            return record
        gone = AdminKeyRecord(
            id=record.id,
            name=record.name,
            role=record.role,
            digest=hashlib.sha256(b"revoked " + record.id.encode()).digest(),  # of no secret
            created=record.created,
            expires=record.expires,
            revoked=self.now(),
        )
        self.store.save_admin_key(gone, self.line(actor, "admin-key.revoke", f"key:{record.name}"))
        return gone

    # Sessions, and what sign-in notes

    def sessions(self) -> list[SessionRecord]:
        """The newest first; some may have run out."""
        return self.store.sessions()

    def end_session(self, id: str, actor: str) -> SessionRecord:
        """Sign a browser out. Raises UnknownOperator, LedgerUnavailable."""
        found = next((each for each in self.sessions() if each.id == id), None)
        if found is None:
            raise UnknownOperator(f"There is no session {id!r}; `slmgate admin sessions list` shows all.")
        self.store.end_sessions([found.digest], self.line(actor, "session.end", found.operator))
        return found

    def note(self, record: AuditRecord) -> None:
        """Add a line to the audit log."""
        self._audit.append_audit(record)

    def line(self, actor: str, action: str, target: str, **detail: str) -> AuditRecord:
        """An audit line of now. Never give it a secret."""
        return audit.line(self.now(), actor, action, target, detail)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise BadKeyInput(f"{role[:40]!r} is no admin role; give {', '.join(ROLES)}.")
