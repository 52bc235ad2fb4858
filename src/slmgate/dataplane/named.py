"""The client's connection at a listener whose certificates are for different names.

A request for a name of which this connection's certificate is not, while another one of the listener is, came the wrong way: 421.
Only such listeners make connections of this class; it knows no policy, and of TLS what `tls.py` tells it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from slmgate.dataplane.client import ClientConnection
from slmgate.dataplane.exchange import Exchange
from slmgate.dataplane.tls import Front
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.door import Arrival
    from slmgate.dataplane.worker import Worker

_MISDIRECTED = Refuse(
    "misdirected_request", "This connection is for another host: the certificate that was shown is not for the one in Host."
)


class NamedConnection(ClientConnection):
    __slots__ = ("_front", "_good", "_shown")

    def __init__(self, worker: Worker, front: Front, arrival: Arrival | None = None) -> None:
        super().__init__(worker, arrival)
        # connection
        self._front = front
        self._shown: ssl.SSLContext = front.context
        self._good: bytes | None = None  # the last Host that belongs here: clients repeat theirs

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._shown = transport.get_extra_info("ssl_object").context
        super().connection_made(transport)

    def _ask(self, exchange: Exchange) -> None:
        host = exchange.head.fields.get(b"host")
        if host != self._good and host is not None and self.proxied is None:  # a trusted proxy speaks for many hosts
            name = host.decode("latin-1").lower()
            if self._front.is_misdirected(name.rpartition(":")[0] if ":" in name else name, self._shown):
                # Say so and close: whoever reads it may ask anew, over another connection (RFC 9110 section 15.5.20).
                exchange.keep_alive = False
                exchange.refuse(_MISDIRECTED)
                return
            self._good = host
        super()._ask(exchange)
