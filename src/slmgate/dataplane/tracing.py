"""Which trace a request is part of, decided once, and what its instance is told of that (W3C Trace Context).

A request joins its client's trace where that is believed, and else begins one. The gate's span at the instance has the last 16
digits of the receipt's id for its own, so that nothing more needs to be drawn or kept; all other spans are made from the receipt,
off the road, by `control/tracing`. This module makes no span, and knows no collector.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slmgate.http1.trace_context import NONE, RANDOM, SAMPLED, parent_of, sane_state
from slmgate.policy.snapshot import TracingSpec

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange

DRAWN = 256
"""Traces whose ids are drawn at once."""
_LINE = b"traceparent: 00-%b-%b-%02x\r\n"
_STATE = b"tracestate: %b\r\n"
_BEFORE, _RECORDED, _NOT = b"traceparent: 00-%b-", b"-%02x\r\n" % (RANDOM | SAMPLED), b"-%02x\r\n" % RANDOM


class Tracer:
    """How requests are traced under one `TracingSpec`. None in its place: they are not."""

    __slots__ = ("_drawn", "spec")

    def __init__(self, spec: TracingSpec) -> None:
        self.spec = spec
        # Of traces to come: the header line before the span's id and behind it, and what the receipt says.
        self._drawn: list[tuple[bytes, bytes, bytes]] = []

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
        drawn = self._drawn
        if not drawn:
            self._draw()
        before, after, exchange.trace = drawn.pop()
        return before + exchange.id[-16:] + after

    def _again(self, exchange: Exchange) -> bytes:
        """The lines of an exchange whose trace is known."""
        trace, fields = exchange.trace, exchange.head.fields
        if len(trace) == 32:
            return _LINE % (trace, exchange.id[-16:], RANDOM | SAMPLED)
        line = _LINE % (trace[:32], exchange.id[-16:], int(trace[-2:], 16))
        state = sane_state(fields[b"tracestate"]) if b"tracestate" in fields else None
        return line if state is None else line + _STATE % state

    def _draw(self) -> None:
        digits = os.urandom(16 * DRAWN).hex().encode()
        # As `is_chosen` says it, by digits: they compare as their numbers do. No digit is above all of them.
        line = b"%014x" % self.spec.threshold if self.spec.threshold < NONE else b"g"
        for at in range(0, 32 * DRAWN, 32):
            trace_id = digits[at : at + 32]
            if trace_id[18:] >= line:
                self._drawn.append((_BEFORE % trace_id, _RECORDED, trace_id))
            else:
                self._drawn.append((_BEFORE % trace_id, _NOT, b""))


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
