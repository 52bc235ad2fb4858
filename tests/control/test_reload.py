"""A configuration into force or not at all: what workers are sent, when they count as agreed, what the operator is told.

Peers are fakes that note what is sent to them; configurations are loaded from text as in `tests/control/config`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slmgate.control import reload
from slmgate.control.config import Loaded, load_text
from slmgate.control.reload import CONFIRM_SECONDS, Publisher
from slmgate.link.messages import Hello, Publish
from slmgate.policy.snapshot import SnapshotSpec
from slmgate.terms import Key
from tests.tools.fakes import Clock, FakeLoop

MINIMAL = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'
TWO = 'models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}\n'
DIGEST = b"d" * 32
DECLARED = MINIMAL + f"keys: [{{name: bot, hash: 'sha256:{DIGEST.hex()}'}}]\n"
STORED = Key(id="k1", name="stored", digests=((DIGEST, None),))


class FakePeer:
    """A worker: what it was sent."""

    def __init__(self, slot: int = 0, generation: int = 0) -> None:
        self.hello = Hello(slot, 1, "0123456789ab", generation)
        self.sent: list[SnapshotSpec] = []

    def send(self, packed: SnapshotSpec) -> None:
        self.sent.append(packed)


class Desk:
    """A publisher with its operator's ears, its stored keys and its loop."""

    def __init__(self, text: str = MINIMAL, *keys: Key) -> None:
        self.loop = FakeLoop(Clock())
        self.said: list[str] = []
        self.keys = list(keys)
        self.publisher = Publisher(load_text(text).unwrap(), lambda: self.keys, self.said.append)

    def join(self, slot: int = 0) -> Any:
        peer: Any = FakePeer(slot)
        self.publisher.joined(peer)
        return peer

    def take(self, loaded: Loaded, *confirming: Any) -> tuple[str, ...]:
        """Take a new configuration while these peers confirm what they were sent last."""
        task = self.loop.create_task(self.publisher.take(loaded))
        self.loop.settle()
        for peer in confirming:
            self.publisher.confirmed(peer, peer.sent[-1].generation)
            self.loop.settle()
        self.loop.turn(CONFIRM_SECONDS + 0.25)
        return tuple(fault.problem for fault in task.result())


@pytest.fixture(autouse=True)
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Peers get what would be packed."""

    def keep(message: Publish) -> SnapshotSpec:
        return message.snapshot

    monkeypatch.setattr(reload, "pack", keep)
    monkeypatch.setattr(reload, "time", Clock())
    Clock.time_ns = lambda self: int(self.time() * 1e9)  # type: ignore[attr-defined]  # this module asks for nanoseconds
    yield
    del Clock.time_ns  # type: ignore[attr-defined]  # see above


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    made: list[Desk] = []
    yield made
    for desk in made:
        desk.loop.shut()


@pytest.fixture
def desk(desks: list[Desk]) -> Desk:
    desks.append(Desk())
    return desks[-1]


def test_who_joins_is_sent_what_is_in_force(desk: Desk) -> None:
    peer = desk.join()
    assert [spec.models[0].name for spec in peer.sent] == ["m"]
    assert peer.sent[0].generation == desk.publisher.generation
    assert not desk.publisher.agreed()
    desk.publisher.confirmed(peer, desk.publisher.generation)
    assert desk.publisher.agreed()


def test_a_worker_that_decides_by_it_already_needs_no_word(desk: Desk) -> None:
    peer: Any = FakePeer(generation=desk.publisher.generation)
    desk.publisher.joined(peer)
    assert desk.publisher.agreed()


def test_generations_only_grow_from_one_control_process_to_the_next(desks: list[Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    desks.append(Desk())
    peer = desks[0].join()
    desks[0].publisher.keys_changed()
    desks[0].publisher.keys_changed()
    later = Clock()
    later.passed += 1
    monkeypatch.setattr(reload, "time", later)
    desks.append(Desk())
    generations = [spec.generation for spec in peer.sent] + [desks[1].publisher.generation]
    assert generations == sorted(set(generations)), "two snapshots had the same generation"


def test_taken_and_confirmed(desk: Desk) -> None:
    peers = [desk.join(0), desk.join(1)]
    for peer in peers:
        desk.publisher.confirmed(peer, peer.sent[-1].generation)
    assert desk.take(load_text(TWO), *peers) == ()
    assert [[model.name for model in peer.sent[-1].models] for peer in peers] == [["m", "n"]] * 2
    assert desk.said == ["configuration in force on 2 workers"]
    assert list(desk.publisher.config.models) == ["m", "n"]


def test_a_confirmation_of_the_one_before_does_not_count(desk: Desk) -> None:
    peer = desk.join()
    desk.publisher.confirmed(peer, peer.sent[-1].generation)
    assert desk.take(load_text(TWO)) == ()
    assert desk.said == ["configuration in force on 1 worker, not confirmed by all yet"]
    assert not desk.publisher.agreed()


def test_a_worker_that_leaves_is_not_waited_for(desk: Desk) -> None:
    stays, goes = desk.join(0), desk.join(1)
    task = desk.loop.create_task(desk.publisher.take(load_text(TWO)))
    desk.loop.settle()
    desk.publisher.confirmed(stays, stays.sent[-1].generation)
    desk.loop.settle()
    assert not task.done()
    desk.publisher.left(goes)
    desk.loop.settle()
    assert task.result() == ()
    assert desk.said == ["configuration in force on 1 worker"]
    desk.publisher.left(goes)


def test_a_bad_one_leaves_the_old_in_force(desk: Desk) -> None:
    peer = desk.join()
    faults = desk.take(load_text("models: {m: {instnces: []}}\n"))
    assert faults
    assert len(peer.sent) == 1
    assert desk.said[0] == "the new configuration is not taken, the old one stays in force:"
    assert len(desk.said) == 1 + len(faults) == 1 + len(desk.publisher.faults)
    assert desk.take(load_text(MINIMAL)) == ()
    assert desk.publisher.faults == ()


def test_one_whose_keys_collide_with_stored_ones_is_not_taken(desks: list[Desk]) -> None:
    desks.append(desk := Desk(MINIMAL, STORED))
    peer = desk.join()
    before = desk.publisher.generation
    assert desk.take(load_text(DECLARED))
    assert (len(peer.sent), desk.publisher.generation) == (1, before)
    assert list(desk.publisher.config.models) == ["m"]


def test_keys_that_change_are_published(desk: Desk) -> None:
    peer = desk.join()
    desk.keys.append(STORED)
    desk.publisher.keys_changed()
    assert peer.sent[-1].keys == (STORED,)
    assert peer.sent[-1].generation > peer.sent[0].generation
    assert desk.said == []


def test_keys_that_collide_are_not_published(desks: list[Desk]) -> None:
    desks.append(desk := Desk(DECLARED))
    peer = desk.join()
    desk.keys.append(STORED)
    desk.publisher.keys_changed()
    assert len(peer.sent) == 1
    assert desk.said[0].startswith("keys not published: ")


def test_what_needs_a_restart_is_said(desk: Desk) -> None:
    assert desk.take(load_text(MINIMAL + "workers: 3\n")) == ()
    assert desk.said == ["in force after a restart only: workers", "configuration in force on 0 workers"]
