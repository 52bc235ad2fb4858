"""What the routes about requests under way do: all of them as the workers know them now, and one of them cancelled.

The figures beside the list are for whoever watches the gate: clients, models and instances as they are at this moment, in one
answer. A cancelled request is in the audit log before it is ended. Who may call stands in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from slmgate.control import audit
from slmgate.control.admin import handlers
from slmgate.control.analytics import Analytics, Figures
from slmgate.control.keyring import utc_now
from slmgate.control.live import LiveRequests
from slmgate.control.ranges import Range
from slmgate.link.messages import LiveFilter, LiveRequest, LiveState
from slmgate.stores.records import LedgerUnavailable

if TYPE_CHECKING:
    from litestar.params import FromPath, FromQuery

    from slmgate.control.admin.context import GateStatus
    from slmgate.control.admin.params import Caller, Context, Limit

STATES: tuple[str, ...] = get_args(LiveState)
RECENT = timedelta(minutes=1)
"""The sums are kept by the minute: lately is the last whole one, and the one at work."""
CLIENTS = 100
"""Those that asked most lately."""


class LiveView(msgspec.Struct, frozen=True, kw_only=True):
    """One request under way. `seconds` is how long it has been; what is not known yet is null.

    `id` is what its receipt will have, `request_id` what its client calls it. `state` is `reading` (who calls is being found out,
    or its body is still coming), `queued` (`position`: about the how-manieth to go it is in its worker's line), `connecting`,
    `waiting` (for the first byte of its answer) or `streaming` (its answer has begun). `tokens` are those of a stream so far, as
    the gate counts them; `prompt_tokens` is its estimate.
    """

    id: str
    request_id: str
    since: datetime
    seconds: float
    client: str | None
    key: str | None
    team: str | None
    model: str | None
    instance: str | None
    dialect: str | None
    endpoint: str | None
    stream: bool
    state: LiveState
    position: int | None
    prompt_tokens: int
    tokens: int
    attempts: int
    address: str
    worker: int


class LiveClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client with requests under way, of which `queued` wait for an instance, or that had some lately (`recent`)."""

    client: str
    in_flight: int
    queued: int
    recent: Figures | None


class LiveModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model, over its instances: requests at them, and those in its lines, as of the last second; and what it did lately."""

    model: str
    ready: bool
    in_flight: int
    queued: int
    recent: Figures | None


class LiveInstance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance and what it carries, as of the last second; `state` is the worst that any worker sees."""

    id: str
    model: str
    in_flight: int
    state: str
    healthy: bool
    draining: bool


class LivePage(msgspec.Struct, frozen=True, kw_only=True):
    """The gate at `time`. `total` requests are under way; `matching` of them are meant, of which `requests` are the oldest.

    `silent` workers did not answer: their requests are missing. `clients` are those with the most under way and those that
    asked most lately. `recent` figures are of requests that came to their end, and began from `recent_since` on: so those of a
    minute or two; null where there were none, or the ledger cannot be read. Their latencies are microseconds.
    """

    time: datetime
    recent_since: datetime
    total: int
    matching: int
    silent: int
    requests: Sequence[LiveView]
    clients: Sequence[LiveClient]
    models: Sequence[LiveModel]
    instances: Sequence[LiveInstance]


async def live(
    context: Context,
    client: FromQuery[str | None] = None,
    team: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    instance: FromQuery[str | None] = None,
    in_state: FromQuery[str | None] = None,
    limit: Limit = 100,
) -> LivePage:
    """The requests that are under way now, the oldest first, and what clients, models and instances have in flight.

    `in_state` is reading, queued, connecting, waiting or streaming.
    """
    if in_state is not None and in_state not in STATES:
        raise handlers.BadQuery(f"A request is never {in_state[:40]!r}, but {', '.join(STATES)}.")
    which = LiveFilter(client=client or "", team=team or "", model=model or "", instance=instance or "", state=in_state or "")
    workers, now = _workers(context), utc_now()
    since = now.replace(second=0, microsecond=0) - RECENT
    found = await workers.list(which, limit)
    clients, models = await asyncio.to_thread(_recent, context, since)
    now, status = utc_now(), context.status()
    return LivePage(
        time=now,
        recent_since=since,
        total=found.total,
        matching=found.matching,
        silent=found.silent,
        requests=[live_view(one, now) for one in found.requests],
        clients=_clients(found.clients, clients),
        models=_models(status, models),
        instances=[
            LiveInstance(
                id=one.id, model=one.model, in_flight=one.in_flight, state=one.state, healthy=one.healthy, draining=one.draining
            )
            for one in status.instances
        ],
    )


async def find_live(context: Context, id: str) -> LiveRequest | Literal["over"] | None:
    """The request under way with this id; `over`: it is not any more. None: nobody knows of it."""
    return await _workers(context).find(id)


async def cancel_live(context: Context, caller: Caller, id: FromPath[str]) -> LiveView:
    """End a request under way: its instance's work stops at once, its client is told by an error in its own dialect (in a stream
    by an error event). What it was then. Its receipt ends with `gate_stopped` for the reason `cancelled`."""
    workers = _workers(context)
    found = await workers.find(id)
    if isinstance(found, LiveRequest):
        detail = {
            "client": found.client,
            "model": found.model,
            "instance": found.instance,
            "request_id": found.request_id,
            "state": found.state,
        }
        noted = audit.line(utc_now(), caller.name, "cancel", id, detail)
        await asyncio.to_thread(context.store.append_audit, noted)
        found = await workers.cancel(id)
    if isinstance(found, LiveRequest):
        return live_view(found, utc_now())
    if found == "over" or await asyncio.to_thread(context.store.receipt, id) is not None:
        raise handlers.NotUnderWay("The request has come to its end already; its receipt says how.")
    raise handlers.Unknown(f"There is no request {id[:40]!r}; this takes the `id` that the list of live requests has.")


def live_view(one: LiveRequest, now: datetime) -> LiveView:
    """A request as its worker told of it."""
    return LiveView(
        id=one.id,
        request_id=one.request_id,
        since=datetime.fromtimestamp(one.since, UTC),
        seconds=round(max(0.0, now.timestamp() - one.since), 3),
        client=one.client or None,
        key=one.key or None,
        team=one.team or None,
        model=one.model or None,
        instance=one.instance or None,
        dialect=one.dialect or None,
        endpoint=one.endpoint or None,
        stream=one.stream,
        state=one.state,
        position=one.position or None,
        prompt_tokens=one.prompt_tokens,
        tokens=one.tokens,
        attempts=one.attempts,
        address=one.address,
        worker=one.worker,
    )


def _workers(context: Context) -> LiveRequests:
    if context.live is None:
        raise handlers.BadQuery("No gate runs here, so that no request is under way.")
    return context.live


def _recent(context: Context, since: datetime) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """What clients and models did lately, by their names. What is under way can be told without the ledger, and is."""
    span = Range(since=since, until=since + 2 * RECENT, zone="UTC", step="1m")
    analytics = Analytics(context.store)
    try:
        clients = {row.name: row.figures for row in analytics.clients(span, size=CLIENTS).rows}
        return clients, {row.name: row.figures for row in analytics.models(span)}
    except LedgerUnavailable:
        return {}, {}


def _clients(under_way: Sequence[tuple[str, int, int]], recent: dict[str, Figures]) -> list[LiveClient]:
    rows = [LiveClient(client=name, in_flight=count, queued=queued, recent=recent.get(name)) for name, count, queued in under_way]
    there = {row.client for row in rows}
    return rows + [
        LiveClient(client=name, in_flight=0, queued=0, recent=figures) for name, figures in recent.items() if name not in there
    ]


def _models(status: GateStatus, recent: dict[str, Figures]) -> list[LiveModel]:
    return [
        LiveModel(
            model=one.name,
            ready=one.ready,
            in_flight=sum(each.in_flight for each in status.instances if each.model == one.name),
            # each instance tells of its model's whole line
            queued=max((each.waiting for each in status.instances if each.model == one.name), default=0),
            recent=recent.get(one.name),
        )
        for one in status.models
    ]
