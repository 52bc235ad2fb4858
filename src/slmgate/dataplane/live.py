"""The requests that a worker has under way, told to whoever asks over the link; and one of them ended, as an operator wants it.

A request pays nothing for it: what is told is read off the exchanges when somebody asks. A long list is told in parts, with a
turn of the event loop between them, so that clients hardly wait for it. It knows neither who asks nor what becomes of the answer.
"""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest
from typing import TYPE_CHECKING

from slmgate.dataplane.keyed import KeyedExchange
from slmgate.link.messages import Cancelled, Live, LiveRequest
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slmgate.dataplane.exchange import Exchange
    from slmgate.dataplane.worker import Worker
    from slmgate.link.messages import CancelLive, ListLive, LiveFilter, LiveState, Message

A_PART = 100
"""Requests in one part of a list: what is told within half a millisecond."""
CLIENTS = 200
"""Clients in the figures, those with the most requests."""
CANCELLED = Refuse("cancelled", "An operator of the gate has ended this request.")


def tell(worker: Worker, asked: ListLive, send: Callable[[Message], None]) -> None:
    """Send what is asked for, the oldest first."""
    under_way, which = worker.exchanges(), asked.which
    meant = [one for one in under_way if _is_meant(one, which)] if _asks(which) else under_way
    oldest = nsmallest(asked.most, meant, key=lambda one: (one.started, one.id))
    figures = len(under_way), len(meant), _clients(under_way)
    _tell_part(worker, asked.number, oldest, positions(oldest), send, figures)


def _tell_part(
    worker: Worker,
    number: int,
    rest: Sequence[Exchange],
    places: Mapping[Exchange, int],
    send: Callable[[Message], None],
    figures: tuple[int, int, tuple[tuple[str, int, int], ...]] = (0, 0, ()),
) -> None:
    part, rest = rest[:A_PART], rest[A_PART:]
    rows = tuple(told(one, places.get(one, 0)) for one in part if not one.done)
    send(Live(number, rows, not rest, *figures))
    if rest:
        worker.soon(lambda: _tell_part(worker, number, rest, places, send))


def cancel(worker: Worker, asked: CancelLive) -> Cancelled:
    """End one, if it is under way here, as its dialect has it: its instance's work stops at once, its client is told why."""
    id = asked.id.encode()
    exchange = next((one for one in worker.exchanges() if one.id == id), None)
    if exchange is None:
        return Cancelled(asked.number, None, over=worker.gave(asked.id))
    row = told(exchange, positions([exchange]).get(exchange, 0))
    if asked.look:
        return Cancelled(asked.number, row)
    ends = exchange.ending  # its last word has come, and only its line's end has not: nobody is to be told otherwise
    try:
        if exchange.ask is None:
            exchange.keep_alive = False  # the rest of its body is not read
        exchange.cut_short(CANCELLED, "gate_stopped")
    except Exception:  # noqa: BLE001  # a fault of our own costs this request and no other
        worker.report_fault()
        exchange.gate_failed()
    return Cancelled(asked.number, None if ends else row, over=ends)


def positions(exchanges: Sequence[Exchange]) -> dict[Exchange, int]:
    """Where those stand that are in line, in one walk for each line."""
    lines = {id(one.pool): one.pool for one in exchanges if one.pool is not None and one.instance is None and one.pool.waiting}
    found: dict[Exchange, int] = {}
    for pool in lines.values():
        found.update(pool.queue.numbers())
    return found


def state_of(exchange: Exchange) -> LiveState:
    """Where it is."""
    if exchange.asking is not None:
        return "reading"
    if exchange.upstream_status and not exchange.unwanted and (exchange.scanner is None or exchange.status):
        return "streaming"  # the bare head of a stream, which engines send before there is a token, is not its first byte
    if exchange.connection is not None:
        return "waiting"
    if exchange.instance is not None:
        return "connecting"
    waits = isinstance(exchange, KeyedExchange) and exchange.waits
    return "queued" if exchange.pool is not None or waits else "reading"


def told(exchange: Exchange, position: int) -> LiveRequest:
    """One request under way as operators are told of it."""
    route, principal, ask = exchange.route, exchange.principal, exchange.ask
    return LiveRequest(
        id=exchange.id.decode(),
        request_id=exchange.request_id.decode(),
        since=exchange.started + exchange.worker.wall_offset,
        state=state_of(exchange),
        client="" if principal is None else principal.name,
        key="" if principal is None else principal.id,
        team="" if principal is None else principal.team or "",
        model=_model(exchange),
        instance="" if exchange.instance is None else exchange.instance.spec.id,
        dialect="" if route is None else route.dialect.name,
        endpoint="" if route is None else route.endpoint,
        stream=ask is not None and ask.stream,
        position=position,
        prompt_tokens=0 if ask is None else ask.prompt_estimate,
        tokens=exchange.generated(),
        attempts=exchange.attempts,
        address=exchange.client.address,
        worker=exchange.worker.slot,
    )


def _model(exchange: Exchange) -> str:
    """The model that serves it, or else that it asks for."""
    if exchange.model is not None:
        return exchange.model.name
    return "" if exchange.ask is None else exchange.ask.model


def _asks(which: LiveFilter) -> bool:
    return bool(which.client or which.team or which.model or which.instance or which.state)


def _is_meant(exchange: Exchange, which: LiveFilter) -> bool:
    principal, instance = exchange.principal, exchange.instance
    return (
        (not which.client or (principal is not None and principal.name == which.client))
        and (not which.team or (principal is not None and principal.team == which.team))
        and (not which.model or _model(exchange) == which.model)
        and (not which.instance or (instance is not None and instance.spec.id == which.instance))
        and (not which.state or state_of(exchange) == which.state)
    )


def _clients(exchanges: Sequence[Exchange]) -> tuple[tuple[str, int, int], ...]:
    all_of_them: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    for one in exchanges:
        if one.principal is not None:
            all_of_them[one.principal.name] += 1
            if one.pool is not None and one.instance is None:
                queued[one.principal.name] += 1
    most = nsmallest(CLIENTS, all_of_them.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, count, queued[name]) for name, count in most)
