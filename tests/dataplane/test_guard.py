"""The guard on a turned clock: each bound at it and one past it, bans and their growth, two workers, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slmgate.dataplane import addresses as addresses_module
from slmgate.dataplane.addresses import PLACES, RING, SHARED, SUBJECT, WORDS
from slmgate.dataplane.guard import AT_ONCE, RECORDED, RECORDED_EACH_SECOND, REMEMBERED, SIEVED, TURNED_AWAY, Guard, Visitor
from slmgate.dataplane.tally import Tally
from slmgate.policy.guard import GuardSpec, RateSpec, subject_of
from slmgate.policy.networks import number_of
from slmgate.terms import Refuse

HERE, THERE = "203.0.113.7", "198.51.100.9"
REQUESTS = RateSpec(100, 1, 200, "100 requests/second burst 200")
FAILURES = RateSpec(10, 60, 10, "10 requests/minute")


class Clock:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 10**15
        patch.setattr(addresses_module, "_clock", lambda: self.now)

    def turn(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


class Kept(Guard):
    """Notes what it says and whom it banishes."""

    def __init__(self, path: Path | None, slot: int = 0, spec: GuardSpec | None = None) -> None:
        self.said: list[str] = []
        self.banished: list[int] = []
        self.tally = Tally()
        super().__init__(path, (slot, 2), self.tally, self.said.append, self.banished.extend)
        self.update(spec or GuardSpec(requests=REQUESTS, connections=5, failed_auth=FAILURES, ban=900))

    def come(self, address: str = HERE) -> Visitor:
        visitor = self.connected(address)
        assert visitor is not None and visitor is not TURNED_AWAY
        return visitor

    def asked(self, visitor: Visitor, times: int) -> int:
        """How many of so many requests get through."""
        return sum(visitor.asks() is None for _ in range(times))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def guards(tmp_path: Path, clock: Clock) -> Callable[..., Kept]:
    """Guards of workers of one gate."""
    return lambda slot=0, spec=None: Kept(tmp_path / "addresses", slot, spec)


def test_nothing_is_counted_unless_it_is_asked_for(tmp_path: Path) -> None:
    guard = Kept(tmp_path / "addresses", spec=GuardSpec())
    assert guard.connected(HERE) is None
    guard.tick()
    assert guard.kept_out() == []
    assert not (tmp_path / "addresses").exists()


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.8.8.8", "::1", "10.0.0.3%eth0"])
def test_the_exempt(guards: Callable[..., Kept], address: str) -> None:
    guard = guards(spec=GuardSpec(connections=1, exempt=("127.0.0.0/8", "::1", "10.0.0.0/8")))
    assert [guard.connected(address) for _ in range(3)] == [None] * 3
    assert guard.connected("::2") is not None


def test_who_has_no_address_any_more_is_not_let_in(tmp_path: Path) -> None:
    """A client that sends a request and resets the connection at once would be counted as nobody."""
    assert Kept(tmp_path / "addresses", spec=GuardSpec()).connected("") is TURNED_AWAY


@pytest.mark.parametrize("burst", [1, 2, 15, 16, 200, 5000])
def test_requests_at_the_limit_and_one_past_it(guards: Callable[..., Kept], clock: Clock, burst: int) -> None:
    rate = RateSpec(100, 1, burst, f"100 requests/second burst {burst}")
    guard = guards(spec=GuardSpec(requests=rate))
    visitor = guard.come()
    assert guard.asked(visitor, burst + 5) == burst
    refused = visitor.asks()
    assert refused == Refuse(
        "rate_limit_exceeded",
        f"Your address may make {rate.text}. Try again in 1 s.",
        rule="guard.per_ip.requests",
        retry_after=1,
    )
    assert guard.tally.guarded == 6
    clock.turn(0.01)
    assert guard.asked(visitor, 2) == 1
    assert guard.asked(guard.come(THERE), 1) == 1, "another address is another"


def test_two_workers_give_no_more_than_one(guards: Callable[..., Kept]) -> None:
    one, other = guards(0), guards(1)
    mine, others = one.come(), other.come()
    assert one.asked(mine, 150) == 150
    admitted = 150 + other.asked(others, 200) + one.asked(mine, 200)
    assert REQUESTS.burst - AT_ONCE < admitted <= REQUESTS.burst


def test_it_is_asked_seldom_while_there_is_plenty(guards: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guards(spec=GuardSpec(requests=RateSpec(1000, 1, 2000, "")))
    visitor = guard.come()
    asked: list[Visitor] = []

    def more(who: Visitor) -> Refuse | None:
        asked.append(who)
        return Guard.more(guard, who)

    monkeypatch.setattr(guard, "more", more)
    assert guard.asked(visitor, 640) == 640
    assert len(asked) == 640 // AT_ONCE


@pytest.mark.parametrize("bound", [1, 5])
def test_connections_at_the_bound_and_one_past_it(guards: Callable[..., Kept], bound: int) -> None:
    one, other = (guards(slot, GuardSpec(connections=bound)) for slot in (0, 1))
    one.tick()
    other.tick()
    inside = [(one, one.come()) for _ in range(bound // 2)] + [(other, other.come()) for _ in range(bound - bound // 2)]
    for guard in (one, other):
        guard.tick()
        assert guard.connected(HERE) is TURNED_AWAY
        assert guard.tally.turned_away == 1
    one.come(THERE)
    guard, visitor = inside.pop()
    guard.left(visitor)
    one.come()
    assert other.connected(HERE) is TURNED_AWAY


def test_new_connections(guards: Callable[..., Kept], clock: Clock) -> None:
    guard = guards(spec=GuardSpec(new_connections=RateSpec(10, 1, 3)))
    for _ in range(3):
        guard.left(guard.come())
    assert guard.connected(HERE) is TURNED_AWAY
    clock.turn(0.1)
    guard.come()
    assert guard.connected(HERE) is TURNED_AWAY


def test_new_connections_of_all_together(guards: Callable[..., Kept], clock: Clock) -> None:
    one, other = (guards(slot, GuardSpec(all_new_connections=RateSpec(10, 1, 3), exempt=("127.0.0.1",))) for slot in (0, 1))
    one.come(HERE)
    other.come(THERE)
    one.come(THERE)
    assert one.connected("192.0.2.1") is TURNED_AWAY
    assert other.connected("192.0.2.2") is TURNED_AWAY
    assert one.connected("127.0.0.1") is None
    clock.turn(0.1)
    other.come("192.0.2.3")


@pytest.mark.parametrize("limit", [1, 10])
def test_a_ban_one_past_the_limit(guards: Callable[..., Kept], clock: Clock, limit: int) -> None:
    spec = GuardSpec(requests=REQUESTS, failed_auth=RateSpec(limit, 60, limit, ""), ban=900)
    one, other = guards(0, spec), guards(1, spec)
    here, there = one.come(), other.come()
    assert [one.failed(here) for _ in range(limit)] == [False] * limit
    assert one.connected(HERE) is here
    assert one.failed(here)
    assert one.tally.bans == 1
    assert one.banished == [here.subject]
    assert one.connected(HERE) is TURNED_AWAY
    assert one.failed(here), "it is banned, and not once more"
    assert other.connected(HERE) is TURNED_AWAY, "what the table says counts at once"
    other.tick()
    assert other.banished == [there.subject]
    for visitor in (here, there):
        refused = visitor.asks()
        assert refused is not None
        assert (refused.code, refused.retry_after, refused.rule) == ("rate_limit_exceeded", 900, "guard.per_ip.failed_auth")
    one.come(THERE)
    assert one.kept_out() == other.kept_out() == [number_of(HERE)]
    clock.turn(899.9)
    assert other.connected(HERE) is TURNED_AWAY
    clock.turn(0.2)
    assert one.kept_out() == []
    assert one.come().asks() is None
    other.come()


def test_bans_grow(guards: Callable[..., Kept], clock: Clock) -> None:
    guard = guards(spec=GuardSpec(failed_auth=RateSpec(1, 60, 1, ""), ban=900))
    for seconds in (900, 1800, 3600):
        visitor = guard.come()
        assert [guard.failed(visitor) for _ in range(2)] == [False, True]
        clock.turn(seconds - 1)
        assert guard.connected(HERE) is TURNED_AWAY
        clock.turn(2)


def test_failures_drain(guards: Callable[..., Kept], clock: Clock) -> None:
    guard = guards()
    visitor = guard.come()
    for _ in range(100):
        assert not guard.failed(visitor)
        clock.turn(6)


def test_a_ban_outlives_the_gate(guards: Callable[..., Kept]) -> None:
    one = guards()
    visitor = one.come()
    assert [one.failed(visitor) for _ in range(11)][-1]
    later = guards(1)
    assert later.connected(HERE) is TURNED_AWAY
    later.tick()
    assert later.kept_out() == [number_of(HERE)]


def test_bans_mean_nothing_where_nobody_is_banned(guards: Callable[..., Kept]) -> None:
    guard = guards()
    visitor = guard.come()
    assert [guard.failed(visitor) for _ in range(11)][-1]
    guard.update(GuardSpec(requests=REQUESTS))
    assert not guard.failed(visitor)
    assert visitor.asks() is None
    assert guard.come().asks() is None
    assert guard.kept_out() == []


def test_who_becomes_exempt(guards: Callable[..., Kept]) -> None:
    guard = guards()
    visitor = guard.come()
    assert [guard.failed(visitor) for _ in range(11)][-1]
    guard.update(GuardSpec(requests=REQUESTS, failed_auth=FAILURES, exempt=("203.0.113.0/24",)))
    assert guard.connected(HERE) is None
    assert guard.asked(visitor, 1000) == 1000
    assert guard.kept_out() == []


def test_who_is_exempt_in_a_banned_network(guards: Callable[..., Kept]) -> None:
    """A neighbour's ban is one of the whole /64, and must not reach the one address of it that is exempt: a proxy, say."""
    proxy, neighbour = "2001:db8::10", "2001:db8::66"
    guard = guards(spec=GuardSpec(requests=REQUESTS, failed_auth=FAILURES, exempt=(proxy,)))
    visitor = guard.come(neighbour)
    assert [guard.failed(visitor) for _ in range(11)][-1]
    assert guard.connected(proxy) is None
    assert guard.connected(neighbour) is TURNED_AWAY
    assert guard.kept_out() == [], "the kernel would drop the proxy's packets too"


