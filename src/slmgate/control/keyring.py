"""The keyring: clients' keys issued, rotated, disabled and revoked, each change with its line in the audit log.

It holds the rules of a key's life and the one place where a secret's text exists, for as long as it takes to hand it
over; the store gets digests. It does not know how keys reach the workers: whoever must know of a change adds a function
to `on_change`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from slmgate.stores.base import AuditRecord, KeyRecord, KeySecret, KeyStore
from slmgate.stores.base import NameTaken as NameTaken
from slmgate.terms import Key

PREFIX = "sk-slm-"
MAX_NAME = 64
MAX_OVERLAP = timedelta(days=366)

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

State = Literal["active", "disabled", "expired", "revoked"]


class UnknownKey(LookupError):
    """There is no key with this id or name."""


class BadKeyInput(ValueError):
    """A value that a key cannot have; the message says which and what would do."""


class KeyRevoked(Exception):
    """The change cannot be made because the key is revoked, which is for good."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Keyring:
    """The keys of one store. Any thread may call; changes are made one at a time."""

    def __init__(self, store: KeyStore, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self.on_change: list[Callable[[], None]] = []

    def create(
        self,
        name: str,
        team: str | None = None,
        roles: tuple[str, ...] = (),
        expires: datetime | None = None,
        actor: str = "cli",
    ) -> tuple[KeyRecord, str]:
        """Issue a key; returns it and its secret, which exists nowhere else.

        Raises BadKeyInput, NameTaken, LedgerUnavailable.
        """
        check_name(name, "name")
        if team is not None:
            check_name(team, "team")
        now = self._clock()
        if expires is not None and expires <= now:
            raise BadKeyInput("The expiry is in the past; give a date to come, a duration such as 30d, or never.")
        id = base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]
        secret, digest = new_secret(id)
        record = KeyRecord(
            id=id, name=name, team=team, roles=roles, created=now, expires=expires, secrets=(KeySecret(digest, now),)
        )
        detail = {"name": name}
        if team is not None:
            detail["team"] = team
        if expires is not None:
            detail["expires"] = expires.isoformat()
        with self._lock:
            self._save(record, actor, "key.create", detail)
        self._changed()
        return record, secret

    def all(self) -> list[KeyRecord]:
        """All keys, revoked ones too, oldest first."""
        return self._store.keys()

    def show(self, key: str) -> KeyRecord:
        """A key by its id or its name; of several with one name, the live one or the newest. Raises UnknownKey."""
        records = self.all()
        by_id = next((record for record in records if record.id == key), None)
        named = [record for record in records if record.name == key]
        found = by_id or next((record for record in named if record.revoked is None), named[-1] if named else None)
        if found is None:
            raise UnknownKey(f"There is no key {key!r}; `slmgate keys list` shows all.")
        return found

    def rotate(self, key: str, overlap: timedelta = timedelta(), actor: str = "cli") -> tuple[KeyRecord, str]:
        """Give a key a new secret; the ones it has go on working for `overlap`. Returns it and the new secret.

        Raises UnknownKey, KeyRevoked, BadKeyInput (an overlap out of bounds), LedgerUnavailable.
        """
        if not timedelta() <= overlap <= MAX_OVERLAP:
            raise BadKeyInput(f"The overlap must be between 0 and {MAX_OVERLAP.days} days.")
        with self._lock:
            record = self._live(key)
            now = self._clock()
            secret, digest = new_secret(record.id)
            end = now + overlap
            kept = [
                msgspec.structs.replace(old, until=end if old.until is None else min(old.until, end))
                for old in record.secrets
                if end > now and (old.until is None or old.until > now)
            ]
            record = msgspec.structs.replace(record, secrets=(*kept, KeySecret(digest, now)))
            self._save(record, actor, "key.rotate", {"overlap_seconds": str(int(overlap.total_seconds()))})
        self._changed()
        return record, secret

    def disable(self, key: str, actor: str = "cli") -> KeyRecord:
        """Refuse the key until it is enabled again. Raises UnknownKey, KeyRevoked, LedgerUnavailable."""
        return self._set_disabled(key, True, actor)

    def enable(self, key: str, actor: str = "cli") -> KeyRecord:
        """Undo `disable`. Raises as it does."""
        return self._set_disabled(key, False, actor)

    def revoke(self, key: str, actor: str = "cli") -> KeyRecord:
        """End a key for good: its digests are removed, its name is free, its record stays. Revoking twice changes nothing."""
        with self._lock:
            record = self.show(key)
            if record.revoked is not None:
                return record
            record = msgspec.structs.replace(record, revoked=self._clock(), secrets=())
            self._save(record, actor, "key.revoke", {})
        self._changed()
        return record

    def as_terms(self) -> list[Key]:
        """The keys as the road decides by them: those that are not revoked."""
        return [
            Key(
                id=record.id,
                name=record.name,
                team=record.team,
                roles=record.roles,
                disabled=record.disabled,
                expires=None if record.expires is None else record.expires.timestamp(),
                digests=tuple((old.digest, None if old.until is None else old.until.timestamp()) for old in record.secrets),
            )
            for record in self.all()
            if record.revoked is None
        ]

    def state_of(self, record: KeyRecord) -> State:
        if record.revoked is not None:
            return "revoked"
        if record.disabled:
            return "disabled"
        return "expired" if record.expires is not None and record.expires <= self._clock() else "active"

    def _set_disabled(self, key: str, disabled: bool, actor: str) -> KeyRecord:
        with self._lock:
            record = self._live(key)
            if record.disabled == disabled:
                return record
            record = msgspec.structs.replace(record, disabled=disabled)
            self._save(record, actor, "key.disable" if disabled else "key.enable", {})
        self._changed()
        return record

    def _live(self, key: str) -> KeyRecord:
        record = self.show(key)
        if record.revoked is not None:
            raise KeyRevoked(f"The key {record.name!r} is revoked, which cannot be undone; create another.")
        return record

    def _save(self, record: KeyRecord, actor: str, action: str, detail: dict[str, str]) -> None:
        self._store.save_key(record, AuditRecord(time=self._clock(), actor=actor, action=action, target=record.id, detail=detail))

    def _changed(self) -> None:
        for call in self.on_change:
            call()


