"""A configuration into force: load, validate, compile, publish, confirmed by the workers; or the old one stays.

The only place that decides whether a new configuration is taken. It knows the link's peers and the keyring's keys, but
reads no file itself and serves nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from slmgate.control.config import Config, ConfigError, ConfigFault, Loaded, compile_snapshot, restart_needed
from slmgate.link.channel import Peer, pack
from slmgate.link.messages import Publish
from slmgate.policy.snapshot import SnapshotSpec
from slmgate.terms import Key

CONFIRM_SECONDS = 1.0


class Publisher:
    """What is in force, and which worker has confirmed it."""

    def __init__(self, config: Config, keys: Callable[[], Sequence[Key]], say: Callable[[str], None]) -> None:
        """Compiles the first snapshot; raises ConfigError where declared and stored keys collide."""
        self.config = config
        self._started_with = config
        self.faults: tuple[ConfigFault, ...] = ()
        self._keys = keys
        self._say = say
        self._peers: dict[Peer, int] = {}  # worker -> the generation it decides by
        # Later than any generation of a control process before this one.
        self._generation = time.time_ns() // 1_000_000
        self._spec = self._compile(config)
        self._generation = self._spec.generation
        self._packed = pack(Publish(self._spec))
        self._confirmed = asyncio.Event()
        self.on_publish: Callable[[Config], None] = lambda _: None  # called after each snapshot that was sent

    @property
    def generation(self) -> int:
        return self._generation

    def _compile(self, config: Config) -> SnapshotSpec:
        return compile_snapshot(config, self._generation + 1, self._keys())

    def joined(self, peer: Peer) -> None:
        self._peers[peer] = peer.hello.generation
        peer.send(self._packed)

    def left(self, peer: Peer) -> None:
        self._peers.pop(peer, None)
        self._confirmed.set()

    def confirmed(self, peer: Peer, generation: int) -> None:
        self._peers[peer] = generation
        self._confirmed.set()

    def agreed(self) -> bool:
        """Whether every connected worker decides by the snapshot in force."""
        return all(generation == self._spec.generation for generation in self._peers.values())

    def keys_changed(self) -> None:
        """Publish the same configuration with the keys as they are now."""
        try:
            self._publish(self.config)
        except ConfigError as error:
            self._say(f"keys not published: {error}")

    def _publish(self, config: Config) -> None:
        spec = self._compile(config)
        self._generation = spec.generation
        self._spec = spec
        self._packed = pack(Publish(spec))
        self.config = config
        self.broadcast(self._packed)
        self.on_publish(config)

    def broadcast(self, packed: bytes) -> None:
        """Send a message to every worker."""
        for peer in self._peers:
            peer.send(packed)

    async def settled(self) -> bool:
        """Wait until every worker has confirmed, a second at the most. False: one has not."""
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
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
