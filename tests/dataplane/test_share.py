"""Shares: what is given out of them at their edges, and random histories of several workers that have some in hand.

In the histories every worker is a `Limiter` over one table, with an invented clock. They are asked for more than there is, their
requests end as chance wills, and some workers are killed: nothing may be over in any window, and in the end what stands in the
table is what the requests came to. Real processes, killed at random, are in tests/system.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from slmgate.dataplane import table as module
from slmgate.dataplane.limiter import BUSY, Account, Given, Hold, Limiter
from slmgate.dataplane.share import COMPLETION, CONCURRENT, ENGINE, LANES, MOST, PLENTY, REQUESTS, Share
from slmgate.dataplane.table import Shared, Spot, Table, TableFull
from slmgate.policy.charges import ENGINE_HOLD, Charges, Tariff
from slmgate.policy.limiting import SECOND
from slmgate.policy.limits import LimitSpec, Price
from slmgate.policy.specs import SnapshotSpec
from slmgate.terms import Principal, Usage
from tests.tools.pace import Clock, over_bucket
from tests.tools.windows import Span, most

ENOUGH = 100_000
"""An amount of which shares are given."""


def limit(text: str, unit: str = "requests", amount: int = ENOUGH, **fields: Any) -> LimitSpec:
    if unit != "concurrent" and "calendar" not in fields:
        fields = {"seconds": 60} | fields
    return LimitSpec(name=text, text=text, identity=text, unit=unit, amount=amount, **fields)  # type: ignore[arg-type]  # a table of fields


def account(*limits: LimitSpec, price: Price | None = None) -> Account:
    return Account(Tariff([(one, "k") for one in limits], "gold", "EUR", price or Price()))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "_clock", made)
    return made


@pytest.fixture
def limiter(tmp_path: Path, clock: Clock) -> Limiter:
    return Limiter(tmp_path / "limits", 0, 2)


def taken(limiter: Limiter, one: Account, clock: Clock, prompt: int = 10, longest: int = 20) -> Hold:
    hold = limiter.take(one, prompt, longest, 1, clock.second)
    assert isinstance(hold, Hold), hold
    return hold


def busy(limiter: Limiter, one: Account, clock: Clock) -> Share:
    """The account's share, after enough requests that are over."""
    for _ in range(BUSY):
        limiter.settle(taken(limiter, one, clock), Usage(10, 20), 5, clock.second, forwarded=True)
    assert one.share is not None
    assert one.share.open
    return one.share


def used(limiter: Limiter, one: Account, clock: Clock) -> list[int]:
    assert limiter._table is not None
    return [amount for amount, _ in limiter._table.look(one.spots, clock.second)]


# At its edges


@pytest.mark.parametrize(
    ("unit", "amount"), [("requests", 1), ("tokens", 30), ("prompt_tokens", 10), ("completion_tokens", 20), ("cost", 70)]
)
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_as_much_as_there_is(unit: str, amount: int, more: int) -> None:
    share = Share(account(limit("l", unit), price=Price(3, 2)).tariff)
    share.filled(Shared(1, [amount + more], [0], [0]), memoryview(bytearray(32)).cast("q"))
    share.ends = 5.0
    given = (amount + more) // amount
    assert [share.take(10, 20, 4.0) for _ in range(3)].count(True) == given
    assert share.served == given


@pytest.mark.parametrize(("unit", "which", "each"), [("concurrent", CONCURRENT, 1), ("engine_time", ENGINE, ENGINE_HOLD)])
def test_as_many_at_once_as_there_is_room_for(unit: str, which: int, each: int) -> None:
    share = Share(account(limit("l", unit)).tariff)
    share.filled(Shared(1, [2 * each], [0], [0]), memoryview(bytearray(32)).cast("q"))
    share.ends = 5.0
    assert [share.take(0, 0, 4.0) for _ in range(3)] == [True, True, False]
    assert (share.left[which], share.live) == (0, 2)
    assert repr(share) == "<Share 1: 2 live, 2 served>"


