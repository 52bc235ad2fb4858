"""What the routes about operators do: accounts, admin keys and sessions, over `accounts.py`, as records that are safe to show.

Bodies and handlers both, since they serve nothing else: no password, digest or cookie is in an answer, but the secret of a
new admin key in the one that issues it. Handlers are plain functions, run in a thread; who may call stands in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.keyfields import parse_expiry

if TYPE_CHECKING:
    from litestar.params import FromPath, JSONBody

    from slmgate.control.admin.params import Caller, Context
    from slmgate.stores.operators import AccountRecord, AdminKeyRecord, SessionRecord


class Me(msgspec.Struct, frozen=True):
    """Who calls, as the audit log has it, and what he may do."""

    name: str
    role: str


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """A local account. `changed`: when its password was set last."""

    name: str
    role: str
    created: datetime
    changed: datetime


class AccountPage(msgspec.Struct, frozen=True):
    accounts: Sequence[AccountView]


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account is made from."""

    name: str
    role: str
    password: str

    def __repr__(self) -> str:
        return f"NewAccount({self.name!r}, {self.role!r})"


class NewPassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    password: str

    def __repr__(self) -> str:
        return "NewPassword()"


class NewRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: str


class AdminKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """An admin key beside the first one."""

    id: str
    name: str
    role: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class AdminKeyPage(msgspec.Struct, frozen=True):
    keys: Sequence[AdminKeyView]


class NewAdminKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an admin key is made from. `expires` is `never`, a duration (30d), a day or a time; days and bare times are UTC."""

    name: str
    role: str
    expires: str = "never"


class IssuedAdminKey(msgspec.Struct, frozen=True, kw_only=True):
    """An admin key with its secret, which is shown this once."""

    key: AdminKeyView
    secret: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in browser, and the address that it signed in from."""

    id: str
    operator: str
    role: str
    address: str
    created: datetime
    seen: datetime


class SessionPage(msgspec.Struct, frozen=True):
    """The newest first; some may have run out."""

    sessions: Sequence[SessionView]


async def whoami(caller: Caller) -> Me:
    """Who calls, and with which role."""
    return Me(caller.name, caller.permission.name.lower())


def accounts(context: Context) -> AccountPage:
    """The local accounts, by name."""
    return AccountPage([_account(record) for record in context.accounts.all()])


def add_account(context: Context, caller: Caller, data: JSONBody[NewAccount]) -> AccountView:
    """Make a local account."""
    return _account(context.accounts.add(data.name, data.role, data.password, caller.name))


def set_password(context: Context, caller: Caller, id: FromPath[str], data: JSONBody[NewPassword]) -> AccountView:
    """Give an account a new password; its browsers are signed out."""
    return _account(context.accounts.set_password(id, data.password, caller.name))


def set_role(context: Context, caller: Caller, id: FromPath[str], data: JSONBody[NewRole]) -> AccountView:
    """Give an account another role; its browsers are signed out."""
    return _account(context.accounts.set_role(id, data.role, caller.name))


def remove_account(context: Context, caller: Caller, id: FromPath[str]) -> AccountView:
    """End an account; its browsers are signed out."""
    return _account(context.accounts.remove(id, caller.name))


def admin_keys(context: Context) -> AdminKeyPage:
    """The admin keys beside the first one, revoked ones too, oldest first. Secrets are in none."""
    return AdminKeyPage([_key(record) for record in context.accounts.admin_keys()])


def create_admin_key(context: Context, caller: Caller, data: JSONBody[NewAdminKey]) -> IssuedAdminKey:
    """Issue an admin key. The secret is in this answer and nowhere else."""
    expires = parse_expiry(data.expires, context.accounts.now())
    record, secret = context.accounts.create_key(data.name, data.role, expires, caller.name)
    return IssuedAdminKey(key=_key(record), secret=secret)


def revoke_admin_key(context: Context, caller: Caller, id: FromPath[str]) -> AdminKeyView:
    """End an admin key for good."""
    return _key(context.accounts.revoke_key(id, caller.name))


def sessions(context: Context) -> SessionPage:
    """The signed-in browsers, the newest first."""
    return SessionPage([_session(record) for record in context.accounts.sessions()])


def end_session(context: Context, caller: Caller, id: FromPath[str]) -> SessionView:
    """Sign a browser out."""
    return _session(context.accounts.end_session(id, caller.name))


def _account(record: AccountRecord) -> AccountView:
    return AccountView(name=record.name, role=record.role, created=record.created, changed=record.changed)


def _key(record: AdminKeyRecord) -> AdminKeyView:
    return AdminKeyView(
        id=record.id,
        name=record.name,
        role=record.role,
        created=record.created,
        expires=record.expires,
        revoked=record.revoked,
    )


def _session(record: SessionRecord) -> SessionView:
    return SessionView(
        id=record.id,
        operator=record.operator,
        role=record.role,
        address=record.address,
        created=record.created,
        seen=record.seen,
    )
