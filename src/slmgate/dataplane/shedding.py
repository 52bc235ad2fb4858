"""Which connections a full gate does without, so that others can come in.

Nobody's request is given up: only connections close that have shown no good credential in the time they had for it, or that have
been idle for long. It knows a connection by what that says of itself, and not how many are too many.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import TYPE_CHECKING

from slmgate.dialects import error_dialect
from slmgate.errors import FAULTS
from slmgate.http1.answers import CLOSE, answer
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.client import ClientConnection

_FULL = Refuse("overloaded", "The gate has no room for more connections. Try again soon.", retry_after=1)
_BODY = error_dialect("").error(FAULTS[_FULL.code], _FULL, "")
_FIELDS = b"retry-after: 1\r\n" + CLOSE


def shed(connections: Iterable[ClientConnection], now: float, count: int, date: bytes) -> int:
    """Close up to `count` of the connections, the most expendable ones. Returns how many. `now` is monotonic."""
    ranked = [(rank, index, one) for index, one in enumerate(connections) if (rank := one.expendable(now)) is not None]
    chosen = nsmallest(count, ranked)
    said = answer(FAULTS[_FULL.code].status, _BODY, date, fields=_FIELDS)
    for _, _, one in chosen:
        one.give_way(said)
    return len(chosen)
