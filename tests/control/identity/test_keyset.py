"""Key sets: which keys are usable, for which algorithm, and how many there may be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slmgate.control.identity.keyset import MAX_KEYS, PublicKey, read_keys
from tests.tools.signer import b64, jwk, sign

OTHERS = {"RS256": "rsa", "PS384": "rsa", "ES256": "ec", "ES384": "p384", "EdDSA": "ed"}


@pytest.mark.parametrize("algorithm", OTHERS)
@pytest.mark.parametrize("name", ["rsa", "ec", "p384", "ed"])
def test_a_key_verifies_what_is_its_own(name: str, algorithm: str) -> None:
    key = PublicKey(jwk(name))
    fits = OTHERS[algorithm] == name
    assert key.may_verify(algorithm) is fits
    signature = sign(algorithm, name, b"text")
    assert key.verifies(algorithm, b"text", signature) is fits
    assert not key.verifies(algorithm, b"other", signature)
    assert not key.verifies(algorithm, b"text", b"")


@pytest.mark.parametrize(
    ("named", "algorithm", "good"), [("RS256", "RS256", True), ("RS256", "PS256", False), (None, "PS256", True)]
)
def test_a_key_that_names_its_algorithm(named: str | None, algorithm: str, good: bool) -> None:
    key = PublicKey(jwk("rsa", alg=named))
    assert key.verifies(algorithm, b"text", sign(algorithm, "rsa", b"text")) is good


def test_the_two_names_of_eddsa() -> None:
    assert PublicKey(jwk("ed", alg="Ed25519")).may_verify("EdDSA")
    assert PublicKey(jwk("ed", alg="EdDSA")).may_verify("EdDSA")


def test_a_thumb_tells_keys_apart() -> None:
    same, other = PublicKey(jwk("rsa")), PublicKey(jwk("rsa", kid="b"))
    assert same.thumb == PublicKey(jwk("rsa", x5t="z")).thumb != other.thumb
    assert repr(same) == f"<PublicKey RSA {same.thumb}>"


@pytest.mark.parametrize(
    "members",
    [
        {"kty": "oct", "k": "AAAA"},
        {"kty": None},
        {"kty": ["RSA"]},
        {"n": None},
        {"n": 5},
        {"n": "!"},
        {"d": "AAAA"},
        {"use": "enc"},
        {"use": ["sig"]},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"kid": 1},
        {"alg": 1},
        {"n": b64(b"\1" + bytes(1024))},
    ],
)
def test_keys_that_are_passed_over(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PublicKey(jwk("rsa", **members))
    good = {"kty": "EC", **jwk("ec")}
    assert [key.kid for key in read_keys(json.dumps({"keys": [jwk("rsa", **members), 5, "x", good]}).encode())] == ["ec"]


def test_a_short_key_is_passed_over() -> None:
    with pytest.raises(ValueError, match="short"):
        PublicKey(jwk("small"))


def test_key_operations() -> None:
    assert PublicKey(jwk("rsa", key_ops=["verify", "sign"], use=None)).may_verify("RS256")


def test_a_point_off_its_curve_verifies_nothing() -> None:
    key = PublicKey(jwk("ec", x=b64(bytes(31) + b"\1")))
    assert not key.verifies("ES256", b"text", sign("ES256", "ec", b"text"))


@pytest.mark.parametrize("count", [0, 1, MAX_KEYS, MAX_KEYS + 1])
def test_the_bound_of_a_set(count: int) -> None:
    document = json.dumps({"keys": [jwk("ec", kid=str(number)) for number in range(count)]}).encode()
    if count <= MAX_KEYS:
        assert len(read_keys(document)) == count
        return
    with pytest.raises(ValueError, match="more than"):
        read_keys(document)


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [], "keys": []}', b"<html>"])
def test_no_set(document: bytes) -> None:
    with pytest.raises(ValueError):
        read_keys(document)
