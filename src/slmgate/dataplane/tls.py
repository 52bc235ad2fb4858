"""TLS towards clients: contexts made from a listener's orders, and what a verified client certificate says.

The figures are those of Mozilla's "intermediate" configuration: TLS 1.2 with forward secrecy and authenticated encryption only,
TLS 1.3 as it is. This module knows no policy: whom a certificate stands for is `policy/certificates.py`'s affair.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from slmgate.link.orders import TlsOrders, WorkerOrders
from slmgate.policy.certificates import Certificate

HANDSHAKE_SECONDS = 5.0
"""How long a client may take from its first byte to the end of the handshake."""
SHUTDOWN_SECONDS = 2.0
"""How long a closed connection waits for the client's own goodbye (close_notify)."""

_CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_SUBJECT = {"commonName": "subject_cn", "emailAddress": "subject_email", "organizationName": "subject_o"}
_ALTERNATIVE = {"DNS": "san_dns", "URI": "san_uri", "email": "san_email"}


def server_context(orders: TlsOrders) -> ssl.SSLContext:
    """The context of one listener. Raises OSError (`ssl.SSLError` is one) for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[orders.min_version]
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # No tickets: their key would live as long as the process, and every connection is to prove its certificate anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.load_cert_chain(orders.certificate, orders.key, password="")  # a password is never asked for
    if orders.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED if orders.client_required else ssl.CERT_OPTIONAL
        context.load_verify_locations(orders.client_ca)
    return context


def certificate_of(transport: asyncio.BaseTransport) -> Certificate | None:
    """The verified client certificate of a connection, if it has one. Only what was verified is ever given here."""
    peer = transport.get_extra_info("peercert")
    return read_certificate(peer) if peer else None


def read_certificate(peer: dict[str, object]) -> Certificate:
    """What `ssl.SSLSocket.getpeercert()` says of a verified certificate."""
    names: dict[str, tuple[str, ...]] = {}
    for relative in _pairs(peer.get("subject")):
        for kind, value in _pairs(relative):
            _add(names, _SUBJECT.get(kind), value)
    for kind, value in _pairs(peer.get("subjectAltName")):
        _add(names, _ALTERNATIVE.get(kind), value)
    return Certificate(names, repr(peer.get("issuer")), float(ssl.cert_time_to_seconds(str(peer["notAfter"]))))


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    """A tuple as the ssl module makes them; nothing where the certificate has no such part."""
    return value if isinstance(value, tuple) else ()


def _add(names: dict[str, tuple[str, ...]], field: str | None, value: str) -> None:
    if field is not None:
        names[field] = (*names.get(field, ()), value)


def contexts(orders: WorkerOrders) -> list[ssl.SSLContext | None]:
    """What each listener speaks: a TLS context, or None for plain HTTP."""
    try:
        return [None if tls is None else server_context(tls) for tls in orders.tls or (None,) * len(orders.listeners)]
    except OSError as error:
        raise SystemExit(
            f"slmgate: the TLS files of a listener cannot be used any more: {error}; `slmgate check` says why"
        ) from None


def accepting(context: ssl.SSLContext | None) -> dict[str, Any]:
    """Of the loop's methods that accept connections."""
    if context is None:
        return {}
    return {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": SHUTDOWN_SECONDS}
