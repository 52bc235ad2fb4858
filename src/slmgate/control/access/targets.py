"""The registry of the access log's targets: for each kind of place, what writes there.

A further kind is a record in `places.py`, a row here, and a word of the option. Who gives lines does not know which there are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from slmgate.control.access.formats import Name
from slmgate.control.access.places import OtlpAt, SyslogAt, Where
from slmgate.control.access.sink import Sink, Tell
from slmgate.control.access.streams import StreamSink
from slmgate.control.access.syslog import SyslogSink


class Target(msgspec.Struct, frozen=True):
    """One target, in full. `facility` is syslog's, `headers` and `ca` are a collector's, `tag` is what both call the program."""

    to: Where
    form: Name = "json"
    facility: str = "local7"
    tag: str = "slmgate"
    headers: tuple[tuple[str, str], ...] = ()
    ca: Path | None = None


def _stream(target: Target, tell: Tell) -> Sink:
    assert not isinstance(target.to, SyslogAt | OtlpAt) and target.to != "off"
    return StreamSink(target.to, target.form, tell)


def _syslog(target: Target, tell: Tell) -> Sink:
    assert isinstance(target.to, SyslogAt)
    return SyslogSink(target.to, target.form, tell, facility=target.facility, tag=target.tag)


def _otlp(target: Target, tell: Tell) -> Sink:
    # here, since options name this module, and who only reads them needs no HTTP client
    from slmgate.control.tracing.export import Target as Collector
    from slmgate.control.tracing.otlp_logs import OtlpSink

    assert isinstance(target.to, OtlpAt)
    collector = Collector(f"{target.to.url.rstrip('/')}/v1/logs", dict(target.headers), target.ca)
    return OtlpSink(collector, target.tag, tell)


SINKS: dict[type, Callable[[Target, Tell], Sink]] = {str: _stream, Path: _stream, SyslogAt: _syslog, OtlpAt: _otlp}
"""The kind of `Target.to` -> what opens it. It may raise OSError."""


def open_target(target: Target, tell: Tell) -> Sink | None:
    """What writes to this target; None where it is nothing. Raises OSError."""
    if target.to == "off":
        return None
    kind = next(kind for kind in SINKS if isinstance(target.to, kind))
    return SINKS[kind](target, tell)
