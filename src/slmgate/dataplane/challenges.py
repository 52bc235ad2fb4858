"""What this worker answers to an authority that checks whether a name is this gate's (ACME).

Control says which answers are pending, and they are seldom any. http-01 asks for a path that is in no table, so it is looked for
here only where a request would be answered with 404. tls-alpn-01 asks in the handshake, by the protocol `acme-tls/1` (RFC 8737):
while such an answer is pending, each ClientHello is looked at, and who offers that protocol is shown the answer's certificate;
all others, that of the listener. It knows no authority and no order.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from slmgate.dataplane.client_hello import CLIENT_HELLO, protocols
from slmgate.link.messages import Challenges
from slmgate.link.pem import load_identity

PREFIX = "/.well-known/acme-challenge/"
"""RFC 8555 section 8.3."""
ACME_TLS = "acme-tls/1"

_Asked = Callable[[Any, str, ssl.SSLContext], int | None]


class Pending:
    """The answers that are pending now."""

    __slots__ = ("_dressed", "_shown", "_texts", "_who", "ever")

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}  # by the path that is asked
        self._shown: dict[str, ssl.SSLContext] = {}  # by name
        self._dressed: dict[ssl.SSLContext, _Asked | None] = {}  # those that look for it, and what they did before
        self._who: weakref.ref[Any] | None = None  # the connection whose ClientHello offers it, and is under way just now
        self.ever = False  # some connection of this process may be one that was answered in its handshake

    def __repr__(self) -> str:
        return f"<Pending {len(self._texts)} tokens, {len(self._shown)} certificates>"

    def take(self, challenges: Challenges, contexts: Iterable[ssl.SSLContext]) -> None:
        """Answer so from now on; `contexts` are those that handshakes begin with. Raises ssl.SSLError."""
        self._texts = {PREFIX + token: text.encode() for token, text in challenges.tokens.items()}
        self._shown = {name: _context(pem) for name, pem in challenges.certificates.items()}
        self.dress(contexts)

    def text(self, path: str) -> bytes | None:
        """What is answered to a GET of `path`; None: nothing is there."""
        return self._texts.get(path) if self._texts else None

    def dress(self, contexts: Iterable[ssl.SSLContext]) -> None:
        """Look at what clients offer in handshakes that begin with these contexts, if anything is pending for them."""
        wanted = set(contexts) if self._shown else set()
        for gone in self._dressed.keys() - wanted:
            gone._msg_callback = None  # type: ignore[attr-defined]  # as below
            gone.sni_callback = self._dressed.pop(gone)
        for fresh in wanted - self._dressed.keys():
            self.ever = True
            usual: _Asked | None = fresh.sni_callback
            self._dressed[fresh] = usual
            fresh.sni_callback = lambda connection, name, context, usual=usual: self._asked(connection, name, context, usual)
            # The ssl module has no word for what a client offers before a certificate is chosen, but for this one, which it keeps
            # for itself and its own tests: OpenSSL's message callback. It has the whole message, however it came.
            fresh._msg_callback = self._heard  # type: ignore[attr-defined]  # the stubs leave it out

    def _heard(self, connection: Any, direction: str, version: Any, content: Any, kind: Any, data: bytes) -> None:
        """A message of a handshake; behind a ClientHello comes `_asked` for the same connection, in the same call of OpenSSL."""
        if direction == "read" and kind == CLIENT_HELLO and data[:1] == b"\x01":
            self._who = weakref.ref(connection) if ACME_TLS.encode() in protocols(data) else None

    def _asked(self, connection: Any, name: str | None, context: ssl.SSLContext, usual: _Asked | None) -> int | None:
        who, self._who = self._who, None
        shown = self._shown.get(name.lower()) if name and who is not None and who() is connection else None
        if shown is None:
            return None if usual is None else usual(connection, name, context)  # type: ignore[arg-type]  # a name may be missing
        connection.context = shown
        return None


def is_answered(transport: asyncio.BaseTransport) -> bool:
    """Whether a connection was made for its handshake alone: nothing may be said on it (RFC 8737 section 3)."""
    tls = transport.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() == ACME_TLS


def _context(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ACME_TLS])
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    load_identity(context, pem, pem)
    return context
