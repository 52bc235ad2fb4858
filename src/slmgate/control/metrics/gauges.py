"""How things stand at this moment, as samples: from the gate's status, its certificates, and what others have looked up.

Each list is bounded: by what is configured, or to those that matter most. It asks nobody; what it is given is all that it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec

from slmgate import __version__
from slmgate.control.admin.context import GateStatus, InstanceState
from slmgate.control.metrics.families import BOUNDS, MAX_VALUE

MOST = 50
"""Limits, plans and certificates that are told."""

Samples = dict[str, list[tuple[tuple[str, ...], float]]]
"""Values of each family, with those of its labels."""


class Use(msgspec.Struct, frozen=True):
    """How much of something is used. `labels` are its two names."""

    labels: tuple[str, str]
    ratio: float


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What the status does not say. `limits` None: nobody could tell."""

    ledger_up: bool
    waiting_bytes: int
    reloaded_well: bool
    reloaded_at: float
    plans: Sequence[Use] = ()
    limits: Sequence[Use] | None = None


def samples(status: GateStatus, beside: Beside) -> Samples:
    """All gauges."""
    found: Samples = {
        "slmgate_build_info": [((__version__,), 1)],
        "slmgate_workers": [((), sum(worker.ready for worker in status.workers))],
        "slmgate_worker_connections": [((str(one.slot),), one.connections) for one in status.workers],
        "slmgate_worker_in_flight_requests": [((str(one.slot),), one.in_flight) for one in status.workers],
        "slmgate_ledger_up": [((), beside.ledger_up)],
        "slmgate_journal_waiting_bytes": [((), beside.waiting_bytes)],
        "slmgate_config_last_reload_successful": [((), beside.reloaded_well)],
        "slmgate_config_last_reload_success_timestamp_seconds": [((), beside.reloaded_at)],
        "slmgate_plan_used_ratio": _nearest(beside.plans),
        "slmgate_certificate_expiry_timestamp_seconds": _certificates(status),
    }
    if status.ledger_lag is not None:
        found["slmgate_journal_lag_seconds"] = [((), status.ledger_lag)]
    if beside.limits is not None:
        found["slmgate_limit_used_ratio"] = _nearest(beside.limits)
    return found | _instances(status)


def _instances(status: GateStatus) -> Samples:
    """Of models and instances. An instance may serve several models under one id, and each pair is told."""
    in_flight: list[tuple[tuple[str, ...], float]] = []
    up: list[tuple[tuple[str, ...], float]] = []
    state: list[tuple[tuple[str, ...], float]] = []
    seen: set[tuple[str, str]] = set()
    queues: dict[str, int] = {model.name: 0 for model in status.models[: BOUNDS["model"]]}
    for one in status.instances[: BOUNDS["instance"]]:
        where = one.model[:MAX_VALUE], one.id[:MAX_VALUE]
        if where in seen:
            continue  # no scraper takes a series that is there twice
        seen.add(where)
        in_flight.append((where, float(one.in_flight)))
        up.append((where, float(one.healthy and not one.draining)))
        state += [((*where, name), float(name == one.state)) for name in get_args(InstanceState)]
        if one.model in queues:
            queues[one.model] = max(queues[one.model], one.waiting)  # each of its instances tells of the one line
    return {
        "slmgate_in_flight_requests": in_flight,
        "slmgate_queue_length": [((name[:MAX_VALUE],), float(waiting)) for name, waiting in queues.items()],
        "slmgate_instance_up": up,
        "slmgate_instance_state": state,
    }


def _certificates(status: GateStatus) -> list[tuple[tuple[str, ...], float]]:
    """Those that end first; of several for one name, the one that ends last, which is what counts."""
    ends: dict[str, float] = {}
    for one in status.certificates:
        if one.not_after is not None:
            name = (one.names[0] if one.names else one.serial)[:MAX_VALUE]
            ends[name] = max(ends.get(name, 0.0), one.not_after.timestamp())
    return [((name,), end) for name, end in sorted(ends.items(), key=lambda pair: pair[1])[:MOST]]


def _nearest(uses: Iterable[Use]) -> list[tuple[tuple[str, ...], float]]:
    """Those that are nearest to being used up; each pair of names once."""
    worst: dict[tuple[str, ...], float] = {}
    for use in uses:
        labels = tuple(label[:MAX_VALUE] for label in use.labels)
        worst[labels] = max(use.ratio, worst.get(labels, 0.0))
    return sorted(worst.items(), key=lambda pair: -pair[1])[:MOST]
