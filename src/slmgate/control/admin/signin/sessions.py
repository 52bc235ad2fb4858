"""Sessions of signed-in browsers: made, recognised by their cookie, run out and ended.

The cookie's text has 256 random bits; the store has its digest, so sessions outlive a restart and a copy of the store
opens none. It knows no HTTP. Calls read and write the store: make them in a thread.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
from datetime import timedelta

import msgspec

from slmgate.control.accounts import Accounts
from slmgate.control.config.admin_options import AdminAuth
from slmgate.control.keyring import new_id
from slmgate.control.operators import ROLES, Operator
from slmgate.stores.operators import AccountRecord, SessionRecord
from slmgate.stores.records import LedgerUnavailable

MOST = 1000
MOST_EACH = 10
"""Sessions of all, and of one operator: a new one beyond that ends the oldest."""
TOUCH = timedelta(seconds=30)
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")


class Signed(msgspec.Struct, frozen=True):
    """Somebody to sign in. `account` is a local account as it was when its password was found right, None for others."""

    operator: str
    role: str
    account: AccountRecord | None = None


class Sessions:
    """The sessions of one store."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def start(self, who: Signed, auth: AdminAuth, address: str, before: str) -> str | None:
        """Sign somebody in; the new cookie's text. None: the account has changed meanwhile.

        `before` is the cookie that the browser came with: whatever session it opened ends. Raises LedgerUnavailable.
        """
        now = self._accounts.now()
        store = self._accounts.store
        store.drop_sessions(now - timedelta(seconds=auth.lifetime), now - timedelta(seconds=auth.idle))
        cookie = secrets.token_urlsafe(32)
        record = SessionRecord(
            digest=_digest(cookie),
            id=new_id(),
            operator=who.operator,
            account=None if who.account is None else who.account.name,
            role=who.role,
            source=source(auth, who.account is not None),
            address=address,
            created=now,
            seen=now,
        )
        how = "password" if who.account is not None else "oidc"
        line = self._accounts.line(who.operator, "sign-in", "admin", how=how, role=who.role)
        if not store.add_session(record, line, (MOST, MOST_EACH), who.account):
            return None
        if _COOKIE.fullmatch(before):
            store.end_sessions([_digest(before)], None)
        return cookie

    def check(self, cookie: str, auth: AdminAuth) -> Operator | None:
        """Who this cookie signs in; None: nobody. Raises LedgerUnavailable."""
        if not _COOKIE.fullmatch(cookie):
            return None
        record = self._accounts.store.session(_digest(cookie))
        now = self._accounts.now()
        if record is None or not _lives(record, auth, now - record.created, now - record.seen):
            return None
        if now - record.seen >= min(TOUCH, timedelta(seconds=auth.idle / 4)):
            with contextlib.suppress(LedgerUnavailable):  # a full disk signs nobody out
                self._accounts.store.touch_session(record.digest, now)
        permission = ROLES.get(record.role)
        return None if permission is None else Operator(record.operator, permission)

    def end(self, cookie: str, operator: str) -> None:
        """Sign a browser out. Raises LedgerUnavailable."""
        line = self._accounts.line(operator, "sign-out", "admin")
        self._accounts.store.end_sessions([_digest(cookie)], line)


def _lives(record: SessionRecord, auth: AdminAuth, age: timedelta, silence: timedelta) -> bool:
    # from the time to come are those of a clock that was ahead: they must not last until it gets there
    if abs(age) >= timedelta(seconds=auth.lifetime) or abs(silence) >= timedelta(seconds=auth.idle):
        return False
    allowed = source(auth, record.account is not None)
    return bool(allowed) and record.source == allowed


def source(auth: AdminAuth, local: bool) -> str:
    """A digest of the settings that let somebody in, empty where they let nobody: who came by others is signed out."""
    if local:
        return "local" if auth.local else ""
    if auth.oidc is None:
        return ""
    settings = msgspec.structs.replace(auth.oidc, client_secret=None)
    return "oidc:" + hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:32]


def form_token(cookie: str) -> str:
    """What a form of a signed-in page must bring back: bound to the session, and of no use without it."""
    return base64.urlsafe_b64encode(hashlib.sha256(b"slmgate form " + cookie.encode()).digest()).decode().rstrip("=")


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