def test_one_address_of_a_network_that_becomes_exempt(guards: Callable[..., Kept]) -> None:
    guard = guards()
    one, other = guard.come("2001:db8::10"), guard.come("2001:db8::11")
    guard.update(GuardSpec(requests=RateSpec(1, 60, 1, ""), exempt=("2001:db8::10",)))
    assert guard.asked(one, 1000) == 1000
    assert guard.asked(other, 1000) == 1


def test_a_narrower_limit_holds_at_once(guards: Callable[..., Kept]) -> None:
    guard = guards(spec=GuardSpec(connections=9))
    visitor = guard.come()
    assert guard.asked(visitor, 1000) == 1000
    guard.update(GuardSpec(requests=RateSpec(1, 60, 1, "")))
    assert guard.asked(visitor, 10) == 1
    guard.left(visitor)


def test_an_address_that_a_proxy_says(guards: Callable[..., Kept]) -> None:
    """It has no connection of its own, and the same limits."""
    guard = guards()
    visitor = guard.visitor(HERE)
    assert visitor is guard.visitor(HERE)
    assert visitor is not None
    assert guard.asked(visitor, 300) == 200
    assert [guard.failed(visitor) for _ in range(11)][-1]
    refused = visitor.asks()
    assert refused is not None
    assert refused.rule == "guard.per_ip.failed_auth"


