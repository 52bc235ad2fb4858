"""What stands behind a connection of a trusted proxy: each head on it says whose its request is.

The connection reads its heads through this, so that one of anybody else costs nothing. Whom to trust is asked anew with each
head, by the snapshot in force. It knows no rule of who the client is: `http1/forwarded.py` and `policy/proxies.py` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slmgate.http1.forwarded import forwarded, forwarded_for
from slmgate.http1.heads import RequestHead
from slmgate.policy.proxies import client_of
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.client import ClientConnection
    from slmgate.dataplane.worker import Worker


class Proxied:
    """For the life of a connection, or until its other end is no trusted proxy any more. `address` is the proxy's."""

    __slots__ = ("_connection", "_number", "_worker", "address")

    def __init__(self, connection: ClientConnection, worker: Worker) -> None:
        self._connection = connection
        self._worker = worker
        self.address = connection.address
        self._number = connection.number

    def __repr__(self) -> str:
        return f"<Proxied by {self.address}>"

    def read(self, head: bytes, raw: Mapping[bytes, bytes]) -> RequestHead | Refuse:
        """As `HeadReader.read`; afterwards the connection's address is the one of this request's client."""
        read = self._worker.heads.read(head, raw)
        if not self._worker.snapshot.forwarders.holds(self._number):
            self._connection.is_direct()
        elif isinstance(read, RequestHead):
            self._connection.is_for(self._client(read.fields))
        return read

    def _client(self, fields: Mapping[bytes, bytes]) -> str:
        snapshot = self._worker.snapshot
        name = snapshot.gate.proxy_header
        value = fields.get(name.encode())
        if value is None:
            return self.address
        hops = forwarded(value) if name == "forwarded" else forwarded_for(value)
        return client_of(self.address, hops, snapshot.forwarders)
