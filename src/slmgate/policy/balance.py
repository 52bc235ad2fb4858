"""Which instance next: a choice among what is known of each, made without clock or chance of its own.

It sees numbers (in flight, weight, room, health), not connections; `dataplane/pool.py` keeps those numbers and acts on the
choice. It does not know why an instance is down or when it comes back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol


class Candidate(Protocol):
    """What a strategy may know of an instance. `busy` counts requests in flight; `max_in_flight` None is no bound.

    `share` is less than 1 for one that has come back and takes its part of the work bit by bit.
    """

    busy: int
    weight: int
    max_in_flight: int | None
    share: float
    down_until: float
    served: float


def choose(strategy: str, candidates: Sequence[Candidate], now: float, tried: Collection[Candidate] = ()) -> int | None:
    """The index of the instance to ask, or None when none has room.

    An instance that is down (`now < down_until`) or was tried already for this request is passed over; when all that are
    left are down, the one that is down the shortest is tried all the same, since a refusal would be certain otherwise.
    `round_robin` and `weighted` take the one served least for its weight, `least_busy` the one with the fewest in flight.
    """
    best: int | None = None
    best_rank: tuple[float, float, float] | None = None
    for index, one in enumerate(candidates):
        if one.max_in_flight is not None and one.busy >= one.max_in_flight:
            continue
        if tried and one in tried:
            continue
        down = one.down_until if one.down_until > now else 0.0
        if strategy == "least_busy":
            rank = (down, (one.busy / one.share + 1) / one.weight, one.served / one.weight)
        elif strategy == "weighted":
            rank = (down, one.served / one.weight, 0.0)
        else:
            rank = (down, one.served, 0.0)
        if best_rank is None or rank < best_rank:
            best, best_rank = index, rank
    return best
