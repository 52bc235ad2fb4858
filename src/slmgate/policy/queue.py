"""Who is next when every instance of a model is full: a start-time-fair queue in virtual time, without a clock of its own.

Each principal has a line of its own, a flow. A flow's *start* is the work it has had so far, in tokens divided by its weight; the
flow with the smallest start goes next and its start moves on by what that request costs (start-time fair queueing: Goyal, Vin
and Cheng, SIGCOMM 1996). A flow that begins to wait starts where the queue is now: it is not made to pay for having been away,
nor paid for it. A class in which nobody waits is forgotten. What holds:

- Of flows that always have something waiting, each gets work in the proportion of its weight, but for one request's worth.
- Classes (`priority`, higher first) are strict, but that a class which was passed over `PATIENCE` times in a row gets one turn.
  So none of a finite number of principals waits for ever, whatever its class.
- Who has had its turn and failed at an instance is not put back in line: it goes first, whatever its class, at no further cost.
- Places are shared by principals, whatever their class; a class decides who is next, not who may stand in line. When there are
  too many, the newest of the longest flow goes, so that one principal with many waiting shuts nobody out.

All steps take constant time or that of a heap, but for finding a place. Work is counted in integers: nothing is rounded away by
a long day. It does not know what waits, nor what an instance is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

from slmgate.terms import Ask

T = TypeVar("T")

PATIENCE = 19
"""How often in a row a class lets a higher one go first: one turn in twenty is its own."""
USUAL_ANSWER = 256
"""Tokens that an answer is taken to have when its request does not bound it."""
LONGEST_ANSWER = 32_768
"""Tokens; a request that allows more is not taken to mean it: many clients ask for as much as there is."""
REMEMBERED = 10_000
"""Flows kept, of one class and beyond those that wait, for what they have had."""
FADES = 31 / 32
"""What is left of the weight of one interval between two turns after the next: some 32 of them make the pace."""
_UNIT = 1_000_000
"""Work of one token for a weight of 1; divides with little rest by any weight."""


def tokens(ask: Ask) -> int:
    """What a request is taken to cost: its prompt and the longest answer that it allows, in tokens."""
    most = USUAL_ANSWER if ask.max_tokens is None else min(max(0, ask.max_tokens), LONGEST_ANSWER)
    return max(0, ask.prompt_estimate) + most


class Flow(Generic[T]):
    """What one principal has waiting in one class. To those outside only a handle."""

    __slots__ = ("level", "line", "listed", "name", "size", "start", "weight")

    def __init__(self, level: _Level[T], name: str) -> None:
        self.level = level
        self.name = name
        self.line: OrderedDict[T, int] = OrderedDict()  # what waits for its turn, in order of coming, with its work
        self.size = 0  # what waits at all: the line, and those that have had their turn
        self.weight = 1  # of who came last
        self.start = 0  # virtual time: of the first in line, or at which the next may come
        self.listed = False  # in the heap, by this very start

    def __repr__(self) -> str:
        return f"<Flow {self.name}: {self.size} waiting>"


class _Level(Generic[T]):
    """The flows of one class."""

    __slots__ = ("flows", "heap", "number", "passed", "priority", "sizes", "virtual", "waiting", "weights")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.virtual = 0  # the start of who went last; no flow in the heap starts before it
        self.number = 0  # of those that came into the heap: among equals, first come first served
        self.passed = 0  # turns in a row that others had while this one waited
        self.waiting = 0  # of all lines
        self.weights = 0  # of all flows that have something waiting
        self.flows: dict[str, Flow[T]] = {}
        # Each flow is in here at most once. One whose line is empty stays until it comes up: so it is known for what it has had.
        self.heap: list[tuple[int, int, Flow[T]]] = []
        self.sizes: list[dict[Flow[T], None]] = [{}]  # by how much they have waiting; the last one is not empty, but for [0]

    def enlist(self, flow: Flow[T]) -> None:
        """The flow's line has its first: it is among those that may be next."""
        if flow.listed:
            return
        if len(self.flows) > 2 * self.waiting + REMEMBERED:
            self._forget()
        flow.listed = True
        flow.start = max(self.virtual, flow.start)
        self.number += 1
        heappush(self.heap, (flow.start, self.number, flow))

    def _forget(self) -> None:
        """Many came and went: let go of all that wait for nothing."""
        for flow in [flow for flow in self.flows.values() if not flow.size]:
            del self.flows[flow.name]
        self.heap = [entry for entry in self.heap if entry[2].size]
        heapify(self.heap)

    def next(self) -> tuple[T, Flow[T]]:
        """Take the next one out of its line. There is one."""
        while not (flow := self.heap[0][2]).line:
            heappop(self.heap)
            flow.listed = False
            if not flow.size:
                del self.flows[flow.name]
        item, work = flow.line.popitem(last=False)
        self.waiting -= 1
        self.virtual = flow.start
        flow.start += work
        self.number += 1
        heapreplace(self.heap, (flow.start, self.number, flow))
        return item, flow

    def grow(self, flow: Flow[T], weight: int) -> None:
        """One more waits, of this weight."""
        self.weights += weight - flow.weight if flow.size else weight
        flow.weight = weight
        self.sizes[flow.size].pop(flow, None)
        flow.size += 1
        if flow.size == len(self.sizes):
            self.sizes.append({})
        self.sizes[flow.size][flow] = None

    def shrink(self, flow: Flow[T]) -> None:
        """One less waits."""
        sizes = self.sizes
        del sizes[flow.size][flow]
        if flow.size == len(sizes) - 1 and not sizes[-1]:
            sizes.pop()
        flow.size -= 1
        if flow.size:
            sizes[flow.size][flow] = None
        else:
            self.weights -= flow.weight
            if not flow.listed:
                del self.flows[flow.name]

    def __repr__(self) -> str:
        return f"<_Level {self.priority}: {self.waiting} waiting in {len(self.flows)} flows>"


