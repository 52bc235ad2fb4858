"""A configuration into force or not at all: what workers are sent, when they count as agreed, what the operator is told.

Peers are fakes that note what is sent to them; configurations are loaded from text as in `tests/control/config`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmgate.control import reload
from slmgate.control.config import ConfigError, Loaded, load_text
from slmgate.control.config.addresses import Origin
from slmgate.control.reload import BATCH, CONFIRM_SECONDS, Publisher
from slmgate.control.roster import Roster
from slmgate.link.messages import Hello, KeysChanged, KeysWhole, Publish
from slmgate.policy.keytable import KeyTable
from slmgate.policy.specs import SnapshotSpec
from slmgate.stores.sql import open_store
from slmgate.terms import Key
from tests.tools.fakes import Clock, FakeLoop

MINIMAL = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'
TWO = 'models: {m: {instances: [{url: "http://h:1"}]}, n: {instances: [{url: "http://h:2"}]}}\n'
DIGEST = b"d" * 32
DECLARED = MINIMAL + f"keys: [{{name: bot, hash: 'sha256:{DIGEST.hex()}'}}]\n"
STORED = Key(id="k1", name="stored", digests=((DIGEST, None),))


class FakePeer:
    """A worker: what it was sent, and the keys that it would know by it."""

    def __init__(self, slot: int = 0, generation: int = 0) -> None:
        self.hello = Hello(slot, 1, "0123456789ab", generation)
        self.told: list[Publish | KeysChanged | KeysWhole] = []
        self.keys = KeyTable()
        self.here = True

    def send(self, packed: Publish | KeysChanged | KeysWhole) -> None:
        self.told.append(packed)
        if isinstance(packed, KeysWhole):
            if packed.first:
                self.keys.begin()
            self.keys.put(packed.put)
            if packed.last:
                self.keys.end()
        else:
            self.keys.drop(packed.gone)
            self.keys.put(packed.put)

    async def drained(self) -> bool:
        return self.here

    @property
    def sent(self) -> list[SnapshotSpec]:
        return [one.snapshot for one in self.told if isinstance(one, Publish)]

    @property
    def generation(self) -> int:
        """Of what it was told last."""
        last = self.told[-1]
        return last.snapshot.generation if isinstance(last, Publish) else last.generation


class Desk:
    """A publisher with its operator's ears and its loop, over these stored keys."""

    def __init__(self, text: str = MINIMAL, *keys: Key) -> None:
        self.loop = FakeLoop(Clock())
        self.said: list[str] = []
        self.publisher = Publisher(load_text(text).unwrap(), keys, self.said.append, self.loop.create_task)

    def join(self, slot: int = 0, generation: int = 0) -> Any:
        peer: Any = FakePeer(slot, generation)
        self.publisher.joined(peer)
        self.loop.settle()
        return peer

    def take(self, loaded: Loaded, *confirming: Any) -> tuple[str, ...]:
        """Take a new configuration while these peers confirm what they were sent last."""
        task = self.loop.create_task(self.publisher.take(loaded))
        self.loop.settle()
        for peer in confirming:
            self.publisher.confirmed(peer, peer.generation)
            self.loop.settle()
        self.loop.turn(CONFIRM_SECONDS + 0.25)
        return tuple(fault.problem for fault in task.result())

    def hold_together(self, *peers: Any) -> None:
        """Every worker knows the keys that are known here."""
        for peer in peers:
            assert peer.keys.by_digest == self.publisher.keys.by_digest
            assert peer.keys.whole and not peer.keys.renewed


