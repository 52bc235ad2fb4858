"""The limit table on a real file: all or none, what windows do with time, holds that end with their worker, half-done changes.

Time is a fake clock's. Workers are objects over one file; real processes, killed at random, are in tests/system.
Length: one table's five operations against each other; a second file would need the same fakes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Any

import pytest

from slmgate.dataplane import table as module
from slmgate.dataplane.claims import Claims
from slmgate.dataplane.table import Held, Part, Spot, Table, TableFull
from slmgate.policy.limiting import NEVER, SECOND, Meter
from slmgate.policy.limits import LimitSpec
from slmgate.policy.room import Short


class Now:
    """A clock that stands still until it is told to go on; nanoseconds, as `time.monotonic_ns`."""

    def __init__(self) -> None:
        self.ns = 10**15

    def __call__(self) -> int:
        return self.ns

    def go_on(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr(module, "_clock", clock)
    return clock


class Node:
    """Tables of several workers over one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables: list[Table] = []

    def worker(self, slot: int = 0, workers: int = 2) -> Table:
        self.tables.append(Table(self.path, slot, workers))
        return self.tables[-1]


@pytest.fixture
def node(tmp_path: Path, now: Now) -> Iterator[Node]:
    node = Node(tmp_path / "state" / "limits")
    yield node
    for table in node.tables:
        table.close()


def spot(text: str, amount: int, subject: str = "k", **fields: object) -> Spot:
    unit = "concurrent" if text == "concurrent" else "tokens"
    return Spot(Meter(LimitSpec(name=text, text=text, identity=text, unit=unit, amount=amount, **fields)), subject)  # type: ignore[arg-type]  # a table of fields


def minute(amount: int, subject: str = "k") -> Spot:
    return spot("minute", amount, subject, seconds=60)


def day(amount: int) -> Spot:
    return spot("day", amount, calendar="day")


def bucket(amount: int, burst: int) -> Spot:
    return spot("bucket", amount, seconds=60, burst=burst)


def at_once(amount: int) -> Spot:
    return spot("concurrent", amount)


NOON = 1_800_000_000.0


def take(table: Table, *wanted: tuple[Spot, int], kept: int = 0, second: float = NOON) -> Held | Short:
    return table.take([one for one, _ in wanted], [want for _, want in wanted], [kept] * len(wanted), second)


def held(table: Table, *wanted: tuple[Spot, int], kept: int = 0, second: float = NOON) -> Held:
    taken = take(table, *wanted, kept=kept, second=second)
    assert isinstance(taken, Held), taken
    return taken


def used(table: Table, *spots: Spot, second: float = NOON) -> list[int]:
    return [amount for amount, _ in table.look(spots, second)]


@pytest.mark.parametrize(
    "one", [minute(10), day(10), bucket(10, 10), at_once(10)], ids=["sliding", "calendar", "bucket", "at once"]
)
@pytest.mark.parametrize(
    ("before", "want", "admitted"), [(0, 0, True), (0, 10, True), (9, 1, True), (10, 0, True), (10, 1, False), (0, 11, False)]
)
def test_up_to_the_limit_and_not_one_past_it(node: Node, one: Spot, before: int, want: int, admitted: bool) -> None:
    one.at = 0
    table = node.worker()
    held(table, (one, before))
    taken = take(table, (one, want))
    assert isinstance(taken, Held) is admitted
    assert used(table, one) == [before + want * admitted]
    if isinstance(taken, Short):
        assert (taken.which, taken.amount, taken.left) == (0, 10, 10 - before)
        assert (taken.wait == NEVER) is (want > 10)


@pytest.mark.parametrize("one", [minute(0), day(0), bucket(0, 0), at_once(0)], ids=["sliding", "calendar", "bucket", "at once"])
def test_a_limit_of_nothing(node: Node, one: Spot) -> None:
    one.at = 0
    assert take(node.worker(), (one, 1)) == Short(0, 0, 0, NEVER)


def test_the_largest_amount(node: Node) -> None:
    table = node.worker()
    for one in (minute(10**18), day(10**18), bucket(10**18, 10**18), at_once(10**18)):
        held(table, (one, 10**18))
        assert isinstance(take(table, (one, 1)), Short)


