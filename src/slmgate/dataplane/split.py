"""Where the requests for a model part: some are another version's to serve, some are copied, some find no instance fit.

An exchange comes here once it was admitted, before it takes anything, and only where its model has such options
(`ModelPool.apart`), those for asking a second instance among them. Who is meant is worked out here from what
`policy/split.py` says; what becomes of the exchange is `fallback.py`'s affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.dataplane.fallback import fall_back, serve_by
from slmgate.dataplane.hedge import Hedge
from slmgate.policy.split import CanarySpec, is_named, is_within, place_of

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import ModelPool


def goes_apart(exchange: Exchange, pool: ModelPool) -> bool:
    """Let the exchange go another way than to its own model, if there is one for it. False: there is none."""
    spec = pool.spec
    if spec.shadow is not None:
        exchange.worker.shadows.offer(exchange, pool, spec.shadow)
    canary = spec.canary
    if canary is not None and _meant(exchange, pool, canary):
        other = exchange.worker.pools.models.get(canary.model)
        if other is not None and other.ready(exchange.started):
            _hedge(exchange, other)
            if serve_by(exchange, canary.model):
                return True
    _hedge(exchange, pool)
    return bool(spec.fallback) and not pool.ready(exchange.started) and fall_back(exchange)


def _hedge(exchange: Exchange, pool: ModelPool) -> None:
    """Embeddings may be asked of a second instance as well, if this model says so."""
    route, after = exchange.route, pool.spec.hedge_after
    if after and route is not None and route.access == "embeddings" and not isinstance(exchange.alarm, Hedge):
        Hedge(exchange, after)


def _meant(exchange: Exchange, pool: ModelPool, canary: CanarySpec) -> bool:
    """Whether this request is the canary's: its caller is named, or it is of the share."""
    principal = exchange.principal
    assert principal is not None
    if is_named(canary, principal, lambda: [role.name for role in exchange.worker.snapshot.access(principal).roles]):
        return True
    if canary.by == "request":
        return pool.turns.take()
    key = b""
    if canary.by != "principal":
        key = exchange.head.fields.get(canary.by.partition(" ")[2].lower().encode(), b"")
    return is_within(place_of(pool.spec.name, key or principal.id.encode()), canary.share)
