"""Connecting to an instance by its address or its name; of a name given at run time, what it leads to is looked at before.

The name is looked up once for each connection, so that a second answer cannot differ from the one that was judged, and by the
loop that is given, which has threads for that (`link/lookups.py`). It knows no request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from slmgate.dataplane.secured import Unusable
from slmgate.dataplane.upstream import UpstreamConnection
from slmgate.policy.places import allowed, is_address
from slmgate.policy.specs import InstanceSpec

NO_PLACE = "its name leads where no instance may be"


async def connect(
    loop: asyncio.AbstractEventLoop, made: Callable[[], UpstreamConnection], spec: InstanceSpec, arguments: dict[str, Any]
) -> tuple[asyncio.Transport, UpstreamConnection]:
    """A connection to the instance; `arguments` are those of TLS. Raises OSError."""
    if spec.held is None and is_address(spec.host):
        return await loop.create_connection(made, spec.host, spec.port, **arguments)
    found = await loop.getaddrinfo(spec.host, spec.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if spec.held is not None and not all(allowed(one, spec.held.loopback, spec.held.networks) for one in addresses):
        raise Unusable(NO_PLACE)
    failed = OSError("its name has no address")
    for address in addresses:
        try:
            return await loop.create_connection(made, address, spec.port, **arguments)
        except OSError as failure:
            failed = failure
    raise failed
