"""ID tokens: one that is right, and every way in which one can be wrong."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest
from joserfc import jwk, jws

from slmgate.control.admin.signin.id_token import MAX_TOKEN, BadToken, Expected, UnknownSigner, verify

NOW = 1_800_000_000.0
EXPECTED = Expected("https://login.example.com", "gate", "n" * 43, ("RS256", "ES256"))
CLAIMS: dict[str, Any] = {
    "iss": "https://login.example.com", "aud": "gate", "nonce": "n" * 43, "sub": "ann", "exp": NOW + 300, "iat": NOW,
}  # fmt: skip


@cache
def rsa() -> jwk.RSAKey:
    return jwk.RSAKey.generate_key(2048, {"kid": "one"})


@cache
def ec() -> jwk.ECKey:
    return jwk.ECKey.generate_key("P-256", {"kid": "two"})


def public(key: Any, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**key.as_dict(private=False), **changes}.items() if value is not None}


def keys(*more: dict[str, Any]) -> dict[str, Any]:
    return {"keys": [public(rsa()), public(ec()), *more]}


def signed(claims: Any, header: dict[str, Any] | None = None, key: Any = None) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    head = {"alg": "RS256", "kid": "one", **(header or {})}
    registry = jws.JWSRegistry(algorithms=[head["alg"]], strict_check_header=False)
    return jws.serialize_compact(head, payload, key or rsa(), algorithms=[head["alg"]], registry=registry)


def b64(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_right_token() -> None:
    assert verify(signed(CLAIMS), keys(), EXPECTED, NOW) == CLAIMS
    assert verify(signed(CLAIMS, {"alg": "ES256", "kid": "two"}, ec()), keys(), EXPECTED, NOW) == CLAIMS


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_ed25519() -> None:
    key = jwk.OKPKey.generate_key("Ed25519", {"kid": "three"})
    for algorithm in ("EdDSA", "Ed25519"):
        expected = Expected(EXPECTED.issuer, EXPECTED.client_id, EXPECTED.nonce, (algorithm,))
        token = signed(CLAIMS, {"alg": algorithm, "kid": "three"}, key)
        assert verify(token, keys(public(key)), expected, NOW) == CLAIMS


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["gate"]},
        {"aud": ["gate", "other"], "azp": "gate"},
        {"azp": "gate"},
        {"exp": NOW - 59},
        {"iat": NOW + 59},
        {"iat": NOW - 600.5},
        {"nbf": NOW + 59},
        {"sub": "x" * 255},
        {"exp": NOW + 0.5},
    ],
)
def test_claims_that_will_do(changes: dict[str, Any]) -> None:
    assert verify(signed({**CLAIMS, **changes}), keys(), EXPECTED, NOW)["sub"]


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://login.example.com/"}, {"iss": "https://LOGIN.example.com"}, {"iss": None},
        {"aud": "gat"}, {"aud": ["other"]}, {"aud": []}, {"aud": None}, {"aud": {"gate": 1}}, {"aud": ["gate", "other"]},
        {"aud": ["gate", "other"], "azp": "other"}, {"azp": "other"}, {"azp": None, "aud": ["gate", "x"]}, {"aud": 1},
        {"nonce": None}, {"nonce": "m" * 43}, {"nonce": ""}, {"nonce": 1}, {"nonce": "é"},
        {"exp": None}, {"exp": NOW - 60}, {"exp": str(NOW + 300)}, {"exp": True}, {"exp": [NOW]},
        {"iat": None}, {"iat": NOW + 61}, {"iat": NOW - 661}, {"iat": "now"},
        {"nbf": NOW + 61}, {"nbf": None}, {"nbf": "x"},
        {"sub": None}, {"sub": ""}, {"sub": 1}, {"sub": "x" * 256},
    ],
    ids=str,
)  # fmt: skip
def test_claims_that_will_not(changes: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        verify(signed({**CLAIMS, **changes}), keys(), EXPECTED, NOW)


@pytest.mark.parametrize("name", ["iss", "aud", "nonce", "exp", "iat", "sub"])
def test_claims_that_are_missing(name: str) -> None:
    with pytest.raises(BadToken):
        verify(signed({key: value for key, value in CLAIMS.items() if key != name}), keys(), EXPECTED, NOW)


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "", "rs256", None, 1, ["RS256"], "HS256", "PS256", "RS512", "ES384"]
)
def test_algorithms_that_are_not_taken(algorithm: object) -> None:
    header = {"kid": "one"} if algorithm is None else {"alg": algorithm, "kid": "one"}
    for signature in ("", "AA", b64(b"x" * 256)):
        with pytest.raises(BadToken):
            verify(f"{b64(header)}.{b64(CLAIMS)}.{signature}", keys(), EXPECTED, NOW)


def test_the_public_key_is_no_secret() -> None:
    """HMAC with the public key's text, the oldest of tricks (RFC 8725, 2.1)."""
    for text in (rsa().as_pem(private=False), json.dumps(public(rsa())).encode()):
        secret = jwk.OctKey.import_key(base64.b64encode(text).decode())
        token = signed(CLAIMS, {"alg": "HS256"}, secret)
        for algorithms in (("RS256",), ("RS256", "HS256")):
            expected = Expected(EXPECTED.issuer, EXPECTED.client_id, EXPECTED.nonce, algorithms)
            with pytest.raises(BadToken):
                verify(token, keys({"kty": "oct", "k": secret.as_dict()["k"], "kid": "one"}), expected, NOW)


