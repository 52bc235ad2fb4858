"""The admin API's bodies: what goes in and what comes out, as records that its OpenAPI description is made from.

They say what is safe to show: a key's digests are in none of them, and its secret only in the answer that issues it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from slmgate.control.keyring import Keyring, State
from slmgate.stores.base import AuditRecord, KeyRecord, UsageRow
from slmgate.terms import Receipt


class SecretView(msgspec.Struct, frozen=True):
    """One secret that opens a key, without its text: when it was made, and when it stops to work (None: never)."""

    created: datetime
    until: datetime | None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key. `secrets` are those that open it: several while a rotation overlaps, none of a revoked key."""

    id: str
    name: str
    team: str | None
    roles: Sequence[str]
    state: State
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    secrets: Sequence[SecretView]


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its new secret, which is shown this once."""

    key: KeyView
    secret: str


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is made from. `expires` is `never`, a duration (30d), a day or a time; days and bare times are UTC."""

    name: str
    team: str | None = None
    expires: str = "never"


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`overlap`: for how long the secrets that there are go on working, such as 24h."""

    overlap: str = "0s"


class KeyPage(msgspec.Struct, frozen=True):
    keys: Sequence[KeyView]


class ReceiptView(msgspec.Struct, frozen=True):
    """A receipt and its cursor, its place in the ledger's order of arrival."""

    cursor: int
    receipt: Receipt


class ReceiptPage(msgspec.Struct, frozen=True):
    """`next` is the cursor to ask on from (`before`, or `after` when that was asked), None when this page is the last."""

    receipts: Sequence[ReceiptView]
    next: int | None


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """One group's sums. `estimated_share` is the part of the tokens, 0 to 1, that no engine counted."""

    group: dict[str, str]
    requests: int
    refused: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated_share: float


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
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
    """`ready`: every model has an instance. `models` says which has."""

    ready: bool
    draining: bool
    models: dict[str, bool]


def key_view(keyring: Keyring, record: KeyRecord) -> KeyView:
    return KeyView(
        id=record.id,
        name=record.name,
        team=record.team,
        roles=record.roles,
        state=keyring.state_of(record),
        created=record.created,
        expires=record.expires,
        revoked=record.revoked,
        secrets=[SecretView(secret.created, secret.until) for secret in record.secrets],
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
    )
