"""Another model in place of the one that was asked for: a fallback where that one cannot serve, or another version of it.

An exchange whose client was sent nothing yet comes here when its model has no instance for it, and goes on in the line of the
first model in `fallback` that may and can take it, with that model's own permission, rules and limits, as if it had been asked
for. Those of a fallback are not followed, so that there is no going in circles. Who is sent to another version (`split.py`) is
decided, limited and charged by what was asked for, which is also the first to stand in for that version.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import structs

from slmgate.dialects.parameters import settle
from slmgate.policy.decide import decide
from slmgate.terms import Refuse, Usage

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.pool import ModelPool
    from slmgate.policy.snapshot import Snapshot
    from slmgate.policy.specs import ModelSpec

FIELD = b"x-slmgate-model"
"""The field of an answer that tells which model served in place of the one that was asked for."""
_NOTHING = Usage()
_MOVED = (
    "admit",
    "affinity",
    "ask",
    "asked",
    "asked_at",
    "connect_us",
    "deadline",
    "handed_at",
    "limit_fields",
    "model",
    "outgoing",
    "pool",
    "queued_at",
    "sent_at",
    "tariff",
    "tried",
    "unwanted",
    "upstream_status",
    "what",
)


class Detour:
    """The way of one exchange to other models. `others` are those not looked at yet, `wanted` the one asked for, once left;
    `version` is the one that serves as a version of that. `since` is when the model before was left (monotonic; 0: none was).
    """

    __slots__ = ("others", "since", "version", "wanted")

    def __init__(self, others: tuple[str, ...], wanted: str = "", version: str = "") -> None:
        self.others = others
        self.wanted = wanted
        self.version = version
        self.since = 0.0


def fall_back(exchange: Exchange) -> bool:
    """Give the exchange to the next model that may serve it. False: there is none, and its own fault is to be told."""
    detour = exchange.detour
    if detour is None:
        assert exchange.model is not None
        if not exchange.model.fallback:
            return False
        detour = exchange.detour = Detour(exchange.model.fallback)
    if not detour.others or exchange.worker.stopping:
        return False
    before, wanted, version = [getattr(exchange, name) for name in _MOVED], detour.wanted, detour.version
    hold = exchange.hold
    while detour.others:
        name, detour.others = detour.others[0], detour.others[1:]
        if _given(exchange, detour, name):
            return True
        detour.wanted, detour.version = wanted, version
        for field, value in zip(_MOVED, before, strict=True):
            setattr(exchange, field, value)
    if hold is not None and exchange.hold is None and exchange.asked_at:  # nobody serves: it came to what it came to here
        exchange.hold = exchange.worker.limiter.owe(hold, exchange.second())
    return False


def serve_by(exchange: Exchange, version: str) -> bool:
    """Give the exchange, which was admitted and has nothing yet, to another version of its model. False: that has no room."""
    worker, asked = exchange.worker, exchange.model
    assert asked is not None
    pool, model = worker.pools.models[version], worker.snapshot.models[version]
    before = [getattr(exchange, name) for name in _MOVED]
    detour = exchange.detour = Detour((asked.name, *asked.fallback), asked.name, version)
    exchange.repeat = None  # what is remembered there is of requests that ask for this very model, by another price
    if _enters(exchange, detour, pool, model, worker.snapshot):
        return True
    exchange.detour = None
    for field, value in zip(_MOVED, before, strict=True):
        setattr(exchange, field, value)
    return False


def mark_of(exchange: Exchange) -> bytes:
    """What a receipt says of the model that was asked for where another one serves: as a version of it, or in its place."""
    detour, model = exchange.detour, exchange.model
    if detour is None or name_of(exchange) is None or model is None:
        return b""
    return b"%b=%b" % (b"canary" if model.name == detour.version else b"model", detour.wanted.encode())


def field_of(exchange: Exchange) -> bytes:
    """The header line of an answer that says which model served; empty where it is the one that was asked for."""
    name = name_of(exchange)
    return b"" if name is None else b"%b: %b\r\n" % (FIELD, name.encode())


def name_of(exchange: Exchange) -> str | None:
    """The model that serves in place of the one that was asked for, if one does."""
    detour, model = exchange.detour, exchange.model
    return None if detour is None or model is None or detour.wanted in ("", model.name) else model.name


def _given(exchange: Exchange, detour: Detour, name: str) -> bool:
    """Give the exchange to this model, if it may and can serve it."""
    worker, asked, route, principal = exchange.worker, exchange.asked, exchange.route, exchange.principal
    assert asked is not None and route is not None and principal is not None and exchange.model is not None
    snapshot, now = worker.snapshot, time.monotonic()
    pool = worker.pools.models.get(name)
    if pool is None or name not in snapshot.models or not pool.ready(now):
        return False
    exchange.ask = exchange.asked = ask = structs.replace(asked, model=name)
    verdict = decide(snapshot.access(principal), ask, route.access, exchange)
    if isinstance(verdict, Refuse):
        return False
    exchange.admit = verdict
    exchange.ask, exchange.outgoing = settle(route, ask, exchange.body, verdict.settings)
    _leave(exchange)
    detour.since = now
    detour.wanted, detour.version = detour.wanted or exchange.model.name, ""
    return _enters(exchange, detour, pool, verdict.model, snapshot)


def _enters(exchange: Exchange, detour: Detour, pool: ModelPool, model: ModelSpec, snapshot: Snapshot) -> bool:
    """Take what the exchange needs of its limits, and give it an instance of this model or a place in its line."""
    exchange.model = model
    if snapshot.charges.any and exchange.take(snapshot.charges) is not None:
        return False
    now = time.monotonic()
    exchange.limit_fields = field_of(exchange) + exchange.limit_fields
    exchange.pool = pool
    exchange.tried = ()
    exchange.affinity = None
    exchange.upstream_status = 0
    exchange.unwanted = False
    exchange.heard = 0.0
    exchange.deadline = now + model.queue_timeout
    exchange.queued_at = 0.0
    pool.requests += 1
    if not pool.begin(exchange):
        _leave(exchange)
        return False
    if exchange.connection is None and not exchange.done:
        exchange.queued_at = now
    return True


def _leave(exchange: Exchange) -> None:
    """Nothing of the model before is held any more, and nothing is charged for it: whoever serves in the end is paid.

    Before the next one is asked for room, since limits of both must not be taken twice.
    """
    worker, hold = exchange.worker, exchange.hold
    if exchange.pool is not None:
        exchange.pool.leave(exchange)
    if hold is not None:
        worker.limiter.settle(hold, _NOTHING, 0, exchange.second(), forwarded=False)
    exchange.hold = exchange.tariff = None
    exchange.limit_fields = b""
    if exchange.slot:  # the intent names the model before; another is journaled when the next one is asked
        worker.journal.forget(exchange.slot)
        exchange.slot = 0
    exchange.what = None
    exchange.handed_at = exchange.sent_at = exchange.asked_at = 0.0
    exchange.connect_us = 0
