"""Changes that somebody asked for whose admin role does not permit them: a line in the audit log for each, within bounds.

Only who has shown a credential comes here, so strangers cannot fill the log. It knows no HTTP; what was refused is given as text.
"""

from __future__ import annotations

from collections.abc import Callable

from slmgate.control import audit
from slmgate.control.keyring import utc_now
from slmgate.stores.base import Store

PER_MINUTE = 20
"""Lines for one operator in a minute; of what comes beyond, one line says how many there were."""
OPERATORS = 1000


class Refusals:
    """Any thread may call; two at once may count one too few."""

    def __init__(self, store: Callable[[], Store], clock: Callable[[], float]) -> None:
        """`clock` counts seconds and never goes back."""
        self._store = store
        self._clock = clock
        self._minutes: dict[str, tuple[int, int]] = {}
        """By operator: which minute it was, and how many there were in it."""

    def note(self, operator: str, what: str, needed: str) -> None:
        """`operator` asked for `what`, which takes the role `needed`. Raises LedgerUnavailable."""
        minute = int(self._clock() // 60)
        last, count = self._minutes.pop(operator, (minute, 0))
        if last != minute:
            self._tell(operator, max(0, count - PER_MINUTE))
            count = 0
        self._minutes[operator] = minute, count + 1  # at the end: the first of them is the one longest silent
        if len(self._minutes) > OPERATORS:
            oldest = next(iter(self._minutes))
            self._tell(oldest, max(0, self._minutes.pop(oldest)[1] - PER_MINUTE))
        if count < PER_MINUTE:
            self._append(operator, what, {"needs": needed})

    def _tell(self, operator: str, more: int) -> None:
        if more:
            self._append(operator, "more of the same", {"count": str(more)})

    def _append(self, operator: str, target: str, detail: dict[str, str]) -> None:
        self._store().append_audit(audit.line(utc_now(), operator, "refused", target, detail))
