"""Which instance next: a choice among what is known of each, made without clock or chance of its own.

It sees numbers (in flight, weight, room, health, how slow), not connections; `dataplane/pool.py` keeps those numbers and acts on
the choice. It does not know why an instance is down or when it comes back. What goes by a key stands in `ring.py`, and what goes
by the beginning of a prompt in `prefix.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from itertools import accumulate
from math import exp, inf
from typing import Generic, NamedTuple, Protocol, TypeVar

SCANNED = 8
"""Of so many instances each is looked at. Of more only two, by lot: that is nearly as good, and costs the same for a thousand."""
MEMORY = 10.0
"""Seconds in which what was learned of an instance's slowness fades to a third."""
UNKNOWN = 1e9
"""Rank of an instance that is at work and has yet to show how slow it is: it gets one request, and more once that is answered."""
AS_MANY_TOKENS = 16
"""Tokens that take about as long as the first one, prompt included: see `first_byte_of`."""
LOOK_AGAIN = 1.0
"""Seconds for which an instance that is down has no turn; it may have come back sooner than was thought."""


class Candidate(Protocol):
    """What a strategy may know of an instance.

    `busy` counts this worker's requests in flight, `others` those of the node's other workers as last seen; `max_in_flight` None
    is no bound. `share` is less than 1 for one that has come back and takes its part of the work bit by bit. `slowness` is what
    `learned` made of its answers, at `learned_at`; 0: none came yet.
    """

    name: str
    busy: int
    others: int
    weight: int
    max_in_flight: int | None
    share: float
    down_until: float
    served: float
    slowness: float
    learned_at: float


C = TypeVar("C", bound=Candidate)


class Affinity(NamedTuple):
    """What ties a request to an instance: a point of the ring, and its prompt's beginnings (`prefix.py`), the shortest first.

    A negative point ties it to nothing.
    """

    point: int
    blocks: tuple[int, ...] = ()


class Chooser(ABC, Generic[C]):
    """One strategy over the instances of a model. `by` says what requests are tied by: "" is nothing, "key" or "prompt".

    An instance that is down (`now < down_until`) or was tried already for this request is passed over; when all that are left are
    down, the one that is down the shortest is tried all the same, since a refusal would be certain otherwise.
    """

    by = ""

    def __init__(self, candidates: Sequence[C]) -> None:
        self.candidates = candidates

    @abstractmethod
    def choose(
        self, now: float, tried: Collection[C] = (), number: int = 0, in_flight: int = 0, affinity: Affinity | None = None
    ) -> C | None:
        """The instance to ask, or None when none has room.

        `number` is a lot, of 64 bits, for choices among more than `SCANNED`; `in_flight` is what all have in flight together.
        """

    def took(self, affinity: Affinity | None, one: C) -> None:
        """The request tied so was given to `one`."""

    def changed(self) -> None:
        """Who is down is not as it was."""

    def last_resort(self, now: float, tried: Collection[C]) -> C | None:
        """Of those that have room and were not tried, the one that is up soonest."""
        left = [one for one in self.candidates if has_room(one) and one not in tried]
        return min(left, key=lambda one: (one.down_until if one.down_until > now else 0.0, one.served / one.weight), default=None)


def has_room(one: Candidate) -> bool:
    return one.max_in_flight is None or one.busy < one.max_in_flight


def is_open(one: C, now: float, tried: Collection[C]) -> bool:
    """Whether it may be chosen."""
    most = one.max_in_flight
    return (most is None or one.busy < most) and one.down_until <= now and (not tried or one not in tried)


