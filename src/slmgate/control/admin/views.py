"""The admin API's bodies: what goes in and what comes out, as records that its OpenAPI description is made from.

They say what is safe to show: a key's digests are only in what `slmgate keys export` asks for, and its secret only in the answer
that issues it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.keyfields import DECLARED
from slmgate.control.keyfiles import KeyRow, NewSecret
from slmgate.control.keylimits import limit_text, of_options
from slmgate.control.keyring import Keyring
from slmgate.policy.limits import NANO
from slmgate.stores.records import AuditRecord, KeyRecord, KeyState, KeyUse, UsageRow
from slmgate.terms import Receipt

if TYPE_CHECKING:
    from slmgate.control.config.options import DeclaredKey


class SecretView(msgspec.Struct, frozen=True):
    """One secret that opens a key, without its text: when it was made, and when it stops to work (None: never)."""

    created: datetime
    until: datetime | None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key. `secrets` are those that open it: several while a rotation overlaps, none of a revoked key.

    A `declared` key stands in the configuration: it has no time of creation, and is changed there.
    """

    id: str
    name: str
    owner: str | None
    team: str | None
    roles: Sequence[str]
    tags: Sequence[str]
    networks: Sequence[str]
    limits: Sequence[str]
    """Its own, as they are written; not those of its roles and its team."""
    state: KeyState
    created: datetime | None
    expires: datetime | None
    revoked: datetime | None
    used: KeyUse | None
    """Its last use, as of half a second ago."""
    secrets: Sequence[SecretView]
    declared: bool = False


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its new secret, which is shown this once."""

    key: KeyView
    secret: str


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is made from. `expires` is `never`, a duration (30d), a day or a time; days and bare times are UTC.

    Each of `limits` is in words (60 requests/minute), or with its options as the configuration has them, in braces:
    {limit: 60 requests/minute, raised: {to: 600 requests/minute, until: 2030-01-01}}.
    """

    name: str
    owner: str | None = None
    team: str | None = None
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    expires: str = "never"


class KeyEdit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to change of a key; what is left out stays. Null, or an empty list, takes a field away."""

    owner: str | msgspec.UnsetType | None = msgspec.UNSET
    team: str | msgspec.UnsetType | None = msgspec.UNSET
    roles: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    networks: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    limits: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    expires: str | msgspec.UnsetType = msgspec.UNSET


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`overlap`: for how long the secrets that there are go on working, such as 24h."""

    overlap: str = "0s"


class KeyPage(msgspec.Struct, frozen=True):
    """Keys, oldest first, declared ones before all. `next` is the id to ask on from with `after`, None on the last page."""

    keys: Sequence[KeyView]
    next: str | None


class KeyImport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys to take in, all or none. `dry_run`: none, but say whether they could be."""

    keys: tuple[KeyRow, ...]
    dry_run: bool = False


class ImportedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """How many keys were taken in, and the secrets of those that came without a hash, which are shown this once."""

    count: int
    secrets: Sequence[NewSecret]


class ExportPage(msgspec.Struct, frozen=True):
    """Live keys with the hashes of their secrets, as an import takes them. `next` is as a `KeyPage` has it."""

    keys: Sequence[KeyRow]
    next: str | None


class ReceiptView(msgspec.Struct, frozen=True):
    """A receipt and its cursor, its place in the ledger's order of arrival."""

    cursor: int
    receipt: Receipt


class ReceiptPage(msgspec.Struct, frozen=True):
    """`next` is the cursor to ask on from (`before`, or `after` when that was asked), None when this page is the last."""

    receipts: Sequence[ReceiptView]
    next: int | None


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """One group's sums. `estimated_share` is the part of the tokens, 0 to 1, that no engine counted.

    `cost` has an exact decimal for each currency: {"EUR": "12.3456"}; nothing where nothing was asked.
    """

    group: dict[str, str]
    requests: int
    refused: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated_share: float
    cost: dict[str, str]


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """`since` and `until` are what is answered, which is less than was asked where retention has deleted some of it."""

    by: Sequence[str]
    since: datetime | None
    until: datetime | None
    rows: Sequence[UsageView]


class AuditPage(msgspec.Struct, frozen=True):
    """Changes, newest first. `next` is the id to ask on from with `before`, None when this page is the last."""

    changes: Sequence[AuditRecord]
    next: int | None


class ReloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """`applied` False: the configuration has these faults, and the one before stays in force."""

    applied: bool
    faults: Sequence[str]


class Health(msgspec.Struct, frozen=True):
    status: str


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """`ready`: every model has an instance. `models` says which has; `instances` are those that take no requests, and why.

    `missing` are those that do not list their model, with what they list; `notes` is how much is wrong with names and files
    that are followed: the status and `instances list` say what.
    """

    ready: bool
    draining: bool
    models: dict[str, bool]
    instances: dict[str, str]
    missing: dict[str, str]
    notes: int


def key_view(keyring: Keyring, record: KeyRecord) -> KeyView:
    return KeyView(
        id=record.id,
        name=record.name,
        owner=record.owner,
        team=record.team,
        roles=record.roles,
        tags=record.tags,
        networks=record.networks,
        limits=list(map(limit_text, record.limits)),
        state=keyring.state_of(record),
        created=record.created,
        expires=record.expires,
        revoked=record.revoked,
        used=record.used,
        secrets=[SecretView(secret.created, secret.until) for secret in record.secrets],
    )


def declared_view(key: DeclaredKey, now: datetime, used: KeyUse | None) -> KeyView:
    ended = key.expires is not None and key.expires <= now
    return KeyView(
        id=DECLARED + key.name,
        name=key.name,
        owner=key.owner,
        team=key.team,
        roles=key.roles,
        tags=key.tags,
        networks=key.networks,
        limits=list(map(limit_text, of_options(key.limits))),
        state="disabled" if key.disabled else "expired" if ended else "active",
        created=None,
        expires=key.expires,
        revoked=None,
        used=used,
        secrets=[],
        declared=True,
    )


def usage_view(by: Sequence[str], row: UsageRow) -> UsageView:
    total = row.prompt_tokens + row.completion_tokens
    return UsageView(
        group=dict(zip(by, row.group, strict=True)),
        requests=row.requests,
        refused=row.refused,
        errors=row.errors,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        total_tokens=total,
        estimated_share=round(row.estimated_tokens / total, 4) if total else 0.0,
        cost={currency: decimal_text(cost) for currency, cost in row.costs.items()},
    )


def decimal_text(billionths: int) -> str:
    """An amount, exactly: at least two decimals, and no more than it needs."""
    whole, part = divmod(abs(billionths), NANO)
    decimals = f"{part:09}".rstrip("0").ljust(2, "0")
    return f"{'-' if billionths < 0 else ''}{whole}.{decimals}"