@pytest.fixture(autouse=True)
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Peers get what would be packed."""
    monkeypatch.setattr(reload, "pack", lambda message: message)
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
    desk.publisher.confirmed(peer, desk.publisher.generation)
    assert desk.publisher.agreed()


def test_a_worker_that_decides_by_it_already_needs_no_word(desk: Desk) -> None:
    peer = desk.join(generation=desk.publisher.generation)
    desk.publisher.confirmed(peer, desk.publisher.generation)
    assert desk.publisher.agreed()
    assert [type(one) for one in peer.told] == [Publish]


def test_generations_only_grow_from_one_control_process_to_the_next(desks: list[Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    desks.append(Desk())
    peer = desks[0].join()
    desks[0].publisher.keys_changed([STORED])
    desks[0].publisher.keys_changed([], ["k1"])
    later = Clock()
    later.passed += 1
    monkeypatch.setattr(reload, "time", later)
    desks.append(Desk())
    changes = [one.generation for one in peer.told if isinstance(one, KeysChanged)]
    generations = [spec.generation for spec in peer.sent] + changes + [desks[1].publisher.generation]
    assert generations == sorted(set(generations)), "two snapshots had the same generation"


def test_taken_and_confirmed(desk: Desk) -> None:
    peers = [desk.join(0), desk.join(1)]
    for peer in peers:
        desk.publisher.confirmed(peer, peer.generation)
    assert desk.take(load_text(TWO), *peers) == ()
    assert [[model.name for model in peer.sent[-1].models] for peer in peers] == [["m", "n"]] * 2
    assert desk.said == ["configuration in force on 2 workers"]
    assert list(desk.publisher.config.models) == ["m", "n"]


def test_a_confirmation_of_the_one_before_does_not_count(desk: Desk) -> None:
    peer = desk.join()
    desk.publisher.confirmed(peer, peer.generation)
    assert desk.take(load_text(TWO)) == ()
    assert desk.said == ["configuration in force on 1 worker, not confirmed by all yet"]
    assert not desk.publisher.agreed()


def test_a_worker_that_leaves_is_not_waited_for(desk: Desk) -> None:
    stays, goes = desk.join(0), desk.join(1)
    task = desk.loop.create_task(desk.publisher.take(load_text(TWO)))
    desk.loop.settle()
    desk.publisher.confirmed(stays, stays.generation)
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


def some_keys(count: int, first: int = 0, name: str = "n") -> list[Key]:
    return [Key(id=f"k{n}", name=name, digests=((b"%032d" % n, None),)) for n in range(first, first + count)]


def test_a_change_of_keys_is_told_alone(desks: list[Desk]) -> None:
    desks.append(desk := Desk(DECLARED))
    peer = desk.join()
    before = desk.publisher.generation
    desk.publisher.keys_changed(some_keys(2))
    assert peer.told[-1] == KeysChanged(before + 1, tuple(some_keys(2)))
    desk.publisher.keys_changed([], ["k1"])
    assert peer.told[-1] == KeysChanged(before + 2, (), ("k1",))
    assert len(peer.sent) == 1
    desk.hold_together(peer)
    assert not desk.publisher.agreed()
    desk.publisher.confirmed(peer, before + 2)
    desk.publisher.confirmed(peer, desk.publisher.generation)
    assert desk.publisher.agreed()
    assert desk.said == []


@pytest.mark.parametrize(("count", "parts"), [(0, 1), (1, 1), (BATCH, 1), (BATCH + 1, 2)])
def test_who_joins_gets_all_keys_in_parts(count: int, parts: int, desks: list[Desk]) -> None:
    desks.append(desk := Desk(MINIMAL, *some_keys(count)))
    peer = desk.join()
    whole = [one for one in peer.told if isinstance(one, KeysWhole)]
    assert [(one.first, one.last) for one in whole] == [(n == 0, n == parts - 1) for n in range(parts)]
    assert len(peer.keys) == count
    desk.hold_together(peer)


@pytest.mark.parametrize("turns", range(6))
def test_what_changes_while_a_worker_joins_is_not_lost(turns: int, desks: list[Desk]) -> None:
    """Whatever part is under way: the one that was sent already, that is being sent, or that is still to come."""
    desks.append(desk := Desk(DECLARED, *some_keys(3 * BATCH)))
    peer: Any = FakePeer()
    desk.publisher.joined(peer)
    for _ in range(turns):
        desk.loop.run_until_complete(asyncio.sleep(0))
    desk.publisher.keys_changed(some_keys(1, 5, "changed"), ["k7"])
    desk.publisher.keys_changed(some_keys(1, 3 * BATCH - 1, "changed"), [f"k{3 * BATCH - 2}"])
    desk.publisher.keys_changed(some_keys(1, 4 * BATCH, "new"))
    desk.take(load_text(MINIMAL))  # the declared key goes
    desk.loop.settle()
    desk.hold_together(peer)
    assert len(peer.keys) == 3 * BATCH - 1
    assert peer.generation == desk.publisher.generation


def test_a_worker_that_leaves_while_it_joins_gets_no_more(desks: list[Desk]) -> None:
    desks.append(desk := Desk(MINIMAL, *some_keys(3 * BATCH)))
    peer: Any = FakePeer()
    peer.here = False
    desk.publisher.joined(peer)
    desk.publisher.left(peer)
    desk.loop.settle()
    assert len(peer.told) == 2


def test_a_large_change_goes_in_parts_and_later_ones_wait(desk: Desk) -> None:
    peer = desk.join()
    desk.publisher.keys_changed(some_keys(2 * BATCH + 1))
    assert not desk.publisher.agreed(), "not while parts of it are still to come"
    desk.publisher.keys_changed([], ["k0"])
    desk.publisher.keys_changed(some_keys(1, 1, "changed"))
    desk.loop.settle()
    desk.publisher.confirmed(peer, desk.publisher.generation)
    assert desk.publisher.agreed()
    sizes = [len(one.put) + len(one.gone) for one in peer.told if isinstance(one, KeysChanged)]
    assert sizes == [BATCH, BATCH, 1, 1, 1]
    desk.hold_together(peer)
    desk.publisher.keys_changed([], [f"k{n}" for n in range(2 * BATCH + 1)])
    desk.loop.settle()
    assert len(peer.keys) == 0
    desk.hold_together(peer)


def test_declared_keys_change_with_the_configuration(desks: list[Desk]) -> None:
    desks.append(desk := Desk(DECLARED, *some_keys(3)))
    peer = desk.join()
    two = DECLARED.replace("keys: [", f"keys: [{{name: new, hash: 'sha256:{'aa' * 32}'}}, ")
    assert desk.take(load_text(two)) == ()
    assert [[key.id for key in peer.told[-1].put], peer.told[-1].gone] == [["declared:new"], ()]
    assert desk.take(load_text(two.replace("name: bot", "name: bot2"))) == ()
    assert [[key.id for key in peer.told[-1].put], peer.told[-1].gone] == [["declared:bot2"], ("declared:bot",)]
    desk.hold_together(peer)
    assert desk.take(load_text(MINIMAL)) == ()
    assert peer.keys.ids() == ["k0", "k1", "k2"]


def test_a_digest_moves_from_one_declared_key_to_another(desks: list[Desk]) -> None:
    desks.append(desk := Desk(DECLARED))
    peer = desk.join()
    assert desk.take(load_text(DECLARED.replace("bot", "other"))) == ()
    assert peer.keys.owner(DIGEST) == "declared:other"
    assert desk.take(load_text(MINIMAL)) == ()
    assert peer.keys.owner(DIGEST) is None


def test_one_whose_keys_collide_at_the_start() -> None:
    with pytest.raises(ConfigError, match="same secret"):
        Publisher(load_text(DECLARED).unwrap(), [STORED], print, print)


def test_keys_that_collide_are_not_published(desks: list[Desk]) -> None:
    desks.append(desk := Desk(DECLARED))
    peer = desk.join()
    desk.publisher.keys_changed([STORED, *some_keys(1)])
    assert [key.id for key in peer.told[-1].put] == ["k0"]
    assert peer.keys.owner(DIGEST) == "declared:bot"
    assert desk.said[0].startswith("key not published: ")


def test_what_needs_a_restart_is_said(desk: Desk) -> None:
    assert desk.take(load_text(MINIMAL + "workers: 3\n")) == ()
    assert desk.said == ["in force after a restart only: workers", "configuration in force on 0 workers"]


def test_a_changed_roster_is_published_with_the_configuration_in_force(desks: list[Desk], tmp_path: Path) -> None:
    desks.append(desk := Desk())
    store = open_store(tmp_path / "ledger")
    desk.publisher = publisher = Publisher(
        load_text(MINIMAL).unwrap(), (), desk.said.append, desk.loop.create_task, Roster(store.instances)
    )
    roster = publisher._roster
    assert roster is not None
    roster.config = lambda: publisher.config
    roster.on_change = publisher.refresh
    configured: list[int] = []  # how many instances of `m` whoever checks them is told of
    publisher.on_publish = lambda config: configured.append(len(config.models["m"].instances))
    peer = desk.join()
    roster.add("m", {"url": "http://x:9"}, "ann")
    roster.drain("m/h:1", "ann")

    def told() -> list[tuple[str, bool]]:
        return [(one.id, one.draining) for model in peer.sent[-1].models for one in model.instances]

    assert told() == [("m/h:1", True), ("m/x:9", False)]
    assert [spec.generation for spec in peer.sent] == sorted({spec.generation for spec in peer.sent})
    assert not publisher.agreed()
    assert desk.take(load_text(TWO)) == ()
    assert told() == [("m/h:1", True), ("m/x:9", False), ("n/h:2", False)]
    assert [instance.url for instance in publisher.config.models["m"].instances] == [Origin("h", 1), Origin("x", 9)]
    assert configured == [2, 2, 2], "those of the roster too, whatever it is that is published"
    assert desk.said == ["configuration in force on 1 worker, not confirmed by all yet"], "nothing needs a restart"
    store.close()
