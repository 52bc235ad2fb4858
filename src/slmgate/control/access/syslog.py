"""The target of the access log that is a syslog server: messages of RFC 5424 over a local socket, UDP or TCP.

Over TCP (RFC 6587) each message stands behind its length. What was handed to the kernel counts as delivered: syslog has no word
for "taken". A server that is away is looked for anew each second, and lines wait for it.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from slmgate.control.access.formats import Name
from slmgate.control.access.places import FACILITIES, SyslogAt
from slmgate.control.access.sink import MAX_BYTES, RETRY_SECONDS, Sink, Tell, is_ready

INFO = 6
SECONDS = 5.0
"""How long a server may take nothing before the connection is given up."""


def head(facility: str, tag: str, now: datetime, host: str, pid: int) -> bytes:
    """What stands before each message: its priority, then version, time, host, program, process and kind."""
    name = re.sub(r"[^!-~]", "", host)[:255] or "-"
    stamp = now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"<{FACILITIES[facility] * 8 + INFO}>1 {stamp} {name} {tag} {pid} access - ".encode("ascii")


class SyslogSink(Sink):
    """Sends each line as a message of its own."""

    def __init__(
        self,
        to: SyslogAt,
        form: Name,
        tell: Tell,
        *,
        facility: str = "local7",
        tag: str = "slmgate",
        max_bytes: int = MAX_BYTES,
        retry: float = RETRY_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._to = to
        self._facility = facility
        self._tag = tag
        self._now = now
        self._socket: socket.socket | None = None
        self._asked = False  # whether a datagram went out over it
        super().__init__(str(to), form, tell, max_bytes=max_bytes, retry=retry)

    def deliver(self, lines: bytes) -> bytes:
        before = head(self._facility, self._tag, self._now(), socket.gethostname(), os.getpid())
        messages = lines.splitlines(keepends=True)
        sent = 0
        try:
            link = self._connected()
            for line in messages:
                self._send(link, before + line.rstrip(b"\n"))
                sent += 1
        except OSError as error:
            self._hang_up()
            if error.errno == errno.ECONNREFUSED and self._to.over == "udp" and self._asked:
                self.lost(1, "nobody takes messages there")  # says the answer to the one before
            else:
                self.trouble(f"it does not take messages: {error.strerror or error}")
        return b"".join(messages[sent:])

    def _connected(self) -> socket.socket:
        """A connection to the server, the one there is if it still is one."""
        link = self._socket
        if link is not None and self._to.over == "tcp" and is_ready(link, select.POLLIN, 0) and not link.recv(4096):
            self._hang_up()
            link = None
        if link is None:
            link = self._socket = _connect(self._to)
            self._asked = False
        return link

    def _send(self, link: socket.socket, message: bytes) -> None:
        if self._to.over == "tcp":
            link.sendall(b"%d %b" % (len(message), message))
            return
        try:
            link.send(message)
            self._asked = True
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self.lost(1, f"a message of {len(message)} bytes is too long")

    def anew(self, unwritten: bytes) -> bytes:
        self._hang_up()
        return unwritten

    def end(self) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        link, self._socket = self._socket, None
        if link is not None:
            link.close()


def _connect(to: SyslogAt) -> socket.socket:
    try:
        return _connected(to)
    except UnicodeError:  # no OSError, as a host that is not found is
        raise OSError(errno.EINVAL, f"no host can be called {to.host}") from None


def _connected(to: SyslogAt) -> socket.socket:
    if to.over == "tcp":
        return socket.create_connection((to.host, to.port), SECONDS)
    address: Any = to.host
    if to.over == "unix":
        link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    else:
        family, kind, _, _, address = socket.getaddrinfo(to.host, to.port, type=socket.SOCK_DGRAM)[0]
        link = socket.socket(family, kind)
    try:
        link.settimeout(SECONDS)
        link.connect(address)
    except OSError:
        link.close()
        raise
    return link
