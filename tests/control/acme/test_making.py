"""Keys, requests and certificates of our own making: read back with cryptography, as a stranger would."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from slmgate.control.acme.making import (
    PLACEHOLDER_DAYS,
    challenge_pem,
    key_pem,
    leaf_of,
    new_key,
    placeholder_pem,
    request_pem,
)

NOW = 1_800_000_000.0
NAME = "gate.example.com"


def test_a_request_is_for_the_name_alone() -> None:
    key = new_key()
    request = x509.load_pem_x509_csr(request_pem(key, NAME))
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(NAME)] and list(request.subject) == []
    assert request.is_signature_valid and request.public_key() == key.public_key()


def test_keys_are_on_p256_and_never_the_same() -> None:
    keys = [load_pem_private_key(key_pem(new_key()), None) for _ in range(2)]
    assert all(isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1" for key in keys)
    assert keys[0].public_key() != keys[1].public_key()


def test_a_placeholder_says_what_it_is_and_is_short_lived() -> None:
    leaf = leaf_of(placeholder_pem(NAME, NOW))
    assert leaf.placeholder and leaf.names == (NAME,) and "no certificate yet" in leaf.issuer
    assert leaf.not_before < NOW < leaf.not_after == NOW + PLACEHOLDER_DAYS * 86_400


def test_the_answer_to_a_challenge_is_as_rfc_8737_wants_it() -> None:
    pem = challenge_pem(NAME, "token.thumbprint", NOW)
    made = x509.load_pem_x509_certificates(pem)[0]
    found = made.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert found.critical
    assert isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == b"\x04\x20" + sha256(b"token.thumbprint").digest()
    assert leaf_of(pem).names == (NAME,) and not leaf_of(pem).placeholder


@pytest.mark.parametrize("pem", [b"", b"rubbish", key_pem(new_key()), placeholder_pem(NAME, NOW)[:-40]])
def test_what_is_no_certificate_with_its_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):
        leaf_of(pem)


def test_a_certificate_beside_another_key_is_refused() -> None:
    pem = placeholder_pem(NAME, NOW)
    with pytest.raises(ValueError, match="not that of the certificate"):
        leaf_of(pem[: pem.index(b"-----BEGIN PRIVATE KEY-----")] + key_pem(new_key()))
