"""An exchange's records: the intent before its work begins, the receipt when it is over, and the tokens it came to.

Pure reading of an exchange's fields; where the records go is the journal's affair. It changes nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slmgate.dialects import error_dialect
from slmgate.terms import Ended, Intent, Receipt, Usage

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange

_NOTHING = Usage()
SHOWN_PATH = 200


def usage_of(exchange: Exchange) -> Usage:
    """The engine's figures, or the gate's own count where the engine did not say."""
    if not exchange.attempts:
        return _NOTHING
    scanner = exchange.scanner
    said = exchange.usage if scanner is None else scanner.usage
    if said is not None:
        return said
    assert exchange.ask is not None
    if exchange.upstream_status >= 300 or not exchange.asked_at:
        return _NOTHING  # the instance said that it did nothing, or was never asked
    if scanner is not None:
        completion = scanner.tokens_seen
    elif exchange.status == exchange.upstream_status:
        completion = -(-exchange.bytes_out // 4)
    else:
        completion = 0  # it was asked, and what it did with that nobody knows: the bytes that went out were the gate's own
    return Usage(exchange.ask.prompt_estimate, completion, True)


def intent_of(exchange: Exchange) -> Intent:
    """The record that work is about to begin at the exchange's instance."""
    key, ask, route, model, instance = exchange.key, exchange.ask, exchange.route, exchange.model, exchange.instance
    assert key is not None and ask is not None and route is not None and model is not None and instance is not None
    assert exchange.began is not None
    return Intent(
        exchange.id,
        exchange.request_id,
        exchange.began,
        key.id,
        key.name,
        key.team,
        model.name,
        instance.spec.id,
        route.dialect.name,
        route.endpoint,
        ask.stream,
        ask.prompt_estimate,
        exchange.client.address,
        exchange.worker.slot,
    )


def receipt_of(exchange: Exchange, ended: Ended, reason: str) -> Receipt:
    """The record of a finished exchange."""
    usage = usage_of(exchange)
    key, ask, route, model = exchange.key, exchange.ask, exchange.route, exchange.model
    started, tried, head = exchange.started, exchange.tried, exchange.head
    return Receipt(
        exchange.id,
        exchange.request_id,
        exchange.began or datetime.fromtimestamp(exchange.worker.wall(started), UTC),
        head.method,
        # a path in no row is the client's own text: bounded
        route.path if route is not None else head.path[:SHOWN_PATH],
        exchange.status,
        "refuse" if ended == "refused" else "none" if model is None and ended != "complete" else "admit",
        reason,
        ended,
        key.name if key is not None else "",
        key.id if key is not None else None,
        key.team if key is not None else None,
        route.dialect.name if route is not None else error_dialect(head.path).name,
        route.endpoint if route is not None else "",
        model.name if model is not None else ask.model if ask is not None else "",
        tried[-1].spec.id if tried else "",
        ask.stream if ask is not None else False,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.estimated,
        len(exchange.body),
        exchange.bytes_out,
        int((exchange.handed_at - started) * 1e6) if exchange.handed_at else 0,
        int((exchange.first_byte_at - started) * 1e6) if exchange.first_byte_at else None,
        int((time.monotonic() - started) * 1e6),
        exchange.attempts,
        exchange.client.address,
        exchange.worker.slot,
    )
