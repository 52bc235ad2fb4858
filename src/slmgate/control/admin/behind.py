"""Where somebody asks the admin listener from: the other end of his connection, or whom that names, if it is a trusted proxy.

By the same rule as on the gate's own side, in `http1/forwarded.py` and `policy/proxies.py`; it knows nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable

from slmgate.control.config.options import Guard
from slmgate.http1.forwarded import forwarded, forwarded_for
from slmgate.policy.networks import networks_of, number_of
from slmgate.policy.proxies import client_of


def asks_from(peer: str, headers: Iterable[tuple[bytes, bytes]], guard: Guard) -> str:
    """The address. `headers`: all of the request, names in lower case, as they came (the ASGI specification)."""
    trusted = networks_of(guard.trusted_proxies)
    if guard.proxy_header == "none" or not trusted.holds(number_of(peer)):
        return peer
    said = [value for name, value in headers if name == guard.proxy_header.encode()]
    if not said:
        return peer
    read = forwarded if guard.proxy_header == "forwarded" else forwarded_for
    return client_of(peer, read(b", ".join(said)), trusted)
