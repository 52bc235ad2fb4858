"""The records and questions of billing: sums of receipts by team, plan, price and model, and the notices for webhooks.

Nothing here names a driver; `sql_billing.py` answers the protocol. It knows neither plans nor prices: a price is a text that
receipts carry, and money is never computed here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class ChargeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over admitted requests that are charged alike.

    `cost` is what their receipts say, in billionths of the price's currency; `estimated` and `unknown` count those whose tokens
    the gate counted itself, or whose end it did not see.
    """

    team: str
    plan: str
    price: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: int
    estimated: int
    unknown: int


class NoticeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One notice, made once. `id` is what tells it from all others; `payload` is the body as it is sent, each time the same.

    It is of a team's plan, whose webhook it goes to; or, where `webhook` names one of the configuration's, of an event of the
    gate: `subject` is what that happened to, `type` what it was.

    Sent again at `retry` until `delivered`; None for both: it was given up.
    """

    id: str
    team: str
    plan: str
    payload: bytes
    created: datetime
    attempts: int = 0
    retry: datetime | None = None
    delivered: datetime | None = None
    webhook: str = ""
    subject: str = ""
    type: str = "plan.threshold"


class BillingStore(Protocol):
    def newest(self) -> int:
        """The ledger's newest place; 0 where it is empty."""
        ...

    def kept_since(self) -> datetime | None:
        """Receipts from before it are, or may be, deleted; None: none is."""
        ...

    def charges(
        self, since: datetime, until: datetime, team: str | None = None, after: int = 0, upto: int | None = None
    ) -> list[ChargeRow]:
        """Sums of the admitted requests from `since` on and before `until`, by `Receipt.time`: of one team, or of each.

        `after` and `upto` bound the ledger's places: behind the one, and no further than the other.
        """
        ...

    def add_notice(self, record: NoticeRecord) -> bool:
        """False, with nothing written: there is one with this id already."""
        ...

    def save_notice(self, record: NoticeRecord) -> None:
        """Replace what is known of its delivery."""
        ...

    def due_notices(self, now: datetime, limit: int, without: Collection[tuple[str, str]] = ()) -> Sequence[NoticeRecord]:
        """At most `limit` that are to be sent now, those that have waited longest first; of these webhooks and plans, none."""
        ...

    def last_types(self, subjects: Sequence[str]) -> dict[str, str]:
        """Subject -> the type of its newest notice, of those that have any."""
        ...

    def notices(self, limit: int) -> list[NoticeRecord]:
        """The newest first."""
        ...
