"""Where the access log can go, by the words that the configuration has for it: records and their texts, nothing opened.

One place for all targets: what `log.access` accepts, what `config show` prints and what `targets.py` opens follow from it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

Over = Literal["unix", "udp", "tcp"]
FACILITIES: dict[str, int] = {
    "kern": 0,
    "user": 1,
    "mail": 2,
    "daemon": 3,
    "auth": 4,
    "syslog": 5,
    "lpr": 6,
    "news": 7,
    "uucp": 8,
    "cron": 9,
    "authpriv": 10,
    "ftp": 11,
    **{f"local{number}": 16 + number for number in range(8)},
}
"""Of syslog messages: name -> number (RFC 5424, table 1)."""
LOCAL = "/dev/log"
PORTS: dict[str, int] = {"udp": 514, "tcp": 601}
"""Where syslog servers listen as a rule; 601 is that of messages behind their lengths (RFC 3195, RFC 6587)."""
_SERVER = re.compile(r"(udp|tcp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


class SyslogAt(msgspec.Struct, frozen=True):
    """Where a syslog server is: a socket's path with `unix`, else a host and a port."""

    over: Over = "unix"
    host: str = LOCAL
    port: int = 0

    def __str__(self) -> str:
        if self.over == "unix":
            return "syslog" if self.host == LOCAL else f"syslog:{self.host}"
        return f"syslog:{self.over}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class OtlpAt(msgspec.Struct, frozen=True):
    """Where an OpenTelemetry collector is: its URL for OTLP over HTTP."""

    url: str

    def __str__(self) -> str:
        return f"otlp:{self.url}"


Where = Literal["stdout", "stderr", "off"] | Path | SyslogAt | OtlpAt


def syslog_at(text: str) -> SyslogAt | None:
    """The server that `syslog`, or `syslog:` and more, stands for; None: no such form."""
    if text == "syslog":
        return SyslogAt()
    rest = text.removeprefix("syslog:")
    if rest.startswith("/") and rest.isprintable():
        return SyslogAt("unix", rest)
    found = _SERVER.fullmatch(rest)
    if found is None:
        return None
    over: Over = "udp" if found[1] == "udp" else "tcp"
    port = int(found[3]) if found[3] else PORTS[over]
    return SyslogAt(over, found[2].strip("[]"), port) if 0 < port < 65536 else None
