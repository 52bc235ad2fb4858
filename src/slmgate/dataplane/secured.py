"""Connections to instances over TLS: how they are opened, when one may not be used any more, and why one did not come about.

What an instance must show may change while it has connections: those made before are not used again. Only instances that are
reached over TLS have any of this. Contexts are `link/trust.py`'s; it knows no request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from slmgate.link.trust import Trusts, why_not
from slmgate.policy.specs import InstanceSpec, TrustSpec

AS_USUAL = TrustSpec()


class Unusable(OSError):
    """It is not to be connected to as things are; the message says why, in words for the operator."""


class Secured(NamedTuple):
    """What an instance must show over TLS. `context` is text where there is none: why not."""

    context: ssl.SSLContext | str
    name: str


def secured(spec: InstanceSpec, trusts: Trusts) -> Secured | None:
    """What an instance must show; None: it is reached over plain HTTP."""
    if not spec.tls:
        return None
    return Secured(trusts.context(spec.trust or AS_USUAL), spec.server_name or spec.host)


def connecting(secured: Secured | None, seconds: float) -> dict[str, Any]:
    """Of the loop's `create_connection`. Raises Unusable."""
    if secured is None:
        return {}
    if isinstance(secured.context, str):
        raise Unusable(secured.context)
    return {"ssl": secured.context, "server_hostname": secured.name, "ssl_handshake_timeout": seconds}


def closing(transport: asyncio.Transport, shown: Secured, must: Callable[[], Secured | None]) -> Callable[[], bool]:
    """Tells whether a connection may not be used again: it is closing, or was made when something else had to be `shown`."""

    def is_closing() -> bool:
        if must() is not shown and not transport.is_closing():
            transport.abort()
        return transport.is_closing()

    return is_closing


def trouble(secured: Secured | None, failure: BaseException | None, *, opening: bool = True) -> str | None:
    """Why no connection came about, or one was lost (not `opening`), where that is TLS's affair or known in words. None: else."""
    if isinstance(failure, Unusable):
        return str(failure)
    if secured is None or failure is None:
        return None
    if not opening:
        return why_not(failure, secured.name, opening=False)
    if isinstance(failure, TimeoutError):
        return "no connection over TLS came about in time"
    return why_not(failure, secured.name)
