"""The contents' part of the store: prompts and answers that a role wanted kept, masked before they came here.

Each has the id of its receipt and the moment at which it is to be deleted. No driver is named here; `sql_contents.py` answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class ContentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one request. None: that side is not. `cut`: there was more. `masked`: how often something was masked."""

    id: str
    role: str
    time: datetime
    expires: datetime
    prompt: str | None = None
    prompt_cut: bool = False
    answer: str | None = None
    answer_cut: bool = False
    masked: int = 0

    def __repr__(self) -> str:
        return f"ContentRecord({self.id})"


class ContentStore(Protocol):
    """What control asks of the store about contents. All raise LedgerUnavailable with nothing written."""

    def put(self, records: Sequence[ContentRecord]) -> None:
        """Add these; one that is there already stays as it is."""
        ...

    def get(self, id: str) -> ContentRecord | None:
        """That of this receipt."""
        ...

    def forget(self, now: datetime, most: int) -> int:
        """Delete at most so many whose time is over; how many it were."""
        ...