@pytest.mark.parametrize(("second", "gives"), [(4.9, True), (5.0, False), (5.1, False)])
def test_it_ends(second: float, gives: bool) -> None:
    share = Share(account(limit("l")).tariff)
    share.filled(Shared(1, [10], [0], [0]), memoryview(bytearray(32)).cast("q"))
    share.ends = 5.0
    assert share.take(1, 1, second) is gives


def test_an_empty_share_gives_nothing() -> None:
    share = Share(account(limit("l")).tariff)
    share.ends = 5.0
    assert not share.take(0, 0, 1.0)
    assert repr(share) == "<Share -1: 0 live, 0 served, closed>"
    assert share.live_measures() == [0, 0, 0, 0]


def test_units_without_a_limit_have_plenty() -> None:
    share = Share(account(limit("l")).tariff)
    share.filled(Shared(1, [10], [0], [0]), memoryview(bytearray(32)).cast("q"))
    assert share.left[COMPLETION] == PLENTY
    assert share.left[REQUESTS] == 10


# In the limiter's hands


def test_a_busy_account_is_given_a_share(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("r"), limit("t", "tokens"))
    for _ in range(BUSY):
        assert not isinstance(taken(limiter, one, clock), Given)
    assert isinstance(taken(limiter, one, clock), Given)


def test_a_quiet_one_is_not(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("r"))
    for _ in range(3):
        for _ in range(BUSY - 1):
            assert not isinstance(taken(limiter, one, clock), Given)
        limiter.tick(clock.second)
    assert one.share is None


@pytest.mark.parametrize("amount", [1, 7, 100, 2 * BUSY * 16 - 1])
def test_none_of_a_limit_with_little_left(limiter: Limiter, clock: Clock, amount: int) -> None:
    one = account(limit("r", amount=amount), limit("plenty"))
    holds = [limiter.take(one, 1, 1, 1, clock.second) for _ in range(amount + 5)]
    assert sum(isinstance(hold, Hold) for hold in holds) == amount
    assert not any(isinstance(hold, Given) for hold in holds[:BUSY])


def test_what_is_told_is_what_the_table_would_tell(limiter: Limiter, clock: Clock) -> None:
    """One request after the other: the same figures, whether a share gave or the table."""
    one = account(limit("r"), limit("t", "tokens"), limit("d", amount=1000, calendar="day"))
    for number in range(1, 60):
        hold = taken(limiter, one, clock)
        text = hold.fields.decode()
        assert f"x-ratelimit-remaining-requests: {1000 - number}\r\n" in text
        assert f"x-ratelimit-remaining-tokens: {ENOUGH - 29 * (number - 1) - 30}\r\n" in text
        assert f'"r";r={ENOUGH - number};t=60, ' in text
        limiter.settle(hold, Usage(10, 19), 5, clock.second, forwarded=True)
        if number % 7 == 0:
            limiter.tick(clock.second)
    assert isinstance(hold, Given) or number % 7 == 3


def test_it_goes_back_when_nobody_asks(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("r"), limit("t", "tokens"), limit("n", "concurrent"))
    share = busy(limiter, one, clock)
    assert used(limiter, one, clock)[0] > BUSY
    limiter.tick(clock.second)
    limiter.tick(clock.second)
    assert used(limiter, one, clock) == [BUSY, 30 * BUSY, 0]
    assert (share.open, share.number, limiter._sharing) == (False, -1, {})


def test_live_requests_keep_what_they_have(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("r"), limit("t", "tokens"), limit("n", "concurrent"))
    busy(limiter, one, clock)
    hold = taken(limiter, one, clock, 100, 200)
    assert isinstance(hold, Given)
    for _ in range(3):
        limiter.tick(clock.second)
        clock.go(SECOND)
    assert used(limiter, one, clock) == [BUSY + 1, 30 * BUSY + 300, 1]
    limiter.settle(hold, Usage(100, 50), 5, clock.second, forwarded=True)
    limiter.tick(clock.second)
    assert used(limiter, one, clock) == [BUSY + 1, 30 * BUSY + 150, 0]
    assert limiter._sharing == {}


