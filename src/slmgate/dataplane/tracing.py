"""Which trace a request is part of, decided once, and what its instance is told of that (W3C Trace Context).

A request joins its client's trace where that is believed, and else begins one. The gate's span at the instance has the last 16
digits of the receipt's id for its own, so that nothing more needs to be drawn or kept; all other spans are made from the receipt,
off the road, by `control/tracing`. This module makes no span, and knows no collector.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slmgate.http1.trace_context import NONE, RANDOM, SAMPLED, parent_of, sane_state
from slmgate.policy.specs import TracingSpec

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange

DRAWN = 256
"""Traces whose ids are drawn at once."""
_LINE = b"traceparent: 00-%b-%b-%02x\r\n"
_STATE = b"tracestate: %b\r\n"
_RECORDED = b"traceparent: 00-%%b-%%b-%02x\r\n" % (RANDOM | SAMPLED)
_NOT = b"traceparent: 00-%%b-%%b-%02x\r\n" % RANDOM


class Tracer:
    """How requests are traced under one `TracingSpec`. None in its place: they are not."""

    __slots__ = ("_drawn", "_from", "spec")

    def __init__(self, spec: TracingSpec) -> None:
        self.spec = spec
        self._drawn: list[bytes] = []  # the ids of traces to come
        # `is_chosen` by digits, which compare as their numbers do: no digit is above all of them
        self._from = b"%014x" % spec.threshold if spec.threshold < NONE else b"g"

    def __repr__(self) -> str:
        return f"<Tracer from {self.spec.threshold:014x}, {'trusting' if self.spec.trust else 'alone'}>"

    def lines(self, exchange: Exchange) -> bytes:
        """What an exchange's instance is told. The first time, it is decided which trace the exchange is part of.

        A trace that began here and is not recorded is nobody's to look for: the receipt does not say it, and another try of the
        same request has another.
        """
        if exchange.trace:
            return self._again(exchange)
        fields = exchange.head.fields
        if b"traceparent" in fields and self.spec.trust and (parent := parent_of(fields[b"traceparent"])) is not None:
            trace_id, span_id, flags = parent
            exchange.trace = b"%b-%b-%02x" % (trace_id, span_id, flags)
            return self._again(exchange)
        if not self._drawn:
            self._drawn = os.urandom(16 * DRAWN).hex("-", 16).encode().split(b"-")
        new = self._drawn.pop()
        if new[18:] < self._from:
            return _NOT % (new, exchange.id[-16:])
        exchange.trace = new
        return _RECORDED % (new, exchange.id[-16:])

    def _again(self, exchange: Exchange) -> bytes:
        """The lines of an exchange whose trace is known."""
        trace, fields = exchange.trace, exchange.head.fields
        if len(trace) == 32:
            return _LINE % (trace, exchange.id[-16:], RANDOM | SAMPLED)
        line = _LINE % (trace[:32], exchange.id[-16:], int(trace[-2:], 16))
        state = sane_state(fields[b"tracestate"]) if b"tracestate" in fields else None
        return line if state is None else line + _STATE % state


def tracer_of(spec: TracingSpec | None, before: Tracer | None) -> Tracer | None:
    """The tracer of a snapshot; the one before where nothing has changed."""
    if spec is None:
        return None
    return before if before is not None and before.spec == spec else Tracer(spec)


def trace_of(exchange: Exchange) -> bytes:
    """The trace of an exchange that is over, also of one that never came to an instance."""
    tracer = exchange.worker.tracer
    if tracer is not None and not exchange.trace and not exchange.asked_at:
        tracer.lines(exchange)
    return exchange.trace
