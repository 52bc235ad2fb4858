"""The messages between control and its workers: typed, tagged, versioned by their names.

Control sends snapshots down; workers say who they are, confirm what they decide by and send tallies up. This module
knows how messages look, not how they travel (`channel.py`) nor what is done about them.
"""

from __future__ import annotations

import msgspec

from slmgate.policy.snapshot import SnapshotSpec
from slmgate.terms import Bearer, Refuse


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


class Verify(msgspec.Struct, frozen=True, tag="verify"):
    """Whose access token is this? `number` is the worker's own, and comes back in the answer."""

    number: int
    token: str

    def __repr__(self) -> str:
        return f"Verify({self.number})"


class Verified(msgspec.Struct, frozen=True, tag="verified"):
    """Whose token it is, and until when that may be relied on (seconds since the epoch); or why it opens nothing."""

    number: int
    bearer: Bearer | None = None
    until: float = 0.0
    refuse: Refuse | None = None


class Grounds(msgspec.Struct, frozen=True, tag="grounds"):
    """What verdicts on tokens may rest on from now on; one that rests on anything else (`Bearer.grounds`) is void."""

    valid: tuple[str, ...]


Message = Hello | Publish | Confirm | Tally | Verify | Verified | Grounds
