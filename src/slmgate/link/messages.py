"""The messages between control and its workers: typed, tagged, versioned by their names.

Control sends snapshots down; workers say who they are, confirm what they decide by and send tallies up. This module
knows how messages look, not how they travel (`channel.py`) nor what is done about them.
"""

from __future__ import annotations

import msgspec

from slmgate.policy.snapshot import SnapshotSpec


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A worker's first words. `incarnation` is new for each start and names its journal segments and request ids."""

    slot: int
    pid: int
    incarnation: str
    generation: int = 0


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """Decide by this from now on."""

    snapshot: SnapshotSpec


class Confirm(msgspec.Struct, frozen=True, tag="confirm"):
    """This worker decides by that generation now."""

    slot: int
    generation: int


class InstanceTally(msgspec.Struct, frozen=True):
    """One instance as one worker sees it. `healthy` False: it is passed over until its back-off ends."""

    id: str
    model: str
    in_flight: int
    waiting: int
    healthy: bool


class Tally(msgspec.Struct, frozen=True, tag="tally"):
    """A worker's figures, about once a second. Counters only grow; gauges are as of now."""

    slot: int
    connections: int
    in_flight: int
    requests: int
    refused: int
    unjournaled: int
    instances: tuple[InstanceTally, ...] = ()


Message = Hello | Publish | Confirm | Tally
