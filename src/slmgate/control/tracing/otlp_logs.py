"""The target of the access log that is an OpenTelemetry collector: each line a log record, over OTLP/HTTP.

The line itself is what the record says; beside it stand its time, how grave it is, a few fields to search by, and the span at the
instance, so that a trace leads to its receipt and back. Lines that cannot be sent now wait, as for every target.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import msgspec

from slmgate import __version__
from slmgate.control.access.sink import MAX_BYTES, RETRY_SECONDS, Sink, Tell
from slmgate.control.tracing import wire
from slmgate.control.tracing.export import AGAIN, Target, Way
from slmgate.control.tracing.wire import Envelope, Key
from slmgate.control.tracing.words import parent_id, trace_id

_FIELD = 6  # where attributes stand in a log record
_EVENT = wire.block(12, b"slmgate.request")
_STATUS = Key("http.response.status_code", _FIELD)
_GRAVE = {4: (wire.WARN, "WARN"), 5: (wire.ERROR, "ERROR")}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Line(msgspec.Struct, gc=False):
    """What is looked at of a line."""

    time: datetime | None = None
    id: str = ""
    trace: str = ""
    method: str = ""
    path: str = ""
    status: int = 0
    ended: str = ""
    reason: str = ""
    principal: str = ""
    team: str | None = None
    model: str = ""
    instance: str = ""
    endpoint: str = ""


_read = msgspec.json.Decoder(_Line).decode


def records(lines: bytes, now: int) -> list[bytes]:
    """Each line as a log record, seen at `now` (nanoseconds since the epoch). What cannot be read is a record all the same."""
    return [_record(line, now) for line in lines.splitlines()]


def _record(line: bytes, now: int) -> bytes:
    try:
        one = _read(line)
    except msgspec.MsgspecError:
        one = _Line()
    at = now if one.time is None else int((one.time - _EPOCH).total_seconds() * 1_000_000) * 1000
    number, word = _GRAVE.get(one.status // 100, (wire.INFO, "INFO"))
    said = [
        wire.severity(number, word),
        wire.body(line.decode(errors="replace")),
        wire.texts(
            (
                ("http.request.method", one.method),
                ("url.path", one.path),
                ("gen_ai.request.model", one.model),
                ("slmgate.receipt", one.id),
                ("slmgate.principal", one.principal),
                ("slmgate.team", one.team or ""),
                ("slmgate.endpoint", one.endpoint),
                ("slmgate.instance", one.instance),
                ("slmgate.ended", one.ended),
                ("slmgate.reason", one.reason),
            ),
            _FIELD,
        ),
        _EVENT,
    ]
    if one.status:
        said.append(_STATUS.whole(one.status))
    if one.trace and one.id:
        flags = int(one.trace[-2:], 16) & 3 if parent_id(one.trace) else 3
        said.append(wire.place(bytes.fromhex(trace_id(one.trace)), bytes.fromhex(one.id[-16:]), flags))
    return wire.log_record(at, now, b"".join(said))


class OtlpSink(Sink):
    """Sends lines to a collector, some hundred at a time."""

    def __init__(
        self,
        target: Target,
        service: str,
        tell: Tell,
        *,
        max_bytes: int = MAX_BYTES,
        retry: float = RETRY_SECONDS,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._target = target
        self._now = now
        resource = (("service.name", service), ("service.version", __version__), ("host.name", socket.gethostname()))
        self._around = Envelope(resource, ("slmgate", __version__)).around
        self._way: Way | None = None
        super().__init__(f"otlp:{target.url}", "json", tell, max_bytes=max_bytes, retry=retry)

    def deliver(self, lines: bytes) -> bytes:
        made = records(lines, self._now())
        try:
            if self._way is None:
                self._way = Way(self._target)
            status, body, _ = self._way.post(self._around(made))
        except (httpx.TransportError, OSError) as error:
            self.trouble(f"the collector cannot be reached: {type(error).__name__}")
            return lines
        if status in AGAIN:
            self.trouble(f"the collector answered {status}")
            return lines
        if not 200 <= status < 300:
            self.lost(len(made), f"the collector answered {status}")
        elif refused := min(wire.rejected(body), len(made)):
            self.lost(refused, f"the collector did not take {refused} lines")
        return b""

    def anew(self, unwritten: bytes) -> bytes:
        self.end()
        return unwritten

    def end(self) -> None:
        way, self._way = self._way, None
        if way is not None:
            way.close()
