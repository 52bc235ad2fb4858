"""The registry of the access log's targets: for each kind of place, what writes there.

A further kind is a record in `places.py`, a row here, and a word of the option. Who gives lines does not know which there are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from slmgate.control.access.formats import Name
from slmgate.control.access.places import SyslogAt, Where
from slmgate.control.access.sink import Sink, Tell
from slmgate.control.access.streams import StreamSink
from slmgate.control.access.syslog import SyslogSink


class Target(msgspec.Struct, frozen=True):
    """One target, in full. `facility` and `tag` are syslog's."""

    to: Where
    form: Name = "json"
    facility: str = "local7"
    tag: str = "slmgate"


def _stream(target: Target, tell: Tell) -> Sink:
    assert not isinstance(target.to, SyslogAt) and target.to != "off"
    return StreamSink(target.to, target.form, tell)


def _syslog(target: Target, tell: Tell) -> Sink:
    assert isinstance(target.to, SyslogAt)
    return SyslogSink(target.to, target.form, tell, facility=target.facility, tag=target.tag)


SINKS: dict[type, Callable[[Target, Tell], Sink]] = {str: _stream, Path: _stream, SyslogAt: _syslog}
"""The kind of `Target.to` -> what opens it. It may raise OSError."""


def open_target(target: Target, tell: Tell) -> Sink | None:
    """What writes to this target; None where it is nothing. Raises OSError."""
    if target.to == "off":
        return None
    kind = next(kind for kind in SINKS if isinstance(target.to, kind))
    return SINKS[kind](target, tell)
