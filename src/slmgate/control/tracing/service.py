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
        self._wanted = Options()  # told last
        self._in_force = self._wanted
        self._lock = threading.Lock()  # over what follows: it is asked from other threads than it is told in
        self._exporter: Exporter | None = None
        self._ending: list[Exporter] = []  # they send what waits
        self._dropped = 0  # by exporters that are gone

    def __repr__(self) -> str:
        return f"<Tracing {self._exporter or 'off'}>"

    def wants(self, options: Options) -> bool:
        """These options are to be in force. Whether they are others than those told before: then `configure` is to be called."""
        before, self._wanted = self._wanted, options
        return options != before

    def configure(self) -> None:
        """Put into force what was told last. What waits still goes where it was to go, which may take a moment.

        Of several threads that do so, in whatever order, each takes up what is wanted by then: none brings back what was before.
        """
        with self._lock:
            options = self._wanted
            if options == self._in_force:
                return
            made: Exporter | None = None
            if options.otlp is not None:
                made = self._make("spans", target_of(options, "/v1/traces"), envelope_of(options).around)
            before, self._exporter = self._exporter, made
            self._in_force = options
            if before is not None:
                self._ending.append(before)
        if before is not None:
            self._end(before)

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
        self.wants(Options())
        self.configure()

    def _end(self, exporter: Exporter) -> None:
        """End one of `_ending`; until it has ended, what it drops is counted with it."""
        exporter.close()
        with self._lock:
            self._ending.remove(exporter)
            self._dropped += exporter.dropped
