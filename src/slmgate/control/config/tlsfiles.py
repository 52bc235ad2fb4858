"""The TLS files that a configuration names: what is wrong with them, and what workers need of them.

Looked into when a configuration is loaded, not when the gate starts: OpenSSL is asked the same that the workers will ask it, and
its answer put into words. This module knows no YAML and keeps nothing of what it read; no message holds a byte of a file.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from slmgate.control.config.tls_options import ListenTls
from slmgate.link.pem import load_identity, load_trusted
from slmgate.link.tls import Identity, TlsSpec

MAX_BYTES = 1024 * 1024
MAX_CRL_BYTES = 64 * 1024 * 1024
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class FileFault(NamedTuple):
    """`option` is the one of its section whose file is at fault."""

    option: str
    problem: str
    hint: str


class _PasswordAskedError(Exception):
    """Raised into OpenSSL when it asks for the password of a key."""


def read_identity(cert: Path, key: Path) -> Identity | FileFault:
    """A certificate of the gate with its key, or what is wrong with them."""
    chain, secret = _read("cert", cert), _read("key", key)
    for read in (chain, secret):
        if isinstance(read, FileFault):
            return read
    assert isinstance(chain, bytes) and isinstance(secret, bytes)
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        return FileFault("cert", "holds no certificate", "it must be a PEM file: -----BEGIN CERTIFICATE-----")
    if b"PRIVATE KEY-----" not in secret:
        return FileFault("key", "holds no private key", "it must be a PEM file: -----BEGIN PRIVATE KEY-----")

    def password() -> str:
        raise _PasswordAskedError

    try:
        load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, secret, password)
    except _PasswordAskedError:
        hint = "take the password off, and let nobody but slmgate read the file: openssl pkey -in OLD -out NEW"
        return FileFault("key", "is encrypted", hint)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return FileFault("key", "is not the key of its certificate", "give the key that the certificate was made for")
        return FileFault("cert", f"or its key is not accepted{_why(error)}", "let `openssl x509 -text -in FILE` show it")
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        return Identity(chain=chain, key=secret, names=_names(leaf), kind=_kind(leaf))
    except ValueError:
        return FileFault(
            "cert", "holds a certificate that breaks the rules of X.509", "let `openssl x509 -text -in FILE` show it"
        )


def authorities_fault(client_ca: Path) -> FileFault | None:
    """What is wrong with a file of authorities; None: nothing."""
    read = read_authorities(client_ca)
    return read if isinstance(read, FileFault) else None


def read_authorities(client_ca: Path) -> bytes | FileFault:
    """The authorities whose client certificates are taken, or what is wrong with the file."""
    read = _read("client_ca", client_ca)
    if isinstance(read, FileFault):
        return read
    hint = "it must be a PEM file with the certificates of authorities: -----BEGIN CERTIFICATE-----"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        load_trusted(context, read)
    except ssl.SSLError:
        return FileFault("client_ca", "holds no certificate that can be read", hint)
    if not context.cert_store_stats()["x509"]:
        return FileFault("client_ca", "holds no certificate", hint)
    return read


def read_crl(crl: Path, authorities: bytes) -> bytes | FileFault:
    """The revocation lists of `authorities` (PEM), or what is wrong with their file.

    A list that has ended is none: it is taken, and lets nobody in (RFC 5280 section 6.3.3; nginx and Apache do the same).
    """
    read = _read("crl", crl, MAX_CRL_BYTES)
    if isinstance(read, FileFault):
        return read
    try:
        lists = [x509.load_pem_x509_crl(one) for one in _CRL.findall(read)]
        trusted = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return FileFault("crl", "holds a revocation list that cannot be read", "let `openssl crl -text -in FILE` show it")
    if not lists:
        return FileFault("crl", "holds no revocation list", "it must be a PEM file: -----BEGIN X509 CRL-----")
    for one in trusted:
        if not any(_is_of(each, one) for each in lists):
            hint = "with `crl`, each authority in client_ca needs its list there: nobody whom it certifies could connect"
            return FileFault("crl", f"holds no revocation list of {_called(one)}", hint)
    return read


def crl_fault(crl: Path, client_ca: Path) -> FileFault | None:
    """What is wrong with a file of revocation lists, beside that of their authorities; None: nothing."""
    authorities = read_authorities(client_ca)
    read = authorities if isinstance(authorities, FileFault) else read_crl(crl, authorities)
    return read if isinstance(read, FileFault) else None


def crl_ends(crl: bytes) -> float:
    """When the first of these lists ends (seconds since the epoch): from then on nobody with a certificate is let in."""
    ends = [x509.load_pem_x509_crl(one).next_update_utc for one in _CRL.findall(crl)]
    return min((end.timestamp() for end in ends if end is not None), default=float("inf"))


def read_listener(name: str, tls: ListenTls) -> TlsSpec | FileFault:
    """How the listener at `name` speaks, or the first fault of its files; its `option` is a path below `tls`."""
    identities: list[Identity] = []
    for number, own in enumerate(tls.certificates):
        identity = read_identity(own.cert, own.key)
        if isinstance(identity, FileFault):
            return identity._replace(option=f"certificates[{number}].{identity.option}")
        identities.append(identity)
    authorities = None if tls.client_ca is None else read_authorities(tls.client_ca)
    if isinstance(authorities, FileFault):
        return authorities
    crl = None if tls.crl is None or authorities is None else read_crl(tls.crl, authorities)
    if isinstance(crl, FileFault):
        return crl
    return TlsSpec(
        name=name,
        identities=tuple(identities),
        min_version=tls.min_version,
        client_ca=authorities,
        client_required=tls.client_auth == "required",
        crl=crl,
    )


def files_of(tls: ListenTls) -> list[Path]:
    """Every file that the listener's TLS rests on."""
    files = [path for own in tls.certificates for path in (own.cert, own.key)]
    return files + [path for path in (tls.client_ca, tls.crl) if path is not None]


def never_shown(identities: Sequence[Identity]) -> dict[int, str]:
    """The numbers of those that no client would be shown, since others before them fit wherever they do, and why in words."""
    found: dict[int, str] = {}
    taken: set[tuple[str, str]] = set()
    for number, one in enumerate(identities):
        if number and not one.names:
            found[number] = "is for no DNS name, so it would never be shown"
        elif number and all((one.kind, name) in taken for name in one.names):
            found[number] = f"would never be shown: others before it are for {', '.join(one.names)}"
        taken.update((one.kind, name) for name in one.names)
    return found


def _read(option: str, path: Path, most: int = MAX_BYTES) -> bytes | FileFault:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        return FileFault(option, f"cannot be read: {error.strerror}", f"slmgate looks for it at {path}")
    if len(data) > most:
        return FileFault(option, f"is larger than {most // 1024 // 1024} MiB", "is it the right file?")
    return data


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in alternative.get_values_for_type(x509.DNSName)))


def _kind(leaf: x509.Certificate) -> str:
    key = leaf.public_key()
    return "RSA" if isinstance(key, rsa.RSAPublicKey) else "ECDSA" if isinstance(key, ec.EllipticCurvePublicKey) else "other"


def _is_of(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    return crl.issuer == authority.subject and crl.is_signature_valid(key)  # type: ignore[arg-type]  # no authority has a key of another kind


def _called(authority: x509.Certificate) -> str:
    common = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else authority.subject.rfc4514_string()


def _why(error: ssl.SSLError) -> str:
    return f" by OpenSSL: {error.reason.replace('_', ' ').lower()}" if error.reason else ""
