"""What passes between control and a store: its records, the filters that are asked with, and how it fails.

Nothing here asks anything: the questions are in `base.py`. Frozen, and made of plain values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from slmgate.stores.parted import Parted
from slmgate.terms import LimitSpec, Receipt


class LedgerUnavailable(Exception):
    """The database cannot be used now: full disk, lock not had in time, server away. Nothing was written; ask again later."""


class SchemaTooNew(Exception):
    """The database was made by a newer slmgate than this one."""


class NotOffered(Exception):
    """This kind of database does not offer that; the message says what does."""


class NameTaken(ValueError):
    """Another key that is not revoked has this name."""


class SecretTaken(ValueError):
    """Another key has a secret with this digest."""


class KeySecret(msgspec.Struct, frozen=True):
    """One secret that opens a key. `digest` is SHA-256 of its text (32 bytes); after `until` it opens nothing (None: no end)."""

    digest: bytes
    created: datetime
    until: datetime | None = None


class KeyUse(msgspec.Struct, frozen=True):
    """When a key was last used, and the address that its client had."""

    time: datetime
    address: str


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key as it is stored. Revoked keys stay, without secrets, so that old receipts keep their name.

    `networks` are CIDR; empty: the key may be used from anywhere. `limits` are its own. `used` is written by the ingest, never by
    `save_keys`.
    """

    id: str
    name: str
    created: datetime
    owner: str | None = None
    team: str | None = None
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    disabled: bool = False
    expires: datetime | None = None
    revoked: datetime | None = None
    secrets: tuple[KeySecret, ...] = ()
    used: KeyUse | None = None


KeyState = Literal["active", "disabled", "expired", "revoked"]


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys are meant; None asks for nothing. `search` is in the id, name, owner or team, in whatever case.

    `state` is what a key is at the time `now`, which must be given with it.
    """

    owner: str | None = None
    team: str | None = None
    role: str | None = None
    tag: str | None = None
    search: str | None = None
    state: KeyState | None = None
    now: datetime | None = None


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One change made by an operator, or one that was refused. `detail` says what was set, never a secret.

    `address` is where its actor came from, empty for commands without a gate and for the gate itself. `id` and `seal` are given
    by the store: its number, without gaps from 1 on, and what ties it to the one before (64 hexadecimal digits).
    """

    time: datetime
    actor: str
    action: str
    target: str
    address: str = ""
    detail: dict[str, str] = {}
    id: int = 0
    seal: str = ""


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which changes are meant; None asks for nothing. `action` may be a beginning with a dot, such as `key.`.

    `since` is inclusive, `until` exclusive.
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the audit log is as it was written, by its chain of seals.

    `rows` follow one from another from the first on. `first_bad` is the number of the first row that is changed, missing or out
    of place, `why` says what is wrong with it; none and empty where all are right. Seals from `keyed_from` on are made with the
    key of this store. `head` is the newest right row, as NUMBER:SEAL.
    """

    right: bool
    rows: int
    first_bad: int | None
    why: str
    keyed_from: int
    head: str


class Batch(msgspec.Struct, kw_only=True):
    """What one step of the ingest writes, all of it or none.

    `positions` says how far each named segment has been taken (bytes); `forgotten` names segments that are gone. `used` are ids
    of keys with their newest use among the receipts; an older one than is known changes nothing.
    """

    receipts: list[Receipt] | Parted = []
    positions: dict[str, int] = {}
    forgotten: list[str] = []
    used: dict[str, KeyUse] = {}


class ReceiptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which receipts are meant; None asks for nothing. `since` is inclusive, `until` exclusive, both by `Receipt.time`."""

    client: str | None = None
    team: str | None = None
    key: str | None = None
    model: str | None = None
    instance: str | None = None
    endpoint: str | None = None
    status: int | None = None
    verdict: str | None = None
    reason: str | None = None
    ended: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class NumberedReceipt(msgspec.Struct, frozen=True):
    """A receipt with its place in the ledger's order of arrival: the cursor for paging and following."""

    seq: int
    receipt: Receipt


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the receipts of one group. `group` holds one text for each name in the query's `by`.

    `refused` were answered by the gate; `errors` were admitted and failed, whoever's fault it was. Tokens are
    those of admitted requests; `estimated_tokens` is the part that the gate counted because no engine said. `costs` are
    billionths by currency, without those that are 0.
    """

    group: tuple[str, ...]
    requests: int
    refused: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    estimated_tokens: int
    costs: dict[str, int] = {}


class Difference(msgspec.Struct, frozen=True):
    """A row of a rollup that is not the sum of its receipts. `says` and `should` hold every figure; all 0: no such row.

    `subject` is whom a tally is of; empty: it is the row of a facet.
    """

    level: str
    start: datetime
    facet: int
    says: Mapping[str, int]
    should: Mapping[str, int]
    subject: str = ""

    def told(self) -> str:
        """The difference in words."""
        both = [(name, says, self.should[name]) for name, says in self.says.items()]
        wrong = [f"{name} is {says}, should be {should}" for name, says, should in both if says != should]
        whose = self.subject or f"facet {self.facet}"
        return f"{self.level} {self.start:%Y-%m-%dT%H:%MZ} {whose}: {'; '.join(wrong)}"


class Verified(msgspec.Struct, frozen=True):
    """A day was compared, or a month with its days: so many rows of rollups, and those that are wrong."""

    level: str
    start: datetime
    rows: int
    differences: Sequence[Difference]


USAGE_GROUPS: Mapping[str, str] = {
    "client": "principal",
    "team": "team",
    "key": "key",
    "model": "model",
    "instance": "instance",
    "dialect": "dialect",
    "endpoint": "endpoint",
    "status": "status",
    "reason": "reason",
    "ended": "ended",
    "hour": "time",
    "day": "time",
    "month": "time",
}
"""What usage can be grouped by -> the receipt's field that it comes from. Hours, days and months are UTC."""


def unknown_groups(by: Iterable[str]) -> list[str]:
    """The names in `by` that are not in `USAGE_GROUPS`."""
    return [name for name in by if name not in USAGE_GROUPS]