def test_all_or_none(node: Node) -> None:
    table = node.worker()
    spots = minute(10), day(5), at_once(3)
    refused = take(table, (spots[0], 1), (spots[1], 6), (spots[2], 1))
    assert isinstance(refused, Short) and refused.which == 1
    assert used(table, *spots) == [0, 0, 0]
    held(table, (spots[0], 1), (spots[1], 5), (spots[2], 1))
    assert used(table, *spots) == [1, 5, 1]


def test_subjects_are_apart(node: Node) -> None:
    table = node.worker()
    held(table, (minute(1, "a"), 1))
    assert isinstance(take(table, (minute(1, "a"), 1)), Short)
    held(table, (minute(1, "b"), 1))


def test_workers_count_together(node: Node) -> None:
    one, other = node.worker(0), node.worker(1)
    held(one, (minute(2), 1))
    held(other, (minute(2), 1))
    assert isinstance(take(one, (minute(2), 1)), Short)


def test_a_window_slides(node: Node, now: Now) -> None:
    table, one = node.worker(), minute(10)
    held(table, (one, 4))
    now.go_on(30)
    held(table, (one, 6))
    refused = take(table, (one, 4))
    assert isinstance(refused, Short) and 30 <= refused.wait / SECOND < 30.6
    now.go_on(refused.wait / SECOND)
    held(table, (one, 4))
    assert isinstance(take(table, (one, 1)), Short)
    now.go_on(600)
    assert used(table, one) == [0]
    held(table, (one, 10))


def test_a_bucket_drains(node: Node, now: Now) -> None:
    table, one = node.worker(), bucket(60, 5)
    taken = held(table, (one, 5))
    refused = take(table, (one, 2))
    assert refused == Short(0, 5, 0, 2 * SECOND)
    now.go_on(60)
    assert used(table, one) == [5], "what is reserved does not drain"
    table.settle(taken.number, [5], NOON)
    now.go_on(2)
    assert used(table, one) == [3]
    held(table, (one, 2))


def test_a_calendar_turns(node: Node) -> None:
    table, one = node.worker(), day(5)
    midnight = 1_800_057_600.0
    held(table, (one, 5), second=midnight - 1)
    refused = take(table, (one, 1), second=midnight - 1)
    assert refused == Short(0, 5, 0, SECOND)
    held(table, (one, 5), second=midnight)
    assert isinstance(take(table, (one, 1), second=midnight - 3600), Short), "a clock put back opens no quota anew"
    assert used(table, one, second=midnight) == [5]
    assert used(table, one, second=midnight + 86_400) == [0]


def test_settled_to_less(node: Node, now: Now) -> None:
    table = node.worker()
    spots = minute(100), day(100), bucket(60, 100), at_once(2)
    taken = held(table, *((one, 1 if one is spots[3] else 50) for one in spots))
    table.settle(taken.number, [20, 20, 20, 0], NOON)
    assert used(table, *spots) == [20, 20, 20, 0]


def test_settled_to_more_is_owed(node: Node, now: Now) -> None:
    table = node.worker()
    spots = minute(60), day(60), bucket(60, 60)
    taken = held(table, *((one, 50) for one in spots))
    table.settle(taken.number, [100, 100, 100], NOON)
    for one in spots:
        refused = take(table, (one, 1))
        assert isinstance(refused, Short) and refused.left == -40
    now.go_on(41)
    held(table, (spots[2], 1))
    assert used(table, *spots[:2]) == [100, 100]


def test_settled_after_the_window(node: Node, now: Now) -> None:
    """What comes back of a window that is over is nobody's; what was missed is owed all the same."""
    table = node.worker()
    spots = minute(60), day(60), bucket(60, 60)
    midnight = 1_800_057_600.0
    less = held(table, *((one, 20) for one in spots), second=midnight - 1)
    more = held(table, *((one, 20) for one in spots), second=midnight - 1)
    now.go_on(130)
    held(table, *((one, 1) for one in spots), second=midnight + 129)
    table.settle(less.number, [0, 0, 0], NOON)
    assert used(table, *spots, second=midnight + 129) == [1, 1, 21]
    table.settle(more.number, [25, 25, 25], NOON)
    assert used(table, *spots, second=midnight + 129) == [6, 6, 26]


