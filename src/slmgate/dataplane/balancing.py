"""What a model's `balance` comes to: the strategy that chooses, and what ties a request to an instance.

It stands between an exchange, which knows who asks and what, and `policy`, which knows instances as numbers. It keeps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmgate.dialects.prompts import prompt_of
from slmgate.policy import prefix
from slmgate.policy.balance import Affinity, C, Chooser, InTurn, LeastBusy, PeakEwma
from slmgate.policy.prefix import Prefix
from slmgate.policy.ring import Ring, point_of
from slmgate.policy.specs import ModelSpec

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange

NOTHING = Affinity(-1)
"""Ties a request to no instance."""


def shares_loads(balance: str) -> bool:
    """Whether the strategy asks for what is in flight."""
    return balance not in ("round_robin", "weighted")


def chooser_of(model: ModelSpec, instances: Sequence[C], before: Chooser[C] | None) -> Chooser[C]:
    """The strategy of a model. `before` is the one that it takes the place of, whose memory it keeps."""
    match model.balance:
        case "round_robin":
            return InTurn(instances, weighted=False)
        case "weighted":
            return InTurn(instances, weighted=True)
        case "peak_ewma":
            return PeakEwma(instances)
        case "consistent_hash":
            return Ring(instances)
        case "prefix":
            return Prefix(instances, before.kept if isinstance(before, Prefix) else None)
        case _:
            return LeastBusy(instances)


def affinity_of(exchange: Exchange, model: ModelSpec) -> Affinity:
    """What ties a request: the beginning of its prompt, or the key that `balance_by` names."""
    if model.balance == "prefix":
        return _prompt(exchange) or NOTHING
    principal = exchange.principal
    key = b"" if principal is None else principal.id.encode()
    kind, _, name = model.balance_by.partition(" ")
    if kind == "address":
        key = exchange.client.address.encode()
    elif kind == "header":
        key = exchange.head.fields.get(name.lower().encode()) or key
    return Affinity(point_of(key))


def _prompt(exchange: Exchange) -> Affinity | None:
    route, ask, principal = exchange.route, exchange.ask, exchange.principal
    if route is None or ask is None or principal is None or exchange.pool is None:
        return None
    prompt = prompt_of(route.access, route.dialect.name, ask.fields)
    if prompt is None:
        return None
    # where engines keep apart what they have read for whom, only the tenant's own is of use
    apart = any(one.salted for one in exchange.pool.instances)
    return prefix.affinity_of(prompt.texts, exchange.worker.salts.of(principal).encode() if apart else b"")
