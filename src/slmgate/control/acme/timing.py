"""When a certificate is renewed, and when a try that failed is made again: rules over records, with the time as an argument.

The record of tries is stored, so that a gate which is started again and again asks no more often than one that runs. It knows no
file, clock or authority.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import msgspec

HOUR, DAY = 3600.0, 86_400.0
RENEW_AT = 2 / 3
"""Of a certificate's lifetime: when it is renewed."""
JITTER = 1 / 30
"""Of a certificate's lifetime: how much later that is for some names than for others, so that not all are asked for at once."""
TRIES_AN_HOUR = 5
"""For one name, whatever happens: Let's Encrypt refuses more failed ones than that (letsencrypt.org/docs/rate-limits)."""
REFUSED_FIRST, REFUSED_LAST = 120.0, 6 * HOUR
"""Seconds to the next try after the authority said no: doubled from the first to the last."""
AWAY_FIRST, AWAY_LAST = 5.0, 600.0
"""The same while the authority cannot be reached, so that nothing of it was used."""
LONGEST_WAIT = 7 * DAY
"""The most that the authority may ask to wait for."""

Kind = Literal["refused", "away"]


class Tries(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the last tries for one name. Times are seconds since the epoch.

    `orders` are the orders of the last hour. `failures` count those in a row, of each kind. `error` is the last failure, in words
    for the operator; empty: the last try went well, or there was none.
    """

    orders: tuple[float, ...] = ()
    refused: int = 0
    away: int = 0
    error: str = ""
    error_at: float = 0.0
    not_before: float = 0.0

    def begun(self, now: float) -> Tries:
        """An order is about to be made."""
        return msgspec.structs.replace(self, orders=(*self._recent(now), now))

    def failed(self, now: float, kind: Kind, error: str, retry_after: float | None) -> Tries:
        """It went wrong. `retry_after`: seconds that the authority asks to wait. An authority that was away took no order."""
        refused, away = (self.refused + 1, 0) if kind == "refused" else (self.refused, self.away + 1)
        first, last, count = (REFUSED_FIRST, REFUSED_LAST, refused) if kind == "refused" else (AWAY_FIRST, AWAY_LAST, away)
        pause = min(first * 2 ** min(count - 1, 30), last)
        pause = max(pause, min(retry_after or 0.0, LONGEST_WAIT))
        return Tries(
            orders=self._recent(now) if kind == "refused" else self._recent(now)[:-1],
            refused=refused,
            away=away,
            error=error,
            error_at=now,
            not_before=now + pause,
        )

    def succeeded(self, now: float) -> Tries:
        return Tries(orders=self._recent(now))

    def next_try(self, wanted: float, now: float) -> float:
        """When the next order may be made that is `wanted` at some time."""
        at = max(wanted, self.not_before if self.not_before <= now + LONGEST_WAIT else now)  # a clock that was wrong is forgiven
        recent = self._recent(max(at, now))
        return at if len(recent) < TRIES_AN_HOUR else max(at, recent[-TRIES_AN_HOUR] + HOUR)

    def _recent(self, now: float) -> tuple[float, ...]:
        return tuple(at for at in self.orders if now - HOUR < at <= now)


def renew_at(name: str, not_before: float, not_after: float) -> float:
    """When the certificate of `name` that is good between these times is to be renewed."""
    lifetime = max(0.0, not_after - not_before)
    share = int.from_bytes(blake2b(f"{name} {not_after}".encode(), digest_size=4).digest()) / 2**32
    return not_before + lifetime * (RENEW_AT + JITTER * share)
