"""TLS towards clients: contexts made from what control says of a listener, and what a verified client certificate says.

The figures are those of Mozilla's "intermediate" configuration: TLS 1.2 with forward secrecy and authenticated encryption only,
TLS 1.3 as it is, the client's order of ciphers. This module knows no file and no policy: whom a certificate stands for is
`policy/certificates.py`'s affair.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Sequence
from typing import Any

from slmgate.dataplane.openssl import keep_no_sessions, set_groups, set_ticket_key, take_certificates_of
from slmgate.link.pem import load_identity, load_trusted
from slmgate.link.tls import Identity, Tls, TlsSpec
from slmgate.policy.certificates import Certificate

HANDSHAKE_SECONDS = 5.0
"""How long a client may take from its first byte to the end of the handshake."""
SHUTDOWN_SECONDS = 2.0
"""How long a closed connection waits for the client's own goodbye (close_notify)."""

MOST_CERTIFICATES = 32 * 1024
"""Bytes of a client's certificates, with those of the authorities between it and the one that is trusted."""

_CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_SUBJECT = {"commonName": "subject_cn", "emailAddress": "subject_email", "organizationName": "subject_o"}
_ALTERNATIVE = {"DNS": "san_dns", "URI": "san_uri", "email": "san_email"}


def server_context(spec: TlsSpec, identities: Sequence[Identity], ticket_key: bytes = b"") -> ssl.SSLContext:
    """A context that shows these identities, one of each kind of key. Raises ssl.SSLError for what cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[spec.min_version]
    context.set_ciphers(_CIPHERS)
    set_groups(context)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # all are good: the client knows which costs it least
    for each in identities:
        load_identity(context, each.chain, each.key)
    keep_no_sessions(context)
    if spec.client_ca is None:
        set_ticket_key(context, ticket_key)
        return context
    # Each connection is to prove its certificate anew, and to be looked up in the revocation lists as they are then.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    take_certificates_of(context, MOST_CERTIFICATES)
    context.verify_mode = ssl.CERT_REQUIRED if spec.client_required else ssl.CERT_OPTIONAL
    load_trusted(context, spec.client_ca)
    if spec.crl is not None:
        load_trusted(context, spec.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


class Front:
    """What one listener speaks: `context` is what a handshake begins with, and goes on with where no name says otherwise.

    `several`: which certificate is shown depends on the name that a client asks for.
    """

    __slots__ = ("_by_name", "_covered", "context", "several", "spec")

    def __init__(self, spec: TlsSpec, ticket_key: bytes = b"") -> None:
        """Raises ssl.SSLError for what cannot be used."""
        self.spec = spec
        made: dict[tuple[int, ...], ssl.SSLContext] = {}

        def context(group: tuple[int, ...]) -> ssl.SSLContext:
            if group not in made:
                made[group] = server_context(spec, [spec.identities[one] for one in group], ticket_key)
            return made[group]

        self.context = context(_first(spec.identities))
        groups = {name: _fitting(spec.identities, name) for each in spec.identities for name in each.names}
        self._by_name = {name: context(group) for name, group in groups.items()}
        self._covered = {made[group]: frozenset(name for one in group for name in spec.identities[one].names) for group in made}
        self.several = len(made) > 1
        if self.several:
            self.context.sni_callback = self._asked

    def _asked(self, connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        """A client has said in its first bytes whom it wants to speak to."""
        found = self._for(name.lower()) if name else None
        if found is not None:
            connection.context = found

    def _for(self, name: str) -> ssl.SSLContext | None:
        name = name.rstrip(".")
        return self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")

    def seal_with(self, ticket_key: bytes) -> None:
        """Session tickets are sealed with another key from now on."""
        if self.spec.client_ca is None:
            for each in self._covered:
                set_ticket_key(each, ticket_key)

    def is_misdirected(self, host: str, shown: ssl.SSLContext) -> bool:
        """Whether the certificate shown is not for `host`, and another one here is (RFC 9110 section 7.4)."""
        wanted = self._for(host)
        return wanted is not None and wanted is not shown and not _covers(self._covered.get(shown, ()), host.rstrip("."))


class Fronts:
    """What all listeners of this worker speak, by their names."""

    def __init__(self) -> None:
        self._fronts: dict[str, Front] = {}
        self._ticket_key = b""

    def get(self, name: str) -> Front | None:
        """None: control has not said yet how that one speaks."""
        return self._fronts.get(name)

    def contexts(self) -> Sequence[ssl.SSLContext]:
        """Those that handshakes begin with."""
        return [front.context for front in self._fronts.values()]

    def take(self, tls: Tls) -> bool:
        """Speak so from now on. True: some listener speaks differently, whoever listens has to begin anew.

        Raises ssl.SSLError, and goes on as before, for what cannot be used.
        """
        changed = [spec for spec in tls.listeners if (front := self._fronts.get(spec.name)) is None or front.spec != spec]
        fresh = {spec.name: Front(spec, tls.ticket_key) for spec in changed}
        if tls.ticket_key != self._ticket_key:
            for name, front in self._fronts.items():
                if name not in fresh:
                    front.seal_with(tls.ticket_key)
            self._ticket_key = tls.ticket_key
        self._fronts |= fresh
        return bool(fresh)


def _first(identities: Sequence[Identity]) -> tuple[int, ...]:
    """The group of the first: beside it those of other kinds of keys that are for the same names."""
    names = set(identities[0].names)
    return _of_each_kind(identities, [one for one, each in enumerate(identities) if not one or set(each.names) == names])


def _fitting(identities: Sequence[Identity], name: str) -> tuple[int, ...]:
    """The group for a name: those that have it, then those whose wildcard stands for it."""
    wild = f"*.{name.partition('.')[2]}"
    exact = [one for one, each in enumerate(identities) if name in each.names]
    return _of_each_kind(identities, exact + [one for one, each in enumerate(identities) if wild in each.names])


def _of_each_kind(identities: Sequence[Identity], candidates: Sequence[int]) -> tuple[int, ...]:
    chosen: dict[str, int] = {}
    for one in candidates:
        chosen.setdefault(identities[one].kind, one)
    return tuple(sorted(chosen.values()))


def _covers(names: Collection[str], host: str) -> bool:
    return host in names or f"*.{host.partition('.')[2]}" in names


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


def context_of(front: Front | None) -> ssl.SSLContext | None:
    """What handshakes begin with there; None: there are none."""
    return None if front is None else front.context


def accepting(context: ssl.SSLContext | None) -> dict[str, Any]:
    """Of the loop's methods that accept connections; None: for plain HTTP."""
    if context is None:
        return {}
    return {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": SHUTDOWN_SECONDS}
