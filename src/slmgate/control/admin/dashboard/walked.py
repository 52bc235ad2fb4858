"""Tables that are walked: their source goes on behind a row, and nobody counts a hundred thousand rows for a page.

How one came to a part stands in the page's address, so that one can go back as well. It knows no page and no source.
"""

from __future__ import annotations

from dataclasses import dataclass

from slmgate.control.admin.dashboard.asking import Ask
from slmgate.control.admin.dashboard.tables import Table

TRAIL = 20
"""Parts that one can go back through."""


@dataclass(frozen=True, kw_only=True)
class Walked(Table):
    """A part of such a table. `trail` is behind which rows this part and those before it begin, the very first one without;
    `next` is behind which row the next one does."""

    trail: tuple[str, ...] = ()
    next: str | None = None

    def turned(self, page: int) -> str:
        trail = (*self.trail, self.next or "")[-TRAIL:] if page > self.page else self.trail[:-1]
        return self.ask.here(page=page if trail else None, trail=" ".join(trail) or None)


def trail_of(ask: Ask) -> tuple[str, ...]:
    """The way to the part that is asked for; its last step is behind which row it begins."""
    return tuple(each for each in ask.text("trail", 2000).split(" ") if each)[-TRAIL:]
