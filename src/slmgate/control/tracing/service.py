"""Tracing as the control process has it: configured, given receipts, and asked how much was dropped.

It ties options, spans and the exporter together. The ledger's thread hands receipts over after they are in the store, so that no
request waits for a collector; a span is exported once, unless the process dies in between.
"""

from __future__ import annotations

import socket
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
        self._dropped = 0  # by exporters that are gone

    def __repr__(self) -> str:
        return f"<Tracing {self._exporter or 'off'}>"

    def changes(self, options: Options) -> bool:
        """Whether these options are others than those in force."""
        return options != self._options

    def configure(self, options: Options) -> None:
        """These options are in force. What waits still goes where it was to go, which may take a moment."""
        before, self._options = self._exporter, options
        self._exporter = None
        if options.otlp is not None:
            self._exporter = self._make("spans", target_of(options, "/v1/traces"), envelope_of(options).around)
        if before is not None:
            self._end(before)

    def take(self, receipts: Parted) -> None:
        """These receipts are in the ledger."""
        exporter = self._exporter
        if exporter is not None and (spans := self._spans.of(receipts)):
            exporter.put(spans)

    def dropped(self) -> int:
        """Spans that no collector has taken, since this process began (`slmgate_trace_dropped_spans_total`)."""
        exporter = self._exporter
        return self._dropped + (0 if exporter is None else exporter.dropped)

    def close(self) -> None:
        before, self._exporter = self._exporter, None
        if before is not None:
            self._end(before)

    def _end(self, exporter: Exporter) -> None:
        exporter.close()
        self._dropped += exporter.dropped
