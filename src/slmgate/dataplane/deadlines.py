"""How long a whole request may take: by its model's `timeouts.total`, or less where its client says so in `x-request-timeout`.

A request that has such a bound has a timer of its own; all others pay for two looks. What is done when the time is
over is `exchange.py`'s affair.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.policy.specs import ModelSpec

FIELD = b"x-request-timeout"
LONGEST = 86_400
_VALUE = re.compile(rb"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m)?")
_UNITS = {None: 1.0, b"ms": 0.001, b"s": 1.0, b"m": 60.0}
NOT_A_TIME = Refuse(
    "invalid_request",
    "x-request-timeout is a number of seconds, or a number with the unit ms, s or m, like 30, 2.5, 500ms or 2m; "
    "more than 0 and at most 24 hours.",
)


def seconds_of(value: bytes) -> float | None:
    """The seconds that a client's header field gives its request; None: it is no such time."""
    found = _VALUE.fullmatch(value)
    seconds = float(found[1]) * _UNITS[found[2]] if found is not None else 0.0
    return seconds if 0 < seconds <= LONGEST else None


def _patience(exchange: Exchange) -> float:
    """The seconds that its client gives it; 0: as many as it takes."""
    return seconds_of(exchange.head.fields.get(FIELD, b"")) or 0.0


def bounded(exchange: Exchange) -> bool:
    """Have the exchange end when its time is over. False: it is over already, and so is the exchange."""
    if exchange.alarm is not None:
        exchange.alarm.cancel()
    model = exchange.model  # another one may serve it in the end: the bound stays
    total = model.total_timeout if model is not None else 0.0
    seconds = min(_patience(exchange) or LONGEST, total or LONGEST)
    left = exchange.started + seconds - time.monotonic()
    if left > 0:
        exchange.alarm = exchange.worker.later(left, lambda: _ring(exchange, model))
        return True
    exchange.alarm = None
    exchange.cut_short(_told(exchange, model), "upstream_timeout")
    return False


def _ring(exchange: Exchange, model: ModelSpec | None) -> None:
    try:
        exchange.cut_short(_told(exchange, model), "upstream_timeout")
    except Exception:  # noqa: BLE001  # a fault of our own costs this request and no other
        exchange.worker.report_fault()
        exchange.gate_failed()


def _told(exchange: Exchange, model: ModelSpec | None) -> Refuse:
    """The fault in words: whose bound it was, and how long."""
    patience = _patience(exchange)
    total = model.total_timeout if model is not None else 0.0
    if patience and not 0 < total < patience:
        return Refuse(
            "upstream_timeout",
            f"The model did not answer within the {patience:g} s that the request's x-request-timeout allows.",
            rule=FIELD.decode(),
        )
    name = "" if model is None else model.name
    said = f"The model did not answer within the {total:g} s that a request for it may take."
    return Refuse("upstream_timeout", said, rule=f"models.{name}.timeouts.total")
