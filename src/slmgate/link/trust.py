"""TLS towards instances: contexts made from what the configuration trusts, and in plain words why an instance was not believed.

Workers send requests by these contexts, and control makes its checks by the same ones, so that both believe the same. Each is
made once, however many instances it is for. This module opens no connection, and does not know what is said over one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from slmgate.policy.specs import TrustSpec

NO_HANDSHAKE = "it ended the connection in the TLS handshake, without a word"
_NOT_BELIEVED: dict[int, str] = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is signed by itself, and by no authority that is trusted",
    19: "its certificate is from an unknown authority",
    20: "its certificate is from an unknown authority",
    21: "its certificate is from an unknown authority",
    26: "its certificate is not one for servers",
    79: "its certificate is from one that may issue none",
}
"""By OpenSSL's codes (X509_V_ERR_*), which are the same in all its versions."""
_NAMES = (62, 64)
"""The certificate is for another name, or address."""
_TOO_OLD = "it speaks no TLS of version 1.2 or newer"
_NO_TLS = "it does not speak TLS there: is it plain HTTP, or another port?"
_WANTS_OURS = "it refuses the connection: it needs a client certificate, or takes none like that of tls.cert"
_ENDED = "UNEXPECTED_EOF_WHILE_READING"
_REASONS: dict[str, str] = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": _TOO_OLD,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it needs a client certificate (tls.cert), and was shown none",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the client certificate of tls.cert",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not accept the client certificate of tls.cert",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the client certificate of tls.cert",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that the client certificate of tls.cert has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that the client certificate of tls.cert is revoked",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of the client certificate of tls.cert",
    "TLSV1_ALERT_ACCESS_DENIED": _WANTS_OURS,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _WANTS_OURS,
    "TLSV1_UNRECOGNIZED_NAME": "it knows no such name: tls.server_name says which one it is asked for",
    _ENDED: NO_HANDSHAKE,
}


def client_context(spec: TrustSpec) -> ssl.SSLContext:
    """The context of connections to instances. Raises OSError (`ssl.SSLError` is one) for files that cannot be used.

    Verified are the chain, and the name or address among the certificate's alternative names; its common name says nothing
    (RFC 9525). What the authorities' certificates themselves may lack (RFC 5280) is left to who has chosen them, as before
    Python 3.13, and in a file of one's own any certificate ends the chain: the instance's own may stand there.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.hostname_checks_common_name = False
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if spec.ca:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(spec.ca)
        else:
            context.load_default_certs()
    if spec.cert:
        context.load_cert_chain(spec.cert, spec.key, password="")  # a password is never asked for
    return context


class _Made(NamedTuple):
    stamp: str
    context: ssl.SSLContext | str


class Trusts:
    """The contexts of one process. While files are bad, what was made of them before stays."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        """`say` brings what is wrong before the operator."""
        self._say = say
        self._made: dict[TrustSpec, _Made] = {}

    def __repr__(self) -> str:
        return f"<Trusts: {len(self._made)}>"

    def context(self, spec: TrustSpec) -> ssl.SSLContext | str:
        """The context that is made from `spec`, or why there is none."""
        key = replace(spec, stamp="")
        before = self._made.get(key)
        if before is not None and before.stamp == spec.stamp:
            return before.context
        context: ssl.SSLContext | str
        try:
            context = client_context(spec)
        except OSError as error:
            context = f"the TLS files for it cannot be used: {error.strerror or type(error).__name__}"
            which = ", ".join(name for name in (spec.ca, spec.cert, spec.key) if name)
            if before is not None and not isinstance(before.context, str):
                context = before.context
                self._say(f"TLS towards instances goes on with what was read before: {which} cannot be used ({error})")
            else:
                self._say(f"TLS towards instances: {which} cannot be used ({error})")
        self._made[key] = _Made(spec.stamp, context)
        return context


def why_not(failure: BaseException, name: str, *, opening: bool = True) -> str | None:
    """Why TLS with an instance that is called `name` came to nothing, for the operator. None: it was not for TLS.

    `opening`: the connection was not open yet, so that its end is the handshake's.
    """
    seen: BaseException | None = failure
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            if seen.verify_code in _NAMES:
                return f"its certificate is not for {name}"
            return _NOT_BELIEVED.get(seen.verify_code) or f"its certificate does not count: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            reason = getattr(seen, "reason", None) or ""  # only those that OpenSSL raised have one
            if reason == _ENDED and not opening:
                return None
            return _REASONS.get(reason, f"TLS fails: {reason.replace('_', ' ').lower() or 'for no reason that is known'}")
        if isinstance(seen, ConnectionResetError) and opening:
            return NO_HANDSHAKE
        seen = seen.__cause__ or seen.__context__
    return None
