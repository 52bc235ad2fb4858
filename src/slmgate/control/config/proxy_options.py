"""Proxies before the gate, as options: which networks are theirs, and how they say who the client is.

A part of `options.py`'s table in a file of its own. It knows no connection: whom a proxy names is `policy/proxies.py`'s affair.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Choice, Network, Switch
from slmgate.control.config.table import Option


class ProxyNetwork(Network, frozen=True, kw_only=True):
    """A network of proxies: not that of everybody."""

    def read(self, text: str) -> str:
        network = super().read(text)
        if ip_network(network).prefixlen == 0:
            raise BadValueError("holds every address: anybody could say who they are", "name the networks of your proxies")
        return network


TrustedProxies = Annotated[
    tuple[str, ...],
    Option(
        "The proxies before the gate, by network or address. Only they may say who the client is: in `proxy_header`, and in the "
        "PROXY protocol where a listener has `proxy_protocol`. From anybody else, the former is ignored, the latter closed. "
        "docs/security.md.",
        ProxyNetwork(),
        example="[10.0.0.5, fd00:2::/64]",
    ),
]
ProxyHeader = Annotated[
    Literal["x-forwarded-for", "forwarded", "none"],
    Option(
        "The one header in which trusted proxies name the client; any other is ignored, since a client may have written it. "
        "`none`: they pass on whatever a client wrote, and only the PROXY protocol says who it is.",
        Choice(values=("x-forwarded-for", "forwarded", "none")),
    ),
]
ProxyProtocol = Annotated[
    bool,
    Option(
        "Whether every connection to this address begins with a PROXY protocol header, version 1 or 2, of one of "
        "`guard.trusted_proxies`; others are closed. It stands before TLS.",
        Switch(),
        False,
    ),
]