def test_one_that_never_went_on_is_charged_nothing(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("r"), limit("t", "tokens"), limit("n", "concurrent"), limit("e", "engine_time", 10**12))
    busy(limiter, one, clock)
    hold = taken(limiter, one, clock)
    assert isinstance(hold, Given)
    limiter.settle(hold, Usage(10, 20), 77, clock.second, forwarded=False)
    limiter.tick(clock.second)
    limiter.tick(clock.second)
    assert used(limiter, one, clock) == [BUSY, 30 * BUSY, 0, 5 * BUSY]


@pytest.mark.parametrize("said", [10**6, 10**30])
def test_what_was_missed_is_owed_at_once(limiter: Limiter, clock: Clock, said: int) -> None:
    one = account(limit("t", "tokens"), limit("r"))
    share = busy(limiter, one, clock)
    limiter.settle(taken(limiter, one, clock), Usage(10, said), 5, clock.second, forwarded=True)
    assert not share.open
    assert used(limiter, one, clock)[0] == 30 * BUSY + 10 + min(said, MOST)
    assert not isinstance(limiter.take(one, 10, 20, 1, clock.second), Hold)


def test_a_larger_one_than_the_share_has_room_for(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("t", "tokens"))
    busy(limiter, one, clock)
    hold = taken(limiter, one, clock, 1000, 50_000)
    assert not isinstance(hold, Given)
    assert isinstance(taken(limiter, one, clock), Given)


def test_it_grows_with_what_is_asked(limiter: Limiter, clock: Clock) -> None:
    one = account(limit("r", amount=10**9), limit("n", "concurrent", 10**6))
    share = busy(limiter, one, clock)
    given = share.left[REQUESTS]
    for _ in range(2000):
        assert isinstance(taken(limiter, one, clock), Given)
    assert share.live == 2000
    assert share.left[REQUESTS] + share.served > 4 * given
    assert used(limiter, one, clock)[1] >= 2000


def test_a_reload_takes_it_back(limiter: Limiter, clock: Clock) -> None:
    charges = [Charges(SnapshotSpec(generation=n, limits=(limit("r"),))) for n in range(2)]
    who = Principal(id="k", name="k")
    old = limiter.account(charges[0], who, "m", "r", "")
    busy(limiter, old, clock)
    live = taken(limiter, old, clock)
    new = limiter.account(charges[1], who, "m", "r", "")
    assert new is not old
    assert new.share is None
    for _ in range(BUSY):
        taken(limiter, old, clock)
    limiter.tick(clock.second)
    assert used(limiter, new, clock) == [2 * BUSY + 1]
    limiter.settle(live, Usage(), 0, clock.second, forwarded=True)
    limiter.tick(clock.second)
    assert used(limiter, new, clock) == [2 * BUSY + 1]


