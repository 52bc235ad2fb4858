"""Random histories of the limit table, with an invented clock: nothing above a limit in any window, nothing refused for nothing.

Several hands on one table take, settle and die as chance wills, for hours of the table's time in a second of ours. What was
really used is then counted as `tests/tools/windows.py` counts, and each refusal is held to its word: after the wait it told there
is room.
It knows the table's five operations and no cell of it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from slmgate.dataplane import table as module
from slmgate.dataplane.table import Held, Spot, Table
from slmgate.policy.limiting import CONCURRENT, SECOND, Meter
from slmgate.policy.limits import LimitSpec
from slmgate.policy.room import Short
from tests.tools.pace import Clock, over_bucket
from tests.tools.windows import Span, by_period, most, surely

WORKERS = 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "_clock", made)
    return made


def spot(name: str, amount: int, seconds: int = 0, burst: int | None = None, *, day: bool = False) -> Spot:
    spec = LimitSpec(
        name=name,
        text=name,
        identity=name,
        unit="tokens",
        amount=amount,
        seconds=seconds,
        burst=burst,
        calendar="day" if day else None,
    )
    return Spot(Meter(spec), "one")


class Taken:
    """One take: when, of what, what was asked and what it came to."""

    def __init__(self, number: int, at: int, second: float, which: list[int], wants: list[int]) -> None:
        self.number, self.at, self.second, self.which, self.wants = number, at, second, which, wants
        self.came_to = wants
        self.end: int | None = None


class History:
    """A table in the hands of `WORKERS` workers, and everything that was taken from it."""

    def __init__(self, path: Path, clock: Clock, limits: list[Spot], seed: int) -> None:
        self.path, self.clock = path, clock
        self.chance = random.Random(seed)
        self.limits = [limit.meter for limit in limits]
        self.spots = [[Spot(limit.meter, "one") for limit in limits] for _ in range(WORKERS)]
        self.tables = [Table(path, slot, WORKERS) for slot in range(WORKERS)]
        self.live: list[list[Taken]] = [[] for _ in range(WORKERS)]
        self.all: list[Taken] = []
        self.refused = 0

    def take(self, slot: int, which: list[int], wants: list[int]) -> Held | Short:
        spots = [self.spots[slot][index] for index in which]
        # a dead worker's request was at most what it wanted; half of it is said to be surely used
        found = self.tables[slot].take(spots, wants, [want // 2 for want in wants], self.clock.second)
        if isinstance(found, Held):
            taken = Taken(found.number, self.clock.us, self.clock.second, which, wants)
            self.live[slot].append(taken)
            self.all.append(taken)
        return found

    def step(self) -> None:
        slot = self.chance.randrange(WORKERS)
        deed = self.chance.random()
        if deed < 0.5:
            which = sorted(self.chance.sample(range(len(self.limits)), self.chance.randint(1, len(self.limits))))
            wants = [1 if self.limits[index].kind == CONCURRENT else self.chance.randint(1, 9) for index in which]
            found = self.take(slot, which, wants)
            if isinstance(found, Short):
                self.refused += 1
        elif deed < 0.9:
            if self.live[slot]:
                self.settle(slot, self.live[slot][self.chance.randrange(len(self.live[slot]))])
        elif deed < 0.92:
            self.die(slot)
        self.clock.go(self.chance.choice((0, 1, 100, 20_000, 300_000, 900_000)) * self.chance.random())

    def settle(self, slot: int, taken: Taken) -> None:
        self.live[slot].remove(taken)
        taken.end = self.clock.us
        taken.came_to = [
            0 if self.limits[index].kind == CONCURRENT else self.chance.randint(0, want)
            for index, want in zip(taken.which, taken.wants, strict=True)
        ]
        self.tables[slot].settle(taken.number, taken.came_to, self.clock.second)

    def die(self, slot: int) -> None:
        """kill -9 and its successor."""
        for taken in self.live[slot]:
            taken.came_to = [want // 2 for want in taken.wants]
            taken.end = self.clock.us
        self.live[slot] = []
        self.tables[slot].close()
        self.tables[slot] = Table(self.path, slot, WORKERS)

    def used(self, index: int) -> list[tuple[int, int]]:
        return [(taken.at, taken.came_to[taken.which.index(index)]) for taken in self.all if index in taken.which]

    def close(self) -> None:
        for table in self.tables:
            table.close()


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_over_in_any_window(tmp_path: Path, clock: Clock, seed: int) -> None:
    limits = [
        spot("requests", 7, 2),
        spot("slow", 40, 30),
        spot("bucket", 3, 1, 11),
        spot("day", 5000, day=True),
        spot("at once", 4),
    ]
    history = History(tmp_path / "limits", clock, limits, seed)
    for _ in range(1500):
        history.step()
    assert len(history.all) > 50, "void: hardly anything was let through"
    assert history.refused > 50, "void: hardly anything was refused"
    for index, length in ((0, 2 * SECOND), (1, 30 * SECOND)):
        assert most(history.used(index), length) <= history.limits[index].amount, history.limits[index]
    assert over_bucket(history.used(2), 11, 3, SECOND) <= 0, "the bucket ran over"
    days = by_period([(int(t.second), t.came_to[t.which.index(3)]) for t in history.all if 3 in t.which], lambda s: s // 86_400)
    assert max(days.values()) <= 5000
    at_once = [Span(t.at, t.end if t.end is not None else clock.us + 1) for t in history.all if 4 in t.which]
    assert overlap(at_once) <= 4
    history.close()


def overlap(spans: list[Span]) -> int:
    steps = sorted(step for first, last, _ in spans for step in ((first, 1), (last, -1)) if last > first)
    total = largest = 0
    for _, step in steps:
        total += step
        largest = max(largest, total)
    return largest


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [("sliding", 7, 2, None), ("long", 30, 60, None), ("bucket", 3, 1, 11)], ids=lambda row: row[0])
def test_a_refusal_keeps_its_word(tmp_path: Path, clock: Clock, limit: tuple[str, int, int, int | None], seed: int) -> None:
    """Whoever waits as long as it was told, and nobody else asks, is let through; a little earlier there was no room yet."""
    name, amount, seconds, burst = limit
    history = History(tmp_path / "limits", clock, [spot(name, amount, seconds, burst)], seed)
    refused = 0
    for _ in range(400):
        want = history.chance.randint(1, 9) if history.limits[0].amount >= 9 else history.chance.randint(1, amount)
        found = history.take(0, [0], [want])
        if burst is not None:  # what a live request has reserved of a bucket does not drain: it is over at once here
            for taken in list(history.live[0]):
                history.live[0].remove(taken)
                history.tables[0].settle(taken.number, taken.wants, clock.second)
        if isinstance(found, Short):
            refused += 1
            assert 0 < found.wait <= (seconds * 1.01 + 0.001) * SECOND * (1 if burst is None else 10), found
            clock.go(found.wait)
            assert isinstance(history.take(0, [0], [want]), Held), f"told {found.wait} us, and there was no room then"
        clock.go(history.chance.random() ** 3 * seconds * SECOND * 1.5)
    assert refused > 10, "void"
    history.close()


def test_several_limits_tell_the_longest_wait(tmp_path: Path, clock: Clock) -> None:
    history = History(tmp_path / "limits", clock, [spot("short", 1, 2), spot("long", 1, 10)], 0)
    assert isinstance(history.take(0, [0, 1], [1, 1]), Held)
    found = history.take(0, [0, 1], [1, 1])
    assert isinstance(found, Short)
    assert found.wait >= 9 * SECOND
    clock.go(found.wait)
    assert isinstance(history.take(0, [0, 1], [1, 1]), Held)
    history.close()


@pytest.mark.parametrize(("burst", "seconds"), [(None, 2), (100, 2)], ids=["sliding", "bucket"])
def test_what_was_missed_is_owed_however_long_the_request_took(
    tmp_path: Path, clock: Clock, burst: int | None, seconds: int
) -> None:
    limit = spot("tokens", 100, seconds, burst)
    table = Table(tmp_path / "limits", 0, 1)
    held = table.take([limit], [10], [0], clock.second)
    assert isinstance(held, Held)
    clock.go(100 * SECOND)
    table.settle(held.number, [100], clock.second)
    found = table.take([limit], [50], [0], clock.second)
    assert isinstance(found, Short), "90 tokens were missed a moment ago"
    clock.go(found.wait)
    assert isinstance(table.take([limit], [50], [0], clock.second), Held)
    table.close()


def test_what_was_missed_beyond_the_limit_is_owed_too(tmp_path: Path, clock: Clock) -> None:
    limit = spot("tokens", 100, day=True)
    table = Table(tmp_path / "limits", 0, 1)
    held = table.take([limit], [10], [0], clock.second)
    assert isinstance(held, Held)
    table.settle(held.number, [1000], clock.second)
    found = table.take([limit], [1], [0], clock.second)
    assert isinstance(found, Short)
    table.close()


def test_a_bucket_gives_back_nothing_that_has_drained(tmp_path: Path, clock: Clock) -> None:
    limit = spot("bucket", 10, 1, 40)
    table = Table(tmp_path / "limits", 0, 1)
    first = table.take([limit], [40], [0], clock.second)
    assert isinstance(first, Held)
    clock.go(4 * SECOND)
    assert isinstance(table.take([limit], [1], [0], clock.second), Short), "all of it is reserved for a live request"
    table.settle(first.number, [0], clock.second)
    assert isinstance(table.take([limit], [40], [0], clock.second), Held)
    assert isinstance(table.take([limit], [1], [0], clock.second), Short), "41 at one moment with a burst of 40"
    table.close()


@pytest.mark.parametrize("seed", range(3))
def test_all_that_could_be_let_through_is(tmp_path: Path, clock: Clock, seed: int) -> None:
    """Under constant demand a window that is 2 % longer is always full: nothing under 98 %."""
    history = History(tmp_path / "limits", clock, [spot("requests", 7, 2)], seed)
    begun = clock.us
    while clock.us < begun + 100 * SECOND:
        history.take(history.chance.randrange(WORKERS), [0], [1])
        clock.go(history.chance.random() * 10_000)
    used = history.used(0)
    assert most(used, 2 * SECOND) <= 7
    assert len(used) >= 0.98 * 7 * 50
    assert surely([Span(at, at, weight) for at, weight in used], 2 * SECOND) == most(used, 2 * SECOND)
    history.close()


def test_use_survives_that_everybody_dies(tmp_path: Path, clock: Clock) -> None:
    history = History(tmp_path / "limits", clock, [spot("requests", 7, 60)], 1)
    for slot in (0, 1, 2, 0, 1):
        assert isinstance(history.take(slot, [0], [1]), Held)
    history.close()
    clock.go(SECOND)
    again = [Table(tmp_path / "limits", slot, WORKERS) for slot in range(WORKERS)]
    limit = spot("requests", 7, 60)
    for expected in (1, 0):
        found = again[2].take([limit], [1], [1], clock.second)
        assert isinstance(found, Held) and found.left[0] == expected + 5
    for table in again:
        table.close()
