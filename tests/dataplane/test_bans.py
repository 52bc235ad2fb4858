"""Bans told to control and lifted at its word: by whole tables of two workers, on a turned clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slmgate.dataplane import addresses as addresses_module
from slmgate.dataplane.addresses import PARTS, SHARED, SUBJECT, WORDS
from slmgate.dataplane.bans import lifted, told
from slmgate.dataplane.guard import TURNED_AWAY, Guard
from slmgate.link.messages import AskBans, Ban, Bans, LiftBan
from slmgate.policy.guard import GuardSpec
from tests.dataplane.test_guard import FAILURES, Clock, Kept, clock, guards

__all__ = ["clock", "guards"]  # fixtures
HERE, THERE, SIX = "203.0.113.7", "198.51.100.9", "2001:db8::9"


def fail(guard: Kept, address: str) -> None:
    visitor = guard.come(address)
    while not guard.failed(visitor):
        pass


def all_told(guard: Guard) -> dict[str, Ban]:
    parts = [told(guard, AskBans(part, part)) for part in range(PARTS)]
    assert [(part.number, part.parts) for part in parts] == [(number, PARTS) for number in range(PARTS)]
    return {ban.address: ban for part in parts for ban in part.bans}


def test_all_bans_are_told_wherever_they_stand(guards: Callable[..., Kept], clock: Clock) -> None:
    one, other = guards(0), guards(1)
    for address in (HERE, SIX):
        fail(one, address)
    one.come(THERE)
    clock.turn(100.5)
    expected = {address: Ban(address, 800, 1) for address in (HERE, "2001:db8::/64")}
    assert all_told(one) == all_told(other) == expected
    assert told(one, AskBans(1, -1)).bans == told(one, AskBans(1, PARTS)).bans == ()
    clock.turn(800)
    assert all_told(one) == {}


def test_a_lifted_ban_lets_in_at_every_worker(guards: Callable[..., Kept], clock: Clock) -> None:
    one, other = guards(0), guards(1)
    fail(one, SIX)
    other.tick()
    assert one.connected(SIX) is other.connected(SIX) is TURNED_AWAY
    assert other.kept_out()
    assert lifted(other, LiftBan(5, "2001:db8:0:0::77")) == Bans(5, (Ban("2001:db8::/64", 900, 1),))
    assert other.connected(SIX) is not TURNED_AWAY
    one.tick()
    assert one.connected(SIX) is not TURNED_AWAY
    assert one.kept_out() == other.kept_out() == []
    fail(one, SIX)  # what was wrong before is forgotten: the first ban again
    assert all_told(one)["2001:db8::/64"] == Ban("2001:db8::/64", 900, 1)


@pytest.mark.parametrize("address", [THERE, "203.0.113.8", "nobody", "", "2001:db8::/64"])
def test_who_is_not_banned_stays_as_he_is(guards: Callable[..., Kept], address: str) -> None:
    guard = guards()
    fail(guard, HERE)
    before = guard._table.words.tolist() if guard._table else []
    assert lifted(guard, LiftBan(1, address)) == Bans(1)
    assert guard._table is not None and guard._table.words.tolist() == before
    assert list(all_told(guard)) == [HERE]


def test_a_guard_that_bans_nobody_tells_so(guards: Callable[..., Kept]) -> None:
    guard = guards(spec=GuardSpec(connections=5))
    assert all_told(guard) == {}
    assert lifted(guard, LiftBan(1, HERE)) == Bans(1)
    fail(banning := guards(1), HERE)
    banning.update(GuardSpec(connections=5))
    assert all_told(banning) == {}
    banning.update(GuardSpec(failed_auth=FAILURES, ban=900))
    assert list(all_told(banning)) == [HERE]


def test_the_place_of_a_lifted_ban_may_be_forgotten(guards: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of anybody without connections: it does not stay taken."""
    monkeypatch.setattr(addresses_module, "SETS", 1)
    guard = guards()
    fail(guard, HERE)
    visitor = guard.visitor(HERE)
    assert visitor is not None
    guard.left(visitor)
    lifted(guard, LiftBan(1, HERE))
    for number in range(8):
        guard.left(guard.come(f"198.51.100.{number}"))
    assert guard._table is not None
    assert all(word != visitor.subject for word in guard._table.words[SUBJECT : SHARED * WORDS : WORDS].tolist())