def test_what_was_missed_is_owed_from_the_end_on(node: Node, now: Now) -> None:
    """Also where nobody asked since: a long answer may end when the window, or the day, in which it began is over."""
    table = node.worker()
    spots = minute(60), day(60), bucket(60, 60)
    midnight = 1_800_057_600.0
    taken = held(table, *((one, 10) for one in spots), second=midnight - 1)
    now.go_on(600)
    table.settle(taken.number, [50, 50, 50], midnight + 599)
    assert used(table, *spots, second=midnight + 599) == [40, 40, 50]


def test_what_an_instance_says_has_a_bound(node: Node) -> None:
    table = node.worker()
    spots = minute(60), day(60), bucket(60, 60)
    for _ in range(3):
        taken = table.take(spots, [0, 0, 0], [0, 0, 0], NOON)
        if isinstance(taken, Held):
            table.settle(taken.number, [1 << 80, 1 << 80, 1 << 80], NOON)
    assert used(table, *spots) == [1 << 62] * 3


def test_requests_drain_at_once(node: Node, now: Now) -> None:
    """Their amount is known from the start; one that was not forwarded gives back what has not drained."""
    table = node.worker()
    one = Spot(Meter(LimitSpec(name="r", text="r", identity="r", unit="requests", amount=60, seconds=60, burst=5)), "k")
    taken = held(table, (one, 5))
    now.go_on(2)
    assert used(table, one) == [3]
    table.settle(taken.number, [0], NOON)
    assert used(table, one) == [0]


def test_the_longest_wait_is_told(node: Node) -> None:
    table = node.worker()
    short, long = spot("2s", 1, seconds=2), spot("10s", 1, seconds=10)
    held(table, (short, 1), (long, 1))
    refused = take(table, (short, 1), (long, 1))
    assert isinstance(refused, Short) and refused.which == 1 and refused.wait > 9 * SECOND


def test_an_amount_that_changes_keeps_what_was_used(node: Node) -> None:
    table = node.worker()
    held(table, (minute(10), 8))
    assert isinstance(take(table, (minute(5), 1)), Short)
    held(table, (minute(20), 12))
    assert used(table, minute(20)) == [20]


def test_a_raise(node: Node) -> None:
    table = node.worker()
    one = spot("raised", 1, seconds=60, raised=3, raised_until=NOON)
    held(table, (one, 3), second=NOON - 1)
    assert table.look([one], NOON - 1) == [(3, 3)]
    assert isinstance(take(table, (one, 1), second=NOON), Short)
    assert table.look([one], NOON) == [(3, 1)]