def test_of_one_network(guards: Callable[..., Kept]) -> None:
    guard = guards(spec=GuardSpec(requests=RateSpec(1, 60, 20, "")))
    admitted = sum(guard.asked(guard.come(f"2001:db8::{number:x}"), 1) for number in range(1, 100))
    assert admitted == 20


def test_a_million_addresses_are_not_remembered(guards: Callable[..., Kept]) -> None:
    guard = guards()
    stays = guard.come()
    for number in range(3 * REMEMBERED):
        visitor = guard.come(f"10.1.{number >> 8}.{number & 255}")
        guard.left(visitor)
    assert len(guard._visitors) <= REMEMBERED + 2
    assert guard.connected(HERE) is stays


def test_who_finds_no_place_is_counted_with_the_others(guards: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guards(spec=GuardSpec(requests=RateSpec(1, 60, 3, ""), connections=1, failed_auth=RateSpec(1, 60, 1, "")))
    assert guard._table is not None
    monkeypatch.setattr(guard._table, "place", lambda subject, now: SHARED)
    one, other = guard.come(HERE), guard.come(THERE)
    assert guard.asked(one, 2) + guard.asked(other, 5) == 3
    assert not any(guard.failed(one) for _ in range(5)), "nobody is banned for what others do"
    guard.knows(one)
    assert not one.known
    guard.left(one)
    assert guard._table.own[:8].tolist() == [0] * 8
    assert SHARED == PLACES


def test_who_loses_its_place_while_connected(guards: Callable[..., Kept]) -> None:
    """A worker that has just begun is not yet counted by the others: one of them may give a place of its visitors to another."""
    guard = guards()
    visitor = guard.come()
    table, lost = guard._table, visitor.place
    assert table is not None
    table.words[lost * WORDS + SUBJECT] = number_of(THERE)
    guard.come()
    guard.left(visitor)
    guard.left(visitor)
    assert visitor.place != lost
    assert (table.own[lost], table.own[visitor.place]) == (0, 0)


def test_whose_key_was_good_is_known(guards: Callable[..., Kept]) -> None:
    guard = guards()
    visitor = guard.come()
    guard.knows(visitor)
    guard.knows(visitor)
    assert visitor.known
    Kept(None, spec=GuardSpec()).knows(visitor)


def test_the_last_to_knock_are_kept_out_by_the_kernel(guards: Callable[..., Kept], clock: Clock) -> None:
    guard = guards(spec=GuardSpec(failed_auth=RateSpec(1, 60, 1, ""), ban=900))
    addresses = [f"10.2.{number >> 8}.{number & 255}" for number in range(SIEVED + 50)]
    for address in addresses:
        visitor = guard.come(address)
        guard.failed(visitor)
        guard.failed(visitor)
    assert guard.kept_out() == [number_of(address) for address in addresses[-SIEVED:]]
    assert guard.connected(addresses[0]) is TURNED_AWAY
    assert guard.kept_out()[-1] == number_of(addresses[0])
    for address in addresses * 2:
        assert guard.connected(address) is TURNED_AWAY
    assert len(guard.kept_out()) == SIEVED


def test_whoever_knocks_though_kept_out_comes_last(guards: Callable[..., Kept], clock: Clock) -> None:
    """The kernel had no room for it, as for many IPv6 networks: within a second it has, instead of for one that is silent."""
    guard = guards(spec=GuardSpec(failed_auth=RateSpec(1, 60, 1, ""), ban=900))
    addresses = [f"2001:db8:{number}::1" for number in range(10)]
    for address in addresses:
        visitor = guard.come(address)
        assert [guard.failed(visitor) for _ in range(2)] == [False, True]
    before = guard.kept_out()
    assert len(before) == 10
    for _ in range(10):
        assert guard.connected(addresses[3]) is TURNED_AWAY
        assert guard.kept_out() is before, "not anew for each that knocks"
    clock.turn(1.1)
    assert guard.kept_out() == [*before[:3], *before[4:], before[3]]


def test_a_lifted_ban_that_was_none_of_the_newest(guards: Callable[..., Kept]) -> None:
    """Whom the kernel keeps out since it has knocked is let in again by every worker, whichever of them lifts the ban."""
    strict = GuardSpec(failed_auth=RateSpec(1, 60, 1, ""), ban=900)
    one, other = guards(spec=strict), guards(1, strict)
    visitor = one.come()
    assert [one.failed(visitor) for _ in range(2)] == [False, True]
    other.tick()
    table = one._table
    assert table is not None
    for number in range(RING):
        table.tell_ban(subject_of(number_of("10.2.0.0") + number), table.now() + 10**12)
    one.tick()
    other.tick()
    assert visitor.subject not in one.bans
    assert one.connected(HERE) is other.connected(HERE) is TURNED_AWAY
    assert one.kept_out()[-1] == other.kept_out()[-1] == number_of(HERE)
    lifted = other.lift(subject_of(number_of(HERE)))
    assert lifted is not None
    one.tick()
    for guard in (one, other):
        assert number_of(HERE) not in guard.kept_out()
        assert subject_of(number_of(HERE)) not in guard.bans
    again = one.come()
    assert [one.failed(again) for _ in range(2)] == [False, True]
    other.tick()
    assert one.kept_out()[-1] == other.kept_out()[-1] == number_of(HERE)


@pytest.mark.parametrize("before", [0, RECORDED - 1, RECORDED])
def test_refusals_of_strangers_are_recorded_up_to_a_bound(guards: Callable[..., Kept], before: int) -> None:
    guard = guards()
    now = 1000.0
    assert [guard.records(now) for _ in range(before)] == [True] * before
    assert guard.records(now) is (before < RECORDED)
    assert [guard.records(now) for _ in range(RECORDED)].count(True) == max(0, RECORDED - before - 1)
    assert guard.tally.guarded == before + 1
    guard.each_second()
    assert guard.said == [f"{before + 1} requests of strangers were refused and have no receipt: there are too many"]
    assert [guard.records(now + 0.5) for _ in range(19)].count(True) == RECORDED_EACH_SECOND / 2
    assert [guard.records(now + 1e6) for _ in range(RECORDED + 1)].count(True) == RECORDED, "what was saved is bounded too"


def test_a_line_for_each_kind_a_second(guards: Callable[..., Kept]) -> None:
    guard = guards(spec=GuardSpec(requests=RateSpec(1, 60, 1, "1 request/minute"), connections=1, failed_auth=FAILURES))
    visitor = guard.come()
    for _ in range(500):
        visitor.asks()
        guard.connected(HERE)
    assert guard.said == []
    guard.each_second()
    assert guard.said == [
        "500 connections were closed, of addresses that have guard.per_ip.connections already, the last from 203.0.113.7",
        "499 requests were refused for guard.per_ip, the last from 203.0.113.7",
    ]
    guard.each_second()
    assert len(guard.said) == 2


@pytest.mark.usefixtures("clock")
def test_without_room_on_the_disk_each_worker_counts_by_itself(tmp_path: Path) -> None:
    (tmp_path / "addresses").mkdir()
    guard = Kept(tmp_path / "addresses")
    assert guard.said == ["the table of addresses cannot be had (Is a directory): each worker counts by itself"]
    assert guard.asked(guard.come(), 300) == 200


def test_what_it_looks_like(guards: Callable[..., Kept]) -> None:
    guard = guards()
    assert repr(guard.come()) == "<Visitor 203.0.113.7: 1 live>"
    assert repr(guard) == "<Guard: 1 addresses, 0 bans>"


def test_an_ordinary_request_costs_next_to_nothing(tmp_path: Path) -> None:
    """A subtraction, and the table once in many: measured against the call of an empty function, many times as dear."""
    guard = Kept(tmp_path / "addresses", spec=GuardSpec(requests=RateSpec(1_000_000, 1, 2_000_000, "")))
    visitor = guard.come()

    def spent(act: Callable[[], object]) -> float:
        best = 1e9
        for _ in range(5):
            begun = time.process_time()
            for _ in range(20_000):
                act()
            best = min(best, time.process_time() - begun)
        return best

    assert spent(visitor.asks) < 20 * spent(lambda: None)


def test_a_worker_that_has_only_just_begun_counts(guards: Callable[..., Kept]) -> None:
    """Its connections are counted by the others before they next look at who is there."""
    one = guards(0)
    other = guards(1)
    for guard in (other, other, other, one, one):
        guard.come()
    assert one.connected(HERE) is other.connected(HERE) is TURNED_AWAY