class FairQueue(Generic[T]):
    """What waits is any hashable thing; `now` is seconds of any clock that goes forward only.

    `places` is who waits, in which flow; `again` are those of them that have had their turn once. Both are only to be read. They
    are the same objects for as long as the queue lives, so that it costs next to nothing to see that nobody waits.
    """

    __slots__ = ("_levels", "_since", "_time", "_turns", "again", "places")

    def __init__(self) -> None:
        self.places: dict[T, Flow[T]] = {}
        self.again: dict[T, None] = {}
        self._levels: list[_Level[T]] = []  # highest first
        # the pace: turns, and the seconds of waiting that they took, both fading
        self._turns = 0.0
        self._time = 0.0
        self._since = 0.0  # of the last turn, or when the first of those that wait came

    def __repr__(self) -> str:
        return f"<FairQueue: {len(self.places)} waiting, {len(self.again)} of them again>"

    @property
    def fresh(self) -> bool:
        """Whether somebody waits for its first turn."""
        return len(self.places) > len(self.again)

    def join(self, item: T, flow: str, priority: int, weight: int, cost: int, now: float) -> None:
        """`item`, which waits nowhere yet, stands in the line of `flow`; `cost` is in tokens, or in whatever is shared."""
        its = self._place(item, flow, priority, weight, now)
        level = its.level
        if not level.waiting:
            level.passed = 0
        level.enlist(its)
        level.waiting += 1
        its.line[item] = max(1, cost) * _UNIT // weight

    def rejoin(self, item: T, flow: str, priority: int, weight: int, now: float) -> None:
        """`item` has had its turn, and wants another instance."""
        self._place(item, flow, priority, weight, now)
        self.again[item] = None

    def _place(self, item: T, name: str, priority: int, weight: int, now: float) -> Flow[T]:
        if not self.places:
            self._since = now
        level = self._level(priority)
        if level is None:
            level = _Level(priority)
            self._levels.append(level)
            self._levels.sort(key=lambda level: -level.priority)
        flow = level.flows.get(name)
        if flow is None:
            flow = level.flows[name] = Flow(level, name)
        level.grow(flow, weight)
        self.places[item] = flow
        return flow

    def _level(self, priority: int) -> _Level[T] | None:
        return next((level for level in self._levels if level.priority == priority), None)

    def next(self, now: float) -> T:
        """Take out who is next of those that wait for their first turn (`fresh`: there is one)."""
        standing = [level for level in self._levels if level.waiting]
        turn = next((level for level in standing if level.passed >= PATIENCE), standing[0])
        for level in standing:
            level.passed += 1
        turn.passed = 0
        item, flow = turn.next()
        self._gone(item, flow)
        self._paced(now)
        return item

    def next_again(self, item: T, now: float) -> None:
        """Take out `item`, one of `again`: it has another turn."""
        self.leave(item)
        self._paced(now)

    def leave(self, item: T) -> None:
        """`item` waits no more, if it did."""
        flow = self.places.get(item)
        if flow is None:
            return
        if item in self.again:
            del self.again[item]
        else:
            del flow.line[item]
            flow.level.waiting -= 1
        self._gone(item, flow)

    def _gone(self, item: T, flow: Flow[T]) -> None:
        del self.places[item]
        level = flow.level
        level.shrink(flow)
        if len(level.sizes) == 1:
            self._levels.remove(level)

    def surplus(self) -> T:
        """Who has to go when there are too many: the newest of the longest flow. Nobody is taken out; somebody waits.

        Of flows as long as each other it is one of the lowest class, there the one that came to its length last: so who comes
        last goes, unless it makes others more equal.
        """
        level = max(reversed(self._levels), key=lambda level: len(level.sizes))
        flow = next(reversed(level.sizes[-1]))
        if flow.line:
            return next(reversed(flow.line))
        return next(item for item in reversed(self.again) if self.places[item] is flow)

    def number(self, item: T, flow: str, priority: int, weight: int) -> int:
        """About the how-manieth to go `item` is, from 1; or would be, were it to come now to this flow.

        Of the flows beside its own, each is taken to send requests like its own: they go before it as the weights say.
        """
        if item in self.again:
            return 1 + _index(self.again, item)
        its = self.places.get(item)
        if its is not None:
            place, priority, weight = 1 + _index(its.line, item), its.level.priority, its.weight
            waiting, weights = its.level.waiting, its.level.weights
        else:
            level = self._level(priority)
            known = None if level is None else level.flows.get(flow)
            place = 1 if known is None else len(known.line) + 1
            waiting, weights = (1, 0) if level is None else (level.waiting + 1, level.weights)
            if known is None or not known.size:
                weights += weight
        before = len(self.again) + sum(level.waiting for level in self._levels if level.priority > priority)
        return before + min(waiting, -(-place * weights // weight))

    def numbers(self) -> dict[T, int]:
        """The `number` of everybody that waits, in one walk."""
        found = {item: place for place, item in enumerate(self.again, 1)}
        before = len(self.again)
        for level in self._levels:
            for flow in level.flows.values():
                for place, item in enumerate(flow.line, 1):
                    found[item] = before + min(level.waiting, -(-place * level.weights // flow.weight))
            before += level.waiting
        return found

    def seconds(self, number: int, now: float) -> float | None:
        """How long `number` turns will take at the pace of the last few dozen, or None: there has been none.

        Time in which nobody waited is none of the pace; the time since the last turn is, if somebody waits.
        """
        if not self._turns:
            return None
        idle = max(0.0, now - self._since) if self.places else 0.0
        return number * (self._time + idle) / self._turns

    def _paced(self, now: float) -> None:
        self._turns = self._turns * FADES + 1.0
        self._time = self._time * FADES + max(0.0, now - self._since)
        self._since = now


def _index(line: Iterable[T], item: T) -> int:
    return next(place for place, one in enumerate(line) if one is item)
