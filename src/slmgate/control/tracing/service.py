"""Tracing as the control process has it: configured, given receipts, and asked how much was dropped.

It ties options, spans and the exporter together. The ledger's thread hands receipts over after they are in the store, so that no
request waits for a collector; a span is exported once, unless the process dies in between.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from slmgate import __version__
from slmgate.control.config.tracing_options import Tracing as Options
from slmgate.control.tracing.export import Exporter, Target
from slmgate.control.tracing.spans import Spans
from slmgate.control.tracing.wire import Envelope
from slmgate.stores.parted import Parted

SCOPE = "slmgate"


def target_of(options: Options, path: str) -> Target:
    """Where `path` (`/v1/traces`) of the collector is."""
    headers = {name: str(secret) for name, secret in options.headers.items()}
    return Target(f"{options.otlp}".rstrip("/") + path, headers, options.ca)


def envelope_of(options: Options) -> Envelope:
    """Who says it: the attributes of a service, as OpenTelemetry names them."""
    resource = (
        ("service.name", options.service),
        ("service.version", __version__),
        ("host.name", socket.gethostname()),
        ("telemetry.sdk.name", "slmgate"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.version", __version__),
    )
    return Envelope(resource, (SCOPE, __version__))


class Tracing:
    """Makes spans of receipts and sends them. Without a collector it does nothing."""

    def __init__(self, make: Callable[..., Exporter] = Exporter) -> None:
        self._make = make
        self._spans = Spans()
        self._options: Options | None = None
        self._exporter: Exporter | None = None
        self._lock = threading.Lock()  # over what follows: it is asked from other threads than it is told in
        self._ending: list[Exporter] = []  # they send what waits
        self._dropped = 0  # by exporters that are gone

    def __repr__(self) -> str:
        return f"<Tracing {self._exporter or 'off'}>"

    def changes(self, options: Options) -> bool:
        """Whether these options are others than those in force."""
        return options != self._options

    def configure(self, options: Options) -> None:
        """These options are in force. What waits still goes where it was to go, which may take a moment."""
        self._options = options
        made: Exporter | None = None
        if options.otlp is not None:
            made = self._make("spans", target_of(options, "/v1/traces"), envelope_of(options).around)
        self._end(made)

    def take(self, receipts: Parted) -> None:
        """These receipts are in the ledger."""
        exporter = self._exporter
        if exporter is not None and (spans := self._spans.of(receipts)):
            exporter.put(spans)

    def dropped(self) -> int:
        """Spans that no collector has taken, since this process began (`slmgate_trace_dropped_spans_total`)."""
        with self._lock:
            there = [*self._ending, *([] if self._exporter is None else [self._exporter])]
            return self._dropped + sum(exporter.dropped for exporter in there)

    def close(self) -> None:
        self._end(None)

    def _end(self, successor: Exporter | None) -> None:
        """End the exporter that is there, if one is; until it has ended, what it drops is counted with it."""
        with self._lock:
            before, self._exporter = self._exporter, successor
            if before is None:
                return
            self._ending.append(before)
        before.close()
        with self._lock:
            self._ending.remove(before)
            self._dropped += before.dropped
