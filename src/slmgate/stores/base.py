"""What a store is: the questions that control asks of a database.

Nothing here opens a file or names a driver; `sql.py` answers these protocols for SQLite and PostgreSQL, and `records.py` has what
passes between them. A store knows no policy, no journal and no clock: what is written, and when it happened, is always given by
the caller. All calls block and may come from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from slmgate.stores.billing import BillingStore
from slmgate.stores.contents import ContentStore
from slmgate.stores.instances import InstanceStore
from slmgate.stores.operators import OperatorStore
from slmgate.stores.parted import Parted
from slmgate.stores.records import (
    AuditFilter,
    AuditRecord,
    AuditVerdict,
    Batch,
    KeyFilter,
    KeyRecord,
    KeyUse,
    NumberedReceipt,
    ReceiptFilter,
    UsageRow,
    Verified,
)
from slmgate.stores.telling import TallyStore
from slmgate.terms import Key, Receipt


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

    def members(self) -> dict[str, int]:
        """Team -> how many keys it has that are not revoked. Teams without any are not among them."""
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

    def audit(self, limit: int, before: int | None = None, which: AuditFilter | None = None) -> list[AuditRecord]:
        """The newest changes first, with ids below `before`; those that are meant."""
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
