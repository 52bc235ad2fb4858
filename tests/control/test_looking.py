"""Asking workers what is used: in small questions, one worker after the other, until one of them tells.

Peers are fakes that answer as a test has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slmgate.control import looking as module
from slmgate.control.looking import AT_ONCE, SECONDS, Looking, NobodyLooks
from slmgate.link.messages import AskBans, Ban, Bans, LiftBan, Look, Looked
from slmgate.terms import LimitSpec
from tests.tools.fakes import Clock, FakeLoop

ONE, OTHER = (LimitSpec(name=name, text=name, identity=name, unit="requests", amount=9, seconds=60) for name in ("a", "b"))


class FakePeer:
    """A worker. `tells`: that it answers, with the length of each place's text as what is used."""

    def __init__(self, looking: Looking, tells: bool = True, broken: bool = False) -> None:
        self.asked: list[Look] = []
        self._looking, self.tells, self.broken = looking, tells, broken
        looking.joined(self)  # type: ignore[arg-type]  # a peer that is none

    def send(self, look: Look) -> None:
        self.asked.append(look)
        if self.tells:
            found = tuple((len(whose), look.specs[number].amount) for number, whose in look.places)
            self._looking.told(Looked(look.number, None if self.broken else found))


@pytest.fixture(autouse=True)
def _unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pack", lambda message: message)


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    made = FakeLoop(Clock())
    yield made
    made.shut()


def asked(loop: FakeLoop, looking: Looking, *places: Any, after: float = 0.0) -> Any:
    task = loop.create_task(looking.ask(places))
    loop.settle()
    if after:
        loop.turn(after)
    return task.result()


def test_one_worker_is_asked(loop: FakeLoop) -> None:
    looking = Looking()
    first, second = FakePeer(looking), FakePeer(looking)
    assert asked(loop, looking, (ONE, "k1"), (OTHER, ""), (ONE, "k22")) == [(2, 9), (0, 9), (3, 9)]
    assert first.asked == [Look(1, (ONE, OTHER), ((0, "k1"), (1, ""), (0, "k22")))]
    assert second.asked == []
    assert asked(loop, looking) == []


def test_many_are_asked_for_in_small_questions(loop: FakeLoop) -> None:
    looking = Looking()
    peer = FakePeer(looking)
    assert asked(loop, looking, *[(ONE, "x" * number) for number in range(AT_ONCE + 1)]) == [(n, 9) for n in range(AT_ONCE + 1)]
    assert [len(look.places) for look in peer.asked] == [AT_ONCE, 1]


def test_the_next_is_asked_where_one_does_not_tell(loop: FakeLoop) -> None:
    looking = Looking()
    silent, broken, good = FakePeer(looking, tells=False), FakePeer(looking, broken=True), FakePeer(looking)
    assert asked(loop, looking, (ONE, "k1"), after=SECONDS + 0.1) == [(2, 9)]
    assert [len(peer.asked) for peer in (silent, broken, good)] == [1, 1, 1]
    looking.told(Looked(silent.asked[0].number, ((5, 5),)))  # too late: nobody waits for it any more


def test_the_next_is_asked_at_once_where_one_leaves(loop: FakeLoop) -> None:
    looking = Looking()
    leaves, stays = FakePeer(looking, tells=False), FakePeer(looking)
    task = loop.create_task(looking.ask([(ONE, "k1")]))
    loop.settle()
    assert (len(leaves.asked), len(stays.asked), task.done()) == (1, 0, False)
    looking.left(leaves)  # type: ignore[arg-type]  # a peer that is none
    loop.settle()
    assert task.result() == [(2, 9)]
    looking.left(leaves)  # type: ignore[arg-type]  # once more: nothing


def test_nobody_tells(loop: FakeLoop) -> None:
    looking = Looking()
    with pytest.raises(NobodyLooks, match="Try again"):
        asked(loop, looking, (ONE, "k1"))
    FakePeer(looking, broken=True)
    with pytest.raises(NobodyLooks):
        asked(loop, looking, (ONE, "k1"))


class Keeper(FakePeer):
    """A worker that knows of bans, in three parts."""

    def send(self, asked: AskBans | LiftBan | Look) -> None:
        if isinstance(asked, AskBans):
            self._looking.told(Bans(asked.number, (Ban(f"10.0.0.{asked.part}", 9, 1),), 3))
        elif isinstance(asked, LiftBan):
            self._looking.told(Bans(asked.number, (Ban(asked.address, 9, 1),) if asked.address == "10.0.0.1" else ()))


def test_bans_are_asked_for_in_parts(loop: FakeLoop) -> None:
    looking = Looking()
    task = loop.create_task(looking.bans())
    loop.settle()
    with pytest.raises(NobodyLooks, match="who is banned"):
        task.result()
    Keeper(looking)
    task = loop.create_task(looking.bans())
    loop.settle()
    assert [ban.address for ban in task.result()] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(("address", "found"), [("10.0.0.1", Ban("10.0.0.1", 9, 1)), ("10.0.0.2", None)])
def test_a_ban_is_lifted(loop: FakeLoop, address: str, found: Ban | None) -> None:
    looking = Looking()
    Keeper(looking)
    task = loop.create_task(looking.lift(address))
    loop.settle()
    assert task.result() == found