def test_a_full_table(limiter: Limiter, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    one = account(limit("r"), limit("n", "concurrent"))
    share = busy(limiter, one, clock)
    live = taken(limiter, one, clock)

    def full(*_: Any) -> None:
        raise TableFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(limiter._table, "share", full)
        limiter.tick(clock.second)
        assert not isinstance(taken(limiter, one, clock), Given), "of a share that cannot be charged nothing is given"
        limiter.settle(live, Usage(), 0, clock.second, forwarded=True)
    limiter.tick(clock.second)
    assert used(limiter, one, clock) == [BUSY + 2, 1]
    assert not share.open


def test_a_day_ends(limiter: Limiter, clock: Clock) -> None:
    """What was taken of the day before is not charged to the next one; what goes on is held of it."""
    one = account(limit("d", calendar="day"), limit("t", "tokens", calendar="day"))
    midnight = (int(clock.second) // 86_400 + 1) * 86_400
    clock.go((midnight - 0.1 - clock.second) * SECOND)
    busy(limiter, one, clock)
    done, live = taken(limiter, one, clock), taken(limiter, one, clock)
    assert isinstance(live, Given)
    limiter.settle(done, Usage(10, 20), 5, clock.second, forwarded=True)
    clock.go(0.2 * SECOND)
    assert not isinstance(taken(limiter, one, clock), Given), "its day is over"
    limiter.tick(clock.second)
    assert used(limiter, one, clock) == [1 + 1, 30 + 30]
    limiter.settle(live, Usage(10, 20), 5, clock.second, forwarded=True)
    limiter.tick(clock.second)
    assert used(limiter, one, clock) == [2, 60]


def test_a_worker_that_dies_with_a_share(tmp_path: Path, clock: Clock) -> None:
    """Charged is what its requests had come to, of those that were over and of those that were not."""
    price = Price(3, 2)
    one = account(
        limit("r"),
        limit("t", "tokens"),
        limit("c", "cost", 10**9, calendar="month"),
        limit("n", "concurrent"),
        limit("b", "tokens", burst=ENOUGH, seconds=3600),
        limit("e", "engine_time", 10**12),
        price=price,
    )
    dying = Limiter(tmp_path / "limits", 1, 2)
    busy(dying, one, clock)
    over, live = taken(dying, one, clock), taken(dying, one, clock, 7, 100)
    assert isinstance(live, Given)
    dying.settle(over, Usage(9, 11), 5, clock.second, forwarded=True)
    dying.note(live, 13, 400)
    dying.note(live, 30, 700)
    clock.go(SECOND)
    living = Limiter(tmp_path / "limits", 0, 2)
    living.prepare(Charges(SnapshotSpec(generation=1, limits=(limit("r"),))))
    assert used(living, one, clock)[3] > 1
    Table(tmp_path / "limits", 1, 2).close()
    tokens = 30 * BUSY + 20 + 37
    cost = BUSY * (3 * 10 + 2 * 20) + 3 * 9 + 2 * 11 + 3 * 7 + 2 * 30
    found = used(living, one, clock)
    assert found[:4] == [BUSY + 2, tokens, cost, 0]
    assert abs(found[4] - tokens) <= 100, "some of it has drained"
    assert found[5] == 5 * BUSY + 5 + 700


# Histories


class Asked:
    """A request that was let through: when, and what it came to."""

    def __init__(self, hold: Hold, at: int, prompt: int, completion: int) -> None:
        self.hold, self.at, self.prompt, self.completion = hold, at, prompt, completion
        self.noted = 0
        self.end: int | None = None
        self.forwarded = True


WORKERS = 3
LIMITS = (
    limit("requests", "requests", 3000, seconds=2),
    limit("tokens", "tokens", 60_000, seconds=3),
    limit("bucket", "requests", 1500, seconds=1, burst=2500),
    limit("drip", "completion_tokens", 10_000, seconds=1, burst=30_000),
    limit("prompts", "prompt_tokens", 2_000_000, calendar="day"),
    limit("at once", "concurrent", 900),
    limit("money", "cost", 40_000_000, calendar="day"),
)
PRICE = Price(3, 5)


class History:
    """`WORKERS` limiters over one table, what they let through and what that came to."""

    def __init__(self, path: Path, clock: Clock, seed: int) -> None:
        self.path, self.clock, self.chance = path, clock, random.Random(seed)
        self.workers = [self._worker(slot) for slot in range(WORKERS)]
        self.live: list[list[Asked]] = [[] for _ in range(WORKERS)]
        self.all: list[Asked] = []
        self.refused = self.given = 0
        self.ticked = clock.us

    def _worker(self, slot: int) -> tuple[Limiter, Account]:
        worker = Limiter(self.path, slot, WORKERS)
        worker.prepare(Charges(SnapshotSpec(generation=1, limits=LIMITS)))
        return worker, account(*LIMITS, price=PRICE)

    def step(self) -> None:
        slot = self.chance.randrange(WORKERS) if self.chance.random() < 0.3 else 0
        worker, one = self.workers[slot]
        deed = self.chance.random()
        if deed < 0.6:
            hold = worker.take(one, self.chance.randint(0, 20), self.chance.randint(1, 30), 1, self.clock.second)
            if isinstance(hold, Hold):
                self.given += isinstance(hold, Given)
                asked = Asked(hold, self.clock.us, hold.prompt, 0)
                self.live[slot].append(asked)
                self.all.append(asked)
            else:
                self.refused += 1
        elif deed < 0.9995 and self.live[slot]:
            self.settle(slot, self.live[slot].pop(self.chance.randrange(len(self.live[slot]))))
        elif deed >= 0.9995:
            self.die(slot)
        self.clock.go(self.chance.choice((0, 1, 100, 100, 100, 300)) * self.chance.random())
        if self.clock.us - self.ticked > SECOND // 4:
            self.tick()

    def tick(self) -> None:
        self.ticked = self.clock.us
        for slot, (worker, _) in enumerate(self.workers):
            worker.tick(self.clock.second)
            for asked in self.live[slot][:20]:
                asked.noted = self.chance.randint(asked.noted, max(asked.noted, 3))
                worker.note(asked.hold, min(asked.noted, self._most(asked)), 0)

    def _most(self, asked: Asked) -> int:
        """How many completion tokens were taken for it."""
        return asked.hold.held if isinstance(asked.hold, Given) else 1

    def settle(self, slot: int, asked: Asked) -> None:
        worker, _ = self.workers[slot]
        asked.end = self.clock.us
        asked.forwarded = self.chance.random() < 0.95
        asked.prompt = self.chance.randint(0, asked.hold.prompt) if asked.forwarded else 0
        asked.completion = self.chance.randint(0, self._most(asked)) if asked.forwarded else 0
        worker.settle(asked.hold, Usage(asked.prompt, asked.completion), 9, self.clock.second, forwarded=asked.forwarded)

    def die(self, slot: int) -> None:
        """kill -9 and its successor."""
        for asked in self.live[slot]:
            asked.completion, asked.end = min(asked.noted, self._most(asked)), self.clock.us
        self.live[slot] = []
        table = self.workers[slot][0]._table
        assert table is not None
        table.close()
        self.workers[slot] = self._worker(slot)

    def finish(self) -> list[int]:
        """Everything ends; what the table says is used then."""
        for slot in range(WORKERS):
            while self.live[slot]:
                self.settle(slot, self.live[slot].pop())
        self.tick()
        self.tick()
        worker, one = self.workers[0]
        assert all(not each._sharing for each, _ in self.workers)
        assert worker._table is not None
        return [amount for amount, _ in worker._table.look(one.spots, self.clock.second)]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_over_and_nothing_is_lost(tmp_path: Path, clock: Clock, seed: int) -> None:
    history = History(tmp_path / "limits", clock, seed)
    for _ in range(25_000):
        history.step()
    assert history.given > len(history.all) / 4, "void: hardly anything was given out of shares"
    assert history.refused > 50, "void: hardly anything was refused"
    found = history.finish()
    went_on = [asked for asked in history.all if asked.forwarded]
    requests = [(asked.at, 1) for asked in went_on]
    tokens = [(asked.at, asked.prompt + asked.completion) for asked in history.all]
    assert most(requests, 2 * SECOND) <= 3000
    assert most(tokens, 3 * SECOND) <= 60_000
    assert over_bucket(requests, 2500, 1500, SECOND) <= 0
    assert over_bucket([(asked.at, asked.completion) for asked in history.all], 30_000, 10_000, SECOND) <= 0
    prompts, completions = sum(asked.prompt for asked in history.all), sum(asked.completion for asked in history.all)
    assert found[4:] == [prompts, 0, 3 * prompts + 5 * completions]
    spans = [Span(asked.at, asked.end if asked.end is not None else clock.us) for asked in history.all]
    steps = sorted(step for first, last, _ in spans for step in ((first, 1), (last, -1)) if last > first)
    together = largest = 0
    for _, step in steps:
        together += step
        largest = max(largest, together)
    assert largest <= 900


def test_lanes_and_the_spot_of_an_account() -> None:
    one = account(limit("r"))
    share = Share(one.tariff)
    (part,) = share.parts(one.spots, (10, 20))
    assert isinstance(part.spot, Spot)
    assert (part.wish, part.keep, part.charge) == (LANES, 0, 0)
    share.run_out()
    assert share.parts(one.spots, (10, 20))[0].wish == 2 * LANES
    for _ in range(9):
        share.tick()
    assert share.parts(one.spots, (10, 20))[0].wish == LANES
    assert share.parts(one.spots, None)[0].wish == 0