@pytest.mark.parametrize("burst", [None, 5])
def test_the_wait_is_true_when_a_raise_ends_before(node: Node, now: Now, burst: int | None) -> None:
    """What is used of a raised limit stays used when the raise is over: there is room when it has come below the limit's own."""
    table = node.worker()
    one = spot("raised", 5, seconds=60, burst=burst, raised=10, raised_until=NOON + 25)
    table.settle(held(table, (one, 3)).number, [3], NOON)
    now.go_on(20)
    more = 7 if burst is None else 8  # of a bucket something has drained by then
    table.settle(held(table, (one, more), second=NOON + 20).number, [more], NOON + 20)
    refused = take(table, (one, 2), second=NOON + 20)
    assert isinstance(refused, Short) and refused.wait < NEVER
    assert (refused.amount, refused.left) == (10, 0)
    seconds = -(-refused.wait // SECOND)
    now.go_on(seconds - 2)
    assert isinstance(take(table, (one, 2), second=NOON + 18 + seconds), Short)
    now.go_on(2)
    held(table, (one, 2), second=NOON + 20 + seconds)


def test_what_only_a_raise_allows_is_too_large_when_it_ends_before_there_is_room(node: Node) -> None:
    table = node.worker()
    windows: list[dict[str, Any]] = [{"seconds": 60}, {"calendar": "day"}, {"seconds": 60, "burst": 5}]
    for number, fields in enumerate(windows):
        one = spot(f"raised {number}", 5, raised=10, raised_until=NOON + 1, **fields)
        held(table, (one, 4))
        refused = take(table, (one, 7))
        assert isinstance(refused, Short) and refused.wait == NEVER
        assert (refused.amount, refused.left) == (10, 6)
        longer = spot(f"raised {number}", 5, raised=10, raised_until=NOON + 1e6, **fields)
        later = take(table, (longer, 7))
        assert isinstance(later, Short) and later.wait < NEVER


def test_what_outlives_the_gate(node: Node, now: Now, tmp_path: Path) -> None:
    held(node.worker(), (minute(10), 3), (day(10), 3), kept=2)
    now.go_on(1)
    again = node.worker()
    assert used(again, minute(10), day(10)) == [2, 2], "its holds are settled as its death left them"


def test_another_boot_stops_the_clock(node: Node, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    table = node.worker()
    table.settle(held(table, (minute(10), 10)).number, [10], NOON)
    before = table.now()
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"another boot")
    now.ns = 5 * 10**9
    later = node.worker()
    assert later.now() == before
    assert isinstance(take(later, (minute(10), 1)), Short)


def test_holds_of_a_dead_worker_are_settled_by_its_successor(node: Node) -> None:
    living, dying = node.worker(0), node.worker(1)
    spots = minute(100), at_once(2)
    held(living, (spots[0], 10), (spots[1], 1))
    held(dying, (spots[0], 50), (spots[1], 1))
    ended = held(living, (spots[0], 1))
    living.settle(ended.number, [1], NOON)
    node.worker(1)
    assert used(living, *spots) == [11, 1]


def test_what_was_noted_is_charged_when_its_worker_dies(node: Node) -> None:
    living, dying = node.worker(0), node.worker(1)
    spots = minute(100), bucket(100, 100), day(100), at_once(2)
    held(dying, *((one, 2) for one in spots[:3]), (spots[3], 1))
    number = held(dying, *((one, 50) for one in spots[:3]), (spots[3], 1)).number
    dying.note(number, [10, 10, 10, 0])
    dying.note(number, [30, 60, 1 << 70, 0])
    assert used(living, *spots) == [52, 52, 52, 2], "nothing is charged while it lives"
    node.worker(1)
    assert used(living, *spots)[:2] == [30, 60]
    assert used(living, *spots)[2] > 100, "no more than a word holds"
    assert used(living, *spots)[3] == 0


def test_workers_that_are_no_more(node: Node) -> None:
    many = node.worker(5, workers=8)
    held(many, (at_once(1), 1))
    node.tables.pop().close()
    few = node.worker(0, workers=1)
    assert used(few, at_once(1)) == [0]


def test_a_dead_worker_without_successor_is_settled_by_whoever_tends(node: Node) -> None:
    """Of a gate that gave over to another: nobody is started in its place."""
    living = node.worker(0)
    dying = node.worker(3)
    held(dying, (at_once(1), 1))
    living.tend()
    assert used(living, at_once(1)) == [1], "it lives"
    node.tables.pop().close()
    living.tend()
    assert used(living, at_once(1)) == [0]
    living.tend()


def test_who_is_alone_keeps_the_lock_until_another_waits_for_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(module, "_lock", lambda fd, what, length: calls.append(what))
    alone = node.worker(0, workers=1)
    held(alone, (at_once(5), 1))
    alone.tend()
    assert calls == []
    waited_for, unlocked = [True], []
    monkeypatch.setattr(alone._claims, "is_waited_for", lambda: waited_for[0])
    monkeypatch.setattr(alone._claims, "unlock", lambda: unlocked.append(1))
    alone.tend()
    held(alone, (at_once(5), 1))
    alone.tend()
    assert unlocked == [1]
    assert calls == [module._LOCK, module._UNLOCK]


def test_the_only_worker_of_a_gate_is_not_alone_while_another_gate_has_one(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.worker(0, workers=1)
    monkeypatch.setattr(Claims, "is_left", lambda self, slot: False)
    calls: list[int] = []
    monkeypatch.setattr(module, "_lock", lambda fd, what, length: calls.append(what))
    second = node.worker(1, workers=1)
    held(second, (at_once(5), 1))
    assert calls == [module._LOCK, module._UNLOCK]


class KilledError(BaseException):
    """Stands for a kill: nothing more is executed."""


class Budget:
    """How much a worker may still write before it is killed; a packed row may be cut in its middle."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def spend(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1


class Dying:
    """A view of words that dies before its n-th write."""

    def __init__(self, view: memoryview, budget: Budget) -> None:
        self.view, self.budget = view, budget

    def __getitem__(self, at: int | slice) -> int | memoryview:
        return self.view[at]

    def __setitem__(self, at: int, value: int) -> None:
        self.budget.spend()
        self.view[at] = value

    def release(self) -> None:
        self.view.release()


class DyingRow:
    """A packing of several words at once that dies before its beginning, in its middle, or not."""

    def __init__(self, real: Struct, budget: Budget) -> None:
        self.real, self.budget = real, budget

    def unpack_from(self, buffer: Any, offset: int) -> tuple[Any, ...]:
        return self.real.unpack_from(getattr(buffer, "view", buffer), offset)

    def pack_into(self, buffer: Any, offset: int, *words: int) -> None:
        where = buffer.view if isinstance(buffer, Dying) else buffer
        self.budget.spend()
        half = len(words) // 2
        Struct(f"={half}q").pack_into(where, offset, *words[:half])
        self.budget.spend()
        self.real.pack_into(where, offset, *words)


@contextmanager
def dies_at(worker: Table, writes: int) -> Iterator[None]:
    """The worker is killed when it has written so many times."""
    budget = Budget(writes)
    for name in ("_header", "cells", "_rings", "_area"):
        setattr(worker, name, Dying(getattr(worker, name), budget))
    worker._areas[1] = worker._area
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_write_cell", DyingRow(Struct("=6q"), budget).pack_into)
        rows = [DyingRow(one, budget) for one in module._WORDS]
        patch.setattr(module, "_WORDS", rows)
        yield


def begun(node: Node, now: Now) -> tuple[Table, Table, tuple[Spot, ...]]:
    """A worker with some use, some of it about to leave its window, and another one beside it."""
    spots = minute(100), day(100), bucket(60, 100), at_once(9)
    other, dying = node.worker(0), node.worker(1)
    held(other, *((one, 1) for one in spots))
    now.go_on(45)
    held(other, *((one, 2) for one in spots))
    now.go_on(45)
    return other, dying, spots


KEPT = [1, 1, 1, 0]


def plus(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("writes", range(60))
def test_killed_while_it_takes(node: Node, now: Now, writes: int) -> None:
    """Whoever enters next finds all of it or nothing."""
    other, dying, spots = begun(node, now)
    before = used(other, *spots)
    completed = True
    with dies_at(dying, writes):
        try:
            dying.take(spots, [2, 2, 2, 2], KEPT, NOON)
        except KilledError:
            completed = False
    seen = used(other, *spots)
    assert seen == plus(before, [2, 2, 2, 2]) or (seen == before and not completed)
    node.worker(1)
    assert used(other, *spots) == (before if seen == before else plus(before, KEPT))


@pytest.mark.parametrize("writes", range(20))
def test_killed_while_it_settles(node: Node, now: Now, writes: int) -> None:
    other, dying, spots = begun(node, now)
    started = used(other, *spots)
    taken = dying.take(spots, [2, 2, 2, 2], KEPT, NOON)
    assert isinstance(taken, Held)
    before = used(other, *spots)
    completed = True
    with dies_at(dying, writes):
        try:
            dying.settle(taken.number, [5, 5, 5, 0], NOON)
        except KilledError:
            completed = False
    seen = used(other, *spots)
    after = plus(started, [5, 5, 5, 0])
    assert seen == after or (seen == before and not completed)
    node.worker(1)
    assert used(other, *spots) == (plus(started, KEPT) if seen == before else after)


def parts(spots: tuple[Spot, ...], charge: int, wish: int) -> list[Part]:
    """Of every limit but the last, which counts what is under way, a share charges `charge` requests."""
    last = len(spots) - 1
    return [
        Part(one, group, (int(group < last), 0, 0, 0), charge if group < last else 0, 0, wish, 0)
        for group, one in enumerate(spots)
    ]


@pytest.mark.parametrize("writes", range(60))
def test_killed_while_it_goes_on_with_a_share(node: Node, now: Now, writes: int) -> None:
    """What its requests came to is charged once, and nothing is held for it any more."""
    other, dying, spots = begun(node, now)
    started = used(other, *spots)
    share = dying.share(-1, parts(spots, 0, 2), [0, 0, 0, 0], NOON)
    assert share.given == [2, 2, 2, 0]
    dying.measures(share.number)[0] = 2
    now.go_on(1)
    before = used(other, *spots)
    completed = True
    with dies_at(dying, writes):
        try:
            dying.share(share.number, parts(spots, 2, 1), [0, 0, 0, 0], NOON)
        except KilledError:
            completed = False
    after = plus(started, [3, 3, 3, 0])
    after[2] = before[2] + 1  # of the bucket, some has drained
    seen = used(other, *spots)
    assert seen == after or (seen == before and not completed)
    node.worker(1)
    assert used(other, *spots) == [*plus(started[:2], [2, 2]), before[2], started[3]]


def test_a_worker_that_dies_when_its_shares_day_is_over(node: Node, now: Now) -> None:
    other, dying = node.worker(0), node.worker(1)
    spots = (day(100), at_once(9))
    share = dying.share(-1, parts(spots, 0, 2), [0, 0, 0, 0], NOON)
    dying.measures(share.number)[0] = 2
    assert used(other, spots[0]) == [2]
    held(other, (day(100), 1), second=NOON + 86_400)
    node.worker(1)
    assert other.look([day(100)], NOON + 86_400) == [(1, 100)]


def test_a_file_of_another_format_is_begun_anew(node: Node) -> None:
    node.path.parent.mkdir(parents=True)
    node.path.write_bytes(b"SLMLIMT1" * 100_000)
    table = node.worker()
    held(table, (minute(10), 4))
    assert used(node.worker(1), minute(10)) == [4]


def test_no_room_on_the_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    table = node.worker()
    held(table, (minute(10), 1))
    table._ready = {2: 0, 3: 0}

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TableFull, match="No space left"):
        take(table, (minute(10, "another"), 1))
    held(table, (minute(10), 1))


def test_no_place_for_a_hold(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HOLDS", 2)
    table, one = node.worker(), minute(10)
    first = held(table, (one, 1))
    held(table, (one, 1))
    with pytest.raises(TableFull):
        take(table, (one, 1))
    table.settle(first.number, [1], NOON)
    held(table, (one, 1))


def test_cells_whose_use_means_nothing_any_more_are_used_again(node: Node, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CELLS", 9)
    table = node.worker()
    for subject in range(8):
        table.settle(held(table, (minute(10, str(subject)), 1)).number, [1], NOON)
    with pytest.raises(TableFull):
        take(table, (minute(10, "new"), 1))
    now.go_on(61)
    old = minute(10, "3")
    held(table, (old, 1))
    held(table, (minute(10, "new"), 1))
    held(table, (at_once(3), 1))
    assert used(table, old) == [1]
    assert used(table, minute(10, "new")) == [1]


def test_a_full_table_is_not_looked_through_for_each_request(node: Node, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes long and nobody counts meanwhile: whoever sends from ever new addresses must not slow down the others."""
    monkeypatch.setattr(module, "_MAX_CELLS", 9)
    monkeypatch.setattr(module, "_LOOKS", 3)
    table = node.worker()
    for subject in range(8):
        held(table, (minute(10, str(subject)), 1))
    hands = set()
    for number in range(50):
        with pytest.raises(TableFull):
            take(table, (minute(10, f"new {number}"), 1))
        hands.add(table._header[module._HAND])
    assert len(hands) == 1
    held(table, (minute(10, "3"), 1))
    now.go_on(0.02)
    with pytest.raises(TableFull):
        take(table, (at_once(1), 1))
    with pytest.raises(TableFull):
        take(table, (minute(10, "new"), 1))
    assert table._header[module._HAND] not in hands


def test_the_index_takes_many(node: Node) -> None:
    table, chance = node.worker(), random.Random(5)
    spots = [spot("day", 10, str(number), calendar="day") for number in range(3000)]
    for one in spots:
        table.settle(held(table, (one, 1)).number, [1], NOON)
    chance.shuffle(spots)
    for one in spots[:500]:
        one.at = 0
        assert used(table, one) == [1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of few cells, half as many as its index has places."""
    monkeypatch.setattr(module, "_MAX_CELLS", 33)
    monkeypatch.setattr(module, "_INDEX", 64)


def entries(table: Table) -> list[int]:
    return table._index[:64].tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("small")
def test_looking_stays_short_however_many_come_and_go(node: Node, now: Now, seed: int) -> None:
    """Whoever comes for the first time is looked for past no trace of those that were there before; and nobody's use is lost."""
    table, chance = node.worker(), random.Random(seed)
    known: dict[str, list[float]] = {}
    for number in range(3000):
        now.go_on(chance.choice([0, 0, 4, 9]))
        second = now.ns / 1e9
        subject = chance.choice([f"new {number}", *list(known)[-9:]])
        one, times = minute(10**6, subject), known.setdefault(subject, [])
        if not any(59 <= second - at <= 61 for at in times):  # about then they leave the window
            assert used(table, one) == [sum(second - at < 60 for at in times)]
        with suppress(TableFull):
            table.settle(held(table, (one, 1)).number, [1], NOON)
            times.append(second)
    there = entries(table)
    assert sum(map(bool, there)) == 32 and len(set(there)) == 33, "each cell once, and nothing else"


@pytest.mark.usefixtures("small")
def test_what_an_older_version_left_in_the_index_goes(node: Node, now: Now) -> None:
    table = node.worker()
    spots = [minute(10, str(subject)) for subject in range(20)]
    for count, one in enumerate(spots):
        table.settle(held(table, (one, 1 + count % 9)).number, [1 + count % 9], NOON)
    for place, cell in enumerate(entries(table)):
        if cell == 0 and place % 2:
            table._index[place] = module._GONE
    again = node.worker(1)
    assert module._GONE not in entries(again) and sum(map(bool, entries(again))) == 20
    for each in (table, again):
        assert [used(each, minute(10, str(subject)))[0] for subject in range(20)] == [1 + count % 9 for count in range(20)]


@pytest.mark.parametrize("writes", range(45))
@pytest.mark.usefixtures("small")
def test_killed_while_the_index_changes(node: Node, now: Now, writes: int) -> None:
    other, dying = node.worker(0), node.worker(1)
    spots = [minute(10, str(subject)) for subject in range(32)]
    for one in spots[:16]:
        other.settle(held(other, (one, 1)).number, [1], NOON)
    now.go_on(61)
    for one in spots[16:]:
        other.settle(held(other, (one, 1)).number, [1], NOON)
    budget = Budget(writes)
    dying._index = Dying(dying._index, budget)  # type: ignore[assignment]  # a view that dies
    with suppress(KilledError):
        for subject in range(8):
            held(dying, (minute(10, f"new {subject}"), 1))
    assert [used(other, minute(10, str(subject)))[0] for subject in range(16, 32)] == [1] * 16
    for subject in range(8):
        one = minute(10, f"late {subject}")
        held(other, (one, 2))
        assert used(other, one) == [2]
    assert [used(other, minute(10, str(subject)))[0] for subject in range(16, 32)] == [1] * 16


@pytest.mark.parametrize("writes", range(0, 22, 3))
@pytest.mark.usefixtures("small")
def test_killed_while_the_index_is_made_anew(node: Node, writes: int) -> None:
    table = node.worker()
    for subject in range(20):
        held(table, (minute(10, str(subject)), 1))
    dying = node.worker(1)
    found = [cell for cell in entries(dying) if cell]
    dying._index = Dying(dying._index, Budget(writes))  # type: ignore[assignment]  # a view that dies
    with suppress(KilledError):
        dying._reindex(found)
    assert [used(table, minute(10, str(subject)))[0] for subject in range(20)] == [1] * 20