def new_secret(id: str) -> tuple[str, bytes]:
    """A fresh secret of the key `id`, with 256 random bits, and its digest."""
    secret = f"{PREFIX}{id}-{secrets.token_urlsafe(32)}"
    return secret, hashlib.sha256(secret.encode()).digest()


def check_name(value: str, what: str) -> None:
    """Raises BadKeyInput unless `value` can stand in a table, a log line and a header: 1 to 64 visible ones."""
    if not 1 <= len(value) <= MAX_NAME:
        raise BadKeyInput(f"The {what} must have 1 to {MAX_NAME} characters.")
    if value != value.strip():
        raise BadKeyInput(f"The {what} must not begin or end with a space.")
    # Categories C*: control and format characters (which could reverse or hide text), surrogates, unassigned ones;
    # Zl, Zp: separators that some programs take for a new line.
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in value):
        raise BadKeyInput(f"The {what} must have visible characters only, no control characters.")


def parse_duration(text: str) -> timedelta:
    """A duration such as 90s, 24h or 30d (units ms s m h d). Raises BadKeyInput."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise BadKeyInput(f"{text!r} is not a duration; write a number and a unit, such as 90s, 24h or 30d.")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise BadKeyInput(f"{text!r} is longer than can be counted.") from None


def parse_expiry(text: str, now: datetime) -> datetime | None:
    """When a key ends: `never`, a duration from `now`, a day (its beginning, UTC) or a time of ISO 8601. Raises BadKeyInput."""
    text = text.strip()
    if text == "never":
        return None
    if _DURATION.fullmatch(text):
        try:
            return now + parse_duration(text)
        except OverflowError:
            raise BadKeyInput(f"{text!r} is further away than can be counted; write never.") from None
    return parse_time(text)


def parse_moment(text: str, now: datetime) -> datetime:
    """A time to look back to: a duration before `now` (30d), a day (in UTC) or a time of ISO 8601. Raises BadKeyInput."""
    if _DURATION.fullmatch(text.strip()):
        try:
            return now - parse_duration(text)
        except OverflowError:
            return datetime(1970, 1, 1, tzinfo=UTC)
    return parse_time(text)


def parse_time(text: str) -> datetime:
    """A day or a time of ISO 8601; without a zone it is UTC. Raises BadKeyInput."""
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadKeyInput(
            f"{text!r} is not a time; write a day (2027-01-01), a time (2027-01-01T12:00:00Z) or a duration (30d)."
        ) from None
