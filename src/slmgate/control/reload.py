"""A configuration into force: load, validate, compile, publish, confirmed by the workers; or the old one stays.

The only place that decides whether a new configuration is taken, and the one that keeps every worker's keys what they are here.
It knows the link's peers, but reads no file and no store itself and serves nobody. All its calls are made on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from slmgate.control.config import (
    Config,
    ConfigError,
    ConfigFault,
    Loaded,
    compile_snapshot,
    declared_keys,
    measured,
    owned_twice,
    restart_needed,
)
from slmgate.control.config.held import held, holding
from slmgate.control.config.trust import trusting
from slmgate.control.roster import Roster
from slmgate.link.channel import Peer, pack
from slmgate.link.messages import KeysChanged, KeysWhole, Message, Publish
from slmgate.policy.keytable import KeyTable
from slmgate.policy.specs import ModelSpec, SnapshotSpec
from slmgate.terms import Key

CONFIRM_SECONDS = 1.0
BATCH = 500
"""Keys in one message: what a worker takes in within about 2 ms, while its clients wait."""

_One = TypeVar("_One", Key, str)
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Publisher:
    """What is in force, and which worker has confirmed it."""

    def __init__(
        self, config: Config, stored: Iterable[Key], say: Callable[[str], None], spawn: Spawn, roster: Roster | None = None
    ) -> None:
        """`stored` are all keys of the store. `spawn` runs a coroutine beside others. `roster` None: nothing is ever said of
        instances at run time.

        Raises ConfigError where declared and stored keys collide.
        """
        self._roster = roster
        self._loaded = self._started_with = config  # as it was written
        self.config = config  # with the instances of the roster
        self.faults: tuple[ConfigFault, ...] = ()
        self._say = say
        self._spawn = spawn
        self._peers: dict[Peer, int] = {}  # worker -> the generation it decides by
        self._declared: dict[str, Key] = declared_keys(config)
        self.keys = KeyTable(stored)
        self._check_owners(self._declared.values())
        self.keys.put(self._declared.values())
        # Later than any generation of a control process before this one.
        self._generation = time.time_ns() // 1_000_000
        self._spec = self._compiled(config)
        self._coming: list[tuple[Sequence[Key], Sequence[str]]] = []  # changes of keys that are not published yet
        self._confirmed = asyncio.Event()
        self.on_publish: Callable[[Config], None] = lambda _: None  # called with `config` after each snapshot that was sent

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def workers(self) -> Collection[Peer]:
        """Those that are connected, and are told what is in force."""
        return self._peers.keys()

    @property
    def models(self) -> Sequence[ModelSpec]:
        """The models in force, with their instances."""
        return self._spec.models

    # -- workers

    def joined(self, peer: Peer) -> None:
        """A worker is here: it is told what is in force, and unless it was only away for a moment, all keys."""
        known = peer.hello.generation == self._generation
        self._peers[peer] = peer.hello.generation
        peer.send(pack(Publish(msgspec.structs.replace(self._spec, generation=self._generation))))
        if not known:
            self._spawn(self._send_all(peer))

    async def _send_all(self, peer: Peer) -> None:
        """All keys to one worker, in parts: neither this loop nor the worker's may stand still for long."""
        ids = self.keys.ids()
        parts = range(0, len(ids) or 1, BATCH)
        for start in parts:
            put = self.keys.keys(ids[start : start + BATCH])
            peer.send(pack(KeysWhole(self._generation, put, first=start == 0, last=start == parts[-1])))
            if not await peer.drained():
                return
            await asyncio.sleep(0)

    def left(self, peer: Peer) -> None:
        self._peers.pop(peer, None)
        self._confirmed.set()

    def confirmed(self, peer: Peer, generation: int) -> None:
        self._peers[peer] = generation
        self._confirmed.set()

    def agreed(self) -> bool:
        """Whether every connected worker decides by what is in force."""
        return not self._coming and all(generation == self._generation for generation in self._peers.values())

    def broadcast(self, message: Message) -> None:
        """Send a message to every worker."""
        packed = pack(message)
        for peer in self._peers:
            peer.send(packed)

    # -- keys

    def keys_changed(self, put: Sequence[Key] = (), gone: Sequence[str] = ()) -> None:
        """Stored keys have come or changed, and others (their ids) are gone: workers are told only that.

        What is too much for one message goes in several, one a turn of the loop; what changes later waits behind it.
        """
        self._coming.append((put, gone))
        if len(self._coming) == 1:
            if len(put) + len(gone) <= BATCH:
                self._change(put, gone)
                self._coming.clear()
            else:
                self._spawn(self._change_in_parts())

    async def _change_in_parts(self) -> None:
        while self._coming:
            put, gone = self._coming[0]
            for part in _parts(gone):
                self._change((), part)
                await asyncio.sleep(0)
            for some in _parts(put):
                self._change(some, ())
                await asyncio.sleep(0)
            del self._coming[0]
        self._confirmed.set()  # there may be no worker to do so

    def _change(self, put: Sequence[Key], gone: Sequence[str]) -> None:
        free = [key for key in put if not self._collides(key)]
        self.keys.drop(gone)
        self.keys.put(free)
        self._generation += 1
        self.broadcast(KeysChanged(self._generation, tuple(free), tuple(gone)))

    def _collides(self, key: Key) -> bool:
        for digest, _ in key.digests:
            owner = self.keys.owner(digest)
            if owner in self._declared:
                self._say(f"key not published: {owned_twice(self._declared[owner], key.id).problem}")
                return True
        return False

    def _check_owners(self, declared: Iterable[Key]) -> None:
        """Raises ConfigError where the secret of a declared key is a stored key's already."""
        faults = [
            owned_twice(key, owner)
            for key in declared
            for digest, _ in key.digests
            if (owner := self.keys.owner(digest)) is not None and owner not in self._declared
        ]
        if faults:
            raise ConfigError(faults)

    # -- configurations

    def _publish(self, config: Config) -> None:
        declared = declared_keys(config)
        self._check_owners(declared.values())
        put = tuple(key for id, key in declared.items() if self._declared.get(id) != key)
        gone = tuple(id for id in self._declared if id not in declared)
        self.keys.drop(gone)
        self.keys.put(put)
        self._generation += 1
        self._spec = self._compiled(config)
        self._declared = declared
        self.broadcast(Publish(self._spec, put, gone))
        self.on_publish(self.config)

    def _compiled(self, config: Config) -> SnapshotSpec:
        """The snapshot of a configuration and of what the roster says now; both are in force from here on."""
        self._loaded = config
        self.config = config if self._roster is None else self._roster.expand(config)
        drained, added = (frozenset[str](),) * 2 if self._roster is None else (self._roster.drained, self._roster.added)
        spec = trusting(measured(compile_snapshot(self.config, self._generation, drained)))
        return holding(spec, held(self.config, added))

    def refresh(self) -> None:
        """The roster has changed: publish the configuration in force with what it says now."""
        self._generation += 1
        self._spec = self._compiled(self._loaded)
        self.broadcast(Publish(self._spec))
        self.on_publish(self.config)

    async def settled(self, seconds: float = CONFIRM_SECONDS) -> bool:
        """Wait until every worker has confirmed, so long at the most. False: one has not."""
        try:
            async with asyncio.timeout(seconds):
                while not self.agreed():
                    self._confirmed.clear()
                    await self._confirmed.wait()
        except TimeoutError:
            return False
        return True

    async def take(self, loaded: Loaded) -> tuple[ConfigFault, ...]:
        """Put a newly loaded configuration into force. The faults for which it was not taken; none: it is in force."""
        if loaded.config is None:
            self.faults = loaded.faults
        else:
            try:
                self._publish(loaded.config)
                self.faults = ()
                self._report(loaded.config, await self.settled())
            except ConfigError as error:
                self.faults = error.faults
        if self.faults:
            self._say("the new configuration is not taken, the old one stays in force:")
            for fault in self.faults:
                self._say(f"  {fault}")
        return self.faults

    def _report(self, config: Config, settled: bool) -> None:
        unapplied = restart_needed(self._started_with, config)
        if unapplied:
            self._say(f"in force after a restart only: {', '.join(unapplied)}")
        workers = len(self._peers)
        self._say(
            f"configuration in force on {workers} worker{'s' if workers != 1 else ''}"
            + ("" if settled else ", not confirmed by all yet")
        )


def _parts(them: Sequence[_One]) -> list[Sequence[_One]]:
    return [them[start : start + BATCH] for start in range(0, len(them), BATCH)]