class InTurn(Chooser[C]):
    """The one served least, for its weight if that counts. A heap, so that many cost little more than a few.

    What was served only grows, so an entry may be too small but never too large: it is put right when it comes up.
    """

    def __init__(self, candidates: Sequence[C], weighted: bool) -> None:
        super().__init__(candidates)
        self._weighted = weighted
        self._heap = [(self._turn(one), index) for index, one in enumerate(candidates)]
        heapify(self._heap)
        self._aside: list[tuple[float, int]] = []  # those that are down: when they are looked at again, and which

    def _turn(self, one: C) -> float:
        return one.served / one.weight if self._weighted else one.served

    def choose(
        self, now: float, tried: Collection[C] = (), number: int = 0, in_flight: int = 0, affinity: Affinity | None = None
    ) -> C | None:
        heap, aside, candidates = self._heap, self._aside, self.candidates
        while aside and aside[0][0] <= now:
            self._back(heappop(aside)[1])
        passed: list[tuple[float, int]] = []
        found = None
        while heap:
            turn, index = heap[0]
            one = candidates[index]
            true = one.served / one.weight if self._weighted else one.served
            if true > turn:
                heapreplace(heap, (true, index))
            elif is_open(one, now, tried):
                found = one
                break
            elif one.down_until > now:
                heappop(heap)
                heappush(aside, (min(one.down_until, now + LOOK_AGAIN), index))
            else:
                passed.append(heappop(heap))
        for entry in passed:
            heappush(heap, entry)
        return found or self.last_resort(now, tried)

    def changed(self) -> None:
        while self._aside:
            self._back(heappop(self._aside)[1])

    def _back(self, index: int) -> None:
        heappush(self._heap, (self._turn(self.candidates[index]), index))


class Ranked(Chooser[C]):
    """The one that ranks best; of many, the better one of two that are drawn by weight."""

    def __init__(self, candidates: Sequence[C]) -> None:
        super().__init__(candidates)
        self._sums = list(accumulate(one.weight for one in candidates)) if len(candidates) > SCANNED else []

    def choose(
        self, now: float, tried: Collection[C] = (), number: int = 0, in_flight: int = 0, affinity: Affinity | None = None
    ) -> C | None:
        sums = self._sums
        if sums:
            candidates, total = self.candidates, sums[-1]
            two = candidates[bisect(sums, (number & 0xFFFFFFFF) % total)], candidates[bisect(sums, (number >> 32) % total)]
            found = self.best(two, now, tried)
            if found is not None:
                return found
        return self.best(self.candidates, now, tried) or self.last_resort(now, tried)

    @abstractmethod
    def best(self, candidates: Sequence[C], now: float, tried: Collection[C]) -> C | None:
        """The best of those that may be chosen."""


class LeastBusy(Ranked[C]):
    """The one with the fewest in flight for its weight; of equals, the one served least."""

    def best(self, candidates: Sequence[C], now: float, tried: Collection[C]) -> C | None:
        best, best_rank = None, inf
        for one in candidates:
            busy, most = one.busy, one.max_in_flight
            if (most is not None and busy >= most) or one.down_until > now or (tried and one in tried):
                continue
            rank = ((busy + one.others) / one.share + 1) / one.weight
            if rank < best_rank or (
                rank == best_rank and best is not None and one.served / one.weight < best.served / best.weight
            ):
                best, best_rank = one, rank
        return best


class PeakEwma(Ranked[C]):
    """The one where a request is likely to wait the shortest: slowness times what is in flight, this one included.

    Slowness is sensitive to peaks (see `learned`). Of an instance with nothing in flight it fades, so that a slow one gets
    another chance; while something is in flight, its silence is no good sign.
    """

    def best(self, candidates: Sequence[C], now: float, tried: Collection[C]) -> C | None:
        best, best_rank = None, inf
        for one in candidates:
            busy, most = one.busy, one.max_in_flight
            if (most is not None and busy >= most) or one.down_until > now or (tried and one in tried):
                continue
            slow, in_flight = one.slowness, (busy + one.others) / one.share
            if not slow:
                rank = (UNKNOWN + in_flight) / one.weight if in_flight else 0.0
            else:
                if not busy:
                    slow *= exp((one.learned_at - now) / MEMORY)
                rank = slow * (in_flight + 1) / one.weight
            if rank < best_rank or (
                rank == best_rank and best is not None and one.served / one.weight < best.served / best.weight
            ):
                best, best_rank = one, rank
        return best


def learned(slowness: float, learned_at: float, seconds: float, now: float) -> float:
    """The slowness after an answer that took `seconds`: a peak counts at once and whole, what is quicker only with time."""
    if seconds >= slowness:
        return seconds
    kept = exp((learned_at - now) / MEMORY)
    return slowness * kept + seconds * (1.0 - kept)


def first_byte_of(seconds: float, tokens: int) -> float:
    """Of a whole answer, about how long its first token took.

    A stream shows how long its instance lets one wait; a whole answer takes long because it is long. Without this, one long
    answer would make an instance look slow beside another that streams.
    """
    return seconds * AS_MANY_TOKENS / (AS_MANY_TOKENS + tokens)