def test_a_signature_of_zeros() -> None:
    head = {"alg": "ES256", "kid": "two"}
    with pytest.raises(BadToken):
        verify(f"{b64(head)}.{b64(CLAIMS)}.{b64(bytes(64))}", keys(), EXPECTED, NOW)


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}, {"b64": False}, {"typ": "at+jwt"}, {"typ": "logout+jwt"}, {"typ": 1}],
)
def test_headers_that_ask_for_more(header: dict[str, Any]) -> None:
    token = f"{b64({'alg': 'RS256', 'kid': 'one', **header})}.{b64(CLAIMS)}.{b64(b'x' * 256)}"
    with pytest.raises(BadToken, match="header"):
        verify(token, keys(), EXPECTED, NOW)


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
def test_keys_that_the_token_names_are_not_followed(name: str) -> None:
    mine = jwk.RSAKey.generate_key(2048, {"kid": "one"})
    value = {"jwk": public(mine), "x5c": ["AA=="]}.get(name, "https://evil.example/keys")
    with pytest.raises(BadToken, match="signature"):
        verify(signed(CLAIMS, {name: value}, mine), keys(), EXPECTED, NOW)
    if name != "jwk":  # with one of its own, a token is not taken at all
        assert verify(signed(CLAIMS, {name: value}), keys(), EXPECTED, NOW) == CLAIMS


@pytest.mark.parametrize("kid", ["other", "", "../../etc/passwd", "' or 1=1 --", "x" * 512])
def test_an_unknown_kid(kid: str) -> None:
    with pytest.raises(UnknownSigner):
        verify(signed(CLAIMS, {"kid": kid}), keys(), EXPECTED, NOW)


@pytest.mark.parametrize("kid", [1, ["one"], {"one": 1}, "x" * 513, True])
def test_a_kid_that_is_none(kid: object) -> None:
    token = f"{b64({'alg': 'RS256', 'kid': kid})}.{b64(CLAIMS)}.{b64(b'x' * 256)}"
    with pytest.raises(BadToken):
        verify(token, keys(), EXPECTED, NOW)


