"""What is made of keys here: requests for certificates, the certificate shown until there is one, and that of a challenge.

All keys are ECDSA on P-256. It reads certificates as well, as far as their times and names go. It opens no file and asks nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

PLACEHOLDER = "slmgate: there is no certificate yet"
PLACEHOLDER_DAYS = 7
CHALLENGE_HOURS = 24
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a certificate. Times are seconds since the epoch. `placeholder`: it is one of our own making."""

    names: tuple[str, ...]
    issuer: str
    serial: str
    not_before: float
    not_after: float
    placeholder: bool


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request_pem(key: ec.EllipticCurvePrivateKey, domain: str) -> bytes:
    """The request for a certificate of `domain` (PKCS #10, PEM). The name stands in subjectAltName alone."""
    names = x509.SubjectAlternativeName([x509.DNSName(domain)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def placeholder_pem(domain: str, now: float) -> bytes:
    """A certificate that nobody vouches for, with its key, so that a handshake can be had at all."""
    return _self_signed(PLACEHOLDER, domain, now, timedelta(days=PLACEHOLDER_DAYS))


def challenge_pem(domain: str, key_authorization: str, now: float) -> bytes:
    """The certificate that answers tls-alpn-01, with its key (RFC 8737 section 3)."""
    digest = sha256(key_authorization.encode()).digest()
    value = b"\x04\x20" + digest  # an OCTET STRING of 32 bytes
    extension = x509.UnrecognizedExtension(_ACME_IDENTIFIER, value)
    return _self_signed("slmgate: answer to a challenge", domain, now, timedelta(hours=CHALLENGE_HOURS), extension)


def leaf_of(pem: bytes) -> Leaf:
    """What the first certificate of `pem` says, whose key must stand there too. Raises ValueError."""
    certificate = x509.load_pem_x509_certificates(pem)[0]
    key = load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE KEY-----") :], None)
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is not that of the certificate")
    return described(certificate)


def described(certificate: x509.Certificate) -> Leaf:
    """What a certificate says. Raises ValueError."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(name.lower() for name in alternative.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = ()
    common = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    issuer = str(common[0].value) if common else certificate.issuer.rfc4514_string()
    return Leaf(
        names=names,
        issuer=issuer,
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        placeholder=issuer == PLACEHOLDER,
    )


def _self_signed(called: str, domain: str, now: float, lifetime: timedelta, *critical: x509.UnrecognizedExtension) -> bytes:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
    begin = datetime.fromtimestamp(now, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(hours=1))
        .not_valid_after(begin + lifetime)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
    )
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + key_pem(key)
