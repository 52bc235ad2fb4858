"""Listening sockets: opened where the configuration says, by the supervisor, which keeps them for its children.

Each address has at least as many sockets as there are workers, among which the kernel spreads clients (`SO_REUSEPORT`). It knows
no process, and not what is spoken on them.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from slmgate.control.config.tls_options import ListenTls

SEND_BUFFER = 256 * 1024
"""Bytes the kernel may hold for a client that does not read; by itself it takes megabytes for each, and a thousand such clients
use up the TCP memory of the whole machine (tcp(7), tcp_mem)."""
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))

Bound = tuple[socket.AddressFamily, tuple[str, int]]


class CannotServe(Exception):
    """The gate cannot start; the message says why and what to do."""


class Listening(NamedTuple):
    """One address of the gate: as it is configured, how TLS is spoken there, its sockets, and whether proxies speak first."""

    name: str
    tls: ListenTls | None
    sockets: list[socket.socket]
    proxied: bool = False

    def share(self, slot: int, workers: int) -> list[socket.socket]:
        """The sockets of one of so many workers. None is left out: a socket with nobody behind it lets clients wait for ever."""
        return self.sockets[slot::workers]


def resolve(host: str, port: int) -> Bound:
    """The address to bind. Raises CannotServe."""
    if not host:  # every address: both families in one socket, where the machine has IPv6
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # what the operator asked for
    try:
        family, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return family, (str(resolved[0]), port)


def probe_port(host: str, port: int) -> Bound:
    """The address to bind, with its port. With SO_REUSEPORT two gates could share one unnoticed, so it is first bound without."""
    family, address = resolve(host, port)
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(address)
            return family, (address[0], probe.getsockname()[1])
    except OSError as error:
        raise CannotServe(f"cannot listen on {host or '*'}:{port}: {error.strerror or error}") from error


def bound_to(one: socket.socket) -> Bound:
    """Where a socket is bound."""
    host, port = one.getsockname()[:2]
    return socket.AddressFamily(one.family), (host, port)


def listener(bound: Bound, *, shared: bool, listens: bool = True) -> socket.socket:
    """A socket bound there; `shared`: one of several. Raises CannotServe."""
    family, address = bound
    one = socket.socket(family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit these.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # A peer that is gone without a word is noticed by the kernel.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE:
            one.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        one.bind(address)
        if listens:
            one.listen(4096)
    except OSError as error:
        one.close()
        raise CannotServe(f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from error
    return one


def url(bound: tuple[int, tuple[str, int]], tls: bool = False) -> str:
    """How an address is shown."""
    host, port = bound[1][0], bound[1][1]
    return f"http{'s' * tls}://" + (f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}")