def test_without_a_kid_one_key_must_fit() -> None:
    token = f"{b64({'alg': 'RS256'})}"
    registry = jws.JWSRegistry(algorithms=["RS256"])
    token = jws.serialize_compact({"alg": "RS256"}, json.dumps(CLAIMS).encode(), rsa(), algorithms=["RS256"], registry=registry)
    assert verify(token, keys(), EXPECTED, NOW) == CLAIMS
    with pytest.raises(BadToken, match="cannot be told"):
        verify(token, keys(public(jwk.RSAKey.generate_key(2048))), EXPECTED, NOW)


def test_one_name_for_several_keys() -> None:
    other = public(jwk.RSAKey.generate_key(2048, {"kid": "one"}))
    assert verify(signed(CLAIMS), {"keys": [other, public(rsa())]}, EXPECTED, NOW) == CLAIMS
    with pytest.raises(BadToken, match="cannot be told"):
        verify(signed(CLAIMS), {"keys": [other] * 5}, EXPECTED, NOW)


@pytest.mark.parametrize(
    "changes",
    [{"use": "enc"}, {"alg": "RS512"}, {"key_ops": ["sign"]}, {"key_ops": 1}, {"kty": "oct"}, {"crv": "P-256"}, {"kty": "EC"}],
)
def test_keys_for_something_else(changes: dict[str, Any]) -> None:
    with pytest.raises(UnknownSigner):
        verify(signed(CLAIMS), {"keys": [public(rsa(), **changes)]}, EXPECTED, NOW)


@pytest.mark.parametrize("published", [None, [], {}, {"keys": {}}, {"keys": 1}, {"keys": [{}] * 101}])
def test_no_list_of_keys(published: object) -> None:
    with pytest.raises(BadToken):
        verify(signed(CLAIMS), published, EXPECTED, NOW)


@pytest.mark.parametrize(
    "entry", [1, None, [], {}, {"kty": "RSA", "kid": "one"}, {"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"}]
)
def test_broken_keys_are_passed_over(entry: Any) -> None:
    assert verify(signed(CLAIMS), {"keys": [entry, public(rsa())]}, EXPECTED, NOW) == CLAIMS


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_short_key_is_not_taken() -> None:
    weak = jwk.RSAKey.generate_key(1024, {"kid": "one"})
    with pytest.raises(BadToken, match="signature"):
        verify(signed(CLAIMS, key=weak), {"keys": [public(weak)]}, EXPECTED, NOW)


@pytest.mark.parametrize(
    "make",
    [
        lambda token: token[:-2], lambda token: token + ".", lambda token: token + "=", lambda token: " " + token,
        lambda token: token + "\n", lambda token: token.replace(".", ".."), lambda token: ".".join(token.split(".")[:2]),
        lambda token: token + ".a.b", lambda token: token.split(".")[0] + "..", lambda token: "", lambda token: None,
        lambda token: token + "é", lambda token: "x" * (MAX_TOKEN + 1), lambda token: token.encode(),
        lambda token: token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB"),
    ],
)  # fmt: skip
def test_forms_that_are_no_token(make: Any) -> None:
    with pytest.raises(BadToken):
        verify(make(signed(CLAIMS)), keys(), EXPECTED, NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"1", b"no json", b"\xff\xfe", b"[" * 20_000, json.dumps(CLAIMS).encode()[:-1] + b', "sub": "eve"}',
        json.dumps(CLAIMS).encode()[:-1] + b', "x": NaN}',
        json.dumps({**CLAIMS, "exp": 1}).encode().replace(b'"exp": 1', b'"exp": 1e999'),
    ],
)  # fmt: skip
def test_payloads_that_are_no_claims(payload: bytes) -> None:
    with pytest.raises(BadToken):
        verify(signed(payload), keys(), EXPECTED, NOW)


def test_a_header_with_a_name_twice() -> None:
    token = signed(CLAIMS)
    head = b64(b'{"alg":"none","alg":"RS256","kid":"one"}')
    with pytest.raises(BadToken):
        verify(".".join([head, *token.split(".")[1:]]), keys(), EXPECTED, NOW)
