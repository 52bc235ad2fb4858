"""The snapshot: configuration and keys as a worker decides by them, compiled once per publication.

`SnapshotSpec` is what travels over the link; `Snapshot` is the immutable lookups made from it. This module does not
know where configuration comes from, and holds no state that outlives a reload: limits and health live elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from math import inf

import msgspec

from slmgate.terms import Bearer, Key, Principal, Refuse


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One running copy of a model. `id` is how operators see it; clients never do."""

    id: str
    host: str
    port: int
    tls: bool = False
    engine: str = "openai"
    weight: int = 1
    max_in_flight: int | None = None
    upstream_model: str | None = None
    bearer: str | None = None


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One model and how to reach it. Times are seconds.

    `retry_on` holds HTTP statuses as text and `connect`: no connection, or one that ended before any answer began.
    """

    name: str
    instances: tuple[InstanceSpec, ...]
    balance: str = "least_busy"
    attempts: int = 2
    retry_on: tuple[str, ...] = ("connect", "502", "503")
    connect_timeout: float = 2.0
    first_byte_timeout: float = 120.0
    idle_timeout: float = 60.0
    queue_waiting: int = 500
    queue_timeout: float = 30.0


class GateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the listening side. Sizes are bytes, times seconds."""

    max_body: int = 8 * 1024 * 1024
    max_header: int = 32 * 1024
    max_headers: int = 100
    max_connections: int = 20_000
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    keep_alive: float = 75.0
    send_timeout: float = 30.0
    drain_timeout: float = 30.0


class AuthSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in beside the holders of keys: signed tokens, opaque ones, and whoever shows nothing (None: refused)."""

    signed: bool = False
    opaque: bool = False
    anonymous: Principal | None = None


class SnapshotSpec(msgspec.Struct, frozen=True, kw_only=True):
    generation: int
    gate: GateSpec = GateSpec()
    models: tuple[ModelSpec, ...] = ()
    keys: tuple[Key, ...] = ()
    auth: AuthSpec = AuthSpec()


class Snapshot:
    """What one generation decides by. Never changed after it was made; a reload makes another.

    `tokens` alone is the worker's own table of verified tokens, which grows beside it: when something is taken out of it before
    its time, a snapshot is made anew (`again`), so that whoever remembers one by its snapshot looks again.
    """

    __slots__ = ("anonymous", "auth", "gate", "generation", "keys_by_digest", "model_names", "models", "tokens")

    def __init__(self, spec: SnapshotSpec, tokens: Mapping[bytes, tuple[Bearer | Refuse, float]] | None = None) -> None:
        self.auth = spec.auth
        self.anonymous = spec.auth.anonymous
        self.tokens = {} if tokens is None else tokens
        self.generation = spec.generation
        self.gate = spec.gate
        self.models: dict[str, ModelSpec] = {model.name: model for model in spec.models}
        self.model_names: tuple[str, ...] = tuple(self.models)
        # digest -> the key it opens, and the second at which it stops doing so. A disabled key opens nothing.
        self.keys_by_digest: dict[bytes, tuple[Key, float]] = {
            digest: (key, min(_never_if_none(until), _never_if_none(key.expires)))
            for key in spec.keys
            if not key.disabled
            for digest, until in key.digests
        }

    def again(self) -> Snapshot:
        """Another snapshot of the same content."""
        return copy(self)

    def __repr__(self) -> str:
        return f"<Snapshot {self.generation}: {len(self.models)} models, {len(self.keys_by_digest)} digests>"


def _never_if_none(second: float | None) -> float:
    return inf if second is None else second
