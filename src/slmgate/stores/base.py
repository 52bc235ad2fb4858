"""What a store is: the questions that control asks of a database, and the records that pass between them.

Nothing here opens a file or names a driver; `sql.py` answers these protocols for SQLite and PostgreSQL. A store
knows no policy, no journal and no clock: what is written, and when it happened, is always given by the caller.
All calls block and may come from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from slmgate.stores.parted import Parted
from slmgate.terms import Key, LimitSpec, Receipt

if TYPE_CHECKING:
    from slmgate.stores.billing import BillingStore
    from slmgate.stores.contents import ContentStore
    from slmgate.stores.instances import InstanceStore
    from slmgate.stores.operators import OperatorStore  # which takes its records from here
    from slmgate.stores.telling import TallyStore


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


class LedgerStore(Protocol):
    def write(self, batch: Batch) -> Parted:
        """Write a batch in one transaction; returns the receipts that were new. One whose id is there already is left as it is.

        Raises LedgerUnavailable with nothing written.
        """
        ...

    def make_durable(self) -> None:
        """Returns when all that was written survives a loss of power. Raises LedgerUnavailable."""
        ...

    def positions(self) -> dict[str, int]:
        """Segment name -> bytes taken from it."""
        ...

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that have a receipt."""
        ...

    def receipt(self, id: str) -> Receipt | None:
        """The receipt with this id; or, where there is none, the last one whose client called its request so."""
        ...

    def receipts(
        self,
        which: ReceiptFilter,
        limit: int,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool | None = None,
    ) -> list[NumberedReceipt]:
        """At most `limit` receipts: the newest first, below the cursor `before`; or, with `after`, the oldest first above it.

        `oldest_first` says it where both are given: then it looks at no more than what is between them.
        """
        ...

    def cursors_at(self, time: datetime) -> tuple[int | None, int | None]:
        """The cursors of the receipts with the last time before this one and with the first from then on; None: there is none."""
        ...

    def usage(self, by: Sequence[str], which: ReceiptFilter) -> list[UsageRow]:
        """Sums by the given groups (names of `USAGE_GROUPS`), in the order of the groups' texts.

        Where a part of the time asked for is not kept any more in as fine a form as it takes, it is left out: see `answered`.
        """
        ...

    def answered(self, by: Sequence[str], which: ReceiptFilter) -> tuple[datetime | None, datetime | None]:
        """Since and until when `usage` answers this question; None where nothing was asked and nothing is left out."""
        ...

    def verify(self) -> Iterator[Verified]:
        """Compare every rollup with the receipts that it is the sum of, a day at a time, while the store is in use."""
        ...

    def forget(self, what: str, before: datetime, most: int) -> int:
        """Delete at most so many of the oldest rows of `receipts`, `minutes`, `hours` or `days` from before this time.

        Returns how many were deleted: 0 when none is left. `before` must be the first moment of a day (UTC).
        """
        ...

    def backup(self, target: Path, progress: Callable[[int, int], object] | None = None) -> None:
        """Copy the whole database into a new file, as it is at this moment, while it is in use.

        `progress` is told how many pages are copied, and of how many. Raises FileExistsError, LedgerUnavailable, NotOffered.
        """
        ...


class KeyStore(Protocol):
    def key(self, key: str) -> KeyRecord | None:
        """The key with this id; or, where there is none, the one with this name: the live one, or the newest that was."""
        ...

    def keys(self, which: KeyFilter, limit: int, after: str | None = None) -> list[KeyRecord]:
        """At most `limit` keys, oldest first, behind the key with the id `after`. Revoked ones are among them."""
        ...

    def live_keys(self) -> Iterator[Key]:
        """All keys that are not revoked, one by one, as the road needs them. Read to the end or closed, it holds nothing open."""
        ...

    def key_use(self, id: str) -> KeyUse | None:
        """The last use of any key, a declared one too."""
        ...

    def taken(self, records: Sequence[KeyRecord]) -> list[tuple[int, str, str]]:
        """Which of these new keys collide with stored ones: its place, in what (`id`, `name`, `secret`), the stored one's id."""
        ...

    def save_keys(self, records: Sequence[KeyRecord], audit: AuditRecord) -> None:
        """Add or replace keys with their secrets, and note the change, in one transaction.

        Raises NameTaken, SecretTaken, LedgerUnavailable, with nothing written.
        """
        ...

    on_audit: Callable[[AuditRecord, str], object]
    """Told of every row of the audit log once it is committed, with what is wrong with the log, if anything."""

    def append_audit(self, record: AuditRecord) -> None: ...

    def audit(self, limit: int, before: int | None = None) -> list[AuditRecord]:
        """The newest changes first, with ids below `before`."""
        ...

    def verify_audit(self, known: str = "") -> AuditVerdict:
        """Look at every row of the audit log. `known` is a head that was told once and kept elsewhere. Raises ValueError."""
        ...


class Store(LedgerStore, KeyStore, Protocol):
    """One database that holds both."""

    def revision(self) -> str:
        """The revision of the schema."""
        ...

    @property
    def operators(self) -> OperatorStore:
        """Accounts, admin keys and sessions of the admin side."""
        ...

    @property
    def instances(self) -> InstanceStore:
        """What operators said of instances at run time."""
        ...

    @property
    def tallies(self) -> TallyStore:
        """What analytics ask."""
        ...

    @property
    def contents(self) -> ContentStore:
        """Prompts and answers that roles want kept."""
        ...

    @property
    def billing(self) -> BillingStore:
        """Sums to charge by, and notices."""
        ...

    def close(self) -> None: ...


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
