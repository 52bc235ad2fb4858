"""The keyring: clients' keys issued, rotated, disabled and revoked, each change with its line in the audit log.

It holds the rules of a key's life and the one place where a secret's text exists, for as long as it takes to hand it
over; the store gets digests. It does not know how keys reach the workers: whoever must know of a change adds a function
to `on_change`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from slmgate.control import audit
from slmgate.control.keyfields import DECLARED, BadKeyInput, check_name, check_networks, check_roles, check_tags
from slmgate.control.keylimits import check_currencies, limit_text, read_limits
from slmgate.stores.base import KeyStore
from slmgate.stores.records import AuditRecord, KeyFilter, KeyRecord, KeySecret, KeyState
from slmgate.stores.records import NameTaken as NameTaken
from slmgate.stores.records import SecretTaken as SecretTaken
from slmgate.terms import Key, LimitSpec

if TYPE_CHECKING:
    from slmgate.control.config.options import Config, DeclaredKey

PREFIX = "sk-slm-"
MAX_OVERLAP = timedelta(days=366)
EDITABLE = ("owner", "team", "roles", "tags", "networks", "limits", "expires")
"""What `edit` can change."""


class UnknownKey(LookupError):
    """There is no key with this id or name."""


class KeyRevoked(Exception):
    """The change cannot be made because the key is revoked, which is for good."""


class KeyDeclared(Exception):
    """The change cannot be made here because the key stands in the configuration."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Keyring:
    """The keys of one store. Any thread may call; changes are made one at a time."""

    def __init__(self, store: KeyStore, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        # Called with the keys as they have become, in the order in which they became so. Must not block.
        self.on_change: list[Callable[[Sequence[KeyRecord]], None]] = []
        # What the configuration in force says, which is not known here: set by whoever reads it.
        self.declared: Callable[[], Sequence[DeclaredKey]] = tuple
        self.roles: Callable[[], Collection[str] | None] = lambda: None
        self.config: Callable[[], Config | None] = lambda: None

    def create(
        self,
        name: str,
        team: str | None = None,
        roles: Iterable[str] = (),
        expires: datetime | None = None,
        actor: str = "cli",
        *,
        owner: str | None = None,
        tags: Iterable[str] = (),
        networks: Iterable[str] = (),
        limits: Iterable[str] = (),
    ) -> tuple[KeyRecord, str]:
        """Issue a key; returns it and its secret, which exists nowhere else. `limits` as `keylimits.py` reads them.

        Raises BadKeyInput, NameTaken, KeyDeclared (the name is a declared key's), LedgerUnavailable.
        """
        now = self._clock()
        lists = {"roles": roles, "tags": tags, "networks": networks, "limits": limits}
        fields = self._checked({"owner": owner, "team": team, **lists, "expires": expires}, now)
        check_currencies(fields["limits"], team, self.config())
        check_name(name, "name")
        self._check_not_declared(name)
        id = new_id()
        secret, digest = new_secret(id)
        record = KeyRecord(id=id, name=name, created=now, secrets=(KeySecret(digest, now),), **fields)
        with self._lock:
            self._save(
                record, actor, "key.create", {"name": name, **{what: _text(value) for what, value in fields.items() if value}}
            )
        return record, secret

    def page(self, which: KeyFilter, limit: int, after: str | None = None) -> list[KeyRecord]:
        """At most `limit` keys, oldest first, behind the key with the id `after`; revoked ones are among them."""
        return self._store.keys(msgspec.structs.replace(which, now=self._clock()), limit, after)

    def show(self, key: str) -> KeyRecord:
        """A key by its id or its name; of several with one name, the live one or the newest. Raises UnknownKey."""
        found = self._store.key(key)
        if found is None:
            raise UnknownKey(f"There is no key {key!r}; `slmgate keys list` shows all.")
        return found

    def find_declared(self, key: str) -> DeclaredKey | None:
        """The declared key with this id or name."""
        name = key.removeprefix(DECLARED)
        return next((declared for declared in self.declared() if declared.name == name), None)

    def edit(self, key: str, changes: Mapping[str, object], actor: str = "cli") -> KeyRecord:
        """Change some of `EDITABLE`; None or nothing in a list takes a field away. Returns the key as it is then.

        Raises UnknownKey, KeyRevoked, KeyDeclared, BadKeyInput, LedgerUnavailable.
        """
        with self._lock:
            record = self._live(key)
            fields = self._checked(changes, self._clock())
            changed = msgspec.structs.replace(record, **fields)
            if "limits" in fields or "team" in fields:
                check_currencies(changed.limits, changed.team, self.config())
            if changed != record:
                self._save(changed, actor, "key.edit", _changes(record, fields))
        return changed

    def add(self, records: Sequence[KeyRecord], actor: str = "cli") -> None:
        """Take in keys that were made elsewhere, all or none; they are checked already. Raises NameTaken, SecretTaken."""
        with self._lock:
            detail = {"count": str(len(records))}
            self._store.save_keys(records, self._audit(actor, "key.import", f"{len(records)} keys", detail))
            self._changed(records)

    def taken(self, records: Sequence[KeyRecord]) -> list[tuple[int, str, str]]:
        """Which of these new keys collide with others: its place, in what (`id`, `name`, `secret`), the other's id."""
        names = {declared.name: DECLARED + declared.name for declared in self.declared()}
        digests = {declared.hash: DECLARED + declared.name for declared in self.declared()}
        found = self._store.taken(records)
        for place, record in enumerate(records):
            if record.name in names:
                found.append((place, "name", names[record.name]))
            found += [(place, "secret", digests[one.digest]) for one in record.secrets if one.digest in digests]
        return sorted(found)

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
            try:
                record = self._live(key)
            except KeyRevoked:
                return self.show(key)
            record = msgspec.structs.replace(record, revoked=self._clock(), secrets=())
            self._save(record, actor, "key.revoke", {})
        return record

    def live(self) -> Iterator[Key]:
        """All keys as the road decides by them: those that are not revoked."""
        return self._store.live_keys()

    def state_of(self, record: KeyRecord) -> KeyState:
        if record.revoked is not None:
            return "revoked"
        if record.disabled:
            return "disabled"
        return "expired" if record.expires is not None and record.expires <= self._clock() else "active"

    def now(self) -> datetime:
        return self._clock()

    def _set_disabled(self, key: str, disabled: bool, actor: str) -> KeyRecord:
        with self._lock:
            record = self._live(key)
            if record.disabled == disabled:
                return record
            record = msgspec.structs.replace(record, disabled=disabled)
            self._save(record, actor, "key.disable" if disabled else "key.enable", {})
        return record

    def _live(self, key: str) -> KeyRecord:
        try:
            record = self.show(key)
        except UnknownKey:
            self._check_not_declared(key)
            raise
        if record.revoked is not None:
            raise KeyRevoked(f"The key {record.name!r} is revoked, which cannot be undone; create another.")
        return record

    def _check_not_declared(self, key: str) -> None:
        declared = self.find_declared(key)
        if declared is not None:
            raise KeyDeclared(
                f"The key {declared.name!r} is declared in the configuration: change it there, or take another name."
            )

    def _checked(self, fields: Mapping[str, object], now: datetime) -> dict[str, Any]:
        """These fields as a key can have them. Raises BadKeyInput."""
        found: dict[str, Any] = {}
        for name, value in fields.items():
            if name in ("owner", "team"):
                found[name] = value
                if value is not None:
                    check_name(cast(str, value), name)
            elif name == "expires":
                found[name] = value
                if value is not None and cast(datetime, value) <= now:
                    raise BadKeyInput("The expiry is in the past; give a date to come, a duration such as 30d, or never.")
            elif name == "limits":
                found[name] = read_limits(cast(Iterable[str], value))
            else:
                found[name] = self.check_list(name, cast(Iterable[str], value))
        return found

    def check_list(self, name: str, values: Iterable[str]) -> tuple[str, ...]:
        """Roles, tags or networks (`name` says which) as a key can have them. Raises BadKeyInput."""
        if name == "roles":
            return check_roles(values, self.roles())
        return check_tags(values) if name == "tags" else check_networks(values)

    def check_limits(self, texts: Iterable[str], team: str | None) -> tuple[LimitSpec, ...]:
        """Limits as a key of this team can have them. Raises BadKeyInput."""
        found = read_limits(texts)
        check_currencies(found, team, self.config())
        return found

    def _audit(self, actor: str, action: str, target: str, detail: dict[str, str]) -> AuditRecord:
        return audit.line(self._clock(), actor, action, target, detail)

    def _save(self, record: KeyRecord, actor: str, action: str, detail: dict[str, str]) -> None:
        """Called with the lock held, so that who listens hears of changes in their order."""
        self._store.save_keys([record], self._audit(actor, action, record.id, detail))
        self._changed([record])

    def _changed(self, records: Sequence[KeyRecord]) -> None:
        for call in self.on_change:
            call(records)


def as_term(record: KeyRecord) -> Key:
    """A key as the road decides by it."""
    return Key(
        id=record.id,
        name=record.name,
        team=record.team,
        roles=record.roles,
        networks=record.networks,
        limits=record.limits,
        disabled=record.disabled,
        expires=None if record.expires is None else record.expires.timestamp(),
        digests=tuple((old.digest, None if old.until is None else old.until.timestamp()) for old in record.secrets),
    )


def _changes(record: KeyRecord, fields: Mapping[str, object]) -> dict[str, str]:
    """What is changed, and what it was before, as the audit log tells it."""
    told: dict[str, str] = {}
    for what, value in fields.items():
        before = getattr(record, what)
        if value != before:
            told |= {what: _text(value), f"{what}.before": _text(before)}
    return told


def _text(value: Any) -> str:
    """A field's value as the audit log tells it."""
    if not value:
        return "none"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return ", ".join(limit_text(one) if isinstance(one, LimitSpec) else one for one in value)
    return str(value)


def new_id() -> str:
    return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]


def new_secret(id: str) -> tuple[str, bytes]:
    """A fresh secret of the key `id`, with 256 random bits, and its digest."""
    secret = f"{PREFIX}{id}-{secrets.token_urlsafe(32)}"
    return secret, hashlib.sha256(secret.encode()).digest()
