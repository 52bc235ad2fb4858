"""What travels over the link: models, instances, roles and limits as control compiled them from the configuration.

Frozen, and made of plain values. What a worker looks things up by is made of them in `snapshot.py`; where they come from is
unknown here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from slmgate.policy.certificates import CertificateSpec
from slmgate.policy.guard import GuardSpec
from slmgate.policy.health import HealthSpec
from slmgate.policy.limits import LimitSpec, PlanSpec
from slmgate.policy.roles import ParameterRule, RoleSpec, TeamSpec
from slmgate.policy.split import CanarySpec, ShadowSpec
from slmgate.terms import Principal


class TrustSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What instances are believed by over TLS: the authorities' file (empty: those of the system), and as whom the gate shows
    itself. `stamp` tells that the files, which are named by their paths, are others than before."""

    verify: bool = True
    ca: str = ""
    cert: str = ""
    key: str = ""
    stamp: str = ""


class HeldSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where an instance whose host is a name has to be, whenever it is connected to: see `places.py`."""

    loopback: bool = False
    networks: tuple[str, ...] = ()


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One running copy of a model. `id` is how operators see it; clients never do."""

    id: str
    host: str
    port: int
    tls: bool = False
    trust: TrustSpec | None = None
    """With `tls`: whom to believe. None: as usual."""
    server_name: str = ""
    """With `tls`: the name that it must show, and is asked for; empty: `host`."""
    engine: str = "openai"
    weight: int = 1
    max_in_flight: int | None = None
    upstream_model: str | None = None
    bearer: str | None = None
    draining: bool = False
    """It gets no new request; those that it has go on."""
    asleep: bool = False
    """The gate would have to start it first."""
    start_within: float = 0.0
    """Seconds that a start of it may take; 0: it is nobody's to start."""
    held: HeldSpec | None = None
    """Its name was given at run time, and may lead to certain addresses only. None: wherever it leads."""


class TokenizerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The tokenizer of a model: its file, as it was at `stamp`, and the tokens that the template of a chat adds to its texts."""

    path: str
    stamp: str = ""
    each_message: int = 0
    each_request: int = 0


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One model and how to reach it. Times are seconds; `total_timeout` 0: there is none.

    `retry_on` holds HTTP statuses as text, `connect` (no connection, or one that ended before any answer began) and `timeout`
    (no answer began in time). `hidden`: no caller knows it or may ask for it; it serves in the place of others.
    `hedge_after` 0: embeddings are never asked of a second instance.
    """

    name: str
    instances: tuple[InstanceSpec, ...]
    balance: str = "least_busy"
    balance_by: str = "principal"
    cache_salt: str = "tenant"
    attempts: int = 2
    retry_on: tuple[str, ...] = ("connect", "502", "503")
    retry_budget: float = 0.2
    connect_timeout: float = 2.0
    first_byte_timeout: float = 120.0
    idle_timeout: float = 60.0
    total_timeout: float = 0.0
    queue_waiting: int = 500
    queue_timeout: float = 30.0
    queue_fairness: str = "tokens"
    fallback: tuple[str, ...] = ()
    canary: CanarySpec | None = None
    shadow: ShadowSpec | None = None
    hedge_after: float = 0.0
    hidden: bool = False
    parameters: tuple[ParameterRule, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    tokenizer: TokenizerSpec | None = None
    health: HealthSpec = HealthSpec()


class GateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the listening side. Sizes are bytes, times seconds. `trusted_proxies` (networks) may say whose a request is, by
    the PROXY protocol and in `proxy_header`. `me`: holders of keys may ask about themselves.
    """

    trusted_proxies: tuple[str, ...] = ()
    proxy_header: Literal["x-forwarded-for", "forwarded", "none"] = "x-forwarded-for"
    max_body: int = 8 * 1024 * 1024
    max_header: int = 32 * 1024
    max_headers: int = 100
    max_connections: int = 20_000
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    keep_alive: float = 75.0
    send_timeout: float = 30.0
    drain_timeout: float = 30.0
    body_total: float = 300.0
    body_rate: int = 512
    max_buffered: int = 256 * 1024 * 1024
    me: bool = False
    guard: GuardSpec = GuardSpec()


class TracingSpec(msgspec.Struct, frozen=True):
    """That requests are traced: which are recorded by their trace's id (`http1/trace_context.threshold`), and whether a client's
    word on which trace a request is part of, and whether that is recorded, is believed.
    """

    threshold: int = 0
    trust: bool = True


class AuthSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in beside the holders of keys: signed tokens, opaque ones, client certificates (None: they open
    nothing), and whoever shows nothing (None: refused).
    """

    signed: bool = False
    opaque: bool = False
    certificates: CertificateSpec | None = None
    anonymous: Principal | None = None


class SnapshotSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, as it travels. Without `roles`, every principal has the built-in role `internal`.

    `limits` hold for everyone, beside those of roles, teams and models; `key_limits` are those of declared keys, by their ids.
    `agents`: records say what clients call themselves (User-Agent), and where they came from (Referer).
    """

    generation: int
    gate: GateSpec = GateSpec()
    models: tuple[ModelSpec, ...] = ()
    roles: tuple[RoleSpec, ...] = ()
    teams: tuple[TeamSpec, ...] = ()
    auth: AuthSpec = AuthSpec()
    plans: tuple[PlanSpec, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    key_limits: tuple[tuple[str, tuple[LimitSpec, ...]], ...] = ()
    tracing: TracingSpec | None = None
    agents: bool = False
